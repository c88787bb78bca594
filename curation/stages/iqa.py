"""Image quality, no reference: one number a picture, as its regression model was trained to give it."""

import pyarrow as pa
import torch

from curation.errors import RecipeError
from curation.stages.classify import Classifier


class Iqa(Classifier):
    """Writes `iqa`, the single output of a regression head; the miniature's lies in [0,1]."""

    name = "iqa"
    writes = pa.schema([pa.field("iqa", pa.float32())])

    def check_labels(self, labels: tuple[str, ...]) -> None:
        if len(labels) != 1:
            raise RecipeError(
                f"the IQA model {self.model} has {len(labels)} labels ({', '.join(labels)}); "
                "expected a regression head with one"
            )

    def scores(self, logits_BC: torch.Tensor) -> torch.Tensor:
        return logits_BC
