"""What an evaluation found: typed, comparable, written to and read from report.json.

Shape legend: P prompts, S seeds.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import votes
from alchemist_hub.evaluation.aspects import ASPECTS, Aspect
from alchemist_hub.evaluation.votes import Interval, Tally

REPORT = "report.json"
BASE, TUNED = "base", "tuned"
ALPHA = 0.05


@dataclass(frozen=True, kw_only=True)
class AspectResult:
    """One aspect of one comparison. Win rate, votes and prompts count what is better, also where fewer is better."""

    aspect: str
    higher_is_better: bool
    unit: str
    mean: Interval
    opponent_mean: Interval
    difference: Interval  # mean - opponent_mean, paired; in the aspect's own direction
    win_rate: Interval  # ties count half
    votes: Tally  # single pictures
    prompts: Tally  # majorities of prompts
    p: float  # exact two-sided binomial on the prompts' majorities
    p_holm: float  # over all aspects and comparisons of the report

    @property
    def verdict(self) -> str:
        """Return "better", "worse" or "not significant", at 5% family-wise."""
        if self.p_holm >= ALPHA:
            return "not significant"
        return "better" if self.prompts.wins > self.prompts.losses else "worse"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """One arm against one opponent, aspect by aspect."""

    arm: str
    opponent: str
    aspects: tuple[AspectResult, ...]

    def aspect(self, name: str) -> AspectResult:
        """Return the result of one aspect. Raises KeyError."""
        return {result.aspect: result for result in self.aspects}[name]


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How the pictures of one arm were sampled."""

    steps: int
    guidance: float
    dtype: str = "float32"


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What judged the pictures: a measure, and the weights that it is."""

    name: str
    about: str  # for a reader: what it is, in a few words
    source: str | None = None  # repository of its weights
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class PromptSource:
    """Where the prompts come from."""

    name: str
    source: str | None = None  # file or repository
    revision: str | None = None


@dataclass(frozen=True, kw_only=True)
class Copies:
    """How many of an arm's pictures are closer to a training picture than those are to one another."""

    arm: str
    training_data: str
    features: str  # what closeness was measured with
    generated: int
    training: int
    threshold: float  # distance below which a picture is flagged
    flagged: int
    expected: float  # how many flags chance alone would raise


@dataclass(frozen=True, kw_only=True)
class Report:
    """What report.json holds."""

    title: str
    version: str
    checkpoints: dict[str, str]  # arm -> 12 hex digits of its weights
    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    steps: int  # of the base, as is the guidance
    guidance: float
    training: dict[str, dict[str, Any]]  # arm -> its training.json, where it has one
    comparisons: tuple[Comparison, ...]
    shown: dict[str, dict[str, Interval]]  # arm -> what was asked for -> share of its pictures that show it
    own: dict[str, Sampling] = field(default_factory=dict)  # arm -> how it was sampled, where it is told
    prompt_source: PromptSource | None = None
    judged: tuple[Judged, ...] = ()
    left_out: dict[str, str] = field(default_factory=dict)  # measure -> why it could not be taken
    sets: dict[str, dict[str, Interval]] = field(default_factory=dict)  # arm -> measure of its pictures as a set
    reference: str | None = None  # the pictures that the sets were held against
    copies: Copies | None = None
    opponents: tuple[str, ...] = ()  # arms that are neither the base nor tuned from it

    @property
    def tests(self) -> int:
        """How many tests Holm's correction ran over."""
        return sum(len(comparison.aspects) for comparison in self.comparisons)

    def comparison(self, arm: str, opponent: str = BASE) -> Comparison:
        """Return one comparison. Raises KeyError."""
        return {(found.arm, found.opponent): found for found in self.comparisons}[arm, opponent]

    def sampling(self, arm: str) -> Sampling:
        """Return how an arm was sampled."""
        return self.own.get(arm, Sampling(steps=self.steps, guidance=self.guidance))


def compare(
    scores: Mapping[str, Mapping[str, np.ndarray]],
    pairs: Sequence[tuple[str, str]],
    aspects: Sequence[Aspect] = ASPECTS,
) -> tuple[Comparison, ...]:
    """Compare arms of `scores` (arm -> aspect -> (P, S)) in `pairs`; Holm runs over everything compared."""
    cells = [(arm, opponent, aspect) for arm, opponent in pairs for aspect in aspects]
    votes_PS = [
        _votes(scores[arm][aspect.name], scores[opponent][aspect.name], aspect) for arm, opponent, aspect in cells
    ]
    p_values = [votes.sign_test(cast) for cast in votes_PS]
    results = [
        _result(aspect, scores[arm][aspect.name], scores[opponent][aspect.name], cast, p, p_holm)
        for (arm, opponent, aspect), cast, p, p_holm in zip(
            cells, votes_PS, p_values, votes.holm(p_values), strict=True
        )
    ]
    return tuple(
        Comparison(arm=arm, opponent=opponent, aspects=tuple(results[row * len(aspects) : (row + 1) * len(aspects)]))
        for row, (arm, opponent) in enumerate(pairs)
    )


