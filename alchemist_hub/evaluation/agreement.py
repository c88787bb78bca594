"""How far raters agree beyond chance: Krippendorff's alpha, votes may be missing, interval over units. Pure functions.

Shape legend: U units (a prompt, or the pictures of one), O raters (observers), V distinct values, R resamples.

Alpha is 1 - (disagreement observed) / (disagreement expected if values were dealt to units at random): 1 is perfect
agreement, 0 chance, below 0 systematic disagreement. Krippendorff asks for 0.8, and 0.667 for tentative conclusions.
Source: Krippendorff (2011), "Computing Krippendorff's alpha-reliability"; Hayes and Krippendorff (2007), Communication
Methods and Measures 1, 77-89.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np

from alchemist_hub.evaluation.votes import CONFIDENCE, NOTHING, RESAMPLES, Interval, interval, widened

Level = Literal["nominal", "ordinal"]


def krippendorff_alpha(ratings_UO: np.ndarray, *, level: Level = "nominal") -> float:
    """Return alpha of ratings, NaN where a rater gave none.

    "nominal" counts two values as equal or not; "ordinal" also asks how many ratings lie between them. NaN where
    nothing can be said: no unit has two ratings, or only one value was ever given.
    """
    return float(_alpha(_coincidences(ratings_UO).sum(axis=0), level))


def alpha_interval(
    ratings_UO: np.ndarray,
    *,
    level: Level = "nominal",
    clusters_U: np.ndarray | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Return alpha and its interval, resampling units with all their ratings.

    Zapf et al. (2016), BMC Medical Research Methodology 16:93, found this bootstrap to cover where others do not; the
    percentiles are widened for few units (`votes.widened`). `clusters_U` names each unit's prompt where a prompt has
    several units: prompts are then resampled whole. Resamples in which alpha is not defined (one value only) are left
    out.
    """
    coincidences_UVV = _coincidences(ratings_UO)
    value = float(_alpha(coincidences_UVV.sum(axis=0), level))
    if np.isnan(value):
        return NOTHING
    paired_U = coincidences_UVV.sum(axis=(1, 2)) > 0
    names = np.arange(len(coincidences_UVV)) if clusters_U is None else np.asarray(clusters_U)
    _, of_U = np.unique(names[paired_U], return_inverse=True)
    clusters = of_U.max() + 1
    drawn_RC = np.random.default_rng(seed).multinomial(clusters, np.full(clusters, 1 / clusters), size=resamples)
    resampled_RVV = np.tensordot(drawn_RC[:, of_U], coincidences_UVV[paired_U], axes=1)
    alphas_R = _alpha(resampled_RVV, level)
    return interval(value, alphas_R[~np.isnan(alphas_R)], widened(confidence, clusters))


def _coincidences(ratings_UO: np.ndarray) -> np.ndarray:
    """Return (U, V, V) each unit's pairs of ratings by different raters; a unit of m ratings weighs m in total."""
    ratings = np.asarray(ratings_UO, dtype=np.float64)
    values_V = np.unique(ratings[~np.isnan(ratings)])
    counts_UV = (ratings[:, :, None] == values_V).sum(axis=1).astype(np.float64)
    others_U = counts_UV.sum(axis=1) - 1
    pairs_UVV = counts_UV[:, :, None] * counts_UV[:, None, :] - counts_UV[:, :, None] * np.eye(len(values_V))
    return np.divide(
        pairs_UVV, others_U[:, None, None], out=np.zeros_like(pairs_UVV), where=others_U[:, None, None] > 0
    )


def _alpha(coincidences_VV: np.ndarray, level: Level) -> np.ndarray:
    """Return alpha of (..., V, V) coincidences; NaN where it is not defined."""
    margins_V = coincidences_VV.sum(axis=-1)
    total = margins_V.sum(axis=-1)
    distances_VV = DISTANCES[level](margins_V)
    observed = (coincidences_VV * distances_VV).sum(axis=(-2, -1))
    expected = (margins_V[..., :, None] * margins_V[..., None, :] * distances_VV).sum(axis=(-2, -1))
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - np.where(expected > 0, (total - 1) * observed / expected, np.nan)


def _nominal(margins_V: np.ndarray) -> np.ndarray:
    return 1 - np.eye(margins_V.shape[-1])


def _ordinal(margins_V: np.ndarray) -> np.ndarray:
    """Return (..., V, V) squared numbers of ratings from one value to the other, the two ends counted half."""
    middle_V = np.cumsum(margins_V, axis=-1) - margins_V / 2
    return (middle_V[..., :, None] - middle_V[..., None, :]) ** 2


DISTANCES: dict[Level, Callable[[np.ndarray], np.ndarray]] = {"nominal": _nominal, "ordinal": _ordinal}
