"""Which activations to keep: every (layer, token) is ranked by how well it alone tells good pictures from plain ones.

Shapes: B pictures, T timesteps, N norms, L layers, K tokens, F = L * K activations of one timestep.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from curation.estimator import score
from curation.estimator.attention import NORMS
from curation.estimator.calibration import Position
from curation.estimator.denoiser import Token
from curation.estimator.likelihood import Readings


def choose_attention(
    readings: Readings, labels_B: np.ndarray, fold_B: np.ndarray, counts: Sequence[int]
) -> tuple[str, int, list[np.ndarray]]:
    """Return the norm and the number of positions (out of `counts`) that separate best, and a score_B a timestep.

    Each picture is scored with positions chosen without its fold, so that later weights do not trust attention
    more than it deserves.
    """
    best: tuple[float, str, int, list[np.ndarray]] = (-1.0, "", 0, [])
    for index, norm in enumerate(NORMS):
        norms_TBF = [_flat(readings, t, index) for t in range(readings.norms_BTNLK.shape[1])]
        ranked = [_rank_without_each_fold(x_BF, labels_B, fold_B) for x_BF in norms_TBF]
        for kept in sorted({min(count, norms_TBF[0].shape[1]) for count in counts}):
            columns = [_out_of_fold(x_BF, fold_B, orders, kept) for x_BF, orders in zip(norms_TBF, ranked, strict=True)]
            quality = float(np.mean([score.auc(column, labels_B) for column in columns]))
            if quality > best[0]:
                best = (quality, norm, kept, columns)
    return best[1:]


@dataclass(frozen=True)
class _Ranking:
    """Activations by how well each alone separates the labels, best first, and their behaviour."""

    order_F: np.ndarray
    auc_F: np.ndarray
    mean_F: np.ndarray
    std_F: np.ndarray

    def score(self, x_BF: np.ndarray, kept: int) -> np.ndarray:
        """Return the mean of the `kept` best, signed and standardised (B,)."""
        best = self.order_F[:kept]
        return (score.standardised(x_BF[:, best], self.mean_F[best], self.std_F[best]) * self.signs(best)).mean(axis=1)

    def signs(self, features: np.ndarray) -> np.ndarray:
        return np.where(self.auc_F[features] >= 0.5, 1.0, -1.0)


def _rank(x_BF: np.ndarray, labels_B: np.ndarray) -> _Ranking:
    auc_F = score.auc_per_feature(x_BF, labels_B)
    order_F = np.argsort(-np.abs(auc_F - 0.5), kind="stable")
    return _Ranking(order_F, auc_F, x_BF.mean(axis=0), x_BF.std(axis=0))


def _rank_without_each_fold(x_BF: np.ndarray, labels_B: np.ndarray, fold_B: np.ndarray) -> list[_Ranking]:
    return [_rank(x_BF[fold_B != fold], labels_B[fold_B != fold]) for fold in range(fold_B.max() + 1)]


def _flat(readings: Readings, timestep_index: int, norm_index: int) -> np.ndarray:
    """Return the activations of one timestep as features (B, L*K)."""
    norms_BLK = readings.norms_BTNLK[:, timestep_index, norm_index].astype(np.float64)
    return norms_BLK.reshape(len(norms_BLK), -1)


def _out_of_fold(x_BF: np.ndarray, fold_B: np.ndarray, rankings: Sequence[_Ranking], kept: int) -> np.ndarray:
    score_B = np.empty(len(x_BF))
    for fold, ranking in enumerate(rankings):
        score_B[fold_B == fold] = ranking.score(x_BF[fold_B == fold], kept)
    return score_B


def kept_positions(
    readings: Readings,
    labels_B: np.ndarray,
    tokens: Sequence[Token],
    *,
    timesteps: Sequence[int],
    timestep: int,
    norm: str,
    kept: int,
) -> Iterator[Position]:
    """Yield the kept activations of one of the measured `timesteps`, chosen on all calibration labels."""
    ranking = _rank(_flat(readings, timesteps.index(timestep), NORMS.index(norm)), labels_B)
    for feature in ranking.order_F[:kept]:
        layer, token = divmod(int(feature), len(readings.tokens))
        yield Position(
            timestep=timestep,
            layer=readings.layers[layer],
            token=tokens[token].index,
            text=tokens[token].text,
            role=tokens[token].role,
            sign=float(ranking.signs(feature)),
            mean=float(ranking.mean_F[feature]),
            std=float(ranking.std_F[feature]),
            auc=float(ranking.auc_F[feature]),
        )
