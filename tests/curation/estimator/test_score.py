"""The estimator's arithmetic against hand-made cases, other libraries and invariants."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from curation.estimator import score


def labelled(count: int, *, shift: float, features: int = 3, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Gaussian features (count, features) whose first column is `shift` larger where the label is true."""
    rng = np.random.default_rng(seed)
    labels = rng.random(count) < 0.4
    x = rng.normal(size=(count, features))
    x[:, 0] += shift * labels
    return x, labels


def test_keyword_score_is_the_mean_signed_deviation_at_the_kept_positions() -> None:
    norms_BLK = np.zeros((2, 3, 4))
    norms_BLK[:, 1, 2] = [14.0, 10.0]
    norms_BLK[:, 2, 0] = [1.0, 4.0]
    scores = score.keyword_score(
        norms_BLK, np.array([[1, 2], [2, 0]]), np.array([1.0, -1.0]), np.array([10.0, 1.0]), np.array([2.0, 3.0])
    )
    assert scores.tolist() == [(2 - 0) / 2, (0 - 1) / 2]


def test_a_feature_that_never_varied_says_nothing() -> None:
    x = np.array([[3.0, 1.0], [3.1, 2.0]])
    assert score.standardised(x, np.array([3.0, 1.0]), np.array([0.0, 1.0])).tolist() == [[0, 0], [0, 1]]


@given(st.lists(st.tuples(st.integers(0, 5), st.booleans()), min_size=4, max_size=40))
def test_auc_agrees_with_sklearn_and_reverses_with_the_sign(rows: list[tuple[int, bool]]) -> None:
    values, labels = (np.array(column) for column in zip(*rows, strict=True))
    if labels.all() or not labels.any():
        return
    assert score.auc(values, labels) == pytest.approx(roc_auc_score(labels, values))
    assert score.auc(-values, labels) == pytest.approx(1 - score.auc(values, labels))


def test_ridge_logistic_agrees_with_sklearn() -> None:
    x, labels = labelled(400, shift=1.0)
    *weights, bias = score.fit_ridge_logistic(x, labels, ridge=5.0)
    peer = LogisticRegression(C=1 / 5.0, class_weight="balanced", tol=1e-10).fit(x, labels)
    assert weights == pytest.approx(peer.coef_[0].tolist(), abs=1e-4)
    assert bias == pytest.approx(peer.intercept_[0], abs=1e-4)


def test_folds_share_out_both_labels_evenly() -> None:
    labels = np.arange(50) < 10
    fold = score.folds(labels, count=5, seed=1)
    assert [int((labels & (fold == f)).sum()) for f in range(5)] == [2] * 5
    assert [int((~labels & (fold == f)).sum()) for f in range(5)] == [8] * 5


def test_cross_validation_does_not_reward_noise() -> None:
    x, labels = labelled(200, shift=0.0, features=100)
    fold = score.folds(labels, count=5, seed=0)
    fitted = score.fit_ridge_logistic(x, labels, ridge=1.0)
    seen = score.auc(score.linear_score(x, np.zeros(100), np.ones(100), fitted), labels)
    assert seen > 0.9
    assert score.cross_validated_auc(x, labels, fold, ridge=1.0) < 0.65


def test_paired_interval_finds_a_difference_that_single_intervals_hide() -> None:
    x, labels = labelled(1000, shift=1.2)
    scores = {"better": x[:, 0], "worse": x[:, 0] + 0.45 * x[:, 1]}
    figures = score.compare_aucs(scores, labels, [("better", "worse")], resamples=400)
    better, worse = (figures["auc"][name]["interval"] for name in scores)
    assert better[0] < worse[1]  # they overlap
    assert figures["above"][0]["interval"][0] > 0
    assert figures["above"][0]["difference"] == pytest.approx(
        figures["auc"]["better"]["auc"] - figures["auc"]["worse"]["auc"]
    )


def test_bootstrap_interval_holds_the_true_auc_about_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(60):
        x, labels = labelled(150, shift=1.0, seed=seed)
        low, high = score.interval(score.bootstrap_aucs({"x": x[:, 0]}, labels, resamples=150, seed=seed)["x"])
        hits += low <= 0.7602 <= high  # Phi(1 / sqrt 2)
    assert hits >= 51
