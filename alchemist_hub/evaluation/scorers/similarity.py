"""Scores that are a cosine between picture and prompt in some CLIP's space: CLIP score, PickScore, HPSv2.1.

Shape legend: B pictures with one prompt each.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from transformers import CLIPModel, CLIPTokenizer

from alchemist_hub.evaluation.features import ClipEmbeddings
from alchemist_hub.evaluation.pretrained import (
    MODEL,
    TOKENIZER,
    Published,
    fetch,
    fetch_file,
    read_network,
    read_tokenizer,
)
from alchemist_hub.evaluation.scorers.open_clip import read_clip

PICKSCORE = Published(
    repository="yuvalkirstain/PickScore_v1",
    revision="a4e4367c6dfa7288a00c550414478f865b875800",
    files=MODEL,
    gigabytes=3.94,
)
CLIP_H_TOKENIZER = Published(
    repository="laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
    revision="1c2b8495b28150b8a4922ee1c8edee224c284c0c",
    files=TOKENIZER,
    gigabytes=0.01,
)
HPS_PUBLISHED = "xswu/HPSv2: HPS_v2.1_compressed.pt"
HPS_HEAD_WIDTH, TEXT_HEAD_WIDTH = 80, 64  # of ViT-H-14's towers, as open_clip's configuration of that name says


class Similarity:
    """`scale` of the cosine of picture and prompt."""

    higher_is_better = True

    def __init__(
        self, clip: ClipEmbeddings, *, name: str, unit: str, scale: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        self._clip = clip
        self._scale = scale
        self.name, self.unit = name, unit
        self.source, self.revision = clip.source, clip.revision

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """Return (B,) float64. Raises EvaluationError unless there is one prompt a picture."""
        return self._scale(self._clip.cosines(images, prompts))


def clip_score(weights: str | Path | None = None, *, device: str = "cpu") -> Similarity:
    """Return CLIP score: 100 * max(cosine, 0), as most tables print it (Hessel et al. 2021 scale by 2.5 instead)."""
    clip = ClipEmbeddings.load(weights, device=device)
    unit = "100 x cosine, at least 0"
    return Similarity(clip, name="clip-score", unit=unit, scale=lambda cosine_B: 100 * np.maximum(cosine_B, 0))


def pickscore(weights: str | Path | None = None, *, device: str = "cpu") -> Similarity:
    """Return PickScore (Kirstain et al. 2023): the cosine times the network's own scale, 15 to 25 as a rule."""
    found = fetch(PICKSCORE, weights)
    own = (found.path / TOKENIZER[0]).is_file()
    tokenizer = read_tokenizer(CLIPTokenizer, found.path if own else fetch(CLIP_H_TOKENIZER).path)
    clip = ClipEmbeddings(read_network(CLIPModel, found.path), tokenizer, found, device=device)
    scale = clip.logit_scale
    return Similarity(clip, name="pickscore", unit="cosine x learned scale", scale=lambda cosine_B: scale * cosine_B)


def hpsv21(
    weights: str | Path | None = None,
    *,
    device: str = "cpu",
    tokenizer: str | Path | None = None,
    head_width: int = HPS_HEAD_WIDTH,
    text_head_width: int = TEXT_HEAD_WIDTH,
) -> Similarity:
    """Return HPSv2.1 (Wu et al. 2023) from a safetensors file with open_clip's keys: the cosine, 0.2 to 0.35 as a rule.

    Benchmark tables print it times 100. Raises ModelError without a file, or if it is no open_clip network.
    """
    found = fetch_file(weights, what="hpsv2.1", published_as=HPS_PUBLISHED)
    reader = read_tokenizer(CLIPTokenizer, fetch(CLIP_H_TOKENIZER, tokenizer).path)
    network = read_clip(
        found.path, head_width=head_width, text_head_width=text_head_width, end_of_text=reader.eos_token_id
    )
    named = replace(found, source=f"HPSv2.1, converted: {found.source}")
    clip = ClipEmbeddings(network, reader, named, device=device)
    return Similarity(clip, name="hpsv2.1", unit="cosine", scale=lambda cosine_B: cosine_B)
