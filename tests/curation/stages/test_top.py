"""Ranks by impact."""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from curation.stages.top import Top


def ranked(impacts: list[float | None], keys: list[str]) -> list[int | None]:
    table = pa.table({"img_key": pa.array(keys), "impact": pa.array(impacts, pa.float32())})
    return Top()(table)["impact_rank"].to_pylist()


def test_the_highest_impact_is_rank_1_and_ties_go_to_the_smaller_key() -> None:
    assert ranked([0.5, 0.9, 0.9, -1.0], ["d", "c", "b", "a"]) == [3, 2, 1, 4]


def test_a_sample_without_an_impact_has_no_rank_and_takes_none() -> None:
    assert ranked([None, 0.1, float("nan"), 0.2], ["a", "b", "c", "d"]) == [None, 2, None, 1]


@given(st.lists(st.floats(-10, 10, width=32), min_size=1, max_size=30), st.randoms())
def test_ranks_are_a_permutation_that_does_not_depend_on_the_order_of_rows(impacts: list[float], random) -> None:
    keys = [f"{index:04}" for index in range(len(impacts))]
    ranks = dict(zip(keys, ranked(impacts, keys), strict=True))
    order = random.sample(range(len(keys)), len(keys))
    shuffled = ranked([impacts[row] for row in order], [keys[row] for row in order])
    assert sorted(ranks.values()) == list(range(1, len(keys) + 1))
    assert shuffled == [ranks[keys[row]] for row in order]
    by_rank = [impacts[index] for index in np.argsort(list(ranks.values()))]
    assert by_rank == sorted(impacts, reverse=True)
