"""What one sample costs each segment: measured on a few pictures here and now, or remembered by a finished run.

Every segment is measured in a process of its own, with its real stages. A GPU is never measured.
"""

import os
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from curation import shards
from curation.engines.base import Shard, judge
from curation.engines.spent import Spent
from curation.engines.worker import birth
from curation.errors import LedgerError, RecipeError
from curation.images import to_jpeg
from curation.ledger import Ledger
from curation.plan import Outline, Recipe, Segment
from curation.records import SAMPLE, img_key
from curation.sources import Source
from curation.stages.base import Reduction

WARM_UP = 2  # pictures that are judged first and not counted
REDUCED_ROWS = 80_000  # random rows that a reduction is measured on
NOISE_AREA = 512 * 512  # pixels of generated pictures, where the recipe does not ask for any


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What one sample costs a segment: CPU seconds of one core by part, bytes read; bytes of memory of a worker.

    A reduction's memory is that of one sample, since it holds all of them. None: not measured.
    """

    title: str
    seconds: Mapping[str, float]
    bytes: float
    memory: float | None
    is_reduction: bool


def of_run(ledger: Ledger) -> list[Rates]:
    """Read the rates of a run from its markers. Raises LedgerError if they tell none."""
    return [_of_segment(ledger, segment) for segment in ledger.outline.segments]


def measure(recipe: Recipe, source: Source, pictures: int) -> list[Rates]:
    """Judge a few pictures of a pool with every stage, whatever the verdicts, and random rows with every reduction.

    Raises what the stages raise, and RecipeError for too small a pool.
    """
    part = source.slices(pictures)[0]
    if len(part.rows) <= WARM_UP:
        raise RecipeError(f"{len(part.rows)} pictures are too few to measure on: give a source of more")
    kinds = {field.name: str(field.type) for field in SAMPLE} | recipe.outline.columns
    found: list[Rates] = []
    for segment in recipe.segments:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=_hide_gpus) as process, birth():
            if segment.is_reduction:
                columns = {name: kinds[name] for name in segment.judges[0].reads}
                found.append(process.submit(reduction_rates, segment, columns).result())
            else:
                shard = Shard(segment=segment, source=source, part=part, keys=None, folder=Path())
                found.append(process.submit(stage_rates, shard).result())
    return found


def stage_rates(shard: Shard) -> Rates:
    """Judge a shard in this process, after a few pictures that wake its models."""
    judge(replace(shard, span=(0, WARM_UP)), Spent())
    spent, rows = Spent(), shard.rows - WARM_UP
    table = judge(replace(shard, span=(WARM_UP, shard.rows)), spent)
    read = sum(size or 0 for size in table["bytes"].to_pylist()) / rows
    seconds = {part: total / rows for part, total in spent.seconds.items()}
    return Rates(title=shard.segment.title, seconds=seconds, bytes=read, memory=_peak(), is_reduction=False)


def reduction_rates(segment: Segment, columns: Mapping[str, str], rows: int = REDUCED_ROWS) -> Rates:
    """Run a reduction in this process on random rows of `columns` (name -> arrow type), pictures of noise behind."""
    reduction = segment.judges[0]
    assert isinstance(reduction, Reduction)
    reduction.open(lambda key: noise(int(key[:8], 16)))
    reduction(_random_rows(columns, rows // 4))  # first-time costs, and what it holds whatever the rows
    few, table = _peak(), _random_rows(columns, rows)
    start = time.process_time()
    reduction(table)
    spent, many = {reduction.name: (time.process_time() - start) / rows}, _peak()
    memory = None if few is None or many is None else table.nbytes / rows + (many - few) / (rows - rows // 4)
    return Rates(title=segment.title, seconds=spent, bytes=0.0, memory=memory, is_reduction=True)


def write_noise(folder: Path, pictures: int, *, side: int) -> None:
    """Write files of noise."""
    for number in range(pictures):
        (folder / f"{number:06d}.jpg").write_bytes(noise(number, side))


def noise(seed: int, side: int = 64) -> bytes:
    """Return a JPEG of coarse noise, `side` pixels wide and high: about as busy as a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-side // 4), -(-side // 4), 3), dtype=np.uint8)
    return to_jpeg(coarse.repeat(4, 0).repeat(4, 1)[:side, :side], quality=90)


def picture_side(outline: Outline) -> int:
    """Pixels: a tenth more than the side of a square that the recipe's rule on area just keeps."""
    areas = [rule.threshold for step in outline.steps for rule in step.rules if rule.column == "area"]
    return round(1.1 * max(areas, default=NOISE_AREA) ** 0.5)


def _of_segment(ledger: Ledger, segment: str) -> Rates:
    steps = [step for step in ledger.outline.steps if step.segment == segment]
    title = ", ".join(step.name for step in steps)
    if steps[0].is_reduction:
        return Rates(title=title, seconds={}, bytes=0.0, memory=None, is_reduction=True)
    told = [shards.read_json(path.with_suffix(".done")) for path in shards.committed(ledger.folder(segment))]
    told = [marker for marker in told if "cpu_seconds" in marker]
    rows = sum(marker["rows"] for marker in told)
    if not rows:
        raise LedgerError(f"{ledger.run} does not tell what {title} cost; measure with --source instead of --run")
    parts = dict.fromkeys(part for marker in told for part in marker["cpu_seconds"])
    seconds = {part: sum(marker["cpu_seconds"].get(part, 0.0) for marker in told) / rows for part in parts}
    read = sum(marker["bytes"] for marker in told) / rows
    return Rates(title=title, seconds=seconds, bytes=read, memory=None, is_reduction=False)


def _random_rows(columns: Mapping[str, str], rows: int) -> pa.Table:
    draw = np.random.default_rng(0)
    table: dict[str, Any] = {"img_key": sorted(img_key(str(row).encode()) for row in range(rows))}
    for name, kind in columns.items():
        if kind == "binary":
            table[name] = pa.array([draw.bytes(64) for _ in range(rows)])
        else:
            values = draw.random(rows) if kind in ("float", "double") else draw.integers(0, 1 << 62, rows) * 4
            table[name] = pa.array(values).cast(pa.type_for_alias(kind), safe=False)
    return pa.table(table)


def _hide_gpus() -> None:
    """In a new process, before anything that asks: what is measured is a core."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _peak() -> float | None:
    """The most memory that this process has held, bytes; None where the system does not say."""
    try:
        status = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(float(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
