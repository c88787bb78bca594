"""Which activations to keep: every (layer, token) is ranked by how well it alone tells good pictures from plain ones.

Shapes: B pictures, T timesteps, N norms, L layers, K tokens, F = L * K activations of one timestep.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from curation.estimator import score
from curation.estimator.attention import NORMS
from curation.estimator.calibration import Position
from curation.estimator.denoiser import Token
from curation.estimator.likelihood import Readings


@dataclass(frozen=True, kw_only=True)
class Choice:
    """Which norm to read, and how many positions to keep among the first `depth` layers of the readings."""

    depth: int
    norm: str
    kept: int
    columns: tuple[np.ndarray, ...]  # score_B a timestep, each picture's with positions chosen without its fold
    quality: float  # the columns' AUC, mean over timesteps


def choose_attention(
    readings: Readings, labels_B: np.ndarray, fold_B: np.ndarray, counts: Sequence[int], depths: Sequence[int]
) -> dict[int, Choice]:
    """Return for each depth the norm and the number of positions (out of `counts`) that separate best.

    Each picture is scored with positions chosen without its fold, so that later weights do not trust attention
    more than it deserves.
    """
    best: dict[int, Choice] = {}
    for index, norm in enumerate(NORMS):
        norms_TBF = [_flat(readings, t, index) for t in range(readings.norms_BTNLK.shape[1])]
        ranked = [_rank_without_each_fold(x_BF, labels_B, fold_B) for x_BF in norms_TBF]
        for depth in depths:
            features = depth * len(readings.tokens)
            early = [[ranking.among(features) for ranking in rankings] for rankings in ranked]
            for kept in sorted({min(count, features) for count in counts}):
                columns = tuple(_out_of_fold(x_BF, fold_B, r, kept) for x_BF, r in zip(norms_TBF, early, strict=True))
                quality = float(np.mean([score.auc(column, labels_B) for column in columns]))
                if depth not in best or quality > best[depth].quality:
                    best[depth] = Choice(depth=depth, norm=norm, kept=kept, columns=columns, quality=quality)
    return best


def shallowest(choices: dict[int, Choice], labels_B: np.ndarray, *, standard_errors: float) -> Choice:
    """Return the choice of the least depth that is within `standard_errors` of the best one's quality.

    The one-standard-error rule (Breiman et al. 1984; Hastie et al., The Elements of Statistical Learning, 7.10), the
    error of the best by bootstrap over pictures.
    """
    best = max(choices.values(), key=lambda choice: choice.quality)
    columns = {str(index): column for index, column in enumerate(best.columns)}
    quality_R = np.mean(list(score.bootstrap_aucs(columns, labels_B).values()), axis=0)
    least = best.quality - standard_errors * float(quality_R.std())
    return choices[min(depth for depth, choice in choices.items() if choice.quality >= least)]


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

    def among(self, count: int) -> "_Ranking":
        """Return the ranking of the first `count` features alone: each was rated by itself."""
        return replace(self, order_F=self.order_F[self.order_F < count])

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
    choice: Choice,
) -> Iterator[Position]:
    """Yield the kept activations of one of the measured `timesteps`, chosen on all calibration labels."""
    ranking = _rank(_flat(readings, timesteps.index(timestep), NORMS.index(choice.norm)), labels_B)
    for feature in ranking.among(choice.depth * len(readings.tokens)).order_F[: choice.kept]:
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
