"""What can run where, and why not: without loading anything."""

from dataclasses import replace
from pathlib import Path

import pytest

from alchemist_hub.models import MODELS, model
from alchemist_hub.ui.machine import (
    GIB,
    WORKING_SPACE,
    Machine,
    cached_folder,
    downloaded_bytes,
    fits_whole,
    has_weights,
    local_pair,
    obstacle,
    offloaded_bytes,
    pair_bytes,
    this_machine,
)

SERVER = Machine(card=80 * GIB, host=256 * GIB, offline=False, token=True)


@pytest.fixture(autouse=True)
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    return tmp_path


def test_the_miniature_runs_anywhere() -> None:
    assert obstacle(model("mini"), Machine(card=None, host=GIB, offline=True, token=False)) == ""


def test_a_large_card_online_and_logged_in_runs_all_of_them() -> None:
    assert {obstacle(spec, SERVER) for spec in MODELS.values()} == {""}


@pytest.mark.parametrize(
    ("key", "machine", "says"),
    [
        ("sd15", replace(SERVER, card=None), "needs a GPU, and this machine has none"),
        ("sd35l", replace(SERVER, card=8 * GIB), "needs 18 GB of GPU memory, and this card has 8 GB"),
        ("sd35l", replace(SERVER, host=32 * GIB), "needs 41 GB of memory, and this machine has 32 GB"),
        ("sdxl", replace(SERVER, offline=True), "not on this machine, and it is set to work offline"),
        ("sd35m", replace(SERVER, token=False), "gated: accept its licence at huggingface.co/stabilityai"),
    ],
)
def test_what_cannot_run_says_why_in_one_sentence(key: str, machine: Machine, says: str) -> None:
    said = obstacle(model(key), machine)
    assert says in said and "\n" not in said


def test_an_ungated_pair_needs_no_login() -> None:
    assert obstacle(model("sdxl"), replace(SERVER, token=False)) == ""


def test_a_pair_takes_one_denoiser_more_than_its_base() -> None:
    for spec in MODELS.values():
        base = 2 * (spec.parameters + spec.companions) + WORKING_SPACE
        assert pair_bytes(spec) == base + 2 * spec.parameters
        assert offloaded_bytes(spec) < pair_bytes(spec)
    assert not fits_whole(model("sd35l"), 24 * GIB) and offloaded_bytes(model("sd35l")) < 24 * GIB


def test_weights_in_the_hubs_cache_are_found_without_asking_the_hub(hub_cache: Path) -> None:
    spec = model("sdxl")
    assert not has_weights(spec.base) and downloaded_bytes(spec) == 0
    cache = hub_cache / "models--stabilityai--stable-diffusion-xl-base-1.0"
    snapshot = cache / "snapshots" / "abc"
    (snapshot / "unet").mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("abc")
    (snapshot / "model_index.json").write_text("{}")
    assert cached_folder(spec.base) == snapshot and not has_weights(spec.base)
    (snapshot / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"")
    assert has_weights(spec.base)
    (cache / "blobs").mkdir()
    (cache / "blobs" / "part.incomplete").write_bytes(b"1234")
    assert downloaded_bytes(spec) == 4


def test_own_folders_stand_in_for_the_public_models(tmp_path: Path) -> None:
    (tmp_path / "sdxl" / "tuned").mkdir(parents=True)
    own = local_pair(model("sdxl"), tmp_path)
    assert (own.base, own.tuned) == (model("sdxl").base, str(tmp_path / "sdxl" / "tuned"))
    assert local_pair(model("sd15"), tmp_path) == model("sd15")


def test_this_machine_is_described_without_a_card_where_there_is_none() -> None:
    found = this_machine()
    assert found.host > GIB and (found.card is None or found.card > GIB)
    assert found.offline  # as every test runs
