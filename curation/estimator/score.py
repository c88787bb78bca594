"""The arithmetic of the estimator: scores, ROC AUC, a small ridge classifier, bootstrap intervals. Pure functions.

Shapes: B pictures, L layers, K tokens, P kept positions, F features, R bootstrap resamples.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from scipy.special import expit
from scipy.stats import rankdata


def standardised(x_BF: np.ndarray, mean_F: np.ndarray, std_F: np.ndarray) -> np.ndarray:
    """Return `x_BF` in standard deviations from the mean; a feature that never varied becomes zero."""
    varies_F = std_F > 1e-12
    return np.where(varies_F, (x_BF - mean_F) / np.where(varies_F, std_F, 1.0), 0.0)


def keyword_score(
    norms_BLK: np.ndarray, positions_P2: np.ndarray, sign_P: np.ndarray, mean_P: np.ndarray, std_P: np.ndarray
) -> np.ndarray:
    """Return score_B: the mean of the signed standardised norms at the kept (layer, token) positions."""
    layer_P, token_P = np.asarray(positions_P2).T
    return (standardised(norms_BLK[:, layer_P, token_P], mean_P, std_P) * sign_P).mean(axis=1)


def auc(scores_B: np.ndarray, labels_B: np.ndarray) -> float:
    """Return the ROC AUC: how often a true picture scores above a false one, ties half."""
    return float(auc_per_feature(np.asarray(scores_B)[:, None], labels_B)[0])


def auc_per_feature(x_BF: np.ndarray, labels_B: np.ndarray) -> np.ndarray:
    """Return the ROC AUC of every column alone (F,)."""
    true_B = np.asarray(labels_B, dtype=bool)
    positives, negatives = true_B.sum(), (~true_B).sum()
    rank_sum_F = rankdata(x_BF, axis=0)[true_B].sum(axis=0)
    return (rank_sum_F - positives * (positives + 1) / 2) / (positives * negatives)


def fit_ridge_logistic(x_BF: np.ndarray, labels_B: np.ndarray, *, ridge: float, steps: int = 30) -> np.ndarray:
    """Return weights (F + 1,), the bias last, of a logistic regression with an L2 penalty of `ridge` on the weights.

    Classes count equally, whatever their shares. Newton's method; features are expected to be standardised.
    """
    y_B = np.asarray(labels_B, dtype=float)
    share = y_B.mean()
    weight_B = np.where(y_B > 0, 0.5 / share, 0.5 / (1 - share))
    x1_BF = np.column_stack([x_BF, np.ones(len(x_BF))])
    penalty_F = np.append(np.full(x_BF.shape[1], float(ridge)), 1e-9)
    theta_F = np.zeros(x1_BF.shape[1])
    for _ in range(steps):
        p_B = expit(x1_BF @ theta_F)
        gradient_F = x1_BF.T @ (weight_B * (p_B - y_B)) + penalty_F * theta_F
        curvature_B = weight_B * np.maximum(p_B * (1 - p_B), 1e-9)
        step_F = np.linalg.solve((x1_BF.T * curvature_B) @ x1_BF + np.diag(penalty_F), gradient_F)
        theta_F -= step_F
        if np.abs(step_F).max() < 1e-8:
            break
    return theta_F


def linear_score(x_BF: np.ndarray, mean_F: np.ndarray, std_F: np.ndarray, weights_F1: np.ndarray) -> np.ndarray:
    """Return the log odds score_B of standardised features; the last weight is the bias."""
    return standardised(x_BF, mean_F, std_F) @ weights_F1[:-1] + weights_F1[-1]


def folds(labels_B: np.ndarray, *, count: int, seed: int) -> np.ndarray:
    """Return the fold of every picture (B,), each fold with the same share of both labels."""
    fold_B = np.empty(len(labels_B), dtype=int)
    rng = np.random.default_rng(seed)
    for label in (False, True):
        members = np.flatnonzero(np.asarray(labels_B, dtype=bool) == label)
        fold_B[rng.permutation(members)] = np.arange(len(members)) % count
    return fold_B


def cross_validated_scores(x_BF: np.ndarray, labels_B: np.ndarray, fold_B: np.ndarray, *, ridge: float) -> np.ndarray:
    """Return score_B, each picture scored by a classifier that was fitted without its fold."""
    score_B = np.empty(len(x_BF))
    for fold in np.unique(fold_B):
        rest_B = fold_B != fold
        mean_F, std_F = x_BF[rest_B].mean(axis=0), x_BF[rest_B].std(axis=0)
        theta = fit_ridge_logistic(standardised(x_BF[rest_B], mean_F, std_F), labels_B[rest_B], ridge=ridge)
        score_B[~rest_B] = linear_score(x_BF[~rest_B], mean_F, std_F, theta)
    return score_B


def cross_validated_auc(x_BF: np.ndarray, labels_B: np.ndarray, fold_B: np.ndarray, *, ridge: float) -> float:
    """Return the mean over folds of the AUC inside the fold."""
    score_B = cross_validated_scores(x_BF, labels_B, fold_B, ridge=ridge)
    return float(np.mean([auc(score_B[fold_B == fold], labels_B[fold_B == fold]) for fold in np.unique(fold_B)]))


def bootstrap_aucs(
    scores: Mapping[str, np.ndarray], labels_B: np.ndarray, *, resamples: int = 2000, seed: int = 0
) -> dict[str, np.ndarray]:
    """Return auc_R of every score on the same resamples of pictures, so that differences are paired."""
    names = list(scores)
    x_BF = np.column_stack([scores[name] for name in names])
    aucs_RF = np.stack([auc_per_feature(x_BF[rows], labels_B[rows]) for rows in _resamples(labels_B, resamples, seed)])
    return dict(zip(names, aucs_RF.T, strict=True))


def interval(values_R: np.ndarray, *, level: float = 0.95) -> tuple[float, float]:
    """Return the central percentile interval of bootstrap values."""
    tail = (1 - level) / 2
    low, high = np.quantile(values_R, [tail, 1 - tail])
    return float(low), float(high)


def compare_aucs(
    scores: Mapping[str, np.ndarray],
    labels_B: np.ndarray,
    pairs: Sequence[tuple[str, str]],
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Any]:
    """Return the AUC of every score, and for each pair (own, other) how far own is above, with 95% intervals."""
    boot = bootstrap_aucs(scores, labels_B, resamples=resamples, seed=seed)
    value = {name: auc(values, labels_B) for name, values in scores.items()}
    return {
        "auc": {name: {"auc": value[name], "interval": list(interval(boot[name]))} for name in scores},
        "above": [
            {
                "of": own,
                "over": other,
                "difference": value[own] - value[other],
                "interval": list(interval(boot[own] - boot[other])),
            }
            for own, other in pairs
        ],
    }


def _resamples(labels_B: np.ndarray, resamples: int, seed: int) -> Iterator[np.ndarray]:
    """Draw pictures with replacement within each label, so that no resample lacks one."""
    rng = np.random.default_rng(seed)
    true_B = np.asarray(labels_B, dtype=bool)
    groups = [np.flatnonzero(true_B), np.flatnonzero(~true_B)]
    for _ in range(resamples):
        yield np.concatenate([rng.choice(group, size=len(group)) for group in groups])
