"""What each tool costs the same training: profkit, TraceML, and torch's own profiler with its handler."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.measuring import ROOT, TIMEOUT_S, Failed
from benchmarks.outcome import Outcome, Table

STEPS, QUICK_STEPS = 4_000, 1_000
ROUNDS, QUICK_ROUNDS = 7, 2
PROGRAM = ROOT / "benchmarks" / "watched_training.py"
TOOLS = {
    "bare": "nobody",
    "profkit": "profkit, everything at its default",
    "handler": "torch.profiler and its handler, one window",
    "traceml": "TraceML, summary mode",
}


def run(quick: bool) -> Outcome:
    """Rounds in which each tool watches once, in a new order; of each what it adds to a step, and to the whole."""
    steps, rounds = (QUICK_STEPS, QUICK_ROUNDS) if quick else (STEPS, ROUNDS)
    tools = [tool for tool in TOOLS if tool != "traceml" or importlib.util.find_spec("traceml_ai")]
    seen: dict[str, list[dict[str, float]]] = {tool: [] for tool in tools}
    random = np.random.default_rng(0)
    for _ in range(rounds):
        for tool in random.permutation(tools).tolist():
            with TemporaryDirectory() as folder:
                seen[tool].append(watched(tool, Path(folder), steps))
    title = f"what watching costs a training of {steps:,} steps, wall time, median of {rounds} rounds (quartiles)"
    head = ["watched by", "µs per step", "against nobody", "seconds in all"]
    rows = [head, *([TOOLS[tool], *_cells(seen[tool], seen["bare"])] for tool in tools)]
    note = "steps are clocked outside windows; all includes the interpreter, windows, tables and verdicts"
    return Outcome("watching", [Table(title, rows, [note])], (), dict(seen))


def watched(tool: str, folder: Path, steps: int) -> dict[str, float]:
    """What the training printed, and how long its process and all it started took. Raises Failed."""
    arguments = [tool, str(folder), str(steps)]
    command = [sys.executable, "-m", "benchmarks.watched_training", *arguments]
    if tool == "traceml":
        launcher = [str(Path(sys.executable).with_name("traceml")), "run", str(PROGRAM), "--logs-dir", str(folder)]
        command = [*launcher, "--no-save-training-output", "--args", *arguments]
    begun = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    took_s = time.perf_counter() - begun
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"step_us"')]
    if done.returncode or not lines:
        raise Failed(f"{tool}: {(done.stderr.strip() or 'it printed no figures').splitlines()[-1]}")
    figures: dict[str, Any] = json.loads(lines[-1])
    return {**figures, "all_s": took_s}


def _cells(runs: Sequence[dict[str, float]], bare: Sequence[dict[str, float]]) -> list[str]:
    steps, whole = (np.array([run[name] for run in runs]) for name in ("step_us", "all_s"))
    ratios = steps / np.array([run["step_us"] for run in bare])
    low, high = np.quantile(ratios, (0.25, 0.75))
    ratio = f"{np.median(ratios):.2f} ({low:.2f}–{high:.2f})"
    return [f"{np.median(steps):.0f}", ratio, f"{np.median(whole):.1f}"]
