"""Impact: how much a picture looks, to a text-to-image model itself, like one captioned "detailed, beautiful"."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from diffusers import DiffusionPipeline

from curation.estimator.calibration import ATTENTION, IMPACT, LIKELIHOOD, Calibration, Estimator
from curation.estimator.denoiser import BFLOAT16, FLOAT32, Denoiser
from curation.estimator.pipelines import reader
from curation.images import decode_table
from curation.stages import weights
from curation.stages.base import Resources, Stage


class Impact(Stage):
    """Writes `impact`, the calibrated score, and its parts, all log odds: higher is better, 0 is undecided."""

    name = "impact"
    reads = ("image",)
    writes = pa.schema([pa.field(column, pa.float32()) for column in (IMPACT, ATTENTION, LIKELIHOOD)])
    resources = Resources(cpu=1.0, batch=64)

    def __init__(self, model: str | Path, calibration: str | Path) -> None:
        """`model`: a pipeline folder or Hub id; `calibration`: the JSON file made for these weights."""
        self.model = str(model)
        self.calibration = str(calibration)

    def config(self) -> dict[str, Any]:
        """The calibration by its content, which names the weights it belongs to: `open` refuses any others.

        Raises CalibrationError if the file is missing or no calibration.
        """
        return {"calibration": Calibration.load(Path(self.calibration)).digest()}

    def open(self) -> None:
        """Load the model in the calibration's precision. Raises CalibrationError if it is not the calibration's."""
        calibration = Calibration.load(Path(self.calibration))
        self.estimator = Estimator(open_denoiser(self.model, calibration.precision), calibration)

    def __call__(self, table: pa.Table) -> pa.Table:
        images = decode_table(table)
        rows = [row for row, image in enumerate(images) if image is not None]
        scores = self.estimator.score([images[row] for row in rows])
        for field in self.writes:
            column = np.full(len(images), np.nan, dtype=np.float32)
            if field.name in scores:  # a calibration of attention alone has no likelihood
                column[rows] = scores[field.name]
            table = table.append_column(field, pa.array(column, mask=np.isnan(column)))
        return table


def open_denoiser(model: str, precision: str = BFLOAT16) -> Denoiser:
    """Read the pipeline `model`, a folder or Hub id, of any class that the estimator reads, onto the first GPU or CPU.

    `precision` is that of the network on a GPU (the default is ours); on a CPU it is always float32. Raises RecipeError
    if the files cannot be read, CalibrationError if the pipeline is of another class.
    """
    with weights.reading(model):
        index = DiffusionPipeline.load_config(model)
        kind = reader(str(index.get("_class_name")))
        pipe = kind.pipeline.from_pretrained(
            model, dtype=torch.float32, use_safetensors=True, **kind.left_out(index)
        )
    device = weights.device()
    return kind(pipe).to(device, FLOAT32 if device.type == "cpu" else precision)
