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
    from playwright.sync_api import Browser, ConsoleMessage, Frame, FrameLocator, Page, Route

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


def drawn(tab: FrameLocator, view: str = "", run: str = "") -> None:
    """Wait until the view is there, of the run, and nothing is waited for any more."""
    tab.locator("header").get_by_text(run.partition("/")[0]).first.wait_for()
    tab.locator(f"nav a[aria-current=page][href*='view={view}']").wait_for()
    tab.get_by_role("heading", level=1).first.wait_for()
    tab.locator(".skeleton").first.wait_for(state="detached")


def inner(visit: Visit) -> Frame:
    """The tab's frame, or the file itself."""
    return next((frame for frame in visit.page.frames if "plugin_entry" in frame.url), visit.page.main_frame)


def time_to(visit: Visit, run: str, view: str, selector: str) -> float:
    """Milliseconds from changing the address until `selector` shows the run, whose data no one has asked for before."""
    return float(
        inner(visit).evaluate(
            """async ([run, view, selector]) => {
                const begun = performance.now();
                const hash = `#profkit&p.profkit.run=${run}&p.profkit.view=${view}`;
                parent.location.hash = hash;
                const seen = () => {
                    const element = document.querySelector(selector);
                    const busy = document.querySelector('.skeleton');
                    const named = document.querySelector('header')?.textContent.includes(run);
                    return element && !busy && named;
                };
                while (!seen()) await new Promise(requestAnimationFrame);
                await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
                return performance.now() - begun;
            }""",
            [run, view, selector],
        )
    )


def frames_while_moving(visit: Visit) -> list[float]:
    """Main-thread milliseconds of every frame while keys and wheel zoom and pan through the whole trace."""
    frame = inner(visit)
    frame.locator("canvas.tl-rows").focus()
    frame.evaluate("performance.clearMeasures()")
    for key in ("w", "d", "w", "a", "s"):
        visit.page.keyboard.down(key)
        visit.page.wait_for_timeout(700)
        visit.page.keyboard.up(key)
    box = frame.locator("canvas.tl-rows").bounding_box()
    assert box is not None
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 100)
    visit.page.keyboard.down("Control")
    for turn in range(40):
        visit.page.mouse.wheel(0, -60 if turn < 20 else 60)
    visit.page.keyboard.up("Control")
    visit.page.wait_for_timeout(200)
    found: list[float] = frame.evaluate(
        "performance.getEntriesByName('profkit.timeline.frame').map((entry) => entry.duration)"
    )
    return found


def contact_sheet() -> None:
    """The page that shows every picture."""
    figures = "".join(
        f'<figure><a href="{name}"><img src="{name}" width="700" alt=""></a><figcaption>{name}</figcaption></figure>'
        for name in sorted(html.escape(path.name) for path in SCREENSHOTS.glob("*.png"))
    )
    (SCREENSHOTS / "index.html").write_text(f"<!doctype html><meta charset=utf-8><title>Screenshots</title>{figures}")
