"""The Compare tab as a visitor meets it: paint, cancel, history, share link, keyboard, both themes, phone."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_services import PROMPT, served, tiny_services

from alchemist_hub.ui.asked import FIRST_SEED
from alchemist_hub.ui.services import Services

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api")

PATIENCE = 120_000  # milliseconds: two busy cores


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return tiny_services(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def address(services: Services) -> Iterator[str]:
    with served(services) as url:
        yield url


@pytest.fixture
def page(visit: Callable[..., "sync_api.Page"], address: str) -> "sync_api.Page":
    sync_api.expect.set_options(timeout=PATIENCE)
    page = visit(address, theme=None, permissions=("clipboard-read", "clipboard-write"))
    finished(page, FIRST_SEED)  # the opening comparison
    return page


def finished(page: "sync_api.Page", seed: int) -> None:
    sync_api.expect(page.locator("#status")).to_contain_text(re.compile(rf"seed {seed}\b"), timeout=PATIENCE)


def ask(page: "sync_api.Page", prompt: str, seed: int, steps: int = 4) -> None:
    page.fill("#prompt textarea", prompt)
    page.fill("#seed input", str(seed))
    page.fill("#steps input[type=number]", str(steps))
    page.locator("#steps input[type=number]").press("Tab")
    page.click("#start")


def shown(page: "sync_api.Page") -> list[tuple[str, int]]:
    """Address and natural width of both pictures, once both have arrived."""
    page.wait_for_function("[...document.querySelectorAll('.picture img')].filter(i => i.naturalWidth).length == 2")
    return [
        (image.get_attribute("src"), image.evaluate("image => image.naturalWidth"))
        for image in page.query_selector_all(".picture img")
    ]


def test_compare_paints_both_sides_and_asks_nobody_else(page: "sync_api.Page") -> None:
    before = shown(page)
    ask(page, PROMPT, 5)
    finished(page, 5)
    after = shown(page)
    assert [width for _, width in after] == [512, 512]
    assert {source for source, _ in before}.isdisjoint(source for source, _ in after)
    assert page.locator("#status").inner_text().startswith("Miniature · base")
    page.get_by_role("tab", name="Slider").click()
    sync_api.expect(page.locator("#slider img")).to_have_count(2)
    assert page.complaints == []


def test_the_download_is_the_original(page: "sync_api.Page", tmp_path: Path) -> None:
    from PIL import Image

    with page.expect_download() as download:
        page.click("#save-tuned")
    download.value.save_as(tmp_path / "picture.png")
    expected = f"mars-rising-over-the-desert-at-night-detailed_seed-{FIRST_SEED}_tuned.png"
    assert download.value.suggested_filename == expected
    assert Image.open(tmp_path / "picture.png").size == (64, 64)


def test_cancel_stops_the_work_and_the_next_comparison_runs(page: "sync_api.Page") -> None:
    ask(page, PROMPT, 6, steps=50)
    sync_api.expect(page.locator("#status progress")).to_be_visible()
    page.click("#cancel")
    sync_api.expect(page.locator("#status")).to_contain_text("Cancelled.")
    ask(page, PROMPT, 8)
    finished(page, 8)


def test_who_waits_sees_their_place_and_may_leave_the_line(page: "sync_api.Page", services: Services) -> None:
    with services.turns.join("mini", 50):
        ask(page, PROMPT, 16)
        sync_api.expect(page.locator("#status")).to_contain_text("Waiting for 1 comparison before yours")
        page.click("#cancel")
        sync_api.expect(page.locator("#status")).to_contain_text("Cancelled.")
        wait_until(lambda: services.turns.length() == 1)
    ask(page, PROMPT, 17)
    finished(page, 17)


def test_closing_the_page_stops_its_painting(page: "sync_api.Page", services: Services) -> None:
    ask(page, PROMPT, 18, steps=50)
    wait_until(services.turns.busy)
    page.goto("about:blank")
    wait_until(lambda: not services.turns.busy())


def wait_until(happened: Callable[[], bool], seconds: float = 30.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.05)


def test_an_empty_prompt_is_refused_on_the_page(page: "sync_api.Page") -> None:
    ask(page, "  ", 9)
    sync_api.expect(page.get_by_text("The prompt is empty")).to_be_visible()
    sync_api.expect(page.locator("#start")).to_be_enabled()


def test_an_example_is_shown_at_a_click(page: "sync_api.Page") -> None:
    before = shown(page)
    page.get_by_text("an oil painting of mountains at sunset").click()
    sync_api.expect(page.locator("#prompt textarea")).to_have_value("an oil painting of mountains at sunset")
    page.wait_for_function("old => document.querySelector('.picture img')?.src !== old", arg=before[0][0])
    finished(page, FIRST_SEED)
    assert page.complaints == []


def test_history_survives_a_reload_and_shows_a_comparison_again(page: "sync_api.Page") -> None:
    for seed in (41, 42):
        ask(page, PROMPT, seed)
        finished(page, seed)
    page.reload()
    finished(page, FIRST_SEED)
    entries = page.locator("#history button")
    sync_api.expect(entries).to_have_count(2)
    assert "seed 42" in entries.first.get_attribute("aria-label")
    entries.nth(1).focus()
    page.keyboard.press("Enter")
    finished(page, 41)
    sync_api.expect(page.locator("#seed input")).to_have_value("41")
    sync_api.expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    page.click("#clear")
    sync_api.expect(entries).to_have_count(0)
    page.reload()
    finished(page, FIRST_SEED)
    sync_api.expect(entries).to_have_count(0)
    assert page.complaints == []


def test_a_share_link_fills_the_form_and_paints(page: "sync_api.Page", address: str) -> None:
    page.fill("#negative textarea, #negative input", "sketch & <b>night</b>")
    ask(page, PROMPT, 51, steps=3)
    finished(page, 51)
    page.click("#share")
    sync_api.expect(page.locator("#share")).to_have_text("Link copied")
    link = page.evaluate("navigator.clipboard.readText()")
    assert link.startswith(address) and "seed=51" in link
    page.goto(link)
    finished(page, 51)
    sync_api.expect(page.locator("#prompt textarea")).to_have_value(PROMPT)
    sync_api.expect(page.locator("#negative textarea, #negative input")).to_have_value("sketch & <b>night</b>")
    sync_api.expect(page.locator("#steps input[type=number]")).to_have_value("3")
    assert page.complaints == []


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("seed=3", "The prompt is empty"),
        ("prompt=mars&seed=x", "text arrived"),
        ("prompt=mars&model=%3Cscript%3E", "There is no such model"),
        ("prompt=" + "m" * 501, "501 characters"),
    ],
)
def test_a_link_that_cannot_be_shown_says_so_and_shows_the_example(
    page: "sync_api.Page", address: str, query: str, says: str
) -> None:
    page.goto(f"{address}?{query}")
    sync_api.expect(page.get_by_text(says)).to_be_visible()
    finished(page, FIRST_SEED)
    assert page.complaints == []


def test_a_hostile_prompt_is_only_text(page: "sync_api.Page") -> None:
    ask(page, "<img src=x onerror='window.hit=1'>", 61)
    sync_api.expect(page.get_by_text("Shorten it").or_(page.locator("#status").get_by_text("seed 61"))).to_be_visible()
    assert page.evaluate("window.hit === undefined")
    assert page.locator("img[src='x']").count() == 0


def test_an_unlocked_seed_is_a_new_one_each_time(page: "sync_api.Page") -> None:
    page.get_by_label("Lock seed").uncheck()
    page.fill("#prompt textarea", PROMPT)
    seeds = []
    for _ in range(2):
        page.click("#start")
        sync_api.expect(page.locator("#start")).to_be_disabled()
        sync_api.expect(page.locator("#start")).to_be_enabled()
        seeds.append(page.input_value("#seed input"))
    assert len({str(FIRST_SEED), *seeds}) == 3


def test_the_prompt_is_sent_with_enter_and_every_control_has_a_name(page: "sync_api.Page") -> None:
    page.fill("#seed input", "71")
    page.fill("#prompt textarea", PROMPT)
    page.keyboard.press("Enter")
    finished(page, 71)
    nameless = """() => [...document.querySelectorAll('button, input, textarea')].filter(part => part.offsetParent &&
      !(part.innerText || part.getAttribute('aria-label') || part.title || part.labels?.length ||
        part.closest('label') || part.querySelector('img[alt]:not([alt=""])'))).map(
      part => part.outerHTML.slice(0, 160))"""
    assert page.evaluate(nameless) == []


def test_the_theme_is_chosen_and_kept(page: "sync_api.Page") -> None:
    def ground() -> str:
        return page.evaluate("getComputedStyle(document.querySelector('gradio-app')).backgroundColor")

    first = ground()
    page.get_by_role("button", name="Switch between light and dark").click()
    assert ground() != first
    second = ground()
    page.reload()
    finished(page, FIRST_SEED)
    assert ground() == second
    assert page.complaints == []


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_their_ground_in_both_themes(page: "sync_api.Page", address: str, theme: str) -> None:
    page.goto(f"{address}?__theme={theme}")
    finished(page, FIRST_SEED)
    for selector in (".masthead h1", ".masthead p", "#status span", "#history p", ".notice"):
        word, ground = page.evaluate(
            "name => [getComputedStyle(document.querySelector(name)).color, "
            "getComputedStyle(document.querySelector('gradio-app')).backgroundColor]",
            selector,
        )
        assert contrast(word, ground) >= 4.5, (selector, word, ground)


def contrast(one: str, other: str) -> float:
    """Contrast of two CSS colours as the WCAG define it, in 1 to 21."""

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_a_phone_shows_pictures_before_settings_without_scrolling_sideways(page: "sync_api.Page") -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    left, right = (page.locator(f"#{side}").bounding_box() for side in ("base", "tuned"))
    assert left["y"] == pytest.approx(right["y"], abs=1) and left["x"] + left["width"] <= right["x"]
    assert right["x"] + right["width"] <= 390
    assert left["y"] < page.locator("#steps").bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
