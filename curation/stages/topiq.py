"""TOPIQ: no-reference quality as the paper's funnel judges it, through the package pyiqa (Chen et al. 2024).

The network is built without its download, and its weights are read from safetensors, since the file its authors
publish is a pickle. Converting that file once (`weights_only` runs no code that the file may hold):

    state = torch.load("cfanet_nr_koniq_res50-9a73138b.pth", map_location="cpu", weights_only=True)["params"]
    state = {name.removeprefix("module."): value.contiguous() for name, value in state.items()}
    safetensors.torch.save_file(state, "topiq.safetensors")
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from curation.errors import MissingExtra, RecipeError
from curation.images import decode_table, resize
from curation.stages import weights
from curation.stages.base import Resources, Stage

METRIC = "topiq_nr"  # pyiqa's name of the network that was fitted to KonIQ-10k
LONGEST = 2048  # pixels, (ours): its attention grows with the fourth power of the side


class Topiq(Stage):
    """Writes `iqa`, about [0,1]. Pictures are seen at their own size, up to `LONGEST` pixels, one at a time."""

    name = "topiq"
    reads = ("image",)
    writes = pa.schema([pa.field("iqa", pa.float32())])
    resources: Resources  # its recipe's choice

    def __init__(self, file: str | Path, *, resources: Resources | None = None) -> None:
        """`file`: the network's weights in safetensors."""
        self.file = Path(file)
        self.resources = resources or Resources()

    def config(self) -> dict[str, Any]:
        """Raises RecipeError if there is no such file."""
        if not self.file.is_file():
            raise RecipeError(f"no weights of TOPIQ at {self.file}; expected a .safetensors file")
        return {"weights": f"sha256:{weights.file_hash(self.file)[:32]}", "metric": METRIC, "longest": LONGEST}

    def open(self) -> None:
        """Build the network and load its weights. Raises MissingExtra without pyiqa, RecipeError for other weights."""
        try:
            from pyiqa import create_metric
        except ImportError as error:
            raise MissingExtra("pyiqa", "iqa") from error
        device = weights.device()
        self.network = create_metric(METRIC, device=device, pretrained=False, backbone_pretrain=False)
        try:
            self.network.net.load_state_dict(load_file(self.file, device=str(device)), strict=True)
        except (OSError, SafetensorError, RuntimeError) as error:
            raise RecipeError(
                f"{self.file} does not hold the weights of pyiqa's {METRIC} in safetensors: {_one_line(error)}"
            ) from error
        self.network.eval()

    def __call__(self, table: pa.Table) -> pa.Table:
        scores = [None if pixels is None else self._score(pixels) for pixels in decode_table(table)]
        return table.append_column(self.writes.field("iqa"), pa.array(scores, pa.float32()))

    def _score(self, pixels: np.ndarray) -> float:
        image_1CHW = torch.from_numpy(np.array(_bounded(pixels))).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            return float(self.network(image_1CHW))


def _bounded(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    scale = min(1.0, LONGEST / max(height, width))
    return resize(pixels, (max(1, round(width * scale)), max(1, round(height * scale))))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
