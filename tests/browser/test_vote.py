"""Vote and Results in a real browser: by keyboard and by thumb, in both themes, blind until the vote, results move."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.csv
import pytest
from tiny_services import PROMPTS, served, tiny_services

from alchemist_hub.ui.services import Services

pytestmark = pytest.mark.browser
sync_api = pytest.importorskip("playwright.sync_api")
expect = sync_api.expect

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
LOOKS = {
    f"{name}, {theme}": (size, theme)
    for name, size in (("desktop", DESKTOP), ("phone", PHONE))
    for theme in ("light", "dark")
}
Visit = Callable[..., Any]


@pytest.fixture(scope="module")
def services(tmp_path_factory: pytest.TempPathFactory) -> Services:
    return tiny_services(tmp_path_factory.mktemp("page"), votes=True)


@pytest.fixture(scope="module")
def address(services: Services) -> Iterator[str]:
    with served(services) as url:
        yield url


def open_vote(visit: Visit, address: str, **look: Any) -> Any:
    page = visit(address, **look)
    page.get_by_role("tab", name="Vote").click()
    expect(page.locator("#booth [data-phase=ask], #booth[data-phase=ask]")).to_be_visible(timeout=120_000)
    return page


def in_phase(page: Any, phase: str) -> None:
    page.wait_for_selector(f"#booth [data-phase={phase}], #booth[data-phase={phase}]")


@pytest.mark.parametrize(("size", "theme"), LOOKS.values(), ids=LOOKS.keys())
def test_a_vote_by_keyboard_moves_the_results(
    visit: Visit, address: str, services: Services, size: dict[str, int], theme: str
) -> None:
    before = services.votes.store.count()
    page = open_vote(visit, address, size=size, theme=theme)
    expect(page.locator(".asked")).to_have_text(re.compile("|".join(PROMPTS)))
    for key in ("1", "ArrowRight", "3", "ArrowDown"):
        page.keyboard.press(key)
    in_phase(page, "told")
    row = services.votes.store.votes().to_pylist()[-1]
    assert services.votes.store.count() == before + 1
    assert [row[aspect] for aspect in ("relevance", "aesthetics", "complexity", "fidelity")] == [
        "left", "right", "tie", "both bad",
    ]  # fmt: skip
    expect(page.locator("figure.left .name")).to_have_text(row["left"].capitalize())
    expect(page.locator(".mine")).to_have_text("You have voted once.")
    page.get_by_role("tab", name="Results").click()
    expect(page.locator("#live .about").first).to_have_text(re.compile(rf"^{before + 1} votes? by"))
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
    assert page.complaints == []


def test_results_move_without_reloading(visit: Visit, address: str, services: Services) -> None:
    page = open_vote(visit, address)
    page.get_by_role("tab", name="Results").click()
    start = services.votes.store.count()
    for extra in (1, 2):
        page.get_by_role("tab", name="Vote").click()
        if extra == 2:
            page.keyboard.press("n")
        in_phase(page, "ask")
        for _ in range(4):
            page.keyboard.press("2")
        in_phase(page, "told")
        page.get_by_role("tab", name="Results").click()
        expect(page.locator("#live .about").first).to_have_text(re.compile(rf"^{start + extra} votes? by"))
    assert page.complaints == []


def test_nothing_on_the_page_tells_the_sides_before_the_vote(visit: Visit, address: str) -> None:
    answers: list[str] = []
    page = visit(address)
    page.on("response", lambda answer: "component_server" in answer.url and answers.append(answer.text()))
    page.get_by_role("tab", name="Vote").click()
    in_phase(page, "ask")
    shown = page.locator("#booth").evaluate("element => element.outerHTML")
    for text in (shown, *answers):
        told = re.sub(r"data:image/webp;base64,[A-Za-z0-9+/=]+", "", text).lower()
        assert "base" not in told and "tuned" not in told
    assert answers


def test_on_a_phone_pictures_lie_side_by_side_and_buttons_fit_a_thumb(visit: Visit, address: str) -> None:
    page = open_vote(visit, address, size=PHONE)
    left, right = (page.locator(f"#booth figure.{side} img").bounding_box() for side in ("left", "right"))
    assert left["y"] == pytest.approx(right["y"], abs=1) and left["x"] + left["width"] <= right["x"]
    assert right["x"] + right["width"] <= 390
    for button in page.locator("#booth .answers button").all():
        box = button.bounding_box()
        assert box["height"] >= 48 and box["width"] >= 120
        assert box["y"] + box["height"] <= 844  # no scrolling to vote
    for name in ("Left", "Right", "Tie", "Both bad"):
        page.locator("#booth .answers").get_by_role("button", name=name, exact=True).click()
    in_phase(page, "told")
    assert page.complaints == []


def test_tab_reaches_the_answers_in_order_and_names_them(visit: Visit, address: str) -> None:
    page = open_vote(visit, address)
    reached = []
    page.locator("#booth .answers button").first.focus()
    for _ in range(5):
        reached.append(page.evaluate("document.activeElement.dataset.choice || document.activeElement.className"))
        page.keyboard.press("Tab")
    assert reached == ["left", "right", "tie", "both bad", "skip"]
    group = page.get_by_role("group", name="Which shows better what the prompt asks for?")
    expect(group.get_by_role("button", name="Both bad", exact=True)).to_have_attribute(
        "aria-keyshortcuts", "4 ArrowDown"
    )


def test_skip_brings_another_pair_and_counts_nothing(visit: Visit, address: str, services: Services) -> None:
    before = services.votes.store.count()
    page = open_vote(visit, address)
    page.keyboard.press("1")
    expect(page.locator(".step.done")).to_have_count(1)
    page.keyboard.press("s")
    expect(page.locator(".step.done")).to_have_count(0)
    in_phase(page, "ask")
    assert services.votes.store.count() == before


def test_a_visitor_who_comes_again_is_known(visit: Visit, address: str) -> None:
    page = open_vote(visit, address)
    for _ in range(4):
        page.keyboard.press("3")
    in_phase(page, "told")
    page.reload()
    page.get_by_role("tab", name="Vote").click()
    in_phase(page, "ask")
    expect(page.locator(".mine")).to_have_text("You have voted once.")


def test_keys_typed_into_a_field_are_no_votes(visit: Visit, address: str) -> None:
    page = visit(address)
    page.fill("#prompt textarea", "")
    page.locator("#prompt textarea").press_sequentially("1234s")
    page.get_by_role("tab", name="Vote").click()
    in_phase(page, "ask")
    expect(page.locator(".step.done")).to_have_count(0)


def test_saved_votes_hold_no_raters(visit: Visit, address: str, services: Services, tmp_path: Path) -> None:
    page = visit(address)
    page.get_by_role("tab", name="Results").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save votes as csv").click()
    download.value.save_as(tmp_path / "votes.csv")
    assert download.value.suggested_filename == "votes.csv"
    table = pyarrow.csv.read_csv(tmp_path / "votes.csv")
    assert table.num_rows == services.votes.store.count() and "rater" not in table.column_names
