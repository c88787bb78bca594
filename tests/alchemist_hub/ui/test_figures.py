"""What the Funnel tab shows, as HTML: widths, distributions, marks, stories; and that a pool's words stay words."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alchemist_hub.miniature import shipped_run
from alchemist_hub.ui import figures
from alchemist_hub.ui.heat import AGAINST, FOR, enlarged, heat_map, strongest
from curation.review import FunnelRow, Review, Seen

EVIL = '"><img src=x onerror=alert(1)>&'


@pytest.fixture(scope="module")
def review() -> Review:
    return Review(shipped_run())


def nothing(key: str) -> None:
    return None


def test_widths_are_logarithmic_between_the_base_and_the_pool() -> None:
    assert figures.width(1000, 10, 1000) == 100
    assert figures.width(100, 10, 1000) == pytest.approx(50)
    assert figures.width(10, 10, 1000) == figures.width(0, 10, 1000) == 0
    assert figures.narrowest([4000, 160, 0]) == 40
    assert figures.narrowest([0, 0]) == 0.5


def test_the_figure_has_a_row_for_each_step_that_drops_and_a_button_for_each_reason(review: Review) -> None:
    drawn = figures.funnel_figure(review.ask({}))
    names = re.findall(r'class="name">(\w+)<', drawn)
    assert names == ["source", "resolution", "safety", "defects", "iqa", "duplicates", "top", "recaption"]
    reasons = {(row.step, reason) for row in review.before[1:] for reason in row.reasons}
    assert set(re.findall(r'data-step="([^"]*)" data-reason="([^"]*)"', drawn)) == reasons


def test_changes_against_the_run_are_told_at_their_step(review: Review) -> None:
    answer = review.ask({"iqa": 0.9, "impact_rank": 100})
    fewer = re.findall(r'class="fewer">(-[\d,]+)<', figures.funnel_figure(answer))
    assert int(fewer[-1]) == 100 - review.before[-1].kept
    line = figures.kept_line(answer)
    assert ">100</b>" in line and f"{answer.leaves:,}</b> leave" in line
    assert "as the run has it" in figures.kept_line(review.ask({}))


def test_what_was_never_judged_is_said(review: Review) -> None:
    assert "never judged" in figures.funnel_figure(review.ask({"iqa": 0.4}))
    assert "never judged" not in figures.funnel_figure(review.ask({"iqa": 0.8}))


def test_a_distribution_shades_what_the_rule_drops_and_marks_both_thresholds(review: Review) -> None:
    control = next(each for each in review.controls if each.rule.column == "iqa")
    strict, loose = (figures.distribution(control, threshold) for threshold in (control.high, control.low))
    assert strict.count('class="out"') == len(control.bars) and loose.count('class="in"') == len(control.bars)
    assert strict.count("<line") == 2 and 'class="moved"' in strict
    assert figures.distribution(control, control.rule.threshold).count("<line") == 1
    heights = [float(height) for height in re.findall(r'height="([\d.]+)"/>', loose)]
    assert max(heights) == figures.BARS_HEIGHT and min(heights) >= 0


def test_ranks_are_drawn_by_the_score_they_were_made_of(review: Review) -> None:
    rank = review.controls[-1]
    heights = [float(h) for h in re.findall(r'height="([\d.]+)"/>', figures.distribution(rank, rank.rule.threshold))]
    assert rank.ranked_by == "impact" and heights == sorted(heights, reverse=True)


@pytest.mark.parametrize(
    ("op", "value", "kept"),
    [("<", 1.0, False), ("<=", 1.0, True), (">", 1.0, False), (">=", 1.0, True), ("==", 1.0, True)],
)
def test_rules_are_read_as_they_are_written(op: str, value: float, kept: bool) -> None:
    assert figures.holds(value, op, 1.0) is kept


def test_words_of_a_pool_stay_words(review: Review) -> None:
    seen = Seen(img_key="0" * 32, url=EVIL, step="defects", reason=EVIL)
    told = replace(review.why(review.kept({})[0].img_key, {}), urls=(EVIL,), text=EVIL, reason=EVIL, step=EVIL)
    answer = review.ask({})
    rows = (*answer.rows[:-1], FunnelRow(answer.rows[-1].step, 5, 4, 1, {EVIL: 1}))
    for drawn in (
        figures.grid(EVIL, [seen], 1, nothing, kind="leave"),
        figures.story(told, nothing),
        figures.funnel_figure(replace(answer, rows=rows, unjudged={EVIL: 1})),
    ):
        assert "<img src=x" not in drawn and "onerror=alert" in drawn


def test_a_story_has_every_check_with_its_outcome(review: Review) -> None:
    dropped = review.dropped({}, "defects", "watermark")[0]
    told = review.why(dropped.img_key, {})
    drawn = figures.story(told, nothing)
    assert "Dropped at defects: watermark" in drawn
    assert drawn.count("<tr class=") == len(told.judgements)
    assert drawn.count('class="out"><td') == 1 and "no picture" in drawn
    twin = review.dropped({}, "duplicates", "near-duplicate of a better picture")[0]
    keeper = review.why(twin.img_key, {}).keeper
    assert f'data-key="{keeper}"' in figures.story(review.why(twin.img_key, {}), nothing)


def test_a_grid_says_how_many_there_are_and_nothing_where_there_are_none(review: Review) -> None:
    kept = review.kept({}, most=5)
    drawn = figures.grid("Kept", kept, 168, nothing)
    assert drawn.count("data-key") == 5 and "5 shown" in drawn
    assert figures.grid("Kept", [], 0, nothing) == ""


@pytest.mark.parametrize(
    ("value", "words"),
    [(None, "none"), (float("nan"), "none"), (True, "yes"), (4096, "4,096"), (0.2, "0.2"), (3.21e-7, "3e-07"),
     (-1.381, "-1.38"), (0, "0"), (168.0, "168"), ("text", "text")],
)  # fmt: skip
def test_numbers_are_short(value: object, words: str) -> None:
    assert figures.number(value) == words


def test_a_veiled_picture_cannot_be_recognised() -> None:
    fine = Image.fromarray(np.indices((64, 64)).sum(0).astype(np.uint8) % 2 * 255).convert("RGB")
    plain, veiled = figures.data_uri(fine), figures.data_uri(fine, veiled=True)
    assert plain.startswith("data:image/webp;base64,") and len(veiled) < len(plain) / 3


def test_the_heat_map_is_gold_for_and_blue_against_and_silent_where_nothing_is() -> None:
    seen = np.full((64, 64, 3), 200, np.uint8)
    drawn = np.asarray(heat_map(seen, np.array([[4.0, 0.0], [0.0, -4.0]], np.float32)).resize((8, 8)), float)
    for corner, colour in (((0, 0), FOR), ((7, 7), AGAINST)):
        assert np.abs(drawn[corner] - colour).max() < 60
    assert np.ptp(drawn[0, 7]) < 12  # gray
    assert strongest(np.zeros((2, 2))) > 0 and np.isfinite(np.asarray(heat_map(seen, np.zeros((8, 8))))).all()
    assert enlarged(np.ones((4, 4)), 100).shape == (100, 100)


def test_the_shipped_run_is_small_and_tells_no_place() -> None:
    files = [path for path in shipped_run().rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 6e6
    assert all(str(Path.home()).encode() not in path.read_bytes() for path in files)
