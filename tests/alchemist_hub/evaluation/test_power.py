"""How many votes are needed: against scipy's tests, textbook figures and simulation."""

import numpy as np
import pytest
from scipy import stats

from alchemist_hub.evaluation import power
from alchemist_hub.evaluation.anytime import log_e_value
from alchemist_hub.evaluation.simulation import Population, evidence_along
from alchemist_hub.evaluation.votes import Tally


@pytest.mark.parametrize(
    ("rate", "textbook", "first", "for_good"), [(0.55, 782, 786, 820), (0.57, 398, 407, 422), (0.6, 194, 199, 210)]
)
def test_eighty_percent_power(rate, textbook, first, for_good):
    assert round(power.decisive_roughly(rate)) == textbook
    reached = power.exact_power(np.arange(1, 1000), rate) >= 0.8
    assert np.flatnonzero(reached)[0] + 1 == first
    assert power.decisive_needed(rate) == for_good
    assert reached[for_good - 1 :].all() and not reached[for_good - 2]


@pytest.mark.parametrize("decisive", [1, 5, 6, 7, 20, 49])
@pytest.mark.parametrize("rate", [0.5, 0.62, 0.9])
def test_exact_power_sums_the_outcomes_that_scipys_test_rejects(decisive, rate):
    rejected = [wins for wins in range(decisive + 1) if stats.binomtest(wins, decisive).pvalue <= 0.05]
    assert power.exact_power(decisive, rate) == pytest.approx(stats.binom.pmf(rejected, decisive, rate).sum())


def test_both_sides_are_alike_and_an_even_race_is_never_decided():
    assert power.decisive_needed(0.4) == power.decisive_needed(0.6)
    with pytest.raises(ValueError, match="must not be 0.5"):
        power.decisive_needed(0.5)


@pytest.mark.parametrize("correlation", [0.05, 0.3, 0.7])
def test_the_correlation_within_prompts_is_found(correlation):
    rng = np.random.default_rng(1)
    cast = Population(rate=0.6, correlation=correlation).votes(rng, 1, 8000, 4)[0]
    assert power.intra_prompt_correlation(cast) == pytest.approx(correlation, abs=0.03)
    thinned = np.where(rng.random(cast.shape) < 0.4, np.nan, cast)
    assert power.intra_prompt_correlation(thinned) == pytest.approx(correlation, abs=0.04)


def test_one_vote_a_prompt_says_nothing_of_their_likeness():
    assert np.isnan(power.intra_prompt_correlation(np.eye(4)[:, :1]))
    assert np.isnan(power.intra_prompt_correlation(np.ones((4, 3))))


def test_a_plan_finds_what_it_was_made_for():
    planned = power.plan(0.6, votes_per_prompt=4, correlation=0.2, ties=0.25)
    assert planned.decisive == 210
    assert planned.votes == planned.prompts * 4 == pytest.approx(210 * 1.6 / 0.75, abs=4)
    population = Population(rate=0.6, correlation=0.2, ties=0.25)
    cast = population.votes(np.random.default_rng(2), 5000, planned.prompts, 4)
    spread = cast.mean(axis=(1, 2)).std()
    independent = np.sqrt(0.6 * 0.4 / planned.decisive) * 0.75  # of the win rate, a quarter of the votes being ties
    assert spread == pytest.approx(independent, rel=0.1)


@pytest.mark.parametrize("alpha", [0.05, 0.05 / 24])
def test_the_boundary_is_where_evidence_is_enough(alpha):
    moments, wins = power.boundary(alpha)
    reachable = wins <= moments
    counts = np.stack([moments - wins, np.zeros_like(wins), wins], axis=1)[reachable]
    assert (log_e_value(counts) >= -np.log(alpha)).all()
    assert (log_e_value(counts + [1, 0, -1]) < -np.log(alpha)).all()
    assert not reachable[0] and reachable[-1]


def test_a_decided_board_needs_no_more_votes_and_an_even_one_too_many():
    assert power.more_needed(Tally(wins=90, ties=5, losses=30)) == 0
    assert power.more_needed(Tally(wins=30, ties=5, losses=90)) == 0
    assert power.more_needed(Tally(wins=400, ties=0, losses=400)) is None
    assert power.more_needed(Tally(wins=0, ties=7, losses=0)) is None


def test_ties_and_likeness_make_it_longer():
    plain = power.more_needed(Tally(wins=60, ties=0, losses=45))
    assert power.more_needed(Tally(wins=60, ties=105, losses=45)) == pytest.approx(2 * plain, abs=1)
    assert power.more_needed(Tally(wins=60, ties=0, losses=45), effect=1.5) == pytest.approx(1.5 * plain, abs=1)


def test_so_many_more_votes_decide_four_boards_in_five():
    start = Tally(wins=60, ties=0, losses=45)
    more = power.more_needed(start, rate=0.6)
    later = (np.random.default_rng(4).random((4000, more)) < 0.6).sum(axis=1)
    counts = np.stack([start.losses + more - later, np.zeros_like(later), start.wins + later], axis=1)
    decided = (log_e_value(counts) >= np.log(20)).mean()
    assert 0.78 <= decided <= 0.84  # numbers of votes are tried in steps of a twentieth


@pytest.mark.parametrize("scale", [1, 10, 100])
def test_a_board_on_the_brink_needs_fewer_votes_than_it_has(scale):
    losses = 40 * scale
    wins = next(w for w in range(losses, 3 * losses) if log_e_value([[losses, 0, w]])[0] >= np.log(20))
    assert power.more_needed(Tally(wins=wins, ties=0, losses=losses)) == 0
    assert 1 <= power.more_needed(Tally(wins=wins - 1, ties=0, losses=losses)) < wins + losses


def test_looking_all_the_time_decides_sooner_than_promised():
    more = power.more_needed(Tally(wins=1, ties=0, losses=1), rate=0.65)
    cast = Population(rate=0.65, correlation=0.01).votes(np.random.default_rng(5), 500, more, 1)[:, :, 0]
    assert (evidence_along(cast, 0.5).max(axis=1) >= np.log(20)).mean() > 0.8
