"""The sampled search against comparing every pair."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.stages import candidates
from curation.stages.candidates import CROWD, near_pairs
from curation.stages.fingerprint import ODD


def found(hashes: np.ndarray, *, radius: int, tables: int = 80) -> set[tuple[int, int, bool]]:
    i, j, in_mirror = near_pairs(hashes, radius=radius, tables=tables, bucket=8, odd=ODD)
    return set(zip(i.tolist(), j.tolist(), in_mirror.tolist(), strict=True))


def all_near(hashes: np.ndarray, radius: int) -> set[tuple[int, int, bool]]:
    apart = hashes[:, None] ^ hashes[None, :]
    return {
        (i, j, in_mirror)
        for in_mirror, flipped in ((False, np.uint64(0)), (True, ODD))
        for i, j in np.argwhere(np.bitwise_count(apart ^ flipped) <= radius).tolist()
        if i < j
    }


def family(seed: int, count: int, *, flips: int) -> np.ndarray:
    """Hashes apart from one another, then the same with `flips` bits changed, every second one mirrored too."""
    rng = np.random.default_rng(seed)
    hashes = rng.integers(0, 2**64, count, dtype=np.uint64)
    changes = [rng.choice(64, flips, replace=False).astype(np.uint64) for _ in range(count)]
    masks = [np.bitwise_or.reduce(np.uint64(1) << bits, initial=np.uint64(0)) for bits in changes]
    copies = hashes ^ np.array(masks, np.uint64)
    copies[::2] ^= ODD
    return np.concatenate([hashes, copies])


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 1000), st.integers(0, 40), st.sampled_from([0, 2, 4]))
def test_it_finds_the_pairs_within_the_radius_and_no_others(seed: int, count: int, flips: int) -> None:
    hashes = family(seed, count, flips=flips)
    assert found(hashes, radius=4) == all_near(hashes, 4)


def test_it_misses_few_pairs_at_eight_bits_and_finds_most_at_eleven() -> None:
    for flips, least in ((8, 0.97), (11, 0.65)):
        hashes = family(1, 400, flips=flips)
        expected = {(row, row + 400, row % 2 == 0) for row in range(400)}
        assert len(found(hashes, radius=flips) & expected) >= least * 400


def test_more_tables_find_more() -> None:
    hashes = family(2, 400, flips=9)
    assert found(hashes, radius=9, tables=5) < found(hashes, radius=9, tables=40)


def test_a_crowd_of_equal_hashes_gives_a_bounded_number_of_pairs() -> None:
    pairs = found(np.zeros(300, dtype=np.uint64), radius=3)
    assert 0 < len(pairs) <= 300 * CROWD
    assert {row for pair in pairs for row in pair[:2]} == set(range(300))


def test_what_is_found_does_not_depend_on_how_much_is_held_at_once(monkeypatch) -> None:
    hashes = np.concatenate([family(3, 200, flips=3), np.zeros(40, np.uint64)])
    whole = found(hashes, radius=3)
    monkeypatch.setattr(candidates, "BLOCK", 7)
    monkeypatch.setattr(candidates, "PENDING", 1)
    assert found(hashes, radius=3) == whole
    assert len(whole) > 200


def test_no_hashes_have_no_pairs() -> None:
    assert not found(np.empty(0, dtype=np.uint64), radius=3)
