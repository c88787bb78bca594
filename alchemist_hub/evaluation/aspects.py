"""From a judge's labels to what people are asked about: aesthetics, complexity, defects, relevance.

Shape legend: B pictures.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

SHOWN = ("style", "time", "ground", "body")  # what a prompt asks for, and what a judge can see


class Asked(Protocol):
    """An evaluation prompt that knows what it asks for; `alchemist_hub.miniature.world.Prompt` is one."""

    text: str
    style: str
    time: str
    ground: str
    body: str


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """One question of a side-by-side."""

    name: str
    higher_is_better: bool
    unit: str
    tie: float  # two pictures closer than this are a tie: below what the judge can tell apart


ASPECTS = (
    Aspect(name="aesthetics", higher_is_better=True, unit="estimate in [0,1]", tie=0.005),
    Aspect(name="complexity", higher_is_better=True, unit="estimate in [0,1]", tie=0.005),
    Aspect(name="defects", higher_is_better=False, unit="expected number of defects in a picture", tie=0.005),
    Aspect(name="relevance", higher_is_better=True, unit="mean probability of what was asked for", tie=0.005),
)


def aspect_scores(judged: dict[str, np.ndarray], asked: Sequence[Asked]) -> dict[str, np.ndarray]:
    """Return aspect -> (B,) for pictures of the prompts `asked`, one prompt per picture.

    Defects is the sum of the defects' probabilities; relevance the mean probability of the style, time, ground and
    body that the prompt asks for.
    """
    defects = [scores for label, scores in judged.items() if label.startswith("defect:")]
    right = [_probability(judged, part, [getattr(prompt, part) for prompt in asked]) for part in SHOWN]
    return {
        "aesthetics": judged["aesthetics"],
        "complexity": judged["complexity"],
        "defects": np.sum(defects, axis=0),
        "relevance": np.mean(right, axis=0),
    }


def shown_correctly(judged: dict[str, np.ndarray], asked: Sequence[Asked]) -> dict[str, np.ndarray]:
    """Return "style", "time", "ground", "body" -> (B,) floats: 1 where the judge's first choice is what was asked."""
    return {part: _correct(judged, part, [getattr(prompt, part) for prompt in asked]) for part in SHOWN}


def judged_quality(judged: dict[str, np.ndarray]) -> np.ndarray:
    """Return (B,) one number a picture: mean of complexity and aesthetics, less the expected number of defects."""
    defects = [scores for label, scores in judged.items() if label.startswith("defect:")]
    return (judged["complexity"] + judged["aesthetics"]) / 2 - np.sum(defects, axis=0)


def _probability(judged: dict[str, np.ndarray], part: str, values: list[str]) -> np.ndarray:
    return np.array([judged[f"{part}:{value}"][row] for row, value in enumerate(values)], dtype=np.float64)


def _correct(judged: dict[str, np.ndarray], part: str, values: list[str]) -> np.ndarray:
    labels = [label for label in judged if label.startswith(f"{part}:")]
    first = np.argmax([judged[label] for label in labels], axis=0)
    return np.array([labels[index] == f"{part}:{value}" for index, value in zip(first, values, strict=True)], float)
