"""Planted copies are found, strangers are not, and memory stays in blocks."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps
from tiny_data import tiny_dataset, tiny_image

from alchemist_hub.errors import EvaluationError
from alchemist_hub.evaluation import galleries, memorisation
from alchemist_hub.evaluation.features import features
from alchemist_hub.evaluation.galleries import Gallery
from alchemist_hub.evaluation.memorisation import calibrate, check, nearest
from curation.records import img_key


def rendered(seed: int, count: int) -> list[Image.Image]:
    return list(galleries.of_world(count, seed=seed).pictures())


def gallery(images: list[Image.Image], name: str) -> Gallery:
    return Gallery(names=[f"{name}-{index}" for index in range(len(images))], picture=lambda place: images[place])


def reencoded(image: Image.Image) -> Image.Image:
    written = io.BytesIO()
    image.save(written, format="JPEG", quality=70)
    return Image.open(written).convert("RGB")


COPIES = {
    "itself": lambda image: image,
    "resized": lambda image: image.resize((48, 48), Image.Resampling.LANCZOS),
    "re-encoded": reencoded,
    "mirrored": ImageOps.mirror,
    "all at once": lambda image: reencoded(ImageOps.mirror(image.resize((96, 96), Image.Resampling.BICUBIC))),
}


@pytest.fixture(scope="module")
def training() -> list[Image.Image]:
    return rendered(1, 150)


@pytest.mark.parametrize(
    ("name", "sees"),
    [("thumbnail", [True] * 5), ("miniature-judge", [True, False, False, True, False])],  # what it has to see
)
def test_planted_copies_are_flagged_and_fresh_pictures_are_not(name, sees, training, tmp_path: Path):
    planted = [change(training[10 * place]) for place, change in enumerate(COPIES.values())]
    fresh = rendered(2, 60)
    result = check(features(name), gallery(planted + fresh, "made"), gallery(training, "train"), tmp_path, k=2)
    table = pq.read_table(tmp_path / "memorisation.parquet")
    first = [row for row in table.to_pylist() if row["rank"] == 1]
    assert [row["training"] for row in first[:5]] == [f"train-{10 * place}" for place in range(5)]
    assert all(row["flagged"] for row, seen in zip(first, sees, strict=False) if seen)
    assert [row["mirrored"] for row in first[:5]] == [False, False, False, True, True]
    assert sum(row["flagged"] for row in first[5:]) <= 1
    assert result.flagged == sum(row["flagged"] for row in first) and result.expected == pytest.approx(0.065)
    assert (result.generated, result.training, table.num_rows) == (65, 150, 130)
    about = json.loads(table.schema.metadata[b"memorisation"])
    assert about["features"] == name and about["threshold"] == result.threshold and about["revision"]


def test_the_sheet_shows_the_closest_pairs_first(training, tmp_path: Path):
    made = [*rendered(3, 14), training[7]]
    check(features("thumbnail"), gallery(made, "made"), gallery(training, "train"), tmp_path, k=2)
    sheet = Image.open(tmp_path / "memorisation.png").convert("RGB")
    cell, left, top = 128, 210, 26
    shown = [sheet.crop((left + n * (cell + 6), top, left + n * (cell + 6) + cell, top + cell)) for n in range(2)]
    assert np.array_equal(np.asarray(shown[0]), np.asarray(shown[1]))  # the planted copy beside its original
    assert sheet.height > 4 * cell


def by_loops(query, mirrored, reference, k):
    distances = np.array([[min(1 - q @ r, 1 - m @ r) for r in reference] for q, m in zip(query, mirrored, strict=True)])
    return np.sort(distances, axis=1)[:, :k]


def unit(rng: np.random.Generator, count: int) -> np.ndarray:
    vectors = rng.normal(size=(count, 6)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 12), st.integers(1, 20), st.integers(1, 5), st.integers(0, 2**16))
def test_blocks_give_the_neighbours_of_plain_loops(queries, references, k, seed):
    rng = np.random.default_rng(seed)
    query, mirrored, reference = unit(rng, queries), unit(rng, queries), unit(rng, references)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memorisation, "QUERIES", 5)
        patch.setattr(memorisation, "REFERENCES", 3)
        found = nearest(query, mirrored, reference, k)
    np.testing.assert_allclose(found.distance_Qk, by_loops(query, mirrored, reference, k), atol=1e-5)
    side = np.where(found.mirrored_Qk[..., None], mirrored[:, None], query[:, None])
    again = 1 - (side * reference[found.index_Qk]).sum(-1)
    np.testing.assert_allclose(np.maximum(again, 0), found.distance_Qk, atol=1e-5)


def test_the_alarm_is_the_thousandth_part_of_distinct_pictures():
    rng = np.random.default_rng(0)
    vectors, mirrored = unit(rng, 2500), unit(rng, 2500)
    both = np.maximum(vectors @ vectors.T, mirrored @ vectors.T)
    np.fill_diagonal(both, -1)
    smallest = np.sort(1 - both.max(axis=1))
    assert calibrate(vectors, mirrored) == pytest.approx(smallest[2], abs=1e-5)  # floor(0.001 * 2499)


def test_copies_inside_the_training_set_do_not_silence_the_alarm(training):
    found = features("thumbnail")
    plain, turned = found.embed(training), found.embed([ImageOps.mirror(image) for image in training])
    twice = calibrate(np.concatenate([plain, plain]), np.concatenate([turned, turned]))
    assert twice == pytest.approx(calibrate(plain, turned), abs=1e-4)


def test_a_frozen_data_set_and_picture_files_are_compared_as_they_lie_on_disk(tmp_path: Path):
    folder = tiny_dataset(tmp_path / "data", rows=8)
    (tmp_path / "made.jpg").write_bytes(tiny_image(5))
    train = galleries.of_data_set(folder)
    result = check(features("thumbnail"), galleries.of_files([tmp_path / "made.jpg"]), train, tmp_path / "out")
    (first, *_) = pq.read_table(tmp_path / "out" / "memorisation.parquet").to_pylist()
    assert first == {
        "picture": "made.jpg",
        "rank": 1,
        "training": img_key(tiny_image(5)),
        "distance": pytest.approx(0, abs=1e-6),
        "mirrored": False,
        "flagged": True,
    }
    assert result.training == 8 and list(train.names)[5] == first["training"]


def test_what_cannot_be_compared_is_refused(training, tmp_path: Path):
    found = features("thumbnail")
    with pytest.raises(EvaluationError, match="1 training pictures: at least two"):
        check(found, gallery(training[:2], "made"), gallery(training[:1], "train"), tmp_path)
    with pytest.raises(EvaluationError, match="all of them alike"):
        check(found, gallery(training[:2], "made"), gallery(training[:1] * 4, "train"), tmp_path)
    with pytest.raises(EvaluationError, match="no pictures"):
        check(found, gallery([], "made"), gallery(training, "train"), tmp_path)
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(EvaluationError, match="broken.png is no picture"):
        check(found, galleries.of_files([tmp_path / "broken.png"]), gallery(training, "train"), tmp_path)
