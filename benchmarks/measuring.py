"""Measuring: fresh processes, CPU time, peak memory, and ratios of what ran side by side."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
CORPUS = ROOT.parent / "shared" / "corpus" / "pytorch"
TIMEOUT_S = 300
RESAMPLES, SEED = 4_000, 0

# Threads make CPU time depend on who waits for whom; the thread count of a row is 1 unless the row says otherwise.
ONE_THREAD = dict.fromkeys(("POLARS_MAX_THREADS", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")

Figures = dict[str, float]
Work = Callable[[], Figures]


class Failed(Exception):
    """The measured program ended with an error; the message is its last line."""


def in_fresh_process(
    module: str, *arguments: str, one_thread: bool = True, timeout_s: float = TIMEOUT_S
) -> dict[str, Any]:
    """The figures `python -m benchmarks.<module>` prints as its last line. Raises Failed."""
    kept = {name: value for name, value in os.environ.items() if name not in ONE_THREAD}
    done = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *arguments],
        cwd=ROOT,
        env=kept | (ONE_THREAD if one_thread else {}),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
    )
    if done.returncode:
        raise Failed((done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1])
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def cpu_s() -> float:
    """CPU seconds of this process, all its threads, and its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_bytes() -> int:
    """Most memory ever resident in this process.

    Not `ru_maxrss`: that one survives exec, and would start at the size of the process that started this one.
    """
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


def measured(prepare: Callable[[], Work]) -> Figures:
    """CPU and wall seconds and peak memory of the work, and of the imports before it."""
    begun = cpu_s()
    work = prepare()
    import_s, import_bytes = cpu_s() - begun, peak_bytes()
    wall, cpu = time.perf_counter(), cpu_s()
    figures = work()
    return figures | {
        "cpu_s": cpu_s() - cpu,
        "wall_s": time.perf_counter() - wall,
        "import_cpu_s": import_s,
        "import_peak_bytes": import_bytes,
        "peak_bytes": peak_bytes(),
    }


@dataclass(frozen=True, slots=True)
class Spread:
    """Median of repeated measurements, with the least and the greatest."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        values = np.fromiter(values, float)
        return cls(float(np.median(values)), float(values.min()), float(values.max()))

    def text(self, unit: str = "", digits: int = 2) -> str:
        """`0.85 s (0.83–0.91)`, one value alone where there was only one."""
        middle = f"{self.median:,.{digits}f}{unit}"
        return middle if self.low == self.high else f"{middle} ({self.low:,.{digits}f}–{self.high:,.{digits}f})"


def ratio(above: Sequence[float], below: Sequence[float]) -> Spread:
    """Spread of the ratios of two contestants, round by round."""
    return Spread.of(a / b for a, b in zip(above, below, strict=True))


def median_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Bootstrap percentile interval of the median."""
    sample = np.asarray(values)
    drawn = np.random.default_rng(SEED).choice(sample, (RESAMPLES, len(sample)))
    edge = (1 - confidence) / 2
    low, high = np.quantile(np.median(drawn, axis=1), (edge, 1 - edge))
    return float(low), float(high)
