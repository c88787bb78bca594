"""Side-by-side statistics: win rates, intervals over prompts, exact sign test, Holm. Pure functions.

Shape legend: P prompts, S seeds (pictures of one prompt) or raters, N votes, R bootstrap resamples. A NaN is a void
vote: a side that failed or was filtered counts for nobody.

Seeds are nested in prompts: two pictures of one prompt are not two independent votes. So intervals are over prompts,
and the test counts each prompt once (by its majority). Error rates: docs/statistics.md.

    shares, win rates     binomial intervals for the effective number of votes (`share`); never leave [0,1]
    means, differences    bootstrap of prompts, percentiles widened for few prompts (`bootstrap_mean`)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

import numpy as np
from scipy.special import bdtr, betaincinv, ndtr, ndtri, stdtrit

from alchemist_hub.errors import EvaluationError

RESAMPLES = 2000
CONFIDENCE = 0.95

Choice = Literal["ours", "theirs", "tie", "both_bad", "void"]
# What a choice is worth to "ours", here and nowhere else. "Both bad" says which is better as little as a tie does; how
# often it is said is reported apart. A vote on a side that failed or was filtered is void and never counted.
WORTH: dict[Choice, float] = {"ours": 1.0, "theirs": 0.0, "tie": 0.5, "both_bad": 0.5, "void": np.nan}


@dataclass(frozen=True, kw_only=True)
class Interval:
    """An estimate and its confidence interval; NaN when there was nothing to count."""

    value: float
    low: float
    high: float

    def above(self, level: float) -> bool:
        """Whether the whole interval lies above `level`."""
        return self.low > level

    def below(self, level: float) -> bool:
        """Whether the whole interval lies below `level`."""
        return self.high < level


NOTHING = Interval(value=np.nan, low=np.nan, high=np.nan)


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


def worth(choices: Sequence[Choice]) -> np.ndarray:
    """Return (N,) votes of what people chose, see `WORTH`. Raises EvaluationError for any other word."""
    unknown = sorted(set(choices) - WORTH.keys())
    if unknown:
        raise EvaluationError(f"unknown choice {unknown[0]!r} in a vote: expected one of {', '.join(WORTH)}")
    return np.array([WORTH[choice] for choice in choices], dtype=np.float64)


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
    """Return the mean of all values and its interval, resampling prompts with all their seeds.

    The percentiles are those that make the interval of a normal mean as wide as Student's (Hesterberg 2015, "What
    teachers should know about the bootstrap", The American Statistician 69, section 4.3): plain ones are too narrow
    for few prompts.
    """
    sums, counts = _counted_prompts(values_PS)
    prompts = len(counts)
    if not prompts:
        return NOTHING
    rng = np.random.default_rng(seed)
    drawn_RP = rng.multinomial(prompts, np.full(prompts, 1 / prompts), size=resamples)
    means_R = (drawn_RP @ sums) / (drawn_RP @ counts)
    return interval(sums.sum() / counts.sum(), means_R, widened(confidence, prompts))


def widened(confidence: float, clusters: int) -> float:
    """Return the level whose bootstrap percentiles are as far apart as Student's t for so few clusters asks."""
    if clusters < 2:
        return confidence
    quantile = np.sqrt(clusters / (clusters - 1)) * stdtrit(clusters - 1, (1 + confidence) / 2)
    return float(2 * ndtr(quantile) - 1)


