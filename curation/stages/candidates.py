"""Candidates: which of N 64-bit hashes lie within a few bits of each other, without comparing all of them.

Multi-index hashing: cut a hash into 4 bands of 16 bits. Two hashes within r bits agree in at least one band up to
r // 4 bits, so probing every band's table with that many flipped bits finds every pair. Memory is a few arrays of N
numbers and blocks of about `BLOCK` comparisons.
"""

from collections.abc import Iterator
from itertools import combinations

import numpy as np

BANDS = 4
BITS = 16  # of a band
BLOCK = 2_000_000  # comparisons held at once
CROWD = 256  # rows of a bucket that are looked at: random hashes fill one so far only beyond 16 million samples


def near_pairs(
    hashes: np.ndarray, queries: np.ndarray, *, radius: int, most: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield blocks (i, j) of different rows whose queries[i] and hashes[j] differ in at most `radius` bits.

    `hashes` and `queries`: uint64 (N,). Blocks come in the order of i, the nearest j of an i first; of an i with more
    than `most` such j only the nearest are given, and of rows that share a band only the first `CROWD` are looked at,
    so that work and memory stay bounded where thousands of pictures hash alike (blank ones do).
    """
    flips = _flips(radius // BANDS)
    tables = [_table(_band(hashes, band)) for band in range(BANDS)]
    step = max(1, BLOCK // len(flips))
    for first in range(0, len(queries), step):
        rows = np.arange(first, min(first + step, len(queries)))
        found = np.empty(0, dtype=np.int64)  # i * N + j
        for band, (order, starts) in enumerate(tables):
            keys = _band(queries[rows], band)[:, None] ^ flips[None, :]
            for ask, position in _bucket_members(starts[keys], starts[keys + 1]):
                i, j = rows[ask], order[position]
                near = (np.bitwise_count(queries[i] ^ hashes[j]) <= radius) & (i != j)
                found = _nearest(np.append(found, i[near] * len(hashes) + j[near]), hashes, queries, most)
        yield np.divmod(found, len(hashes))


def _band(hashes: np.ndarray, band: int) -> np.ndarray:
    return (hashes >> np.uint64(BITS * band) & np.uint64(2**BITS - 1)).astype(np.int64)


def _flips(bits: int) -> np.ndarray:
    """Every 16-bit number with at most `bits` bits set."""
    chosen = [places for count in range(bits + 1) for places in combinations(range(BITS), count)]
    return np.array([sum(1 << place for place in places) for places in chosen], dtype=np.int64)


def _table(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows ordered by their band's value v, and where each bucket starts: order[starts[v]:starts[v + 1]]."""
    starts = np.zeros(2**BITS + 1, dtype=np.int64)
    starts[1:] = np.bincount(values, minlength=2**BITS).cumsum()
    return np.argsort(values, kind="stable"), starts


def _bucket_members(starts: np.ndarray, stops: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (query, position) for every member of every query's buckets (Q, P), about `BLOCK` at a time."""
    filled = np.flatnonzero(stops > starts)
    begins, counts = starts.ravel()[filled], np.minimum(stops - starts, CROWD).ravel()[filled]
    asks = filled // starts.shape[1]
    parts = counts.cumsum() // BLOCK
    for part in np.split(np.arange(len(filled)), np.flatnonzero(np.diff(parts)) + 1):
        count = counts[part]
        before = np.repeat(count.cumsum() - count, count)
        yield np.repeat(asks[part], count), np.repeat(begins[part], count) + np.arange(count.sum()) - before


def _nearest(pairs: np.ndarray, hashes: np.ndarray, queries: np.ndarray, most: int) -> np.ndarray:
    """Order pairs i * N + j by i, then distance, then j; drop repeated ones and what is beyond the `most` of an i."""
    pairs = np.unique(pairs)
    i, j = np.divmod(pairs, len(hashes))
    order = np.argsort(i * 128 + np.bitwise_count(queries[i] ^ hashes[j]), kind="stable")
    rank = np.arange(len(order)) - np.searchsorted(i, i)  # i is sorted already
    return pairs[order[rank < most]]
