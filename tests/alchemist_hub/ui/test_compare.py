"""The served page through its API: defaults, same picture for same seed, one-line refusals."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gradio as gr
import numpy as np
import pytest
from gradio_client import Client
from gradio_client.exceptions import AppError
from PIL import Image
from tiny_services import PROMPT, served, tiny_services

from alchemist_hub.errors import ModelError
from alchemist_hub.models import MODELS
from alchemist_hub.sampling import generate
from alchemist_hub.ui.compare import EXAMPLES, LAST_SEED, LONGEST_PROMPT, checked, opening
from alchemist_hub.ui.demo import make_demo, theme
from alchemist_hub.ui.services import PairLoader, Services

GOOD = {"prompt": "mars", "negative": "", "seed": 0, "steps": 20, "guidance": 4.0}


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return tiny_services(tmp_path_factory.mktemp("services"))


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[Client]:
    with served(services) as address:
        yield Client(address, verbose=False)


def pixels(path: str) -> np.ndarray:
    return np.asarray(Image.open(path))


def test_the_endpoint_paints_what_the_pair_paints(client: Client, services: Services) -> None:
    base, tuned = client.predict(prompt=PROMPT, seed=5, steps=3, guidance=2.0, api_name="/compare")
    pair = services.pairs["mini"].pair()
    for path, pipe in ((base, pair.base), (tuned, pair.tuned)):
        (alone,) = generate(pipe, [PROMPT], [5], steps=3, guidance=2.0)
        assert np.array_equal(pixels(path), np.asarray(alone))
    assert not np.array_equal(pixels(base), pixels(tuned))


def test_everything_but_the_prompt_has_a_default(client: Client) -> None:
    base, tuned = client.predict(prompt="mars", api_name="/compare")
    assert pixels(base).shape == pixels(tuned).shape == (64, 64, 3)


def test_the_endpoint_is_described_with_the_first_example_as_default(client: Client) -> None:
    described = client.view_api(return_format="dict", print_info=False)["named_endpoints"]
    assert set(described) == {"/compare"}
    defaults = {part["parameter_name"]: part["parameter_default"] for part in described["/compare"]["parameters"]}
    assert defaults == {
        "prompt": "Mars rises on the horizon.",
        "negative": "",
        "seed": 7,
        "steps": 4,
        "guidance": MODELS["mini"].guidance,
        "model": "mini",
    }


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prompt": "  "}, "prompt is empty"),
        ({"prompt": "mars " * 16}, "tokens; this model reads 16"),
        ({"prompt": "m" * 501}, "501 characters"),
        ({"prompt": "mars", "steps": 51}, "50"),
        ({"prompt": "mars", "guidance": 0.5}, "1"),
    ],
)
def test_what_cannot_be_painted_is_refused_in_one_line(client: Client, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(AppError, match=says) as refused:
        client.predict(**wrong, api_name="/compare")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prompt": None}, "empty"),
        ({"negative": "n" * (LONGEST_PROMPT + 1)}, "negative prompt has 501"),
        ({"seed": -1}, "Seed has to be between 0"),
        ({"seed": LAST_SEED + 1}, "Seed"),
        ({"seed": None}, "Seed"),
        ({"steps": 1}, "Steps has to be between 2 and 50; 1 arrived"),
        ({"guidance": 99}, "Guidance has to be between 1 and 15"),
        ({"guidance": float("nan")}, "Guidance"),
    ],
)
def test_settings_outside_their_range_are_named(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(gr.Error, match=says):
        checked(**{**GOOD, **wrong})


def test_settings_are_cleaned() -> None:
    settings = checked(**{**GOOD, "prompt": "  mars \n", "seed": 3.0, "steps": 4.0})
    assert (settings.prompt, settings.seed, settings.steps) == ("mars", 3, 4)
    assert isinstance(settings.seed, int) and isinstance(settings.steps, int)


def test_visitors_find_the_first_example_painted_once(services: Services) -> None:
    first, again = (opening(services.pairs["mini"]) for _ in range(2))
    assert Image.open(first[0]).size == (512, 512)
    assert first[:4] == again[:4]  # the times in the status line too
    assert EXAMPLES[0] == "Mars rises on the horizon."


def test_a_pair_that_cannot_be_loaded_is_one_line_on_the_page(tmp_path: Path, services: Services) -> None:
    spec = services.pairs["mini"].spec
    missing = PairLoader(spec=replace(spec, base=str(tmp_path)))
    with pytest.raises(ModelError):
        missing.pair()
    with pytest.raises(gr.Error, match="model_index.json"):
        opening(missing)


def test_building_the_page_loads_no_model(tmp_path: Path, services: Services) -> None:
    spec = services.pairs["mini"].spec
    nowhere = PairLoader(spec=replace(spec, base=str(tmp_path / "nowhere")))
    assert isinstance(make_demo(Services(pairs={"mini": nowhere})), gr.Blocks)


def test_a_pair_is_loaded_once(services: Services) -> None:
    assert services.pairs["mini"].pair() is services.pairs["mini"].pair()


def test_the_theme_asks_nobody_for_fonts() -> None:
    assert theme()._stylesheets == []
    assert "https://" not in theme()._get_theme_css()
