"""The app as shipped: which pairs it offers, where they are loaded, what is refused."""

from pathlib import Path

import pytest

from alchemist_hub.errors import HubError
from alchemist_hub.models import MODELS
from alchemist_hub.ui.machine import GIB, Machine
from alchemist_hub.ui.services import default_services

SERVER = Machine(card=24 * GIB, host=128 * GIB, offline=False, token=True)


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))


def test_all_six_are_offered_and_the_miniature_is_open_first() -> None:
    services = default_services(machine=SERVER)
    assert list(services.pairs)[0] == "mini" and set(services.pairs) == set(MODELS)
    assert not any(loader.blocked for loader in services.pairs.values())
    assert all(loader.safety for loader in services.pairs.values())


def test_where_a_pair_is_loaded_follows_the_card() -> None:
    pairs = default_services(machine=SERVER).pairs
    assert (pairs["mini"].device, pairs["mini"].offload) == ("cpu", False)
    assert (pairs["sdxl"].device, pairs["sdxl"].offload) == ("cuda", False)
    assert (pairs["sd35l"].device, pairs["sd35l"].offload) == ("cuda", True)
    assert pairs["sdxl"].shelf is pairs["sd35l"].shelf is not pairs["mini"].shelf  # they share the card


def test_without_a_card_five_say_so_and_refuse_to_load() -> None:
    pairs = default_services(machine=Machine(card=None, host=8 * GIB, offline=True, token=False)).pairs
    assert [key for key, loader in pairs.items() if not loader.blocked] == ["mini"]
    with pytest.raises(HubError, match="needs a GPU"):
        pairs["sd15"].pair()


def test_offline_without_the_filters_weights_nothing_public_is_painted(tmp_path: Path) -> None:
    for side in ("base", "tuned"):
        unet = tmp_path / "sdxl" / side / "unet"
        unet.mkdir(parents=True)
        (unet.parent / "model_index.json").write_text("{}")
        (unet / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    offline = Machine(card=80 * GIB, host=128 * GIB, offline=True, token=False)
    assert "safety filter" in default_services(tmp_path, offline).pairs["sdxl"].blocked


def test_a_missing_models_folder_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(HubError, match="is no folder; --models takes one"):
        default_services(tmp_path / "nowhere", SERVER)


def test_the_miniatures_pair_and_filter_are_loaded_once() -> None:
    loader = default_services(machine=SERVER).pairs["mini"]
    assert loader.pair() is loader.pair() and loader.guard() is loader.guard()
    assert "vae" in loader.pair().shared and loader.shelf.names() == ("mini",)
