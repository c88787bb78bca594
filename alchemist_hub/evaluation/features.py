"""What networks see in pictures: DINOv2 and CLIP embeddings, the miniature's judge, and plain thumbnails.

Shape legend: B pictures or texts, D features. Embedding is batched and runs in float32 on any device, since distances
of features are compared across days and machines.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer, Dinov2Model

from alchemist_hub.errors import EvaluationError, ModelError
from alchemist_hub.evaluation import pixels
from alchemist_hub.evaluation.judges import JudgeNetwork
from alchemist_hub.evaluation.pretrained import (
    MODEL,
    TOKENIZER,
    Fetched,
    Published,
    content_hash,
    fetch,
    read_network,
    read_tokenizer,
)
from alchemist_hub.miniature import weights as miniature_weights

BATCH = 32

DINOV2 = Published(
    repository="facebook/dinov2-large",
    revision="47b73eefe95e8d44ec3623f8890bd894b6ea2d6c",
    files=MODEL,
    gigabytes=1.22,
)
CLIP_L = Published(
    repository="openai/clip-vit-large-patch14",
    revision="32bd64288804d66eefd0ccbe215aa642df71cc41",
    files=(*MODEL, *TOKENIZER),
    gigabytes=1.71,
)


class Features(Protocol):
    """Anything that turns pictures into vectors: (B, D) float32."""

    name: str
    source: str
    revision: str

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray: ...


class Dinov2Features:
    """The class token after the last norm, (B, 1024) for the large model: the features of FD-DINOv2.

    As Stein et al. (2023) and their code: both sides resized to 224 px by PIL's bicubic, without crop, ImageNet's mean
    and deviation. Where their code interpolates the position embedding with a small offset, transformers has none, so
    compare distances made by this code with each other, not with printed ones.
    """

    name = "dinov2"
    SIDE = 224

    def __init__(self, network: Dinov2Model, weights: Fetched, *, device: str = "cpu") -> None:
        self._network = network.eval().to(device)
        self._device = device
        self.source, self.revision = weights.source, weights.revision

    @classmethod
    def load(cls, folder: str | Path | None = None, *, device: str = "cpu") -> "Dinov2Features":
        """Read facebook/dinov2-large, or a folder or repository of the same class. Raises ModelError."""
        weights = fetch(DINOV2, folder)
        return cls(read_network(Dinov2Model, weights.path), weights, device=device)

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return (B, D) float32, not normalised."""
        return _batched(images, self._embed_batch, self._network.config.hidden_size)

    def _embed_batch(self, images: Sequence[Image.Image]) -> np.ndarray:
        inputs = pixels.normalised(images, pixels.squashed, self.SIDE, pixels.IMAGENET)
        with torch.inference_mode():
            return self._network(inputs.to(self._device)).pooler_output.float().cpu().numpy()


