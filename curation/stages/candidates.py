"""Candidates: which of N 64-bit hashes lie within a few bits of each other, without comparing all of them.

Bit sampling: two hashes that differ in few bits agree on many subsets of bits. For each of some fixed subsets the
hashes are sorted by their bits in it, and neighbours with equal ones compared. A hash and its mirrored self are sorted
to the same place, so that one search serves both passes. Most pairs are found, not all: 80 subsets of 18 bits find a
pair 8 bits apart with a chance of 0.99, one 11 bits apart with 0.77. Memory is a few arrays of N numbers and the pairs.
"""

import numpy as np

CROWD = 64  # later neighbours with equal bits that a hash is compared to in one table, at most
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # golden ratio: its products' upper bits depend on all bits below


def near_pairs(
    hashes: np.ndarray, *, radius: int, tables: int, bits: int, odd: np.uint64
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (i, j, in_mirror), i < j, whose hashes differ in at most `radius` bits, as they are or one mirrored.

    `hashes`: uint64 (N,); `odd`: the bits that a mirror flips. The more `tables` of `bits` bits, the fewer pairs are
    missed; equal hashes are found in the first one, `CROWD` for each, so that work and memory stay bounded where
    thousands of pictures hash alike (blank ones do). Pairs come in the order of i and j.
    """
    found = np.empty(0, np.int64)  # (i * N + j) * 2 + in_mirror
    for mask in _masks(tables, bits):
        found = np.union1d(found, _within_table(hashes, mask, radius, odd))
    pairs, in_mirror = np.divmod(found, 2)
    return *np.divmod(pairs, max(1, len(hashes))), in_mirror.astype(bool)


def _masks(tables: int, bits: int) -> np.ndarray:
    """The subsets, always the same ones: uint64 (tables,)."""
    rng = np.random.default_rng(0)
    chosen = [rng.choice(64, bits, replace=False).astype(np.uint64) for _ in range(tables)]
    return np.array([np.bitwise_or.reduce(np.uint64(1) << places) for places in chosen])


def _within_table(hashes: np.ndarray, mask: np.uint64, radius: int, odd: np.uint64) -> np.ndarray:
    """The near pairs among hashes that agree, or agree in a mirror, on the bits of `mask`."""
    kept = hashes & mask
    keys = (np.minimum(kept, kept ^ (odd & mask)) * _SPREAD >> np.uint64(32)).astype(np.uint32)
    order = np.argsort(keys, kind="stable").astype(np.int32)
    keys, sorted_hashes = keys[order], hashes[order]
    first = np.flatnonzero(keys[1:] == keys[:-1])
    pairs = [np.empty(0, np.int64)]
    for step in range(1, CROWD + 1):
        first = first[: np.searchsorted(first, len(keys) - step)]
        first = first[keys[first] == keys[first + step]]
        if not len(first):
            break
        apart = sorted_hashes[first] ^ sorted_hashes[first + step]
        for in_mirror, flipped in enumerate((np.uint64(0), odd)):
            near = first[np.bitwise_count(apart ^ flipped) <= radius]
            one, other = order[near].astype(np.int64), order[near + step]
            pairs.append((np.minimum(one, other) * len(hashes) + np.maximum(one, other)) * 2 + in_mirror)
    return np.concatenate(pairs)
