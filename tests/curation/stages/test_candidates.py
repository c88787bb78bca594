"""The banded search against comparing every pair."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.stages import candidates
from curation.stages.candidates import near_pairs


def found(hashes: np.ndarray, queries: np.ndarray, *, radius: int, most: int = 1000) -> list[tuple[int, int]]:
    blocks = near_pairs(hashes, queries, radius=radius, most=most)
    return [pair for i, j in blocks for pair in zip(i.tolist(), j.tolist(), strict=True)]


def crowded(seed: int, count: int) -> np.ndarray:
    """Hashes in few families, so that many pairs lie at every small distance."""
    rng = np.random.default_rng(seed)
    families = rng.integers(0, 2**64, 3, dtype=np.uint64)[rng.integers(0, 3, count)]
    flips = np.uint64(1) << rng.integers(0, 64, (count, 6), dtype=np.uint64)
    return families ^ np.bitwise_xor.reduce(np.where(rng.random((count, 6)) < 0.7, flips, np.uint64(0)), axis=1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 60), st.sampled_from([0, 3, 7, 11]))
def test_it_finds_exactly_the_pairs_within_the_radius(seed: int, count: int, radius: int) -> None:
    hashes, queries = crowded(seed, count), crowded(seed, count)[::-1].copy()
    distance = np.bitwise_count(queries[:, None] ^ hashes[None, :])
    expected = {(i, j) for i, j in np.argwhere(distance <= radius).tolist() if i != j}
    pairs = found(hashes, queries, radius=radius)
    assert set(pairs) == expected
    assert len(pairs) == len(expected)


def test_blocks_do_not_change_what_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    hashes = crowded(1, 80)
    whole = found(hashes, hashes, radius=7)
    monkeypatch.setattr(candidates, "BLOCK", 300)
    assert found(hashes, hashes, radius=7) == whole
    assert whole


def test_of_too_many_neighbours_the_nearest_are_given_nearest_first() -> None:
    hashes = np.array([0b0, 0b111, 0b1, 0b11, 0b1], dtype=np.uint64)
    assert [pair for pair in found(hashes, hashes, radius=11, most=3) if pair[0] == 0] == [(0, 2), (0, 4), (0, 3)]


def test_a_crowd_of_equal_hashes_gives_a_bounded_number_of_pairs() -> None:
    hashes = np.zeros(300, dtype=np.uint64)
    pairs = found(hashes, hashes, radius=3, most=5)
    assert len(pairs) == 300 * 5
    assert {i for i, _ in pairs} == set(range(300))
