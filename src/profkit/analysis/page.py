"""What the page shows first of a run: the report without its long tables, and the life of the run around it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import polars as pl

from profkit.analysis.breakdown import steps
from profkit.analysis.columns import Columns
from profkit.analysis.loaders import loaders_of
from profkit.analysis.report import Report
from profkit.trace.model import Loader, Run, Trace

STEP_POINTS = 2_000
CURVE_POINTS = 300
LARGEST = 10  # operators and kernels


class StepSeries(msgspec.Struct, frozen=True):
    """Steps of the whole run. Of every `stretch` steps the longest one is here, so that a point is a real step."""

    stretch: int = 1
    number: list[int] = []
    end_ns: list[int] = []  # since the run's beginning
    duration_ns: list[int] = []
    wait_ns: list[int] = []
    steady: list[bool] = []
    window: list[int | None] = []  # that recorded the step


class Curve(msgspec.Struct, frozen=True):
    """A counter over the run's life; each point is the mean of its stretch of time."""

    name: str
    unit: str
    time_ns: list[int]  # since the run's beginning
    value: list[float]


class WindowEntry(msgspec.Struct, frozen=True):
    """A recorded window. Its report and its timeline are files of their own."""

    window: int
    first_step: int | None
    last_step: int | None
    steps: int
    spans: int
    tracks: int
    source: str
    start_ns: int  # since the run's beginning
    timeline_bytes: int  # compressed


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Everything the first screen needs. `report` has no curves, and of its tables the largest rows."""

    page_version: int = 1
    report: Report
    start_ns: str  # since the Unix epoch, as digits: JavaScript's numbers do not hold it
    script: str
    host: str
    rank: int
    world_size: int
    steps: StepSeries
    counters: list[Curve]
    loaders: dict[str, Loader]
    windows: list[WindowEntry]


def page(run: Run, report: Report, timeline_bytes: Mapping[int, int]) -> Page:
    """The page of `run`; `timeline_bytes`: window -> size of its timeline as it is stored."""
    zero_ns = _beginning(run)
    return Page(
        report=_shortened(report),
        start_ns=str(zero_ns),
        script=run.info.script,
        host=run.info.host,
        rank=run.info.rank,
        world_size=run.info.world_size,
        steps=_series(run.steps, zero_ns),
        counters=_curves(run.counters, zero_ns),
        loaders=run.info.loaders or loaders_of(run.traces),
        windows=[_entry(trace, zero_ns, timeline_bytes[trace.info.window]) for trace in run.traces],
    )


def _beginning(run: Run) -> int:
    """Unix nanoseconds: when the run began, or its first trace where nothing else is known."""
    if run.info.start_ns is not None:
        return run.info.start_ns
    return min((trace.info.start_ns for trace in run.traces), default=0)


def _shortened(report: Report) -> Report:
    devices = [msgspec.structs.replace(device, curve=[], steps=[]) for device in report.memory.devices]
    return msgspec.structs.replace(
        report,
        operators=report.operators[:LARGEST],
        operators_by_shape=[],
        operators_by_module=[],
        kernels=report.kernels[:LARGEST],
        memory=msgspec.structs.replace(report.memory, devices=devices),
    )


def _series(steps: pl.DataFrame, zero_ns: int) -> StepSeries:
    duration = (steps["end_ns"] - steps["start_ns"]).to_numpy()
    stretch = max(1, -(-len(duration) // STEP_POINTS))
    begins = range(0, len(duration), stretch)
    longest = [begin + int(np.argmax(duration[begin : begin + stretch])) for begin in begins]
    chosen = steps[longest] if longest else steps
    return StepSeries(
        stretch,
        chosen["number"].to_list(),
        (chosen["end_ns"] - zero_ns).to_list(),
        (chosen["end_ns"] - chosen["start_ns"]).to_list(),
        chosen["wait_ns"].to_list(),
        chosen["steady"].to_list(),
        chosen["window"].to_list(),
    )


def _curves(counters: pl.DataFrame, zero_ns: int) -> list[Curve]:
    return [
        _curve(str(name), str(unit), samples.sort("time_ns"), zero_ns)
        for (name, unit), samples in counters.group_by("name", "unit", maintain_order=True)
    ]


def _curve(name: str, unit: str, samples: pl.DataFrame, zero_ns: int) -> Curve:
    stretch = -(-samples.height // CURVE_POINTS)
    means = (
        samples.with_row_index("stretch")
        .group_by(pl.col("stretch") // stretch, maintain_order=True)
        .agg(pl.first("time_ns"), pl.mean("value"))
    )
    return Curve(name, unit, (means["time_ns"] - zero_ns).to_list(), means["value"].to_list())


def _entry(trace: Trace, zero_ns: int, timeline_bytes: int) -> WindowEntry:
    number, _, _ = steps(trace, Columns(trace))
    return WindowEntry(
        window=trace.info.window,
        first_step=int(number[0]) if len(number) else None,
        last_step=int(number[-1]) if len(number) else None,
        steps=len(number),
        spans=trace.spans.height,
        tracks=trace.tracks.height,
        source=trace.info.source,
        start_ns=trace.info.start_ns - zero_ns,
        timeline_bytes=timeline_bytes,
    )
