"""Run a script that needs torchvision's transforms, with it or without: python official.py SCRIPT ARGUMENTS.

The script runs unchanged. Where torchvision imports, it is used; where not, a stand-in of the few transforms that the
official text-to-image script names, on Pillow and torch as torchvision's own are, with the same operations.
"""

import importlib
import runpy
import sys
from collections.abc import Callable, Sequence
from enum import Enum
from types import ModuleType
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor


class InterpolationMode(Enum):
    NEAREST = Image.Resampling.NEAREST
    BILINEAR = Image.Resampling.BILINEAR
    BICUBIC = Image.Resampling.BICUBIC
    LANCZOS = Image.Resampling.LANCZOS


class Compose:
    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        self.transforms = transforms

    def __call__(self, image: Any) -> Any:
        for transform in self.transforms:
            image = transform(image)
        return image


class Lambda:
    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def __call__(self, image: Any) -> Any:
        return self.function(image)


class Resize:
    """The shorter side to `size` pixels."""

    def __init__(self, size: int, interpolation: InterpolationMode) -> None:
        self.size, self.resampling = size, interpolation.value

    def __call__(self, image: Image.Image) -> Image.Image:
        shorter = min(image.size)
        if shorter == self.size:
            return image
        width, height = (side * self.size // shorter for side in image.size)
        return image.resize((width, height), self.resampling)


class CenterCrop:
    def __init__(self, size: int) -> None:
        self.size = size

    def __call__(self, image: Image.Image) -> Image.Image:
        left, top = (round((side - self.size) / 2) for side in image.size)
        return image.crop((left, top, left + self.size, top + self.size))


class ToTensor:
    """uint8 (height, width, 3) to float32 (3, height, width) in [0, 1]."""

    def __call__(self, image: Image.Image) -> Tensor:
        return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div(255)


class Normalize:
    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = torch.tensor(mean).view(-1, 1, 1), torch.tensor(std).view(-1, 1, 1)

    def __call__(self, pixels: Tensor) -> Tensor:
        return pixels.clone().sub_(self.mean).div_(self.std)


def torchvision_imports() -> bool:
    try:
        importlib.import_module("torchvision")
    except (ImportError, RuntimeError, AttributeError):  # missing, or built for another torch
        return False
    return True


def stand_in() -> None:
    """Make `from torchvision import transforms` give this file's, for the script alone.

    The libraries look for torchvision when they are imported; they are, before it is there, so that they stay with
    Pillow.
    """
    for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
        del sys.modules[name]  # what a failed import left
    for library in ("datasets", "diffusers.training_utils"):
        importlib.import_module(library)
    importlib.import_module("transformers.utils").is_torchvision_available()  # asked once, remembered
    package = ModuleType("torchvision")
    package.transforms = sys.modules[__name__]
    sys.modules["torchvision"] = package


if __name__ == "__main__":
    if sys.argv[1] == "--torchvision":
        print("torchvision" if torchvision_imports() else "a stand-in")
    else:
        sys.argv = sys.argv[1:]
        if not torchvision_imports():
            stand_in()
        runpy.run_path(sys.argv[0], run_name="__main__")
