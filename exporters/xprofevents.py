"""Which span becomes which event of an XSpace, under the names and statistics from which XProf tells what it is.

XProf documents none of its rules. These were found by leaving out one thing after the other (XProf 2.24.2):

- **Steps.** A file in which events have a `group_id` counts as grouped, and XProf looks for no steps itself. It would
  follow producers to consumers (`_pt`, `_p`, `_ct`, `_c`), which a trace does not keep, and leave out of the step what
  it cannot follow. Here an event belongs to the step it begins in. A step on the host has a `step_name`, and a name
  that begins with `train`; on a device it lies on the line −559038737 (kThreadIdStepInfo).
- **Waits.** On the host an event is a wait for input if it is called `IteratorGetNext…` or has an `_ipl_stage_id`,
  which must be the number of no name, or it counts twice. Where there is a device, XProf takes no event of the host
  into the breakdown of a step. There a wait lies on a line of the device too, as a copy from the host, `MemcpyHtoD…`,
  which XProf counts as input where the device does not compute: that is the exposed wait.
- **Instants** in a step last until the next event begins, as XProf counts: so none belongs to a step.
- **Operators** are called `<scope>/<op>:<type>`; a name with `::` is none. A type is all lower case or begins in upper.
- **Device work** needs a `correlation_id`, and `tf_op`, the operator it comes from; a kernel has `kernel_details`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.breakdown import steps
from profkit.analysis.columns import Columns
from profkit.trace.model import Trace
from profkit.trace.schema import WORD

from . import xprofstats
from .xprofplanes import STEPS_LINE, WAITS_LINE, Layout, layouts
from .xspace import STAT, Line

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

WAIT_ON_DEVICE = "MemcpyHtoD (waiting for input)"
FIRST_MADE_UP_CORRELATION = 1 << 40

_INPUT_THREAD = "tf_data_"  # how the names of the threads begin on which tf.data works ahead


@dataclass(frozen=True, slots=True)
class Content:
    """What is to lie on one plane. `device` is its number, None for the host's."""

    name: str
    device: int | None
    lines: list[Line]
    events: pl.DataFrame


def contents(trace: Trace) -> list[Content]:
    """The planes with their events, whose times count from `zero_ns`."""
    columns = Columns(trace)
    made = _Steps(trace, columns)
    names = xprofstats.names(trace.spans)
    spans, memory = _spans(trace, columns, made, names), xprofstats.memory(trace, names[0])
    extra = {STEPS_LINE: made.on_device(), WAITS_LINE: _waits_on_device(columns, made)}
    return [
        _content(trace, layout, [layout.placed(events) for events in (spans, memory)], extra)
        for layout in layouts(trace)
    ]


def _content(trace: Trace, layout: Layout, parts: list[pl.DataFrame], extra: dict[Line, pl.DataFrame]) -> Content:
    """A plane's own lines and, where a device worked, the extra ones in the place of older ones of their kind."""
    lines = list(layout.lines)
    if layout.device is not None and parts[0].height:
        for line, events in extra.items():
            if events.height:
                numbers = [own.number for own in lines]
                place = numbers.index(line.number) if line.number in numbers else len(lines)
                lines[place:] = [line, *lines[place + 1 :]]
                older = pl.col("line") == place
                parts = [*(part.filter(~older) for part in parts), events.with_columns(line=pl.lit(place, pl.Int64))]
    events = pl.concat(parts, how="diagonal").with_columns(pl.col("start_ns") - zero_ns(trace))
    return Content(layout.name, layout.device, lines, events)


def zero_ns(trace: Trace) -> int:
    """Unix nanoseconds of the first span or allocation."""
    return min(_bounds(trace), default=0)


def end_ns(trace: Trace) -> int:
    """Unix nanoseconds of the last span's end or the last allocation."""
    return max(_bounds(trace), default=0)


def _bounds(trace: Trace) -> list[int]:
    spans = [trace.info.start_ns, trace.info.end_ns] if trace.spans.height else []
    return spans + ([trace.memory["time_ns"][0], trace.memory["time_ns"][-1]] if trace.memory.height else [])


