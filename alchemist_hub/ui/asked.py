"""What a visitor asks for: limits, cleaning, and the three ways it arrives (form, API, share link).

Everything that arrives is foreign: any JSON value may stand in any place.
"""

import re
from collections.abc import Mapping
from typing import Any

import gradio as gr

from alchemist_hub.models import ModelSpec
from alchemist_hub.ui.live import Settings

LONGEST_PROMPT = 500  # characters; the model's own limit, in tokens, comes on top
STEPS = (2, 50)
GUIDANCE = (1.0, 15.0)
LAST_SEED = 2**31 - 1
FIRST_SEED = 4
FAR = 10**15  # a whole number in JSON may have any number of digits; none beyond this is repeated
EXAMPLES = (
    "mars rising over the desert at night, detailed",
    "Mars rises on the horizon.",
    "a photo of the moon over a lake at night",
    "an oil painting of mountains at sunset",
    "a watercolour of a village at dawn",
    "saturn rising over the desert at night",
    "pixel art of a city at night, detailed",
)
LINKED = ("prompt", "negative", "seed", "steps", "guidance", "model")  # the parameters of a share link
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]+")  # controls, bidi


def example(spec: ModelSpec, prompt: str = EXAMPLES[0]) -> Settings:
    """Return an example's settings: the model's own, and the seed that every example has."""
    return Settings(prompt=prompt, negative="", seed=FIRST_SEED, steps=spec.steps, guidance=spec.guidance)


def checked(prompt: Any, negative: Any, seed: Any, steps: Any, guidance: Any) -> Settings:
    """Return the settings; raises `gr.Error`, one line, when they cannot be painted."""
    prompt, negative = _text("prompt", prompt), _text("negative prompt", negative)
    if not prompt:
        raise refusal("The prompt is empty: write what the picture should show, or pick an example.")
    return Settings(
        prompt=prompt,
        negative=negative,
        seed=int(_number("Seed", seed, 0, LAST_SEED, whole=True)),
        steps=int(_number("Steps", steps, *STEPS, whole=True)),
        guidance=_number("Guidance", guidance, *GUIDANCE),
    )


def linked(parameters: Mapping[str, str], spec: ModelSpec) -> Settings:
    """Return the settings that a share link asks for; what it leaves out is the model's own. Raises as `checked`."""
    own = vars(example(spec)) | {"prompt": ""}
    given = {name: parameters[name] for name in own if name in parameters}
    numbers = {name: _parsed(value) for name, value in given.items() if name not in ("prompt", "negative")}
    return checked(**{**own, **given, **numbers})


def refusal(message: str) -> gr.Error:
    """Return the error that tells a visitor, in one line, why nothing is painted."""
    return gr.Error(message, title="Not painted", print_exception=False)


def plain(text: str) -> str:
    """Return `text` on one line, without what cannot be seen or encoded."""
    return " ".join(_UNSEEN.sub(" ", text.encode("utf-8", "ignore").decode()).split())


def _text(name: str, value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise refusal(f"The {name} has to be text; {_kind(value)} arrived.")
    if len(value) > LONGEST_PROMPT:
        raise refusal(f"The {name} has {len(value)} characters; at most {LONGEST_PROMPT} are read.")
    return plain(value)


def _number(name: str, value: Any, low: float, high: float, *, whole: bool = False) -> float:
    bounds = f"between {low:.10g} and {high:.10g}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refusal(f"{name} has to be a number {bounds}; {_kind(value)} arrived.")
    if not low <= value <= high:
        shown = "one far outside" if isinstance(value, int) and abs(value) > FAR else f"{value:.10g}"
        raise refusal(f"{name} has to be {bounds}; {shown} arrived.")
    if whole and value != int(value):
        raise refusal(f"{name} has to be a whole number; {value:.10g} arrived.")
    return float(value)


def _kind(value: Any) -> str:
    """Name what arrived without repeating it: it may hold anything."""
    if value is None:
        return "nothing"
    names = {str: "text", bool: "true or false", list: "a list", dict: "an object"}
    return names.get(type(value), "something else")


def _parsed(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text
