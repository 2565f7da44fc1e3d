"""Trainings being recorded, each in a process of its own: `python -m benchmarks.recorded NAME FOLDER COUNT`.

Prints one line of JSON.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch
from torch.profiler import ProfilerActivity

import profkit
from benchmarks.measuring import Figures, Work, measured
from benchmarks.trainings import Step, convolutional, perceptron
from profkit import plugins
from profkit.analysis.summary import report
from profkit.plugins import Hook
from profkit.recorder import Recorder
from profkit.trace.load import load

EPOCH = 200  # steps of a block outside windows
IDLE, WARM_UP, ACTIVE = 1, 1, 10  # steps of a block with a window
NEVER = profkit.schedule(skip_first=10**9)
LOOP = profkit.schedule(skip_first=0, wait=IDLE, warmup=WARM_UP, active=ACTIVE, repeat=0)

T = TypeVar("T")


def own(folder: Path, count: int) -> dict[str, list[int]]:
    """profkit's own clocked nanoseconds in each of `count` steps outside windows, with everything at its default."""
    epoch = perceptron(count)
    with profkit.profile(folder, schedule=NEVER, quiet=True) as run:
        epoch()
    return {"own_ns": load(run.folder).steps["own_ns"].to_list()}


def steps(folder: Path, count: int) -> dict[str, list[float]]:
    """Wall microseconds per step outside windows: `count` triples of blocks."""
    epoch = perceptron(EPOCH)

    def block() -> float:
        begun = time.perf_counter()
        epoch()
        return (time.perf_counter() - begun) / EPOCH * 1e6

    switch = Switch()
    with profkit.profile(folder, schedule=NEVER, hooks=[switch, *switch.hooks], sidecar=False, strict=True, quiet=True):
        return triples(count, bare=block, recorded=block, switch=switch)


def windows(folder: Path, count: int) -> dict[str, list[tuple[float, float]]]:
    """CPU seconds of windows, `count` triples: of its steps, and of all from the start to the exported file."""
    step = convolutional()
    switch = Switch()
    run = profkit.profile(folder, schedule=LOOP, hooks=[switch, *switch.hooks], sidecar=False, strict=True, quiet=True)
    run.__enter__()

    def recorded() -> tuple[float, float]:
        return window_cpu_s(step, run.step)

    def bare() -> tuple[float, float]:
        begun = time.process_time()
        with bare_profiler(folder / "bare.json") as profiler:
            entering = time.process_time() - begun
            stepping, whole = window_cpu_s(step, profiler.step)
        return stepping, whole + entering

    print(json.dumps(triples(count, bare, recorded, switch)), flush=True)
    os._exit(0)  # leaving the run would make tables of all the windows, which nobody reads


def window_cpu_s(step: Step, mark: Step) -> tuple[float, float]:
    """CPU seconds of a block of steps, each ended by `mark`: of the recorded ones, and of all.

    The mark of the last warm-up step opens the window and that of the last active one closes it, so neither
    counts among the recorded steps.
    """
    at = [time.process_time()]
    for _ in range(IDLE + WARM_UP + ACTIVE):
        step()
        mark()
        at.append(time.process_time())
    return at[-2] - at[IDLE + WARM_UP], at[-1] - at[0]


def bare_profiler(path: Path) -> torch.profiler.profile:
    """What a user writes without profkit, with the options of its PyTorch hook."""
    return torch.profiler.profile(
        activities=[ProfilerActivity.CPU],
        schedule=torch.profiler.schedule(wait=IDLE, warmup=WARM_UP, active=ACTIVE, repeat=1),
        on_trace_ready=lambda profiler: profiler.export_chrome_trace(str(path)),
        record_shapes=True,
        profile_memory=True,
    )


class Switch:
    """A hook beside the real ones that detaches and attaches them while the run goes on."""

    def __init__(self) -> None:
        self.hooks: Sequence[Hook] = [new_hook("pytorch"), new_hook("dataloader")]

    def start(self, recorder: Recorder) -> None:
        self._recorder = recorder

    def boundary(self, number: int) -> None: ...

    def prepare_window(self) -> bool:
        return True

    def open_window(self, window: int, first: int) -> None: ...

    def close_window(self, last: int) -> None: ...

    def stop(self) -> None: ...

    def on(self) -> None:
        for hook in self.hooks:
            hook.start(self._recorder)

    def off(self) -> None:
        for hook in self.hooks:
            hook.stop()


def new_hook(name: str) -> Hook:
    hook: Hook = plugins.load(plugins.HOOKS, name)
    return hook


def triples(count: int, bare: Callable[[], T], recorded: Callable[[], T], switch: Switch) -> dict[str, list[T]]:
    """What bare, recorded and, for control, bare blocks give, in random order; the hooks are on only for theirs."""
    given: dict[str, list[T]] = {"bare": [], "recorded": [], "bare again": []}
    shuffled = random.Random(0)
    switch.off()
    for _ in range(count + 1):
        for name in shuffled.sample(list(given), len(given)):
            switch.on()  # also before a bare block: attaching walks the heap, which leaves the caches cold
            if name == "recorded":
                given[name].append(recorded())
                switch.off()
            else:
                switch.off()
                given[name].append(bare())
    switch.on()
    return {name: values[1:] for name, values in given.items()}  # the first ones warmed everything up


def live_torch(folder: Path, count: int) -> Figures:
    """torch's `stop()` and `key_averages()` on a window of `count` steps."""
    step = convolutional()

    def prepare() -> Work:
        profiler = torch.profiler.profile(activities=[ProfilerActivity.CPU], record_shapes=True, profile_memory=True)
        profiler.start()
        for _ in range(count):
            step()

        def work() -> Figures:
            profiler.stop()
            profiler.key_averages()
            return {}

        return work

    return measured(prepare)


def live_profkit(folder: Path, count: int) -> Figures:
    """profkit's hook closes a window of `count` steps and writes its file; that is read and analysed."""
    step = convolutional()
    hook = new_hook("pytorch")
    hook.start(Recorder(folder / "capture.pkrec"))

    def prepare() -> Work:
        hook.prepare_window()
        hook.open_window(0, 0)
        for number in range(count):
            hook.boundary(number)
            step()

        def work() -> Figures:
            hook.close_window(count - 1)
            (native,) = folder.glob("*.json")
            run = load(native)
            report(run)
            return {"events": run.traces[0].info.counts["events"]}

        return work

    return measured(prepare)


NAMES: dict[str, Callable[[Path, int], object]] = {
    function.__name__: function for function in (own, steps, windows, live_torch, live_profkit)
}


def main(name: str, folder: str, count: str) -> None:
    torch.set_num_threads(1)
    print(json.dumps(NAMES[name](Path(folder), int(count))))


if __name__ == "__main__":
    main(*sys.argv[1:])
