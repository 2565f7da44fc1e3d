"""The contract of every exporter: what it writes is whole, lies where it was told, and replaces what was there.

Or, where the viewer would go on showing what was there, leaves it and writes beside it.
"""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from profkit import plugins
from profkit.analysis.report import Report
from profkit.analysis.summary import report
from profkit.errors import ExportError
from profkit.plugins import Exporter
from profkit.trace.model import Run, RunInfo
from profkit.trace.schema import COUNTERS, STEPS, empty
from profkit.trace.store import read_trace
from tests import runs, traces

NAMES = plugins.names(plugins.EXPORTERS)
WITHOUT_TRACES = ("html", "json", "tensorboard")  # what they write, every run has
BESIDE = ("xprof",)  # XProf keeps its results beside a file, and never looks again whether the file has changed
each_exporter = pytest.mark.parametrize("name", NAMES)


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Two steps, one of them recorded."""
    events = [
        traces.step(1, 100_000, 100_000), traces.wait(100_000, 20_000), traces.op("aten::relu", 130_000, 10_000),
        traces.launch(3, 131_000, 10), traces.kernel("relu", 3, 132_000, 20),
        traces.allocation(133_000, 4_096, 64, 4_096),
    ]  # fmt: skip
    trace = traces.traced(tmp_path, events)
    return Run(RunInfo(script="train.py", ended="finished"), runs.steps_table([{}, {"window": 0}]),
               empty(COUNTERS), None, (lambda: trace,))  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "out"
    place.mkdir()
    return place


def exporter(name: str) -> Exporter:
    loaded: Exporter = plugins.load(plugins.EXPORTERS, name)
    return loaded


def files_in(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


@each_exporter
def test_an_exporter_keeps_to_the_protocol(name: str) -> None:
    assert isinstance(exporter(name), Exporter)


@each_exporter
def test_it_returns_exactly_the_files_it_wrote_and_leaves_no_others(name: str, run: Run, folder: Path) -> None:
    written = exporter(name).export(run, report(run), folder)
    assert written
    assert set(written) == files_in(folder)
    assert all(path.stat().st_size for path in written)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in BESIDE])
def test_a_second_export_replaces_the_first_with_the_same_bytes(name: str, run: Run, folder: Path) -> None:
    first = exporter(name).export(run, report(run), folder)
    contents = {path: path.read_bytes() for path in first}
    for path in first:
        path.write_bytes(b"of an older export")
    assert exporter(name).export(run, report(run), folder) == first
    assert {path: path.read_bytes() for path in files_in(folder)} == contents


@pytest.mark.parametrize("name", BESIDE)
def test_a_second_export_that_must_not_replace_the_first_has_the_same_bytes_in_a_folder_of_its_own(
    name: str, run: Run, folder: Path
) -> None:
    first = exporter(name).export(run, report(run), folder)
    before = {path: path.read_bytes() for path in first}
    second = exporter(name).export(run, report(run), folder)
    assert {path.parent for path in first}.isdisjoint(path.parent for path in second)
    assert [path.name for path in second] == [path.name for path in first]
    assert [path.read_bytes() for path in second] == list(before.values())
    assert {path: path.read_bytes() for path in first} == before


@each_exporter
def test_a_run_without_a_trace_is_refused_in_one_sentence_or_exported(name: str, folder: Path) -> None:
    bare = Run(RunInfo(script="train.py"), empty(STEPS), empty(COUNTERS))
    if name in WITHOUT_TRACES:
        assert exporter(name).export(bare, report(bare), folder)
    else:
        with pytest.raises(ExportError, match=r"^train\.py has no trace to export: [^\n]*$"):
            exporter(name).export(bare, report(bare), folder)
        assert not files_in(folder)


@each_exporter
def test_what_fails_half_way_leaves_neither_half_a_file_nor_the_old_one_broken(
    name: str, run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = report(run)
    for path in exporter(name).export(run, result, folder):
        path.write_bytes(b"of an older export")
    before = files_in(folder)

    def full(path: Path, target: Any) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(OSError, match="No space left"):
        exporter(name).export(run, result, folder)
    assert files_in(folder) == before
    assert all(path.read_bytes() == b"of an older export" for path in before)


@each_exporter
def test_a_report_is_only_read(name: str, run: Run, folder: Path) -> None:
    given: Report = report(run)
    exporter(name).export(run, given, folder)
    assert given == report(run)


def test_the_json_report_is_the_report(run: Run, folder: Path) -> None:
    import msgspec

    result = report(run)
    (path,) = exporter("json").export(run, result, folder)
    assert path.name == "report.json"
    assert msgspec.json.decode(path.read_bytes(), type=Report) == result


def test_the_parquet_tables_are_read_by_one_query_and_as_the_trace_they_were(run: Run, folder: Path) -> None:
    exporter("parquet").export(run, report(run), folder)
    (home,) = folder.iterdir()
    (trace,) = run.traces
    found = pl.read_parquet(home / "trace" / "*" / "*" / "spans.parquet", hive_partitioning=True)
    assert found.height == trace.spans.height
    assert found.select("window", "rank").unique().rows() == [(0, 0)]
    again = read_trace(home / "trace" / "window=0" / "rank=0")
    assert again.spans.equals(trace.spans)
    assert pl.read_parquet(home / "steps" / "rank=0.parquet").height == 2
