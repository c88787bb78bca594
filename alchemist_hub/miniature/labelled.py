"""Labelled pictures of the world: what an estimator is calibrated on, and what its figures are taken on."""

import cv2
import numpy as np

from alchemist_hub.miniature.world import draw_sample

CALIBRATION_SEED, HELD_OUT_SEED = 11, 12  # no pool of these seeds was ever trained on
TIERS = ("excellent", "good", "good", *("plain",) * 6)  # the web's mixture of clean pictures


def clean_pictures(seed: int, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return `count` clean safe pictures, uint8 RGB (64,64,3), and whether each is good (B,): not plain.

    Pictures went through a JPEG file of ordinary quality, as those of a pool did.
    """
    rng = np.random.default_rng((seed, 0xE57))
    images: list[np.ndarray] = []
    good: list[bool] = []
    index = 0
    while len(images) < count:
        sample = draw_sample(seed, index, tier=TIERS[index % len(TIERS)])
        index += 1
        if not sample.truth.unsafe:
            images.append(_as_published(sample.image, int(rng.integers(86, 97))))
            good.append(sample.truth.tier != "plain")
    return images, np.array(good)


def _as_published(image: np.ndarray, quality: int) -> np.ndarray:
    _, data = cv2.imencode(".jpg", image[..., ::-1], (cv2.IMWRITE_JPEG_QUALITY, quality))
    return np.ascontiguousarray(cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1])
