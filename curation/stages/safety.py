"""Safety: the probability that a picture is not fit to be shown."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import torch

from curation.errors import RecipeError
from curation.stages.base import Resources
from curation.stages.classify import Classifier

UNSAFE_LABELS = frozenset({"unsafe", "nsfw"})
WEB_LABELS = UNSAFE_LABELS | {"explicit", "hentai", "porn", "pornography"}  # what public models call it


class Safety(Classifier):
    """Writes `unsafe`, the summed softmax probability of the model's unsafe labels, in [0,1]."""

    name = "safety"
    writes = pa.schema([pa.field("unsafe", pa.float32())])

    def __init__(
        self, model: str | Path, *, labels: frozenset[str] = UNSAFE_LABELS, resources: Resources | None = None
    ) -> None:
        """`labels`: the names of the model's labels that count as unsafe; case does not matter."""
        super().__init__(model, resources=resources)
        self.labels = frozenset(label.lower() for label in labels)

    def config(self) -> dict[str, Any]:
        return super().config() | {"labels": sorted(self.labels)}

    def check_labels(self, labels: tuple[str, ...]) -> None:
        self._unsafe = [index for index, label in enumerate(labels) if label.lower() in self.labels]
        if not self._unsafe:
            raise RecipeError(
                f"the safety model {self.model} has the labels {', '.join(labels)}; none of them is "
                f"{' or '.join(sorted(self.labels))}: name its unsafe labels with Safety(labels=...)"
            )

    def scores(self, logits_BC: torch.Tensor) -> torch.Tensor:
        return logits_BC.softmax(dim=-1)[:, self._unsafe].sum(dim=-1, keepdim=True)
