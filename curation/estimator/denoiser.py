"""What the estimator needs of a pipeline: text encodings, latents, noised latents, one prediction.

`UNetDenoiser` covers StableDiffusionPipeline (SD 1.x, 2.x and the miniature). Another class of pipelines becomes
another class here with the same methods.

Shapes: B pictures, C latent channels, h and w latent height and width, S text positions, E text width.
"""

import hashlib
from contextlib import suppress
from dataclasses import dataclass

import numpy as np
import torch
from diffusers import StableDiffusionPipeline

from curation.errors import CalibrationError
from curation.estimator.attention import StopPass
from curation.images import resize

TARGETS = ("epsilon", "v_prediction")


@dataclass(frozen=True, kw_only=True)
class Token:
    """One text position of an encoded prompt. `role` is "start", "word", "end" or "padding"."""

    index: int
    text: str
    role: str


class UNetDenoiser:
    """The frozen parts of a StableDiffusionPipeline, asked without gradients."""

    def __init__(self, pipe: StableDiffusionPipeline) -> None:
        if not isinstance(pipe, StableDiffusionPipeline):
            raise CalibrationError(
                f"the estimator reads StableDiffusionPipeline models (SD 1.x, 2.x), not {type(pipe).__name__}"
            )
        self.kind = pipe.scheduler.config.prediction_type
        if self.kind not in TARGETS:
            raise CalibrationError(f"the scheduler predicts {self.kind!r}; the estimator knows {', '.join(TARGETS)}")
        self.pipe = pipe
        self.unet = pipe.unet.eval()
        self.vae = pipe.vae.eval()
        pipe.text_encoder.eval()

    @property
    def image_size(self) -> int:
        """The model's native side in pixels."""
        return int(self.unet.config.sample_size) * self.pipe.vae_scale_factor

    def fingerprint(self) -> str:
        """Return the hex SHA-256 of everything the scores depend on: weights, vocabulary and noise schedule.

        Values only: versions of transformers name the same text weights differently. Weights count as float32, so a
        model has to be read back from its files before it is calibrated, if they are stored in less.
        """
        digest = hashlib.sha256()
        for part in (self.unet, self.vae, self.pipe.text_encoder):
            for _, tensor in sorted(part.named_parameters(), key=lambda item: item[0]):
                digest.update(tensor.detach().float().cpu().contiguous().numpy().data)
        vocabulary = sorted(self.pipe.tokenizer.get_vocab().items(), key=lambda item: item[1])
        digest.update(repr(vocabulary).encode())
        digest.update(self.pipe.scheduler.alphas_cumprod.numpy().data)
        digest.update(self.kind.encode())
        return digest.hexdigest()

    def tokens(self, prompt: str) -> tuple[Token, ...]:
        """Return the text positions of `prompt`. Raises CalibrationError if it is longer than the model reads."""
        tokenizer = self.pipe.tokenizer
        ids = tokenizer(prompt).input_ids
        length = tokenizer.model_max_length
        if len(ids) > length:
            raise CalibrationError(f"the prompt has {len(ids)} tokens, the model reads {length}: shorten {prompt!r}")
        texts = tokenizer.convert_ids_to_tokens(ids)
        roles = ["start"] + ["word"] * (len(ids) - 2) + ["end"]
        padding = length - len(ids)
        return tuple(
            Token(index=index, text=text, role=role)
            for index, (text, role) in enumerate(
                zip(texts + [str(tokenizer.pad_token)] * padding, roles + ["padding"] * padding, strict=True)
            )
        )

    @torch.inference_mode()
    def encode(self, prompt: str) -> torch.Tensor:
        """Return text_1SE, encoded as the pipeline itself does. Raises CalibrationError if it would be cut."""
        self.tokens(prompt)
        return self.pipe.encode_prompt(prompt, self.unet.device, 1, False)[0]

    @torch.inference_mode()
    def latents(self, pixels_BHWC: np.ndarray) -> torch.Tensor:
        """Return z_BChw, the mean of the VAE's posterior, for uint8 pictures."""
        x_BCHW = torch.from_numpy(pixels_BHWC).to(self.vae.device, self.vae.dtype).permute(0, 3, 1, 2) / 127.5 - 1
        z_BChw = self.vae.encode(x_BCHW).latent_dist.mode()
        return (z_BChw - (self.vae.config.shift_factor or 0)) * self.vae.config.scaling_factor

    def noised(self, z_BChw: torch.Tensor, noise_Chw: torch.Tensor, timestep: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return (z_t, target), both (B, C, h, w): the same noise for every picture."""
        alpha_bar = float(self.pipe.scheduler.alphas_cumprod[timestep])
        return diffuse(z_BChw, noise_Chw.to(z_BChw), alpha_bar, kind=self.kind)

    @torch.inference_mode()
    def predict(self, z_BChw: torch.Tensor, timestep: int, text_1SE: torch.Tensor) -> torch.Tensor | None:
        """Return the prediction (B, C, h, w), None if a recorder stopped the pass."""
        text_BSE = text_1SE.expand(len(z_BChw), -1, -1)
        with suppress(StopPass):
            return self.unet(z_BChw, timestep, encoder_hidden_states=text_BSE, return_dict=False)[0]
        return None


def diffuse(
    z_BChw: torch.Tensor, noise_Chw: torch.Tensor, alpha_bar: float, *, kind: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return (z_t, target) at signal share `alpha_bar`; `kind` is "epsilon" or "v_prediction"."""
    signal, noise = alpha_bar**0.5, (1 - alpha_bar) ** 0.5
    z_t = signal * z_BChw + noise * noise_Chw
    if kind == "epsilon":
        return z_t, noise_Chw.expand_as(z_BChw)
    return z_t, signal * noise_Chw - noise * z_BChw


def fixed_noise(shape: tuple[int, ...], *, draws: int, seed: int) -> torch.Tensor:
    """Return noise (draws, *shape). Every second draw is its predecessor negated, which cancels odd error terms."""
    half = torch.randn((-(-draws // 2), *shape), generator=torch.Generator().manual_seed(seed))
    return torch.stack([half, -half], dim=1).flatten(0, 1)[:draws]


def square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Return the central square of `pixels` (H, W, 3) uint8 at (size, size, 3)."""
    side = min(pixels.shape[:2])
    top, left = ((extent - side) // 2 for extent in pixels.shape[:2])
    return resize(np.ascontiguousarray(pixels[top : top + side, left : left + side]), (size, size))
