"""What a training run is told: one frozen recipe, saved beside the checkpoint it led to."""

from collections.abc import Mapping
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
    enlarge: bool = False  # also show pictures that are smaller than their bucket
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
        for name in ("steps", "batch_size", "checkpoint_every", "keep_checkpoints", "learning_rate", "max_grad_norm"):
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
        prompts = values.get("validation_prompts")
        return cls(**values if prompts is None else {**values, "validation_prompts": tuple(prompts)})


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


def miniature(**overrides: Any) -> TrainingRecipe:
    """Return the fine-tune of the miniature on a few hundred pictures: minutes on two cores.

    Where the numbers come from: timesteps, flips, caption dropout and plain attention are those of the loop that made
    the miniature's base; the learning rate is smaller and the average shorter, as befits a few hundred steps.
    """
    _known(overrides)
    return replace(
        TrainingRecipe(
            steps=400,
            learning_rate=2e-4,
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
        **overrides,
    )


def _known(values: Mapping[str, Any]) -> None:
    known = [field.name for field in fields(TrainingRecipe)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise TrainingError(f"a training recipe has no {', '.join(unknown)}; it has {', '.join(known)}")


def _require(holds: bool, name: str, value: Any, expected: str) -> None:
    if not holds:
        raise TrainingError(f"training recipe: {name} is {value!r}; it has to be {expected}")
