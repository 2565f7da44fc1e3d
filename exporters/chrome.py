"""Chrome-format JSON for Perfetto, chrome://tracing and HolisticTraceAnalysis: everything a trace holds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import polars as pl

from profkit.analysis.report import Report
from profkit.trace.model import Run, Trace

from . import chromejson, kinetowords
from .files import every_rank, stem, traces_of


class ChromeExporter:
    """Writes `<run>-window<w>-rank<r>.trace.json.gz` for each recorded window of each rank."""

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        """Write below `folder`. Raises ExportError where nothing was recorded, OSError."""
        name = stem(run)
        return [self._write(own, trace, folder, name) for own in every_rank(run) for trace in traces_of(own)]

    def _write(self, run: Run, trace: Trace, folder: Path, name: str) -> Path:
        path = folder / f"{name}-window{trace.info.window}-rank{trace.info.rank}.trace.json.gz"
        chromejson.write(path, chromejson.header(trace), _events(run, trace))
        return path


def _events(run: Run, trace: Trace) -> Iterator[pl.Series]:
    found = chromejson.addresses(trace, steps_must_nest=True)
    yield chromejson.metadata(found)
    yield from chromejson.span_events(trace, kinetowords.described(trace), found)
    yield from chromejson.memory_events(trace, found)
    yield from chromejson.flow_events(trace, found)
    yield _counter_events(run, trace, found)


def _counter_events(run: Run, trace: Trace, found: list[chromejson.Address]) -> pl.Series:
    """Samples of the system taken while the window was open, on the process of the training thread."""
    thread = trace.info.training_thread
    pid = found[thread].pid if thread is not None else 0
    samples = run.counters.filter(
        pl.col("time_ns").is_between(trace.info.start_ns, trace.info.end_ns), pl.col("value").is_finite()
    )
    named = samples.with_columns(chromejson.json_text(samples["name"]).alias("name"))
    event = pl.concat_str(
        pl.lit('{"ph": "C", "name": '), pl.col("name"),
        pl.lit(f', "pid": {pid}, "ts": '),
        chromejson.microseconds(pl.col("time_ns") - chromejson.base_ns(trace)),
        pl.lit(', "args": {"value": '), pl.col("value"), pl.lit("}}"),
    )  # fmt: skip
    return named.select(event).to_series()
