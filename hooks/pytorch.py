"""PyTorch: torch.profiler in the recorded windows, and ends of steps from the optimizer.

torch 2.13 writes two lines beginning with `USDT:` to stderr per window, from C++; they are harmless. The first
window may also bring "Memory block of unknown size was allocated before the profiling started", which says that
memory freed in the window, but allocated before it, is not followed.
"""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import torch
from torch._C._profiler import _ExperimentalConfig
from torch.profiler import ProfilerActivity, record_function
from torch.profiler.profiler import _KinetoProfile

from profkit import __version__
from profkit.recorder import Recorder, either
from profkit.records import Framework, Window, WindowOpened

from .pytorch_clock import JobClock
from .pytorch_optimizers import OptimizerBoundaries
from .pytorch_sessions import OtherSessions

NAME = "pytorch"


class PyTorchHook:
    """Records windows with torch.profiler, as its own JSON file; the options are torch.profiler's."""

    def __init__(
        self,
        *,
        record_shapes: bool = True,
        profile_memory: bool = True,
        with_stack: bool = False,
        with_modules: bool = False,
        with_flops: bool = False,
    ) -> None:
        self._options: dict[str, Any] = {
            "record_shapes": record_shapes,
            "profile_memory": profile_memory,
            "with_stack": with_stack,
            "with_modules": with_modules,
            "with_flops": with_flops,
        }
        self._stack = ExitStack()
        self._others: OtherSessions | None = None
        self._job_clock: JobClock | None = None  # where torch has been built with its part for distributed training
        self._prepared: _KinetoProfile | None = None
        self._open: _OpenWindow | None = None
        self._number = 0  # of the step under way

    def start(self, recorder: Recorder) -> None:
        """Watch optimizers and other users of torch's profiler. Raises what torch raises."""
        self._recorder = recorder
        with ExitStack() as starting:
            self._others = _watch_others(recorder, self._give_way)
            if self._others is not None:
                starting.callback(self._others.stop)
            starting.callback(OptimizerBoundaries(recorder).stop)
            if torch.distributed.is_available():
                self._job_clock = JobClock(recorder)
                starting.callback(self._job_clock.stop)
            # Asked first: Dynamo reads this too, and must not get to another framework's code.
            recorder.is_traced = either(torch.compiler.is_compiling, recorder.is_traced)
            recorder.counts_requests = False  # the optimizer tells better when a step ends
            recorder.append(Framework("torch", str(torch.__version__), _devices()))
            self._stack = starting.pop_all()

    def boundary(self, number: int) -> None:
        """The range `ProfilerStep#<number>` begins, by which other tools find the steps."""
        self._number = number
        if self._open is not None:
            self._open.enter_step(number)

    def prepare_window(self) -> bool:
        """Let Kineto warm up. False while another profiler is prepared or records."""
        if self._others is None or self._prepared is not None:
            return True
        if self._others.any():
            self._recorder.note("another profiler is active: the window is postponed until it ends")
            return False
        profiler = _KinetoProfile(
            activities=_activities(self._recorder.claims_devices(self)),
            experimental_config=_without_post_processing(self._options["with_stack"]),
            **self._options,
        )
        self._others.prepare(profiler)
        self._prepared = profiler
        self._compare_clocks()
        return True

    def open_window(self, window: int, first: int) -> None:
        """Record from here."""
        profiler, self._prepared = self._prepared, None
        if profiler is None:
            return
        profiler.start_trace()
        self._open = _OpenWindow(profiler, window, first)  # whatever fails below, it will be closed
        for name, value in _metadata(self._recorder).items():
            profiler.add_metadata_json(name, json.dumps(value))
        self._open.enter_step(first)
        self._recorder.annotators.append(record_function)
        self._recorder.append(WindowOpened(NAME, window, first, self._recorder.clock()))

    def close_window(self, last: int) -> None:
        """Stop, write the JSON file and announce it. Raises OSError where the file is not whole."""
        window, begun_ns = self._open, time.perf_counter_ns()
        if window is None:
            return
        self._stop_recording(window)
        name = f"window-{window.number}-rank-{self._recorder.rank}.pt.trace.json"
        _export(window.profiler, self._recorder.capture / name)
        close_ns = time.perf_counter_ns() - begun_ns
        self._recorder.append(Window(NAME, window.number, window.first, last, name, "kineto", close_ns))
        self._compare_clocks()

    def stop(self) -> None:
        """Put everything back; an open window is dropped."""
        with self._stack:
            if self._open is not None:
                self._stop_recording(self._open)
            self._cancel_preparation()

    def _compare_clocks(self) -> None:
        """Before a window and after it, since clocks drift."""
        if self._job_clock is not None:
            self._job_clock.soon()

    def _stop_recording(self, window: _OpenWindow) -> None:
        self._open = None  # first of all: stopping twice would crash the process
        self._recorder.yields_devices(self)
        self._forget_annotator()
        window.leave_step()
        window.profiler.stop_trace()

    def _forget_annotator(self) -> None:
        if record_function in self._recorder.annotators:
            self._recorder.annotators.remove(record_function)

    def _cancel_preparation(self) -> None:
        """As torch does it: what was prepared can only be ended by recording for a moment."""
        profiler, self._prepared = self._prepared, None
        if profiler is not None:
            self._recorder.yields_devices(self)
            profiler.start_trace()
            profiler.stop_trace()

    def _give_way(self) -> None:
        """Another session is about to begin, and ours would be lost in it."""
        window = self._open
        if not self._recorder.in_training_thread():
            self._lose()
        elif window is None:
            self._cancel_preparation()
        else:
            self._recorder.note(f"the window was cut short in step {self._number}: another profiler was started")
            self.close_window(max(self._number - 1, window.first))

    def _lose(self) -> None:
        """A session that began in another thread has taken ours over: touching ours would end the process."""
        if self._open is not None:
            self._forget_annotator()
            self._recorder.note("the window was lost: another profiler was started in another thread")
        self._open = self._prepared = None
        self._recorder.yields_devices(self)


