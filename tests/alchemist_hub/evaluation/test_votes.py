"""The statistics of a side-by-side, against references, properties and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import votes

SCORES = hnp.arrays(np.float64, st.tuples(st.integers(2, 12), st.integers(1, 3)), elements=st.integers(0, 4).map(float))
P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


@settings(deadline=None)
@given(SCORES, st.integers(0, 2**16))
def test_swapping_the_sides_mirrors_the_win_rate(ours, seed):
    theirs = np.random.default_rng(seed).integers(0, 5, ours.shape).astype(float)
    forward, backward = votes.win_rate(ours, theirs), votes.win_rate(theirs, ours)
    assert forward.value == pytest.approx(1 - backward.value)
    assert forward.low == pytest.approx(1 - backward.high)
    assert 0 <= forward.low <= forward.value <= forward.high <= 1


@settings(deadline=None)
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


@settings(deadline=None)
@given(st.integers(0, 40), st.integers(0, 40))
def test_sign_test_is_scipys_exact_binomial(wins, losses):
    cast = np.concatenate([np.ones(wins), np.zeros(losses), np.full(3, 0.5)])[:, None]
    expected = stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1.0
    assert votes.sign_test(cast) == pytest.approx(expected)


@settings(deadline=None)
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
    assert np.isnan(votes.share(np.full((3, 2), np.nan)).low)


def test_a_vote_is_worth_what_one_table_says():
    cast = votes.worth(["ours", "theirs", "tie", "both_bad", "void"])
    np.testing.assert_array_equal(cast, [1.0, 0.0, 0.5, 0.5, np.nan])
    assert votes.tally(cast) == votes.Tally(wins=1, ties=2, losses=1)


def test_a_word_that_is_no_choice_is_named():
    with pytest.raises(EvaluationError, match="unknown choice 'left'.*ours, theirs, tie, both_bad, void"):
        votes.worth(["ours", "left"])


@pytest.mark.parametrize("wins", [0, 3, 17, 40])
def test_one_vote_a_prompt_has_wilsons_or_jeffreys_interval_but_for_students_quantile(wins):
    found = votes.share((np.arange(40) < wins).astype(float)[:, None], confidence=0.9)
    few = (stats.t.ppf(0.95, 39) / stats.norm.ppf(0.95)) ** 2 * (40 / 39 if 0 < wins < 40 else 1)
    level = 2 * stats.norm.cdf(stats.norm.ppf(0.95) * np.sqrt(few)) - 1
    wilson = stats.binomtest(wins, 40).proportion_ci(level, method="wilson")
    jeffreys = stats.beta.interval(0.9, wins / few + 0.5, (40 - wins) / few + 0.5)
    low, high = jeffreys[0] if wins else 0, jeffreys[1] if wins < 40 else 1
    assert found.value == wins / 40
    assert (found.low, found.high) == pytest.approx((min(wilson.low, low), max(wilson.high, high)))


def test_repeating_every_vote_of_a_prompt_adds_no_certainty():
    cast = np.random.default_rng(5).choice([0, 0.5, 1], (30, 1))
    assert votes.share(np.repeat(cast, 9, axis=1)).low == pytest.approx(votes.share(cast).low)


def test_one_prompt_says_nothing_of_the_others():
    assert votes.share(np.ones((1, 50))) == votes.Interval(value=1.0, low=0.0, high=1.0)


def test_a_void_vote_changes_nothing():
    cast = np.random.default_rng(6).choice([0, 0.5, 1], (30, 2))
    padded = np.vstack([np.hstack([cast, np.full((30, 1), np.nan)]), np.full((4, 3), np.nan)])
    assert votes.share(padded) == votes.share(cast)
    assert votes.bootstrap_mean(padded) == votes.bootstrap_mean(cast)
    assert votes.sign_test(padded) == votes.sign_test(cast)


def test_a_normal_means_bootstrap_is_as_wide_as_students_interval():
    values = stats.norm.ppf((np.arange(12) + 0.5) / 12)[:, None]
    found = votes.bootstrap_mean(values, resamples=100_000)
    reference = stats.t.interval(0.95, 11, 0, stats.sem(values[:, 0]))
    assert (found.low, found.high) == pytest.approx(reference, rel=0.05)


def test_mean_difference_agrees_with_scipys_paired_bootstrap():
    rng = np.random.default_rng(3)
    ours, theirs = rng.normal(0.3, 1, (60, 1)), rng.normal(0, 1, (60, 1))
    found = votes.mean_difference(ours, theirs)
    reference = stats.bootstrap(
        ((ours - theirs)[:, 0],), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(1)
    ).confidence_interval
    assert found.value == pytest.approx(float((ours - theirs).mean()))
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=0.04)
