"""`python -m benchmarks --check` finds a reader that got slower, and nothing in a machine that did."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import reading
from benchmarks.reading import Seen

AS_RECORDED = {"profkit": 0.43, "hta": 2.7, "torch_tb": 2.5, "gunzip_simdjson": 0.16, "simdjson": 0.09}


@pytest.mark.parametrize(
    ("profkit", "machine", "held"), [(1.0, 1.0, True), (1.2, 1.0, True), (1.0, 2.5, True), (2.0, 1.0, False)]
)
def test_only_a_slower_reader_fails(
    profkit: float, machine: float, held: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seconds = {name: value * machine * (profkit if name == "profkit" else 1) for name, value in AS_RECORDED.items()}
    figures = ("cpu_s", "wall_s", "import_cpu_s", "peak_bytes", "import_peak_bytes", "events", "json_bytes")
    parts = ("load_cpu_s", "analyses_cpu_s", "parquet_cpu_s")
    rounds = {name: [dict.fromkeys((*figures, *parts), value)] * 3 for name, value in seconds.items()}
    monkeypatch.setattr(reading, "CORPUS", tmp_path)
    monkeypatch.setattr(reading, "compare", lambda *_: Seen("trace_diff", 1, rounds, {}))
    assert all(target.met for target in reading.checked().targets) is held