class _OpenWindow:
    """A window being recorded, and the range of the step under way."""

    def __init__(self, profiler: _KinetoProfile, number: int, first: int) -> None:
        self.profiler = profiler
        self.number = number
        self.first = first
        self._range: tuple[int, record_function] | None = None

    def enter_step(self, number: int) -> None:
        """Step `number` begins, unless it has begun already."""
        if self._range is not None and self._range[0] == number:
            return
        self.leave_step()
        step = record_function(f"ProfilerStep#{number}")
        step.__enter__()
        self._range = number, step

    def leave_step(self) -> None:
        """The step under way ends."""
        if self._range is not None:
            self._range[1].__exit__(None, None, None)
            self._range = None


def _watch_others(recorder: Recorder, give_way: Callable[[], None]) -> OtherSessions | None:
    try:
        return OtherSessions(recorder, give_way)
    except LookupError as error:
        recorder.note(f"this version of PyTorch's profiler is not known ({error}): no window is recorded")
        return None


def _devices() -> tuple[str, ...]:
    if not torch.cuda.is_available():
        return ()
    return tuple(f"cuda:{index}" for index in range(torch.cuda.device_count()))


def _activities(devices: bool) -> list[ProfilerActivity]:
    """The CPU and the accelerators there are, if they are to be recorded; torch warns where one asks for others."""
    activities = [ProfilerActivity.CPU]
    if not devices:
        return activities
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    if torch.xpu.is_available():
        activities.append(ProfilerActivity.XPU)
    return activities


def _without_post_processing(with_stack: bool) -> _ExperimentalConfig | None:
    """Spares torch building its own event tree when it stops; the file is the same.

    None with stacks, which need that tree, and in versions of torch that do not know the option.
    """
    try:
        return None if with_stack else _ExperimentalConfig(trace_only=True)
    except TypeError:
        return None


def _metadata(recorder: Recorder) -> dict[str, Any]:
    """What the file must say about itself beyond what torch writes, in the words of other tools."""
    versions = {"version": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    metadata: dict[str, Any] = {"profkit": versions}
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        metadata["distributedInfo"] = {
            "backend": "",
            "rank": recorder.rank,
            "world_size": recorder.world_size,
        }
    return metadata


def _export(profiler: _KinetoProfile, target: Path) -> None:
    """Write the JSON file under its name once it is whole. Raises OSError where it is not."""
    part = target.with_name(f"{target.name}.part")
    try:
        profiler.export_chrome_trace(str(part))
        _require_whole(part)
        part.rename(target)
    finally:
        for leftover in target.parent.glob(f"{part.name}*"):  # torch writes to `<name>.tmp` first
            leftover.unlink()


def _require_whole(path: Path) -> None:
    """A full disk loses the profiler's file without an error. Raises OSError."""
    end = b""
    if path.exists():
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 16))
            end = file.read().rstrip()
    if not end.endswith(b"}"):
        raise OSError("torch could not write its trace: the window is lost; is the disk full?")
