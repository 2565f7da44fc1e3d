"""Follows one training from a process of its own, and finishes its run however it ends.

It samples the system, writes live scalars, turns windows into traces as soon as they are whole, finalises.
Started as `python -m profkit.sidecar <profkit folder> <pid> <rank> <pipe fd> <pidfd or -1>`, it takes the
lowest priority, so that the training does not notice. Its errors go to its log and into the notes of the run.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import threading
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from profkit import plugins, staging
from profkit.companion import FINISH_LIMIT_S
from profkit.recorder import Recorder
from profkit.records import SUFFIX, Record, Sample, Start, Step, Wait, Window, frames
from profkit.runfolder import PROFKIT_FOLDER, RankFolder
from profkit.system import Sampler

if TYPE_CHECKING:
    from profkit.plugins import Sink
    from profkit.trace.model import RunInfo

SIDECAR_SUFFIX = f"-sidecar{SUFFIX}"
TICK_S = 0.5  # costs half a percent of a core
GROUP_PRIORITY_TRIES = 50
WAITS_COME_LATE_NS = 200_000_000  # those inside compiled graphs are read ten times a second
REPORT_EVERY_S, REPORT_SHARE = 5.0, 0.02  # of a core, at the lowest priority
STEPS_PER_TICK = 2_000  # more would cost more than anyone can see: TensorBoard shows 1,000 points of a curve

# Counter -> its curve in TensorBoard, and what one unit of the curve is in units of the counter.
CURVES = {
    "cpu_percent": ("cpu_percent", 1),
    "resident_memory_bytes": ("resident_memory_mb", 1_000_000),
    "disk_read_bytes_per_s": ("disk_read_mb_per_s", 1_000_000),
    "disk_written_bytes_per_s": ("disk_write_mb_per_s", 1_000_000),
    "host_network_received_bytes_per_s": ("network_received_mb_per_s", 1_000_000),
    "host_network_sent_bytes_per_s": ("network_sent_mb_per_s", 1_000_000),
    "major_page_faults_per_s": ("major_page_faults_per_s", 1),
}


def main(arguments: Sequence[str]) -> int:
    """Follow the training until it is over, then finalise its run. Returns 0 if that could be done, else 1."""
    be_modest()
    folder, pid, rank, pipe, pidfd = arguments
    sidecar = Sidecar(Path(folder), int(pid), int(rank))
    follow(sidecar, [int(fd) for fd in (pipe, pidfd) if int(fd) >= 0])
    return 0 if sidecar.finish() else 1


def be_modest() -> None:
    """Take the lowest priority, and outlive the terminal.

    The sidecar has a session of its own, which the kernel schedules as a group of its own: there, nice alone
    means nothing: the sidecar would get as much of the machine as the whole training.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.nice(19)
    _set_group_priority(19)
    with suppress(OSError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_IDLE)


def be_quick() -> None:
    """Take an ordinary priority: there is no training to disturb any more, and somebody may be waiting."""
    _set_group_priority(0)
    with suppress(OSError, psutil.Error):
        psutil.Process().ionice(psutil.IOPRIO_CLASS_NONE)


def _set_group_priority(nice: int) -> None:
    """Set the nice level of this session's group; nothing where the kernel has no such groups.

    The kernel lets one such change pass in 100 ms, on the whole machine, and all ranks start and end together.
    """
    for _ in range(GROUP_PRIORITY_TRIES):
        try:
            Path("/proc/self/autogroup").write_text(str(nice))
            return
        except BlockingIOError:
            time.sleep(0.1)
        except OSError:
            return


def follow(sidecar: Sidecar, ends: Sequence[int]) -> None:
    """Tick until one of `ends` becomes readable: the pipe when the run is left, the pidfd when it has died.

    Where neither can be had, the sampler notices that the training is gone.
    """
    over = threading.Event()
    # In a thread, because a tick under way can take long at the lowest priority while the training waits for it.
    threading.Thread(target=_await_end, args=(ends, over), daemon=True).start()
    sidecar.tick()
    while not over.wait(TICK_S) and not sidecar.training_is_gone:
        sidecar.tick()
    if not over.is_set():
        be_quick()


