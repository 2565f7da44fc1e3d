"""The same training, watched by one tool: `python -m benchmarks.watched_training TOOL FOLDER STEPS`.

Prints one line of JSON: the median wall microseconds of a step, over blocks of them, and the steps that were clocked.
Whoever watches has a few hundred steps to get going, and to record a window where it records one.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

BATCH, WIDTH, BLOCK, LEFT_OUT = 64, 192, 50, 300
ACTIVE = 5

Watched = Callable[[nn.Module], AbstractContextManager[object]]


def trained(watched: Watched, steps: int, after_step: Callable[[], object] = lambda: None) -> dict[str, float]:
    """Trains a perceptron fed by a DataLoader; every step is done within `watched(model)`."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    loader = DataLoader(TensorDataset(torch.randn((LEFT_OUT + steps) * BATCH, WIDTH)), BATCH)
    ends = []
    for (rows,) in loader:
        with watched(model):
            optimizer.zero_grad()
            model(rows).square().mean().backward()
            optimizer.step()
        after_step()
        ends.append(time.perf_counter())
    blocks = np.diff(ends[LEFT_OUT::BLOCK]) / BLOCK
    return {"step_us": float(np.median(blocks)) * 1e6, "steps": len(blocks) * BLOCK}


def bare(folder: Path, steps: int) -> dict[str, float]:
    """By nobody."""
    return trained(lambda _: nullcontext(), steps)


def profkit(folder: Path, steps: int) -> dict[str, float]:
    """With everything at its default: a sidecar, one window of five steps, every batch followed."""
    import profkit

    with profkit.profile(folder, quiet=True):
        return trained(lambda _: nullcontext(), steps)


def handler(folder: Path, steps: int) -> dict[str, float]:
    """torch's own profiler and handler, one window of five steps; nothing outside it."""
    schedule = torch.profiler.schedule(wait=8, warmup=2, active=ACTIVE, repeat=1)
    ready = torch.profiler.tensorboard_trace_handler(str(folder))
    with torch.profiler.profile(schedule=schedule, on_trace_ready=ready, record_shapes=True) as profiler:
        return trained(lambda _: nullcontext(), steps, profiler.step)


def traceml(folder: Path, steps: int) -> dict[str, float]:
    """Below TraceML's launcher."""
    import traceml_ai

    traceml_ai.init(mode="auto")
    return trained(traceml_ai.trace_step, steps)


TOOLS = {tool.__name__: tool for tool in (bare, profkit, handler, traceml)}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(TOOLS[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]))), flush=True)
