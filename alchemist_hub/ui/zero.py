"""ZeroGPU: a card that the Hub lends to a Space while one function runs. Anywhere else nothing changes.

The function runs in a process that is forked for it, so what it is called with and what it yields has to be pickled.
"""

from collections.abc import Callable
from typing import ParamSpec, TypeVar

from alchemist_hub.models import ModelSpec

Given = ParamSpec("Given")
Result = TypeVar("Result")
MOVING = 12  # seconds to bring a pair onto the card
STEP = 0.15  # seconds a step and billion parameters, both sides' guidance included; generous, nothing measured
LONGEST = 110  # seconds; longer declarations are refused


def on_card(function: Callable[Given, Result], seconds: Callable[Given, int]) -> Callable[Given, Result]:
    """Return `function`, on a Space asking for a card for as many `seconds` as a call with its arguments needs."""
    try:
        import spaces
    except ImportError:
        return function
    return spaces.GPU(function, duration=seconds)


def seconds_on_card(spec: ModelSpec, steps: int) -> int:
    """Return for how long a comparison of `steps` asks for the card."""
    return min(LONGEST, round(MOVING + 2 * steps * spec.parameters / 1e9 * STEP))
