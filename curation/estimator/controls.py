"""What the keywords are worth: the estimator beside controls that went through the identical calibration.

An empty prompt and unrelated words know the picture as well as the keywords do; only what the keywords add is the
merit of asking about quality. The figures are taken on labels that took no part in any choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diffusers import DiffusionPipeline

from curation.estimator import score
from curation.estimator.calibration import Calibration, Estimator
from curation.estimator.denoiser import Denoiser
from curation.estimator.fitting import DEFAULT_SEARCH, Progress, Search, calibrate
from curation.estimator.keywords import Family
from curation.estimator.pipelines import denoiser_of

KEYWORDS = "keywords"  # what the controls stand beside


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Pictures, uint8 RGB (H, W, 3), and whether each is good (B,)."""

    images: Sequence[np.ndarray]
    labels_B: np.ndarray


def build_estimator(
    pipe: DiffusionPipeline | Denoiser,
    out: Path,
    *,
    calibration: Labelled,
    held_out: Labelled,
    family: Family,
    search: Search = DEFAULT_SEARCH,
    progress: Progress = lambda done, total: None,
) -> Calibration:
    """Calibrate `pipe`, measure it and its controls on `held_out`, save the result as JSON to `out` and return it.

    Where passes end early, the figures also say how deep they go.
    """
    calibrations = calibrate_with_controls(pipe, calibration, family=family, search=search, progress=progress)
    found, figures = calibrations[KEYWORDS], held_out_figures(pipe, calibrations, held_out)
    if not found.probe.contrasts:
        running = denoiser_of(pipe).text_layers()
        figures["depth"] = {"read": found.depth(running), "layers": len(running)}
    result = found.with_held_out(figures)
    out.parent.mkdir(parents=True, exist_ok=True)
    result.save(out)
    return result


def calibrate_with_controls(
    pipe: DiffusionPipeline | Denoiser,
    pictures: Labelled,
    *,
    family: Family,
    search: Search = DEFAULT_SEARCH,
    progress: Progress = lambda done, total: None,
) -> dict[str, Calibration]:
    """Return the calibration of "keywords" and, by the identical procedure, of each control of the family."""
    questions = {KEYWORDS: family.keywords} | family.controls()
    return {
        name: calibrate(pipe, pictures.images, pictures.labels_B, keywords=keywords, search=search, progress=progress)
        for name, keywords in questions.items()
    }


def held_out_figures(
    pipe: DiffusionPipeline | Denoiser,
    calibrations: dict[str, Calibration],
    held_out: Labelled,
    *,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Return AUCs on labels that took no part, by prompt and column, and how far "keywords" is above each control.

    `calibrations` holds "keywords" and its controls. Intervals are 95% bootstrap over pictures, paired.
    """
    labels_B = np.asarray(held_out.labels_B, dtype=bool)
    scores = {
        f"{prompt}/{column}": values
        for prompt, calibration in calibrations.items()
        for column, values in Estimator(pipe, calibration).score(held_out.images).items()
    }
    pairs = [
        (f"{KEYWORDS}/{column}", f"{control}/{column}")
        for column in calibrations[KEYWORDS].heads
        for control in calibrations
        if control != KEYWORDS
    ]
    pictures = {"high": int(labels_B.sum()), "low": int((~labels_B).sum())}
    return {"pictures": pictures} | score.compare_aucs(scores, labels_B, pairs, resamples=resamples)
