"""The memory that a fine-tune needs, planned before anything is loaded.

What lasts from step to step (weights, gradients, optimiser, average) follows from the parameters; activations are
measured on a denoiser without memory (activations.py). Bytes throughout; GiB = 2^30.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, Literal

import torch
from diffusers import ModelMixin
from rich.table import Table

from alchemist_hub.errors import TrainingError
from alchemist_hub.models import ModelSpec
from alchemist_hub.training.activations import Activations, Attention, measure
from alchemist_hub.training.architectures import architecture, inputs, new_denoiser

GiB = 2**30

_BLOCK = 256  # values that share one float32 scale in the 8-bit optimiser
_WHOLE_BLOCKS = 16 * _BLOCK  # elements that a moment in 8 bits comes in, so that up to 16 processes can share it
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides the memory of a fine-tune, by the names that a training recipe has for it."""

    size: int  # pixels, the side of a square; buckets have about its area
    micro_batch_size: int = 1  # pictures per forward pass and process
    weights: Literal["float32", "bfloat16"] = "float32"
    mixed_precision: Literal["no", "bf16"] = "no"
    optimizer: Literal["adamw", "adamw8bit"] = "adamw"
    average_on: Literal["device", "host", "none"] = "device"  # the average is float32 everywhere
    gradient_checkpointing: bool = False
    attention: Attention = "sdpa"
    accumulates: bool = True  # several micro-batches a step: gradients of one wait while the next is computed
    processes: int = 1  # sharing weights, gradients, optimiser and average (FSDP)

    @property
    def dtype(self) -> torch.dtype:
        """The type of weights and gradients."""
        return getattr(torch, self.weights)

    def __str__(self) -> str:
        """The settings as people say them."""
        parts = [f"{self.weights} weights"]
        parts += ["bf16 autocast"] if self.mixed_precision == "bf16" else []
        parts += [{"adamw": "AdamW", "adamw8bit": "8-bit AdamW"}[self.optimizer]]
        parts += [{"device": "EMA on the device", "host": "EMA in host memory", "none": "no EMA"}[self.average_on]]
        parts += ["gradient checkpointing"] if self.gradient_checkpointing else []
        parts += [f"micro-batch {self.micro_batch_size}"]
        return ", ".join(parts + ([f"{self.processes} processes"] if self.processes > 1 else []))


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Bytes on each device, each row at its own fullest moment, and in host memory."""

    settings: Settings
    weights: int  # and buffers
    gradients: int
    optimizer: int
    average: int
    activations: int
    transient: int  # while weights are updated, or while sharded blocks are gathered
    together: int  # activations and the gradients that are there beside them, at the fullest moment
    host: int  # of all processes

    @property
    def peak(self) -> int:
        """The fullest moment of a step: in backward, or while the weights are updated."""
        moving = max(self.together, self.gradients) + self.transient
        return self.weights + self.optimizer + self.average + moving


def plan(denoiser: ModelMixin, fed: Mapping[str, Any], settings: Settings) -> Plan:
    """Return the memory of fine-tuning `denoiser`, on the meta device in the settings' type, with the call `fed`."""
    return _with_activations(standing(denoiser, settings), _measured(denoiser, fed, settings))


def standing(denoiser: ModelMixin, settings: Settings) -> Plan:
    """Return the plan without activations: what follows from the parameters alone, at once."""
    shapes = [weight.shape for weight in denoiser.parameters()]
    elements, processes, width = sum(map(math.prod, shapes)), settings.processes, settings.dtype.itemsize
    buffers = sum(buffer.numel() * buffer.element_size() for buffer in denoiser.buffers())
    one_at_a_time = _update(max(map(math.prod, shapes)), settings)
    return Plan(
        settings=settings,
        weights=width * elements // processes + buffers,
        gradients=width * elements // processes,
        optimizer=sum(_moments(shape, settings) for shape in shapes) // processes,
        average=4 * elements // processes if settings.average_on == "device" else 0,
        activations=0,
        transient=one_at_a_time if processes == 1 else width * _gathered(denoiser),
        together=0,
        host=4 * elements if settings.average_on == "host" else 0,
    )


