"""What a pool of any size would cost: measured rates, times the samples that reach each segment.

Nothing is known of hardware but what was measured on this machine or is declared by whoever asks.
"""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from curation import rates as rates_of
from curation.errors import RecipeError
from curation.explain import funnel
from curation.ledger import Ledger
from curation.plan import Outline, Recipe
from curation.rates import REDUCED_ROWS, Rates
from curation.sources import open_source

# Figure 2 of the paper: what is left of the pool before a step of this name.
PAPER_REACHED = {"duplicates": 1e9 / 1e10, "impact": 3e8 / 1e10}
FROM_RUN = (
    "rates: CPU seconds of the run's workers, from its markers; what a GPU did for them is not in them",
    "reductions and memory: not in the markers, so not in this plan",
    "shares of the pool: from the run's funnel",
)


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
            rates_of.write_noise(Path(folder), pictures, side=rates_of.picture_side(recipe.outline))
        rates = rates_of.measure(recipe, open_source(source or folder), pictures)
    on = f"{pictures} pictures of {source or 'noise, generated'}"
    costed = costs(recipe.outline, rates, PAPER_REACHED, samples, hardware)
    return Plan(costs=tuple(costed), rates=tuple(rates), assumptions=(*measured_on(on), *assumptions(hardware)))


def plan_of_run(run: str | Path, samples: float, hardware: Hardware) -> Plan:
    """Take rates and shares of the pool from a finished run. Raises LedgerError if it tells no rates."""
    ledger = Ledger(run)
    rates = rates_of.of_run(ledger)
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
