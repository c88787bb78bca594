"""The ledger: every score of every sample, kept for ever; verdicts follow from it and from thresholds.

    RUN/recipe.json        the outline: steps, columns, rules with their thresholds
    RUN/source.json        the pool's identity, and into how many shards it was cut
    RUN/ledger/SEGMENT/    committed shards (curation.shards): scores by img_key
    RUN/index/             large pools: the shards joined into one table, to be asked at once; made again when missing

The first segment's shards register the samples (everything of `records.SAMPLE` but the image); later ones hold keys
and scores. Exact copies of a file share a key: judged once, all their places remembered. Nothing here reads an image.
"""

import contextlib
import hashlib
import os
from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from threading import Lock

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from curation import shards
from curation.plan import Outline, StepOutline, short_hash
from curation.records import OK, REGISTERED, SCORED
from curation.stages.top import Top
from curation.verdicts import Check, checks, first_failure, quoted, was_missing

INDEXED = 50_000  # samples of a pool whose joined shards are kept on disk
_INDEX_VERSION = 1
_END = ["failed", "missing", "status"]
_RECORDED = "main.samples"
_THREADS = {"threads": 2}
_REGISTRATION = ("url", "urls", "slice", "text", "extra", "width", "height", "bytes")
_ALL_COPIES = "PARTITION BY img_key ORDER BY url ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """How many samples two sets of thresholds keep: `gained` only the other one, `lost` only this one."""

    now: int
    then: int
    gained: int
    lost: int


class Ledger:
    """What lies below a run folder at the moment of the first question. Raises LedgerError if `run` is not one."""

    def __init__(self, run: str | Path) -> None:
        self.run = Path(run)
        self.outline = Outline.from_json(shards.read_json(self.run / "recipe.json"))
        self.source = shards.read_json(self.run / "source.json")
        self._answered: dict[str, bool] = {}
        self._samples = ""  # SQL that takes the place of the table `samples`, where ranks are other than recorded
        self._lock = Lock()  # one question at a time: a page asks from several threads

    def folder(self, segment: str) -> Path:
        """Where a segment's shards lie."""
        return self.run / "ledger" / segment

    def scores(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Every sample, one row per key, ordered by key: its registration, urls, status and scores (or `columns`)."""
        wanted = quoted(columns) if columns is not None else "* EXCLUDE (status_step, judged)"
        return self.query(f"SELECT {wanted} FROM samples ORDER BY img_key")

    def verdicts(self, outline: Outline | None = None) -> pa.Table:
        """One row per key, ordered by key: img_key, url, kept; where dropped also step, column, op, threshold, reason.

        With an `outline` of other thresholds it is a what-if: scores are read, nothing is judged again.
        """
        asked = checks(outline or self.outline)
        table = self.failures(asked, ["url"])
        told = [
            {} if failed is None else _told(asked[failed], missing, status) for failed, missing, status in ends(table)
        ]
        table = table.drop_columns(_END).append_column("kept", pa.array([not words for words in told], pa.bool_()))
        for name in ("step", "column", "op", "threshold", "reason"):
            table = table.append_column(name, pa.array([words.get(name) for words in told], pa.string()))
        return table

    def survivors(self, segment: str | None = None, columns: Sequence[str] = ()) -> pa.Table:
        """img_key and `columns` of the samples that every rule before `segment` keeps (all rules: None), by key."""
        table = self.failures(checks(self.outline, until=segment), [name for name in columns if name != "img_key"])
        return table.filter(table["failed"].is_null()).drop_columns(_END)

    def unscored(self, segment: str) -> pa.Table:
        """img_key, url and slice of the survivors that a later stage segment has not judged yet."""
        table = self.failures(
            checks(self.outline, until=segment), ["url", "slice"], f"NOT {self._is_judged(segment)}"
        )
        return table.filter(table["failed"].is_null()).drop_columns(_END)

    def progress(self, segment: str) -> tuple[int, int]:
        """How many samples every rule before `segment` keeps, and how many of those it has judged."""
        failed = first_failure(checks(self.outline, until=segment), self._types)
        counted = self.query(
            f"SELECT count(*) AS reached, count(*) FILTER ({self._is_judged(segment)}) AS judged "
            f"FROM samples WHERE ({failed}) IS NULL"
        )
        row = counted.to_pylist()[0]
        return row["reached"], row["judged"]

    def tally(self, asked: list[Check]) -> list[tuple[int, bool, str, int]]:
        """Count what `failures` lists: (failed, missing, status, samples) of those that fail a check."""
        failed = first_failure(asked, self._types)
        counted = self.query(
            f"SELECT failed, {was_missing(asked, self._types)} AS missing, status, count(*) AS samples "
            f"FROM (SELECT *, {failed} AS failed FROM samples) WHERE failed IS NOT NULL GROUP BY ALL"
        )
        return [tuple(row.values()) for row in counted.to_pylist()]

    def reduction_input(self, step: StepOutline) -> tuple[pa.Table, str]:
        """What a reduction judges now, and the shard that holds its answer: a hash of that and of its configuration."""
        table = self.survivors(step.segment, [name for name in step.reads if name != "image"])
        return table, short_hash([step.name, step.version, dict(step.config), _digest(table)])

    def unfinished(self) -> str | None:
        """The first step that has not judged every sample it should, None where the run is complete."""
        first, *later = self.outline.segments
        if len(self._files[first]) < self.source["shards"]:
            return self._steps(first)[0].name
        for segment in later:
            step = self._steps(segment)[0]
            reached, judged = (0, 0) if step.is_reduction else self.progress(segment)
            if reached > judged or (step.is_reduction and not self.is_answered(step)):
                return step.name
        return None

    def is_answered(self, step: StepOutline) -> bool:
        """Whether a reduction has judged exactly what the verdicts before it keep now."""
        if step.name not in self._answered:
            _, answer = self.reduction_input(step)
            self._answered[step.name] = [path.stem for path in self._files[step.segment]] == [answer]
        return self._answered[step.name]

    def compare(self, outline: Outline) -> "Difference":
        """Say what other thresholds would keep, from the scores alone."""
        now, then = (first_failure(checks(asked), self._types) for asked in (self.outline, outline))
        counted = self.what_if(outline).query(
            "SELECT count(*) FILTER (now IS NULL) AS now, count(*) FILTER (later IS NULL) AS later, "
            "count(*) FILTER (now IS NOT NULL AND later IS NULL) AS gained, "
            "count(*) FILTER (now IS NULL AND later IS NOT NULL) AS lost "
            f"FROM (SELECT img_key, {now} AS now FROM {_RECORDED}) "
            f"JOIN (SELECT img_key, {then} AS later FROM samples) USING (img_key)"
        )
        row = counted.to_pylist()[0]
        return Difference(now=row["now"], then=row["later"], gained=row["gained"], lost=row["lost"])

    def failures(self, asked: list[Check], columns: Sequence[str], where: str = "true") -> pa.Table:
        """img_key, `columns`, status, and `failed`: the first check that fails, by number; `missing`: no score."""
        failed = first_failure(asked, self._types)
        return self.query(
            f"SELECT {quoted(['img_key', *columns, 'status'])}, failed, {was_missing(asked, self._types)} AS missing "
            f"FROM (SELECT *, {failed} AS failed FROM samples WHERE {where}) ORDER BY img_key"
        )

    def what_if(self, outline: Outline) -> "Ledger":
        """Return this ledger as it would be with the thresholds of `outline`: ranks are given anew.

        A rank follows from a score and from who else is left, so a place that becomes free goes to the next best, as
        it would in a rerun. Clusters of near-duplicates stay as they are.
        """
        top = next((step for step in outline.steps if step.name == Top.name), None)
        if top is None or outline == self.outline:
            return self
        (rank,), (score,) = top.columns, top.reads
        left = f"({first_failure(checks(outline, until=top.segment), self._types)}) IS NULL"
        ranked = f"{left} AND {quoted([score])} IS NOT NULL AND NOT isnan({quoted([score])})"
        other = copy(self)
        other._database = self._database
        other._samples = (
            f"SELECT * EXCLUDE (ranked) REPLACE (CASE WHEN ranked THEN row_number() OVER "
            f"(PARTITION BY ranked ORDER BY {quoted([score])} DESC, img_key) END AS {quoted([rank])}) "
            f"FROM (SELECT *, {ranked} AS ranked FROM {_RECORDED})"
        )
        return other

    def query(self, sql: str, values: Sequence[object] = ()) -> pa.Table:
        """Run SQL over `samples`: one row per key with its registration, urls, status, detail and every score."""
        seen = f"WITH samples AS ({self._samples}) " if self._samples else ""
        with self._lock:
            return self._database.sql(seen + sql, params=list(values)).to_arrow_table()

    @cached_property
    def _types(self) -> dict[str, str]:
        return self.outline.columns

    @cached_property
    def _files(self) -> dict[str, list[Path]]:
        """Segment -> the files that answer for it."""
        return {segment: shards.committed(self.folder(segment)) for segment in self.outline.segments}

    @cached_property
    def _database(self) -> duckdb.DuckDBPyConnection:
        if self.source.get("samples", 0) >= INDEXED:
            with contextlib.suppress(duckdb.Error, OSError):  # a folder that cannot be written: like a small pool
                return duckdb.connect(self._indexed(), read_only=True, config=_THREADS)
        database = duckdb.connect(config=_THREADS)
        self._join(database)
        return database

    def _indexed(self) -> Path:
        """The joined shards as a file, named by what it was made of; readers of older ones keep what they opened."""
        made_of = [_INDEX_VERSION, [[step.name, step.segment, dict(step.columns)] for step in self.outline.steps]]
        made_of += [[segment, [file.stem for file in files]] for segment, files in self._files.items()]
        path = self.run / "index" / f"{short_hash(made_of)}.duckdb"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            temporary = path.with_suffix(f".{os.getpid()}.tmp")
            temporary.unlink(missing_ok=True)
            with duckdb.connect(temporary, config=_THREADS) as database:
                self._join(database)
            os.replace(temporary, path)
            for older in path.parent.glob("*.duckdb"):
                if older != path:
                    older.unlink(missing_ok=True)
        return path

    def _join(self, database: duckdb.DuckDBPyConnection) -> None:
        """Make the table `samples` of the shards of every segment."""
        segments = self.outline.segments
        for index, segment in enumerate(segments):
            self._attach(database, f"segment_{index}", segment)
        single = [index for index, segment in enumerate(segments) if not self._steps(segment)[0].is_reduction]
        statuses = ", ".join(f"nullif(segment_{index}.status, '{OK}')" for index in single)
        details = ", ".join(f"segment_{index}.detail" for index in single)
        cases = " ".join(
            f"WHEN segment_{index}.status <> '{OK}' THEN {self._position(segments[index])}" for index in single
        )
        judged = " + ".join(f"(segment_{index}.img_key IS NOT NULL)::BIGINT * {1 << index}" for index in single)
        joins = " ".join(
            f"LEFT JOIN segment_{index} ON segment_0.img_key = segment_{index}.img_key"
            for index in range(1, len(segments))
        )
        database.execute(
            f"CREATE TABLE samples AS SELECT segment_0.img_key, {quoted([*_REGISTRATION, *self._types])}, "
            f"coalesce({statuses}, '{OK}') AS status, coalesce({details}, NULL) AS detail, "
            f"CASE {cases} END AS status_step, {judged} AS judged FROM segment_0 {joins}"
        )
        for index in range(len(segments)):
            database.execute(f"DROP VIEW segment_{index}")

    def _is_judged(self, segment: str) -> str:
        """SQL that is true where a stage segment has a row for the sample."""
        return f"((judged & {1 << self.outline.segments.index(segment)}) <> 0)"

    def _attach(self, database: duckdb.DuckDBPyConnection, view: str, segment: str) -> None:
        """Make the committed rows of a segment, one per key, a view."""
        files = [str(path).replace("'", "''") for path in self._files[segment]]
        rows = "read_parquet(['" + "', '".join(files) + "'])"
        if not files:
            rows = f"{view}_empty"
            database.register(rows, self._schema(segment).empty_table())
        one = "QUALIFY row_number() OVER (PARTITION BY img_key ORDER BY"
        if segment == self.outline.segments[0]:
            select = (
                f"SELECT *, list(url) OVER ({_ALL_COPIES}) AS urls FROM {rows} {one} status <> '{OK}', url, text) = 1"
            )
        elif self._steps(segment)[0].is_reduction:
            select = f"SELECT * FROM {rows}"
        else:
            select = f"SELECT * FROM {rows} {one} status <> '{OK}') = 1"
        database.execute(f"CREATE VIEW {view} AS {select}")

    def _schema(self, segment: str) -> pa.Schema:
        first = segment == self.outline.segments[0]
        written = {column: kind for step in self._steps(segment) for column, kind in step.columns.items()}
        fields = [pa.field(column, pa.type_for_alias(kind)) for column, kind in written.items()]
        return pa.schema([*(REGISTERED if first else SCORED), *fields])

    def _steps(self, segment: str) -> list[StepOutline]:
        return [step for step in self.outline.steps if step.segment == segment]

    def _position(self, segment: str) -> int:
        return next(position for position, step in enumerate(self.outline.steps) if step.segment == segment)


def ends(failures: pa.Table) -> list[tuple[int | None, bool, str]]:
    """The columns (failed, missing, status) of `Ledger.failures`, row by row."""
    return list(zip(*(failures[name].to_pylist() for name in _END), strict=True))


def _told(check: Check, missing: bool, status: str) -> dict[str, str]:
    words = {"step": check.step, "reason": check.reason(missing, status)}
    if check.rule:
        words |= {"column": check.rule.column, "op": check.rule.op, "threshold": str(check.rule.threshold)}
    return words


def _digest(table: pa.Table) -> str:
    """Hash what a table holds, whatever its chunks and the bytes beneath its nulls."""
    digest = hashlib.sha256()
    for column in table.columns:
        values = column.drop_null()
        digest.update(np.packbits(column.is_valid().to_numpy()))
        if pa.types.is_string(values.type) or pa.types.is_binary(values.type):
            digest.update(pc.binary_length(values).to_numpy())
            digest.update(b"".join(values.cast(pa.binary()).to_pylist()))
        else:
            digest.update(np.ascontiguousarray(values.to_numpy()))
    return digest.hexdigest()
