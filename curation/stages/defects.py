"""Coarse quality: how probable each visible defect is (blur, compression, watermark, ...)."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from transformers import AutoConfig

from curation.errors import RecipeError
from curation.stages import weights
from curation.stages.base import Resources
from curation.stages.classify import Classifier, labels_of


class Defects(Classifier):
    """Writes `defect_<label>` for every label of a multi-label model, in [0,1], and `defect_max`, the worst of them."""

    name = "defects"

    def __init__(
        self, model: str | Path, *, labels: tuple[str, ...] | None = None, resources: Resources | None = None
    ) -> None:
        """`labels`: the model's labels, in the order of its logits; read from its config.json where left out.

        Raises RecipeError if there is no such model.
        """
        super().__init__(model, resources=resources)
        self.labels = labels or configured_labels(self.model)
        names = [f"defect_{label.lower().replace(' ', '_')}" for label in self.labels]
        self.writes = pa.schema([pa.field(name, pa.float32()) for name in [*names, "defect_max"]])

    def config(self) -> dict[str, Any]:
        return super().config() | {"labels": list(self.labels)}

    def check_labels(self, labels: tuple[str, ...]) -> None:
        if labels != self.labels:
            raise RecipeError(
                f"the defect model {self.model} has the labels {', '.join(labels)}; "
                f"this recipe was written for {', '.join(self.labels)}"
            )

    def scores(self, logits_BC: torch.Tensor) -> torch.Tensor:
        probabilities_BC = logits_BC.sigmoid()
        return torch.cat([probabilities_BC, probabilities_BC.amax(dim=-1, keepdim=True)], dim=-1)


def configured_labels(model: str) -> tuple[str, ...]:
    """Read a model's labels from its config.json, in the order of its logits."""
    with weights.reading(model):
        return labels_of(AutoConfig.from_pretrained(model))
