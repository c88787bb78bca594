"""Run one shard: read, check, judge, commit. Written once, for every engine."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from curation import shards
from curation.engines.spent import DECODING, READING, Spent
from curation.errors import RecipeError
from curation.images import mark_undecodable
from curation.plan import Segment, short_hash
from curation.records import QUARANTINED, REGISTERED, SAMPLE, SCORED, UNDECODABLE
from curation.sources import Slice, Source, Stored
from curation.stages.base import Stage
from curation.verdicts import passing

PIXELS_PER_BATCH = 64_000_000  # a batch of large photographs is cut, so that its pixels stay below 200 MB


@dataclass(frozen=True, kw_only=True)
class Shard:
    """One unit of work and of commit: a segment's stages on a slice of the source. Pickled to a worker.

    `keys`: url -> img_key of the samples that later segments are to judge; None in the first, which registers all.
    `span`: only these of its rows, [start, end): part of a shard that was halved around a row that kills workers.
    """

    segment: Segment
    source: Source
    part: Slice
    keys: dict[str, str] | None
    folder: Path  # the segment's, in the ledger
    span: tuple[int, int] | None = None

    @property
    def id(self) -> str:
        """Hash of slice, stages (their names, versions and configurations are the segment's name), keys and span."""
        return short_hash([self.part.id, self.segment.name, sorted((self.keys or {}).items()), self.span])

    @property
    def place(self) -> Path:
        """Where it is committed: readers of the ledger do not look into `parts`."""
        return self.folder if self.span is None else self.folder / "parts"

    @property
    def rows(self) -> int:
        """How many samples it judges."""
        start, end = self.span or (0, len(self.part.rows) if self.keys is None else len(self.keys))
        return end - start

    @property
    def is_committed(self) -> bool:
        """Whether it was judged before."""
        return shards.is_committed(self.place, self.id)

    def halves(self) -> tuple["Shard", "Shard"]:
        """Split into two parts, which `merge` puts together again."""
        start = self.span[0] if self.span else 0
        middle, end = start + self.rows // 2, start + self.rows
        return replace(self, span=(start, middle)), replace(self, span=(middle, end))


def run_shard(shard: Shard) -> int:
    """Judge and commit a shard, unless it is committed; return its rows. Stages are opened once per worker."""
    if not shard.is_committed:
        spent = Spent()
        commit(shard, judge(shard, spent), spent)
    return shard.rows


def judge(shard: Shard, spent: Spent) -> pa.Table:
    """Return the shard's rows with every column of its stages, and the images where the source keeps downloads.

    What it cost goes to `spent`.
    """
    stages = open_stages(shard.segment)
    reads = {name for stage in stages for name in (stage.reads or ("image",))}
    judged = []
    with spent.on(READING):
        table = read(shard)
    for batch in batches(table, shard.segment.resources.batch):
        if reads & {"image", "gray"}:
            # Where stages read both, a JPEG is decoded twice: gray made of the colour pixels differs from the reduced
            # decode, and a score must not depend on which stages share its segment.
            with spent.on(DECODING):
                batch = mark_undecodable(batch, gray="image" not in reads)
        for stage in stages:
            with spent.on(stage.name):
                batch = _checked(stage, batch, stage(batch))
        judged.append(batch if _is_kept(shard) else batch.drop_columns("image"))
    return pa.concat_tables(judged)


def read(shard: Shard) -> pa.Table:
    """Read the samples of a shard, in the source's order. One that is not what it was is undecodable now."""
    start, end = shard.span or (0, shard.rows)
    if shard.keys is None:
        return shard.source.read(replace(shard.part, rows=shard.part.rows[start:end]))
    keys = dict(list(shard.keys.items())[start:end])
    table = shard.source.read(shard.part, keys)
    table = table.filter(pa.array([keys[url] == key for url, key in _places(table)], pa.bool_()))
    found = set(table["img_key"].to_pylist())
    gone = [
        {"img_key": key, "url": url, "status": UNDECODABLE, "detail": GONE}
        for url, key in keys.items()
        if key not in found
    ]
    return pa.concat_tables([table, pa.Table.from_pylist(gone, SAMPLE)])


def batches(table: pa.Table, rows: int) -> Iterator[pa.Table]:
    """Cut into batches of at most `rows` rows and, by their headers, about `PIXELS_PER_BATCH` pixels."""
    start, pixels = 0, 0
    sizes = zip(table["width"].to_pylist(), table["height"].to_pylist(), strict=True)
    for position, (width, height) in enumerate(sizes):
        area = (width or 0) * (height or 0)
        if position > start and (position - start == rows or pixels + area > PIXELS_PER_BATCH):
            yield table.slice(start, position - start)
            start, pixels = position, 0
        pixels += area
    yield table.slice(start)


def open_stages(segment: Segment) -> tuple[Stage, ...]:
    """Open a segment's stages, once per worker; those of an earlier segment are let go."""
    if segment.name not in _opened:
        _opened.clear()
        for stage in segment.judges:
            stage.open()
        _keep_to_one_thread()
        _opened[segment.name] = segment.judges
    return _opened[segment.name]


def check_opening(segment: Segment) -> None:
    """Open a segment's stages and return nothing: a task that finds out whether a worker can."""
    open_stages(segment)


def commit(shard: Shard, table: pa.Table, spent: Spent | None = None) -> None:
    """Write the shard without its images; the first segment registers the samples, later ones keep keys and scores."""
    written = [column for stage in shard.segment.judges for column in stage.writes.names]
    if _is_kept(shard):
        rules = [rule for step in shard.segment.steps for rule in step.rules]
        start, _ = shard.span or (0, 0)
        shard.source.keep(shard.part, start, passing(table, rules).select(SAMPLE.names))
    if shard.keys is None:
        table = table.append_column("slice", pa.array([shard.part.id] * table.num_rows, pa.string()))
    known = REGISTERED if shard.keys is None else SCORED
    told = spent.to_json() | {"bytes": pc.sum(table["bytes"]).as_py() or 0} if spent else {}
    shards.commit(shard.place, shard.id, table.select([*known.names, *written]), told)


def merge(shard: Shard) -> None:
    """Commit a shard from its two committed halves, and remove those."""
    halves = [(half.place, half.id) for half in shard.halves()]
    tables = [pq.read_table(folder / f"{name}.parquet") for folder, name in halves]
    shards.commit(shard.place, shard.id, pa.concat_tables(tables))
    for folder, name in halves:
        (folder / f"{name}.done").unlink()
        (folder / f"{name}.parquet").unlink()


def quarantine(shard: Shard, reason: str) -> list[str]:
    """Commit a shard without judging it: its rows get the status "quarantined" and no scores. Returns their urls."""
    table = read(shard)
    for name, value in (("status", QUARANTINED), ("detail", reason)):
        position = table.schema.get_field_index(name)
        table = table.set_column(position, SAMPLE.field(name), pa.array([value] * table.num_rows, pa.string()))
    for stage in shard.segment.judges:
        for field in stage.writes:
            table = table.append_column(field, pa.nulls(table.num_rows, field.type))
    commit(shard, table)
    return table["url"].to_pylist()


def _is_kept(shard: Shard) -> bool:
    """Whether the images that pass are to be stored beside the ledger: downloads, where they are first judged."""
    return shard.keys is None and isinstance(shard.source, Stored)


GONE = "changed or gone since this run began"
_opened: dict[str, tuple[Stage, ...]] = {}


def _places(table: pa.Table) -> Iterator[tuple[str, str]]:
    return zip(table["url"].to_pylist(), table["img_key"].to_pylist(), strict=True)


def _checked(stage: Stage, before: pa.Table, after: pa.Table) -> pa.Table:
    """Hold a stage to its promise: the same rows, and the columns it said."""
    if after["img_key"].to_pylist() != before["img_key"].to_pylist():
        raise RecipeError(f"stage {stage.name} did not return the {before.num_rows} rows it was given, in their order")
    for field in stage.writes:
        if field.name not in after.column_names or after.schema.field(field.name).type != field.type:
            raise RecipeError(f"stage {stage.name} did not write the column {field.name} as {field.type}")
    return after


def _keep_to_one_thread() -> None:
    """Workers are as many as cores; libraries that came with a stage would multiply that."""
    if "cv2" in sys.modules:
        sys.modules["cv2"].setNumThreads(1)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
