"""Evidence and intervals of a live board: closed forms, properties, and error rates under peeking by simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betaln

from alchemist_hub.evaluation import anytime
from alchemist_hub.evaluation.simulation import Population, evidence_along, rate_of, sign_test_along

COUNTS = st.lists(st.integers(0, 400), min_size=3, max_size=3)
MEANS = st.floats(0.01, 0.99)
ENOUGH = np.log(20)  # an e-value of 1 / 5%
LENGTH = 2000  # votes after each of which one looks


@pytest.mark.parametrize("mean", [0.5, 0.8])
def test_without_ties_evidence_is_the_beta_binomial_mixture(mean):
    wins, losses = np.array([0, 3, 40, 700]), np.array([0, 9, 25, 500])
    counts = np.stack([losses, np.zeros_like(wins), wins], axis=1)
    closed = betaln(2 + wins, 2 + losses) - betaln(2, 2) - wins * np.log(mean) - losses * np.log(1 - mean)
    assert anytime.log_e_value(counts, mean) == pytest.approx(closed, abs=2e-3)


@settings(deadline=None)
@given(COUNTS, MEANS)
def test_the_next_vote_is_expected_to_change_nothing(counts, mean):
    """A martingale: whatever was voted, a vote of mean `mean` leaves the e-value where it is on average."""
    now = anytime.log_e_value([counts], mean)[0]
    after = np.exp(anytime.log_e_value(np.array(counts) + np.eye(3, dtype=int), mean) - now)
    ties = min(mean, 1 - mean)
    chances = np.array([1 - mean - ties / 2, ties, mean - ties / 2])
    assert chances @ after == pytest.approx(1, abs=1e-9)


@settings(deadline=None)
@given(COUNTS)
def test_swapping_the_sides_mirrors_the_interval(counts):
    (ours,), (theirs,) = anytime.intervals([counts]), anytime.intervals([counts[::-1]])
    assert (ours.low, ours.high) == pytest.approx((1 - theirs.high, 1 - theirs.low))
    assert 0 <= ours.low <= ours.high <= 1


@settings(deadline=None)
@given(COUNTS.filter(any))
def test_the_interval_holds_the_win_rate_and_ends_where_evidence_is_enough(counts):
    (found,) = anytime.intervals([counts])
    assert found.low <= found.value <= found.high
    inside = np.linspace(found.low, found.high, 9)[1:-1]
    assert all(anytime.log_e_value([counts], mean)[0] < ENOUGH for mean in inside)
    for end in (found.low, found.high):
        assert end in (0, 1) or anytime.log_e_value([counts], end)[0] == pytest.approx(ENOUGH, abs=1e-6)


def test_before_the_first_vote_everything_is_possible():
    (found,) = anytime.intervals([[0, 0, 0]])
    assert np.isnan(found.value) and (found.low, found.high) == (0, 1)
    assert anytime.p_values([[0, 0, 0]])[0] == 1


def test_p_values_are_below_alpha_where_the_interval_leaves_the_mean():
    counts = np.array([[40, 10, wins] for wins in range(40, 100)])
    low, high = anytime.bounds(counts)
    np.testing.assert_array_equal(anytime.p_values(counts) < 0.05, (low > 0.5) | (high < 0.5))


def test_ties_narrow_the_interval_and_are_no_evidence_against_one_half():
    low, high = anytime.bounds([[50, 0, 50], [25, 50, 25]])
    assert high[1] - low[1] < 0.8 * (high[0] - low[0])
    assert anytime.log_e_value([[20, 900, 60]]) == pytest.approx(anytime.log_e_value([[20, 0, 60]]))


def test_votes_are_counted_by_value_without_voids():
    cast = np.array([1, 0.5, np.nan, 0, 1])
    np.testing.assert_array_equal(anytime.count_votes(cast), [1, 1, 2])
    np.testing.assert_array_equal(anytime.running_counts(cast), [[0, 0, 1], [0, 1, 1], [0, 1, 1], [1, 1, 1], [1, 1, 2]])


def test_clusters_give_the_mean_of_their_first_votes_once_complete():
    cast = np.array([1, 0, np.nan, 0.5, 0, 1, 1])
    clusters = np.array(["b", "a", "a", "a", "b", "c", "b"])
    means = anytime.cluster_means(cast, clusters, 2)
    np.testing.assert_array_equal(means, [0.25, 0.5])  # a, b; c waits for a second vote
    assert anytime.count_votes(means, anytime.cluster_values(2)).sum() == 2


# Simulations: 1,000 boards (fewer where ties make them slow), looked at after every one of 2,000 votes. Their 5% are
# for ever, and 2,000 votes use 3 to 4 of them. A true rate of 7.1% would cross the bound of 5% in 995 of 1,000 runs of
# 1,000 boards. That the method is valid needs no simulation: see the test of the martingale above.


def a_list_of_prompts(rng: np.random.Generator, population: Population) -> np.ndarray:
    """100 prompts that differ a lot: their win rates have a standard deviation of about 0.27."""
    return population.prompts(rng, (100,))


@pytest.mark.parametrize(("rate", "ties", "boards"), [(0.5, 0.0, 1000), (0.9, 0.0, 1000), (0.65, 0.25, 400)])
def test_looking_after_every_vote_misses_at_most_one_board_in_twenty(rate, ties, boards):
    rng = np.random.default_rng(1)
    population = Population(rate=rate, correlation=0.3, ties=ties)
    rates = a_list_of_prompts(rng, population)
    truth = rates.mean() * (1 - ties) + ties / 2
    missed = evidence_along(population.stream(rng, rates, boards, LENGTH), truth).max(axis=1) >= ENOUGH
    assert 0.002 <= rate_of(missed).value <= 0.05


def test_a_fixed_test_looked_at_after_every_vote_finds_what_is_not_there():
    rng = np.random.default_rng(2)
    cast = Population(rate=0.5, correlation=0.3).stream(rng, np.full(100, 0.5), 1000, LENGTH)
    p_values = sign_test_along(cast)
    assert rate_of(p_values[:, -1] < 0.05).value <= 0.05
    assert rate_of(p_values.min(axis=1) < 0.05).value > 0.35
    assert rate_of(evidence_along(cast, 0.5).max(axis=1) >= ENOUGH).value <= 0.05


def test_prompts_asked_many_times_in_a_row_need_clusters():
    """100 prompts drawn from a population, each asked 20 times in a row: votes mislead, means of prompts do not."""
    rng = np.random.default_rng(3)
    population = Population(rate=0.6, correlation=0.3)
    cast = population.votes(rng, 600, 100, 20)
    assert rate_of(evidence_along(cast.reshape(600, -1), 0.6).max(axis=1) >= ENOUGH).value > 0.3
    means = cast.mean(axis=2)
    missed = evidence_along(means, 0.6, anytime.cluster_values(20)).max(axis=1) >= ENOUGH
    assert rate_of(missed).value <= 0.05


def test_a_thousand_votes_tell_three_fifths_from_a_half():
    rng = np.random.default_rng(4)
    cast = Population(rate=0.6, correlation=0.3).stream(rng, np.full(100, 0.6), 300, 1000)
    assert rate_of(evidence_along(cast, 0.5).max(axis=1) >= ENOUGH).value > 0.98
