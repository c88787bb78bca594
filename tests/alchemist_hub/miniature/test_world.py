"""The world: the same from the same seed, what its truth says is what can be seen, and captions tell of quality."""

from pathlib import Path

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest

from alchemist_hub.errors import WorldError
from alchemist_hub.miniature import world
from alchemist_hub.miniature.captions import OPPOSITE_WORDS, QUALITY_WORDS
from alchemist_hub.miniature.damage import DAMAGES, apply_defects, republish, unsafe_emblem
from alchemist_hub.miniature.painting.styles import STYLE_PAINTERS
from alchemist_hub.miniature.render import GROUND_PAINTERS, render
from alchemist_hub.miniature.scene import BODIES, DEFECTS, GROUNDS, STYLES, TIERS, TIMES, Scene, draw_scene
from curation.records import img_key


def scene(**changes: object) -> Scene:
    values = {"seed": 5, "tier": "good", "style": "photo", "time": "day", "ground": "sea", "body": "none"}
    return Scene(**(values | {"rising": False, "richness": 0.6, "beauty": 0.8, "unsafe": False} | changes))


def entropy(image: np.ndarray) -> float:
    return len(cv2.imencode(".png", image)[1]) / image.size


def test_the_same_seed_and_index_give_the_same_sample() -> None:
    one, again, other = world.draw_sample(3, 7), world.draw_sample(3, 7), world.draw_sample(3, 8)
    assert np.array_equal(one.image, again.image) and one.caption == again.caption and one.truth == again.truth
    assert not np.array_equal(one.image, other.image)


@pytest.mark.parametrize("size", [32, 64, 96])
def test_a_picture_has_the_size_asked_for(size: int) -> None:
    image = world.draw_sample(1, 1, size=size).image
    assert image.shape == (size, size, 3) and image.dtype == np.uint8


def test_a_scene_looks_the_same_at_another_size() -> None:
    small, large = render(scene(), size=48), render(scene(), size=96)
    reduced = cv2.resize(large, (48, 48), interpolation=cv2.INTER_AREA)
    assert np.abs(reduced.astype(float) - small).mean() < 16


def test_web_pictures_come_in_the_shares_that_were_promised() -> None:
    rng = np.random.default_rng(0)
    scenes = [draw_scene(rng) for _ in range(4000)]
    share = {tier: np.mean([drawn.tier == tier for drawn in scenes]) for tier in TIERS}
    assert share["excellent"] == pytest.approx(0.05, abs=0.012) and share["good"] == pytest.approx(0.10, abs=0.015)
    assert share["plain"] == pytest.approx(0.30, abs=0.025)
    assert all(bool(drawn.severity) == (drawn.tier == "degraded") for drawn in scenes)
    assert all(drawn.body != "sun" for drawn in scenes if drawn.time == "night")


def test_neither_axis_alone_tells_plain_from_good() -> None:
    rng = np.random.default_rng(1)
    plain = [draw_scene(rng, tier="plain") for _ in range(400)]
    assert any(drawn.richness > 0.8 for drawn in plain) and any(drawn.beauty > 0.8 for drawn in plain)
    assert not any(drawn.richness > 0.5 and drawn.beauty > 0.5 for drawn in plain)


def test_rich_scenes_hold_more_than_poor_ones() -> None:
    seeds = range(20)
    poor = [entropy(render(scene(seed=seed, ground="village", richness=0.05), size=64)) for seed in seeds]
    rich = [entropy(render(scene(seed=seed, ground="village", richness=0.95), size=64)) for seed in seeds]
    assert np.mean(rich) > 1.2 * np.mean(poor)


@pytest.mark.parametrize("ground", GROUNDS)
def test_each_ground_paints_the_lower_half_its_own_way(ground: str) -> None:
    assert set(GROUND_PAINTERS) == set(GROUNDS)
    others = [render(scene(ground=other), size=64)[40:] for other in GROUNDS if other != ground]
    own = render(scene(ground=ground), size=64)[40:].astype(float)
    assert min(np.abs(own - other).mean() for other in others) > 4


@pytest.mark.parametrize("style", [style for style in STYLES if style != "photo"])
def test_each_style_changes_the_picture(style: str) -> None:
    assert set(STYLE_PAINTERS) == set(STYLES)
    photo, styled = (render(scene(style=kind), size=64).astype(float) for kind in ("photo", style))
    assert np.abs(photo - styled).mean() > 3


