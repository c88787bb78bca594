"""Scores of single pictures: how well one fits its prompt, how it would be liked, how complex it is.

Every scorer says where its weights come from and at which revision they were read. `SCORERS` says what each costs
before anything is loaded.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation.scorers import aesthetic, complexity, image_reward, similarity


class Scorer(Protocol):
    """Anything that scores pictures, each with the prompt it was made for."""

    name: str
    higher_is_better: bool
    unit: str
    source: str
    revision: str

    def score(self, images: Sequence[Image.Image], prompts: Sequence[str]) -> np.ndarray:
        """Return (B,) float64. Raises EvaluationError unless there is one prompt a picture."""
        ...


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One scorer before it is loaded: what it says, and what it costs."""

    load: Callable[..., Scorer]
    says: str
    weights: str  # the repository, or what the user has to bring
    gigabytes: float  # to be downloaded by itself
    licence: str
    brings: bool = False  # whether the user has to pass `weights`


_CLIP_H_TOKENIZER = "laion/CLIP-ViT-H-14-laion2B-s32B-b79K (tokenizer)"

SCORERS: dict[str, Entry] = {
    "clip-score": Entry(
        load=similarity.clip_score,
        says="how well the picture fits the prompt, by CLIP ViT-L/14",
        weights="openai/clip-vit-large-patch14",
        gigabytes=1.71,
        licence="mit",
    ),
    "pickscore": Entry(
        load=similarity.pickscore,
        says="which picture people would pick for the prompt",
        weights=f"yuvalkirstain/PickScore_v1, {_CLIP_H_TOKENIZER}",
        gigabytes=3.95,
        licence="mit (code; the weights name none)",
    ),
    "hpsv2.1": Entry(
        load=similarity.hpsv21,
        says="human preference for the prompt",
        weights=f"xswu/HPSv2: HPS_v2.1_compressed.pt, converted; {_CLIP_H_TOKENIZER}",
        gigabytes=0.01,
        licence="apache-2.0",
        brings=True,
    ),
    "image-reward": Entry(
        load=image_reward.ImageReward.load,
        says="human preference for the prompt, by BLIP",
        weights="zai-org/ImageReward: ImageReward.pt, converted; google-bert/bert-base-uncased (tokenizer)",
        gigabytes=0.01,
        licence="apache-2.0",
        brings=True,
    ),
    "aesthetic": Entry(
        load=aesthetic.AestheticPredictor.load,
        says="rating of beauty, whatever the prompt",
        weights="improved-aesthetic-predictor: sac+logos+ava1-l14-linearMSE, converted; openai/clip-vit-large-patch14",
        gigabytes=1.71,
        licence="apache-2.0",
        brings=True,
    ),
    **{
        found.name: Entry(load=found.load, says=found.says, weights="none", gigabytes=0, licence="apache-2.0")
        for found in complexity.MEASURES
    },
}


def scorer(name: str, *, device: str = "cpu", weights: str | Path | None = None) -> Scorer:
    """Load the scorer called `name` of `SCORERS`; `weights` are yours, instead of the published ones.

    Raises EvaluationError for an unknown name, ModelError for weights that are missing or of another network.
    """
    if name not in SCORERS:
        raise EvaluationError(f"unknown scorer {name!r}; there are {', '.join(SCORERS)}")
    return SCORERS[name].load(weights, device=device)
