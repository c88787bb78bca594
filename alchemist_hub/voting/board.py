"""Where the votes stand: per model and aspect, how often tuned won, how sure that is at any time, and who agreed.

The interval may be looked at after every vote, because ballots are independent draws from a fixed list. Until it
excludes one half, a standing is preliminary. Shape legend: V votes, U pairs of pictures, in the order they were cast.
"""

import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alchemist_hub.evaluation.votes import Interval, Tally, bootstrap_mean
from alchemist_hub.voting.records import ASPECTS

WORTH = {"tuned": 1.0, "base": 0.0, "tie": 0.5, "both bad": 0.5}  # both bad prefers neither side, as a tie does
EVEN = 0.5


@dataclass(frozen=True, kw_only=True)
class Standing:
    """One aspect of one model's votes, as seen from the tuned side."""

    aspect: str
    tally: Tally  # both bad is among the ties
    both_bad: int
    win_rate: Interval  # ties half
    alpha: float  # Krippendorff's, over pairs with two raters at least; NaN without such pairs

    @property
    def preliminary(self) -> bool:
        """Whether the interval still holds one half."""
        return not (self.win_rate.low > EVEN or self.win_rate.high < EVEN)

    @property
    def needed(self) -> int | None:
        """About how many more votes would decide it if the win rate stays; None if no number would, or none is needed.

        The interval shrinks with the square root of the votes.
        """
        distance, votes = abs(self.win_rate.value - EVEN), self.tally.total
        if not self.preliminary or not votes or distance == 0:
            return None
        toward = self.win_rate.value - self.win_rate.low if self.win_rate.value > EVEN else (
            self.win_rate.high - self.win_rate.value
        )  # fmt: skip
        return max(1, math.ceil(votes * ((toward / distance) ** 2 - 1)))


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that stands about one model."""

    model: str
    votes: int
    raters: int
    standings: tuple[Standing, ...]


def boards(votes: pa.Table) -> list[Board]:
    """Return one board for each model that was voted on, most votes first. `votes`: `records.SCHEMA`."""
    counts = pc.value_counts(votes["model"]).to_pylist()
    models = [row["values"] for row in sorted(counts, key=lambda row: (-row["counts"], row["values"]))]
    return [_board(model, votes.filter(pc.equal(votes["model"], model))) for model in models]


def preferred(votes: pa.Table, aspect: str) -> list[str]:
    """Return (V,) what each vote prefers: tuned, base, tie or both bad."""
    other = {"base": "tuned", "tuned": "base"}
    return [
        {"left": left, "right": other[left]}.get(answer, answer)
        for left, answer in zip(votes["left"].to_pylist(), votes[aspect].to_pylist(), strict=True)
    ]


def _board(model: str, votes: pa.Table) -> Board:
    return Board(
        model=model,
        votes=votes.num_rows,
        raters=pc.count_distinct(votes["rater"]).as_py(),
        standings=tuple(_standing(votes, aspect) for aspect in ASPECTS),
    )


def _standing(votes: pa.Table, aspect: str) -> Standing:
    said = preferred(votes, aspect)
    count = {name: said.count(name) for name in WORTH}
    return Standing(
        aspect=aspect,
        tally=Tally(wins=count["tuned"], ties=count["tie"] + count["both bad"], losses=count["base"]),
        both_bad=count["both bad"],
        win_rate=live_interval(np.array([WORTH[name] for name in said])),
        alpha=agreement(votes, said),
    )


def live_interval(worth_V: np.ndarray) -> Interval:
    """Return the mean of votes worth 0 to 1 and its interval."""
    return bootstrap_mean(worth_V)


def agreement(votes: pa.Table, said: list[str]) -> float:
    """Return Krippendorff's alpha (nominal) of what was said about pairs that several raters saw."""
    pairs: dict[tuple, dict[str, str]] = defaultdict(dict)
    names = ("prompt", "seed", "base", "tuned", "rater")
    for *pair, rater, word in zip(*(votes[name].to_pylist() for name in names), said, strict=True):
        pairs[tuple(pair)][rater] = word  # a rater who saw a pair twice counts once, as of the last time
    return nominal_alpha([list(words.values()) for words in pairs.values()])


def nominal_alpha(units: list[list[str]]) -> float:
    """Return 1 - observed / expected disagreement over units with two values at least; NaN where nothing can differ.

    Krippendorff, Content Analysis, 2004, chapter 11.
    """
    words = sorted({word for unit in units for word in unit})
    counts_UW = np.array([[unit.count(word) for word in words] for unit in units if len(unit) > 1], dtype=np.float64)
    if not counts_UW.size:
        return math.nan
    sizes_U, totals_W = counts_UW.sum(axis=1), counts_UW.sum(axis=0)
    pairable = totals_W.sum()
    observed = sum((size**2 - (row**2).sum()) / (size - 1) for size, row in zip(sizes_U, counts_UW, strict=True))
    expected = (pairable**2 - (totals_W**2).sum()) / (pairable - 1)
    return float(1 - observed / expected) if expected else math.nan
