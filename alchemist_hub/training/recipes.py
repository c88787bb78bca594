"""What a training run is told: one frozen recipe, saved beside the checkpoint it led to; a complete one per model key.

The paper gives no learning rate, batch or number of steps; every number here is ours, with its origin beside it. Those
of the five large models are starting points from public reports: no sweep has been run on them yet.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from alchemist_hub.errors import TrainingError

Schedule = Literal["cosine", "constant"]
Timesteps = Literal["uniform", "logit_normal"]
Attention = Literal["sdpa", "plain", "xformers"]
Precision = Literal["no", "bf16"]
Weights = Literal["float32", "bfloat16"]
Optimizer = Literal["adamw", "adamw8bit"]
Place = Literal["device", "host"]
Buckets = Literal["square", "ratios", "sdxl"]


@dataclass(frozen=True, kw_only=True)
class TrainingRecipe:
    """Everything that decides the weights of a fine-tune, given a base and a data set. Raises `TrainingError`."""

    steps: int  # optimiser steps
    learning_rate: float
    batch_size: int = 32  # pictures per optimiser step
    micro_batch_size: int | None = None  # pictures per forward pass; None: the whole batch at once, shared by processes
    schedule: Schedule = "cosine"  # of the learning rate, after the warm-up
    warmup: int = 0  # steps over which the learning rate rises to its value
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema: float = 0.999  # decay of the average that becomes the tuned weights
    caption_dropout: float = 0.1  # share of pictures shown with the unconditional embedding
    min_snr_gamma: float | None = None  # None: every timestep counts the same
    timesteps: Timesteps = "uniform"
    uniform_share: float = 0.1  # of the timesteps under "logit_normal", so that the ends of the schedule are seen too
    last_share: float = 0.0  # of the timesteps are the last one: for bases with zero terminal SNR, which start there
    flip: bool = False  # show mirrored pictures half of the time
    size: int | None = None  # side in pixels; None: the base's native size
    buckets: Buckets = "square"  # shapes of about that area: "ratios" up to 1:2 in steps of 64, "sdxl" its own table
    enlarge: float = 1.1  # the most a picture may be enlarged to fill its bucket; smaller ones are not shown
    t5: bool = True  # SD3: encode captions with T5 too; without, it is zeros, as the pipeline does when it lacks T5
    seed: int = 0
    weights: Weights = "float32"  # while training; "bfloat16" is rounded stochastically and asks for "adamw8bit"
    optimizer: Optimizer = "adamw"
    average_on: Place = "device"  # where the averaged weights (float32) are kept: "host" when the card is tight
    gradient_checkpointing: bool = False  # compute activations twice instead of keeping them
    attention: Attention = "sdpa"  # "plain" is the faster one in backward at very small grids on a CPU
    compile: bool = False  # torch.compile: minutes at the start, faster steps
    mixed_precision: Precision = "no"
    checkpoint_every: int = 500  # steps
    keep_checkpoints: int = 2  # while the run lasts; a finished run keeps none
    validate_every: int | None = None  # steps between pictures painted from `validation_prompts`; None: none
    validation_prompts: tuple[str, ...] = ("Mars rises on the horizon.",)  # each with a seed of its own: its number

    def __post_init__(self) -> None:
        object.__setattr__(self, "validation_prompts", tuple(self.validation_prompts))  # JSON has lists
        positive = ("steps", "batch_size", "checkpoint_every", "keep_checkpoints", "learning_rate", "max_grad_norm")
        for name in (*positive, "enlarge"):
            _require(getattr(self, name) > 0, name, getattr(self, name), "more than 0")
        for name in ("micro_batch_size", "min_snr_gamma", "size", "validate_every"):
            value = getattr(self, name)
            _require(value is None or value > 0, name, value, "more than 0, or none")
        for name in ("warmup", "weight_decay"):
            _require(getattr(self, name) >= 0, name, getattr(self, name), "at least 0")
        for name in ("ema", "caption_dropout", "uniform_share", "last_share"):
            _require(0 <= getattr(self, name) <= 1, name, getattr(self, name), "between 0 and 1")
        for name, choices in _CHOICES.items():
            _require(getattr(self, name) in choices, name, getattr(self, name), f"one of {', '.join(choices)}")
        whole = self.micro_batch_size is None or self.batch_size % self.micro_batch_size == 0
        _require(whole, "batch_size", self.batch_size, f"a multiple of micro_batch_size, {self.micro_batch_size}")
        rounded = self.weights == "float32" or self.optimizer == "adamw8bit"
        _require(rounded, "weights", self.weights, "float32 with adamw, which loses updates in bfloat16")

    def to_dict(self) -> dict[str, Any]:
        """Return the recipe as JSON values."""
        return asdict(self) | {"validation_prompts": list(self.validation_prompts)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TrainingRecipe":
        """Return the recipe of `to_dict`. Raises `TrainingError` for a key that no recipe has."""
        _known(values)
        return cls(**values)


_CHOICES = {
    "schedule": get_args(Schedule),
    "timesteps": get_args(Timesteps),
    "attention": get_args(Attention),
    "mixed_precision": get_args(Precision),
    "weights": get_args(Weights),
    "optimizer": get_args(Optimizer),
    "average_on": get_args(Place),
    "buckets": get_args(Buckets),
}


def _known(values: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(TrainingRecipe)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise TrainingError(f"a training recipe has no {', '.join(unknown)}; it has {', '.join(known)}")


def _require(holds: bool, name: str, value: Any, expected: str) -> None:
    if not holds:
        raise TrainingError(f"training recipe: {name} is {value!r}; it has to be {expected}")


# What the five have in common. About 48 epochs of the 3,350 pictures: 5,000 steps of 32 (ours). 10% of captions are
# dropped as in the training of the bases (model cards of SD 1.x and SD 2.x; the others' own share is not public).
# A decay of 0.9995 averages over some 2,000 steps (ours). Warm-up: two epochs of Adam's second moment, 1 / (1 - 0.999).
_FIVE = TrainingRecipe(
    steps=5000,
    learning_rate=1e-5,
    batch_size=32,
    schedule="constant",
    warmup=1000,
    weight_decay=0.01,  # of diffusers' training examples, as is max_grad_norm 1
    ema=0.9995,
    caption_dropout=0.1,
    flip=False,  # mirrored writing and faces are not what the data set shows
    mixed_precision="bf16",
    validate_every=500,
    validation_prompts=(
        "Mars rises on the horizon.",  # the paper's own, Figure 3
        "a portrait of an old sailor, detailed skin, soft window light",
        "a bowl of ripe fruit on a wooden table",
        "a small street in an old town at night after rain",
    ),
)

RECIPES: dict[str, TrainingRecipe] = {
    # 1e-5 at constant rate is diffusers' text-to-image example for SD 1.x; min-SNR 5 is Hang et al. 2023's own value.
    "sd15": replace(_FIVE, micro_batch_size=16, min_snr_gamma=5.0, buckets="ratios"),
    "sd21": replace(_FIVE, micro_batch_size=8, min_snr_gamma=5.0, buckets="ratios", gradient_checkpointing=True),
    # diffusers' SDXL example trains at 1e-6 with batch 4; Adam's square root rule (Malladi et al. 2022) takes it to
    # batch 32 as 1e-6 * sqrt(8).
    "sdxl": replace(
        _FIVE, learning_rate=2.8e-6, micro_batch_size=4, buckets="sdxl", gradient_checkpointing=True, average_on="host"
    ),
    # SD 3.5 by public reports: 1e-6 does nothing in thousands of steps, 1e-5 is mild, 4e-5 can explode.
    "sd35m": replace(
        _FIVE,
        timesteps="logit_normal",  # Esser et al. 2024, section 3.1
        uniform_share=0.0,
        micro_batch_size=4,
        buckets="sdxl",
        gradient_checkpointing=True,
        average_on="host",
    ),
    # 8 billion parameters fit one card of 80 GB only like this.
    "sd35l": replace(
        _FIVE,
        timesteps="logit_normal",
        uniform_share=0.0,
        micro_batch_size=2,
        buckets="sdxl",
        gradient_checkpointing=True,
        average_on="host",
        weights="bfloat16",
        optimizer="adamw8bit",
        mixed_precision="no",
    ),
    # A few hundred pictures, minutes on two cores. Timesteps, flips, caption dropout and plain attention are those of
    # the loop that made the miniature's base; the average is shorter, as befits a few hundred steps. The learning rate
    # is of benchmarks/sweep-2026-11-24.md: aesthetics want less, complexity more.
    "mini": TrainingRecipe(
        steps=400,
        learning_rate=2e-5,
        batch_size=32,
        warmup=20,
        ema=0.99,
        timesteps="logit_normal",
        uniform_share=0.2,
        last_share=0.03,
        flip=True,
        attention="plain",
        checkpoint_every=50,
    ),
}


def recipe(key: str, **overrides: Any) -> TrainingRecipe:
    """Return the recipe of a model key, with other values where named. Raises `TrainingError`."""
    if key not in RECIPES:
        raise TrainingError(f"no training recipe for {key!r}; there are {', '.join(RECIPES)}")
    _known(overrides)
    return replace(RECIPES[key], **overrides)


def parse(settings: Sequence[str]) -> dict[str, Any]:
    """Return the overrides that "name=value" texts ask for; a value is JSON, or else a word. Raises `TrainingError`."""
    found = {}
    for text in settings:
        name, separator, value = text.partition("=")
        if not separator:
            raise TrainingError(f"{text!r} sets nothing; expected name=value, as in --set steps=200")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def miniature(**overrides: Any) -> TrainingRecipe:
    """Return the recipe of the miniature, with other values where named. Raises `TrainingError`."""
    return recipe("mini", **overrides)
