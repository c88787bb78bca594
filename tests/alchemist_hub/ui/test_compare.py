"""The served page through its API: defaults, same picture for same seed, one-line refusals."""

import asyncio
import json
import re
import socket
import urllib.request
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

from alchemist_hub.errors import HubError, ModelError
from alchemist_hub.models import MODELS
from alchemist_hub.sampling import generate
from alchemist_hub.ui.asked import EXAMPLES, FIRST_SEED, example
from alchemist_hub.ui.compare import show_comparison
from alchemist_hub.ui.demo import launch, make_demo, theme
from alchemist_hub.ui.form import notice
from alchemist_hub.ui.live import Settings
from alchemist_hub.ui.moments import Painter, painter
from alchemist_hub.ui.services import PairLoader, Services


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return tiny_services(tmp_path_factory.mktemp("services"))


@pytest.fixture(scope="module")
def client(services: Services) -> Iterator[Client]:
    with served(services) as address:
        yield Client(address, verbose=False)


def run_page(services: Services, paint: Painter, settings: Settings) -> list[list[Any]]:
    """Everything the page is sent for one comparison of the first pair."""
    loader = next(iter(services.pairs.values()))

    async def collect() -> list[list[Any]]:
        return [values async for values in show_comparison(services, paint, settings, loader, [])]

    return asyncio.run(collect())


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
        "prompt": EXAMPLES[0],
        "negative": "",
        "seed": FIRST_SEED,
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
        ({"prompt": "mars", "steps": 51}, "Steps has to be between 2 and 50; 51 arrived"),
        ({"prompt": "mars", "guidance": 0.5}, "Guidance has to be between 1 and 15; 0.5 arrived"),
    ],
)
def test_what_cannot_be_painted_is_refused_in_one_line(client: Client, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(AppError, match=says) as refused:
        client.predict(**wrong, api_name="/compare")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prompt": "x" * 10_000}, "10000 characters"),
        ({"prompt": "\x00\x01\x02"}, "empty"),
        ({"prompt": ["mars"]}, "a list arrived"),
        ({"prompt": {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}}, "an object arrived|error"),
        ({"negative": 5}, "has to be text"),
        ({"seed": "1; DROP TABLE votes"}, "text arrived"),
        ({"seed": 1.5}, "whole number"),
        ({"seed": None}, "nothing arrived"),
        ({"seed": 10**30}, "far outside"),
        ({"steps": "twenty"}, "text arrived"),
        ({"steps": [4]}, "a list arrived"),
        ({"guidance": {}}, "an object arrived"),
        ({"model": "sd99"}, "no such model; the models are mini"),
        ({"model": ["mini"]}, "no such model"),
    ],
)
def test_bad_input_through_the_api_is_refused_without_path_or_traceback(
    client: Client, wrong: dict[str, Any], says: str
) -> None:
    with pytest.raises(AppError) as refused:
        client.predict(**{"prompt": "mars", **wrong}, api_name="/compare")
    message = str(refused.value)
    assert re.search(says, message), message
    assert "\n" not in message and "Traceback" not in message and str(Path(__file__).parents[3]) not in message


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_numbers_that_are_none_are_refused_over_plain_http(client: Client, number: str) -> None:
    body = f'{{"data": ["mars", "", {number}, 4, 3.5, "mini"]}}'.encode()
    call = f"{client.src}gradio_api/call/compare"
    request = urllib.request.Request(call, body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        event = json.load(answer)["event_id"]
    with urllib.request.urlopen(f"{call}/{event}") as answer:
        said = answer.read().decode()
    assert said.startswith("event: error") and "Seed has to be between" in said
    assert "Traceback" not in said and ".py" not in said


@pytest.mark.parametrize(
    "prompt",
    ["🌕🪐", "<script>alert(1)</script>", "'; DROP TABLE votes; --", "mars\x00\x1b[31m over\nthe sea", "\u202esram"],
)
def test_odd_prompts_are_painted_as_text(client: Client, prompt: str) -> None:
    base, _ = client.predict(prompt=prompt[:8], steps=2, api_name="/compare")
    assert pixels(base).shape == (64, 64, 3)


def test_the_page_shows_the_first_example_to_everyone_from_memory(services: Services) -> None:
    loader, paint = services.pairs["mini"], painter(services)
    first = run_page(services, paint, example(loader.spec))
    again = run_page(services, paint, example(loader.spec))
    assert Image.open(again[-1][0]["path"] if isinstance(again[-1][0], dict) else again[-1][0]).size == (512, 512)
    assert first[-1][:3] == again[-1][:3]
    assert "painted earlier" in again[-1][3] and len(again) == 2  # nothing in between


def test_a_finished_comparison_comes_first_in_the_history(services: Services) -> None:
    settings = replace(example(services.pairs["mini"].spec, PROMPT), seed=31)
    kept, listed = run_page(services, painter(services), settings)[-1][6:8]
    assert kept[0]["seed"] == 31 and kept[0]["model"] == "mini" and 'data-index="0"' in listed


def test_a_pair_that_cannot_be_loaded_is_one_line_without_a_path(tmp_path: Path, services: Services) -> None:
    spec = replace(services.pairs["mini"].spec, base=str(tmp_path))
    missing = Services(pairs={"mini": PairLoader(spec=spec)})
    with pytest.raises(ModelError):
        missing.pairs["mini"].pair()
    with pytest.raises(gr.Error, match="cannot be loaded here") as refused:
        run_page(missing, painter(missing), example(spec))
    assert str(tmp_path) not in refused.value.message


def test_a_pair_that_cannot_run_here_is_refused_with_its_reason(services: Services) -> None:
    blocked = replace(services.pairs["mini"], blocked="It needs a GPU.")
    here = Services(pairs={"mini": blocked})
    with pytest.raises(gr.Error, match="It needs a GPU"):
        run_page(here, painter(here), example(blocked.spec))
    assert "Not on this machine" in notice(blocked)


def test_building_the_page_loads_no_model(tmp_path: Path, services: Services) -> None:
    spec = services.pairs["mini"].spec
    nowhere = PairLoader(spec=replace(spec, base=str(tmp_path / "nowhere")))
    assert isinstance(make_demo(Services(pairs={"mini": nowhere})), gr.Blocks)


def test_a_pair_is_loaded_once(services: Services) -> None:
    assert services.pairs["mini"].pair() is services.pairs["mini"].pair()


def test_a_port_that_is_taken_is_one_line(services: Services) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(HubError, match="port") as refused:
            launch(services, server_port=taken.getsockname()[1], prevent_thread_lock=True, quiet=True)
    assert "\n" not in str(refused.value)


def test_the_theme_asks_nobody_for_fonts() -> None:
    assert theme()._stylesheets == []
    assert "https://" not in theme()._get_theme_css()
