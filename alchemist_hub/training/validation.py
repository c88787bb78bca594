"""Pictures from fixed prompts and seeds while a denoiser trains, painted with its averaged weights.

The text encoders are long gone by then: prompts are encoded with the captions and kept in the same cache. Only the VAE
is loaded, for as long as it paints.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from alchemist_hub.models import ModelSpec
from alchemist_hub.sampling import rescaling
from alchemist_hub.training.families import Family, Text
from alchemist_hub.training.sharding import local, split_again


@torch.no_grad()
def paint(
    family: Family,
    base: Path,
    denoiser: torch.nn.Module,
    texts: Text,
    unconditional: Text,
    *,
    spec: ModelSpec,
) -> list[Image.Image]:
    """Return one picture per prompt of `texts` (N, ...) at the base's native size; its seed is its number.

    Steps and guidance are those of `spec`. The denoiser trains on as before.
    """
    device = next(denoiser.parameters()).device
    pipe = family.painter(base, denoiser).to(device)
    denoiser.eval()
    pictures = []
    for number in range(len(texts["states"])):
        given = {family.argument(name): tensor[number][None].to(device) for name, tensor in texts.items()}
        given |= {f"negative_{family.argument(name)}": tensor.to(device) for name, tensor in unconditional.items()}
        pictures += pipe(
            **given,
            num_inference_steps=spec.steps,
            guidance_scale=spec.guidance,
            generator=torch.Generator("cpu").manual_seed(number),
            **rescaling(pipe),
        ).images
    split_again(denoiser)
    denoiser.train()
    return pictures


@contextmanager
def averaged(weights: Mapping[str, Tensor], average: Mapping[str, Tensor]) -> Iterator[None]:
    """Put the averaged weights in the place of the trained ones for the block; those wait in host memory."""
    waiting = {name: local(weight).detach().to("cpu", copy=True) for name, weight in weights.items()}
    _copy(weights, average)
    try:
        yield
    finally:
        _copy(weights, waiting)


@torch.no_grad()
def _copy(weights: Mapping[str, Tensor], values: Mapping[str, Tensor]) -> None:
    for name, weight in weights.items():
        local(weight).copy_(local(values[name]))
