"""From clean pictures, and labelled ones where there are any, to a folder that the stage `defects` reads.

OUT/config.json, model.safetensors, preprocessor_config.json   the network, for AutoModelForImageClassification
OUT/README.md, training.json                                   its card; settings, data and figures
OUT/work/                                                      pictures and checkpoint; gone when it is finished
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForImageClassification,
    ResNetConfig,
    ResNetForImageClassification,
    ViTImageProcessorPil,
)

from curation import shards
from curation.errors import RecipeError, SourceError
from curation.fit_defects.pictures import Picture, clean_pictures, known, labelled_pictures, split
from curation.fit_defects.report import Figures, card, measure
from curation.fit_defects.training import Settings, train
from curation.plan import short_hash
from curation.sources import Source
from curation.stages import weights

WIDTHS = (32, 64, 128, 256)  # half of a ResNet-18, (ours)
DEPTHS = (1, 1, 2, 2)
KEPT_SIDE = 2  # times the network's side: what a view may be reduced from
RECORD = "training.json"


def fit_defects(
    clean: str | Path | Source,
    out: Path,
    *,
    labelled: Sequence[Path] = (),
    held_out: str | Path | Source | None = None,
    settings: Settings | None = None,
    progress: Callable[[str, int, int | None], None] = lambda title, done, total: None,
    stop: int | None = None,
) -> Figures | None:
    """Fit a network to `clean` and the tables `labelled`, save it in `out`, return its figures on other files.

    Called again with the same arguments it goes on where it was stopped. `held_out`: a clean pool to measure on, in the
    place of a share of `clean`. `stop`: end before that step, and return None.

    Raises SourceError for pools that hold too little, RecipeError for a folder of another training.
    """
    settings, read = settings or Settings(), []

    def told(rows: int) -> None:
        read.append(rows)
        progress("reading pictures", len(read), None)

    folder, side = out / "work" / "pictures", KEPT_SIDE * settings.size
    learnt, measured = split(clean_pictures(clean, folder, side, told), 0.0 if held_out else settings.held_out)
    if held_out:
        learnt, measured = learnt + measured, clean_pictures(held_out, folder, side, told)
    for table in labelled:
        some, others = split(labelled_pictures(table, folder, side, lowest=settings.lowest), settings.held_out)
        learnt, measured = learnt + some, measured + others
    seen = {picture.key for picture in learnt}
    measured = [picture for picture in measured if picture.key not in seen]
    labels = list(known(learnt))
    if not labels or not measured:
        raise SourceError(f"{clean}: {len(learnt)} pictures to learn from, {len(measured)} to measure on: too few")
    record = _record(settings, labels, learnt, measured)
    if (done := _claimed(out, record)) is not None:
        shutil.rmtree(out / "work", ignore_errors=True)
        return done
    torch.manual_seed(settings.seed)
    network, processor = _new(settings, labels)
    network.to(weights.device())

    def to_pixels(images: list[np.ndarray]) -> torch.Tensor:
        return processor(images=images, input_data_format="channels_last", return_tensors="pt")["pixel_values"]

    checkpoint = out / "work" / "checkpoint.safetensors"
    train(
        network, to_pixels, learnt, labels, settings,
        checkpoint=checkpoint, progress=lambda at, total: progress("training", at, total), stop=stop,
    )  # fmt: skip
    if stop is not None and stop < record["steps"]:
        return None
    progress("measuring", 0, None)
    figures = measure(network, to_pixels, measured, labels, settings)
    network.save_pretrained(out, safe_serialization=True)
    processor.save_pretrained(out)
    shards.write_atomically(out / "README.md", card(figures, record).encode())
    shards.write_atomically(out / RECORD, json.dumps(record | {"figures": figures}, indent=1).encode())
    shutil.rmtree(out / "work")
    return figures


def _record(settings: Settings, labels: list[str], learnt: list[Picture], measured: list[Picture]) -> dict[str, Any]:
    everything = [*learnt, *measured]
    return {
        "settings": asdict(settings),
        "labels": labels,
        "steps": settings.steps(len(learnt)),
        "data": {
            "fingerprint": short_hash([[picture.key, str(picture.labels)] for picture in everything]),
            "training": len(learnt),
            "validation": len(measured),
            "labelled": sum(picture.labels is not None for picture in everything),
        },
    }


def _finished(out: Path) -> bool:
    return (out / RECORD).exists()


def _claimed(out: Path, record: dict[str, Any]) -> Figures | None:
    """Bind `out` to this training; return its figures if it was finished before. Raises RecipeError for another's."""
    path = out / RECORD if _finished(out) else out / "work" / "started.json"
    if not path.exists():
        shards.write_atomically(path, json.dumps(record).encode())
        return None
    found = shards.read_json(path)
    figures = found.pop("figures", None)
    if found != json.loads(json.dumps(record)):
        raise RecipeError(f"{out} was begun with other settings or pictures; give another folder, or delete it")
    return figures


def _new(settings: Settings, labels: list[str]) -> tuple[torch.nn.Module, ViTImageProcessorPil]:
    """Return the untrained network and its processor, which shows it the whole picture as a square."""
    names: dict[str, Any] = {
        "id2label": dict(enumerate(labels)),
        "label2id": {label: index for index, label in enumerate(labels)},
        "problem_type": "multi_label_classification",
    }
    mean = std = [0.5] * 3
    if settings.backbone is None:
        config = ResNetConfig(
            embedding_size=WIDTHS[0], hidden_sizes=list(WIDTHS), depths=list(DEPTHS), layer_type="basic", **names
        )
        network = ResNetForImageClassification(config)
    else:
        with weights.reading(settings.backbone):
            config = AutoConfig.from_pretrained(settings.backbone, **names)
            network = AutoModelForImageClassification.from_pretrained(
                settings.backbone,
                config=config,
                dtype=torch.float32,
                use_safetensors=True,
                ignore_mismatched_sizes=True,  # its own head
            )
            theirs = AutoImageProcessor.from_pretrained(settings.backbone)
        mean, std = theirs.image_mean, theirs.image_std
    size = {"height": settings.size, "width": settings.size}
    return network, ViTImageProcessorPil(size=size, image_mean=mean, image_std=std)
