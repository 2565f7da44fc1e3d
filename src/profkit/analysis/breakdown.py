"""Where the time of a step went: exclusive classes that add up to the step, and the wait that is exposed.

Each instant of a step goes to the first class that holds it: compute, communication, copy, data wait, runtime,
host, unattributed. Without a device, compute is operator spans. Those that an executor runs beside a wait come before
it, as a device's kernels do; others may be part of the wait, such as collating a batch, and come behind it.
docs/definitions.md has the definition of each class.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profkit.analysis.columns import Columns
from profkit.trace.intervals import EMPTY, Intervals
from profkit.trace.model import Trace
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CLASSES = ("compute", "communication", "copy", "data_wait", "runtime", "host", "unattributed")
_WITH_DEVICE = ("compute", "communication", "copy", "data_wait", "runtime", "host")
_WITHOUT_DEVICE = ("executor", "data_wait", "compute", "communication", "copy", "runtime", "host")
PHASES = ("data", "forward", "backward", "optimizer")
_COUNTS_AS = {"executor": "compute"}


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One row per step. `time_ns[class]`, `wait_ns` and `exposed_ns` are arrays over the steps, in nanoseconds.

    `phases_ns[phase]` is how much of each step the spans of a phase cover on the host; phases overlap the classes.
    `exposed_ns` is None where a device was used but not recorded. `steady` marks the steps in which no pass over the
    input is seen to begin; all where that leaves none. `whole_trace` marks a trace without steps, whose only row is
    the trace itself.
    """

    number: Ints
    start: Ints
    end: Ints
    time_ns: dict[str, Ints]
    phases_ns: dict[str, Ints]
    wait_ns: Ints
    exposed_ns: Ints | None
    steady: Bools
    whole_trace: bool

    @property
    def duration(self) -> Ints:
        """Of each step, in nanoseconds."""
        return self.end - self.start


def breakdown(trace: Trace, columns: Columns | None = None) -> Breakdown:
    """The exclusive breakdown of every step of the trace, or of the whole trace where it has no step."""
    columns = columns or Columns(trace)
    number, start, end = steps(trace, columns)
    whole_trace = not len(start)
    if whole_trace:
        number = np.zeros(1, np.int64)
        start, end = np.array([trace.info.start_ns]), np.array([trace.info.end_ns])
    parts = _parts(trace, columns)
    order = _WITH_DEVICE if trace.info.device_recorded else _WITHOUT_DEVICE
    time_ns = {name: np.zeros(len(start), np.int64) for name in CLASSES}
    held, before = EMPTY, np.zeros(len(start), np.int64)
    for name in order:
        held = held | parts[name]
        upto = held.covered(start, end)
        time_ns[_COUNTS_AS.get(name, name)] += upto - before
        before = upto
    time_ns["unattributed"] = (end - start) - before
    wait = parts["data_wait"].covered(start, end)
    return Breakdown(
        number,
        start,
        end,
        time_ns,
        _phases(trace, columns, start, end),
        wait,
        _exposed(trace, columns, parts, start, end),
        _steady(columns, start, end),
        whole_trace,
    )


def steps(trace: Trace, columns: Columns) -> tuple[Ints, Ints, Ints]:
    """Number, start and end of the steps in order of time, unix nanoseconds."""
    rows = np.flatnonzero(columns.kind("step"))
    rows = rows[np.argsort(columns.start[rows], kind="stable")]
    number = trace.spans["step"].gather(rows).to_numpy().astype(np.int64)
    return number, columns.start[rows], columns.end[rows]


def _steady(columns: Columns, start: Ints, end: Ints) -> Bools:
    begun = np.sort(columns.start[columns.passes_begun])
    steady = np.searchsorted(begun, start) == np.searchsorted(begun, end)
    return steady if steady.any() else np.ones(len(start), np.bool_)


def _parts(trace: Trace, columns: Columns) -> dict[str, Intervals]:
    """The instants each class could claim, before any comes first."""
    host = columns.on_training_thread
    collective = columns.kind("collective")
    if trace.info.device_recorded:
        device = columns.device_work
        copies = columns.kind("memcpy", "memset")
        compute, communication, copy = device & ~copies & ~collective, device & collective, device & copies
    else:
        communication = collective | Words(trace.spans["op_class"]).among("communication")
        compute, copy = columns.kind("op") & ~communication, np.zeros_like(host)
    rest = host & ~columns.kind("step", "data_wait", "runtime")
    if trace.info.device_recorded:
        rest &= ~columns.on_device_track
    masks = {
        "executor": columns.executor_work & ~communication,
        "compute": compute,
        "communication": communication,
        "copy": copy,
        "data_wait": columns.waits,
        "runtime": columns.kind("runtime") & host,
        "host": rest,
    }
    return {name: Intervals.union(columns.start[mask], columns.end[mask]) for name, mask in masks.items()}


def _phases(trace: Trace, columns: Columns, start: Ints, end: Ints) -> dict[str, Ints]:
    phases = Words(trace.spans["phase"])
    masks = {name: phases.among(name) & ~columns.on_device_track for name in PHASES}
    covered = {name: Intervals.union(columns.start[m], columns.end[m]) for name, m in masks.items() if m.any()}
    return {name: intervals.covered(start, end) for name, intervals in covered.items()}


def _exposed(trace: Trace, columns: Columns, parts: dict[str, Intervals], start: Ints, end: Ints) -> Ints | None:
    """The part of each step's wait in which no device works; without a device, no executor."""
    if trace.info.device_recorded:
        work = columns.device_work
        busy = Intervals.union(columns.start[work], columns.end[work])
    elif columns.kind("runtime").any():
        return None
    else:
        busy = parts["executor"]
    return (parts["data_wait"] | busy).covered(start, end) - busy.covered(start, end)
