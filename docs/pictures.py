"""Draw the pictures of docs/page.md anew: `python docs/pictures.py`, beside the corpus of recorded traces.

Needs chromium, playwright, and both other profilers' plugins; every request beyond this machine is refused.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from profkit import plugins  # noqa: E402
from profkit.cli.report import judged  # noqa: E402
from profkit.trace.load import load  # noqa: E402
from tests.browser import LOCAL, chromium  # noqa: E402
from tests.corpus import CORPUS, OWLV2, RESNET_0, RESNET_4, SLOW  # noqa: E402
from tests.live_tensorboard import Asked, tensorboard, until  # noqa: E402

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

PICTURES = ROOT / "docs" / "pictures"
TF_STALL = "../tensorflow/generated_here_tf221/stall_exact_D20/vm.xplane.pb"
OVERVIEWS = {"owlv2": OWLV2, "resnet50_nw0": RESNET_0, "resnet50_nw4": RESNET_4, "slow_nw0": SLOW, "tf_stall": TF_STALL}
DLRM, DLRM_RANKS = "facebookresearch+param/dlrm_kineto_unpacked", 8
# The tab of each profiler on the same recorded training, and how long it may take to draw anything.
PEERS = {
    "torch-tb-profiler 0.4.3": "#pytorch_profiler",
    "XProf 2.24": "#profile",
    "profkit": "#profkit&p.profkit.run=resnet50_nw0",
}
PATIENCE_MS = 20_000
SIZE = {"width": 1280, "height": 800}
TALL = 1_150  # down to the ranks beside each other
COLOURS = 96  # of a picture: a third of the bytes, and nobody sees it


def main() -> None:
    """Every picture of the page, and the sheet of what each profiler draws offline."""
    PICTURES.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        logdir = Path(folder)
        for name, path in OVERVIEWS.items():
            exported(path, logdir / name, "tensorboard")
        exported(RESNET_0, logdir / "resnet50_nw0", "torch_tb", "xprof")
        exported(DLRM, logdir / "ranks", "tensorboard")
        with tensorboard(logdir) as ask, chromium() as browser:
            until(lambda: ask("data/plugin/profkit/runs"), lambda runs: len(runs) == len(OVERVIEWS) + DLRM_RANKS)
            for name in OVERVIEWS:
                screen(browser, ask, name, "overview")
            screen(browser, ask, "ranks", "ranks", TALL)
            offline_sheet(browser, ask)


def exported(trace: str, place: Path, *formats: str) -> None:
    """Write one recorded trace, or a folder of one for each rank, as these viewers want it."""
    run = load(CORPUS / trace)
    known, _ = judged(CORPUS / trace)
    place.mkdir(parents=True, exist_ok=True)
    for name in formats:
        plugins.load(plugins.EXPORTERS, name).export(run, known, place)


def screen(browser: Browser, ask: Asked, run: str, view: str, height: int = SIZE["height"]) -> None:
    """The first screen of a run, without TensorBoard's bar."""
    with alone(browser) as page:
        page.set_viewport_size({"width": SIZE["width"], "height": height})
        page.goto(f"{ask.base}#profkit&p.profkit.run={run}&p.profkit.view={view}")
        page.frame_locator("iframe").get_by_role("heading", level=1).first.wait_for()
        page.wait_for_timeout(1_000)
        kept(Image.open(BytesIO(page.screenshot())).crop((0, 64, SIZE["width"], height)), run)


def offline_sheet(browser: Browser, ask: Asked) -> None:
    """The three profilers side by side, each after the same time."""
    drawn = []
    for name, place in PEERS.items():
        with alone(browser) as page:
            page.goto(f"{ask.base}{place}")
            page.wait_for_timeout(PATIENCE_MS)
            drawn.append((name, Image.open(BytesIO(page.screenshot())).convert("RGB")))
    width, height, bar = SIZE["width"] // 2, SIZE["height"] // 2, 30
    sheet = Image.new("RGB", (width * len(drawn), height + bar), "white")
    for number, (name, picture) in enumerate(drawn):
        sheet.paste(picture.resize((width, height)), (number * width, bar))
        ImageDraw.Draw(sheet).text((number * width + 10, 6), name, "black", ImageFont.load_default(18))
    kept(sheet, "offline")


@contextmanager
def alone(browser: Browser) -> Iterator[Page]:
    """A visitor whose machine reaches nothing but itself."""
    context = browser.new_context(viewport=SIZE)  # type: ignore[arg-type]
    context.route(
        lambda url: not any(f"//{host}:" in url for host in LOCAL), lambda route: route.abort("internetdisconnected")
    )
    try:
        yield context.new_page()
    finally:
        context.close()


def kept(picture: Image.Image, name: str) -> None:
    picture.convert("RGB").quantize(COLOURS).save(PICTURES / f"{name}.png", optimize=True)


if __name__ == "__main__":
    main()
