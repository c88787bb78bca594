"""What pictures are judged by: the miniature's judge, or scorers of real pictures; each gives columns of scores.

Shape legend: B pictures.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation.aspects import ASPECTS, SHOWN, Asked, Aspect, aspect_scores, shown_correctly
from alchemist_hub.evaluation.judges import Judge
from alchemist_hub.evaluation.pixels import open_picture
from alchemist_hub.evaluation.results import Judged
from alchemist_hub.evaluation.scored import score_pictures
from alchemist_hub.evaluation.scorers import Scorer

JUDGED_AT_ONCE = 64


class Measure(Protocol):
    """Anything that judges pictures of prompts, and says what its numbers mean."""

    aspects: tuple[Aspect, ...]
    judged: Judged

    def refuse(self, asked: Sequence[Any]) -> None:
        """Raise EvaluationError if pictures of these prompts cannot be judged."""

    def columns(self, paths: Sequence[Path], asked: Sequence[Any]) -> dict[str, np.ndarray]:
        """Return column -> (B,) for picture files, one prompt each; every aspect's name is one of the columns."""


class WorldJudge:
    """The miniature's judge: knows its world, and only that."""

    aspects = ASPECTS

    def __init__(self, judge: Judge) -> None:
        self._judge = judge
        self.judged = Judged(name="judge", about="networks fitted on the world's known truth, which no funnel uses")

    def refuse(self, asked: Sequence[Any]) -> None:
        if not all(hasattr(prompt, part) for prompt in asked for part in SHOWN):
            raise EvaluationError("the miniature's judge knows the prompts of its world only: --prompts miniature")

    def columns(self, paths: Sequence[Path], asked: Sequence[Asked]) -> dict[str, np.ndarray]:
        return judge_pictures(self._judge, paths, asked)


class ScorerMeasure:
    """A scorer of real pictures. It is loaded twice: once to see that it is there and what it says, once to judge.

    In between its memory is the painters'. Two pictures tie only where their scores are equal.
    """

    def __init__(self, load: Callable[[str], Scorer], device: str, about: str) -> None:
        self._load = load
        self._device = device
        known = load("cpu")
        better = known.higher_is_better
        self.aspects = (Aspect(name=known.name, higher_is_better=better, unit=known.unit, tie=0.0),)
        self.judged = Judged(name=known.name, about=about, source=known.source, revision=known.revision)

    def refuse(self, asked: Sequence[Any]) -> None:
        """Any prompt will do."""

    def columns(self, paths: Sequence[Path], asked: Sequence[Any]) -> dict[str, np.ndarray]:
        return score_pictures(paths, [prompt.text for prompt in asked], [self._load(self._device)])


def judge_pictures(judge: Judge, paths: Sequence[Path], asked: Sequence[Asked]) -> dict[str, np.ndarray]:
    """Judge picture files, one prompt each; return (B,) columns: the aspects, shown_PART, judge_LABEL as it came."""
    judged = _judge_files(judge, paths)
    shown = {f"shown_{part}": values for part, values in shown_correctly(judged, asked).items()}
    raw = {f"judge_{label}": values for label, values in judged.items()}
    return aspect_scores(judged, asked) | shown | raw


def _judge_files(judge: Judge, paths: Sequence[Path]) -> dict[str, np.ndarray]:
    """Judge a few at a time, so that memory does not grow with the number of pictures."""
    parts = [
        judge.score_images([open_picture(path) for path in paths[start : start + JUDGED_AT_ONCE]])
        for start in range(0, len(paths), JUDGED_AT_ONCE)
    ]
    return {label: np.concatenate([part[label] for part in parts]) for label in parts[0]}
