"""The page in a real browser: from choosing a run to its first screen and its timeline, and what a frame takes."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.measuring import Spread
from benchmarks.outcome import Outcome, Table, Target
from profkit.trace.load import run_of
from tests.browser import REASON, Visit, chromium, drawn, frames_while_moving, time_to, visiting
from tests.large import large_trace
from tests.live_tensorboard import Asked, tensorboard, until
from tests.page_logs import exported

ROUTE = "data/plugin/profkit/runs"
LARGEST = "million"
SIZES = {"ten_thousand": 10_000, "hundred_thousand": 100_000, LARGEST: 1_000_000}
OTHER = "another"  # the run shown before
ROUNDS, QUICK_ROUNDS = 5, 1
FIRST_MS, TIMELINE_MS, FRAME_MS = 1_000.0, 2_000.0, 12.0
TITLE = "the page in headless chromium without a GPU, in TensorBoard on this machine: milliseconds of wall time"
MEASURED = ("first screen", "timeline", "frame p50", "frame p95", "frame max")

Figures = dict[str, list[float]]  # what was measured -> one value a round


def run(quick: bool) -> Outcome:
    """Each size in turn, round by round, each in a fresh profile of the browser."""
    if REASON:
        return Outcome("page", [Table(TITLE, [[f"not measured: {REASON}"]])])
    with TemporaryDirectory() as folder:
        for name, spans in {**SIZES, OTHER: 1_000}.items():
            exported(run_of(large_trace(spans), name), Path(folder) / name)
        seen = _measured(Path(folder), QUICK_ROUNDS if quick else ROUNDS)
    rows = [["spans", *MEASURED]]
    rows += [[f"{SIZES[name]:,}", *(Spread.of(seen[name][what]).text(digits=1) for what in MEASURED)] for name in SIZES]
    of_largest = {what: Spread.of(values).median for what, values in seen[LARGEST].items()}
    limits = {"first screen": FIRST_MS, "timeline": TIMELINE_MS, "frame p95": FRAME_MS}
    targets = [
        Target(f"{what} of a million spans ≤ {limit:,.0f} ms", f"{of_largest[what]:,.1f} ms", of_largest[what] <= limit)
        for what, limit in limits.items()
    ]
    return Outcome("page", [Table(TITLE, rows)], targets, dict(seen))


def _measured(logdir: Path, rounds: int) -> dict[str, Figures]:
    seen: dict[str, Figures] = {name: {what: [] for what in MEASURED} for name in SIZES}
    with tensorboard(logdir) as ask, chromium() as browser:
        until(lambda: ask(ROUTE), lambda runs: len(runs) == len(SIZES) + 1)
        for _ in range(rounds):
            for name in SIZES:
                with visiting(browser) as visit:
                    for what, value in _looked_at(visit, ask, name).items():
                        seen[name][what].append(value)
    return seen


def _looked_at(visit: Visit, ask: Asked, name: str) -> dict[str, float]:
    """One visitor chooses the run, opens its timeline, and moves through it."""
    drawn(visit.tab(ask.base, run=OTHER, view="overview"), "overview", OTHER)
    first, timeline = time_to(visit, name, "overview", "h1"), time_to(visit, name, "timeline", "canvas.tl-rows")
    p50, p95, longest = np.percentile(frames_while_moving(visit), [50, 95, 100])
    return dict(zip(MEASURED, (first, timeline, float(p50), float(p95), float(longest)), strict=True))
