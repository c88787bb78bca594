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
from alchemist_hub.evaluation.features import CLIP_L
from alchemist_hub.evaluation.pretrained import Published
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
    """One scorer before it is loaded: what it says, what it downloads, what the user has to bring as `weights`."""

    load: Callable[..., Scorer]
    says: str
    licence: str  # of the weights
    needs: tuple[Published, ...] = ()
    brings: str = ""  # published as a pickle only: to be converted once

    @property
    def gigabytes(self) -> float:
        """What would be downloaded by itself."""
        return sum(published.gigabytes for published in self.needs)


SCORERS: dict[str, Entry] = {
    "clip-score": Entry(
        load=similarity.clip_score,
        says="how well the picture fits the prompt, by CLIP ViT-L/14",
        licence="mit (of the code; the weights name none)",
        needs=(CLIP_L,),
    ),
    "pickscore": Entry(
        load=similarity.pickscore,
        says="which picture people would pick for the prompt",
        licence="mit (of the code; the weights name none)",
        needs=(similarity.PICKSCORE, similarity.CLIP_H_TOKENIZER),
    ),
    "hpsv2.1": Entry(
        load=similarity.hpsv21,
        says="human preference for the prompt",
        licence="apache-2.0",
        needs=(similarity.CLIP_H_TOKENIZER,),
        brings=similarity.HPS_PUBLISHED,
    ),
    "image-reward": Entry(
        load=image_reward.ImageReward.load,
        says="human preference for the prompt, by BLIP",
        licence="apache-2.0",
        needs=(image_reward.BERT_TOKENIZER,),
        brings=image_reward.PUBLISHED,
    ),
    "aesthetic": Entry(
        load=aesthetic.AestheticPredictor.load,
        says="rating of beauty, whatever the prompt",
        licence="apache-2.0",
        needs=(CLIP_L,),
        brings=aesthetic.PUBLISHED,
    ),
    **{
        found.name: Entry(load=found.load, says=found.says, licence="needs no weights") for found in complexity.MEASURES
    },
}


def scorer(name: str, *, device: str = "cpu", weights: str | Path | None = None) -> Scorer:
    """Load the scorer called `name` of `SCORERS`; `weights` are yours, instead of the published ones.

    Raises EvaluationError for an unknown name, ModelError for weights that are missing or of another network.
    """
    if name not in SCORERS:
        raise EvaluationError(f"unknown scorer {name!r}; there are {', '.join(SCORERS)}")
    return SCORERS[name].load(weights, device=device)
