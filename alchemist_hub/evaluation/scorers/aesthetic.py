"""LAION's improved aesthetic predictor: five linear layers on the unit vector that CLIP ViT-L/14 gives a picture.

Shape legend: B pictures, D features.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from alchemist_hub.errors import ModelError
from alchemist_hub.evaluation.features import ClipEmbeddings, check_paired
from alchemist_hub.evaluation.pretrained import Fetched, State, fetch_file, read_state

PUBLISHED = "github.com/christophschuhmann/improved-aesthetic-predictor: sac+logos+ava1-l14-linearMSE.pth"
LAYERS = (0, 2, 4, 6, 7)  # places of the linear layers; those between are dropouts, and there is no activation


class AestheticPredictor:
    """A mean rating of 1 to 10 as people of SAC, LAION-Logos and AVA gave, predicted; the prompt is not read."""

    name = "aesthetic"
    higher_is_better = True
    unit = "predicted mean rating, 1 to 10"

    def __init__(self, clip: ClipEmbeddings, head: "Head", weights: Fetched) -> None:
        self._clip = clip
        self._head = head
        self.source = f"improved-aesthetic-predictor: {weights.source}; {clip.source}"
        self.revision = f"{weights.revision}; {clip.revision}"

    @classmethod
    def load(
        cls, weights: str | Path | None = None, *, device: str = "cpu", clip: str | Path | None = None
    ) -> "AestheticPredictor":
        """Read sac+logos+ava1-l14-linearMSE as safetensors, and CLIP ViT-L/14 or another `clip`. Raises ModelError."""
        found = fetch_file(weights, what=cls.name, published_as=PUBLISHED)
        return cls(ClipEmbeddings.load(clip, device=device), Head.read(found.path), found)

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """Return (B,) float64. Raises EvaluationError unless there is one prompt a picture."""
        check_paired(images, prompts)
        return self._head(self._clip.embed(images))


class Head:
    """Linear layers one after the other, as a predictor and ImageReward end in them."""

    def __init__(self, layers: list[tuple[torch.Tensor, torch.Tensor]]) -> None:
        self._layers = layers

    @classmethod
    def read(cls, path: Path) -> "Head":
        """Read a file that holds a predictor and nothing else. Raises ModelError."""
        return cls.of(read_state(path), path.name)

    @classmethod
    def of(cls, state: State, name: str) -> "Head":
        """Take the layers of a state. Raises ModelError unless it holds exactly them, each fitting the next."""
        wanted = [f"layers.{layer}.{kind}" for layer in LAYERS for kind in ("weight", "bias")]
        if sorted(state) != sorted(wanted):
            raise ModelError(f"{name} holds no rating head: expected {wanted[0]} to {wanted[-1]}")
        layers = [(state[f"layers.{layer}.weight"].float(), state[f"layers.{layer}.bias"].float()) for layer in LAYERS]
        widths = [weight.shape for weight, _ in layers]
        fitting = all(before[0] == after[1] for before, after in zip(widths, widths[1:], strict=False))
        if not fitting or widths[-1][0] != 1:
            raise ModelError(f"{name} holds no rating head: its layers do not end in one number")
        return cls(layers)

    def __call__(self, features_BD: np.ndarray) -> np.ndarray:
        """Return (B,) float64. Raises ModelError if the features have another length than the first layer reads."""
        values = torch.from_numpy(np.asarray(features_BD, np.float32))
        if values.shape[1] != self._layers[0][0].shape[1]:
            raise ModelError(f"the rating head reads {self._layers[0][0].shape[1]} features, and got {values.shape[1]}")
        for weight, bias in self._layers:
            values = values @ weight.T + bias
        return values[:, 0].double().numpy()
