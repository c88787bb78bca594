"""What a pool of any size would cost: rates that were measured, times the samples that reach each segment.

Rates come from a finished run's markers or from a few pictures judged here and now, each segment in a process of its
own. Nothing is known of hardware but what was measured on this machine or is declared by whoever asks.
"""

import os
import platform
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa

from curation import shards
from curation.engines.base import Shard, judge
from curation.engines.spent import Spent
from curation.engines.worker import birth
from curation.errors import LedgerError, RecipeError
from curation.explain import funnel
from curation.images import to_jpeg
from curation.ledger import Ledger
from curation.plan import Outline, Recipe, Segment
from curation.records import SAMPLE, img_key
from curation.sources import Source, open_source
from curation.stages.base import Reduction

# Figure 2 of the paper: what is left of the pool before a step of this name.
PAPER_REACHED = {"duplicates": 1e9 / 1e10, "impact": 3e8 / 1e10}
WARM_UP = 2  # pictures that are judged first and not counted
REDUCED_ROWS = 20_000  # random rows that a reduction is measured on
NOISE_AREA = 512 * 512  # pixels of generated pictures, where the recipe does not ask for any
FROM_RUN = (
    "rates: CPU seconds of the run's workers, from its markers; what a GPU did for them is not in them",
    "reductions and memory: not in the markers, so not in this plan",
    "shares of the pool: from the run's funnel",
)


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


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """What is declared. `gpu_speed`: one GPU's speed with networks, in cores of the machine that was measured."""

    cores: int | None = None
    gpus: int | None = None
    gpu_speed: float | None = None
    bandwidth: float | None = None  # bytes a second, of all readers together

    def __post_init__(self) -> None:
        if (self.gpus is None) != (self.gpu_speed is None):
            raise RecipeError(
                "GPUs need both their number and their speed in cores of this machine, measured by you: "
                "--gpus N --gpu-speed X"
            )


@dataclass(frozen=True, kw_only=True)
class Cost:
    """One segment's share. `hours`: wall time at least, None where no hardware was declared that bounds it."""

    title: str
    samples: float
    core_hours: float
    gpu_hours: float
    bytes: float
    memory: float | None  # of a worker; of the one process of a reduction
    hours: float | None

    def figures(self) -> tuple[float | None, ...]:
        """Samples, core hours, GPU hours, terabytes read, gigabytes held, hours."""
        held = None if self.memory is None else self.memory / 1e9
        return self.samples, self.core_hours, self.gpu_hours, self.bytes / 1e12, held, self.hours


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a pool would cost, segment by segment, what was measured, and what the figures rest on."""

    costs: tuple[Cost, ...]
    rates: tuple[Rates, ...]
    assumptions: tuple[str, ...]

    def totals(self) -> tuple[float | None, ...]:
        """The same figures as a cost's, of the whole; no sum where there is none to make."""
        hours = [cost.hours for cost in self.costs]
        return (
            None,
            sum(cost.core_hours for cost in self.costs),
            sum(cost.gpu_hours for cost in self.costs),
            sum(cost.bytes for cost in self.costs) / 1e12,
            None,
            None if None in hours else sum(hours),
        )

    def to_json(self) -> dict[str, Any]:
        """Return this plan as JSON values."""
        return asdict(self)


def plan(recipe: Recipe, source: str | None, pictures: int, samples: float, hardware: Hardware) -> Plan:
    """Measure a recipe on pictures of `source`, or on noise as large as it keeps, with the paper's shares.

    Raises what `measure` raises, and SourceError.
    """
    with TemporaryDirectory() as folder:
        if source is None:
            write_noise(Path(folder), pictures, side=picture_side(recipe.outline))
        rates = measure(recipe, open_source(source or folder), pictures)
    on = f"{pictures} pictures of {source or 'noise, generated'}"
    costed = costs(recipe.outline, rates, PAPER_REACHED, samples, hardware)
    return Plan(costs=tuple(costed), rates=tuple(rates), assumptions=(*measured_on(on), *assumptions(hardware)))


def plan_of_run(run: str | Path, samples: float, hardware: Hardware) -> Plan:
    """Take rates and shares of the pool from a finished run. Raises LedgerError if it tells no rates."""
    ledger = Ledger(run)
    rates = [_rates_of_segment(ledger, segment) for segment in ledger.outline.segments]
    rows = funnel(ledger)
    reached = {row.step: row.entered / rows[0].entered for row in rows[1:]}
    costed = costs(ledger.outline, rates, reached, samples, hardware)
    return Plan(costs=tuple(costed), rates=tuple(rates), assumptions=(*FROM_RUN, *assumptions(hardware)))


def costs(
    outline: Outline, rates: Sequence[Rates], reached: Mapping[str, float], samples: float, hardware: Hardware
) -> list[Cost]:
    """Return what each segment costs. `reached`: share of the pool before a step, by name; later ones have no more."""
    found: list[Cost] = []
    share, most = 1.0, samples
    for segment, rate in zip(outline.segments, rates, strict=True):
        steps = [step for step in outline.steps if step.segment == segment]
        share = min(share, reached.get(steps[0].name, share))
        entering = min(share * samples, most)
        found.append(_cost(rate, _networks(outline), entering, hardware))
        for rule in (rule for step in steps for rule in step.rules if rule.column == "impact_rank"):
            most = max(1.0, rule.threshold * samples) if rule.of_pool else float(rule.threshold)
    return found


