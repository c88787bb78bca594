"""Near-duplicates: fingerprints, verification on pixels, clusters and keepers, on drawn pictures."""

from collections.abc import Callable

import cv2
import numpy as np
import pyarrow as pa
import pytest

from curation.errors import RecipeError
from curation.images import decode, to_jpeg
from curation.stages.alignment import Picture, same_picture
from curation.stages.duplicates import Duplicates
from curation.stages.fingerprint import ODD, Fingerprint, perceptual_hash
from curation.stages.landmarks import Landmarks, landmarks


def landscape(seed: int, *, size: int, sun: float | None = None) -> np.ndarray:
    """A plain sunset: sky of one palette, a sun, a jagged horizon; scenes differ by seed only in places and shapes."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0 : 1 : size * 1j, 0 : 1 : size * 1j]
    sky = np.stack([0.9 - 0.2 * y, 0.4 + 0.3 * y, 0.5 - 0.3 * y], axis=2)
    place = rng.uniform(0.2, 0.8) if sun is None else sun
    glow = np.hypot(x - place, y - rng.uniform(0.2, 0.4)) < rng.uniform(0.08, 0.16)
    knots = rng.uniform(0.5, 0.85, 9)
    ground = y > np.interp(x, np.linspace(0, 1, 9), knots)
    picture = np.where(glow[..., None], [1.0, 0.9, 0.5], sky)
    picture = np.where(ground[..., None], np.stack([0.2 + 0.2 * y, 0.35 - 0.1 * x, 0.15 + 0 * x], axis=2), picture)
    return (cv2.GaussianBlur(picture, (0, 0), size / 200) * 255).round().astype(np.uint8)


def resized(pixels: np.ndarray) -> np.ndarray:
    return cv2.resize(pixels, None, fx=0.7, fy=0.7, interpolation=cv2.INTER_AREA)


def trimmed(pixels: np.ndarray) -> np.ndarray:
    cut = round(pixels.shape[0] * 0.04)
    return np.ascontiguousarray(pixels[cut:-cut, cut // 2 : -cut])


def encoded(pixels: np.ndarray) -> np.ndarray:
    return decode(to_jpeg(pixels, quality=60))


def recoloured(pixels: np.ndarray) -> np.ndarray:
    return (pixels * [0.95, 0.88, 1.1]).clip(0, 255).astype(np.uint8)


def flipped(pixels: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(pixels[:, ::-1])


EDITS = (resized, trimmed, encoded, recoloured)


def judged(pictures: dict[str, np.ndarray], quality: dict[str, float | None] | None = None, **options: int) -> pa.Table:
    """Fingerprint and deduplicate pictures under readable keys."""
    keys = sorted(pictures)
    files = {key: to_jpeg(pictures[key]) for key in keys}
    table = pa.table({"img_key": keys, "image": [files[key] for key in keys], "status": ["ok"] * len(keys)})
    scores = [(quality or {}).get(key, 0.5) for key in keys]
    table = Landmarks()(Fingerprint()(table)).drop_columns(["image"])
    table = table.append_column("iqa", pa.array(scores, pa.float32()))
    reduction = Duplicates(**options)
    reduction.open(files.__getitem__)
    return reduction(table)


def keepers(table: pa.Table) -> dict[str, str]:
    return dict(zip(table["img_key"].to_pylist(), table["duplicate_keeper"].to_pylist(), strict=True))


@pytest.mark.parametrize("size", [64, 320])
@pytest.mark.parametrize("edit", EDITS)
def test_an_edited_copy_is_the_same_picture_and_a_similar_scene_is_not(
    edit: Callable[[np.ndarray], np.ndarray], size: int
) -> None:
    for seed in range(4):
        picture = landscape(seed, size=size)
        similar = landscape(seed + 100, size=size, sun=0.5)
        copy, original = Picture.of(edit(picture)), Picture.of(picture)
        assert same_picture(original, copy)
        assert same_picture(copy, original)
        assert same_picture(original, Picture.of(edit(flipped(picture))).mirrored())
        assert not same_picture(Picture.of(similar), copy)
        assert not same_picture(original, copy.mirrored())


@pytest.mark.parametrize("size", [64, 320])
def test_many_alike_scenes_with_copies_among_them_are_told_apart(size: int) -> None:
    scenes = {f"{seed:02}": landscape(seed, size=size) for seed in range(20)}
    copies = {f"{seed:02}-{edit.__name__}": edit(scenes[f"{seed:02}"]) for seed in range(0, 20, 4) for edit in EDITS}
    turned = {f"{seed:02}-flipped": encoded(flipped(scenes[f"{seed:02}"])) for seed in range(0, 20, 4)}
    table = judged(scenes | copies | turned)
    assert keepers(table) == {key: key[:2] for key in scenes | copies | turned}
    sizes = dict(zip(table["img_key"].to_pylist(), table["duplicate_cluster"].to_pylist(), strict=True))
    assert sizes["04"] == sizes["04-flipped"] == len(EDITS) + 2
    assert sizes["05"] == 1
    assert table["is_keeper"].to_pylist() == [len(key) == 2 for key in table["img_key"].to_pylist()]


def test_the_keeper_is_the_best_and_ties_go_to_the_smaller_key() -> None:
    picture = landscape(1, size=64)
    copies = {"a": picture, "b": encoded(picture), "c": recoloured(picture)}
    assert set(keepers(judged(copies, {"a": 0.2, "b": 0.9, "c": 0.4})).values()) == {"b"}
    assert set(keepers(judged(copies, {"a": 0.2, "b": 0.9, "c": 0.9})).values()) == {"b"}
    assert set(keepers(judged(copies, {"a": None, "b": None, "c": 0.1})).values()) == {"c"}


def test_a_chain_is_cut_where_a_member_is_no_copy_of_its_keeper() -> None:
    wide = landscape(3, size=400)
    chain = {
        f"{step}": np.ascontiguousarray(wide[20 * step : 400 - 20 * step, 20 * step : 400 - 20 * step])
        for step in range(6)
    }
    table = judged(chain, {"0": 0.9})
    result = keepers(table)
    pictures = {key: Picture.of(decode(to_jpeg(pixels))) for key, pixels in chain.items()}
    assert len(set(result.values())) > 1
    assert sum(table["is_keeper"].to_pylist()) == len(set(result.values())) < len(chain)
    assert all(same_picture(pictures[keeper], pictures[key]) for key, keeper in result.items())


def test_pictures_without_structure_are_left_alone() -> None:
    flat = {
        name: np.full((64, 64, 3), value, np.uint8) for name, value in (("black", 0), ("gray", 120), ("white", 255))
    }
    assert keepers(judged(flat)) == {name: name for name in flat}


def test_a_sample_without_a_fingerprint_stays_alone_and_keeps_its_place() -> None:
    picture = landscape(2, size=64)
    table = judged({"a": picture, "b": encoded(picture)}).select(["img_key", "phash", "landmarks", "iqa"])
    missing = pa.table({"img_key": ["aa"], "phash": [None], "landmarks": [None], "iqa": [None]}).cast(table.schema)
    files = {"a": to_jpeg(picture), "b": to_jpeg(encoded(picture))}
    reduction = Duplicates()
    reduction.open(files.__getitem__)
    result = reduction(pa.concat_tables([table[:1], missing, table[1:]]))
    assert keepers(result) == {"a": "a", "aa": "aa", "b": "a"}
    assert result["duplicate_cluster"].to_pylist() == [2, 1, 2]


def test_only_candidates_are_read() -> None:
    read: list[str] = []
    pictures = {
        f"{seed}": np.random.default_rng(seed).integers(0, 255, (64, 64, 3), dtype=np.uint8) for seed in range(9)
    }
    samples = pa.table(
        {
            "img_key": list(pictures),
            "image": [to_jpeg(p) for p in pictures.values()],
            "status": ["ok"] * len(pictures),
        }
    )
    table = Landmarks()(Fingerprint()(samples)).append_column("iqa", pa.array([0.0] * len(pictures)))
    reduction = Duplicates()
    reduction.open(lambda key: read.append(key) or to_jpeg(pictures[key]))
    assert all(reduction(table)["is_keeper"].to_pylist())
    assert not read


@pytest.mark.parametrize("size", [64, 500])
def test_a_mirrored_pictures_hash_is_the_mirrored_hash(size: int) -> None:
    gray = cv2.cvtColor(landscape(7, size=size), cv2.COLOR_RGB2GRAY)
    plain, turned = perceptual_hash(gray), perceptual_hash(flipped(gray))
    assert np.bitwise_count(np.uint64(plain) ^ ODD ^ np.uint64(turned)) <= 2


def busy(seed: int, *, size: int = 320) -> np.ndarray:
    """Blobs of many colours and sizes: a picture with landmarks and local features."""
    rng = np.random.default_rng(seed)
    picture = np.full((size, size, 3), rng.integers(60, 200, 3), np.uint8)
    for _ in range(120):
        at, radius = tuple(int(v) for v in rng.integers(0, size, 2)), int(rng.integers(5, size // 9))
        cv2.circle(picture, at, radius, tuple(int(v) for v in rng.integers(20, 235, 3)), -1, cv2.LINE_AA)
    return cv2.GaussianBlur(picture, (0, 0), 1)


def cut(pixels: np.ndarray) -> np.ndarray:
    side = round(pixels.shape[0] * 0.8)
    return np.ascontiguousarray(pixels[:side, -side:])


def framed(pixels: np.ndarray) -> np.ndarray:
    return cv2.copyMakeBorder(pixels, 40, 40, 40, 40, cv2.BORDER_CONSTANT, value=(255, 255, 255))


def turned(pixels: np.ndarray) -> np.ndarray:
    height, width = pixels.shape[:2]
    return cv2.warpAffine(pixels, cv2.getRotationMatrix2D((width / 2, height / 2), 3, 1), (width, height))


def captioned(pixels: np.ndarray) -> np.ndarray:
    covered, high = pixels.copy(), pixels.shape[0] // 6
    covered[-high:] = (20, 24, 90)
    size, white = high / 55, (255, 255, 255)
    return cv2.putText(covered, "BREAKING NEWS", (8, pixels.shape[0] - high // 3), cv2.FONT_HERSHEY_DUPLEX, size, white)


@pytest.mark.parametrize("edit", [cut, framed, turned, captioned])
def test_a_strong_edit_of_a_picture_or_of_its_mirror_image_is_found(edit: Callable[[np.ndarray], np.ndarray]) -> None:
    names = [f"{edit.__name__} {seed}" for seed in range(3)]
    pictures = {name: busy(seed) for seed, name in enumerate(names)}
    copies = {f"{names[0]}, edited": edit(busy(0)), f"{names[1]}, mirrored": edit(flipped(busy(1)))}
    assert keepers(judged(pictures | copies)) == {key: key.split(",")[0] for key in pictures | copies}


def test_different_pictures_under_the_same_caption_bar_stay_apart() -> None:
    pictures = {f"bar {seed}": captioned(busy(seed)) for seed in range(4)}
    assert keepers(judged(pictures)) == {key: key for key in pictures}
    assert not same_picture(Picture.of(pictures["bar 0"]), Picture.of(pictures["bar 1"]))


def test_a_border_does_not_change_the_hash_and_a_crop_leaves_landmarks() -> None:
    gray = cv2.cvtColor(busy(5), cv2.COLOR_RGB2GRAY)
    assert perceptual_hash(framed(gray)) == perceptual_hash(gray)
    apart = np.bitwise_count(landmarks(gray)[:, None] ^ landmarks(cut(gray))[None, :])
    assert np.sum(apart.min(1) <= 5) >= 2
    assert np.bitwise_count(landmarks(gray)[:, None] ^ landmarks(turned(busy(6))[..., 0])[None, :]).min() > 11


def test_rows_that_do_not_decode_have_no_fingerprint(samples, pixels) -> None:
    table = Landmarks()(Fingerprint()(samples([pixels(1), None])))
    assert table["phash"].is_valid().to_pylist() == [True, False]
    assert table["landmarks"].is_valid().to_pylist() == [True, False]


def test_an_empty_pool_has_no_duplicates() -> None:
    empty = judged({"a": landscape(1, size=64)})[:0].select(["img_key", "phash", "landmarks", "iqa"])
    reduction = Duplicates()
    reduction.open({}.__getitem__)
    assert reduction(empty).num_rows == 0


def test_a_radius_that_would_compare_everything_is_refused() -> None:
    with pytest.raises(RecipeError, match="radius=40"):
        Duplicates(radius=40)