def _await_end(ends: Sequence[int], over: threading.Event) -> None:
    poll = select.poll()
    for fd in ends:
        poll.register(fd, select.POLLIN)
    poll.poll()
    be_quick()
    over.set()


class Sidecar:
    """What follows one training. Nothing that fails in a tick ends it."""

    def __init__(self, folder: Path, pid: int, rank: int) -> None:
        capture, stem = folder / "capture", f"{socket.gethostname()}-{rank}-{pid}"
        self.training_is_gone = False
        self._own, self._pid = RankFolder(folder, rank), pid
        self._tail = Tail(capture, f"*-{rank}-{pid}-*{SUFFIX}")
        self._recorder = Recorder(capture / f"{stem}-{os.urandom(4).hex()}{SIDECAR_SUFFIX}", rank=rank)
        self._live = Live(folder.parents[1], rank)
        self._sampler: Sampler | None = None
        self._start: Start | None = None
        self._windows: list[Window] = []
        self._unconverted: set[int] = set()
        self._report_at_s = time.monotonic() + REPORT_EVERY_S

    def tick(self) -> None:
        """Do everything that has become due."""
        for work in (self._follow, self._sample, self._live.flush, self._convert, self._report):
            self._recorder.guard(work)

    def finish(self) -> bool:
        """The run is over: read its last records and make it whole. Returns whether that could be done."""
        for work in (self._follow, self._live.close, self._recorder.close):
            self._recorder.guard(work)
        begun_s = time.monotonic()
        done = self._recorder.guard(self._finalise) is not None
        if time.monotonic() - begun_s > FINISH_LIMIT_S or self._start is None or not self._is_awaited(self._start):
            self._recorder.guard(staging.leave, self._own)
        return done

    def _is_awaited(self, start: Start) -> bool:
        """Whether the training is there still, and sees to what is left of its run itself."""
        from profkit.finalise import is_alive

        return is_alive(start)

    def _follow(self) -> None:
        records = self._tail.read()
        for record in records:
            if isinstance(record, Start):
                self._start = record
            elif isinstance(record, Window):
                self._windows.append(record)
                self._unconverted.add(record.window)
        self._live.steps(records)

    def _sample(self) -> None:
        try:
            self._sampler = self._sampler or Sampler(self._pid, without=frozenset((os.getpid(),)))
            values = self._sampler.sample()
        except psutil.NoSuchProcess:
            values = {}
        self.training_is_gone = not values
        if values:
            sample = Sample(self._recorder.clock(), values)
            self._recorder.append(sample)
            self._live.system(sample)

    def _convert(self) -> None:
        from profkit.finalise import by_window, convert_window, locked

        while self._unconverted:
            number = self._unconverted.pop()  # tried once: what fails here, finalise tries again and notes
            with locked(self._own):
                convert_window(self._own, by_window(self._windows)[number], self._start)

    def _report(self) -> None:
        """Say what is known of the run so far, now and then: it costs the more the longer the run."""
        begun_s = time.monotonic()
        if begun_s < self._report_at_s or not self._live.is_open:
            return
        try:
            self._live.report()
        finally:
            ended_s = time.monotonic()
            self._report_at_s = ended_s + max(REPORT_EVERY_S, (ended_s - begun_s) / REPORT_SHARE)

    def _finalise(self) -> RunInfo:
        from profkit.finalise import finalise_and_upload

        return finalise_and_upload(self._own)


class Tail:
    """Reads the records that were appended to a file since the last look; the file may not be there yet."""

    def __init__(self, folder: Path, pattern: str) -> None:
        self._folder, self._pattern = folder, pattern
        self._path: Path | None = None
        self._offset = 0

    def read(self) -> list[Record]:
        """New whole records, in order. Raises OSError."""
        self._path = self._path or self._find()
        if self._path is None:
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            found = list(frames(file.read()))
        if found:
            self._offset += found[-1][1]
        return [record for record, _ in found]

    def _find(self) -> Path | None:
        files = self._folder.glob(self._pattern)
        return next((path for path in files if not path.name.endswith(SIDECAR_SUFFIX)), None)


