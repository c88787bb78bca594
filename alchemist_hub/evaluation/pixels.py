"""Pictures to what a network reads: resized by PIL, cropped, normalised. No torchvision.

Shape legend: B pictures, S pixels a side. Values come as uint8 in [0,255] and leave normalised per channel.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps

from alchemist_hub.errors import EvaluationError

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of [0,1] values
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))

Fit = Callable[[Image.Image, int], Image.Image]


def squashed(image: Image.Image, side: int) -> Image.Image:
    """Resize both sides to `side`, whatever the shape was: what FD-DINOv2 was defined with."""
    return image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC)


def centred(image: Image.Image, side: int) -> Image.Image:
    """Resize the shorter side to `side` and cut the middle out: what CLIP and its descendants were trained with."""
    image = image.convert("RGB")
    short = min(image.size)
    width, height = (int(side * length / short) for length in image.size)
    left, top = (width - side) // 2, (height - side) // 2
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    return resized.crop((left, top, left + side, top + side))


def normalised(
    images: Sequence[Image.Image], fit: Fit, side: int, statistics: tuple[tuple[float, ...], tuple[float, ...]]
) -> torch.Tensor:
    """Return (B, 3, S, S) float32: `fit` to `side`, scaled to [0,1], less the mean, over the standard deviation."""
    pixels = np.stack([np.asarray(fit(image, side), dtype=np.float32) for image in images]) / 255
    mean, deviation = (np.array(values, dtype=np.float32) for values in statistics)
    return torch.from_numpy((pixels - mean) / deviation).permute(0, 3, 1, 2).contiguous()


def open_picture(path: Path) -> Image.Image:
    """Return a picture file as RGB, upright. Raises EvaluationError if it is none."""
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise EvaluationError(f"{path.name} is no picture that can be read: {error}") from error
