"""The miniature's four image networks: safety, defects, IQA (the funnel's) and the judge (the evaluation's).

One small ResNet class for all, fitted on the world's known truth. The funnel's networks and the judge never see the
same pictures, nor the same random start. Shapes: pixels (B,3,64,64) in [-1,1], logits (B,L).
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional
from transformers import ResNetConfig, ResNetForImageClassification, ViTImageProcessorPil

from alchemist_hub.miniature.builders.fit import Fitting, fit
from alchemist_hub.miniature.builders.pool import batch_at
from alchemist_hub.miniature.scene import BODIES, DEFECTS, GROUNDS, STYLES, TIMES

Row = dict[str, object]
GROUPS = {"style": STYLES, "time": TIMES, "ground": GROUNDS, "body": BODIES}


@dataclass(frozen=True, kw_only=True)
class Task:
    """What one network learns: its labels, the targets of a truth record, and the loss of logits against targets."""

    name: str
    labels: tuple[str, ...]
    target: Callable[[Row], list[float]]
    loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
    widths: tuple[int, ...]
    problem: str
    seed: int


def _defect_flags(row: Row) -> list[float]:
    return [float(defect in row["defects"]) for defect in DEFECTS]


def _judge_target(row: Row) -> list[float]:
    classes = [float(names.index(row[group])) for group, names in GROUPS.items()]
    return [float(row["complexity"]), float(row["aesthetics"]), *_defect_flags(row), *classes]


def _judge_loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Squared error for complexity and aesthetics, binary entropy for defects, entropy inside each group."""
    quality = functional.mse_loss(logits[:, :2].sigmoid(), target[:, :2])
    column, field = 2 + len(DEFECTS), 2 + len(DEFECTS)
    loss = 8 * quality + functional.binary_cross_entropy_with_logits(logits[:, 2:column], target[:, 2:field])
    for names in GROUPS.values():
        loss = loss + 0.5 * functional.cross_entropy(logits[:, column : column + len(names)], target[:, field].long())
        column, field = column + len(names), field + 1
    return loss


SAFETY = Task(
    name="safety",
    labels=("safe", "unsafe"),
    target=lambda row: [float(row["unsafe"])],
    loss=lambda logits, target: functional.cross_entropy(logits, target[:, 0].long()),
    widths=(16, 32, 64, 96),
    problem="single_label_classification",
    seed=31,
)
DEFECT = Task(
    name="defects",
    labels=DEFECTS,
    target=_defect_flags,
    loss=functional.binary_cross_entropy_with_logits,
    widths=(24, 48, 96, 128),
    problem="multi_label_classification",
    seed=32,
)
IQA = Task(
    name="iqa",
    labels=("quality",),
    target=lambda row: [1.0 - float(row["severity"])],
    loss=functional.mse_loss,
    widths=(24, 48, 96, 128),
    problem="regression",
    seed=33,
)
JUDGE = Task(
    name="judge",
    labels=(
        "complexity",
        "aesthetics",
        *(f"defect:{defect}" for defect in DEFECTS),
        *(f"{group}:{name}" for group, names in GROUPS.items() for name in names),
    ),
    target=_judge_target,
    loss=_judge_loss,
    widths=(32, 64, 128, 192),
    problem="multi_label_classification",
    seed=34,
)


def new_network(task: Task) -> ResNetForImageClassification:
    """Return an untrained network for `task`."""
    config = ResNetConfig(
        embedding_size=task.widths[0],
        hidden_sizes=list(task.widths),
        depths=[1, 1, 1, 1],
        layer_type="basic",
        id2label=dict(enumerate(task.labels)),
        label2id={label: index for index, label in enumerate(task.labels)},
        problem_type=task.problem,
    )
    return ResNetForImageClassification(config)


def image_processor() -> ViTImageProcessorPil:
    """Return the preprocessing of all networks: 64x64, pixels to [-1,1]."""
    return ViTImageProcessorPil(size={"height": 64, "width": 64}, image_mean=[0.5] * 3, image_std=[0.5] * 3)


def train_network(
    folder: Path, task: Task, images: np.ndarray, rows: list[Row], *, epochs: int, batch: int = 64, rate: float = 2e-3
) -> ResNetForImageClassification:
    """Fit the network of `task` to uint8 images (N,64,64,3) and their truth; return it with averaged weights.

    Pictures are mirrored half of the time and moved by up to three pixels. Resumes from `folder`.
    """
    torch.manual_seed(task.seed)
    network = new_network(task).to(memory_format=torch.channels_last).train()
    targets = torch.tensor([task.target(row) for row in rows])

    def loss_at(step: int, generator: torch.Generator) -> torch.Tensor:
        chosen = batch_at(step, len(images), batch, seed=task.seed)
        return task.loss(network(to_pixels(_moved(images[chosen], generator))).logits, targets[chosen])

    steps = epochs * (len(images) // batch)
    fit(folder, network, Fitting(title=f"training {task.name}", steps=steps, rate=rate, seed=task.seed), loss_at)
    return network.to(memory_format=torch.contiguous_format).eval()


def to_pixels(images: np.ndarray) -> torch.Tensor:
    """uint8 (B,H,W,3) -> float (B,3,H,W) in [-1,1]."""
    return torch.from_numpy(images.astype(np.float32) / 127.5 - 1).permute(0, 3, 1, 2)


def _moved(images: np.ndarray, generator: torch.Generator) -> np.ndarray:
    """Mirror the batch half of the time and move it by up to three pixels; what leaves on one side is repeated."""
    if torch.rand((), generator=generator) < 0.5:
        images = images[:, :, ::-1]
    down, right = (int(torch.randint(7, (), generator=generator)) for _ in range(2))
    padded = np.pad(images, ((0, 0), (3, 3), (3, 3), (0, 0)), mode="edge")
    return padded[:, down : down + images.shape[1], right : right + images.shape[2]]
