"""The visitor's own history: bounded, escaped, and believed in nothing."""

import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from alchemist_hub.models import model
from alchemist_hub.ui.asked import example
from alchemist_hub.ui.history import LENGTH, chosen, read, recorded, shown
from alchemist_hub.ui.live import View

SETTINGS = example(model("mini"), "mars over the sea")


def view(hidden: tuple[str, ...] = ()) -> View:
    noise = Image.effect_noise((1024, 1024), 80).convert("RGB")
    sides = {side: None if side in hidden else noise for side in ("base", "tuned")}
    return View(**sides, painting=None, hidden=hidden, seconds=(1.0, 1.0))


def test_the_latest_comes_first_and_a_repeated_one_stands_once() -> None:
    history: list[Any] = []
    for seed in (1, 2, 1):
        history = recorded(history, view(), replace(SETTINGS, seed=seed), "mini")
    assert [record["seed"] for record in history] == [1, 2]


def test_it_is_bounded_in_number_and_in_bytes_even_for_noise() -> None:
    history: list[Any] = []
    for seed in range(LENGTH + 3):
        history = recorded(history, view(), replace(SETTINGS, seed=seed), "mini")
    assert len(history) == LENGTH and history[0]["seed"] == LENGTH + 2
    assert len(json.dumps(history)) < 400_000
    assert read(json.loads(json.dumps(history))) == history


def test_a_hidden_side_is_remembered_as_hidden() -> None:
    history = recorded([], view(hidden=("base",)), SETTINGS, "mini")
    assert history[0]["base"] == "" and history[0]["tuned"].startswith("data:image/webp")
    assert shown(history).count("<img") == 1


def test_choosing_gives_back_settings_and_model() -> None:
    history = recorded([], view(), SETTINGS, "mini")
    assert chosen(history, 0) == (SETTINGS, "mini")
    assert [chosen(history, index) for index in (1, -1, "0", None, True and 5)] == [None] * 5


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": ""},
        {"prompt": ["x"]},
        {"seed": "1"},
        {"steps": 10**9},
        {"model": None},
        {"base": "https://elsewhere.example/pixel.webp"},
        {"base": 'data:image/webp;base64,AAAA" onerror="alert(1)'},
        {"tuned": "data:image/webp;base64," + "A" * 50_000},
        {"tuned": None},
    ],
)
def test_a_record_that_was_tampered_with_is_left_out(change: dict[str, Any]) -> None:
    good = recorded([], view(), SETTINGS, "mini")[0]
    assert read([{**good, **change}, good]) == [good]


@pytest.mark.parametrize("sent", [None, "x", {}, 7, [None], [[]], ["x"], [{}]])
def test_what_is_no_history_is_an_empty_one(sent: Any) -> None:
    assert read(sent) == []
    assert "stays in this browser" in shown(sent)


def test_prompts_are_text_on_the_page() -> None:
    history = recorded([], view(), replace(SETTINGS, prompt='<img src=x onerror="alert(1)">'), "mini")
    page = shown(history)
    assert "<img src=x" not in page and 'onerror="' not in page
