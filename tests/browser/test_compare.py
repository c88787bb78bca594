"""The page in a real browser: it serves itself, paints, previews, cancels, fits a phone."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tiny_services import PROMPT, served, tiny_services

from alchemist_hub.ui.services import Services

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api")

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 120_000  # milliseconds: two busy cores


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    services: Services = tiny_services(tmp_path_factory.mktemp("page"))
    with served(services) as url:
        yield url


@pytest.fixture(scope="module")
def browser() -> Iterator["sync_api.Browser"]:
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: "sync_api.Browser", address: str) -> Iterator["sync_api.Page"]:
    page = browser.new_page()
    page.set_default_timeout(PATIENCE)
    page.complaints = []
    page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
    page.on("response", lambda answer: answer.status >= 400 and page.complaints.append(answer.url))
    page.on("request", lambda request: _is_local(request.url, address) or page.complaints.append(request.url))
    page.goto(address)
    finished(page, 7)  # the opening comparison
    yield page
    page.close()


def _is_local(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


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
    assert download.value.suggested_filename == "mars-rises-on-the-horizon_seed-7_tuned.png"
    assert Image.open(tmp_path / "picture.png").size == (64, 64)


def test_cancel_stops_the_work_and_the_next_comparison_runs(page: "sync_api.Page") -> None:
    ask(page, PROMPT, 6, steps=50)
    sync_api.expect(page.locator("#status progress")).to_be_visible()
    page.click("#cancel")
    sync_api.expect(page.locator("#status")).to_contain_text("Cancelled.")
    ask(page, PROMPT, 8)
    finished(page, 8)


def test_an_empty_prompt_is_refused_on_the_page(page: "sync_api.Page") -> None:
    ask(page, "  ", 9)
    sync_api.expect(page.get_by_text("The prompt is empty")).to_be_visible()
    sync_api.expect(page.locator("#start")).to_be_enabled()


def test_an_example_fills_the_prompt(page: "sync_api.Page") -> None:
    page.get_by_text("an oil painting of mountains at sunset").click()
    sync_api.expect(page.locator("#prompt textarea")).to_have_value("an oil painting of mountains at sunset")


def test_a_phone_shows_pictures_before_settings_without_scrolling_sideways(page: "sync_api.Page") -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    left, right = (page.locator(f"#{side}").bounding_box() for side in ("base", "tuned"))
    assert left["y"] == pytest.approx(right["y"], abs=1) and left["x"] + left["width"] <= right["x"]
    assert right["x"] + right["width"] <= 390
    assert left["y"] < page.locator("#steps").bounding_box()["y"]
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
