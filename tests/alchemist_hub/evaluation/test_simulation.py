"""The simulated votes have the truth they claim, and evidence along a stream is that of its counts."""

import numpy as np
import pytest
from scipy import stats

from alchemist_hub.evaluation import anytime
from alchemist_hub.evaluation.simulation import ErrorRate, Population, evidence_along, rate_of, sign_test_along


def test_votes_have_the_stated_mean_ties_and_likeness():
    population = Population(rate=0.7, correlation=0.3, ties=0.25)
    cast = population.votes(np.random.default_rng(1), 4000, 20, 2)
    assert population.mean == pytest.approx(0.65)
    assert cast.mean() == pytest.approx(0.65, abs=0.005)
    assert (cast == 0.5).mean() == pytest.approx(0.25, abs=0.005)
    decisive = cast[(cast != 0.5).all(axis=2)]
    assert np.corrcoef(decisive.T)[0, 1] == pytest.approx(0.3, abs=0.02)


def test_a_streams_prompts_are_drawn_from_the_list():
    certain = np.array([0.0, 1.0, 1.0, 1.0])
    cast = Population(rate=0.5, correlation=0.3).stream(np.random.default_rng(2), certain, 3, 4000)
    assert cast.shape == (3, 4000)
    assert cast.mean(axis=1) == pytest.approx(0.75, abs=0.03)


@pytest.mark.parametrize("values", [anytime.BALLOT, anytime.cluster_values(20)])
def test_evidence_along_a_stream_is_that_of_its_counts(values):
    streams = np.random.default_rng(3).choice(values, (4, 60))
    along = evidence_along(streams, 0.4, values)
    for stream, found in zip(streams, along, strict=True):
        counts = anytime.running_counts(stream, values)
        np.testing.assert_allclose(found, anytime.log_e_value(counts, 0.4, values), atol=1e-9)


def test_the_sign_test_along_a_stream_is_scipys():
    stream = np.random.default_rng(4).choice([0, 0.5, 1], (1, 30))
    for moment, found in enumerate(sign_test_along(stream)[0]):
        wins, losses = (stream[0, : moment + 1] == 1).sum(), (stream[0, : moment + 1] == 0).sum()
        assert found == pytest.approx(stats.binomtest(wins, wins + losses).pvalue if wins + losses else 1)


def test_a_rate_knows_what_repetitions_may_add():
    found = rate_of(np.arange(400) < 20)
    assert found == ErrorRate(hits=20, trials=400)
    assert found.value == 0.05
    assert found.margin(0.05) == pytest.approx(3 * np.sqrt(0.05 * 0.95 / 400))
