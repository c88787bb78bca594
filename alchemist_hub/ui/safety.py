"""The safety filter: looks at every picture before the page shows it, previews included.

Prompts are not checked. A hidden picture is named as hidden; it is never shown as a black square.
"""

from functools import partial
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

from alchemist_hub.errors import ModelError

CHECKER = "stable-diffusion-v1-5/stable-diffusion-v1-5"  # its folder safety_checker holds the public filter's weights
CHECKER_FILES = ("safety_checker/config.json", "safety_checker/model.safetensors", "feature_extractor/*.json")
UNSAFE = frozenset({"unsafe", "nsfw"})  # labels
LIMIT = 0.5  # summed probability of these labels from which a picture is hidden


class Guard(Protocol):
    """Says of one picture whether it must not be shown."""

    def __call__(self, picture: Image.Image) -> bool: ...


def load_guard(source: str | Path) -> Guard:
    """Return the filter in `source`: a folder of an image classifier, or the Hub repository `CHECKER`.

    Raises ModelError when it is not there or of neither kind.
    """
    try:
        if Path(source).is_dir() and not Path(source, "safety_checker").is_dir():
            return _classifier(Path(source))
        return _checker(Path(source) if Path(source).is_dir() else _downloaded(str(source)))
    except (OSError, ValueError) as error:
        raise ModelError(f"the safety filter cannot be loaded: {str(error).strip().splitlines()[0]}") from error


def has_guard(repository: str) -> bool:
    """Whether the Hub's cache holds the filter of `repository`; asks nobody."""
    from huggingface_hub import try_to_load_from_cache

    return all(isinstance(try_to_load_from_cache(repository, name), str) for name in CHECKER_FILES[:2])


def _classifier(folder: Path) -> Guard:
    import torch
    from transformers import AutoImageProcessor, AutoModelForImageClassification

    processor = AutoImageProcessor.from_pretrained(folder)
    network = AutoModelForImageClassification.from_pretrained(folder, dtype=torch.float32, use_safetensors=True).eval()
    unsafe = [index for index, label in network.config.id2label.items() if label.lower() in UNSAFE]
    if not unsafe:
        raise ValueError(f"none of its labels is {' or '.join(sorted(UNSAFE))}")
    return partial(_classified_unsafe, network, processor, unsafe)


def _classified_unsafe(network: Any, processor: Any, unsafe: list[int], picture: Image.Image) -> bool:
    import torch

    with torch.inference_mode():
        logits_BC = network(processor(images=picture, return_tensors="pt")["pixel_values"]).logits
    return float(logits_BC.softmax(dim=-1)[0, unsafe].sum()) >= LIMIT


def _checker(folder: Path) -> Guard:
    from diffusers.pipelines.stable_diffusion import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessor

    network = StableDiffusionSafetyChecker.from_pretrained(folder / "safety_checker", use_safetensors=True).eval()
    return partial(_concept_found, network, CLIPImageProcessor.from_pretrained(folder / "feature_extractor"))


def _concept_found(network: Any, processor: Any, picture: Image.Image) -> bool:
    import numpy as np

    pixels_BCHW = processor(images=picture, return_tensors="pt")["pixel_values"]
    _, found = network(clip_input=pixels_BCHW, images=[np.zeros((1, 1, 3))])  # blackens what it is given: not ours
    return bool(found[0])


def _downloaded(repository: str) -> Path:
    from huggingface_hub import snapshot_download

    return Path(snapshot_download(repository, allow_patterns=CHECKER_FILES))
