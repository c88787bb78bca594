"""Signals: each measure follows the property it is named for, on pictures where that property is known."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from curation.images import jpeg_quality, to_jpeg
from curation.stages.signals import COLUMNS, SIDE, Signals, border, measures

RNG = np.random.default_rng(3)
SCENE = cv2.resize(RNG.integers(0, 256, (24, 32), dtype=np.uint8), (320, 240), interpolation=cv2.INTER_CUBIC)


def saved(quality: int, *, kind: str = "JPEG", **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(SCENE).convert("RGB").save(buffer, kind, quality=quality, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("quality", [5, 20, 50, 75, 90, 95])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality):
    assert abs(jpeg_quality(saved(quality)) - quality) <= 1


def test_what_is_no_jpeg_has_the_best_quality():
    assert jpeg_quality(saved(1, kind="PNG")) == 100
    assert jpeg_quality(saved(1, kind="WEBP")) == 100


def test_blur_takes_sharpness_and_leaves_exposure():
    sharp, soft = measures(SCENE), measures(cv2.GaussianBlur(SCENE, (0, 0), 9))
    assert soft["sharpness"] < 0.2 * sharp["sharpness"]
    assert soft["exposure"] == pytest.approx(sharp["exposure"], abs=0.02)


def test_sharpness_does_not_depend_on_the_size_of_the_file():
    large = cv2.resize(SCENE, None, fx=8, fy=8, interpolation=cv2.INTER_CUBIC)
    medium = cv2.resize(SCENE, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    assert max(large.shape) > SIDE
    assert measures(large)["sharpness"] == pytest.approx(measures(medium)["sharpness"], rel=0.5)


def test_exposure_contrast_and_clipping_of_known_pictures():
    half = np.zeros((10, 10), np.uint8)
    half[:, 5:] = 255
    found = measures(half)
    assert (found["exposure"], found["contrast"], found["clipped"]) == pytest.approx((0.5, 0.5, 1.0))
    assert found["entropy"] == pytest.approx(1.0)
    gray = measures(np.full((10, 10), 102, np.uint8))
    assert (gray["exposure"], gray["contrast"], gray["clipped"], gray["entropy"]) == pytest.approx((0.4, 0, 0, 0))


def test_entropy_of_every_level_is_eight_bits():
    assert measures(np.arange(256, dtype=np.uint8).reshape(16, 16))["entropy"] == pytest.approx(8.0)


@pytest.mark.parametrize(("top", "left"), [(0, 0), (24, 0), (0, 40), (24, 40)])
def test_a_uniform_border_is_measured_by_its_area(top, left):
    framed = cv2.copyMakeBorder(SCENE, top, top, left, left, cv2.BORDER_CONSTANT, value=250)
    assert border(framed) == pytest.approx(1 - SCENE.size / framed.size, abs=0.01)


def test_a_picture_of_one_colour_is_all_border():
    assert border(np.full((8, 8), 7, np.uint8)) == 1.0


def test_the_stage_writes_every_column_and_leaves_broken_rows_without_scores(pixels, samples):
    scored = Signals()(samples([pixels(1, width=300, height=280), None, pixels(2)]))
    assert scored.schema.names[-len(COLUMNS) :] == list(COLUMNS)
    for name in COLUMNS:
        values = scored[name].to_pylist()
        assert values[1] is None and None not in (values[0], values[2])
    assert scored["jpeg_quality"].to_pylist()[0] == pytest.approx(95, abs=1)


def test_a_picture_of_a_single_pixel_has_measures(samples):
    scored = Signals()(samples([np.full((1, 1, 3), 9, np.uint8)]))
    assert scored["border"].to_pylist() == [1.0]
    assert to_jpeg(np.zeros((1, 1, 3), np.uint8))
