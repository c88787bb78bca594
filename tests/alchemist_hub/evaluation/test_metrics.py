"""Precision, recall and AUC, against scikit-learn and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from alchemist_hub.evaluation import metrics

LABELLED = st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=30).filter(
    lambda rows: len({label for _, label in rows}) == 2
)


@given(st.lists(st.tuples(st.booleans(), st.booleans()), max_size=30))
def test_precision_and_recall_are_ratios_of_their_counts(rows):
    flagged, wanted = np.array([row[0] for row in rows], bool), np.array([row[1] for row in rows], bool)
    found = metrics.precision_recall(flagged, wanted)
    assert found.hits <= min(found.flagged, found.wanted)
    assert found.precision == (found.hits / found.flagged if found.flagged else None)
    assert found.recall == (found.hits / found.wanted if found.wanted else None)
    swapped = metrics.precision_recall(wanted, flagged)
    assert (swapped.precision, swapped.recall) == (found.recall, found.precision)


@given(LABELLED)
def test_auc_is_scikit_learns(rows):
    scores, labels = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    assert metrics.auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores))
    assert metrics.auc(-scores, labels) == pytest.approx(1 - metrics.auc(scores, labels))


def test_auc_of_one_class_says_what_is_missing():
    with pytest.raises(ValueError, match="0 positives and 3 negatives"):
        metrics.auc(np.arange(3), np.zeros(3))


def test_the_auc_interval_covers_the_truth():
    rng, covered = np.random.default_rng(5), 0
    labels = np.arange(120) < 50
    truth = 0.76025  # Phi(1 / sqrt(2)): two unit normals, one deviation apart
    for trial in range(100):
        found = metrics.auc_interval(rng.normal(labels.astype(float), 1), labels, seed=trial)
        assert found.low < found.value < found.high
        covered += found.low <= truth <= found.high
    assert covered >= 88


def test_a_paired_difference_is_tighter_than_the_two_intervals_apart():
    rng = np.random.default_rng(8)
    labels = np.arange(200) < 100
    shared = rng.normal(labels.astype(float), 1)
    ours, theirs = shared + rng.normal(0, 0.1, 200), shared + rng.normal(0, 0.6, 200)
    paired = metrics.auc_difference(ours, theirs, labels)
    apart = metrics.auc_interval(ours, labels)
    assert paired.value == pytest.approx(metrics.auc(ours, labels) - metrics.auc(theirs, labels))
    assert paired.high - paired.low < apart.high - apart.low
    assert metrics.auc_difference(ours, ours, labels) == metrics.Interval(value=0.0, low=0.0, high=0.0)