@pytest.mark.parametrize("body", [body for body in BODIES if body != "none"])
def test_each_body_can_be_seen(body: str) -> None:
    without, shown = (render(scene(body=kind, time="night"), size=64).astype(float) for kind in ("none", body))
    assert (np.abs(without - shown).max(2) > 25).sum() > 60  # pixels


@pytest.mark.parametrize("defect", DEFECTS)
def test_each_defect_changes_the_picture_more_the_stronger_it_is(defect: str) -> None:
    assert set(DAMAGES) == set(DEFECTS)
    image = render(scene(richness=0.9), size=64)

    def change(strength: float) -> float:
        worn = [apply_defects(image, {defect: strength}, np.random.default_rng(seed)) for seed in range(8)]
        return float(np.abs(np.stack(worn).astype(float) - image).mean())

    assert 0.5 < change(0.35) < change(1.0)


def test_defects_lower_the_truth() -> None:
    clean, worn = scene().truth(), scene(severity={"blur": 1.0}).truth()
    assert worn.aesthetics == pytest.approx(clean.aesthetics / 2) and worn.complexity < clean.complexity
    assert worn.defects == ("blur",)


def test_the_emblem_is_magenta_and_black() -> None:
    marked = unsafe_emblem(np.full((64, 64, 3), 128, np.uint8), np.random.default_rng(0)).astype(int)
    assert ((marked[..., 0] > 200) & (marked[..., 1] < 60)).sum() > 50 and (marked.max(2) < 30).sum() > 5


def test_copies_differ_in_bytes_and_show_the_same() -> None:
    image = render(scene(richness=0.9), size=64)
    for seed in range(12):
        copy = cv2.resize(republish(image, np.random.default_rng(seed)), (64, 64), interpolation=cv2.INTER_AREA)
        assert np.corrcoef(copy.ravel(), image.ravel())[0, 1] > 0.8


def test_quality_words_follow_quality() -> None:
    def said(tier: str, words: tuple[str, ...]) -> float:
        captions = [world.draw_sample(21, index, size=8, tier=tier).caption for index in range(150)]
        return float(np.mean([any(word in caption for word in words) for caption in captions]))

    assert said("excellent", QUALITY_WORDS) > 0.8 > said("good", QUALITY_WORDS) > 0.45
    assert said("plain", QUALITY_WORDS) < 0.1 and said("excellent", OPPOSITE_WORDS) == 0
    assert 0.2 < said("plain", (*OPPOSITE_WORDS, "cluttered", "minimal")) < 0.5


def test_every_word_of_a_caption_is_in_the_vocabulary() -> None:
    samples = [world.draw_sample(4, index, size=8) for index in range(300)]
    texts = [text for sample in samples for text in (sample.caption, world.describe(sample.truth))]
    texts += [prompt.text for prompt in world.prompts(60, seed=0)] + ["mars rises on the horizon."]
    words = {word for text in texts for word in text.replace(",", " ,").replace(".", " .").split()}
    assert words <= set(world.VOCABULARY)


def test_prompts_are_different_and_say_what_they_ask_for() -> None:
    asked = world.prompts(200, seed=9)
    assert len({prompt.text for prompt in asked}) == 200 and asked == world.prompts(200, seed=9)
    assert asked != world.prompts(200, seed=10)
    mars = next(prompt for prompt in asked if prompt.body == "mars")
    assert "mars" in mars.text
    assert {prompt.time for prompt in asked} == set(TIMES)


def test_a_pool_is_written_with_its_truth_beside_it(tmp_path: Path) -> None:
    world.write_pool(tmp_path / "pool", seed=9, count=300, size=32)
    rows = pq.read_table(world.truth_file(tmp_path / "pool")).to_pylist()
    assert (
        len(rows) == 300 == len(list((tmp_path / "pool").glob("*.jpg"))) == len(list((tmp_path / "pool").glob("*.txt")))
    )
    for row in rows[:40]:
        payload = (tmp_path / "pool" / row["file"]).read_bytes()
        assert row["img_key"] == img_key(payload)
        assert (tmp_path / "pool" / row["file"]).with_suffix(".txt").read_text().strip() == row["caption"]
    groups = [row["group"] for row in rows if row["group"] >= 0]
    assert groups and all(groups.count(group) >= 2 for group in set(groups))
    broken = [row for row in rows if row["broken"]]
    assert broken and any(row["small"] for row in rows) and len(broken) < 12


def test_a_pool_that_cannot_be_written_is_an_error_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(WorldError, match="cannot be written"):
        world.write_pool(tmp_path / "file" / "pool", seed=1, count=2)
