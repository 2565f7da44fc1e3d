"""What the processes of a run appended to its capture folder, and the tables it becomes.

Reading is tolerant: a file counts up to its first torn or damaged frame. Everything after that is pure.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.loadercapture import loaders
from profkit.rankclock import offset_at
from profkit.records import (
    RUNNING,
    Batch,
    ClockOffset,
    End,
    Flaw,
    Framework,
    LoaderOpened,
    Note,
    Pipeline,
    Record,
    Sample,
    Samples,
    Start,
    Step,
    Wait,
    Window,
    WindowOpened,
    WorkerStarted,
    frames,
)
from profkit.runfolder import capture_files
from profkit.schedule import Schedule
from profkit.trace.arrays import Ints, column, nullable
from profkit.trace.model import (
    RunInfo,
    Trace,
    TraceInfo,
)
from profkit.trace.schema import COUNTERS, LINKS, MEMORY, SPANS, STEPS, TRACKS, empty
from profkit.trace.store import conform

Bools = npt.NDArray[np.bool_]
R = TypeVar("R", bound=msgspec.Struct)

LAST_STEPS, LAST_WAITS = 1_000, 10_000  # of a run without a recorded window, shown as its trace

WITHOUT_NOTICE = "without notice"


@dataclass(frozen=True, slots=True)
class Capture:
    """The records of one run, sorted by what they are; each sort in the order it was written."""

    start: Start | None
    frameworks: tuple[Framework, ...]
    steps: tuple[Step, ...]
    waits: tuple[Wait, ...]
    loaders: tuple[LoaderOpened, ...]
    pipelines: tuple[Pipeline, ...]
    windows: tuple[Window, ...]
    window_opened: tuple[WindowOpened, ...]
    notes: tuple[Note, ...]
    end: End | None
    samples: tuple[Sample, ...]
    batches: tuple[Batch, ...]
    workers: tuple[WorkerStarted, ...]
    data_samples: tuple[Samples, ...]
    flaws: tuple[Flaw, ...]
    clock_offsets: tuple[ClockOffset, ...]
    torn_bytes: int  # behind the last whole record of each file
    records: int


def read_capture(folder: Path, rank: int = 0) -> Capture:
    """The records of one rank in a run's `capture` folder. Raises OSError where a file cannot be read."""
    records: list[Record] = []
    torn_bytes = 0
    for path in capture_files(folder, rank):
        whole, torn = _read_file(path)
        records += whole
        torn_bytes += torn
    return _sorted_by_kind(records, torn_bytes)


def _read_file(path: Path) -> tuple[list[Record], int]:
    """The whole records at the beginning of a file, and the number of bytes behind them."""
    data, records, end = path.read_bytes(), [], 0
    with suppress(msgspec.MsgspecError):  # whole, but no record this version knows
        for record, end in frames(data):  # noqa: B007 -- the last offset is the result
            records.append(record)
    return records, len(data) - end


def _sorted_by_kind(records: Sequence[Record], torn_bytes: int) -> Capture:
    by_kind: dict[type, list[Record]] = {}
    for record in records:
        by_kind.setdefault(type(record), []).append(record)

    def all_of(kind: type[R]) -> tuple[R, ...]:
        return tuple(by_kind.get(kind, ()))  # type: ignore[arg-type]  # grouped by exactly this type

    return Capture(
        start=next(iter(all_of(Start)), None),
        frameworks=all_of(Framework),
        steps=all_of(Step),
        waits=all_of(Wait),
        loaders=all_of(LoaderOpened),
        pipelines=all_of(Pipeline),
        windows=all_of(Window),
        window_opened=all_of(WindowOpened),
        notes=all_of(Note),
        end=next(iter(all_of(End)), None),
        samples=all_of(Sample),
        batches=all_of(Batch),
        workers=all_of(WorkerStarted),
        data_samples=all_of(Samples),
        flaws=all_of(Flaw),
        clock_offsets=all_of(ClockOffset),
        torn_bytes=torn_bytes,
        records=len(records),
    )


