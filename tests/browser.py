"""A real browser on the page: every request beyond this machine, every error on its console fails the test.

Screenshots go to `web/screenshots`, whose index.html shows them all.
"""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, ConsoleMessage, FrameLocator, Page, Route

CHROMIUM = shutil.which("chromium")
REASON = next(
    (
        why
        for missing, why in (
            (find_spec("playwright") is None, "playwright is not installed"),
            (CHROMIUM is None, "there is no chromium on this machine"),
        )
        if missing
    ),
    "",
)
needs_browser = pytest.mark.skipif(bool(REASON), reason=f"the page was not looked at: {REASON}")

FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
LOCAL = ("127.0.0.1", "localhost")
SCREENSHOTS = Path(__file__).parents[1] / "web" / "screenshots"
TENSORBOARDS_OWN = "/font-roboto/"  # its style sheet does not know a path prefix
SIZE = {"width": 1400, "height": 900}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A headless browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
        try:
            yield browser
        finally:
            browser.close()


class Visit:
    """One visitor of the page, who notes what must not happen."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.abroad: list[str] = []  # requests beyond this machine
        self.errors: list[str] = []
        page.route("**/*", self._at_home)
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _said(self, message: ConsoleMessage) -> None:
        if message.type == "error" and TENSORBOARDS_OWN not in message.location["url"]:
            self.errors.append(f"{message.text} ({message.location['url']})")

    def _at_home(self, route: Route) -> None:
        address = urlsplit(route.request.url)
        if address.scheme in ("http", "https", "ws", "wss") and address.hostname not in LOCAL:
            self.abroad.append(route.request.url)
            route.abort()
        else:
            route.continue_()

    def tab(self, base: str, **state: str | int) -> FrameLocator:
        """profkit's tab in the TensorBoard at `base`, opened by its link."""
        parts = [f"p.profkit.{name}={quote(str(value), safe='')}" for name, value in state.items()]
        place = "&".join(["profkit", *parts])
        if self.page.url.partition("#")[0] == base:
            self.page.evaluate("place => { location.hash = place; }", place)
        else:
            self.page.goto(f"{base}#{place}")
        return self.page.frame_locator("iframe[src*='plugin_entry.html?name=profkit']")

    def shoot(self, name: str) -> None:
        """Keep a picture of what is seen."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        self.page.screenshot(path=SCREENSHOTS / f"{name}.png")
        contact_sheet()

    def was_clean(self) -> None:
        """Nothing was asked of another machine, and nothing went wrong."""
        assert not self.abroad
        assert not self.errors


@contextmanager
def visiting(browser: Browser, **options: object) -> Iterator[Visit]:
    """A visit with a fresh profile, which must have been clean when it ends."""
    context = browser.new_context(viewport=SIZE, **options)  # type: ignore[arg-type]
    try:
        visit = Visit(context.new_page())
        visit.page.set_default_timeout(float(os.environ.get("PROFKIT_BROWSER_TIMEOUT_MS", "20000")))
        yield visit
        visit.was_clean()
    finally:
        context.close()


def contact_sheet() -> None:
    """The page that shows every picture."""
    figures = "".join(
        f'<figure><a href="{name}"><img src="{name}" width="700" alt=""></a><figcaption>{name}</figcaption></figure>'
        for name in sorted(html.escape(path.name) for path in SCREENSHOTS.glob("*.png"))
    )
    (SCREENSHOTS / "index.html").write_text(f"<!doctype html><meta charset=utf-8><title>Screenshots</title>{figures}")
