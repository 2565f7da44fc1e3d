"""What the page shows first of a run: the report without its long tables, and the life of the run around it."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np
import polars as pl

from profkit.analysis.breakdown import steps
from profkit.analysis.columns import Columns, Ints
from profkit.analysis.loaders import loaders_of
from profkit.analysis.loading import main_loader, stage_waits
from profkit.analysis.report import Report
from profkit.trace.model import Loader, Run, Trace

STEP_POINTS = 2_000
CURVE_POINTS = 300
BATCH_POINTS = 500
LAST_BATCHES = 200  # every one of them
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


class BatchSeries(msgspec.Struct, frozen=True):
    """Waits of the whole run by what they waited for. Of every `stretch` batches the longest wait is here."""

    stretch: int = 1
    step: list[int | None] = []  # that consumed the batch
    asked_ns: list[int] = []  # since the run's beginning
    wait_ns: list[int] = []
    by_stage: dict[str, list[int]] = {}  # stage -> nanoseconds of the wait; add up to `wait_ns`
    ready: list[int | None] = []  # batches that were ready when it was asked for
    worker: list[int | None] = []
    fetch_start_ns: list[int | None] = []  # since the run's beginning
    fetch_ns: list[int | None] = []


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
    """Everything the first screen needs.

    `report` has no curves, of its tables the largest rows, and of its ranks what is said of them all.
    """

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
    batches: BatchSeries = BatchSeries()  # of the training loop's loader; empty where nobody looked inside it
    last_batches: BatchSeries = BatchSeries()  # the end of the same, whole
    windows: list[WindowEntry]


def page(run: Run, report: Report, timeline_bytes: Mapping[int, int]) -> Page:
    """The page of `run`; `timeline_bytes`: window -> size of its timeline as it is stored."""
    zero_ns = _beginning(run)
    batches = _batches(run)
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
        batches=_batch_series(batches, BATCH_POINTS, zero_ns),
        last_batches=_batch_series(batches.tail(LAST_BATCHES), LAST_BATCHES, zero_ns),
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
        ranks=report.ranks and msgspec.structs.replace(report.ranks, rows=[], collectives=[]),
    )


def _series(steps: pl.DataFrame, zero_ns: int) -> StepSeries:
    stretch, longest = _longest((steps["end_ns"] - steps["start_ns"]).to_numpy(), STEP_POINTS)
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


def _longest(durations: Ints, most: int) -> tuple[int, list[int]]:
    """How many neighbours share a point so that there are at most `most`, and the place of the longest of each."""
    stretch = max(1, -(-len(durations) // most))
    begins = range(0, len(durations), stretch)
    return stretch, [begin + int(np.argmax(durations[begin : begin + stretch])) for begin in begins]


def _batches(run: Run) -> pl.DataFrame:
    """The batches of the training loop's loader in the order in which they came; none where nobody looked inside."""
    if run.batches["fetch_start_ns"].null_count() == run.batches.height:
        return run.batches.clear()
    return run.batches.filter(pl.col("loader") == main_loader(run.batches)).sort("came_ns")


def _batch_series(batches: pl.DataFrame, most: int, zero_ns: int) -> BatchSeries:
    if batches.is_empty():
        return BatchSeries()
    stretch, longest = _longest((batches["came_ns"] - batches["asked_ns"]).to_numpy(), most)
    chosen = batches[longest]
    stages = stage_waits(chosen)
    return BatchSeries(
        stretch=stretch,
        step=chosen["step"].to_list(),
        asked_ns=(chosen["asked_ns"] - zero_ns).to_list(),
        wait_ns=(chosen["came_ns"] - chosen["asked_ns"]).to_list(),
        by_stage={stage.name: stage.to_list() for stage in stages if (stage != 0).any()},
        ready=chosen["ready"].to_list(),
        worker=chosen["worker"].to_list(),
        fetch_start_ns=(chosen["fetch_start_ns"] - zero_ns).to_list(),
        fetch_ns=(chosen["fetch_end_ns"] - chosen["fetch_start_ns"]).to_list(),
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
