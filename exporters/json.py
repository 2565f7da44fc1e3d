"""The report as JSON: the contract of `profkit report --json`, in a file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec

from profkit.analysis.report import Report
from profkit.trace.model import Run

from .files import replacing


class JsonExporter:
    """Writes `report.json`; the same report gives the same bytes."""

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        """Write below `folder`. Raises OSError."""
        path = folder / "report.json"
        with replacing(path) as file:
            file.write(msgspec.json.format(msgspec.json.encode(report, order="deterministic"), indent=2) + b"\n")
        return [path]
