"""The Funnel tab in a real browser, on a desktop and a phone, by day and by night: move, read why, judge a picture."""

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tiny_services import served, tiny_services

from alchemist_hub.miniature import world
from alchemist_hub.ui.shown import shown_run
from curation.images import to_jpeg

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api")

WIDE, PHONE = {"width": 1360, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with served(replace(tiny_services(tmp_path_factory.mktemp("page")), funnel=shown_run())) as url:
        yield url


@pytest.fixture(params=[(WIDE, "light"), (PHONE, "dark")], ids=["desktop-light", "phone-dark"])
def page(request: pytest.FixtureRequest, visit: Callable[..., Any], address: str) -> Iterator["sync_api.Page"]:
    size, theme = request.param
    page = visit(address, size=size, theme=theme)
    sync_api.expect.set_options(timeout=120_000)  # milliseconds: two busy cores
    page.get_by_role("tab", name="Funnel").click()
    page.locator("#figure .step").first.wait_for()
    yield page
    assert page.complaints == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]


def set_threshold(page: "sync_api.Page", column: str, value: float) -> None:
    place = page.locator(f"#threshold-{column} input[type=number]")
    place.fill(str(value))
    place.press("Tab")


def kept(page: "sync_api.Page") -> str:
    return page.locator("#kept").inner_text()


def counts(page: "sync_api.Page") -> dict[str, int]:
    """Step -> samples that are left after it, as drawn."""
    steps = page.locator("#figure .step:not(.last)")
    told = [steps.nth(place).inner_text() for place in range(steps.count())]
    return {text.split()[0]: int(re.search(r"[\d,]+", text.split("\n", 1)[1])[0].replace(",", "")) for text in told}


def test_moving_a_threshold_makes_samples_leave_and_enter_and_counts_change(page: "sync_api.Page") -> None:
    before = counts(page)
    assert "168 of 4,200 kept" in " ".join(kept(page).split())
    assert page.locator("#moves .sample").count() == 0
    set_threshold(page, "iqa", 0.9)
    sync_api.expect(page.locator("#kept")).to_contain_text("leave")
    page.locator("#moves .leave .sample").first.wait_for()
    after = counts(page)
    assert after["iqa"] < before["iqa"] and after["safety"] == before["safety"]
    leaves, enters = (int(number) for number in re.findall(r"(\d+) (?:leave|enter)", " ".join(kept(page).split())))
    assert after["top"] == before["top"] - leaves + enters
    assert page.locator("#moves .leave .sample").count() == min(leaves, 48)
    assert "quality too low" in page.locator("#moves .leave .sample").first.inner_text()
    page.click("#reset")
    sync_api.expect(page.locator("#kept")).to_contain_text("as the run has it")
    assert counts(page) == before and page.locator("#moves .sample").count() == 0
    assert page.locator("#threshold-iqa input[type=number]").input_value() == "0.7"


def test_what_is_kept_stays_in_sight_while_thresholds_are_moved(page: "sync_api.Page") -> None:
    page.locator("#threshold-impact_rank").scroll_into_view_if_needed()
    place = page.locator("#kept" if page.viewport_size == PHONE else "#story")
    sync_api.expect(place).to_be_in_viewport()


def test_dragging_a_slider_is_answered_while_it_moves(page: "sync_api.Page") -> None:
    track = page.locator("#threshold-impact_rank input[type=range]")
    track.focus()
    for _ in range(6):
        track.press("ArrowLeft")
    sync_api.expect(page.locator("#kept .n")).not_to_have_text("168")
    sync_api.expect(page.locator("#moves .leave h4")).to_be_visible()
    assert page.locator("#moves .enter").count() == 0


def test_a_click_on_a_picture_tells_why(page: "sync_api.Page") -> None:
    page.get_by_role("button", name=re.compile("224 watermark")).click()
    sync_api.expect(page.locator("#listed h4")).to_contain_text("Dropped at defects: watermark")
    page.locator("#listed .sample").nth(3).click()
    sync_api.expect(page.locator("#story .verdict")).to_have_text("Dropped at defects: watermark")
    failing = page.locator("#story tr.out")
    assert failing.count() == 1 and "defect_watermark < 0.03" in failing.inner_text()
    sync_api.expect(page.locator("#story")).to_be_in_viewport()
    page.get_by_role("button", name=re.compile("show the 168 kept")).click()
    sync_api.expect(page.locator("#listed h4")).to_contain_text("Kept")
    page.locator("#listed .sample").first.focus()
    page.keyboard.press("Enter")
    sync_api.expect(page.locator("#story .verdict")).to_have_text("Kept")


def test_a_loose_threshold_says_what_was_never_judged(page: "sync_api.Page") -> None:
    set_threshold(page, "iqa", 0.4)
    sync_api.expect(page.locator("#figure .unjudged")).to_contain_text("never judged")


def test_a_visitors_picture_is_judged_with_its_map(page: "sync_api.Page", tmp_path: Path) -> None:
    path = tmp_path / "mine.jpg"
    path.write_bytes(to_jpeg(world.draw_sample(9, 4, tier="excellent").image))
    page.check("#with-caption input")
    page.set_input_files("#upload input[type=file]", path)
    verdict = page.locator("#verdict .own")
    sync_api.expect(verdict).to_contain_text("Would be")
    assert verdict.locator("figure img").count() == 3 and "standard deviations" in verdict.inner_text()
    assert "Caption:" in verdict.inner_text() and "above" in verdict.inner_text()
    assert verdict.locator("tbody tr").count() >= 12
    sync_api.expect(page.locator("#upload input[type=file]")).to_have_count(1)  # ready for the next
    set_threshold(page, "impact_rank", 5)
    sync_api.expect(page.locator("#kept .n")).to_have_text("5")
    page.set_input_files("#upload input[type=file]", path)
    sync_api.expect(page.locator("#verdict .verdict")).to_contain_text("dropped at top")


def test_what_is_no_picture_is_refused_on_the_page_and_the_next_one_is_judged(
    page: "sync_api.Page", tmp_path: Path
) -> None:
    fake, real = tmp_path / "fake.png", tmp_path / "real.jpg"
    fake.write_bytes(b"<svg xmlns='http://www.w3.org/2000/svg'><script>alert(1)</script></svg>")
    real.write_bytes(to_jpeg(world.draw_sample(9, 6).image))
    page.set_input_files("#upload input[type=file]", fake)
    told = page.get_by_text("This file is not judged: not an image")
    sync_api.expect(told).to_be_visible()
    assert "/" not in told.inner_text()
    page.set_input_files("#upload input[type=file]", real)
    sync_api.expect(page.locator("#verdict .own")).to_contain_text("Would be")
