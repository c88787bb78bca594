"""A tiny, random judge network of the real class, with the labels of the miniature's judge."""

from pathlib import Path

import torch
from transformers import ConvNextImageProcessor, ResNetConfig, ResNetForImageClassification

from alchemist_hub.miniature.world import BODIES, DEFECTS, GROUNDS, STYLES, TIMES

LABELS = (
    "complexity",
    "aesthetics",
    *(f"defect:{name}" for name in DEFECTS),
    *(f"style:{name}" for name in STYLES),
    *(f"time:{name}" for name in TIMES),
    *(f"ground:{name}" for name in GROUNDS),
    *(f"body:{name}" for name in BODIES),
)


def tiny_judge(folder: Path, *, labels: tuple[str, ...] = LABELS, seed: int = 0) -> Path:
    """Save a random judge for 64 px pictures into `folder` and return it."""
    torch.manual_seed(seed)
    config = ResNetConfig(
        embedding_size=8,
        hidden_sizes=[8, 16],
        depths=[1, 1],
        layer_type="basic",
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    ResNetForImageClassification(config).eval().save_pretrained(folder)
    ConvNextImageProcessor(
        size={"shortest_edge": 64}, crop_pct=1.0, image_mean=[0.5] * 3, image_std=[0.5] * 3
    ).save_pretrained(folder)
    return folder
