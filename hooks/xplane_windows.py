"""What the hooks of TensorFlow and JAX share: windows whose native file is an XPlane file.

Both profilers write `<folder>/plugins/profile/<time>/<host>.xplane.pb` when they stop, and sometimes other files beside
it; this module gives each window a folder of its own and keeps the one file.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from profkit.loader import WAIT_RANGE
from profkit.recorder import Recorder
from profkit.records import Window, WindowOpened

Annotator = Callable[[str], AbstractContextManager[object]]
STEP_NAME = "train"  # what XProf's documentation calls a step
# By these statistics XProf counts a range of the host as input (tsl/profiler/utils/xplane_schema.h, undocumented).
# The number must be no event's, and events are numbered from 1.
INPUT_STAGE = {"_ipl_stage_id": 1 << 40, "_ipl_stage_cat": "Preprocessing"}


def named(name: str) -> tuple[str, dict[str, Any]]:
    """What to call the range `name`, and its statistics: in both profilers a name ends at its first `#`."""
    plain = name.replace("#", ".")
    return plain, {**INPUT_STAGE, "_ipl_stage_name": plain} if name == WAIT_RANGE else {}


class XPlaneWindow:
    """One window of a profiler, from its start to its announced file. `mark_step` opens the range of a step."""

    def __init__(
        self,
        recorder: Recorder,
        hook: str,
        number: int,
        first: int,
        mark_step: Callable[[int], AbstractContextManager[Any]],
        annotate: Annotator,
    ) -> None:
        self.first = first
        self._recorder, self._hook, self._number = recorder, hook, number
        self._mark_step, self._annotate = mark_step, annotate
        self._step: tuple[int, AbstractContextManager[Any]] | None = None
        self._folder = recorder.capture / f"window-{number}-rank-{recorder.rank}.{hook}.part"

    def open(self, start: Callable[[str], None]) -> None:
        """Call `start` with the folder the profiler is to write to, and mark the first step. Raises what it raises."""
        start(str(self._folder))
        self._recorder.annotators.append(self._annotate)
        self.enter_step(self.first)
        self._recorder.append(WindowOpened(self._hook, self._number, self.first, self._recorder.clock()))

    def enter_step(self, number: int) -> None:
        """Step `number` begins, unless it has begun already."""
        if self._step is None or self._step[0] != number:
            self._leave_step()
            step = self._mark_step(number)
            step.__enter__()
            self._step = number, step

    def close(self, stop: Callable[[], None], last: int, asked: dict[str, int]) -> None:
        """Call `stop`, keep the file it writes and announce it. Raises OSError where there is none."""
        begun_ns = time.perf_counter_ns()
        try:
            self._end(stop)
            name = f"window-{self._number}-rank-{self._recorder.rank}.{self._hook}.xplane.pb"
            self._keep_file(self._recorder.capture / name)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)
        close_ns = time.perf_counter_ns() - begun_ns
        self._recorder.append(Window(self._hook, self._number, self.first, last, name, "xplane", close_ns, asked))

    def drop(self, stop: Callable[[], None]) -> None:
        """Call `stop` and keep nothing."""
        try:
            self._end(stop)
        finally:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _end(self, stop: Callable[[], None]) -> None:
        if self._annotate in self._recorder.annotators:
            self._recorder.annotators.remove(self._annotate)
        self._leave_step()
        stop()

    def _leave_step(self) -> None:
        if self._step is not None:
            self._step[1].__exit__(None, None, None)
            self._step = None

    def _keep_file(self, target: Path) -> None:
        """A full disk, or a trace of more than 2 GB, leaves an empty file and no error."""
        written = next(self._folder.glob("plugins/profile/*/*.xplane.pb"), None)
        if written is None or not written.stat().st_size:
            raise OSError(f"the {self._hook} profiler wrote no trace: the window is lost; is the disk full?")
        written.rename(target)
