"""The tables of a run as a folder of Parquet files, for DuckDB, pandas and whatever else reads them.

The layout is Hive's, so that one query over `trace/*/*/spans.parquet` reads every window and rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from profkit.analysis.report import Report
from profkit.trace.model import Run, Trace
from profkit.trace.store import META, TABLES, write_json, write_table, write_trace

from .files import stem, traces_of


class ParquetExporter:
    """Writes `<run>.tables/`: `run.json`, `steps`, `counters`, and a folder for each recorded window."""

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        """Write below `folder`. Raises ExportError where nothing was recorded, OSError."""
        traces = traces_of(run)
        home, rank = folder / f"{stem(run)}.tables", f"rank={run.info.rank}.parquet"
        tables = {home / "steps" / rank: run.steps, home / "counters" / rank: run.counters}
        for path, table in tables.items():
            write_table(table, path)
        write_json(run.info, home / "run.json")
        return [home / "run.json", *tables, *(path for trace in traces for path in _write(trace, home))]


def _write(trace: Trace, home: Path) -> list[Path]:
    folder = home / "trace" / f"window={trace.info.window}" / f"rank={trace.info.rank}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    write_trace(trace, folder)
    return [folder / META, *(folder / f"{name}.parquet" for name in TABLES)]
