"""Intervals and evidence for a live board, valid however often one looks and whenever one stops.

Shape legend: N boards or moments, V values a vote can have, K bets, C clusters.

A player bets that votes will be won at rate q against someone who says their mean is m. For a vote x in [0,1] his
wealth is multiplied by x q/m + (1-x) (1-q)/(1-m), whose mean is 1 if m is right: so he rarely gets rich if it is
(Ville 1939: wealth reaches 1/alpha, at any moment whatever, with probability alpha at most). His money is spread over K
rates q beforehand, and the sum is an e-value against m. The m against which he has not reached 1/alpha form a
confidence sequence. For votes won or lost this is Robbins' beta-binomial mixture (Darling and Robbins 1967; Howard et
al. 2021, Annals of Statistics 49, 1055-1080); for ties it is the betting of Waudby-Smith and Ramdas (2024, JRSS-B 86,
1-27) with bets q fixed beforehand. Wealth depends on how many votes of each value there are, not on their order, and
its logarithm is convex in m: the set is an interval, and holds the share of votes won.

What has to hold: given all votes so far, the next has mean m. It does where each vote's prompt is drawn at random from
one fixed list, whatever was voted before, and raters come at random, a vote each (`standing.first_votes`). The interval
is then about that list, and needs no correction for prompts. It does not hold where one prompt, or one rater, is asked
many times in a row: then reduce clusters to one number each (`cluster_means`), and the interval is about the clusters
to come.
"""

import numpy as np

from alchemist_hub.evaluation.votes import CONFIDENCE, Interval

BALLOT = (0.0, 0.5, 1.0)  # values of a vote
BETS = 256  # enough up to 100,000 votes; fewer would cost width, never validity
PRIOR = 2.0  # the money is spread like a beta distribution with these two parameters: most on close races
STEPS = 40  # halvings of [0,1]: to 1e-12
EDGE = 1e-12


def count_votes(votes_N: np.ndarray, values_V: tuple[float, ...] = BALLOT) -> np.ndarray:
    """Return (V,) how many votes have each value; voids (NaN) are left out."""
    return (np.asarray(votes_N)[:, None] == np.asarray(values_V)).sum(axis=0)


def running_counts(votes_N: np.ndarray, values_V: tuple[float, ...] = BALLOT) -> np.ndarray:
    """Return (N, V) the counts after each vote."""
    return np.cumsum(np.asarray(votes_N)[:, None] == np.asarray(values_V), axis=0)


def log_e_value(
    counts_NV: np.ndarray, mean: float | np.ndarray = 0.5, values_V: tuple[float, ...] = BALLOT
) -> np.ndarray:
    """Return (N,) natural logarithms of the e-values against `mean`, one for all or one each."""
    rates_K, money_K = _bets()
    counts = np.asarray(counts_NV, dtype=np.float64)
    means_M = np.clip(np.atleast_1d(np.asarray(mean, dtype=np.float64)), EDGE, 1 - EDGE)[:, None, None]
    values = np.asarray(values_V)[:, None]
    factors_MVK = np.log(values * rates_K / means_M + (1 - values) * (1 - rates_K) / (1 - means_M))
    wealth_NK = counts @ factors_MVK[0] if len(means_M) == 1 else np.einsum("nv,nvk->nk", counts, factors_MVK)
    highest_N = wealth_NK.max(axis=1)
    return highest_N + np.log(np.exp(wealth_NK - highest_N[:, None]) @ money_K)


def p_values(counts_NV: np.ndarray, mean: float = 0.5, values_V: tuple[float, ...] = BALLOT) -> np.ndarray:
    """Return (N,) anytime-valid p values of "the mean is `mean`": one over the e-value, at most 1."""
    return np.exp(-np.maximum(log_e_value(counts_NV, mean, values_V), 0.0))


def bounds(
    counts_NV: np.ndarray, *, confidence: float = CONFIDENCE, values_V: tuple[float, ...] = BALLOT
) -> tuple[np.ndarray, np.ndarray]:
    """Return (N,) lower and (N,) upper ends of the confidence sequence, [0,1] before the first vote."""
    counts = np.asarray(counts_NV, dtype=np.float64)
    total_N = counts.sum(axis=1)
    share_N = np.divide(counts @ np.asarray(values_V), total_N, out=np.full(len(counts), 0.5), where=total_N > 0)
    return tuple(_edge(counts, values_V, share_N, end, -np.log1p(-confidence)) for end in (0.0, 1.0))


def intervals(
    counts_NV: np.ndarray, *, confidence: float = CONFIDENCE, values_V: tuple[float, ...] = BALLOT
) -> list[Interval]:
    """Return each board's share of votes won, ties counted half, and its interval; NaN in [0,1] without a vote."""
    counts = np.asarray(counts_NV, dtype=np.float64)
    low_N, high_N = bounds(counts, confidence=confidence, values_V=values_V)
    with np.errstate(invalid="ignore"):
        share_N = counts @ np.asarray(values_V) / counts.sum(axis=1)
    rows = zip(share_N, low_N, high_N, strict=True)
    return [Interval(value=float(value), low=float(low), high=float(high)) for value, low, high in rows]


def cluster_means(votes_N: np.ndarray, clusters_N: np.ndarray, size: int) -> np.ndarray:
    """Return (C,) the mean of the first `size` votes of each cluster (a prompt, a rater) that has as many, by name.

    Voids are left out first. Clusters with fewer votes wait: which of them are complete must not depend on what was
    voted. The means are multiples of 1 / (2 size): see `cluster_values`.
    """
    votes, clusters = np.asarray(votes_N, dtype=np.float64), np.asarray(clusters_N)
    votes, clusters = votes[~np.isnan(votes)], clusters[~np.isnan(votes)]
    order = np.argsort(clusters, kind="stable")
    _, starts, counts = np.unique(clusters[order], return_index=True, return_counts=True)
    first_C = starts[counts >= size]
    return votes[order][first_C[:, None] + np.arange(size)].mean(axis=1)


def cluster_values(size: int) -> tuple[float, ...]:
    """Return what the mean of `size` votes can be, as `values_V` of the functions above."""
    return tuple(float(value) for value in np.arange(2 * size + 1) / 2 / size)


def _bets() -> tuple[np.ndarray, np.ndarray]:
    """Return (K,) win rates that money is put on, denser where they are told apart sooner, and (K,) its shares."""
    rates_K = np.sin(np.pi * (np.arange(BETS) + 0.5) / (2 * BETS)) ** 2
    money_K = (rates_K * (1 - rates_K)) ** (PRIOR - 0.5)
    return rates_K, money_K / money_K.sum()


def _edge(
    counts_NV: np.ndarray, values_V: tuple[float, ...], inside_N: np.ndarray, end: float, threshold: float
) -> np.ndarray:
    """Halve between a mean inside the interval and `end`; return the last one outside, or `end` where none is."""
    outside_N = np.full(len(counts_NV), end)
    for _ in range(STEPS):
        middle_N = (inside_N + outside_N) / 2
        rejected_N = log_e_value(counts_NV, middle_N, values_V) >= threshold
        inside_N = np.where(rejected_N, inside_N, middle_N)
        outside_N = np.where(rejected_N, middle_N, outside_N)
    return outside_N
