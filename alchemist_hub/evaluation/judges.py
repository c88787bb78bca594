"""The miniature's independent judge: one network with many heads, fitted on the world's known truth.

It is used for evaluation only. The funnel never sees it, so a choice cannot be made to please it.
Shape legend: B pictures, L labels.
"""

from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModelForImageClassification

from alchemist_hub.errors import ModelError

Pictures = np.ndarray | list[Image.Image]  # uint8 (B, H, W, 3) in [0,255], or PIL images of any sizes
BATCH = 64


class Judge(Protocol):
    """Anything that scores pictures: one (B,) float array per label."""

    def score_images(self, images: Pictures) -> dict[str, np.ndarray]: ...


class JudgeNetwork:
    """A classifier whose labels are plain ("complexity") or grouped ("style:photo").

    Plain labels and "defect:*" are sigmoids, each on its own; every other group is one softmax.
    """

    def __init__(self, network: torch.nn.Module, processor: object, labels: tuple[str, ...]) -> None:
        self._network = network.eval()
        self._processor = processor
        self.labels = labels

    @classmethod
    def load(cls, folder: str | Path) -> "JudgeNetwork":
        """Read a `from_pretrained` folder. Raises ModelError if there is none, or its labels are not a judge's."""
        try:
            network = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32)
            processor = AutoImageProcessor.from_pretrained(folder)
        except (OSError, ValueError) as error:
            raise ModelError(f"no judge network in {folder}: {error}") from error
        id2label = network.config.id2label
        labels = tuple(id2label[index] for index in sorted(id2label))
        missing = {"complexity", "aesthetics"} - set(labels)
        if missing:
            raise ModelError(f"the network in {folder} is no judge: it lacks {', '.join(sorted(missing))}")
        return cls(network, processor, labels)

    def score_images(self, images: Pictures) -> dict[str, np.ndarray]:
        """Return label -> (B,) float32 in [0,1]: probabilities, and for complexity and aesthetics the estimate."""
        batches = [self._batch(list(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
        scores_BL = np.concatenate(batches) if batches else np.zeros((0, len(self.labels)), np.float32)
        return {label: scores_BL[:, index] for index, label in enumerate(self.labels)}

    def embed_images(self, images: Pictures) -> np.ndarray:
        """Return (B, D) float32: what the last layer decides from. Raises ModelError if the network pools nothing."""
        parts = [self._embed(list(images[start : start + BATCH])) for start in range(0, len(images), BATCH)]
        return np.concatenate(parts) if parts else self._embed([Image.new("RGB", (8, 8))])[:0]

    def _batch(self, images: list[Image.Image] | list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            return probabilities(self._network(self._inputs(images)).logits, self.labels).numpy()

    def _embed(self, images: list[Image.Image] | list[np.ndarray]) -> np.ndarray:
        with torch.inference_mode():
            pooled = self._network.base_model(self._inputs(images)).pooler_output
        if pooled is None:
            raise ModelError(f"a {type(self._network).__name__} pools no features; expected one like ResNet's")
        return pooled.flatten(1).float().numpy()

    def _inputs(self, images: list[Image.Image] | list[np.ndarray]) -> torch.Tensor:
        pixels = [np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image) for image in images]
        return self._processor(images=pixels, input_data_format="channels_last", return_tensors="pt")["pixel_values"]


def probabilities(logits_BL: torch.Tensor, labels: tuple[str, ...]) -> torch.Tensor:
    """Turn logits into (B, L) values in [0,1]: softmax inside each group of exclusive labels, else sigmoid."""
    scores_BL = torch.sigmoid(logits_BL.float())
    for group in sorted({exclusive_group(label) for label in labels} - {None}):
        columns = [index for index, label in enumerate(labels) if exclusive_group(label) == group]
        scores_BL[:, columns] = torch.softmax(logits_BL[:, columns].float(), dim=1)
    return scores_BL


def exclusive_group(label: str) -> str | None:
    """Return the group of which exactly one label is true ("style" of "style:photo"), or None."""
    group, colon, _ = label.partition(":")
    return group if colon and group != "defect" else None
