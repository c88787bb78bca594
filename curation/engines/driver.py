"""A run from beginning to end, whatever the engine: bind the folder, cut the work, pass the barriers."""

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa

from curation import shards
from curation.engines.base import GONE, Shard
from curation.engines.progress import Progress
from curation.errors import LedgerError, RecipeError
from curation.ledger import Ledger
from curation.plan import Outline, Recipe, Segment
from curation.records import SAMPLE, img_key
from curation.sources import Slice, Source, open_source, stored
from curation.stages.base import Reduction

ROWS_PER_SHARD = 256
BYTES_PER_SHARD = 128 << 20  # of files, which a worker holds at once
SHARDS_PER_POOL = 16  # small pools are cut finer, so that all workers are busy and little is lost to a kill
Execute = Callable[[Segment, list[Shard]], None]


def drive(recipe: Recipe, source: str | Path | Source, out: str | Path, execute: Execute, progress: Progress) -> Ledger:
    """Run a recipe on a source, writing below `out`; what an earlier run committed there is not repeated.

    `execute(segment, shards)` runs shards and reports each to `progress`. Raises SourceError, LedgerError, and
    RecipeError where `out` belongs to another pool or recipe; other thresholds are welcome.
    """
    out = Path(out)
    opened = stored(source if isinstance(source, Source) else open_source(source), out)
    rows = bind(out, recipe, opened)
    parts = {part.id: part for part in opened.slices(rows)}
    for segment in recipe.segments:
        if segment.is_reduction:
            reduce(segment, Ledger(out), image_reader(Ledger(out), opened), progress)
        else:
            total, pending = todo(segment, Ledger(out), opened, parts)
            progress.begin(segment.title, total, total - sum(shard.rows for shard in pending))
            execute(segment, pending)
            progress.end()
    return Ledger(out)


def bind(out: Path, recipe: Recipe, source: Source) -> int:
    """Make `out` the folder of this recipe and source, or check that it is; return the rows per shard."""
    outline = recipe.outline.resolved(len(source))
    rows = rows_per_shard(source)
    identity = source.identity()
    if (out / "recipe.json").exists():
        difference = outline.difference(Outline.from_json(shards.read_json(out / "recipe.json")))
        if difference:
            raise RecipeError(f"{out} was begun with another recipe ({difference}); choose another folder")
        before = shards.read_json(out / "source.json")
        if before["listing"] != identity["listing"]:
            raise RecipeError(
                f"{out} was begun with another pool: {before['samples']} files below {before['location']} then, "
                f"{identity['samples']} below {identity['location']} now; choose another folder"
            )
        rows = before["rows_per_shard"]
    _write_json(out / "source.json", identity | {"rows_per_shard": rows, "shards": len(source.slices(rows))})
    _write_json(out / "recipe.json", outline.to_json())
    return rows


def rows_per_shard(source: Source) -> int:
    """Return how many rows a worker reads at once: fewer of large files, and few of a small pool."""
    held = int(BYTES_PER_SHARD / max(1.0, source.mean_bytes()))
    return max(1, min(ROWS_PER_SHARD, held, -(-len(source) // SHARDS_PER_POOL)))


def todo(segment: Segment, ledger: Ledger, source: Source, parts: dict[str, Slice]) -> tuple[int, list[Shard]]:
    """Return how many samples a stage segment judges, and the shards that are not committed yet."""
    folder = ledger.folder(segment.name)
    if segment.name == ledger.outline.segments[0]:
        first = [Shard(segment=segment, source=source, part=part, keys=None, folder=folder) for part in parts.values()]
        return len(source), [shard for shard in first if not shard.is_committed]
    keys: dict[str, dict[str, str]] = {}
    for row in ledger.unscored(segment.name).sort_by("url").to_pylist():
        keys.setdefault(row["slice"], {})[row["url"]] = row["img_key"]
    later = [
        Shard(segment=segment, source=source, part=part, keys=keys[name], folder=folder)
        for name, part in parts.items()
        if name in keys
    ]
    return len(ledger.survivors(segment.name)), later


def reduce(segment: Segment, ledger: Ledger, read_image: Callable[[str], bytes], progress: Progress) -> None:
    """Judge what the verdicts so far kept, in this process, unless the same question was answered before."""
    judge = segment.steps[0].judge
    step = next(step for step in ledger.outline.steps if step.segment == segment.name)
    table, answer = ledger.reduction_input(step)
    folder = ledger.folder(segment.name)
    is_answered = shards.is_committed(folder, answer)
    progress.begin(segment.title, len(table), len(table) if is_answered else 0)
    if not is_answered:
        shards.commit(folder, answer, _answer(judge, table, read_image))
        progress.advance(len(table))
    shards.point_at(folder, answer)
    progress.end()


def image_reader(ledger: Ledger, source: Source) -> Callable[[str], bytes]:
    """Return `read(img_key) -> image bytes`. It raises LedgerError where the file is no longer what it was."""
    places = {row["img_key"]: row for row in ledger.scores(["img_key", "url", "slice"]).to_pylist()}
    parts = {part.id: part for part in source.slices(ledger.source["rows_per_shard"])}

    def read(key: str) -> bytes:
        place = places[key]
        image = source.read(parts[place["slice"]], {place["url"]})["image"].to_pylist()
        if not image or image[0] is None or img_key(image[0]) != key:
            raise LedgerError(f"{place['url']} is {GONE}")
        return image[0]

    return read


def _answer(judge: Reduction, table: pa.Table, read_image: Callable[[str], bytes]) -> pa.Table:
    names = ["img_key", *judge.writes.names]
    if not len(table):
        return pa.schema([SAMPLE.field("img_key"), *judge.writes]).empty_table()
    judge.open(read_image)
    answer = judge(table)
    if answer["img_key"].to_pylist() != table["img_key"].to_pylist():
        raise RecipeError(f"reduction {judge.name} did not return the {len(table)} rows it was given, in their order")
    return answer.select(names)


def _write_json(path: Path, values: dict) -> None:
    shards.write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())
