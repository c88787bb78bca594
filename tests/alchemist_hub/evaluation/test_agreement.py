"""Krippendorff's alpha against published worked examples, a literal reading of its definition, and simulation."""

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from alchemist_hub.evaluation.agreement import alpha_interval, krippendorff_alpha

_ = np.nan
# Krippendorff (2011), section C: four observers, twelve units, five values, missing data. Units are columns here.
FOUR_OBSERVERS = np.array(
    [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, _, _, _],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, _, 3],
        [_, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, _],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, _],
    ]
).T
# Section A of the same: two observers, ten units, two values.
TWO_OBSERVERS = np.array([[0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]]).T
# Section B: two observers, twelve units, five categories (a to e).
CATEGORIES = np.array([[ord(letter) for letter in row] for row in ("aabbdcccedda", "babbbccceddd")], float).T
RATINGS = hnp.arrays(
    np.float64, st.tuples(st.integers(2, 7), st.integers(2, 4)), elements=st.sampled_from([0.0, 0.5, 1.0, _])
)


@pytest.mark.parametrize(
    ("ratings", "level", "published"),
    [
        (TWO_OBSERVERS, "nominal", 0.095),
        (CATEGORIES, "nominal", 0.692),
        (FOUR_OBSERVERS, "nominal", 0.743),
        (FOUR_OBSERVERS, "ordinal", 0.815),
    ],
)
def test_published_examples(ratings, level, published):
    assert krippendorff_alpha(ratings, level=level) == pytest.approx(published, abs=5e-4)


def literal_alpha(ratings, level):
    """Alpha by its definition: mean distance of pairs within units over that of all pairs, pair by pair."""
    units = [row[~np.isnan(row)] for row in ratings]
    units = [unit for unit in units if len(unit) > 1]
    pooled = np.concatenate(units) if units else np.array([])

    def distance(a, b):
        if level == "nominal":
            return float(a != b)
        low, high = min(a, b), max(a, b)
        between = ((pooled >= low) & (pooled <= high)).sum() - ((pooled == low).sum() + (pooled == high).sum()) / 2
        return between**2 if a != b else 0.0

    within = sum(sum(distance(a, b) for a, b in permutations(unit, 2)) / (len(unit) - 1) for unit in units)
    overall = sum(distance(a, b) for a, b in permutations(pooled, 2)) / max(len(pooled) - 1, 1)
    return 1 - within / overall if overall else np.nan


@settings(deadline=None)
@given(RATINGS, st.sampled_from(["nominal", "ordinal"]))
def test_alpha_is_its_definition(ratings, level):
    assert krippendorff_alpha(ratings, level=level) == pytest.approx(literal_alpha(ratings, level), nan_ok=True)


@settings(deadline=None)
@given(RATINGS, st.integers(0, 2**16))
def test_who_rated_and_in_which_order_does_not_matter(ratings, seed):
    rng = np.random.default_rng(seed)
    shuffled = rng.permuted(rng.permutation(ratings), axis=1)
    assert krippendorff_alpha(shuffled) == pytest.approx(krippendorff_alpha(ratings), nan_ok=True)


def test_perfect_agreement_is_one_and_chance_is_zero():
    ours = np.random.default_rng(1).choice([0, 0.5, 1], (3000, 1))
    assert krippendorff_alpha(np.repeat(ours, 3, axis=1), level="ordinal") == 1
    assert krippendorff_alpha(np.random.default_rng(2).choice([0, 0.5, 1], (3000, 3))) == pytest.approx(0, abs=0.02)


@pytest.mark.parametrize("ratings", [np.ones((5, 3)), np.eye(3) + np.where(np.eye(3) > 0, 0, _), np.full((2, 2), _)])
def test_nothing_can_be_said_of_one_value_or_lonely_ratings(ratings):
    assert np.isnan(krippendorff_alpha(ratings))
    assert np.isnan(alpha_interval(ratings).low)


def raters(rng, units, observers):
    """Votes that repeat the unit's own value two times in three, else are anything: alpha is 4/9, by construction."""
    own = rng.integers(0, 2, (units, 1))
    votes = np.where(rng.random((units, observers)) < 2 / 3, own, rng.integers(0, 2, (units, observers)))
    return np.where(rng.random((units, observers)) < 0.2, _, votes.astype(float))


def test_its_interval_covers():
    rng = np.random.default_rng(3)
    found = [alpha_interval(raters(rng, 60, 4), resamples=400, seed=trial) for trial in range(1000)]
    covered = np.mean([interval.low <= 4 / 9 <= interval.high for interval in found])
    assert 0.93 <= covered <= 0.98  # 1,000 repetitions of 95%: three Monte Carlo errors are 2 points


def test_units_of_one_prompt_are_resampled_together():
    rng = np.random.default_rng(4)
    prompts = raters(rng, 40, 4)
    copies = np.repeat(prompts, 6, axis=0)
    apart, together = alpha_interval(copies), alpha_interval(copies, clusters_U=np.repeat(np.arange(40), 6))
    alone = alpha_interval(prompts)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.02)
    assert apart.high - apart.low < 0.6 * (alone.high - alone.low)
