"""Rules to SQL: a sample's verdict follows from its scores, its status and an outline's thresholds, never stored.

The checks of an outline, in order, are: at the first step of each segment, whether the worker could read the sample;
then every step's rules. The first check that fails is the reason of the drop. Null and NaN scores fail as not scored.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from curation.plan import Outline
from curation.records import OK
from curation.stages.base import Rule

KEEP, DROP, NOT_SCORED = "keep", "drop", "not scored"


@dataclass(frozen=True)
class Check:
    """One question asked of every sample: `rule`, or, without one, whether its status is "ok" in this segment."""

    position: int  # of the step
    step: str
    rule: Rule | None

    def reason(self, missing: bool, status: str) -> str:
        """Why a sample that fails here is dropped; `missing`: it has no score."""
        if self.rule is None:
            return status
        return NOT_SCORED if missing else self.rule.reason


def checks(outline: Outline, *, until: str | None = None) -> list[Check]:
    """The checks in order; with `until`, those before that segment."""
    found: list[Check] = []
    begun: set[str] = set()
    for position, step in enumerate(outline.steps):
        if step.segment == until:
            break
        if step.segment not in begun and not step.is_reduction:
            found.append(Check(position, step.name, None))
        begun.add(step.segment)
        found += [Check(position, step.name, rule) for rule in step.rules]
    return found


def fails(check: Check, types: dict[str, str]) -> str:
    """SQL that is true where a row of `samples` fails the check. `types`: column -> arrow type."""
    if check.rule is None:
        return f"coalesce(status_step = {check.position}, false)"
    kind = types.get(check.rule.column, "")
    operator = "=" if check.rule.op == "==" else check.rule.op
    holds = f"{quoted([check.rule.column])} {operator} {_literal(check.rule.threshold, kind)}"
    return f"({_is_missing(check.rule, types)} OR NOT ({holds}))"


def first_failure(asked: list[Check], types: dict[str, str]) -> str:
    """SQL for the number of the first check that fails, null where all hold."""
    cases = " ".join(f"WHEN {fails(check, types)} THEN {number}" for number, check in enumerate(asked))
    return f"CASE {cases} END::INTEGER" if asked else "NULL::INTEGER"


def was_missing(asked: list[Check], types: dict[str, str]) -> str:
    """SQL, over the column `failed`: whether the check that failed did so for want of a score."""
    cases = " ".join(
        f"WHEN {number} THEN {_is_missing(check.rule, types)}" for number, check in enumerate(asked) if check.rule
    )
    return f"coalesce(CASE failed {cases} END, false)" if cases else "false"


def outcome(check: Check, types: dict[str, str]) -> str:
    """SQL for "keep", "drop" or "not scored": one check for itself."""
    missing = f"WHEN {_is_missing(check.rule, types)} THEN '{NOT_SCORED}' " if check.rule else ""
    return f"CASE {missing}WHEN {fails(check, types)} THEN '{DROP}' ELSE '{KEEP}' END"


def passing(samples: pa.Table, rules: Sequence[Rule]) -> pa.Table:
    """Return the rows of a table of scored samples whose status is "ok" and for which every rule holds."""
    types = {field.name: str(field.type) for field in samples.schema}
    failing = [fails(Check(0, "", rule), types) for rule in rules]
    drops = " OR ".join([f"status <> '{OK}'", *failing])
    with duckdb.connect() as database:
        return database.register("samples", samples).sql(f"SELECT * FROM samples WHERE NOT ({drops})").to_arrow_table()


def outcomes(samples: pa.Table, asked: Sequence[Check]) -> list[list[str]]:
    """Return what each rule says about each row of a table of scored samples; `asked`: checks that have a rule."""
    types = {field.name: str(field.type) for field in samples.schema}
    told = ", ".join(f"{outcome(check, types)} AS c{number}" for number, check in enumerate(asked))
    with duckdb.connect() as database:
        rows = database.register("samples", samples).sql(f"SELECT {told} FROM samples").to_arrow_table().to_pylist()
    return [list(row.values()) for row in rows]


def quoted(columns: Iterable[str]) -> str:
    """A list of column names in SQL."""
    return ", ".join('"' + column.replace('"', '""') + '"' for column in columns)


def _is_missing(rule: Rule, types: dict[str, str]) -> str:
    column = quoted([rule.column])
    return f"({column} IS NULL OR isnan({column}))" if _is_float(types, rule.column) else f"({column} IS NULL)"


def _is_float(types: dict[str, str], column: str) -> bool:
    return types.get(column) in ("float", "double")


def _literal(threshold: float | bool | str, kind: str) -> str:
    """A threshold in SQL, in the column's own precision: 0.71 meets a float32 score of 0.71."""
    if isinstance(threshold, bool):
        return str(threshold).lower()
    if isinstance(threshold, str):
        return "'" + threshold.replace("'", "''") + "'"
    return f"{threshold!r}::FLOAT" if kind == "float" else f"{threshold!r}::DOUBLE"
