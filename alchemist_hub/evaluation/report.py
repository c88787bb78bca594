"""One base, any number of others, the same prompts and seeds for all: who wins, by how much, how surely.

A report folder holds report.json (everything below), scores.parquet (one row a picture), tables/, pictures/, figures/
and the pages report.md and report.html. Shape legend: P prompts, S seeds.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from alchemist_hub import __version__
from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import figures, generate, pages, tables, votes
from alchemist_hub.evaluation.generate import ALL, EXACT, Settings, Share
from alchemist_hub.evaluation.measures import Measure
from alchemist_hub.evaluation.progress import watched
from alchemist_hub.evaluation.prompts import PromptSet
from alchemist_hub.evaluation.results import BASE, REPORT, Copies, Report, Sampling, compare, write_json
from alchemist_hub.evaluation.scored import Revisions, write_scores
from alchemist_hub.evaluation.sides import Contest, Side

SCORES, PICTURES = "scores.parquet", "pictures"
SHOWN = "shown_"  # what the columns of "shows what was asked for" begin with

Scores = dict[str, dict[str, np.ndarray]]  # arm -> column -> (P, S)
# (a side's picture files, the prompt of each) -> what is measured of the set as a whole
SetMeasure = Callable[[Sequence[Path], Sequence[str]], dict[str, votes.Interval]]
# (an arm, its picture files, the report folder) -> what of them is a copy
CopyCheck = Callable[[str, Sequence[Path], Path], Copies]


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A complete evaluation, before anything is painted."""

    contest: Contest
    prompts: PromptSet
    seeds: tuple[int, ...]
    measures: tuple[Measure, ...]
    left_out: Mapping[str, str] = field(default_factory=dict)  # measure -> why it cannot be taken
    set_measure: SetMeasure | None = None
    reference: str | None = None  # what the set measure holds the pictures against
    copy_check: CopyCheck | None = None  # of the tuned one's pictures
    title: str = "Base and tuned, side by side"
    device: str = "cpu"
    dtype: str = EXACT
    batch: int = 8

    def settings(self, side: Side) -> Settings:
        """Return how the pictures of a side are sampled."""
        return Settings(
            seeds=self.seeds,
            steps=side.steps,
            guidance=side.guidance,
            dtype=self.dtype,
            batch=self.batch,
            device=self.device,
        )


def evaluate(plan: Plan, out: str | Path, *, share: Share = ALL) -> Report | None:
    """Paint, judge, compare and write the report folder `out`; pictures already there are not painted again.

    Of several processes each paints its share; the first judges and writes, the others return None. Raises
    EvaluationError if names clash, nothing is to be compared or the folder cannot be written, ModelError for a folder
    that is no checkpoint.
    """
    _check(plan, judging=share.index == 0)
    out = Path(out)
    weights = {side.name: generate.checkpoint_id(side.folder) for side in plan.contest.sides}
    painted = {side.name: _paint(plan, side, weights[side.name], out, share) for side in plan.contest.sides}
    if share.index:
        return None
    try:
        scores = _score(plan, painted, out)
        report = _report(plan, weights, scores)
        report = replace(report, sets=_sets(plan, painted, out), copies=_copies(plan, painted, out))
        _write(report, out)
    except OSError as error:
        raise EvaluationError(f"the report cannot be written to {out}: {error}; what is painted stays") from error
    return report


def _check(plan: Plan, *, judging: bool) -> None:
    names = [side.name for side in plan.contest.sides]
    if BASE not in names or len(set(names)) < len(names):
        raise EvaluationError(f'sides need different names, one of them "{BASE}"; these are {", ".join(names)}')
    if not plan.contest.pairs:
        raise EvaluationError("nothing to compare: name at least one checkpoint besides the base")
    unknown = sorted(set(chain.from_iterable(plan.contest.pairs)) - set(names))
    if unknown:
        raise EvaluationError(f"unknown arm {', '.join(unknown)}; there are {', '.join(names)}")
    if not judging:
        return
    aspects = [aspect.name for measure in plan.measures for aspect in measure.aspects]
    if not aspects:
        raise EvaluationError("nothing to judge by: no measure is left")
    if twice := sorted({name for name in aspects if aspects.count(name) > 1}):
        raise EvaluationError(f"two measures give {', '.join(twice)}; leave one of them out")
    for measure in plan.measures:
        measure.refuse(plan.prompts.prompts)