def steps_table(capture: Capture) -> pl.DataFrame:
    """Every step of the run.

    A wait belongs to the step in which it ended, an iterator to the step it was made in. What lies before the
    last iterator made in a step (evaluation, a checkpoint, a gap between epochs) is excluded, and so are the
    waits that ended there; start-up counts wherever it lies.
    """
    steps = capture.steps
    start, end = column(steps, "start_ns"), column(steps, "end_ns")
    numbers = column(steps, "number")
    waits, passes = _waits_of(capture.waits, end), _passes_of(capture.loaders, end)
    began = _pass_began(start, passes, waits)
    counted = waits.end > np.append(began, 0)[waits.step]
    table = pl.DataFrame(
        {
            "number": numbers,
            "start_ns": start,
            "end_ns": end,
            "wait_ns": waits.only(counted & ~waits.first).sum_by_step(len(steps)),
            "startup_ns": waits.only(waits.first).sum_by_step(len(steps)) + passes.sum_by_step(len(steps)),
            "excluded_ns": began - start,
            "batches": np.bincount(waits.step[counted], minlength=len(steps) + 1)[: len(steps)],
            "source": pl.Series([step.source for step in steps], dtype=pl.String),
            "window": nullable(_window_of(numbers, capture)),
            "steady": _steady(len(steps), passes, waits),
            "own_ns": column(steps, "own_ns"),
        }
    )
    return conform(table, STEPS)


@dataclass(frozen=True, slots=True)
class _Intervals:
    """Waits, or makings of iterators. `step`: row of the step each falls into; if none, their number."""

    start: Ints
    end: Ints
    first: Bools
    step: Ints

    def only(self, mask: Bools) -> _Intervals:
        return _Intervals(self.start[mask], self.end[mask], self.first[mask], self.step[mask])

    def sum_by_step(self, count: int) -> Ints:
        """Nanoseconds per step."""
        sums = np.zeros(count + 1, np.int64)
        np.add.at(sums, self.step, self.end - self.start)
        return sums[:count]


def _waits_of(waits: Sequence[Wait], step_end: Ints) -> _Intervals:
    start = column(waits, "start_ns")
    end = start + column(waits, "duration_ns")
    first = np.fromiter((wait.first for wait in waits), np.bool_, len(waits))
    return _Intervals(start, end, first, np.searchsorted(step_end, end, side="left"))


def _passes_of(loaders: Sequence[LoaderOpened], step_end: Ints) -> _Intervals:
    start = column(loaders, "start_ns")
    end = start + column(loaders, "duration_ns")
    return _Intervals(start, end, np.ones(len(loaders), np.bool_), np.searchsorted(step_end, start, side="right"))


def _pass_began(start: Ints, passes: _Intervals, waits: _Intervals) -> Ints:
    """When the pass feeding each step began: when the last iterator within it was made, else at its start.

    The first step begins with the first request for a batch, whatever else was opened within it.
    """
    began = np.append(start, 0)
    np.maximum.at(began, passes.step, passes.start)
    requests = np.concatenate((passes.start[passes.step == 0], waits.start[waits.step == 0]))
    if len(start):
        began[0] = max(start[0], requests.min()) if len(requests) else start[0]
    return began[: len(start)]


def _steady(count: int, passes: _Intervals, waits: _Intervals) -> Bools:
    """All steps but the first one and those that begin a pass over a loader."""
    steady = np.ones(count + 1, np.bool_)
    steady[0] = False
    steady[passes.step] = False
    steady[waits.step[waits.first]] = False
    return steady[:count]


def _window_of(numbers: Ints, capture: Capture) -> Ints:
    """The window that was open during each step, −1 for none.

    One that left no file counts too, for a profiler that is on slows a step; it lasts as the schedule says.
    """
    window = np.full(len(numbers), -1, np.int64)
    closed = {record.window: record.last for record in capture.windows}
    active = Schedule(*capture.start.schedule).active if capture.start else 1
    for opened in capture.window_opened:
        last = closed.get(opened.window, opened.first + active - 1)
        begin, end = np.searchsorted(numbers, (opened.first, last + 1))
        window[begin:end] = opened.window
    return window


