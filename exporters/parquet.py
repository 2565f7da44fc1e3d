"""The tables of a run as a folder of Parquet files, for DuckDB, pandas and whatever else reads them.

The layout is Hive's, so that one query over `trace/*/*/spans.parquet` reads every window and rank.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from profkit.analysis.report import Report
from profkit.trace.model import Run, Trace
from profkit.trace.store import META, TABLES, write_json, write_table, write_trace

from .files import every_rank, stem, traces_of


class ParquetExporter:
    """Writes `<run>.tables/`: `run`, `steps`, `counters` of each rank, and a folder for each recorded window."""

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        """Write below `folder`. Raises ExportError where nothing was recorded, OSError."""
        home = folder / f"{stem(run)}.tables"
        return [path for own in every_rank(run) for path in _rank(own, home)]


def _rank(run: Run, home: Path) -> Iterator[Path]:
    traces, name = traces_of(run), f"rank={run.info.rank}"
    for table, frame in (("steps", run.steps), ("counters", run.counters)):
        path = home / table / f"{name}.parquet"
        write_table(frame, path)
        yield path
    write_json(run.info, home / "run" / f"{name}.json")
    yield home / "run" / f"{name}.json"
    for trace in traces:
        yield from _write(trace, home)


def _write(trace: Trace, home: Path) -> list[Path]:
    folder = home / "trace" / f"window={trace.info.window}" / f"rank={trace.info.rank}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_trace(trace, folder)
    return [folder / META, *(folder / f"{name}.parquet" for name in TABLES)]
