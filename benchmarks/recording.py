"""What recording costs a training: per step outside windows, and a window against bare torch.profiler."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.measuring import Failed, Spread, in_fresh_process, median_interval
from benchmarks.outcome import Outcome, Table, Target

OWN_STEPS, QUICK_OWN_STEPS = 2_000, 500
BLOCKS, QUICK_BLOCKS = 60, 8
EPOCHS, QUICK_EPOCHS = 40, 5
PAIRS, QUICK_PAIRS = 200, 20
LIVE_STEPS, QUICK_LIVE_STEPS = 200, 50
LIVE_ROUNDS, QUICK_LIVE_ROUNDS = 3, 1
OWN_LIMIT_US = 20
WINDOW_LIMIT = 0.03


@dataclass(frozen=True, slots=True)
class Paired:
    """Median of paired ratios or differences, with its 95 % interval; and of the control, bare against bare."""

    median: float
    low: float
    high: float
    control: float
    control_low: float
    control_high: float

    @classmethod
    def of(cls, values: Sequence[float], control: Sequence[float]) -> Paired:
        medians = float(np.median(values)), float(np.median(control))
        return cls(medians[0], *median_interval(values), medians[1], *median_interval(control))

    @property
    def resolved(self) -> bool:
        """Whether the median stands out of the control's interval."""
        return not self.control_low <= self.median <= self.control_high

    def cells(self, digits: int) -> list[str]:
        values = ((self.median, self.low, self.high), (self.control, self.control_low, self.control_high))
        return [f"{m:.{digits}f} ({low:.{digits}f}–{high:.{digits}f})" for m, low, high in values]


def run(quick: bool) -> Outcome:
    """Outside windows, in PyTorch and in Keras; inside them; and what is done with one that has just ended."""
    parts = [_outside(quick), _keras(quick), _windows(quick), _live(quick)]
    return Outcome(
        "recording",
        [table for part in parts for table in part.tables],
        [target for part in parts for target in part.targets],
        {part.name: part.figures for part in parts},
    )


def _outside(quick: bool) -> Outcome:
    own = np.array(_recorded("own", QUICK_OWN_STEPS if quick else OWN_STEPS)["own_ns"]) / 1e3
    times = _recorded("steps", QUICK_BLOCKS if quick else BLOCKS)
    bare, recorded, again = (np.array(times[name]) for name in ("bare", "recorded", "bare again"))
    paired = Paired.of((recorded - bare).tolist(), (again - bare).tolist())
    median = float(np.median(own))
    difference, control = paired.cells(1)
    rows = [
        ["", "µs per step"],
        [f"profkit's own clocked time, median of {len(own):,} steps", f"{median:.1f}"],
        ["the same, mean and 99th percentile", f"{own.mean():.1f}, {np.quantile(own, 0.99):.1f}"],
        [f"whole step without profkit, median of {len(bare)} blocks", f"{np.median(bare):.1f}"],
        ["what profkit adds to it, block beside block (95 % interval)", difference],
        ["control: bare against bare", control],
    ]
    return Outcome(
        "outside",
        [Table("recording outside windows: a perceptron fed by a DataLoader, wall time", rows)],
        [
            Target(
                f"profkit's own clocked time outside windows at most {OWN_LIMIT_US} µs per step",
                f"{median:.1f} µs",
                median <= OWN_LIMIT_US,
            )
        ],
        {"own_us": own.tolist(), "step_us": times},
    )


