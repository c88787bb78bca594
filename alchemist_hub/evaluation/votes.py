"""Side-by-side statistics: win rates, intervals over prompts, exact sign test, Holm. Pure functions.

Shape legend: P prompts, S seeds (pictures of one prompt), R bootstrap resamples. A NaN is a void vote: a side that
failed or was filtered counts for nobody.

Seeds are nested in prompts: two pictures of one prompt are not two independent votes. So intervals resample prompts,
and the test counts each prompt once (by its majority); a binomial over single votes has 6-11% false positives here.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import binomtest

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its confidence interval; NaN throughout when there was nothing to count."""

    value: float
    low: float
    high: float

    def above(self, level: float) -> bool:
        """Whether the whole interval lies above `level`."""
        return self.low > level


@dataclass(frozen=True, kw_only=True)
class Tally:
    """How many prompts (or votes) one side won, tied and lost."""

    wins: int
    ties: int
    losses: int

    @property
    def total(self) -> int:
        return self.wins + self.ties + self.losses


def outcomes(ours_PS: np.ndarray, theirs_PS: np.ndarray, *, tie: float = 0.0) -> np.ndarray:
    """Return (P, S) votes: 1 where ours is higher by more than `tie`, 0 where theirs is, 0.5 a tie, NaN a void."""
    difference = np.asarray(ours_PS, dtype=np.float64) - np.asarray(theirs_PS, dtype=np.float64)
    votes = np.where(np.abs(difference) <= tie, 0.5, (difference > 0).astype(np.float64))
    return np.where(np.isnan(difference), np.nan, votes)


def tally(votes: np.ndarray) -> Tally:
    """Count votes above, at and below one half; voids are left out."""
    return Tally(wins=int((votes > 0.5).sum()), ties=int((votes == 0.5).sum()), losses=int((votes < 0.5).sum()))


def majorities(votes_PS: np.ndarray) -> np.ndarray:
    """Return (P,) each prompt's majority as a vote of its own: 1, 0.5 or 0; NaN where every seed was void."""
    sums, counts = _per_prompt(votes_PS)
    with np.errstate(invalid="ignore"):
        return np.where(counts > 0, 0.5 + 0.5 * np.sign(sums / counts - 0.5), np.nan)


def bootstrap_mean(
    values_PS: np.ndarray, *, resamples: int = RESAMPLES, confidence: float = CONFIDENCE, seed: int = 0
) -> Interval:
    """Return the mean of all values and its percentile interval, resampling prompts with all their seeds."""
    sums, counts = _per_prompt(values_PS)
    sums, counts = sums[counts > 0], counts[counts > 0]
    if not len(counts):
        return Interval(value=np.nan, low=np.nan, high=np.nan)
    rng = np.random.default_rng(seed)
    drawn_RP = rng.multinomial(len(sums), np.full(len(sums), 1 / len(sums)), size=resamples)
    means_R = (drawn_RP @ sums) / (drawn_RP @ counts)
    return interval(sums.sum() / counts.sum(), means_R, confidence)


def interval(value: float, resampled_R: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Return `value` with the percentile interval of its bootstrap resamples."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled_R, [tail, 1 - tail])
    return Interval(value=float(value), low=float(low), high=float(high))


def win_rate(ours_PS: np.ndarray, theirs_PS: np.ndarray, *, tie: float = 0.0, seed: int = 0) -> Interval:
    """Return the share of votes that ours wins, ties counted half, with its interval over prompts."""
    return bootstrap_mean(outcomes(ours_PS, theirs_PS, tie=tie), seed=seed)


def mean_difference(ours_PS: np.ndarray, theirs_PS: np.ndarray, *, seed: int = 0) -> Interval:
    """Return the mean of ours - theirs, paired by prompt and seed, with its interval over prompts."""
    return bootstrap_mean(np.asarray(ours_PS, np.float64) - np.asarray(theirs_PS, np.float64), seed=seed)


def sign_test(votes_PS: np.ndarray) -> float:
    """Return the exact two-sided binomial p of the prompts' majorities; ties say nothing and are left out."""
    count = tally(majorities(votes_PS))
    decisive = count.wins + count.losses
    return float(binomtest(count.wins, decisive, 0.5).pvalue) if decisive else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p values in the order given: below alpha means rejected at family-wise level alpha."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * (len(p) - np.arange(len(p))))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted.tolist()


def _per_prompt(values_PS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (P,) sums and (P,) counts of the values that are not void."""
    values = np.asarray(values_PS, dtype=np.float64)
    values = values[:, None] if values.ndim == 1 else values
    return np.nansum(values, axis=1), (~np.isnan(values)).sum(axis=1)
