"""What a run does: a recipe's steps, the segments they run in, and the outline that reads their ledger.

Recipe    steps with live judges: what an engine runs
Segment   neighbouring stages with equal resources, run fused in one worker; or one reduction, a barrier
Outline   the same steps without judges: names, columns, rules; saved as RUN/recipe.json, enough to read a ledger
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from itertools import groupby
from typing import Any

from curation.errors import RecipeError
from curation.records import SAMPLE
from curation.stages.base import OPS, Judge, Reduction, Resources, Rule, Stage


@dataclass(frozen=True, kw_only=True)
class Step:
    """One judge and the rules that read its columns, or columns of the steps before it."""

    judge: Judge
    rules: tuple[Rule, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Segment:
    """Steps that run together. `name`, its folder in the ledger, changes with names, versions and configurations."""

    name: str
    steps: tuple[Step, ...]

    @property
    def judges(self) -> tuple[Judge, ...]:
        """Its judges, in order."""
        return tuple(step.judge for step in self.steps)

    @property
    def is_reduction(self) -> bool:
        """Whether it is a barrier: one reduction over the whole set."""
        return isinstance(self.steps[0].judge, Reduction)

    @property
    def resources(self) -> Resources:
        """What one of its workers needs. A reduction runs in the engine's own process."""
        judge = self.steps[0].judge
        return judge.resources if isinstance(judge, Stage) else Resources()

    @property
    def title(self) -> str:
        """What people read in the progress: "resolution, safety, defects"."""
        return ", ".join(judge.name for judge in self.judges)


@dataclass(frozen=True, kw_only=True)
class StepOutline:
    """A step without its judge."""

    name: str
    segment: str  # folder in the ledger
    is_reduction: bool
    version: str
    config: Mapping[str, Any]
    reads: tuple[str, ...]
    columns: Mapping[str, str]  # column -> arrow type, as written by the judge
    rules: tuple[Rule, ...]


@dataclass(frozen=True, kw_only=True)
class Outline:
    """A recipe without its judges: what a ledger was written with and is read by."""

    name: str
    steps: tuple[StepOutline, ...]

    @property
    def segments(self) -> tuple[str, ...]:
        """The ledger folders, in order."""
        return tuple(dict.fromkeys(step.segment for step in self.steps))

    @property
    def columns(self) -> dict[str, str]:
        """Every score column and its arrow type."""
        return {column: kind for step in self.steps for column, kind in step.columns.items()}

    def resolved(self, pool: int) -> "Outline":
        """Turn thresholds that are shares of the pool into counts, at least 1. `pool`: samples in the source."""

        def count(rule: Rule) -> Rule:
            return replace(rule, threshold=max(1, int(rule.threshold * pool)), of_pool=False) if rule.of_pool else rule

        return self._with_rules(count)

    def with_thresholds(self, thresholds: Mapping[str, float | bool]) -> "Outline":
        """Return this outline with other thresholds, by column. Raises RecipeError for a column that no rule reads."""
        known = {rule.column for step in self.steps for rule in step.rules}
        for column in thresholds.keys() - known:
            raise RecipeError(f"no rule reads the column {column!r}; rules read: {', '.join(sorted(known))}")
        return self._with_rules(
            lambda rule: (
                replace(rule, threshold=thresholds[rule.column], of_pool=False) if rule.column in thresholds else rule
            )
        )

    def difference(self, other: "Outline") -> str | None:
        """Say what else than thresholds differs from `other`, None where nothing does."""
        if [step.name for step in self.steps] != [step.name for step in other.steps]:
            return f"steps {_names(self)} here, {_names(other)} there"
        for mine, theirs in zip(self.steps, other.steps, strict=True):
            for part in ("version", "config", "columns"):
                if getattr(mine, part) != getattr(theirs, part):
                    return f"{part} of {mine.name}: {getattr(mine, part)} here, {getattr(theirs, part)} there"
            if _without_thresholds(mine) != _without_thresholds(theirs):
                return f"rules of {mine.name}"
        return None

    def to_json(self) -> dict[str, Any]:
        """Return this outline as JSON values."""
        return json.loads(json.dumps({"name": self.name, "steps": [asdict(step) for step in self.steps]}))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Outline":
        """Read what `to_json` wrote."""
        steps = [
            StepOutline(
                **{**step, "reads": tuple(step["reads"]), "rules": tuple(Rule(**rule) for rule in step["rules"])}
            )
            for step in values["steps"]
        ]
        return cls(name=values["name"], steps=tuple(steps))

    def _with_rules(self, change: Any) -> "Outline":
        return replace(self, steps=tuple(replace(step, rules=tuple(map(change, step.rules))) for step in self.steps))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A complete, named funnel: steps in order; the first rule that fails is why a sample is dropped.

    Raises RecipeError where the steps do not fit together.
    """

    name: str
    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Runs of neighbouring stages with equal resources, and the reductions between them."""
        positions = range(len(self.steps))
        runs = [list(run) for _, run in groupby(positions, key=lambda position: _group(self.steps, position))]
        return tuple(_segment(index, tuple(self.steps[at] for at in run)) for index, run in enumerate(runs))

    @cached_property
    def outline(self) -> Outline:
        """This recipe without its judges."""
        steps = [_outlined(step, segment) for segment in self.segments for step in segment.steps]
        return Outline(name=self.name, steps=tuple(steps))

    def to_json(self) -> dict[str, Any]:
        """Return what RUN/recipe.json holds, thresholds unresolved."""
        return self.outline.to_json()

    def with_thresholds(self, thresholds: Mapping[str, float | bool]) -> "Recipe":
        """Return this recipe with other thresholds, by column. Raises RecipeError for a column that no rule reads."""
        changed = self.outline.with_thresholds(thresholds)
        return replace(
            self,
            steps=tuple(replace(mine, rules=new.rules) for mine, new in zip(self.steps, changed.steps, strict=True)),
        )


