"""Standard TensorBoard summaries of a run that has ended: the verdict as text, the layout, hparams, curves."""

# mypy: disable-error-code="attr-defined,name-defined,no-untyped-call"
# tensorboard ships no types, and its messages get their fields at run time.

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl
from tensorboard.compat.proto import event_pb2
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.custom_scalar import metadata as custom_scalar
from tensorboard.plugins.hparams import metadata as hparams_metadata
from tensorboard.plugins.hparams import plugin_data_pb2
from tensorboard.plugins.hparams.summary_v2 import hparams_pb

from profkit.analysis import summary
from profkit.analysis.report import DeviceMemory, Report
from profkit.sidecar import CURVES
from profkit.trace.model import Loader, Run

from . import page
from .eventfile import (
    DATA_WAIT,
    LIVE,
    MEAN_STALL,
    MEAN_STEP_TIME,
    STALL,
    STEP_TIME,
    SUMMARY,
    event_file,
    home,
    records,
    scalar,
    tensor,
    verdict,
    version,
)
from .eventfile import page as page_event
from .files import every_rank, replacing, safe_name
from .summarytext import summary_markdown

LARGEST_CURVE = 20_000  # points; TensorBoard itself draws 1,000 of them unless told otherwise

LAYOUT = {
    "Steps": {
        "Step time and wait for data (ms)": [STEP_TIME, DATA_WAIT],
        "Waiting for data (% of the step)": [STALL],
        "Where the time of recorded steps went (ms)": ["profkit/breakdown_ms/.*"],
    },
    "System": {
        "Processors (%)": ["profkit/system/.*_percent"],
        "Memory of the training (MB)": ["profkit/system/.*memory_mb"],
        "Disk and network (MB per second)": ["profkit/system/.*_mb_per_s"],
        "Peak of recorded steps (MB)": ["profkit/memory_mb/.*"],
    },
}


class TensorBoardExporter:
    """Writes one event file with the run's summary and its page, and the curves of its steps where no sink has.

    Beside it the windows' files of the page. Each rank of a run is exported once it is finalised; of a folder of trace
    files, which nobody finalises, all are exported with the first.
    """

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        """Write below `folder`. Raises OSError, UnreadableTrace."""
        written = self._of_rank(run, report, folder)
        if report.ranks is not None:
            written.append(page.write_ranks(report.ranks, folder))
        if run.folder is None:
            for other in every_rank(run):
                written += [] if other is run else self._of_rank(other, summary.report(other), folder)
        return written

    def _of_rank(self, run: Run, report: Report, folder: Path) -> list[Path]:
        place = home(folder, run.info.rank)
        place.mkdir(parents=True, exist_ok=True)
        end_s = (run.info.end_ns or _last_time_ns(run)) / 1e9
        path = event_file(place, end_s, run.info.rank, SUMMARY)
        windows = page.windows(run, report)
        written = page.write(windows, place)
        first = page_event(page.first_screen(run, report, page.sizes(windows)), _last_step(report), end_s)
        events = [version(end_s), *_summaries(run, report, end_s), first, *_curves(run, report, place)]
        with replacing(path) as file:
            file.write(records(events))
        return [path, *written]


def _last_time_ns(run: Run) -> int:
    """Unix nanoseconds of the last thing recorded, 0 where there is none."""
    ends = run.steps["end_ns"].to_list()[-1:] or [trace.info.end_ns for trace in run.traces[-1:]]
    return max(ends, default=0)


def _summaries(run: Run, report: Report, time_s: float) -> Iterator[event_pb2.Event]:
    """The verdict as text, the layout of the curves, and what the HParams tab compares runs by."""
    step = _last_step(report)
    yield verdict(summary_markdown(report), step, time_s)
    layout = _layout().SerializeToString()
    yield tensor(custom_scalar.CONFIG_SUMMARY_TAG, layout, (), custom_scalar.create_summary_metadata(), 0, time_s)
    yield from _hparams(run, report, time_s)
    for tag, value in _means(report).items():
        yield scalar(tag, value, step, int(time_s * 1e9), first=True)


def _last_step(report: Report) -> int:
    numbers = [step.number for step in report.window_steps[-1:]]
    return report.last_step if report.last_step is not None else max(numbers, default=0)


def _layout() -> layout_pb2.Layout:
    return layout_pb2.Layout(
        category=[
            layout_pb2.Category(title=title, chart=[_chart(name, tags) for name, tags in charts.items()])
            for title, charts in LAYOUT.items()
        ]
    )


def _chart(title: str, tags: list[str]) -> layout_pb2.Chart:
    """A chart of every tag that one of these patterns matches as a whole."""
    patterns = [f"^{tag}$" for tag in tags]
    return layout_pb2.Chart(title=title, multiline=layout_pb2.MultilineChartContent(tag=patterns))


def _hparams(run: Run, report: Report, time_s: float) -> Iterator[event_pb2.Event]:
    """One session for each run. TensorBoard gathers columns from all runs, so that they may differ in their hparams."""
    start_s = (run.info.start_ns or 0) / 1e9
    started = hparams_pb(_hparam_values(run, report), trial_id=run.name, start_time_secs=start_s)
    yield event_pb2.Event(wall_time=time_s, step=0, summary=started)
    status = "STATUS_SUCCESS" if report.state in ("finished", "trace") else "STATUS_FAILURE"
    end = plugin_data_pb2.SessionEndInfo(status=status, end_time_secs=time_s)
    ended = event_pb2.Event(wall_time=time_s, step=0)
    ended.summary.value.add(
        tag=hparams_metadata.SESSION_END_INFO_TAG,
        tensor=hparams_metadata.NULL_TENSOR,
        metadata=hparams_metadata.create_summary_metadata(plugin_data_pb2.HParamsPluginData(session_end_info=end)),
    )
    yield ended