def share(values_PS: np.ndarray, *, confidence: float = CONFIDENCE) -> Interval:
    """Return the mean of values in [0,1], such as votes, and an interval for votes that come in prompts.

    The variance between prompts (ratio estimator) gives the number of independent votes that would be as uncertain,
    made smaller as Student's t asks (Korn and Graubard 1998, Survey Methodology 24, 193-201). For that number the ends
    are the outer ones of Wilson's and Jeffreys' interval: either covers too seldom where the other does not (Brown, Cai
    and DasGupta 2001, Statistical Science 16, 101-133; in surveys: Franco et al. 2019, J. Survey Statistics and
    Methodology 7, 334-364), and together they are about 2% wider. Votes all won, or all lost, count as one a prompt:
    seeds that never differ say nothing of prompts not asked. One prompt alone says nothing of the others: [0,1].
    """
    sums, counts = _counted_prompts(values_PS)
    if not len(counts):
        return NOTHING
    value = float(sums.sum() / counts.sum())
    if len(counts) == 1:
        return Interval(value=value, low=0.0, high=1.0)
    size = _effective_size(sums, counts, confidence)
    if size == np.inf:
        return Interval(value=value, low=value, high=value)
    ends = [method(value, size, confidence) for method in (_wilson, _jeffreys)]
    return Interval(value=value, low=min(low for low, _ in ends), high=max(high for _, high in ends))


def interval(value: float, resampled_R: np.ndarray, confidence: float = CONFIDENCE) -> Interval:
    """Return `value` with the percentile interval of its bootstrap resamples."""
    tail = (1 - confidence) / 2
    low, high = np.quantile(resampled_R, [tail, 1 - tail])
    return Interval(value=float(value), low=float(low), high=float(high))


def win_rate(ours_PS: np.ndarray, theirs_PS: np.ndarray, *, tie: float = 0.0) -> Interval:
    """Return the share of votes that ours wins, ties counted half, with its interval over prompts."""
    return share(outcomes(ours_PS, theirs_PS, tie=tie))


def mean_difference(ours_PS: np.ndarray, theirs_PS: np.ndarray, *, seed: int = 0) -> Interval:
    """Return the mean of ours - theirs, paired by prompt and seed, with its interval over prompts."""
    return bootstrap_mean(np.asarray(ours_PS, np.float64) - np.asarray(theirs_PS, np.float64), seed=seed)


def sign_test(votes_PS: np.ndarray) -> float:
    """Return the exact two-sided binomial p of the prompts' majorities; ties say nothing and are left out.

    Its null: a prompt is as likely to go to one side as to the other.
    """
    count = tally(majorities(votes_PS))
    return min(1.0, 2 * float(bdtr(min(count.wins, count.losses), count.wins + count.losses, 0.5)))


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


def _counted_prompts(values_PS: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return sums and counts of the prompts that have a value at all."""
    sums, counts = _per_prompt(values_PS)
    return sums[counts > 0], counts[counts > 0]


def _effective_size(sums_P: np.ndarray, counts_P: np.ndarray, confidence: float) -> float:
    """Return how many independent votes, won or lost, are as uncertain as these; infinite where prompts all agree."""
    prompts, total = len(counts_P), counts_P.sum()
    value = sums_P.sum() / total
    variance = prompts / (prompts - 1) * ((sums_P - value * counts_P) ** 2).sum() / total**2
    binary = value * (1 - value)
    if variance == 0 and binary > 0:
        return np.inf
    size = binary / variance if binary > 0 else prompts
    level = (1 + confidence) / 2
    return float(size * (ndtri(level) / stdtrit(prompts - 1, level)) ** 2)


def _wilson(value: float, size: float, confidence: float) -> tuple[float, float]:
    """Return Wilson's score interval of a share among `size` votes."""
    squared = ndtri((1 + confidence) / 2) ** 2 / size
    centre = (value + squared / 2) / (1 + squared)
    half = sqrt(squared * (value * (1 - value) + squared / 4)) / (1 + squared)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def _jeffreys(value: float, size: float, confidence: float) -> tuple[float, float]:
    """Return the interval of Jeffreys' posterior for a share among `size` votes; 0 and 1 at none and all."""
    won, lost, tail = value * size + 0.5, (1 - value) * size + 0.5, (1 - confidence) / 2
    low = float(betaincinv(won, lost, tail)) if value > 0 else 0.0
    high = float(betaincinv(won, lost, 1 - tail)) if value < 1 else 1.0
    return min(low, value), max(high, value)
