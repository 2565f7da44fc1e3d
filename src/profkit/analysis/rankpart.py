"""What the comparison of ranks needs of one rank: a few sums, two histograms, and its collectives as arrays.

A pure function of the rank's Run, so that ranks can be looked at in any process, in any order, one trace at a time.
"""

from __future__ import annotations

import re
from collections import Counter

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.breakdown import CLASSES, Breakdown, breakdown
from profkit.analysis.collectives import CALLS, collectives, judged_steps
from profkit.analysis.columns import Columns
from profkit.analysis.loghistogram import LogHistogram, histogram_of
from profkit.analysis.memory import allocated_bytes
from profkit.analysis.overlap import Overlap, computation, overlap
from profkit.analysis.report import SHOWN_STEPS
from profkit.analysis.steps import Sample, sample_of_run, sample_of_trace
from profkit.trace.intervals import Intervals
from profkit.trace.model import Run, Trace
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

LABELS = ("operation", "group", "dtype", "size")  # of a call, what it shares with many others
NUMBERS = ("step", "number", "start_ns", "end_ns", "bytes", "exposed_ns")

# Calls of a device's runtime in which its allocator holds up the training thread.
_ALLOCATOR = re.compile(
    r"(?:cuda|hip|cu)(?:Malloc|Mem(?:Alloc|Free|Map|Create)|Free|Host(?:Alloc|Malloc|Free|Register))"
)
# Calls that return when the device has done something: it may be a collective that waits for another rank.
_BLOCKING = re.compile(r"(?:cuda|hip|cu)(?:\w*Synchronize|Memcpy\w*|StreamWaitValue)")


class Label(msgspec.Struct, frozen=True, array_like=True):
    """What calls of one collective have in common."""

    operation: str
    group: str
    dtype: str | None
    size: int | None


class Calls(msgspec.Struct, frozen=True):
    """Collective calls as arrays of one length: `label` and NUMBERS, each of 8 bytes; −1 is unknown."""

    labels: list[Label]
    columns: dict[str, bytes]

    def array(self, name: str) -> Ints:
        """One of the columns."""
        return np.frombuffer(self.columns[name], np.int64)


class RankPart(msgspec.Struct, frozen=True, kw_only=True):
    """One rank over its recorded windows. Times are nanoseconds, sums over its recorded steps, on its own clock."""

    rank: int
    world_size: int
    host: str
    steps: int  # recorded; the whole of a trace without steps is one
    judged_steps: int  # of these, those whose collectives count
    breakdown_ns: dict[str, int]  # exclusive; adds up to the steps
    wait_ns: int  # for data
    host_ns: int  # the training thread is at work: not what it waits for, nor what others of the rank do meanwhile
    allocator_ns: int  # within the device's allocator while no device works and no data is waited for
    communication_ns: int
    exposed_communication_ns: int
    idle_ns: int | None  # None where the work of no device was recorded
    calls: Calls
    step_times: LogHistogram  # of the steps a verdict rests on, as in a report
    wait_times: LogHistogram
    peak_bytes: int | None
    clock_offset_ns: float  # to be added to its times
    clock_uncertainty_ns: float | None  # None where no offset was measured
    step_durations_ns: list[int]  # of the first window
    first_step: int | None
    first_judged_ns: int | None  # when the first of the judged steps began


def rank_part(run: Run) -> RankPart:
    """What `profkit.analysis.ranks.compare` needs of this rank. One trace is in memory at a time."""
    sums = _Sums()
    for open_trace in run.open_traces:
        sums.add(open_trace())
    sample = sums.sample(run)
    durations = sample.duration_ns if sample else np.zeros(0)
    waits = sample.wait_ns if sample else np.zeros(0)
    info = run.info
    return RankPart(
        rank=info.rank,
        world_size=max(info.world_size, 1),
        host=info.host,
        steps=sums.steps,
        judged_steps=sums.judged,
        breakdown_ns=dict(sums.breakdown_ns),
        wait_ns=sums.times["wait"],
        host_ns=sums.times["host"],
        allocator_ns=sums.times["allocator"],
        communication_ns=sums.times["communication"],
        exposed_communication_ns=sums.times["exposed"],
        idle_ns=sums.times["idle"] if sums.with_device else None,
        calls=encoded(pl.concat(sums.calls) if sums.calls else pl.DataFrame(schema=CALLS)),
        step_times=histogram_of(durations.astype(np.int64)),
        wait_times=histogram_of(waits.astype(np.int64)),
        peak_bytes=sums.peak_bytes,
        clock_offset_ns=info.clock_offset_ns,
        clock_uncertainty_ns=info.clock_uncertainty_ns,
        step_durations_ns=sums.durations,
        first_step=sums.first_step,
        first_judged_ns=sums.first_judged_ns,
    )


