"""Candidates: which of N 64-bit hashes lie within a few bits of each other, without comparing all of them.

Bit sampling: two hashes that differ in few bits agree on many subsets of bits. For each of some fixed subsets the
hashes are sorted by their bits in it, and neighbours with equal ones compared. A hash and its mirrored self are sorted
to the same place, so that one search serves both passes. The fewer hashes, the smaller the subsets and the fewer pairs
are missed: subsets of b bits out of 64 agree for a share of about (1 - d / 64)^b of the pairs that are d bits apart.
Memory is a few arrays of N numbers and the pairs.
"""

import math

import numpy as np

CROWD = 64  # later neighbours with equal bits that a hash is compared to in one table, at most
LEAST_BITS = 6
BLOCK = 1 << 15  # hashes compared at once: what stays in a core's cache
PENDING = 1 << 22  # pairs kept before repeated ones are dropped
_SPREAD = np.uint64(0x9E3779B97F4A7C15)  # golden ratio: its products' upper bits depend on all bits below
_UPPER = np.uint64(0xFFFFFFFF00000000)

Pairs = tuple[np.ndarray, np.ndarray, np.ndarray]


def near_pairs(hashes: np.ndarray, *, radius: int, tables: int, bucket: int, odd: np.uint64) -> Pairs:
    """Return (i, j, in_mirror), i < j, whose hashes differ in at most `radius` bits, as they are or one mirrored.

    `hashes`: uint64 (N,), N below 2^32; `odd`: the bits that a mirror flips. The more `tables`, and the more unlike
    hashes share a `bucket` of one (about as many as it says), the fewer pairs are missed and the longer it takes. Equal
    hashes are found in the first table, `CROWD` for each, so that work and memory stay bounded where thousands of
    pictures hash alike (blank ones do). Pairs come in the order of i and j.
    """
    bits = max(LEAST_BITS, math.ceil(math.log2(max(1, len(hashes)) / bucket)))
    found, pending = [np.empty(0, np.int64)], 0  # (i * N + j) * 2 + in_mirror
    for mask in _masks(tables, bits):
        found.append(_within_table(hashes, mask, radius, odd))
        pending += len(found[-1])
        if pending > PENDING:
            found, pending = [np.unique(np.concatenate(found))], 0
    pairs, in_mirror = np.divmod(np.unique(np.concatenate(found)), 2)
    return *np.divmod(pairs, max(1, len(hashes))), in_mirror.astype(bool)


def _masks(tables: int, bits: int) -> np.ndarray:
    """The subsets, always the same ones: uint64 (tables,)."""
    rng = np.random.default_rng(0)
    chosen = [rng.choice(64, bits, replace=False).astype(np.uint64) for _ in range(tables)]
    return np.array([np.bitwise_or.reduce(np.uint64(1) << places) for places in chosen])


def _within_table(hashes: np.ndarray, mask: np.uint64, radius: int, odd: np.uint64) -> np.ndarray:
    """The near pairs among hashes that agree, or agree in a mirror, on the bits of `mask`."""
    keys, order = _sorted(hashes, mask, odd)
    placed = hashes[order]
    pairs = [np.empty(0, np.int64)]
    for start in range(0, len(hashes), BLOCK):
        for step in range(1, CROWD + 1):
            here = slice(start, min(start + BLOCK, len(hashes) - step))
            there = slice(start + step, here.stop + step)
            if here.stop <= start or not (alike := keys[here] == keys[there]).any():
                break
            apart = placed[here] ^ placed[there]
            for in_mirror, flipped in enumerate((np.uint64(0), odd)):
                near = start + np.flatnonzero(alike & (np.bitwise_count(apart ^ flipped) <= radius))
                one, other = order[near], order[near + step]
                pairs.append((np.minimum(one, other) * len(hashes) + np.maximum(one, other)) * 2 + in_mirror)
    return np.concatenate(pairs)


def _sorted(hashes: np.ndarray, mask: np.uint64, odd: np.uint64) -> tuple[np.ndarray, np.ndarray]:
    """Return (keys, rows) in the order of the keys: equal where hashes agree, or agree in a mirror, on `mask`."""
    kept = hashes & mask
    keys = np.minimum(kept, kept ^ (odd & mask)) * _SPREAD & _UPPER
    packed = np.sort(keys | np.arange(len(hashes), dtype=np.uint64))  # a number is sorted faster than by its index
    return (packed >> np.uint64(32)).astype(np.uint32), (packed & ~_UPPER).astype(np.int64)
