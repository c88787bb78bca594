"""Each degradation does what it is named for, to pictures of any size, and the same for the same seed."""

import cv2
import numpy as np
import pytest

from curation.degrade import DEFECTS, degrade
from curation.stages.signals import border as border_share

COARSE = np.random.default_rng(3).integers(30, 220, (24, 32, 3), dtype=np.uint8)
SCENE = cv2.resize(COARSE, (160, 120), interpolation=cv2.INTER_CUBIC)
SEEDS = range(12)  # enough to meet every kind of each defect


def damaged(name: str, strength: float, seed: int, image: np.ndarray = SCENE) -> np.ndarray:
    return DEFECTS[name](image, strength, np.random.default_rng(seed))


def detail(image: np.ndarray) -> float:
    return float(cv2.Laplacian(image.astype(np.float32).mean(2), cv2.CV_32F).var())


@pytest.mark.parametrize("name", DEFECTS)
@pytest.mark.parametrize("size", [(120, 160), (33, 21), (9, 9), (1, 1)])
def test_size_and_kind_of_pixels_stay(name, size):
    image = cv2.resize(SCENE, size[::-1])
    for seed in SEEDS:
        found = damaged(name, 1.0, seed, image)
        assert (found.shape, found.dtype) == (image.shape, np.uint8)


@pytest.mark.parametrize("name", DEFECTS)
def test_the_same_seed_does_the_same_and_leaves_the_clean_picture_alone(name):
    before = SCENE.copy()
    for seed in SEEDS:
        once = damaged(name, 0.6, seed)
        assert (once == damaged(name, 0.6, seed)).all() and (once != SCENE).any()
    assert (before == SCENE).all()


@pytest.mark.parametrize("name", ["blur", "low_contrast", "noise", "compression", "watermark"])
def test_stronger_changes_more(name):
    def change(strength):
        return [np.abs(damaged(name, strength, seed).astype(float) - SCENE).mean() for seed in SEEDS]

    assert np.mean(change(1.0)) > 1.2 * np.mean(change(0.1))


def test_blur_takes_detail_noise_adds_it_and_low_contrast_takes_spread():
    for seed in SEEDS:
        assert detail(damaged("blur", 0.8, seed)) < 0.6 * detail(SCENE)
        assert np.abs(damaged("noise", 0.8, seed).astype(float) - SCENE).max() > 40
        assert damaged("low_contrast", 0.5, seed).std() < 0.6 * SCENE.std()


def test_some_borders_are_uniform_and_the_middle_is_never_touched():
    framed = [damaged("border", 0.8, seed) for seed in SEEDS]
    assert max(border_share(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)) for image in framed) > 0.2
    assert all((image[50:70, 60:100] == SCENE[50:70, 60:100]).all() for image in framed)


def test_defects_are_applied_together_and_none_changes_nothing():
    rng = np.random.default_rng
    both = degrade(SCENE, {"compression": 1.0, "blur": 1.0}, rng(1))
    generator = rng(1)
    assert (both == DEFECTS["compression"](DEFECTS["blur"](SCENE, 1.0, generator), 1.0, generator)).all()
    assert degrade(SCENE, {}, rng(1)) is SCENE