class _Sums:
    """What the windows of a rank add up to, taken in one by one."""

    def __init__(self) -> None:
        self.steps = self.judged = 0
        self.breakdown_ns: Counter[str] = Counter(dict.fromkeys(CLASSES, 0))
        self.times: Counter[str] = Counter()
        self.with_device = False
        self.calls: list[pl.DataFrame] = []
        self.peak_bytes: int | None = None
        self.durations: list[int] = []
        self.first_step: int | None = None
        self.first_judged_ns: int | None = None
        self._breakdowns: list[Breakdown] = []
        self._waits = 0

    def add(self, trace: Trace) -> None:
        """Take in one window."""
        columns = Columns(trace)
        part = breakdown(trace, columns)
        self._add_times(trace, columns, part)
        judged = judged_steps(trace, columns)
        self.judged += max(len(judged), 1)
        self.calls.append(collectives(trace, columns, computation(trace, columns)))
        if trace.memory.height:
            self.peak_bytes = max(self.peak_bytes or 0, _peak_bytes(trace))
        waits = columns.kind("data_wait")
        self._waits += len(Intervals.union(columns.start[waits], columns.end[waits]))
        if not self._breakdowns:
            begun = part.start[np.isin(part.number, judged)] if len(judged) else part.start
            self.first_judged_ns = int(begun[0])
            if not part.whole_trace:
                self.first_step = int(part.number[0])
                self.durations = part.duration[:SHOWN_STEPS].tolist()
        self._breakdowns.append(part)

    def sample(self, run: Run) -> Sample | None:
        """The steps a verdict on this rank rests on: those of the run, else those of its windows."""
        if run.steps.height:
            return sample_of_run(run.steps, None)
        return sample_of_trace(self._breakdowns, self._waits, "there are none outside")

    def _add_times(self, trace: Trace, columns: Columns, part: Breakdown) -> None:
        within: Overlap = overlap(trace, columns, part.start, part.end)
        self.steps += len(part.number)
        self.breakdown_ns.update({name: int(time.sum()) for name, time in part.time_ns.items()})
        self.times.update(
            wait=int(part.wait_ns.sum()),
            host=int(_at_work(trace, columns, part).sum()),
            allocator=int(_allocating(trace, columns, part).sum()),
            communication=int(within.communication.sum()),
            exposed=int(within.exposed.sum()),
        )
        if within.idle is not None:
            self.with_device = True
            self.times.update(idle=int(within.idle.sum()))


def _peak_bytes(trace: Trace) -> int:
    return max(int(allocated_bytes(events).max()) for _, events in trace.memory.group_by("device"))


def _at_work(trace: Trace, columns: Columns, part: Breakdown) -> Ints:
    """Per step: the training thread on the host, neither in a wait for data nor held up by a device or its allocator.

    Without a device, when nothing is computed or communicated: there, a collective holds up the thread itself.
    """
    if not trace.info.device_recorded:
        host = part.time_ns["runtime"] + part.time_ns["host"] + part.time_ns["unattributed"]
        return host - _allocating(trace, columns, part)
    held = columns.waits | _runtime_calls(trace, columns, _BLOCKING) | _runtime_calls(trace, columns, _ALLOCATOR)
    return part.duration - Intervals.union(columns.start[held], columns.end[held]).covered(part.start, part.end)


def _allocating(trace: Trace, columns: Columns, part: Breakdown) -> Ints:
    """Per step: calls of the allocator on the training thread while no device works and no data is waited for."""
    stalls = _runtime_calls(trace, columns, _ALLOCATOR)
    before = columns.device_work | columns.waits
    held = Intervals.union(columns.start[before], columns.end[before])
    stalled = held | Intervals.union(columns.start[stalls], columns.end[stalls])
    return stalled.covered(part.start, part.end) - held.covered(part.start, part.end)


def _runtime_calls(trace: Trace, columns: Columns, pattern: re.Pattern[str]) -> Bools:
    """Rows of the training thread's calls into the device's runtime whose names begin so."""
    runtime = columns.kind("runtime", "sync") & columns.on_training_thread
    names = trace.spans["name"].filter(runtime).unique().to_list()
    return runtime & Words(trace.spans["name"]).among(*(name for name in names if pattern.match(name)))


def encoded(calls: pl.DataFrame) -> Calls:
    """A table with the columns of `collectives.CALLS`, as it travels."""
    labels = calls.select(LABELS).unique(maintain_order=True)
    numbered = calls.select(LABELS).join(
        labels.with_row_index("label"), on=LABELS, how="left", nulls_equal=True, maintain_order="left"
    )
    columns = {name: calls[name].fill_null(-1) for name in NUMBERS}
    columns["label"] = numbered["label"].cast(pl.Int64)
    return Calls(
        [Label(*row) for row in labels.iter_rows()],
        {name: column.to_numpy().tobytes() for name, column in columns.items()},
    )
