"""Scores of many pictures: computed from files, kept with the revisions of their weights, compared over prompts.

A table has one row a picture (arm, prompt_index, prompt, seed, and whatever else) and one column a scorer; the schema's
metadata says which weights gave each column. Shape legend: B pictures, P prompts, S seeds.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import votes
from alchemist_hub.evaluation.generate import write_parquet
from alchemist_hub.evaluation.pixels import open_picture
from alchemist_hub.evaluation.scorers import Scorer
from alchemist_hub.evaluation.votes import Interval

AT_ONCE = 32  # pictures in memory
SCORERS_KEY = b"scorers"
Revisions = dict[str, dict[str, Any]]  # scorer -> source, revision, unit, higher_is_better


@dataclass(frozen=True, kw_only=True)
class ScoreSummary:
    """One score of one arm against its opponent: means over all pictures, intervals over prompts."""

    scorer: str
    unit: str
    higher_is_better: bool
    mean: Interval
    opponent_mean: Interval
    difference: Interval  # paired by prompt and seed, in the score's own direction
    win_rate: Interval  # ties count half


def score_pictures(
    paths: Sequence[Path | None], prompts: Sequence[str], scorers: Iterable[Scorer]
) -> dict[str, np.ndarray]:
    """Return scorer -> (B,) float64 of picture files, one prompt each; a picture that is None scores NaN, a void.

    Each file is opened once for all scorers, a few at a time. Raises EvaluationError for a file that is no picture or
    unless there is one prompt a picture.
    """
    if len(paths) != len(prompts):
        raise EvaluationError(f"{len(paths)} pictures and {len(prompts)} prompts: expected one prompt a picture")
    scorers = list(scorers)
    found = {scorer.name: np.full(len(paths), np.nan) for scorer in scorers}
    there = [row for row, path in enumerate(paths) if path is not None]
    for start in range(0, len(there), AT_ONCE):
        rows = there[start : start + AT_ONCE]
        images = [open_picture(paths[row]) for row in rows]
        for scorer in scorers:
            found[scorer.name][rows] = scorer.score(images, [prompts[row] for row in rows])
    return found


def revisions(scorers: Iterable[Scorer]) -> Revisions:
    """Return what a table has to remember of its scorers."""
    kept = ("source", "revision", "unit", "higher_is_better")
    return {scorer.name: {key: getattr(scorer, key) for key in kept} for scorer in scorers}


def write_scores(table: pa.Table, revisions: Revisions, path: Path) -> None:
    """Write scores whole or not at all, with `revisions` in the schema's metadata. Raises EvaluationError.

    Refused if a scorer has no column.
    """
    missing = sorted(revisions.keys() - set(table.column_names))
    if missing:
        raise EvaluationError(f"no column for {', '.join(missing)}; there are {', '.join(table.column_names)}")
    metadata = (table.schema.metadata or {}) | {SCORERS_KEY: json.dumps(revisions).encode()}
    write_parquet(table.replace_schema_metadata(metadata), path)


def read_scores(path: Path) -> tuple[pa.Table, Revisions]:
    """Return a table of scores and its scorers' revisions. Raises EvaluationError if it is none."""
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise EvaluationError(f"{path.name} is no table of scores: {str(error).splitlines()[0]}") from error
    metadata = table.schema.metadata or {}
    if SCORERS_KEY not in metadata:
        raise EvaluationError(f"{path.name} does not say which weights its scores come from; score the pictures again")
    return table, json.loads(metadata[SCORERS_KEY])


def summarise(
    table: pa.Table, revisions: Mapping[str, Mapping[str, Any]], arm: str, opponent: str
) -> tuple[ScoreSummary, ...]:
    """Compare two arms of a table, score by score, over the prompts and seeds that either has.

    Raises EvaluationError for an arm that is not in the table.
    """
    return tuple(
        _summary(name, about, _by_prompt(table, name, arm), _by_prompt(table, name, opponent))
        for name, about in revisions.items()
    )


def _summary(
    name: str, about: Mapping[str, Any], ours: dict[tuple[int, int], float], theirs: dict[tuple[int, int], float]
) -> ScoreSummary:
    ours_PS, theirs_PS = _paired(ours, theirs)
    sign = 1 if about["higher_is_better"] else -1
    return ScoreSummary(
        scorer=name,
        unit=about["unit"],
        higher_is_better=about["higher_is_better"],
        mean=votes.bootstrap_mean(ours_PS),
        opponent_mean=votes.bootstrap_mean(theirs_PS),
        difference=votes.mean_difference(ours_PS, theirs_PS),
        win_rate=votes.win_rate(sign * ours_PS, sign * theirs_PS),
    )


def _by_prompt(table: pa.Table, name: str, arm: str) -> dict[tuple[int, int], float]:
    """Return (prompt, seed) -> score of one arm."""
    rows = table.filter(pc.equal(table["arm"], arm)).select(["prompt_index", "seed", name]).to_pylist()
    if not rows:
        raise EvaluationError(f"no arm {arm!r} in the scores; there are {', '.join(table['arm'].unique().to_pylist())}")
    return {(row["prompt_index"], row["seed"]): row[name] for row in rows}


def _paired(ours: dict[tuple[int, int], float], theirs: dict[tuple[int, int], float]) -> tuple[np.ndarray, np.ndarray]:
    """Return two (P, S) arrays over every prompt and seed of either, NaN where one has no score."""
    prompts = sorted({prompt for prompt, _ in ours.keys() | theirs.keys()})
    seeds = sorted({seed for _, seed in ours.keys() | theirs.keys()})
    cells = [[(prompt, seed) for seed in seeds] for prompt in prompts]
    return tuple(
        np.array([[np.nan if (value := side.get(cell)) is None else value for cell in row] for row in cells], float)
        for side in (ours, theirs)
    )
