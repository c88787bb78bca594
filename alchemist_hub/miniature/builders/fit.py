"""The training loop that every builder shares, with exact checkpoints in a work folder.

A builder says what the loss of a step is; everything random in it comes from the generator of that step, so a training
that was stopped goes on as if it had not been.
"""

import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.progress import Progress
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

EVERY_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How one training goes: AdamW, warm-up, cosine to a hundredth, an average of the weights as the result."""

    title: str
    steps: int
    rate: float  # peak learning rate
    seed: int
    decay: float = 0.99  # of the average
    weight_decay: float = 0.02
    clip: float = 1.0  # largest norm of the gradient

    def rate_at(self, step: int) -> float:
        """Return the learning rate of `step`: at most 200 steps of warm-up, then half a cosine."""
        warm = min(1.0, (step + 1) / max(1, min(200, self.steps // 20)))
        return self.rate * warm * max(0.01, 0.5 * (1 + math.cos(math.pi * step / self.steps)))


def fit(folder: Path, modules: nn.Module, fitting: Fitting, loss_at: Callable[[int, torch.Generator], Tensor]) -> None:
    """Train `modules` on `loss_at(step, generator)` and leave the averaged weights in them; resumes from `folder`."""
    optimiser = torch.optim.AdamW(
        modules.parameters(), lr=fitting.rate, betas=(0.9, 0.99), weight_decay=fitting.weight_decay, fused=True
    )
    state = Checkpoint(folder, modules, optimiser, seed=fitting.seed)
    done = state.resume()
    with Progress() as bars:
        bar = bars.add_task(fitting.title, total=fitting.steps, completed=done)
        for step in range(done, fitting.steps):
            loss = loss_at(step, state.generator(step))
            for group in optimiser.param_groups:
                group["lr"] = fitting.rate_at(step)
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(modules.parameters(), fitting.clip)
            optimiser.step()
            state.update_average(step, decay=fitting.decay)
            state.log({"step": step, "loss": loss.item()})
            state.save(step + 1)
            bars.update(bar, advance=1, description=f"{fitting.title}, loss {loss.item():.4f}")
    state.save(fitting.steps, now=True)
    modules.load_state_dict(state.average)


class Checkpoint:
    """Keeps modules, their averages and the optimiser of one training in `folder`, replaced as a whole.

    Random numbers are drawn from `generator(step)`, so a resumed training repeats what an undisturbed one would do.
    """

    def __init__(self, folder: Path, modules: nn.Module, optimiser: torch.optim.Optimizer, *, seed: int) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.path, self.modules, self.optimiser, self.seed = folder / "checkpoint.safetensors", modules, optimiser, seed
        self.average = {name: value.detach().clone() for name, value in modules.state_dict().items()}
        self.saved = time.monotonic()

    def generator(self, step: int) -> torch.Generator:
        """Return the source of all random numbers of `step`."""
        return torch.Generator().manual_seed(self.seed * 1_000_003 + step)

    @torch.no_grad()
    def update_average(self, step: int, *, decay: float) -> None:
        """Move the average of the weights; early steps weigh more, so that the random start is forgotten."""
        decay = min(decay, (1 + step) / (10 + step))
        for name, value in self.modules.state_dict().items():
            if value.is_floating_point():
                self.average[name].lerp_(value, 1 - decay)

    def resume(self) -> int:
        """Load the last checkpoint, if there is one, and return the number of steps done."""
        if not self.path.exists():
            return 0
        tensors = load_file(self.path)
        step = int(tensors.pop("step"))
        self.average = {name: tensors[f"average.{name}"] for name in self.average}
        self.modules.load_state_dict({name: tensors[f"weights.{name}"] for name in self.average})
        state = self.optimiser.state_dict()
        state["state"] = {
            index: {key: tensors[f"optimiser.{index}.{key}"] for key in ("step", "exp_avg", "exp_avg_sq")}
            for index in range(sum(len(group["params"]) for group in state["param_groups"]))
        }
        self.optimiser.load_state_dict(state)
        return step

    def save(self, step: int, *, now: bool = False) -> None:
        """Write the checkpoint if the last one is old, or `now`."""
        if not now and time.monotonic() - self.saved < EVERY_SECONDS:
            return
        tensors = {"step": torch.tensor(step)}
        tensors |= {f"weights.{name}": value.contiguous() for name, value in self.modules.state_dict().items()}
        tensors |= {f"average.{name}": value.contiguous() for name, value in self.average.items()}
        for index, entry in self.optimiser.state_dict()["state"].items():
            tensors |= {f"optimiser.{index}.{key}": value.contiguous() for key, value in entry.items()}
        partial = self.path.with_suffix(".partial")
        save_file({name: value.clone() for name, value in tensors.items()}, partial)
        partial.replace(self.path)
        self.saved = time.monotonic()

    def log(self, record: dict[str, float]) -> None:
        """Append one line to the training's log."""
        with (self.path.parent / "log.jsonl").open("a") as lines:
            lines.write(json.dumps(record) + "\n")
