"""What every browser test shares: one Chromium, pages that note every complaint, both themes, desktop and phone."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--disable-background-networking"]
PATIENCE = 120_000  # milliseconds: two busy cores
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page as a new visitor; `page.complaints` holds console errors, failed and foreign requests."""
    opened = []

    def visit(
        address: str, *, size: dict[str, int] = DESKTOP, theme: str | None = "light", permissions: tuple[str, ...] = ()
    ) -> Any:
        context = browser.new_context(viewport=size, accept_downloads=True, permissions=list(permissions))
        opened.append(context)
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        page.complaints = []
        page.on("console", lambda message: message.type == "error" and page.complaints.append(message.text))
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("response", lambda answer: answer.status >= 400 and page.complaints.append(answer.url))
        page.on("request", lambda request: is_local(request.url, address) or page.complaints.append(request.url))
        page.goto(f"{address}?__theme={theme}" if theme else address)
        return page

    yield visit
    for context in opened:
        context.close()


def is_local(url: str, address: str) -> bool:
    """Whether a request stays with the page's own server."""
    return url.startswith((address, "data:", "blob:"))
