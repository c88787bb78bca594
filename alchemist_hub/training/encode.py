"""A data set as the denoiser sees it: latents and text embeddings, computed once and kept in safetensors.

Latents are kept as the mean and standard deviation of the VAE's posterior, so that training still samples. The cache
is keyed by the data's fingerprint, the hashes of the components involved and the settings; it is written in parts, and
a rerun goes on after the last whole part. Several runs may share one cache folder.
Shapes: N pictures, V views (as it is; mirrored), C latent channels, h w latent height and width, L tokens, D width.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionPipeline
from PIL import Image, ImageOps
from rich.progress import track
from safetensors.torch import load_file, save_file
from torch import Tensor

from alchemist_hub.errors import TrainingError

PART = 64  # pictures per file
_PIXELS = 2**22  # per forward pass of the VAE


@dataclass(frozen=True, kw_only=True)
class Encodings:
    """The whole data set, float32 in host memory. Latents are scaled and shifted as the denoiser expects them."""

    mean_NVChw: Tensor
    std_NVChw: Tensor
    text_NLD: Tensor
    unconditional_LD: Tensor  # what a dropped caption is replaced by: the encoding of ""


def encode(
    rows: Any,
    *,
    base: Path,
    hashes: dict[str, str],
    fingerprint: str,
    size: int,
    flip: bool,
    cache: Path,
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Encodings:
    """Return the encodings of `rows` (a `datasets.Dataset` with img_key, prompt, image) by the models in `base`.

    Pictures are resized to cover `size` x `size` pixels and cut to the middle. The VAE and the text encoder are loaded
    only if something is missing in `cache`, and are gone from memory afterwards. Raises `TrainingError` for a picture
    that cannot be decoded.
    """
    latents = cache / _key("latents", fingerprint, hashes["vae"], size, flip)
    texts = cache / _key("text", fingerprint, hashes["text_encoder"], hashes["tokenizer"])
    starts = range(0, len(rows), PART)
    missing_latents = [start for start in starts if not _part(latents, start).is_file()]
    missing_texts = [start for start in starts if not _part(texts, start).is_file()]
    empty = texts / "unconditional.safetensors"
    if missing_latents or missing_texts or not empty.is_file():
        pipe = _encoders(base, device)
        for start in track(missing_latents, "encoding pictures", disable=not progress):
            _write(_part(latents, start), _encode_images(pipe, _slice(rows, start), size=size, flip=flip))
        for start in track(missing_texts, "encoding prompts", disable=not progress):
            _write(_part(texts, start), {"text": _encode_prompts(pipe, _slice(rows, start)["prompt"])})
        _write(empty, {"text": _encode_prompts(pipe, [""])})
    images = [load_file(_part(latents, start)) for start in starts]
    return Encodings(
        mean_NVChw=torch.cat([part["mean"] for part in images]),
        std_NVChw=torch.cat([part["std"] for part in images]),
        text_NLD=torch.cat([load_file(_part(texts, start))["text"] for start in starts]),
        unconditional_LD=load_file(empty)["text"][0],
    )


def _key(kind: str, *parts: Any) -> str:
    return f"{kind}-{hashlib.sha256(json.dumps([PART, *parts]).encode()).hexdigest()[:16]}"


def _part(folder: Path, start: int) -> Path:
    return folder / f"{start:08d}.safetensors"


def _slice(rows: Any, start: int) -> dict[str, list]:
    stop = min(start + PART, len(rows))
    try:
        return rows[start:stop]
    except (OSError, Image.DecompressionBombError) as error:  # decoding happens here; most of Pillow's are OSErrors
        raise TrainingError(f"a picture in rows {start} to {stop - 1} cannot be decoded: {error}") from error


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}")  # two runs may fill one cache
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
    part.replace(file)


def _encoders(base: Path, device: torch.device | str) -> StableDiffusionPipeline:
    """The pipeline without its denoiser."""
    pipe = StableDiffusionPipeline.from_pretrained(
        base, unet=None, safety_checker=None, feature_extractor=None, requires_safety_checker=False
    )
    pipe.vae.float()
    pipe.text_encoder.float()
    return pipe.to(device)


@torch.inference_mode()
def _encode_images(pipe: StableDiffusionPipeline, rows: dict[str, list], *, size: int, flip: bool) -> dict[str, Tensor]:
    """Return mean and std, both (N, V, C, h, w)."""
    pixels_NCHW = torch.stack([to_pixels(image, size) for image in rows["image"]])
    views = [pixels_NCHW, pixels_NCHW.flip(-1)] if flip else [pixels_NCHW]
    posteriors = [_posterior(pipe.vae, view) for view in views]
    mean, std = (torch.stack(moment, dim=1) for moment in zip(*posteriors, strict=True))
    return {"mean": mean, "std": std}


def _posterior(vae: torch.nn.Module, pixels_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents as the denoiser expects them, both (N, C, h, w)."""
    scale, shift = vae.config.scaling_factor, getattr(vae.config, "shift_factor", None) or 0.0
    batch = max(1, _PIXELS // pixels_NCHW[0, 0].numel())
    found = [vae.encode(pixels.to(vae.device)).latent_dist for pixels in pixels_NCHW.split(batch)]
    mean, std = (torch.cat([getattr(posterior, name).cpu() for posterior in found]) for name in ("mean", "std"))
    return (mean - shift) * scale, std * scale


@torch.inference_mode()
def _encode_prompts(pipe: StableDiffusionPipeline, prompts: Sequence[str]) -> Tensor:
    """Return (N, L, D), by the same function that encodes prompts for sampling."""
    return pipe.encode_prompt(list(prompts), pipe.device, 1, do_classifier_free_guidance=False)[0].cpu()


def to_pixels(image: Image.Image, size: int) -> Tensor:
    """Return the middle of `image`, resized to cover the square, as (3, size, size) in [-1, 1]."""
    upright = ImageOps.exif_transpose(image).convert("RGB")
    square = ImageOps.fit(upright, (size, size), Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(square)).permute(2, 0, 1).float() / 127.5 - 1