def _keras(quick: bool) -> Outcome:
    """Steps of a `fit` on TensorFlow, whose wait a clock in the compiled graph reads."""
    title = "recording outside windows: Keras's fit on TensorFlow, a perceptron fed by tf.data, wall time"
    try:
        with TemporaryDirectory() as folder:
            seen = in_fresh_process("recorded_keras", folder, str(QUICK_EPOCHS if quick else EPOCHS))
    except Failed as failure:
        return Outcome("keras", [Table(title, [[f"not measured: {failure}"]])])
    own = np.array(seen["own_ns"]) / 1e3
    bare, recorded, again = (np.array(seen["step_us"][name]) for name in ("bare", "recorded", "bare again"))
    paired = Paired.of((recorded - bare).tolist(), (again - bare).tolist())
    difference, control = paired.cells(1)
    rows = [
        ["", "µs per step"],
        [f"profkit's own clocked time, median of {len(own):,} steps", f"{np.median(own):.1f}"],
        ["the same, mean: the reading of the graph's waits among it", f"{own.mean():.1f}"],
        [f"whole step without profkit, median of {len(bare)} epochs", f"{np.median(bare):.1f}"],
        ["what profkit adds to it, epoch beside epoch (95 % interval)", difference],
        ["control: bare against bare", control],
    ]
    return Outcome("keras", [Table(title, rows)], (), dict(seen))


def _windows(quick: bool) -> Outcome:
    pairs = QUICK_PAIRS if quick else PAIRS
    seen = _recorded("windows", pairs)
    bare, recorded, again = (np.array(seen[name]) for name in ("bare", "recorded", "bare again"))
    ratios, control = recorded / bare, again / bare
    kinds = ("steps only", "start + steps + stop + export")
    paired = [Paired.of(ratios[:, i].tolist(), control[:, i].tolist()) for i in range(2)]
    rows = [
        ["", "bare ms", "profkit / bare (95 %)", "bare / bare (95 %)"],
        *([kind, f"{np.median(bare[:, i]) * 1e3:.1f}", *paired[i].cells(3)] for i, kind in enumerate(kinds)),
    ]
    title = f"a window of 10 steps of a small CNN against bare torch.profiler, CPU time, {pairs} interleaved pairs"
    return Outcome(
        "windows",
        [Table(title, rows)],
        [_window_target(kind, part) for kind, part in zip(kinds, paired, strict=True)],
        {"cpu_s": seen},
    )


def _window_target(kind: str, paired: Paired) -> Target:
    excess = paired.low - paired.control
    seen = f"{excess:+.3f} (median {paired.median - paired.control:+.3f})"
    if not paired.resolved:
        seen += ", a difference inside the control's spread: not resolved"
    bound = f"a window, {kind}: lower 95 % bound of the ratio less the control's median at most {WINDOW_LIMIT}"
    return Target(bound, seen, excess <= WINDOW_LIMIT)


def _live(quick: bool) -> Outcome:
    count = QUICK_LIVE_STEPS if quick else LIVE_STEPS
    names = {"live_torch": "torch: stop() + key_averages()", "live_profkit": "profkit: close + read + analyse"}
    rounds = [
        {name: _recorded(name, count) for name in names} for _ in range(QUICK_LIVE_ROUNDS if quick else LIVE_ROUNDS)
    ]
    ratio = Spread.of(r["live_torch"]["cpu_s"] / r["live_profkit"]["cpu_s"] for r in rounds)
    rows = [["", "CPU s", "wall s", "peak MB above the window's"]]
    for name, words in names.items():
        cpu, wall = (Spread.of(r[name][figure] for r in rounds) for figure in ("cpu_s", "wall_s"))
        grown = Spread.of(r[name]["peak_bytes"] - r[name]["import_peak_bytes"] for r in rounds)
        rows.append([words, cpu.text(digits=3), wall.text(digits=3), f"{grown.median / 1e6:.0f}"])
    events = int(rounds[0]["live_profkit"]["events"])
    title = (
        f"a live window of {count} steps, {events:,} events: torch's answer takes {ratio.text('×')} profkit's CPU time"
    )
    return Outcome("live", [Table(title, rows)], (), {"rounds": rounds})


def _recorded(name: str, count: int) -> dict[str, Any]:
    with TemporaryDirectory() as folder:
        return in_fresh_process("recorded", name, folder, str(count))
