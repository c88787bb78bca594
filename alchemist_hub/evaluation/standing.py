"""Where a live board stands: win rate, anytime-valid interval, a word of verdict, and how many votes are missing.

A board has a row for every model and aspect. All its intervals together are right at every moment with the stated
confidence: each row takes an equal part of the error (Bonferroni), so that a row's word and its interval never
disagree. Holm's steps would decide the later rows a little sooner, at the price of intervals that no longer say why.
What has to hold of the votes is said in `anytime`; `first_votes` keeps those of raters who stay long from breaking it.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from alchemist_hub.evaluation import anytime, power
from alchemist_hub.evaluation.votes import CONFIDENCE, WORTH, Choice, Interval, Tally, tally, worth

Verdict = Literal["better", "worse", "preliminary"]
EVEN = 0.5


@dataclass(frozen=True, kw_only=True)
class Ballots:
    """The votes of one row, counted by what was chosen."""

    ours: int = 0
    theirs: int = 0
    tie: int = 0
    both_bad: int = 0
    void: int = 0

    @classmethod
    def of(cls, choices: Iterable[Choice]) -> "Ballots":
        """Count choices. Raises EvaluationError for a word that is none."""
        counted = Counter(choices)
        worth(list(counted))
        return cls(**counted)

    @property
    def tally(self) -> Tally:
        """The votes that count, by what they are worth (`votes.WORTH`)."""
        return tally(np.repeat(list(WORTH.values()), [getattr(self, choice) for choice in WORTH]))


def first_votes(cast: Iterable[tuple[Hashable, Choice]], most: int = 1) -> list[Choice]:
    """Return the choices of one row that a board may count: of each rater the first `most` that are not void, in order.

    `cast` is (rater, choice) as it came. Votes of one rater are alike: with a correlation of 0.05 and 20 in a row, a
    quarter of all even boards are wrong at some moment. One each is safe whatever the correlation.
    """
    counted: dict[Hashable, int] = defaultdict(int)
    kept = []
    for rater, choice in cast:
        if choice == "void":
            kept.append(choice)
        elif counted[rater] < most:
            counted[rater] += 1
            kept.append(choice)
    return kept


@dataclass(frozen=True, kw_only=True)
class LiveStanding:
    """One row of a live board."""

    model: str
    aspect: str
    ballots: Ballots
    win_rate: Interval  # ties and "both bad" count half; anytime-valid, for all rows together
    both_bad: Interval  # share of the votes that count; anytime-valid, for this row alone
    more_needed: int | None  # votes until the verdict, probably; 0 if it is there, None if out of reach or unknown

    @property
    def votes(self) -> int:
        """How many votes count."""
        return self.ballots.tally.total

    @property
    def verdict(self) -> Verdict:
        """Return "better" or "worse" once the interval has left one half, else "preliminary"."""
        if self.win_rate.above(EVEN):
            return "better"
        return "worse" if self.win_rate.below(EVEN) else "preliminary"

    @property
    def outlook(self) -> str:
        """Say in words how far the verdict is."""
        if self.verdict != "preliminary":
            return "decided"
        if not self.votes:
            return "no votes yet"
        if self.more_needed is None:
            return "no verdict in sight: too close to even"
        return f"about {_round(self.more_needed):,} more {'vote' if self.more_needed == 1 else 'votes'} at this rate"


def standings(
    board: Mapping[tuple[str, str], Ballots], *, confidence: float = CONFIDENCE, rows: int | None = None
) -> tuple[LiveStanding, ...]:
    """Return the row of every (model, aspect) of `board`, in its order.

    `rows` is the number of rows the board may ever have, for which the error is divided; by default those it has now.
    Raises ValueError if there are more.
    """
    rows = len(board) if rows is None else rows
    if rows < len(board):
        raise ValueError(f"the error is divided among {rows} rows, but the board has {len(board)}")
    if not board:
        return ()
    alpha = (1 - confidence) / rows
    tallies = [ballots.tally for ballots in board.values()]
    rates = anytime.intervals([(count.losses, count.ties, count.wins) for count in tallies], confidence=1 - alpha)
    bad = [
        (count.total - ballots.both_bad, 0, ballots.both_bad)
        for count, ballots in zip(tallies, board.values(), strict=True)
    ]
    bad_rates = anytime.intervals(bad, confidence=confidence)
    return tuple(
        LiveStanding(
            model=model,
            aspect=aspect,
            ballots=board[model, aspect],
            win_rate=rate,
            both_bad=bad_rate,
            more_needed=power.more_needed(count, alpha=alpha),
        )
        for (model, aspect), count, rate, bad_rate in zip(board, tallies, rates, bad_rates, strict=True)
    )


def _round(number: int) -> int:
    """Return the first two digits: more would claim to know."""
    digits = max(len(str(number)) - 2, 0)
    return int(round(number, -digits))
