"""What arrives from visitors: settings, share links, and everything that is neither."""

from dataclasses import asdict
from typing import Any

import gradio as gr
import pytest

from alchemist_hub.models import model
from alchemist_hub.ui.asked import EXAMPLES, FIRST_SEED, LAST_SEED, LONGEST_PROMPT, checked, example, linked, plain

GOOD = {"prompt": "mars", "negative": "", "seed": 0, "steps": 20, "guidance": 4.0}
MINI = model("mini")


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"prompt": None}, "empty"),
        ({"prompt": "\x00\u200b\n "}, "empty"),
        ({"prompt": ["mars"]}, "prompt has to be text; a list arrived"),
        ({"prompt": {"path": "/etc/passwd"}}, "prompt has to be text; an object arrived"),
        ({"negative": "n" * (LONGEST_PROMPT + 1)}, "negative prompt has 501"),
        ({"negative": 7}, "negative prompt has to be text"),
        ({"seed": -1}, "Seed has to be between 0 and 2147483647; -1 arrived"),
        ({"seed": LAST_SEED + 1}, "Seed"),
        ({"seed": 10**400}, "one far outside"),
        ({"seed": None}, "Seed has to be a number.*nothing arrived"),
        ({"seed": "7"}, "text arrived"),
        ({"seed": True}, "true or false arrived"),
        ({"seed": 1.5}, "whole number; 1.5 arrived"),
        ({"seed": float("nan")}, "nan arrived"),
        ({"seed": float("inf")}, "inf arrived"),
        ({"steps": 1}, "Steps has to be between 2 and 50; 1 arrived"),
        ({"steps": [20]}, "a list arrived"),
        ({"guidance": 99}, "Guidance has to be between 1 and 15"),
        ({"guidance": float("nan")}, "Guidance"),
    ],
)
def test_what_cannot_be_painted_is_named_in_one_line(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(gr.Error, match=says) as refused:
        checked(**{**GOOD, **wrong})
    assert "\n" not in refused.value.message


def test_settings_are_cleaned() -> None:
    settings = checked(**{**GOOD, "prompt": "  mars \n\x00 at\u202enight\ud800", "seed": 3.0, "steps": 4.0})
    assert (settings.prompt, settings.seed, settings.steps) == ("mars at night", 3, 4)
    assert isinstance(settings.seed, int) and isinstance(settings.steps, int)


def test_emoji_and_other_scripts_are_left_alone() -> None:
    assert plain("a 🌕 over 火星, déjà vu") == "a 🌕 over 火星, déjà vu"


def test_a_link_asks_for_what_it_says_and_for_the_models_own_otherwise() -> None:
    settings = linked({"prompt": "a city", "seed": "99", "unknown": "x"}, MINI)
    assert asdict(settings) == {**asdict(example(MINI)), "prompt": "a city", "seed": 99}


@pytest.mark.parametrize("wrong", [{"seed": "x"}, {"steps": "1e9"}, {"guidance": "nan"}, {"prompt": "m" * 501}])
def test_a_link_with_bad_parameters_is_refused(wrong: dict[str, str]) -> None:
    with pytest.raises(gr.Error):
        linked({"prompt": "a city", **wrong}, MINI)


def test_a_link_without_a_prompt_is_refused_and_paints_no_example() -> None:
    with pytest.raises(gr.Error, match="empty"):
        linked({"seed": "3"}, MINI)


def test_every_example_can_be_painted() -> None:
    for prompt in EXAMPLES:
        settings = example(MINI, prompt)
        assert checked(**asdict(settings)) == settings and settings.seed == FIRST_SEED
