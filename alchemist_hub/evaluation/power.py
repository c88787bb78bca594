"""How many votes a comparison needs: before it starts, and while a live board runs. Pure functions.

Shape legend: P prompts, S votes a prompt, N numbers of votes, G grid of numbers of votes.

Two tests, two answers. A comparison planned beforehand and looked at once is judged by the exact binomial test
(`votes.sign_test`); a live board by anytime-valid evidence (`anytime`), which may be looked at for ever and asks for
about twice the votes in exchange.
"""

from dataclasses import dataclass
from functools import lru_cache
from math import asin, ceil, sqrt

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom

from alchemist_hub.evaluation import anytime
from alchemist_hub.evaluation.votes import Tally

ALPHA = 0.05
POWER = 0.8
MOST_VOTES = 50_000  # decisive ones; a board that needs more is as good as even


def exact_power(decisive_N: np.ndarray | int, rate: float, *, alpha: float = ALPHA) -> np.ndarray:
    """Return the probability that the exact two-sided binomial test finds a difference in so many decisive votes.

    `rate` is the true win rate among decisive votes. The curve is a saw: a vote more can make the test stricter.
    """
    decisive = np.asarray(decisive_N)
    losses = binom.ppf(alpha / 2, decisive, 0.5)  # the smallest number too likely, or just not
    losses = np.where(binom.cdf(losses, decisive, 0.5) > alpha / 2, losses - 1, losses)
    return binom.cdf(losses, decisive, rate) + binom.sf(decisive - losses - 1, decisive, rate)


def decisive_needed(rate: float, *, power: float = POWER, alpha: float = ALPHA) -> int:
    """Return from how many decisive votes on the exact test has `power`: for that number and every larger one.

    Raises ValueError for an even race, which no number of votes decides.
    """
    if rate == 0.5:
        raise ValueError("no number of votes finds a difference where there is none: rate must not be 0.5")
    candidates = np.arange(1, 2 * ceil(decisive_roughly(rate, power=power, alpha=alpha)) + 60)
    enough = exact_power(candidates, rate, alpha=alpha) >= power
    return int(candidates[~enough][-1] + 1)


def decisive_roughly(rate: float, *, power: float = POWER, alpha: float = ALPHA) -> float:
    """Return the textbook's number of decisive votes (Cohen 1988, arcsine): below what the exact test needs."""
    return float((ndtri(1 - alpha / 2) + ndtri(power)) ** 2 / (2 * asin(sqrt(rate)) - asin(1.0)) ** 2)


def intra_prompt_correlation(votes_PS: np.ndarray) -> float:
    """Return how alike two votes on one prompt are, beyond two on different prompts; NaN if that cannot be told.

    The analysis of variance's estimator for unequal groups (Donner 1986, International Statistical Review 54, 67-82).
    NaN votes are left out. Below zero where votes on one prompt differ more than votes at random.
    """
    votes = np.asarray(votes_PS, dtype=np.float64)
    counts_P = (~np.isnan(votes)).sum(axis=1)
    votes, counts_P = votes[counts_P > 0], counts_P[counts_P > 0]
    prompts, total = len(counts_P), counts_P.sum()
    if prompts < 2 or total == prompts:
        return float("nan")
    means_P = np.nansum(votes, axis=1) / counts_P
    between = (counts_P * (means_P - np.nansum(votes) / total) ** 2).sum() / (prompts - 1)
    within = np.nansum((votes - means_P[:, None]) ** 2) / (total - prompts)
    typical = (total - (counts_P**2).sum() / total) / (prompts - 1)
    spread = between + (typical - 1) * within
    return float((between - within) / spread) if spread > 0 else float("nan")


def design_effect(votes_per_prompt: float, correlation: float) -> float:
    """Return how many votes are worth one independent vote: 1 + (S - 1) correlation (Kish 1965), at least 1."""
    return max(1.0, 1 + (votes_per_prompt - 1) * correlation)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a comparison has to collect."""

    decisive: int  # independent votes that are not ties
    votes: int  # all votes, ties and likeness within prompts allowed for
    prompts: int


def plan(
    rate: float,
    *,
    votes_per_prompt: int = 1,
    correlation: float = 0.0,
    ties: float = 0.0,
    power: float = POWER,
    alpha: float = ALPHA,
) -> Plan:
    """Return what finds a true win rate `rate` (of decisive votes) with `power`, before the first vote is cast.

    `correlation` is that of votes on one prompt (`intra_prompt_correlation`), `ties` the share of votes that decide
    nothing. Many votes on few prompts: the design effect makes most of them worthless, ask more prompts instead.
    """
    decisive = decisive_needed(rate, power=power, alpha=alpha)
    votes = decisive * design_effect(votes_per_prompt, correlation) / (1 - ties)
    prompts = ceil(votes / votes_per_prompt)
    return Plan(decisive=decisive, votes=prompts * votes_per_prompt, prompts=prompts)


def more_needed(
    tally: Tally, *, rate: float | None = None, power: float = POWER, alpha: float = ALPHA, effect: float = 1.0
) -> int | None:
    """Return how many more votes a live board probably needs until its anytime-valid interval leaves one half.

    "Probably" is `power`, given the votes it has, if from now on decisive votes are won at `rate`: by default as often
    as until now, with two wins and two losses added, since a lead after few votes is mostly luck (Agresti and Coull
    1998). The interval has then left one half at that moment; it may well do so on the way. 0 if decided already; None
    if more than 50,000 decisive votes would be needed, or none was cast. `effect` is the design effect: 1 where every
    vote's prompt is drawn at random, as a live board does; see `design_effect` where prompts are asked several times.
    """
    decisive = tally.wins + tally.losses
    if not decisive:
        return None
    expected = (tally.wins + 2) / (decisive + 4) if rate is None else rate
    if anytime.log_e_value([[tally.losses, tally.ties, tally.wins]])[0] >= -np.log(alpha):
        return 0
    more_G = np.unique(np.geomspace(1, MOST_VOTES, 260).astype(int))
    wins_G = np.ceil(np.interp(decisive + more_G, *boundary(alpha)))
    ours = binom.sf(wins_G - tally.wins - 1, more_G, expected)
    theirs = binom.sf(wins_G - tally.losses - 1, more_G, 1 - expected)
    enough = np.flatnonzero(ours + theirs >= power)
    return ceil(more_G[enough[0]] * effect * tally.total / decisive) if len(enough) else None


@lru_cache(maxsize=16)
def boundary(alpha: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (G,) numbers of decisive votes, in steps of a twentieth, and (G,) how many one side must have won of them.

    Where no number of wins is enough yet, one more than there are votes. Between the numbers it is nearly straight.
    """
    moments_G = np.unique(np.geomspace(1, 10 * MOST_VOTES, 300).astype(int))
    low_G, high_G = moments_G // 2, moments_G + 1  # never enough, enough
    while (high_G - low_G > 1).any():
        middle_G = (low_G + high_G) // 2
        counts_GV = np.stack([moments_G - middle_G, np.zeros_like(middle_G), middle_G], axis=1)
        enough_G = (anytime.log_e_value(counts_GV) >= -np.log(alpha)) & (middle_G <= moments_G)
        low_G, high_G = np.where(enough_G, low_G, middle_G), np.where(enough_G, middle_G, high_G)
    return moments_G, high_G
