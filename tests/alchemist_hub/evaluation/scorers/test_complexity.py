"""Complexity without weights: what blur, noise, size and content do to it."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFilter
from scipy.stats import spearmanr

from alchemist_hub.errors import ModelError
from alchemist_hub.evaluation.scorers import scorer
from alchemist_hub.evaluation.scorers.complexity import MEASURES, band_entropy
from alchemist_hub.miniature.world import draw_sample

NAMES = [measure.name for measure in MEASURES]


def scene(seed: int = 0, size: int = 512, finest: float = 0.5) -> Image.Image:
    """Clouds with the amplitude spectrum of photographs, 1/f, and no detail beyond `finest` cycles a pixel."""
    rng = np.random.default_rng(seed)
    rows, columns = np.meshgrid(np.fft.fftfreq(size), np.fft.rfftfreq(size), indexing="ij")
    frequency = np.hypot(rows, columns)
    amplitude = np.where((frequency > 0) & (frequency <= finest), 1 / np.maximum(frequency, 1 / size), 0)
    layers = [np.fft.irfft2(amplitude * np.fft.rfft2(rng.normal(size=(size, size))), s=(size, size)) for _ in "RGB"]
    pixels = np.stack(layers, axis=-1)
    return Image.fromarray(np.clip(128 + 45 * pixels / pixels.std(), 0, 255).astype(np.uint8))


def measured(name: str, *images: Image.Image) -> np.ndarray:
    return scorer(name).score(images, [""] * len(images))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_simple_and_blur_makes_simpler(name):
    image = scene()
    blurred = [image.filter(ImageFilter.GaussianBlur(radius)) for radius in (0.7, 1.4, 2.8)]
    values = measured(name, image, *blurred, Image.new("RGB", (512, 512), "teal"))
    assert values[0] > values[1] > values[2] and (np.diff(values) <= 0).all()
    assert values[-1] == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("name", NAMES)
def test_a_mirror_changes_nothing_to_speak_of(name):
    image = scene(1)
    there, back = measured(name, image, image.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    assert back == pytest.approx(there, rel=0.03)


def test_noise_counts_less_than_scenery_does():
    plain, busy = scene(2, finest=0.02), scene(2)
    rng = np.random.default_rng(0)
    noisy = Image.fromarray(np.clip(np.asarray(plain) + rng.normal(0, 4, (512, 512, 3)), 0, 255).astype(np.uint8))
    for name in ("complexity", "complexity-edges"):
        simple, with_noise, complex_ = measured(name, plain, noisy, busy)
        assert with_noise - simple < 0.35 * (complex_ - simple)


def test_large_pictures_are_measured_at_one_size_and_any_shape_at_all():
    image = scene(3)
    for name in NAMES:
        at_once, enlarged = measured(name, image, image.resize((1536, 1536), Image.Resampling.LANCZOS))
        assert enlarged == pytest.approx(at_once, rel=0.12)
        assert np.isfinite(measured(name, Image.new("RGB", (3000, 1)), Image.new("L", (1, 1)))).all()


def test_within_a_style_it_agrees_with_the_miniatures_own_complexity():
    samples = [draw_sample(5, index, tier=tier) for tier in ("excellent", "plain") for index in range(75)]
    photos = [sample for sample in samples if sample.truth.style == "photo"]
    truth = [sample.truth.complexity for sample in photos]
    scores = measured("complexity", *(Image.fromarray(sample.image) for sample in photos))
    assert spearmanr(truth, scores).statistic > 0.5


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16), st.integers(-50, 50))
def test_bits_do_not_depend_on_brightness_and_shrink_with_contrast(seed, shift):
    channel = np.random.default_rng(seed).normal(0, 12, (64, 64))
    whole = np.round(channel)  # sums of which are exact, so that rounding cannot tip
    assert band_entropy(whole + shift) == pytest.approx(band_entropy(whole), abs=1e-6)
    assert band_entropy(channel / 4) < band_entropy(channel)


def test_the_coarsest_band_and_tiny_pictures():
    assert band_entropy(np.zeros((8, 8))) == 0.0
    checks = np.indices((16, 16)).sum(0) % 2 * 100.0
    assert band_entropy(checks) == 0.0  # one value everywhere in its one diagonal band
    edges = np.zeros((16, 16))
    edges[:, 9:] = 100
    assert 0 < band_entropy(edges) < 1


def test_weights_are_refused_where_there_are_none():
    with pytest.raises(ModelError, match="complexity is computed without weights"):
        scorer("complexity", weights="some/where")