def counters_table(capture: Capture) -> pl.DataFrame:
    """Every sample of the system, one row per counter, in order of time."""
    rows = [(s.time_ns, name, value) for s in capture.samples for name, value in s.values.items()]
    table = pl.DataFrame(rows, {"time_ns": pl.Int64, "name": pl.String, "value": pl.Float64}, orient="row")
    host = pl.col("name").str.starts_with("host_")
    return conform(
        table.with_columns(
            pl.when(host).then(pl.lit("host")).otherwise(pl.lit("training")).alias("track"),
            # The unit is what the name ends with: `disk_read_bytes_per_s`, `cpu_percent`; or it is a count.
            pl.col("name").str.extract(r"(percent|bytes|bytes_per_s|per_s)$").fill_null("count").alias("unit"),
        ),
        COUNTERS,
    )


def run_info(capture: Capture, alive: bool) -> RunInfo:
    """What the run says about itself. `alive`: whether its training process still exists."""
    start, ended = capture.start, _ended(capture, alive)
    facts = RunInfo() if start is None else _facts(start)
    clock = _clock_offset(capture)
    return msgspec.structs.replace(
        facts,
        end_ns=None if ended == RUNNING else _last_sign_of_life(capture),
        ended=ended,
        frameworks={framework.name: framework.version for framework in capture.frameworks},
        devices=list(dict.fromkeys(d for framework in capture.frameworks for d in framework.devices)),
        loaders=loaders(capture),
        step_source=_step_source(capture.steps),
        notes=list(dict.fromkeys((*(note.text for note in capture.notes), *_gaps(capture, ended)))),
        torn_bytes=capture.torn_bytes,
        records=capture.records,
        window_close_ns=[window.close_ns for window in capture.windows],
        clock_offset_ns=0.0 if clock is None else clock.offset_ns,
        clock_uncertainty_ns=None if clock is None else clock.uncertainty_ns,
    )


def _facts(start: Start) -> RunInfo:
    return RunInfo(
        profkit=start.profkit,
        script=start.script,
        python=start.python,
        host=start.host,
        pid=start.pid,
        rank=start.rank,
        world_size=start.world_size,
        start_ns=start.time_ns,
        schedule=list(start.schedule),
        hparams=start.hparams,
    )


def _ended(capture: Capture, alive: bool) -> str:
    if capture.end:
        return capture.end.reason
    return RUNNING if alive else WITHOUT_NOTICE