def with_captions(recipe: Recipe, judge: Stage) -> Recipe:
    """Return the recipe with `judge` as its step "recaption". Raises RecipeError if it has no such step."""
    if "recaption" not in {step.judge.name for step in recipe.steps}:
        raise RecipeError(f"recipe {recipe.name} has no step recaption that another captioner could replace")
    steps = (replace(step, judge=judge) if step.judge.name == "recaption" else step for step in recipe.steps)
    return replace(recipe, steps=tuple(steps))


def short_hash(value: Any) -> str:
    """Return 16 hex digits that name a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]


def _group(steps: tuple[Step, ...], position: int) -> Any:
    judge = steps[position].judge
    return judge.resources if isinstance(judge, Stage) else position


def _segment(index: int, steps: tuple[Step, ...]) -> Segment:
    identity = [[step.judge.name, step.judge.version, step.judge.config()] for step in steps]
    names = "+".join(step.judge.name for step in steps)
    return Segment(name=f"{index:02d}-{names}-{short_hash(identity)[:8]}", steps=steps)


def _outlined(step: Step, segment: Segment) -> StepOutline:
    judge = step.judge
    return StepOutline(
        name=judge.name,
        segment=segment.name,
        is_reduction=segment.is_reduction,
        version=judge.version,
        config=json.loads(json.dumps(judge.config())),
        reads=judge.reads,
        columns={column.name: str(column.type) for column in judge.writes},
        rules=step.rules,
    )


def _check(recipe: Recipe) -> None:
    if not recipe.steps or not isinstance(recipe.steps[0].judge, Stage):
        raise RecipeError(f"recipe {recipe.name}: its first step has to be a stage, which reads the samples")
    known = set(SAMPLE.names)
    for step in recipe.steps:
        written = set(step.judge.writes.names)
        if written & known:
            raise RecipeError(f"step {step.judge.name} writes {', '.join(sorted(written & known))} a second time")
        if isinstance(step.judge, Reduction):
            _demand(set(step.judge.reads) <= known, step, f"reads {', '.join(sorted(set(step.judge.reads) - known))}")
        known |= written
        for rule in step.rules:
            _demand(rule.column in known, step, f"has a rule on {rule.column}")
            if rule.op not in OPS:
                raise RecipeError(f"step {step.judge.name}: operator {rule.op!r}, expected one of {' '.join(OPS)}")


def _demand(is_known: bool, step: Step, what: str) -> None:
    if not is_known:
        raise RecipeError(f"step {step.judge.name} {what}, which no step up to it writes")


def _names(outline: Outline) -> str:
    return ", ".join(step.name for step in outline.steps)


def _without_thresholds(step: StepOutline) -> list[tuple[str, str]]:
    return [(rule.column, rule.op) for rule in step.rules]
