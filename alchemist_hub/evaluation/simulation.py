"""Votes whose truth is known, to measure error rates on: prompts differ, seeds and raters of one prompt agree.

Shape legend: T repetitions, P prompts, S votes a prompt, N votes in the order they were cast, V values of a vote,
M moments.
"""

from dataclasses import dataclass
from math import sqrt

import numpy as np
from scipy.special import bdtr

from alchemist_hub.evaluation import anytime

CHUNK = 2048  # moments whose evidence is computed at once: 4 MiB


@dataclass(frozen=True, kw_only=True)
class Population:
    """Where votes come from: each prompt has its own win rate, from a beta distribution over prompts.

    The correlation of two decisive votes on one prompt is `correlation` (beta-binomial); ties come independently.
    """

    rate: float  # of decisive votes, over all prompts
    correlation: float  # in (0,1)
    ties: float = 0.0  # share of votes

    @property
    def mean(self) -> float:
        """The win rate with ties counted half: what an interval has to cover."""
        return self.rate * (1 - self.ties) + self.ties / 2

    def prompts(self, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
        """Return the win rates of prompts drawn at random."""
        size = (1 - self.correlation) / self.correlation
        return rng.beta(self.rate * size, (1 - self.rate) * size, shape)

    def votes(self, rng: np.random.Generator, trials: int, prompts: int, per_prompt: int) -> np.ndarray:
        """Return (T, P, S) votes, the prompts of every repetition drawn anew."""
        return self.cast(rng, np.repeat(self.prompts(rng, (trials, prompts, 1)), per_prompt, axis=2))

    def cast(self, rng: np.random.Generator, rates: np.ndarray) -> np.ndarray:
        """Return one vote for every prompt's win rate in `rates`, of the same shape."""
        decisive = (rng.random(rates.shape) < rates).astype(np.float64)
        return np.where(rng.random(rates.shape) < self.ties, 0.5, decisive)

    def stream(self, rng: np.random.Generator, rates_P: np.ndarray, trials: int, length: int) -> np.ndarray:
        """Return (T, N) votes as a live board receives them: each on a prompt drawn from the list `rates_P`."""
        return self.cast(rng, rng.choice(rates_P, (trials, length)))


@dataclass(frozen=True, kw_only=True)
class ErrorRate:
    """How often something happened in repetitions."""

    hits: int
    trials: int

    @property
    def value(self) -> float:
        return self.hits / self.trials

    def margin(self, rate: float) -> float:
        """Return three Monte Carlo standard errors of a true `rate`: what repetitions alone may add or take away."""
        return 3 * sqrt(rate * (1 - rate) / self.trials)


def rate_of(hits_T: np.ndarray) -> ErrorRate:
    """Return the rate of True in `hits_T`."""
    return ErrorRate(hits=int(np.sum(hits_T)), trials=len(hits_T))


def evidence_along(votes_TN: np.ndarray, mean: float, values_V: tuple[float, ...] = anytime.BALLOT) -> np.ndarray:
    """Return (T, N) the logarithm of the anytime-valid e-value against `mean` after every vote.

    A repetition has lost `mean` from its interval at some moment where this reaches log(1 / alpha).
    """
    counts_TNV = np.stack([np.cumsum(votes_TN == value, axis=1) for value in values_V], axis=2)
    counts_MV, of_M = _distinct(counts_TNV.reshape(-1, len(values_V)))
    starts = range(0, len(counts_MV), CHUNK)
    evidence_M = np.concatenate([anytime.log_e_value(counts_MV[at : at + CHUNK], mean, values_V) for at in starts])
    return evidence_M[of_M].reshape(votes_TN.shape)


def _distinct(counts_MV: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct rows and (M,) which of them each row is; all of them where a row does not fit a number."""
    base, values = int(counts_MV.max()) + 1, counts_MV.shape[1]
    if base**values > np.iinfo(np.int64).max:
        return counts_MV, np.arange(len(counts_MV))
    _, first, of_M = np.unique(counts_MV @ base ** np.arange(values), return_index=True, return_inverse=True)
    return counts_MV[first], of_M


def sign_test_along(votes_TN: np.ndarray) -> np.ndarray:
    """Return (T, N) the p value of the exact binomial test on all votes so far: right if looked at once."""
    wins_TN, losses_TN = np.cumsum(votes_TN > 0.5, axis=1), np.cumsum(votes_TN < 0.5, axis=1)
    tail_TN = bdtr(np.minimum(wins_TN, losses_TN).astype(np.float64), wins_TN + losses_TN, 0.5)
    return np.minimum(1.0, 2 * tail_TN)
