"""What anybody can measure of a picture without a model, and which such measure tells good from plain best.

The measures are fitted and the best is chosen on labelled pictures of the world that lie in no pool, so that nothing
is chosen on the labels that are reported.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from alchemist_hub.evaluation.metrics import auc
from alchemist_hub.miniature.labelled import clean_files

LABELLED = 977_050  # pool seed of the labelled pictures
FIT, CHOOSE = 600, 600
LOGISTIC = "logistic regression of all"


@dataclass(frozen=True, kw_only=True)
class SimpleMeasure:
    """A measure with its direction; `regression` for LOGISTIC only."""

    name: str
    sign: int
    regression: Pipeline | None
    aucs: dict[str, float]  # of every measure that it was chosen among, on the pictures of the choice

    def score(self, features: Sequence[dict[str, float]]) -> np.ndarray:
        """Return one number a picture, higher is better."""
        return _score(pd.DataFrame(features), self.name, self.sign, self.regression)


def simple_features(data: bytes) -> dict[str, float]:
    """Return the simple measures of a JPEG file."""
    bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    gray = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)
    share = np.bincount(gray.ravel(), minlength=256) / gray.size
    return {
        "JPEG bytes per pixel": len(data) / gray.size,
        "colourfulness": _colourfulness(bgr.astype(np.float64)),
        "contrast": float(gray.std()),
        "Laplacian": float(np.log1p(cv2.Laplacian(gray, cv2.CV_64F).var())),
        "entropy": float(-(share[share > 0] * np.log2(share[share > 0])).sum()),
        "saturation": float(cv2.cvtColor(bgr, cv2.COLOR_BGR2HSV)[..., 1].mean()),
        "brightness": float(gray.mean()),
    }


def best_simple_measure() -> SimpleMeasure:
    """Fit on the first half of the labelled pictures, choose the best by AUC on the second."""
    features, labels = labelled()
    regression, signs = fit(features[:FIT], labels[:FIT])
    aucs = {name: auc(_score(features[FIT:], name, sign, regression), labels[FIT:]) for name, sign in signs.items()}
    best = max(aucs, key=lambda name: aucs[name])
    return SimpleMeasure(name=best, sign=signs[best], regression=regression if best == LOGISTIC else None, aucs=aucs)


def fit(features: pd.DataFrame, labels: np.ndarray) -> tuple[Pipeline, dict[str, int]]:
    """Return the regression of all measures and the direction of each, the regression among them."""
    regression = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, labels)
    return regression, {name: 1 if auc(features[name], labels) >= 0.5 else -1 for name in features} | {LOGISTIC: 1}


def fitted_scores(known: pd.DataFrame, labels: np.ndarray, fresh: pd.DataFrame) -> dict[str, np.ndarray]:
    """Score fresh pictures by every measure and their regression, directions and weights from the known ones."""
    regression, signs = fit(known, labels)
    return {name: _score(fresh, name, sign, regression) for name, sign in signs.items()}


def labelled() -> tuple[pd.DataFrame, np.ndarray]:
    """Return (features, is excellent or good) of FIT + CHOOSE clean pictures, encoded as a pool's are."""
    files, good = clean_files(LABELLED, FIT + CHOOSE)
    return pd.DataFrame([simple_features(data) for data in files]), good


def _score(features: pd.DataFrame, name: str, sign: int, regression: Pipeline | None) -> np.ndarray:
    return regression.decision_function(features) if name == LOGISTIC else sign * features[name].to_numpy()


def _colourfulness(bgr: np.ndarray) -> float:
    """Hasler and Suesstrunk, 2003."""
    blue, green, red = (bgr[..., channel] for channel in range(3))
    red_green, yellow_blue = red - green, (red + green) / 2 - blue
    spread = np.hypot(red_green.std(), yellow_blue.std())
    return float(spread + 0.3 * np.hypot(red_green.mean(), yellow_blue.mean()))
