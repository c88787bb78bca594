"""The part that safety, defects and IQA share: an image classifier of any architecture, run on batches.

B images, C labels. Scores of rows without pixels are null.
"""

from abc import abstractmethod
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from transformers import AutoImageProcessor, AutoModelForImageClassification

from curation.images import decode_table
from curation.stages import weights
from curation.stages.base import Resources, Stage


class Classifier(Stage):
    """A stage around one AutoModelForImageClassification: subclasses turn logits into their columns."""

    reads = ("image",)
    resources: Resources  # its recipe's choice

    def __init__(self, model: str | Path, *, resources: Resources | None = None) -> None:
        """`model`: a `from_pretrained` folder or a Hub id, with its image processor; `resources`: not the default."""
        self.model = str(model)
        self.resources = resources or Resources()

    def config(self) -> dict[str, Any]:
        return {"model": self._identity}

    @cached_property
    def _identity(self) -> str:
        return weights.identity(self.model)

    def open(self) -> None:
        """Load processor and weights. Raises RecipeError if they cannot be read or do not fit this stage."""
        self.network = weights.load(AutoModelForImageClassification, self.model)
        with weights.reading(self.model):
            self._processor = AutoImageProcessor.from_pretrained(self.model)
        self.check_labels(labels_of(self.network.config))

    @abstractmethod
    def check_labels(self, labels: tuple[str, ...]) -> None:
        """Raise RecipeError unless the model's labels are what this stage needs."""

    @abstractmethod
    def scores(self, logits_BC: torch.Tensor) -> torch.Tensor:
        """Turn logits into one float column per field of `writes`, in that order."""

    def __call__(self, table: pa.Table) -> pa.Table:
        images = decode_table(table)
        rows = [row for row, image in enumerate(images) if image is not None]
        columns = np.full((len(self.writes), len(images)), np.nan, dtype=np.float32)
        if rows:
            columns[:, rows] = self._score([images[row] for row in rows]).T
        unscored = np.isin(np.arange(len(images)), rows, invert=True)
        for field, column in zip(self.writes, columns, strict=True):
            table = table.append_column(field, pa.array(column, mask=unscored))
        return table

    def _score(self, images: list[np.ndarray]) -> np.ndarray:
        inputs = self._processor(images=images, input_data_format="channels_last", return_tensors="pt")
        with torch.inference_mode():
            logits_BC = self.network(inputs["pixel_values"].to(self.network.device)).logits
            return self.scores(logits_BC).float().cpu().numpy()


def labels_of(config: Any) -> tuple[str, ...]:
    """Return a transformers configuration's labels in the order of its logits."""
    return tuple(config.id2label[index] for index in sorted(config.id2label))
