"""Labelled pictures of the world: what an estimator is calibrated on, and what its figures are taken on."""

import cv2
import numpy as np

from alchemist_hub.miniature.world import draw_sample

CALIBRATION_SEED, HELD_OUT_SEED = 11, 12  # no pool of these seeds was ever trained on
TIERS = ("excellent", "good", "good", *("plain",) * 6)  # the web's mixture of clean pictures


def clean_files(seed: int, count: int) -> tuple[list[bytes], np.ndarray]:
    """Return `count` clean safe pictures as JPEG files of a pool's qualities, and whether each (B,) is not plain."""
    qualities = np.random.default_rng((seed, 0xE57))
    files: list[bytes] = []
    good: list[bool] = []
    index = 0
    while len(files) < count:
        sample = draw_sample(seed, index, tier=TIERS[index % len(TIERS)])
        index += 1
        if not sample.truth.unsafe:
            quality = (cv2.IMWRITE_JPEG_QUALITY, int(qualities.integers(86, 97)))
            files.append(cv2.imencode(".jpg", sample.image[..., ::-1], quality)[1].tobytes())
            good.append(sample.truth.tier != "plain")
    return files, np.array(good)


def clean_pictures(seed: int, count: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the pictures of `clean_files`, decoded: uint8 RGB (64,64,3)."""
    files, good = clean_files(seed, count)
    return [_decoded(data) for data in files], good


def _decoded(data: bytes) -> np.ndarray:
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])
