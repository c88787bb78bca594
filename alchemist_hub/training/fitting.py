"""Which settings fine-tune a model on a given card: from the fastest to the leanest, the first that fit."""

import math
from collections.abc import Iterator
from dataclasses import fields, replace

from rich.console import Console

from alchemist_hub.errors import TrainingError
from alchemist_hub.models import ModelSpec
from alchemist_hub.training.memory import GiB, Plan, Settings, gib, plan_of, standing_of, table
from alchemist_hub.training.recipes import TrainingRecipe

# Left free on a card: the CUDA context, the workspace of kernels, and what the allocator cannot use. Our choice.
RESERVE_FIXED, RESERVE_SHARE = 2 * GiB, 0.05
_MORE_PROCESSES = (2, 4, 8, 16)


def fitting(
    spec: ModelSpec, gpu_memory: int, *, size: int | None = None, micro_batch_size: int = 1, processes: int = 1
) -> Plan:
    """Return the plan of the fastest settings that fit cards of `gpu_memory` bytes, all but the reserve.

    Raises `TrainingError` when even the leanest do not fit, with what they need and what would do.
    """
    free = usable(gpu_memory)
    start = Settings(size=size or spec.size, micro_batch_size=micro_batch_size, processes=processes)
    for settings in ladder(start):
        # Only what could fit without activations is worth measuring.
        if standing_of(spec, settings).peak <= free and (found := plan_of(spec, settings)).peak <= free:
            return found
    raise TrainingError(_refusal(spec, gpu_memory, plan_of(spec, settings)))


def usable(gpu_memory: int) -> int:
    """Return how many of a card's bytes may be planned for."""
    return max(0, int(gpu_memory * (1 - RESERVE_SHARE)) - RESERVE_FIXED)


def ladder(start: Settings) -> Iterator[Settings]:
    """Yield settings from the fastest to the leanest; the ones that change the result, 16-bit weights, come last."""
    autocast = replace(start, mixed_precision="bf16")
    checkpointing = replace(autocast, gradient_checkpointing=True)
    average_on_host = replace(checkpointing, average_on="host")
    yield from (start, autocast, checkpointing)
    yield from _smaller(average_on_host)
    yield from _smaller(replace(average_on_host, weights="bfloat16", optimizer="adamw8bit"))


def settings_of(recipe: TrainingRecipe, spec: ModelSpec, processes: int) -> Settings:
    """Return what a recipe says about memory."""
    named = {field.name: getattr(recipe, field.name) for field in fields(Settings) if hasattr(recipe, field.name)}
    pictures = recipe.micro_batch_size or max(1, recipe.batch_size // processes)
    return Settings(
        **named
        | {"size": recipe.size or spec.size, "micro_batch_size": pictures, "processes": processes}
        | {"accumulates": recipe.batch_size > pictures * processes}
    )


def admit(recipe: TrainingRecipe, spec: ModelSpec, gpu_memory: int, *, processes: int = 1) -> Plan:
    """Return the plan of a recipe on cards of `gpu_memory` bytes.

    Raises `TrainingError` where it does not fit, with the nearest settings that do, as the command line takes them.
    """
    asked = plan_of(spec, settings_of(recipe, spec, processes))
    if asked.peak <= usable(gpu_memory):
        return asked
    settings = asked.settings
    nearest = fitting(
        spec, gpu_memory, size=settings.size, micro_batch_size=settings.micro_batch_size, processes=processes
    )
    changed = [
        f"--set {field.name}={str(getattr(nearest.settings, field.name)).lower()}"
        for field in fields(Settings)
        if hasattr(recipe, field.name) and getattr(nearest.settings, field.name) != getattr(settings, field.name)
    ]
    raise TrainingError(
        f"{spec.key} as asked needs {gib(asked.peak)} of {gib(gpu_memory)}, of which {gib(usable(gpu_memory))} may be "
        f"planned for; {gib(nearest.peak)} with {' '.join(changed)}"
    )


def show_plan(recipe: TrainingRecipe, spec: ModelSpec, gpu_memory: int, *, processes: int = 1) -> Plan:
    """Print what a recipe takes on cards of `gpu_memory` bytes, and return it. Errors as `admit`."""
    console = Console()
    with console.status("measuring activations"):
        found = admit(recipe, spec, gpu_memory, processes=processes)
    console.print(f"{spec.name} at {found.settings.size} px: {found.settings}")
    console.print(table(found))
    console.print(f"of {gib(gpu_memory)}, {gib(usable(gpu_memory))} may be planned for; the rest is a reserve")
    return found


def _smaller(settings: Settings) -> Iterator[Settings]:
    yield settings
    while settings.micro_batch_size > 1:
        settings = replace(settings, micro_batch_size=settings.micro_batch_size // 2)
        yield settings


def _refusal(spec: ModelSpec, gpu_memory: int, leanest: Plan) -> str:
    card = math.ceil((leanest.peak + RESERVE_FIXED) / (1 - RESERVE_SHARE) / GiB)
    advice = f"use a card of {card} GiB"
    for count in _MORE_PROCESSES:
        more = replace(leanest.settings, processes=count)
        if count > leanest.settings.processes and plan_of(spec, more).peak <= usable(gpu_memory):
            advice += f" or {count} of these"
            break
    return (
        f"{spec.key} at {leanest.settings.size} px does not fit {gib(gpu_memory)}, of which {gib(usable(gpu_memory))} "
        f"may be planned for: the leanest settings ({leanest.settings}) need {gib(leanest.peak)}; {advice}"
    )