def p_value(p: float) -> str:
    """Return a p value as people read it, with a digit more where three would round it across the line at 0.05."""
    return "< 0.001" if p < 0.001 else f"{p:.4f}" if f"{p:.3f}" == "0.050" else f"{p:.3f}"


def undecided(tally: Tally) -> tuple[float, float]:
    """Return the lowest and the highest win rate (ties half) that the sign test finds not significant at 5%.

    The test sees the decisive prompts only: with fewer than six of them none of their outcomes is significant. NaN
    where nothing was counted.
    """
    decisive = tally.wins + tally.losses
    if not tally.total:
        return math.nan, math.nan
    outcomes = range(decisive // 2 + 1) if decisive else ()
    least = next((wins for wins in outcomes if binomtest(wins, decisive).pvalue >= ALPHA), 0)
    return (least + tally.ties / 2) / tally.total, (decisive - least + tally.ties / 2) / tally.total


def read_report(folder: str | Path) -> Report:
    """Read a report folder. Raises EvaluationError if it holds none, or one that is damaged."""
    path = Path(folder) / REPORT
    if not path.is_file():
        raise EvaluationError(f"no evaluation in {folder}: expected {REPORT}; run the evaluation first")
    try:
        return _parse(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, KeyError, TypeError, AttributeError) as error:  # no JSON, or another's
        raise EvaluationError(f"{path} is damaged or not a report; evaluate again into {folder}") from error


def write_json(value: Any, path: Path) -> None:
    """Write JSON that is there whole or not at all; NaN becomes null, as JSON has no other word for it."""
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(_without_nan(value), indent=1, allow_nan=False) + "\n")
    os.replace(part, path)


def _votes(ours_PS: np.ndarray, theirs_PS: np.ndarray, aspect: Aspect) -> np.ndarray:
    sign = 1 if aspect.higher_is_better else -1
    return votes.outcomes(sign * ours_PS, sign * theirs_PS, tie=aspect.tie)


def _result(
    aspect: Aspect, ours_PS: np.ndarray, theirs_PS: np.ndarray, votes_PS: np.ndarray, p: float, p_holm: float
) -> AspectResult:
    return AspectResult(
        aspect=aspect.name,
        higher_is_better=aspect.higher_is_better,
        unit=aspect.unit,
        mean=votes.bootstrap_mean(ours_PS),
        opponent_mean=votes.bootstrap_mean(theirs_PS),
        difference=votes.mean_difference(ours_PS, theirs_PS),
        win_rate=votes.share(votes_PS),
        votes=votes.tally(votes_PS),
        prompts=votes.tally(votes.majorities(votes_PS)),
        p=p,
        p_holm=p_holm,
    )


def _parse(found: dict[str, Any]) -> Report:
    comparisons = tuple(
        Comparison(arm=row["arm"], opponent=row["opponent"], aspects=tuple(_parse_aspect(a) for a in row["aspects"]))
        for row in found["comparisons"]
    )
    shown = {arm: {part: _interval(v) for part, v in parts.items()} for arm, parts in found["shown"].items()}
    fixed = {
        "comparisons": comparisons,
        "shown": shown,
        "own": {arm: Sampling(**values) for arm, values in found.get("own", {}).items()},
        "prompt_source": found.get("prompt_source") and PromptSource(**found["prompt_source"]),
        "judged": tuple(Judged(**row) for row in found.get("judged", ())),
        "copies": found.get("copies") and Copies(**found["copies"]),
        "sets": {arm: {n: _interval(v) for n, v in row.items()} for arm, row in found.get("sets", {}).items()},
    }
    lists = {name: tuple(found.get(name, ())) for name in ("prompts", "seeds", "opponents")}
    return Report(**found | fixed | lists)


def _parse_aspect(found: dict[str, Any]) -> AspectResult:
    intervals = {name: _interval(found[name]) for name in ("mean", "opponent_mean", "difference", "win_rate")}
    return AspectResult(**found | intervals | {name: Tally(**found[name]) for name in ("votes", "prompts")})


def _interval(found: dict[str, float | None]) -> Interval:
    return Interval(**{name: math.nan if value is None else value for name, value in found.items()})


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value