class _Steps:
    """The steps of a trace, and how XProf is to number and call them."""

    def __init__(self, trace: Trace, columns: Columns) -> None:
        self.number, self.start, self.end = steps(trace, columns)
        ranks_agree = len(np.unique(self.number)) == len(self.number) and (self.number >= 0).all()
        self.group = self.number if ranks_agree else np.arange(len(self.number))
        rows = np.flatnonzero(columns.kind("step"))
        self.row = rows[np.argsort(columns.start[rows], kind="stable")]
        self.marker = xprofstats.markers(trace.spans[self.row])

    @property
    def label(self) -> list[str]:
        """What XProf calls each step."""
        return [f"{name} {number}" for name, number in zip(self.marker, self.number.tolist(), strict=True)]

    def group_at(self, time: Ints) -> pl.Series:
        """The group of the step that holds each time; null where none does."""
        if not len(self.start):
            return pl.Series([None], dtype=pl.Int64).new_from_index(0, len(time))
        index = np.searchsorted(self.start, time, side="right") - 1
        inside = (index >= 0) & (time < self.end[index])
        return pl.Series(self.group[index]).set(pl.Series(~inside), None)

    def on_device(self) -> pl.DataFrame:
        """Events for a device's line of steps, called by their numbers. What a device does for a step may end later."""
        return pl.DataFrame(
            {
                "start_ns": self.start,
                "duration_ns": self.end - self.start,
                "name": pl.Series([str(number) for number in self.number.tolist()], dtype=WORD),
                "display_name": pl.Series(self.label, dtype=WORD),
                f"{STAT}group_id": self.group,
                f"{STAT}step_name": pl.Series(self.label, dtype=WORD),
            }
        )


def _spans(trace: Trace, columns: Columns, made: _Steps, names: tuple[pl.Series, pl.Series]) -> pl.DataFrame:
    """An event for each span; steps come first, for they enclose what begins and ends with them."""
    spans = trace.spans
    statistics = (
        xprofstats.origins(trace),
        *xprofstats.arguments(spans),  # a source that says `tf_op` itself knows better
        *xprofstats.launches(spans, columns),
        *xprofstats.input_stages(spans, columns),
        spans["shapes"].alias(f"{STAT}shape"),
    )
    events = spans.select("track", "start_ns", "duration_ns").with_columns(
        *names, *{statistic.name: statistic for statistic in statistics}.values()
    )
    if len(made.row):
        group = made.group_at(columns.start).set(pl.Series(~_is_of_its_step(trace, columns)), None)
        events = events.with_columns(group.alias(f"{STAT}group_id"))
    return _marked(events, made)


def _marked(events: pl.DataFrame, made: _Steps) -> pl.DataFrame:
    """The events with the steps as XProf knows them, before all others."""
    markers = events[made.row].with_columns(
        pl.Series("name", made.marker, dtype=WORD),
        pl.Series(f"{STAT}step_name", made.label, dtype=WORD),
        pl.Series(f"{STAT}step_num", made.number, dtype=pl.Int64),
        pl.lit(1, pl.Int64).alias(f"{STAT}_r"),
        pl.Series(f"{STAT}group_id", made.group, dtype=pl.Int64),
    )
    others = np.ones(events.height, np.bool_)
    others[made.row] = False
    return pl.concat([markers, events.filter(others)], how="diagonal")


def _is_of_its_step(trace: Trace, columns: Columns) -> Bools:
    """Whether a span counts for the step it begins in. Not what the input pipeline does ahead; not other threads'
    Python, which has a frame open whatever the thread does; and no instant."""
    ahead = columns.kind("data_work") | np.isin(columns.track, _input_threads(trace))
    idle = columns.kind("python", "module") & ~columns.on_training_thread
    result: Bools = (columns.duration > 0) & (columns.kind("data_wait") | ~(ahead | idle))
    return result


def _input_threads(trace: Trace) -> list[int]:
    return trace.tracks.filter(pl.col("name").str.starts_with(_INPUT_THREAD))["id"].to_list()


def _waits_on_device(columns: Columns, made: _Steps) -> pl.DataFrame:
    """The waits as copies to a device, each with the number of a call that never was."""
    rows = np.flatnonzero(columns.waits)
    events = pl.DataFrame(
        {
            "start_ns": columns.start[rows],
            "duration_ns": columns.duration[rows],
            f"{STAT}group_id": made.group_at(columns.start[rows]),
            f"{STAT}correlation_id": np.arange(len(rows)) + FIRST_MADE_UP_CORRELATION,
        }
    )
    name = pl.lit(WAIT_ON_DEVICE).cast(WORD).alias("name")
    return events.with_columns(name, pl.lit("").cast(WORD).alias("display_name")).drop_nulls(f"{STAT}group_id")