def _hparam_values(run: Run, report: Report) -> dict[str, str | int | float | bool]:
    """What a run is told apart by; the user's own values win."""
    loader = next(iter(run.info.loaders.values()), Loader(""))
    known = {name: loader.settings.get(name) for name in ("num_workers", "batch_size")}
    framework = ", ".join(f"{name} {version}" for name, version in report.frameworks.items())
    values = {"framework": framework or None, "script": run.info.script or None, **known, **report.hparams}
    return {name: value for name, value in values.items() if value is not None}


def _means(report: Report) -> dict[str, float]:
    """The two numbers runs are compared by, where they are known."""
    known = {}
    if report.step_time_ns is not None:
        known[MEAN_STEP_TIME] = report.step_time_ns.mean / 1e6
    if report.stall_share is not None:
        known[MEAN_STALL] = 100 * report.stall_share
    return known


def _curves(run: Run, report: Report, place: Path) -> Iterator[event_pb2.Event]:
    """Curves of recorded steps; those of all steps and of the system unless a live file in `place` has them."""
    curves = [*_breakdown_curves(report), *_memory_curves(run, report)]
    if not any(place.glob(f"events.out.tfevents.*.{LIVE}")):
        curves += [*_step_curves(run, report), *_system_curves(run)]
    for tag, points in curves:
        for index, (step, time_ns, value) in enumerate(points.iter_rows()):
            yield scalar(tag, value, step, time_ns, first=index == 0)


Curve = tuple[str, pl.DataFrame]  # a tag, and its points as (step, time_ns, value)


def _step_curves(run: Run, report: Report) -> Iterator[Curve]:
    """Step time and wait of every step of the run, or of the recorded ones where there are no others."""
    steps = run.steps if run.steps.height else _recorded(report)
    took = pl.col("end_ns") - pl.col("start_ns")
    times = steps.select(
        step=pl.col("number"), time_ns=pl.col("end_ns"), took=took / 1e6, wait=pl.col("wait_ns") / 1e6,
        stall=(100 * pl.col("wait_ns") / took).fill_nan(0.0).clip(0, 100),
    )  # fmt: skip
    for tag, column in ((STEP_TIME, "took"), (DATA_WAIT, "wait"), (STALL, "stall")):
        points = times.select("step", "time_ns", value=column)
        yield tag, thinned(points, pl.mean("value") if tag == STALL else pl.max("value"))


def _recorded(report: Report) -> pl.DataFrame:
    rows = [(s.number, s.start_ns, s.start_ns + s.duration_ns, s.wait_ns) for s in report.window_steps]
    return pl.DataFrame(rows, dict.fromkeys(("number", "start_ns", "end_ns", "wait_ns"), pl.Int64), orient="row")


def _system_curves(run: Run) -> Iterator[Curve]:
    """The counters that a live run draws, each over the last step that had ended when it was read."""
    ends = run.steps.select(time_ns=pl.col("end_ns"), step=pl.col("number").cast(pl.Int64)).sort("time_ns")
    samples = run.counters.sort("time_ns").join_asof(ends, on="time_ns").with_columns(pl.col("step").fill_null(0))
    for counter, (curve, unit) in CURVES.items():
        rows = samples.filter(pl.col("name") == counter)
        if rows.height:
            points = rows.select("step", "time_ns", pl.col("value") / unit)
            yield f"profkit/system/{curve}", thinned(points, pl.mean("value"))


def thinned(points: pl.DataFrame, kept: pl.Expr) -> pl.DataFrame:
    """At most LARGEST_CURVE points: of each stretch its first step and time, and the value `kept` says."""
    stretch = -(-points.height // LARGEST_CURVE)
    if stretch <= 1:
        return points
    buckets = points.with_row_index("bucket").with_columns(pl.col("bucket") // stretch)
    thin = buckets.group_by("bucket", maintain_order=True).agg(pl.first("step", "time_ns"), kept)
    return thin.drop("bucket")


def _breakdown_curves(report: Report) -> Iterator[Curve]:
    """Each class of the exclusive breakdown that holds any time over the recorded steps, in milliseconds."""
    for name in (name for name, time_ns in report.breakdown_ns.items() if time_ns and report.window_steps):
        rows = [(s.number, s.start_ns + s.duration_ns, s.breakdown_ns[name] / 1e6) for s in report.window_steps]
        yield f"profkit/breakdown_ms/{name}", _points(rows)


def _memory_curves(run: Run, report: Report) -> Iterator[Curve]:
    """Largest allocation of each device within each step of the first window, in millions of bytes."""
    if run.traces:
        for device in report.memory.devices:
            name = safe_name(device.device)
            yield f"profkit/memory_mb/{name}", _peaks(report, device, run.traces[0].info.start_ns)


def _peaks(report: Report, device: DeviceMemory, zero_ns: int) -> pl.DataFrame:
    rows = []
    for step in report.window_steps:
        end_ns = step.start_ns + step.duration_ns
        inside = [p.bytes for p in device.curve if step.start_ns <= p.time_ns + zero_ns < end_ns]
        if inside:
            rows.append((step.number, end_ns, max(inside) / 1e6))
    return _points(rows)


def _points(rows: list[tuple[int, int, float]]) -> pl.DataFrame:
    return pl.DataFrame(rows, {"step": pl.Int64, "time_ns": pl.Int64, "value": pl.Float64}, orient="row")