def _paint(plan: Plan, side: Side, weights: str, out: Path, share: Share) -> pa.Table:
    texts = [prompt.text for prompt in plan.prompts.prompts]
    own = len(range(share.index, len(texts) * len(plan.seeds), share.of))
    title = f"pictures of {side.name}" + (f" (1 of {share.of} processes)" if share.of > 1 else "")
    with watched(title, own, quiet=share.index > 0) as advance:
        return generate.paint(
            side.folder, texts, plan.settings(side), out / PICTURES, share=share, weights=weights, on_done=advance
        )


def _score(plan: Plan, painted: Mapping[str, pa.Table], out: Path) -> Scores:
    """Judge every side's pictures, measure by measure, so that each is loaded once; write scores.parquet."""
    asked = [prompt for prompt in plan.prompts.prompts for _ in plan.seeds]
    paths = [path for index in painted.values() for path in _files(index, out)]
    columns: dict[str, np.ndarray] = {}
    with watched("measures", len(plan.measures)) as advance:
        for measure in plan.measures:
            columns |= measure.columns(paths, asked * len(painted))
            advance(1)
    categories = [getattr(prompt, "category", None) for prompt in asked] * len(painted)
    arms = [arm for arm in painted for _ in asked]
    facts = {"category": pa.array(categories, pa.string()), "arm": arms}
    table = _with_columns(pa.concat_tables(painted.values()), facts | columns)
    write_scores(table, _revisions(plan.measures), out / SCORES)
    shaped = {name: values.reshape(len(painted), -1, len(plan.seeds)) for name, values in columns.items()}
    return {arm: {name: values[row] for name, values in shaped.items()} for row, arm in enumerate(painted)}


def _revisions(measures: Sequence[Measure]) -> Revisions:
    return {
        aspect.name: {
            "source": measure.judged.source,
            "revision": measure.judged.revision,
            "unit": aspect.unit,
            "higher_is_better": aspect.higher_is_better,
        }
        for measure in measures
        for aspect in measure.aspects
    }


def _sets(plan: Plan, painted: Mapping[str, pa.Table], out: Path) -> dict[str, dict[str, votes.Interval]]:
    if plan.set_measure is None:
        return {}
    return {arm: plan.set_measure(_files(index, out), index["prompt"].to_pylist()) for arm, index in painted.items()}


def _copies(plan: Plan, painted: Mapping[str, pa.Table], out: Path) -> Copies | None:
    arm = plan.contest.pairs[0][0]
    return None if plan.copy_check is None else plan.copy_check(arm, _files(painted[arm], out), out)


def _files(index: pa.Table, out: Path) -> list[Path]:
    return [out / PICTURES / file for file in index["file"].to_pylist()]


def _with_columns(table: pa.Table, columns: Mapping[str, Any]) -> pa.Table:
    for name, values in columns.items():
        table = table.append_column(name, pa.array(values))
    return table


def _report(plan: Plan, weights: Mapping[str, str], scores: Scores) -> Report:
    sides = {side.name: side for side in plan.contest.sides}
    aspects = [aspect for measure in plan.measures for aspect in measure.aspects]
    return Report(
        title=plan.title,
        version=__version__,
        checkpoints=dict(weights),
        prompts=tuple(prompt.text for prompt in plan.prompts.prompts),
        seeds=plan.seeds,
        steps=sides[BASE].steps,
        guidance=sides[BASE].guidance,
        own={
            name: Sampling(steps=side.steps, guidance=side.guidance, dtype=plan.dtype) for name, side in sides.items()
        },
        training=_training(sides.values()),
        comparisons=compare(scores, plan.contest.pairs, aspects),
        shown={arm: shown for arm, columns in scores.items() if (shown := _shown(columns))},
        prompt_source=plan.prompts.source,
        judged=tuple(measure.judged for measure in plan.measures),
        left_out=dict(plan.left_out),
        reference=plan.reference,
        opponents=plan.contest.opponents,
    )


def _shown(columns: Mapping[str, np.ndarray]) -> dict[str, votes.Interval]:
    return {name.removeprefix(SHOWN): votes.share(values) for name, values in columns.items() if name.startswith(SHOWN)}


def _training(sides: Iterable[Side]) -> dict[str, dict[str, Any]]:
    records = {side.name: side.folder / "training.json" for side in sides}
    return {arm: json.loads(path.read_text(encoding="utf-8")) for arm, path in records.items() if path.is_file()}


def _write(report: Report, out: Path) -> None:
    figures.draw(report, out / PICTURES, out / "figures")
    tables.write(report, out / "tables")
    write_json(asdict(report), out / REPORT)
    pages.write(out)