def standing_of(spec: ModelSpec, settings: Settings) -> Plan:
    """Return `standing` for a model key, whose denoiser is built without its weights."""
    return standing(_on_meta(spec.key, settings.dtype), settings)


def plan_of(spec: ModelSpec, settings: Settings) -> Plan:
    """Return `plan` for a model key, whose denoiser is built without its weights. Seconds to tens of seconds."""
    decisive = replace(settings, optimizer="adamw", average_on="device", accumulates=True, processes=1)
    return _with_activations(standing_of(spec, settings), _measured_of(spec.key, decisive))


def table(found: Plan) -> Table:
    """Return the plan as a table. Rows are full at different moments, so the peak is no more than their sum."""
    shown = Table("", "each device", "host memory")
    for name in ("weights", "gradients", "optimizer", "average", "activations", "transient"):
        shown.add_row(name, gib(getattr(found, name)), gib(found.host) if name == "average" and found.host else "")
    shown.add_section()
    shown.add_row("peak", gib(found.peak), gib(found.host))
    return shown


def gib(size: float) -> str:
    """Return bytes as people read them."""
    return f"{size / GiB:.1f} GiB"


def parse_size(text: str) -> int:
    """Return the bytes that "80GiB", "24 GB" or "1024" stand for. Raises `TrainingError` for anything else."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text)
    if not found or found[2].upper() not in _UNITS:
        raise TrainingError(f"{text!r} is no amount of memory; expected a number and a unit, such as 80GiB or 24GB")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _with_activations(held: Plan, found: Activations) -> Plan:
    whole = held.settings.accumulates or held.settings.processes > 1
    together = found.alone + held.gradients if whole else found.with_gradients
    return replace(held, activations=found.alone, together=together)


def _measured(denoiser: ModelMixin, fed: Mapping[str, Any], settings: Settings) -> Activations:
    return measure(
        denoiser,
        fed,
        attention=settings.attention,
        autocast=settings.mixed_precision == "bf16",
        checkpointing=settings.gradient_checkpointing,
    )


@cache
def _measured_of(key: str, settings: Settings) -> Activations:
    described, denoiser = architecture(key), _on_meta(key, settings.dtype)
    side, count = settings.size // described.factor, settings.micro_batch_size
    fed = inputs(denoiser, size=(side, side), batch=count, tokens=described.tokens, dtype=settings.dtype)
    return _measured(denoiser, fed, settings)


@cache
def _on_meta(key: str, dtype: torch.dtype) -> ModelMixin:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device("meta"):
            return new_denoiser(key)
    finally:
        torch.set_default_dtype(before)


def _moments(shape: torch.Size, settings: Settings) -> int:
    """The optimiser's two moments of a parameter."""
    count = math.prod(shape)
    if settings.optimizer == "adamw":
        return 2 * count * settings.dtype.itemsize
    in_blocks = shape[0] % 16 == 0 and count % _WHOLE_BLOCKS == 0
    return 2 * (count + 4 * count // _BLOCK) if in_blocks else 2 * 4 * count


def _update(largest: int, settings: Settings) -> int:
    """What the update of the largest parameter takes: 16-bit weights are updated as float32 copies, one at a time."""
    return 3 * 4 * largest if settings.weights == "bfloat16" else 0  # value, gradient, random bits


def _gathered(denoiser: ModelMixin) -> int:
    """Elements that FSDP holds whole: weights of one block and of the next, gradients of one, both of the rest."""
    wrapped = set(denoiser._no_split_modules or ())
    blocks = [name for name, module in denoiser.named_modules() if type(module).__name__ in wrapped]
    held: Counter[str] = Counter()
    for name, weight in denoiser.named_parameters():
        held[max((block for block in blocks if name.startswith(f"{block}.")), key=len, default="")] += weight.numel()
    rest = held.pop("", 0)
    return 2 * rest + 3 * max(held.values(), default=0)
