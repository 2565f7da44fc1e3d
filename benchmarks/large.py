"""Reading a file larger than memory should have to be: peak memory of load, report and Parquet, plain and gzip."""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring import CORPUS, Figures, in_fresh_process
from benchmarks.outcome import Outcome, Table, Target
from benchmarks.reading import FILES, MB
from tests.repeated import write_repeated

SOURCE = "trace_diff"
SIZE, QUICK_SIZE = 5_000_000_000, 330_000_000
BOUND_BYTES = 1e9
TIMEOUT_S = 1_200


def run(quick: bool) -> Outcome:
    """Measure on a recorded trace repeated up to the size; where there is none, or no room for it, say so."""
    size = QUICK_SIZE if quick else SIZE
    if not CORPUS.is_dir():
        return Outcome("large", [Table("large", [[f"not measured: there is no {CORPUS}"]])])
    with TemporaryDirectory(prefix="profkit-large-") as folder:
        if shutil.disk_usage(folder).free < 2 * size:
            return Outcome("large", [Table("large", [[f"not measured: {folder} has no room for {2 * size:,} bytes"]])])
        seen = {ending: _measured(Path(folder, f"large{ending}"), size) for ending in (".json", ".json.gz")}
    return Outcome("large", [_table(seen)], [_target(seen)], dict(seen))


def _measured(path: Path, size: int) -> Figures:
    write_repeated(CORPUS / FILES[SOURCE], path, size)
    try:
        return in_fresh_process("contestants", "profkit_sections", str(path), timeout_s=TIMEOUT_S) | {
            "file_bytes": path.stat().st_size
        }
    finally:
        path.unlink()


def _table(seen: dict[str, Figures]) -> Table:
    head = ["", "file MB", "events", "spans", "sections", "CPU s", "peak MB: load", "report", "Parquet", "tables MB"]
    rows = [
        [
            f"{SOURCE} repeated, {ending}",
            f"{figures['file_bytes'] / MB:,.0f}",
            f"{figures['events']:,.0f}",
            f"{figures['spans']:,.0f}",
            f"{figures['sections']:.0f}",
            f"{figures['cpu_s']:.0f}",
            f"{figures['load_peak_bytes'] / MB:.0f}",
            f"{figures['report_peak_bytes'] / MB:.0f}",
            f"{figures['peak_bytes'] / MB:.0f}",
            f"{figures['disk_bytes'] / MB:.0f}",
        ]
        for ending, figures in seen.items()
    ]
    return Table("reading a large file", [head, *rows])


def _target(seen: dict[str, Figures]) -> Target:
    peak = max(figures["peak_bytes"] for figures in seen.values())
    return Target("peak memory at most 1 GB", f"{peak / MB:.0f} MB", peak <= BOUND_BYTES)
