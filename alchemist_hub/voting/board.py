"""Where the votes stand: per model and aspect, how often tuned won, how sure that is at any time, and who agreed.

The intervals may be looked at after every vote (`evaluation.anytime`), because ballots are independent draws from a
fixed list, and of each rater the first vote counts there: votes of one rater are alike. Shape legend: V votes, U pairs
of pictures, O raters.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from alchemist_hub.evaluation.agreement import krippendorff_alpha
from alchemist_hub.evaluation.standing import Ballots, LiveStanding, first_votes, standings
from alchemist_hub.evaluation.votes import Choice, Tally
from alchemist_hub.voting.records import ASPECTS

PAIR = ("prompt", "seed", "steps", "guidance", "base", "tuned")  # what makes two ballots show the same pictures
# What an answer means for the tuned side, by the side that was left.
MEANING: dict[tuple[str, str], Choice] = {
    ("tuned", "left"): "ours", ("tuned", "right"): "theirs", ("base", "left"): "theirs", ("base", "right"): "ours",
    **{(left, "tie"): "tie" for left in ("base", "tuned")},
    **{(left, "both bad"): "both_bad" for left in ("base", "tuned")},
}  # fmt: skip
CODES: dict[Choice, float] = {choice: float(code) for code, choice in enumerate(dict.fromkeys(MEANING.values()))}


@dataclass(frozen=True, kw_only=True)
class Board:
    """All that stands about one model, as seen from the tuned side."""

    model: str
    votes: int
    raters: int
    standings: tuple[LiveStanding, ...]  # of each rater's first vote, in the order of `ASPECTS`
    tallies: tuple[Tally, ...]  # of all votes, beside each standing; both bad is among the ties
    alphas: tuple[float, ...]  # Krippendorff's, nominal, beside each standing; NaN where no pair has two raters


def boards(votes: pa.Table) -> list[Board]:
    """Return one board for each model that was voted on, most votes first. `votes`: `records.SCHEMA`.

    All intervals of all boards hold together.
    """
    counts = pc.value_counts(votes["model"]).to_pylist()
    models = [row["values"] for row in sorted(counts, key=lambda row: (-row["counts"], row["values"]))]
    of_model = {model: votes.filter(pc.equal(votes["model"], model)) for model in models}
    said = {(model, aspect): choices(of_model[model], aspect) for model in models for aspect in ASPECTS}
    rows = standings({row: Ballots.of(_counted(of_model[row[0]], found)) for row, found in said.items()})
    return [
        Board(
            model=model,
            votes=table.num_rows,
            raters=pc.count_distinct(table["rater"]).as_py(),
            standings=tuple(row for row in rows if row.model == model),
            tallies=tuple(Ballots.of(said[model, aspect]).tally for aspect in ASPECTS),
            alphas=tuple(agreement(table, said[model, aspect]) for aspect in ASPECTS),
        )
        for model, table in of_model.items()
    ]


def _counted(votes: pa.Table, said: Sequence[Choice]) -> list[Choice]:
    return first_votes(zip(votes["rater"].to_pylist(), said, strict=True))


def choices(votes: pa.Table, aspect: str) -> list[Choice]:
    """Return (V,) what each vote means for the tuned side."""
    return [MEANING[pair] for pair in zip(votes["left"].to_pylist(), votes[aspect].to_pylist(), strict=True)]


def agreement(votes: pa.Table, said: Sequence[Choice]) -> float:
    """Return Krippendorff's alpha of what was said about pairs of pictures that several raters judged.

    A rater who judged one pair twice counts once, as of the last time.
    """
    pairs = list(zip(*(votes[name].to_pylist() for name in PAIR), strict=True))
    place_of = {pair: place for place, pair in enumerate(dict.fromkeys(pairs))}
    raters, rater_V = np.unique(votes["rater"].to_numpy(), return_inverse=True)
    ratings_UO = np.full((len(place_of), len(raters)), np.nan)
    for pair, rater, choice in zip(pairs, rater_V, said, strict=True):
        ratings_UO[place_of[pair], rater] = CODES[choice]
    return krippendorff_alpha(ratings_UO)
