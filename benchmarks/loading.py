"""What following the batches of a DataLoader costs: a loader that does nothing, pass beside pass."""

from __future__ import annotations

from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.measuring import in_fresh_process
from benchmarks.outcome import Outcome, Table, Target
from benchmarks.recording import Paired

PASSES, QUICK_PASSES = 60, 10
LIMITS_US = {0: 20, 1: 100, 2: 100}  # by the number of workers


def run(quick: bool) -> Outcome:
    """Wall time per batch that a run adds, and what is left of it afterwards."""
    seen = {workers: _seen(workers, QUICK_PASSES if quick else PASSES) for workers in LIMITS_US}
    rows = [["workers", "µs per batch without", "a run adds (95 %)", "bare: control (95 %)", "after the run (95 %)"]]
    targets = []
    for workers, limit in LIMITS_US.items():
        bare, followed, again, after = (
            np.array(seen[workers][name]) for name in ("bare", "followed", "bare again", "after")
        )
        paired = Paired.of((followed - bare).tolist(), (again - bare).tolist())
        left = Paired.of((after - bare).tolist(), (again - bare).tolist())
        adds, control = paired.cells(1)
        rows.append([str(workers), f"{np.median(bare):.1f}", adds, control, left.cells(1)[0]])
        bound = f"{workers} workers: following a batch adds at most {limit} µs"
        targets.append(Target(bound, f"{paired.median:.1f} µs", paired.median <= limit))
        targets.append(
            Target(
                f"{workers} workers: nothing measurable once the run is over",
                f"{left.median:.1f} µs, control {left.control:.1f} µs",
                not left.resolved or left.low <= 0,
            )
        )
    title = "following the batches of a DataLoader that does nothing, wall time, passes in random order"
    return Outcome(
        "loading", [Table(title, rows)], targets, {str(workers): figures for workers, figures in seen.items()}
    )


def _seen(workers: int, passes: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return in_fresh_process("recorded_loading", folder, str(workers), str(passes))