class ClipEmbeddings:
    """Both towers of a CLIP: pictures and texts as unit vectors of one space. As `Features` it embeds pictures."""

    name = "clip"

    def __init__(self, network: CLIPModel, tokenizer: Any, weights: Fetched, *, device: str = "cpu") -> None:
        self._network = network.eval().to(device)
        self._tokenizer = tokenizer
        self._device = device
        self.source, self.revision = weights.source, weights.revision

    @classmethod
    def load(cls, folder: str | Path | None = None, *, device: str = "cpu") -> "ClipEmbeddings":
        """Read openai/clip-vit-large-patch14, or a folder or repository of the same class. Raises ModelError."""
        weights = fetch(CLIP_L, folder)
        network = read_network(CLIPModel, weights.path)
        return cls(network, read_tokenizer(CLIPTokenizer, weights.path), weights, device=device)

    @property
    def logit_scale(self) -> float:
        """What the network was trained to multiply cosines by."""
        return float(self._network.logit_scale.detach().exp())

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return (B, D) float32 unit vectors of pictures."""
        return _batched(images, self._embed_pictures, self._network.config.projection_dim)

    def embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        """Return (B, D) float32 unit vectors of texts; CLIP reads 75 tokens of a text and no more."""
        return _batched(texts, self._embed_texts, self._network.config.projection_dim)

    def cosines(self, images: Sequence[Image.Image], texts: Sequence[str]) -> np.ndarray:
        """Return (B,) float64 cosines in [-1,1] of each picture with its own text. Raises EvaluationError."""
        check_paired(images, texts)
        return np.einsum("bd,bd->b", self.embed(images), self.embed_texts(texts), dtype=np.float64)

    def _embed_pictures(self, images: Sequence[Image.Image]) -> np.ndarray:
        side = self._network.config.vision_config.image_size
        inputs = pixels.normalised(images, pixels.centred, side, pixels.CLIP).to(self._device)
        with torch.inference_mode():
            return _unit(self._network.get_image_features(pixel_values=inputs).pooler_output)

    def _embed_texts(self, texts: Sequence[str]) -> np.ndarray:
        length = self._network.config.text_config.max_position_embeddings
        tokens = self._tokenizer(
            list(texts), padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        with torch.inference_mode():
            found = self._network.get_text_features(
                input_ids=tokens.input_ids.to(self._device), attention_mask=tokens.attention_mask.to(self._device)
            )
            return _unit(found.pooler_output)


class JudgeFeatures:
    """What the miniature's judge sees before it decides, (B, 192). Not DINOv2: it knows the miniature's world only."""

    name = "miniature-judge"

    def __init__(self, judge: JudgeNetwork, weights: Fetched) -> None:
        self._judge = judge
        self.source, self.revision = weights.source, weights.revision

    @classmethod
    def load(cls, folder: str | Path | None = None, *, device: str = "cpu") -> "JudgeFeatures":
        """Read the shipped judge, or another judge's folder; small enough to stay on the CPU. Raises ModelError."""
        path = Path(folder) if folder is not None else miniature_weights() / "judge"
        judge = JudgeNetwork.load(path)
        revision = content_hash([path / name for name in MODEL])
        return cls(judge, Fetched(path=path, source="the miniature's judge", revision=revision))

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return (B, D) float32."""
        return self._judge.embed_images(list(images))


class ThumbnailFeatures:
    """16 x 16 pixels, less their mean, as unit vectors: no network. Knows resized and re-encoded copies, little else.

    The cosine of two is the correlation of the thumbnails, so brightness and contrast do not count.
    """

    name = "thumbnail"
    source, revision = "computed", "1"
    SIDE = 16

    @classmethod
    def load(cls, folder: str | Path | None = None, *, device: str = "cpu") -> "ThumbnailFeatures":
        """Return them; there is nothing to load, and ModelError is raised if weights are given."""
        if folder is not None:
            raise ModelError(f"thumbnail features have no weights; {folder} cannot be used")
        return cls()

    def embed(self, images: Sequence[Image.Image]) -> np.ndarray:
        """Return (B, 768) float32; zeros for a picture of one colour."""
        return _batched(images, self._embed_batch, 3 * self.SIDE**2)

    def _embed_batch(self, images: Sequence[Image.Image]) -> np.ndarray:
        size = (self.SIDE, self.SIDE)
        small = [np.asarray(image.convert("RGB").resize(size, Image.Resampling.BOX), np.float32) for image in images]
        flat = np.stack(small).reshape(len(images), -1, 3)
        flat = (flat - flat.mean(axis=1, keepdims=True)).reshape(len(images), -1)
        return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


FEATURES: dict[str, Callable[..., Features]] = {
    found.name: found.load for found in (Dinov2Features, ClipEmbeddings, JudgeFeatures, ThumbnailFeatures)
}


def features(name: str, *, device: str = "cpu", weights: str | Path | None = None) -> Features:
    """Return the features called `name`, from `weights` (a folder or repository) or where they are published.

    Raises ModelError for an unknown name, or for weights that are missing.
    """
    if name not in FEATURES:
        raise ModelError(f"unknown features {name!r}; there are {', '.join(FEATURES)}")
    return FEATURES[name](weights, device=device)


def embed_all(found: Features, images: Iterable[Image.Image]) -> np.ndarray:
    """Return (B, D) of as many pictures as `images` yields, holding one batch of them at a time.

    Raises EvaluationError if it yields none.
    """
    remaining = iter(images)
    parts = []
    while batch := list(islice(remaining, BATCH)):
        parts.append(found.embed(batch))
    if not parts:
        raise EvaluationError("there are no pictures to look at")
    return np.concatenate(parts)


def check_paired(images: Sequence[Image.Image], prompts: Sequence[str]) -> None:
    """Raise EvaluationError unless there is one prompt a picture."""
    if len(images) != len(prompts):
        raise EvaluationError(f"{len(images)} pictures and {len(prompts)} prompts: expected one prompt a picture")


def _unit(vectors_BD: torch.Tensor) -> np.ndarray:
    return torch.nn.functional.normalize(vectors_BD.float(), dim=-1).cpu().numpy()


def _batches(items: Sequence[Any]) -> Iterator[Sequence[Any]]:
    for start in range(0, len(items), BATCH):
        yield items[start : start + BATCH]


def _batched(items: Sequence[Any], embed: Callable[[Sequence[Any]], np.ndarray], width: int) -> np.ndarray:
    parts = [embed(batch) for batch in _batches(items)]
    return np.concatenate(parts) if parts else np.zeros((0, width), np.float32)