def _clock_offset(capture: Capture) -> ClockOffset | None:
    """As it was halfway between the first window's beginning and the last one's, or else between measurements."""
    moments = [moment.time_ns for moment in capture.window_opened or capture.clock_offsets]
    return offset_at(capture.clock_offsets, (moments[0] + moments[-1]) // 2) if moments else None


def _last_sign_of_life(capture: Capture) -> int | None:
    """Unix nanoseconds of the end; without an end record, of the last thing recorded."""
    if capture.end:
        return capture.end.time_ns
    signs = [step.end_ns for step in capture.steps[-1:]]
    signs += [wait.start_ns + wait.duration_ns for wait in capture.waits[-1:]]
    signs += [sample.time_ns for sample in capture.samples[-1:]]
    return max(signs, default=capture.start.time_ns if capture.start else None)


def _step_source(steps: Sequence[Step]) -> str | None:
    """Where the boundaries came from in the end."""
    return steps[-1].source if steps else None


def _gaps(capture: Capture, ended: str) -> list[str]:
    """What is missing from the record, and why."""
    gaps = []
    if capture.torn_bytes and ended != RUNNING:
        gaps.append(f"a capture file is damaged or was cut short: its last {capture.torn_bytes:,} bytes are lost")
    if ended == WITHOUT_NOTICE and _unclosed(capture):
        gaps.append("a window was open when the training ended without notice: its operators are lost")
    return gaps


def _unclosed(capture: Capture) -> bool:
    """Whether the last window that was opened has no file."""
    closed = {window.window for window in capture.windows}
    return any(opened.window not in closed for opened in capture.window_opened[-1:])


def capture_trace(capture: Capture) -> Trace:
    """The last steps of a run and their waits, for a run without a window by a framework's profiler."""
    steps = steps_table(capture).tail(LAST_STEPS)
    spans = conform(_spans(steps, _waits_table(capture, steps)), SPANS)
    return Trace(
        info=_trace_info(capture, spans, steps),
        spans=spans,
        tracks=_tracks(capture.start),
        links=empty(LINKS),
        memory=empty(MEMORY),
    )


def _waits_table(capture: Capture, steps: pl.DataFrame) -> pl.DataFrame:
    """Waits since the first of `steps` began, each with its step's number; of overlapping ones the first."""
    begin = steps["start_ns"].item(0) if steps.height else 0
    recent = [wait for wait in capture.waits if wait.start_ns >= begin][-LAST_WAITS:]
    recent.sort(key=lambda wait: (wait.start_ns, -wait.duration_ns))
    waits = _waits_of(recent, steps["end_ns"].to_numpy())
    busy_until = np.maximum.accumulate(np.append(0, waits.end))[:-1]
    alone = waits.start >= busy_until
    names = {opened.loader: opened.name for opened in capture.loaders}
    numbers = np.append(steps["number"].to_numpy().astype(np.int64), -1)
    table = {
        "start_ns": waits.start,
        "duration_ns": waits.end - waits.start,
        "name": pl.Series([f"wait for {names.get(wait.loader, 'a batch')}" for wait in recent], dtype=pl.String),
        "step": nullable(numbers[waits.step]),
    }
    return pl.DataFrame(table).filter(alone)


def _spans(steps: pl.DataFrame, waits: pl.DataFrame) -> pl.DataFrame:
    """Steps on track 0, waits on track 1, the training thread; nothing encloses anything."""
    as_spans = steps.select(
        "start_ns",
        (pl.col("end_ns") - pl.col("start_ns")).alias("duration_ns"),
        pl.format("step {}", "number").alias("name"),
        pl.col("number").alias("step"),
        pl.lit("step").alias("kind"),
        pl.lit(0).alias("track"),
    )
    as_waits = waits.with_columns(
        pl.lit("data_wait").alias("kind"), pl.lit(1).alias("track"), pl.lit("data").alias("phase")
    )
    both = pl.concat([as_spans, as_waits], how="diagonal_relaxed").with_row_index("id")
    return both.with_columns(pl.lit(0).alias("depth"), pl.col("duration_ns").alias("self_ns"))


def _tracks(start: Start | None) -> pl.DataFrame:
    process = {} if start is None else {"pid": start.pid, "host": start.host, "rank": start.rank}
    thread = {} if start is None else {"tid": start.native_thread}
    return conform(
        pl.DataFrame(
            [
                {"id": 0, "name": "steps", "kind": "steps", **process},
                {"id": 1, "name": "training thread", "kind": "thread", **process, **thread},
            ],
            infer_schema_length=None,
        ),
        TRACKS,
    )


def _trace_info(capture: Capture, spans: pl.DataFrame, steps: pl.DataFrame) -> TraceInfo:
    run = run_info(capture, alive=False)
    left_out = len(capture.steps) - steps.height
    return TraceInfo(
        profkit=run.profkit,
        source="capture",
        frameworks=run.frameworks,
        python=run.python,
        host=run.host,
        rank=run.rank,
        world_size=run.world_size,
        schedule=run.schedule,
        first_step=steps["number"].item(0) if steps.height else None,
        training_thread=1,
        start_ns=spans.select(pl.col("start_ns").min().fill_null(0)).item(),
        end_ns=spans.select((pl.col("start_ns") + pl.col("duration_ns")).max().fill_null(0)).item(),
        counts={"spans": spans.height, "steps": steps.height},
        dropped={"steps before the last ones": left_out} if left_out else {},
        notes=["no framework's profiler recorded a window: steps and waits only"],
    )
