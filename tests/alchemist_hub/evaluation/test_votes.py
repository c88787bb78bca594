"""The statistics of a side-by-side, against references, properties and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from alchemist_hub.evaluation import votes

SCORES = hnp.arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float))
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@given(SCORES, st.integers(0, 2**16))
def test_swapping_the_sides_mirrors_the_win_rate(ours, seed):
    theirs = np.random.default_rng(seed).integers(0, 5, ours.shape).astype(float)
    forward, backward = votes.win_rate(ours, theirs), votes.win_rate(theirs, ours)
    assert forward.value == pytest.approx(1 - backward.value)
    assert forward.low == pytest.approx(1 - backward.high)
    assert 0 <= forward.low <= forward.value <= forward.high <= 1


@given(SCORES)
def test_a_side_against_itself_is_all_ties(scores):
    assert votes.win_rate(scores, scores) == votes.Interval(value=0.5, low=0.5, high=0.5)
    assert votes.sign_test(votes.outcomes(scores, scores)) == 1.0


def test_ties_count_half_and_a_failed_side_voids_the_vote():
    ours = np.array([[1.0, 2.0], [np.nan, 3.0]])
    theirs = np.array([[0.0, 2.0], [1.0, 4.0]])
    cast = votes.outcomes(ours, theirs)
    np.testing.assert_array_equal(cast, [[1.0, 0.5], [np.nan, 0.0]])
    assert votes.tally(cast) == votes.Tally(wins=1, ties=1, losses=1)
    assert votes.win_rate(ours, theirs).value == pytest.approx(0.5)


def test_the_tie_margin_is_inclusive():
    cast = votes.outcomes(np.array([[0.5, 0.75]]), np.array([[0.25, 0.25]]), tie=0.25)
    np.testing.assert_array_equal(cast, [[0.5, 1.0]])


def test_majority_counts_each_prompt_once():
    cast = np.array([[1, 1, 0], [0, 0, 0], [1, 0, 0.5], [np.nan, np.nan, np.nan]])
    np.testing.assert_array_equal(votes.majorities(cast), [1, 0, 0.5, np.nan])


@given(st.integers(0, 40), st.integers(0, 40))
def test_sign_test_is_scipys_exact_binomial(wins, losses):
    cast = np.concatenate([np.ones(wins), np.zeros(losses), np.full(3, 0.5)])[:, None]
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert votes.sign_test(cast) == pytest.approx(expected)


@given(P_VALUES)
def test_holm_is_monotone_and_between_the_raw_p_and_bonferroni(p_values):
    adjusted = votes.holm(p_values)
    for raw, corrected in zip(p_values, adjusted, strict=True):
        assert raw <= corrected <= min(1.0, raw * len(p_values)) + 1e-12
    order = np.argsort(p_values, kind="stable")
    assert np.all(np.diff(np.array(adjusted)[order]) >= 0)


def test_holm_matches_the_textbook_example():
    assert votes.holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_mean_without_any_value_is_nan_not_a_crash():
    assert np.isnan(votes.bootstrap_mean(np.full((3, 2), np.nan)).value)


def test_mean_difference_agrees_with_scipys_paired_bootstrap():
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(0.3, 1, (60, 1)), rng.normal(0, 1, (60, 1))
    found = votes.mean_difference(ours, theirs)
    reference = stats.bootstrap(
        ((ours - theirs)[:, 0],), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(float((ours - theirs).mean()))
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.04)


def test_the_interval_over_prompts_covers_when_prompts_matter_and_one_over_votes_does_not():
    rng = np.random.default_rng(11)
    over_prompts, over_votes = 0, 0
    for trial in range(200):
        strength_P1 = rng.normal(0, 1.5, (40, 1))  # the prompts' own preference; the truth is 0.5 by symmetry
        cast = (rng.normal(strength_P1, 1, (40, 4)) > 0).astype(float)
        nested = votes.bootstrap_mean(cast, resamples=300, seed=trial)
        flat = votes.bootstrap_mean(cast.reshape(-1, 1), resamples=300, seed=trial)
        over_prompts += nested.low <= 0.5 <= nested.high
        over_votes += flat.low <= 0.5 <= flat.high
    assert 0.90 <= over_prompts / 200 <= 0.99
    assert over_votes / 200 < 0.85
