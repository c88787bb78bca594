"""A data set as the denoiser sees it: latents and text embeddings, computed once and kept in safetensors.

Latents are kept as the mean and standard deviation of the VAE's posterior, so that training still samples. The cache
is keyed by the data's fingerprint, the hashes of the components involved and the settings; it is written in parts, and
a rerun goes on after the last whole part. Several runs may share one cache folder. Reading maps the files into memory:
only the pages of the pictures of a batch are touched.
Shapes: N pictures, B batch, V views (as it is; mirrored), C latent channels, h w latent height and width.
"""

import gc
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from PIL import Image, ImageOps
from rich.progress import track
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from alchemist_hub.errors import TrainingError
from alchemist_hub.training.buckets import Size
from alchemist_hub.training.families import Family, Text
from alchemist_hub.training.layout import Layout

PART = 64  # pictures per file
_PIXELS = 2**22  # per forward pass of the VAE


@dataclass(frozen=True, kw_only=True)
class Encodings:
    """The whole data set, on disk. Latents are scaled and shifted as the denoiser expects them."""

    latent_parts: tuple[dict[str, Tensor], ...]  # "mean" and "std", each (PART, V, C, h, w)
    text_parts: tuple[Text, ...]
    unconditional: Text  # batch 1: what a dropped caption is replaced by
    validation: Text  # of the prompts to paint while training, one a row
    place_N2: tuple[tuple[int, int], ...]  # of a picture's latents: part, place in it

    def latents(self, index_B: Tensor, mirrored_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of pictures of one bucket, both (B, C, h, w)."""
        places = [
            (*self.place_N2[index], int(mirrored))
            for index, mirrored in zip(index_B.tolist(), mirrored_B.tolist(), strict=True)
        ]
        mean, std = (
            torch.stack([self.latent_parts[part][name][place, view] for part, place, view in places])
            for name in ("mean", "std")
        )
        return mean, std

    def texts(self, index_B: Tensor, dropped_B: Tensor) -> Text:
        """Return the text encodings of pictures, the unconditional one for dropped captions."""
        own = [(self.text_parts[index // PART], index % PART) for index in index_B.tolist()]
        found = [(self.unconditional, 0) if dropped else at for at, dropped in zip(own, dropped_B, strict=True)]
        return {name: torch.stack([part[name][place] for part, place in found]) for name in self.unconditional}

    @property
    def numbers(self) -> int:
        """How many numbers the largest latents hold."""
        return max(part["mean"][0, 0].numel() for part in self.latent_parts)


def encode(
    rows: Any,
    layout: Layout,
    *,
    family: Family,
    base: Path,
    hashes: dict[str, str],
    fingerprint: str,
    flip: bool,
    cache: Path,
    t5: bool = True,
    validation: Sequence[str] = (),
    device: torch.device | str = "cpu",
    progress: bool = False,
) -> Encodings:
    """Return the encodings of the pictures of `layout` in `rows` (img_key, prompt, image) by the models in `base`.

    Those of the prompts `validation` come with them.

    Pictures are resized to cover their bucket and cut to the middle. The VAE and the text encoders are loaded only if
    something is missing in `cache`, and are gone from memory afterwards. Raises `TrainingError` for a picture that
    cannot be decoded, or a cache that cannot be written.
    """
    shown = rows.select(layout.rows)
    latents = _latent_parts(cache / _key("latents", fingerprint, layout.digest(), hashes["vae"], flip), layout)
    text_hashes = [hashes.get(part) for part in family.text_parts]
    index = (base / "model_index.json").read_text()  # says what SDXL takes for no prompt
    texts = cache / _key("text", fingerprint, layout.digest(), text_hashes, index, t5)
    captions = {
        texts / f"{start:08d}.safetensors": shown["prompt"][start : start + PART]
        for start in range(0, len(shown), PART)
    }
    asked = {texts / f"{_key('validation', *validation)}.safetensors": list(validation)} if validation else {}
    empty = texts / "unconditional.safetensors"
    missing_latents = [part for part in latents if not part.file.is_file()]
    missing_texts = {file: prompts for file, prompts in (captions | asked).items() if not file.is_file()}
    if missing_latents or missing_texts or not empty.is_file():
        pipe = _encoders(family, base, t5, device)
        for file, prompts in track(missing_texts.items(), "encoding prompts", disable=not progress):
            _write(file, _on_cpu(family.texts, pipe, prompts))
        _write(empty, _on_cpu(family.unconditional, pipe))
        for part in track(missing_latents, "encoding pictures", disable=not progress):
            _write(part.file, _encode_images(pipe, _pixels(shown, part.members, part.size), flip=flip))
        del pipe
        _give_back(torch.device(device))
    places = {index: (number, at) for number, part in enumerate(latents) for at, index in enumerate(part.members)}
    return Encodings(
        latent_parts=tuple(load_file(part.file) for part in latents),
        text_parts=tuple(load_file(file) for file in captions),
        unconditional=load_file(empty),
        validation={name: tensor for file in asked for name, tensor in load_file(file).items()},
        place_N2=tuple(places[index] for index in range(len(shown))),
    )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """One file of latents: pictures of one bucket."""

    file: Path
    size: Size
    members: list[int]


def _latent_parts(folder: Path, layout: Layout) -> list[_Part]:
    return [
        _Part(
            file=folder / f"{size[0]}x{size[1]}-{start:08d}.safetensors",
            size=size,
            members=layout.members(bucket)[start : start + PART],
        )
        for bucket, size in enumerate(layout.buckets)
        for start in range(0, len(layout.members(bucket)), PART)
    ]


def _give_back(device: torch.device) -> None:
    """Return the memory of models that are no longer referred to."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _key(kind: str, *parts: Any) -> str:
    return f"{kind}-{hashlib.sha256(json.dumps([PART, *parts]).encode()).hexdigest()[:16]}"


def _pixels(rows: Any, members: Sequence[int], size: Size) -> Tensor:
    """Return the pictures as (N, 3, height, width) in [-1, 1], decoded one at a time: originals can be large."""
    pixels = []
    for index in members:
        try:
            pixels.append(to_pixels(rows[index]["image"], size))
        except (OSError, Image.DecompressionBombError) as error:  # most of Pillow's are OSErrors
            key = rows.select_columns("img_key")[index]["img_key"]
            raise TrainingError(f"picture {key} cannot be decoded: {error}; take it out of the data set") from error
    return torch.stack(pixels)


def _write(file: Path, tensors: dict[str, Tensor]) -> None:
    part = file.with_name(f".{file.name}.{os.getpid()}")  # two runs may fill one cache
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, part)
        part.replace(file)
    except (OSError, SafetensorError) as error:  # a full disk
        part.unlink(missing_ok=True)
        raise TrainingError(f"{file.parent} cannot hold the encodings: {error}; free space or name another") from error


def _encoders(family: Family, base: Path, t5: bool, device: torch.device | str) -> DiffusionPipeline:
    """The pipeline without its denoiser."""
    return family.encoders(base, t5=t5, device=device)


@torch.inference_mode()
def _on_cpu(encoding: Callable[..., Text], *arguments: Any) -> Text:
    return {name: tensor.cpu() for name, tensor in encoding(*arguments).items()}


@torch.inference_mode()
def _encode_images(pipe: DiffusionPipeline, pixels_NCHW: Tensor, *, flip: bool) -> dict[str, Tensor]:
    """Return mean and std, both (N, V, C, h, w)."""
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


def to_pixels(image: Image.Image, size: Size) -> Tensor:
    """Return the middle of `image`, resized to cover `size` (height, width), as (3, height, width) in [-1, 1]."""
    upright = ImageOps.exif_transpose(image).convert("RGB")
    cut = ImageOps.fit(upright, size[::-1], Image.Resampling.LANCZOS)
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1).float() / 127.5 - 1
