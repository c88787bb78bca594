"""The training: views of pictures, the loss, checkpoints. Every draw is a function of seed, step and place.

Shapes: B views a batch, C labels the network learns, S its side; pixels (B,3,S,S) as the processor gives them.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from safetensors.torch import load_file, save
from torch.nn import functional

from curation import shards
from curation.degrade import DEFECTS, degrade, jpeg
from curation.errors import RecipeError
from curation.fit_defects.pictures import LABELS, Picture

CHANCE = 0.25  # of each defect in a view, independent of the others, (ours) like the numbers below
WEAKEST = 0.1  # strength
EVERY_STEPS = 100  # a checkpoint
DECAY = 0.02


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a network is fitted; part of what a folder is bound to."""

    size: int = 224  # pixels a side that the network sees
    batch: int = 32
    rate: float = 1e-3  # peak of AdamW's learning rate, which falls to nothing along half a cosine
    seed: int = 0
    views: int = 40_000  # pictures shown in all, where `epochs` is not given
    epochs: int | None = None
    lowest: float = 0.2  # share of a table's scores that is low appeal
    held_out: float = 0.2  # share of the files that is only measured
    backbone: str | None = None

    def steps(self, pictures: int) -> int:
        """Return how many batches that is, for so many pictures."""
        return max(1, -(-(self.epochs * pictures if self.epochs else self.views) // self.batch))


@dataclass(frozen=True)
class View:
    """A picture as it is shown: uint8 (H, W, 3), and (C,) what is wrong with it, NaN where that is not known."""

    pixels: np.ndarray
    labels: np.ndarray


def view(picture: Picture, rng: np.random.Generator, size: int) -> View:
    """Show a picture: mirrored or not, in one of several sizes; a clean one with defects of its own for this view."""
    pixels = picture.pixels()
    scale = min(1.0, size * rng.uniform(1.0, 2.0) / min(pixels.shape[:2]))
    pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        pixels = np.ascontiguousarray(pixels[:, ::-1])
    if picture.labels is not None:
        return View(pixels, np.array(picture.labels, np.float32))
    strengths = {name: rng.uniform(WEAKEST, 1.0) for name in DEFECTS if rng.random() < CHANCE}
    pixels = degrade(pixels, strengths, rng)
    if rng.random() < 0.5:  # innocent: an ordinary JPEG is no defect
        pixels = jpeg(pixels, int(rng.integers(80, 97)))
    labels = [float(name in strengths) if name in DEFECTS else np.nan for name in LABELS]
    return View(pixels, np.array(labels, np.float32))


def loss(logits_BC: torch.Tensor, labels_BC: torch.Tensor) -> torch.Tensor:
    """Return the mean binary entropy over the labels that are known."""
    is_known_BC = ~labels_BC.isnan()
    terms_BC = functional.binary_cross_entropy_with_logits(logits_BC, labels_BC.nan_to_num(), reduction="none")
    return (terms_BC * is_known_BC).sum() / is_known_BC.sum().clamp(min=1)


def train(
    network: torch.nn.Module,
    to_pixels: Callable[[list[np.ndarray]], torch.Tensor],
    pictures: Sequence[Picture],
    labels: Sequence[str],
    settings: Settings,
    *,
    checkpoint: Path,
    progress: Callable[[int, int], None],
    stop: int | None = None,
) -> None:
    """Fit `network` in place, from its last checkpoint where there is one; end before step `stop` if given."""
    columns = [LABELS.index(label) for label in labels]
    groups = [group for group in (_of(pictures, clean=True), _of(pictures, clean=False)) if group]
    optimiser = torch.optim.AdamW(network.parameters(), lr=settings.rate, weight_decay=DECAY)
    steps, begin = settings.steps(len(pictures)), _resume(checkpoint, network, optimiser)
    network.train()
    with ThreadPoolExecutor(2) as threads:

        def shown(step: int) -> list[Any]:
            """Begin to make the views of a step; half of them are labelled ones where there are both kinds."""
            rng = np.random.default_rng((settings.seed, step))
            chosen = [group[rng.integers(len(group))] for group in _dealt(groups, settings.batch)]
            seeds = [(settings.seed, step, place) for place in range(settings.batch)]
            return [
                threads.submit(view, picture, np.random.default_rng(seed), settings.size)
                for picture, seed in zip(chosen, seeds, strict=True)
            ]

        coming = shown(begin)
        for step in range(begin, min(steps, stop or steps)):
            views, coming = [future.result() for future in coming], shown(step + 1)
            torch.manual_seed(settings.seed * 1_000_003 + step)  # dropout of a backbone
            labels_BC = torch.from_numpy(np.stack([each.labels[columns] for each in views]))
            logits_BC = network(to_pixels([each.pixels for each in views]).to(network.device)).logits
            for group in optimiser.param_groups:
                group["lr"] = settings.rate * 0.5 * (1 + np.cos(np.pi * step / steps)) * min(1.0, (step + 1) / 50)
            optimiser.zero_grad(set_to_none=True)
            loss(logits_BC, labels_BC.to(network.device)).backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            progress(step + 1, steps)
            if (step + 1) % EVERY_STEPS == 0 or step + 1 in (steps, stop):
                _save(checkpoint, network, optimiser, step + 1)
    network.eval()


def _of(pictures: Sequence[Picture], *, clean: bool) -> list[Picture]:
    return [picture for picture in pictures if (picture.labels is None) == clean]


def _dealt(groups: list[list[Picture]], count: int) -> list[list[Picture]]:
    return [groups[place % len(groups)] for place in range(count)]


def _save(path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
    tensors = {"step": torch.tensor(step)}
    tensors |= {f"weights.{name}": value for name, value in network.state_dict().items()}
    for index, entry in optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{index}.{name}": value for name, value in entry.items()}
    shards.write_atomically(path, save({name: value.detach().clone().contiguous() for name, value in tensors.items()}))


def _resume(path: Path, network: torch.nn.Module, optimiser: torch.optim.Optimizer) -> int:
    """Load weights and optimiser; return the number of steps done. Raises RecipeError for another network's."""
    if not path.exists():
        return 0
    tensors = load_file(path)
    state, moments = optimiser.state_dict(), {}
    for name in [name for name in tensors if name.startswith("optimiser.")]:
        _, index, part = name.split(".")
        moments.setdefault(int(index), {})[part] = tensors[name]
    try:
        weights = {name[8:]: value for name, value in tensors.items() if name.startswith("weights.")}
        network.load_state_dict(weights)
        optimiser.load_state_dict(state | {"state": moments})
    except (RuntimeError, ValueError) as error:
        raise RecipeError(f"{path} belongs to another network; give another folder, or delete it") from error
    return int(tensors["step"])
