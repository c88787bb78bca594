"""What the estimator needs of a pipeline: text encodings, latents, noised latents, one prediction.

`Denoiser` is what every class of pipelines has in common; one class for each is in `pipelines.py`.

Shapes: B pictures, C latent channels, h and w latent height and width, S text positions, E text width, P pooled width.
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from diffusers import DiffusionPipeline

from curation.errors import CalibrationError
from curation.estimator.attention import StopPass, text_attention
from curation.images import resize

ANY_TIMESTEP = 250  # where a pass is run for the order of its layers alone
FLOAT32, BFLOAT16 = "float32", "bfloat16"  # precisions that a network may answer in
PICTURES, SIDE = 32, 512  # pictures a pass at this side in pixels, fewer at a larger one (ours)


@dataclass(frozen=True, kw_only=True)
class Token:
    """One text position of an encoded prompt. `role` is "start", "word", "end" or "padding"."""

    index: int
    text: str
    role: str


@dataclass(frozen=True, kw_only=True)
class Text:
    """An encoded prompt: text_1SE, and for the models that ask for it the pooled encoding (1, P)."""

    states: torch.Tensor
    pooled: torch.Tensor | None = None


class Denoiser(ABC):
    """The frozen parts of a pipeline, asked without gradients."""

    pipeline: ClassVar[type[DiffusionPipeline]]
    component: ClassVar[str]  # what the pipeline calls its network

    def __init__(self, pipe: DiffusionPipeline) -> None:
        self.pipe = pipe
        self.network: torch.nn.Module = getattr(pipe, self.component)
        self.vae = pipe.vae
        self.text_encoders = self._numbered("text_encoder")
        self.tokenizers = self._numbered("tokenizer")
        self.precision = FLOAT32
        self._texts: dict[str, Text] = {}
        self._read_fingerprint: str | None = None
        for part in (self.network, self.vae, *self.text_encoders):
            part.eval()

    def to(self, device: torch.device, precision: str) -> "Denoiser":
        """Move to `device`; the network and the text encoders to `precision`, the VAE stays in float32.

        The fingerprint remains the one of the weights as they were read.
        """
        self._read_fingerprint = self.fingerprint()
        self._texts = {}
        self.precision = precision
        self.vae.to(device)
        for part in (self.network, *self.text_encoders):
            part.to(device, getattr(torch, precision))
        return self

    @classmethod
    def left_out(cls, index: dict[str, Any]) -> dict[str, None]:
        """Return what `from_pretrained` is not to load, given the content of model_index.json."""
        return {}

    @property
    def image_size(self) -> int:
        """The model's native side in pixels."""
        return int(self.network.config.sample_size) * self.pipe.vae_scale_factor

    @property
    def batch(self) -> int:
        """How many pictures of the native size make one pass."""
        return max(1, min(PICTURES, PICTURES * SIDE**2 // self.image_size**2))

    def fingerprint(self) -> str:
        """Return the hex SHA-256 of everything the scores depend on: weights, vocabulary and noise schedule.

        Values only: versions of transformers name the same text weights differently. Weights count as float32, so a
        model has to be read back from its files before it is calibrated, if they are stored in less. The schedule
        counts by its settings: what is computed from them differs in the last bit from processor to processor.
        """
        if self._read_fingerprint is not None:
            return self._read_fingerprint
        digest = hashlib.sha256()
        for part in (self.network, self.vae, *self.text_encoders):
            for _, tensor in sorted(part.named_parameters(), key=lambda item: item[0]):
                digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
        for tokenizer in self.tokenizers:
            vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
            digest.update(repr(vocabulary).encode())
        digest.update(json.dumps(self.schedule()).encode())
        return digest.hexdigest()

    def tokens(self, prompt: str) -> tuple[Token, ...]:
        """Return the text positions of `prompt`. Raises CalibrationError if it is longer than the model reads."""
        return tuple(
            Token(index=index, text=text, role=role) for index, (text, role) in enumerate(self._positions(prompt))
        )

    @torch.inference_mode()
    def encode(self, prompt: str) -> Text:
        """Return the encoding of `prompt`, made once. Raises CalibrationError if the prompt would be cut."""
        if prompt not in self._texts:
            self.tokens(prompt)
            self._texts[prompt] = self._encode(prompt)
        return self._texts[prompt]

    @torch.inference_mode()
    def latents(self, pixels_BHWC: np.ndarray) -> torch.Tensor:
        """Return z_BChw, the mean of the VAE's posterior, for uint8 pictures."""
        x_BCHW = torch.from_numpy(pixels_BHWC).to(self.vae.device, self.vae.dtype).permute(0, 3, 1, 2) / 127.5 - 1
        z_BChw = self.vae.encode(x_BCHW).latent_dist.mode()
        return (z_BChw - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor

    @torch.inference_mode()
    def predict(self, z_BChw: torch.Tensor, timestep: int, text: Text) -> torch.Tensor | None:
        """Return the prediction (B, C, h, w) in float32, None if a recorder stopped the pass."""
        with suppress(StopPass):
            return self.forward(z_BChw.to(self.network.dtype), timestep, text).float()
        return None

    def text_layers(self) -> tuple[str, ...]:
        """Return the layers in which the picture attends to the text, in the order they run."""
        ran: list[str] = []
        hooks = [
            module.register_forward_pre_hook(lambda *_, name=name: ran.append(name))
            for name, module in text_attention(self.network).items()
        ]
        config = self.network.config
        shape = (1, config.in_channels, config.sample_size, config.sample_size)
        try:
            self.predict(torch.zeros(shape, device=self.vae.device), ANY_TIMESTEP, self.encode(""))
        finally:
            for hook in hooks:
                hook.remove()
        return tuple(ran)

    @abstractmethod
    def schedule(self) -> dict[str, Any]:
        """Return what decides the noise at every timestep and what the network predicts, as JSON values."""

    @abstractmethod
    def noised(self, z_BChw: torch.Tensor, noise_Chw: torch.Tensor, timestep: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (z_t, target), both (B, C, h, w): the same noise for every picture."""

    @abstractmethod
    def forward(self, z_BChw: torch.Tensor, timestep: int, text: Text) -> torch.Tensor:
        """Run the network as the pipeline itself does."""

    @abstractmethod
    def _positions(self, prompt: str) -> Iterator[tuple[str, str]]:
        """Yield the text and the role of each text position."""

    @abstractmethod
    def _encode(self, prompt: str) -> Text: ...

    def _numbered(self, name: str) -> list[Any]:
        parts = (getattr(self.pipe, f"{name}{suffix}", None) for suffix in ("", "_2", "_3"))
        return [part for part in parts if part is not None]


def text_positions(tokenizer: Any, prompt: str, length: int) -> Iterator[tuple[str, str]]:
    """Yield text and role of the `length` positions that `tokenizer` fills. Raises CalibrationError if too few."""
    ids = tokenizer(prompt).input_ids
    if len(ids) > length:
        raise CalibrationError(f"the prompt has {len(ids)} tokens, the model reads {length}: shorten {prompt!r}")
    for index, text in enumerate(tokenizer.convert_ids_to_tokens(ids)):
        starts = index == 0 and ids[0] == tokenizer.bos_token_id
        yield text, "end" if index == len(ids) - 1 else "start" if starts else "word"
    yield from [(str(tokenizer.pad_token), "padding")] * (length - len(ids))


def fixed_noise(shape: tuple[int, ...], *, draws: int, seed: int) -> torch.Tensor:
    """Return noise (draws, *shape). Every second draw is its predecessor negated, which cancels odd error terms."""
    half = torch.randn((-(-draws // 2), *shape), generator=torch.Generator().manual_seed(seed))
    return torch.stack([half, -half], dim=1).flatten(0, 1)[:draws]


def square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return the central square of `pixels` (H, W, 3) uint8 at (size, size, 3)."""
    side = min(pixels.shape[:2])
    top, left = ((extent - side) // 2 for extent in pixels.shape[:2])
    return resize(np.ascontiguousarray(pixels[top : top + side, left : left + side]), (size, size))
