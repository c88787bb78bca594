"""One picture before the judges of a run, all tiny and real: as the run itself judged its own files."""

import io
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hostile_images import DAMAGED, every_file
from PIL import Image
from tiny_funnel import tiny_funnel

from curation import recipes
from curation.engines import embedded
from curation.errors import ImageError, RecipeError
from curation.images import _decoded, decode, to_jpeg
from curation.judge import MOST_BYTES, SEEN_SIDE, Jury, admitted, differing, jury_of
from curation.plan import Recipe
from curation.review import Review

LOOSE = {"area": 32 * 32, "unsafe": 2.0, "defect": 2.0, "iqa": -1e9}


def picture(seed: int, side: int = 64) -> np.ndarray:
    """A smooth scene with a disc, unlike those of other seeds."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (5, 5, 3), dtype=np.uint8))
    pixels = np.array(small.resize((side, side), Image.Resampling.BICUBIC))
    centre = tuple(int(place) for place in rng.integers(side // 4, 3 * side // 4, 2))
    return cv2.circle(pixels, centre, side // 6, [int(value) for value in rng.integers(0, 256, 3)], -1)


@pytest.fixture(scope="module")
def judged(v_pipeline: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Jury, Path]:
    folder = tmp_path_factory.mktemp("judged")
    models = tiny_funnel(folder / "models", v_pipeline)
    (folder / "pool").mkdir()
    for seed in range(14):
        (folder / "pool" / f"{seed:02d}.jpg").write_bytes(to_jpeg(picture(seed), quality=95))
    recipe = recipes.miniature(models, **LOOSE, top=6).with_thresholds({"defect_watermark": 2.0})
    embedded.run(recipe, folder / "pool", folder / "run", workers=1)
    return Jury(recipe, Review(folder / "run")), folder


def test_a_file_of_the_pool_gets_the_scores_and_the_rank_that_the_run_gave_it(judged: tuple[Jury, Path]) -> None:
    jury, folder = judged
    assert len(jury.review.kept({})) == 6
    for seen in jury.review.kept({})[:2]:
        verdict = jury.judge((folder / "pool" / seen.url).read_bytes())
        recorded = jury.review.why(seen.img_key, {}).scores
        assert verdict.is_in_run and verdict.img_key == seen.img_key
        numbers = {name: score for name, score in recorded.items() if isinstance(score, float)}
        assert {name: verdict.scores[name] for name in numbers} == pytest.approx(numbers, rel=1e-3, abs=1e-3)
        assert verdict.scores["phash"] == recorded["phash"]
        assert verdict.scores["impact_rank"] == recorded["impact_rank"]
        assert verdict.kept and {each.outcome for each in verdict.judgements} == {"keep"}


def test_it_is_judged_by_the_thresholds_that_are_asked(judged: tuple[Jury, Path]) -> None:
    jury, folder = judged
    image = (folder / "pool" / jury.review.kept({})[0].url).read_bytes()
    outline = jury.review.outline.with_thresholds({"area": 64 * 64 + 1, "impact_rank": 0})
    verdict = jury.judge(image, outline=outline)
    assert (verdict.kept, verdict.step, verdict.reason) == (False, "resolution", "too small")
    failing = {each.column for each in verdict.judgements if each.outcome == "drop"}
    assert failing == {"area", "impact_rank"}  # what would fail later is told as well
    assert verdict.caption is None


def test_a_copy_is_known_by_its_pixels_and_dropped_where_the_run_has_a_better_one(judged: tuple[Jury, Path]) -> None:
    jury, folder = judged
    best = max(jury.review.kept({}), key=lambda seen: jury.review.why(seen.img_key, {}).scores["iqa"])
    pixels = decode((folder / "pool" / best.url).read_bytes())
    for copy in (pixels, np.ascontiguousarray(pixels[:, ::-1])):
        verdict = jury.judge(to_jpeg(copy, quality=80))
        nearest = verdict.neighbours[0]
        assert (nearest.img_key, nearest.is_copy) == (best.img_key, True)
        assert nearest.in_mirror == (copy is not pixels)
        rule = next(each for each in verdict.judgements if each.column == "is_keeper")
        assert rule.score == (not nearest.is_better) and rule.outcome == ("drop" if nearest.is_better else "keep")
    assert not verdict.is_in_run


def test_a_picture_like_no_other_has_no_neighbours(judged: tuple[Jury, Path]) -> None:
    verdict = judged[0].judge(to_jpeg(picture(99, side=96)))
    assert verdict.neighbours == ()
    assert verdict.scores["is_keeper"] is True


def test_percentiles_and_maps_come_with_it(judged: tuple[Jury, Path]) -> None:
    jury, _ = judged
    tall = np.vstack([picture(50), picture(51)])
    verdict = jury.judge(to_jpeg(tall))
    assert (verdict.width, verdict.height) == (64, 128)
    assert verdict.seen.shape == (64, 64, 3)  # the central square
    assert np.abs(verdict.seen.astype(int) - tall[32:96]).mean() < 6
    assert {"iqa", "impact", "unsafe"} <= verdict.percentiles.keys()
    assert all(0 <= each.below <= 1 and each.scored == 14 for each in verdict.percentiles.values())
    assert verdict.maps.likelihood.shape == verdict.maps.attention.shape
    assert verdict.candidates == 14
    assert jury.judge(to_jpeg(picture(52, side=700))).seen.shape == (SEEN_SIDE, SEEN_SIDE, 3)


def test_no_picture_is_kept_in_memory(judged: tuple[Jury, Path]) -> None:
    judged[0].judge(to_jpeg(picture(60)))
    assert _decoded == {}


def test_hostile_files_are_refused_in_one_line_before_any_judge_is_asked() -> None:
    refused = 0
    for name, data, fate in every_file():
        try:
            pixels = admitted(data)
        except ImageError as error:
            assert fate != "sound", name
            assert "\n" not in str(error) and "/" not in str(error).replace("I/O", ""), (name, str(error))
            refused += 1
        else:
            assert fate != DAMAGED, name
            assert pixels.dtype == np.uint8 and pixels.shape[2] == 3
    assert refused > 100


def test_what_is_too_large_is_refused_before_it_is_decoded() -> None:
    with pytest.raises(ImageError, match="too large: 21 MB, at most 21 MB are read"):
        admitted(bytes(MOST_BYTES + 1))
    stream = io.BytesIO()
    Image.new("1", (8000, 5001)).save(stream, "PNG")
    with pytest.raises(ImageError, match="8000 x 5001 pixels, at most 40 million"):
        admitted(stream.getvalue())


def test_judges_of_another_run_are_refused(judged: tuple[Jury, Path], tmp_path: Path) -> None:
    jury, folder = judged
    other = replace(jury.recipe, steps=jury.recipe.steps[:-1])
    with pytest.raises(RecipeError, match="other judges than these models"):
        Jury(other, jury.review)
    assert isinstance(jury_of(jury.review, folder / "models").recipe, Recipe)
    with pytest.raises(RecipeError):
        jury_of(jury.review, tmp_path)


def test_bits_are_counted() -> None:
    hashes = np.array([0, 1, 2**64 - 1, 0b1011], np.uint64)
    assert differing(hashes, np.uint64(0)).tolist() == [0, 1, 64, 3]
    assert differing(hashes, np.uint64(1)).tolist() == [1, 0, 63, 2]