class Live:
    """Curves in TensorBoard while the training runs, through every installed sink."""

    def __init__(self, run_folder: Path, rank: int) -> None:
        self._run_folder, self._rank = run_folder, rank
        self._sinks: list[Sink] | None = None
        self._steps: list[Step] = []  # not drawn yet
        self._waits: list[Wait] = []  # of steps not drawn yet
        self._last_step = 0

    def steps(self, records: Sequence[Record]) -> None:
        """Draw the steps whose waits are known, at most STEPS_PER_TICK of them, evenly chosen."""
        self._steps += [record for record in records if isinstance(record, Step)]
        self._waits += [record for record in records if isinstance(record, Wait)]
        if self._steps:
            self._last_step = self._steps[-1].number
            self._draw(self._steps[-1].end_ns - WAITS_COME_LATE_NS)

    def _draw(self, until_ns: int) -> None:
        timed = list(self._with_waits(until_ns))
        for step, wait_ns in islice(timed, 0, None, -(-len(timed) // STEPS_PER_TICK) or 1):
            took_ns = max(step.end_ns - step.start_ns, 1)
            self._scalar("step_time_ms", took_ns / 1e6, step.number, step.end_ns)
            self._scalar("data_wait_ms", wait_ns / 1e6, step.number, step.end_ns)
            self._scalar("stall_percent", min(100 * wait_ns / took_ns, 100), step.number, step.end_ns)

    def system(self, sample: Sample) -> None:
        """Draw the counters of `sample` at the step the training is at."""
        for counter, (curve, unit) in CURVES.items():
            if counter in sample.values:
                value = sample.values[counter] / unit
                self._scalar(f"system/{curve}", value, self._last_step, sample.time_ns)

    @property
    def is_open(self) -> bool:
        """Whether anything has been drawn."""
        return bool(self._sinks)

    def report(self) -> None:
        """Give every sink what is known of the run so far."""
        from profkit.analysis.summary import report
        from profkit.trace.load import running

        run = running(RankFolder(self._run_folder / PROFKIT_FOLDER, self._rank))
        known = report(run)
        for sink in self._sinks or ():
            sink.report(run, known)

    def flush(self) -> None:
        """Make everything drawn visible."""
        for sink in self._sinks or ():
            sink.flush()

    def close(self) -> None:
        """End all curves."""
        if self._steps:
            self._draw(self._steps[-1].end_ns)
        sinks, self._sinks = self._sinks or [], []
        for sink in sinks:
            sink.close()

    def _with_waits(self, until_ns: int) -> Iterator[tuple[Step, int]]:
        """Each step ended by `until_ns` with the time it waited for batches, the first batch of a pass left out."""
        steps = [step for step in self._steps if step.end_ns <= until_ns]
        ends = [step.end_ns for step in steps]
        waited = [0] * (len(steps) + 1)
        later = []
        for wait in self._waits:
            at = bisect_left(ends, wait.start_ns + wait.duration_ns)
            waited[at] += 0 if wait.first else wait.duration_ns
            if at == len(steps):
                later.append(wait)
        self._steps, self._waits = self._steps[len(steps) :], later
        yield from zip(steps, waited[: len(steps)], strict=True)

    def _scalar(self, name: str, value: float, step: int, time_ns: int) -> None:
        if self._sinks is None:  # not before there is something to draw: tensorboard's import is heavy
            self._sinks = []
            for sink in plugins.load_all(plugins.SINKS).values():
                sink.open(self._run_folder, self._rank)
                self._sinks.append(sink)
        for sink in self._sinks:
            sink.scalar(f"profkit/{name}", value, step, time_ns)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