def _cost(rate: Rates, networks: set[str], samples: float, hardware: Hardware) -> Cost:
    on_gpu = networks if hardware.gpus else set()
    core_hours = sum(seconds for part, seconds in rate.seconds.items() if part not in on_gpu) * samples / 3600
    gpu_hours = sum(seconds for part, seconds in rate.seconds.items() if part in on_gpu) * samples / 3600
    gpu_hours /= hardware.gpu_speed or 1.0
    moved = rate.bytes * samples
    cores = 1 if rate.is_reduction else hardware.cores  # a reduction runs in one process
    bounds = [
        (core_hours, cores),
        (gpu_hours, hardware.gpus),
        (moved / 3600, hardware.bandwidth),
    ]
    hours = [work / units for work, units in bounds if units]
    return Cost(
        title=rate.title,
        samples=samples,
        core_hours=core_hours,
        gpu_hours=gpu_hours,
        bytes=moved,
        memory=rate.memory * samples if rate.is_reduction and rate.memory is not None else rate.memory,
        hours=max(hours) if hardware.cores and hours else None,
    )


def _networks(outline: Outline) -> set[str]:
    """The steps that run a network of their own: their configuration names its weights."""
    configured = {step.name: step.config.keys() for step in outline.steps}
    return {name for name, keys in configured.items() if keys & {"model", "calibration"} and "endpoint" not in keys}


def _rates_of_segment(ledger: Ledger, segment: str) -> Rates:
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
    reduction(_random_rows(columns, 100))  # imports and first-time costs
    table = _random_rows(columns, rows)
    before, start = _peak(forget=True), time.process_time()
    reduction(table)
    spent = {reduction.name: (time.process_time() - start) / rows}
    after = _peak()
    memory = None if before is None or after is None else (after - before + table.nbytes) / rows
    return Rates(title=segment.title, seconds=spent, bytes=0.0, memory=memory, is_reduction=True)


def noise(seed: int, side: int = 64) -> bytes:
    """Return a JPEG of coarse noise, `side` pixels wide and high: about as busy as a photograph."""
    coarse = np.random.default_rng(seed).integers(0, 256, (-(-side // 4), -(-side // 4), 3), dtype=np.uint8)
    return to_jpeg(coarse.repeat(4, 0).repeat(4, 1)[:side, :side], quality=90)


def write_noise(folder: Path, pictures: int, *, side: int) -> None:
    """Write files of noise."""
    for number in range(pictures):
        (folder / f"{number:06d}.jpg").write_bytes(noise(number, side))


def picture_side(outline: Outline) -> int:
    """Pixels: a tenth more than the side of a square that the recipe's rule on area just keeps."""
    areas = [rule.threshold for step in outline.steps for rule in step.rules if rule.column == "area"]
    return round(1.1 * max(areas, default=NOISE_AREA) ** 0.5)


def measured_on(pictures: str) -> list[str]:
    """Say what measured rates rest on."""
    return [
        f"rates: CPU seconds of one core of this machine ({platform.machine()}), one thread, no GPU, on {pictures}",
        f"reductions: on {REDUCED_ROWS:,} random rows, taken to grow in proportion; the search for pairs grows faster",
        "shares of the pool: at most 10% reach duplicates and 3% impact (paper, Figure 2)",
    ]


def assumptions(hardware: Hardware) -> list[str]:
    """Say what every plan rests on."""
    told = [
        "every stage of a segment judges every sample that enters it; each segment reads its pictures again",
        "nothing is judged or downloaded twice; GB held: by each worker, or by the one process of a reduction",
    ]
    if hardware.gpus:
        told.append(f"a GPU does the networks at {hardware.gpu_speed:g} times such a core (declared, not measured)")
    if hardware.cores:
        told.append("hours, at least: reading, cores and GPUs overlap perfectly; a reduction has one core")
    return told


def _random_rows(columns: Mapping[str, str], rows: int) -> pa.Table:
    draw = np.random.default_rng(0)
    table: dict[str, Any] = {"img_key": sorted(img_key(str(row).encode()) for row in range(rows))}
    for name, kind in columns.items():
        values = draw.random(rows) if kind in ("float", "double") else draw.integers(0, 1 << 62, rows) * 4
        table[name] = pa.array(values).cast(pa.type_for_alias(kind), safe=False)
    return pa.table(table)


def _hide_gpus() -> None:
    """In a new process, before anything that asks: what is measured is a core."""
    os.environ["CUDA_VISIBLE_DEVICES"] = ""


def _peak(*, forget: bool = False) -> float | None:
    """The most memory that this process has held, bytes; from now on with `forget`. None where no one counts it."""
    try:
        if forget:
            Path("/proc/self/clear_refs").write_text("5")
        status = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next(float(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM:"))
