"""Measures against known truth: precision and recall with their counts, AUC with paired bootstrap. Pure functions.

Shape legend: N samples, M positives, K negatives, R bootstrap resamples.
"""

from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from alchemist_hub.evaluation.votes import CONFIDENCE, RESAMPLES, Interval, interval


@dataclass(frozen=True, kw_only=True)
class PrecisionRecall:
    """Flags against truth. A ratio without a denominator is None, never a flattering 1."""

    hits: int  # flagged, and rightly so
    flagged: int
    wanted: int

    @property
    def precision(self) -> float | None:
        return self.hits / self.flagged if self.flagged else None

    @property
    def recall(self) -> float | None:
        return self.hits / self.wanted if self.wanted else None


def precision_recall(flagged_N: np.ndarray, wanted_N: np.ndarray) -> PrecisionRecall:
    """Count boolean flags against boolean truth."""
    flagged, wanted = np.asarray(flagged_N, dtype=bool), np.asarray(wanted_N, dtype=bool)
    return PrecisionRecall(hits=int((flagged & wanted).sum()), flagged=int(flagged.sum()), wanted=int(wanted.sum()))


def auc(scores_N: np.ndarray, labels_N: np.ndarray) -> float:
    """Return the area under the ROC curve: how often a positive scores above a negative, ties counted half.

    Raises ValueError unless both classes are there.
    """
    labels = np.asarray(labels_N, dtype=bool)
    positives, negatives = int(labels.sum()), int((~labels).sum())
    if not positives or not negatives:
        raise ValueError(f"AUC needs both classes; got {positives} positives and {negatives} negatives")
    rank_sum = rankdata(np.asarray(scores_N, dtype=np.float64))[labels].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def auc_interval(scores_N: np.ndarray, labels_N: np.ndarray, *, seed: int = 0) -> Interval:
    """Return the AUC with its percentile interval, resampling positives and negatives apart."""
    value = auc(scores_N, labels_N)
    return interval(value, _bootstrap_auc(_pairs(scores_N, labels_N), seed), CONFIDENCE)


def auc_difference(ours_N: np.ndarray, theirs_N: np.ndarray, labels_N: np.ndarray, *, seed: int = 0) -> Interval:
    """Return AUC(ours) - AUC(theirs) on the same samples; each resample draws the same samples for both."""
    value = auc(ours_N, labels_N) - auc(theirs_N, labels_N)
    difference_MK = _pairs(ours_N, labels_N) - _pairs(theirs_N, labels_N)
    return interval(value, _bootstrap_auc(difference_MK, seed), CONFIDENCE)


def _pairs(scores_N: np.ndarray, labels_N: np.ndarray) -> np.ndarray:
    """Return (M, K): 1 where the positive scores above the negative, 0.5 at a tie; its mean is the AUC."""
    scores, labels = np.asarray(scores_N, dtype=np.float64), np.asarray(labels_N, dtype=bool)
    return (0.5 + 0.5 * np.sign(scores[labels][:, None] - scores[~labels][None, :])).astype(np.float32)


def _bootstrap_auc(pairs_MK: np.ndarray, seed: int) -> np.ndarray:
    """Return (R,) means of `pairs_MK` under resampled rows and columns."""
    rng = np.random.default_rng(seed)
    positives, negatives = pairs_MK.shape
    rows_RM = rng.multinomial(positives, np.full(positives, 1 / positives), size=RESAMPLES).astype(np.float32)
    columns_RK = rng.multinomial(negatives, np.full(negatives, 1 / negatives), size=RESAMPLES).astype(np.float32)
    return ((rows_RM @ pairs_MK) * columns_RK).sum(axis=1) / (positives * negatives)
