"""From a capture folder to a run anybody can open: whole, once, whoever does it, whoever was killed before."""

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
import torch
from torch.profiler import ProfilerActivity, record_function

from profkit import plugins
from profkit.analysis import summary
from profkit.analysis.report import Report
from profkit.engines.fanout import ranks_of
from profkit.finalise import closing_text, finalise, finalise_ranks, wait_for_ranks
from profkit.records import (
    SUFFIX,
    End,
    LoaderOpened,
    Note,
    Record,
    Sample,
    Start,
    Step,
    Wait,
    Window,
    WindowOpened,
)
from profkit.runfolder import RankFolder
from profkit.trace.load import load
from profkit.trace.model import Run, RunInfo
from profkit.trace.schema import COUNTERS, STEPS
from profkit.trace.store import read_json, read_table, read_trace
from tests.captured import append

HOST = socket.gethostname()
LONG_AGO_NS = 1_000_000_000
STEP_NS = 10_000_000
MAIN, SIDECAR = f"{HOST}-0-7-00000000{SUFFIX}", f"{HOST}-0-7-11111111-sidecar{SUFFIX}"
NATIVE = "window-0-rank-0.pt.trace.json"


def start(**changes: object) -> Start:
    facts = Start(os.getpid(), 0, 1, HOST, LONG_AGO_NS, "train.py", "3.11", "0.1.0", (1, 0, 1, 3, 1), {}, 7)
    return msgspec.structs.replace(facts, **changes)


def steps(count: int) -> list[Record]:
    """Steps of 10 ms, each of which waits 4 ms for its batch."""
    begins = [LONG_AGO_NS + number * STEP_NS for number in range(count)]
    waits = [Wait(0, begin, 4_000_000, begin == begins[0]) for begin in begins]
    ends = [Step(number, begin, begin + STEP_NS, "marker", 1_000) for number, begin in enumerate(begins)]
    pairs = [record for pair in zip(waits, ends, strict=True) for record in pair]
    return [LoaderOpened(0, "DataLoader", LONG_AGO_NS, 0, {"num_workers": 0}), *pairs]


@pytest.fixture
def profkit_folder(tmp_path: Path) -> Path:
    """Of a run that has captured its beginning, eight steps and a sample."""
    folder = tmp_path / "runs" / "20260101T000000Z-abc123" / "plugins" / "profkit"
    append(folder / "capture" / MAIN, start(), *steps(8))
    sample = Sample(LONG_AGO_NS, {"cpu_percent": 50.0})
    append(folder / "capture" / SIDECAR, sample)
    return folder


@pytest.fixture(scope="session")
def native_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three steps of a convolution, as torch's profiler writes them."""
    path = tmp_path_factory.mktemp("native") / NATIVE
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as profiler:
        for number in range(2, 5):
            with record_function(f"ProfilerStep#{number}"):
                torch.conv2d(torch.ones(1, 3, 16, 16), torch.ones(4, 3, 3, 3))
    profiler.export_chrome_trace(str(path))
    return path


@pytest.fixture
def with_window(profkit_folder: Path, native_file: Path) -> Path:
    """The same run with one recorded window, and a proper end."""
    shutil.copy(native_file, profkit_folder / "capture" / NATIVE)
    append(
        profkit_folder / "capture" / MAIN,
        WindowOpened("pytorch", 0, 2, LONG_AGO_NS),
        Window("pytorch", 0, 2, 4, NATIVE, "kineto", 5_000_000),
        End("finished", LONG_AGO_NS + 8 * STEP_NS),
    )
    return profkit_folder


class CountingExporter:
    """Stands in for the exporter that runs unasked, and counts its runs."""

    def __init__(self, fails: BaseException | None = None) -> None:
        self.runs: list[Run] = []
        self.fails = fails

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        assert (folder / "plugins" / "profkit").is_dir()
        self.runs.append(run)
        if self.fails:
            raise self.fails
        return ()


@pytest.fixture
def exporter(monkeypatch: pytest.MonkeyPatch) -> CountingExporter:
    return install(monkeypatch, CountingExporter())


def install(monkeypatch: pytest.MonkeyPatch, exporter: CountingExporter) -> CountingExporter:
    load = plugins.load
    monkeypatch.setattr(
        plugins, "load", lambda group, name: exporter if group == plugins.EXPORTERS else load(group, name)
    )
    return exporter


def files(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file below `folder` but the lock, with what changes when it is written again."""
    found = {path: path.stat() for path in folder.rglob("*") if path.is_file() and path.name != ".lock-0"}
    return {str(path.relative_to(folder)): (s.st_ino, s.st_mtime_ns) for path, s in found.items()}


def test_a_run_that_ended_becomes_tables_traces_and_summaries(with_window: Path, exporter: CountingExporter) -> None:
    info = finalise(with_window)
    assert (info.ended, info.notes) == ("finished", [])
    assert read_json(with_window / "run" / "rank=0.json", RunInfo) == info
    assert read_table(with_window / "steps" / "rank=0.parquet", STEPS).height == 8
    assert read_table(with_window / "counters" / "rank=0.parquet", COUNTERS)["value"].to_list() == [50.0]
    trace = read_trace(with_window / "trace" / "window=0" / "rank=0")
    assert "aten::conv2d" in trace.spans["name"].unique().to_list()
    assert (trace.info.source, trace.info.first_step, trace.info.schedule) == ("kineto", 2, [1, 0, 1, 3, 1])
    whole = read_json(with_window / "summary" / "rank=0.json", Report)
    assert (whole.steps, whole.last_step, whole.state) == (8, 7, "finished")
    assert read_json(with_window / "summary" / "window=0" / "rank=0.json", Report) == whole
    assert [run.info for run in exporter.runs] == [info]


def test_finalising_twice_changes_nothing(with_window: Path, exporter: CountingExporter) -> None:
    once = finalise(with_window)
    before = files(with_window)
    assert finalise(with_window) == once
    assert files(with_window) == before
    assert len(exporter.runs) == 1


def test_a_run_that_goes_on_is_left_alone(profkit_folder: Path, exporter: CountingExporter) -> None:
    (profkit_folder / "capture" / MAIN).unlink()
    append(profkit_folder / "capture" / MAIN, start(time_ns=time.time_ns()), *steps(3))
    before = files(profkit_folder)
    assert finalise(profkit_folder).ended == "running"
    assert files(profkit_folder) == before
    assert finalise(profkit_folder, over=True).ended == "without notice"
    assert len(exporter.runs) == 1


def test_a_process_born_later_under_the_same_number_is_not_the_training(
    profkit_folder: Path, exporter: CountingExporter
) -> None:
    assert finalise(profkit_folder).ended == "without notice"  # this process is younger than LONG_AGO_NS


def test_a_zombie_trains_no_more(tmp_path: Path, exporter: CountingExporter) -> None:
    training = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, training.pid, os.WEXITED | os.WNOWAIT)
    folder = tmp_path / "run" / "plugins" / "profkit"
    append(folder / "capture" / MAIN, start(pid=training.pid, time_ns=time.time_ns()), *steps(3))
    assert finalise(folder).ended == "without notice"
    training.wait()


def test_a_run_on_another_host_goes_on_as_long_as_its_files_grow(tmp_path: Path, exporter: CountingExporter) -> None:
    folder = tmp_path / "run" / "plugins" / "profkit"
    append(folder / "capture" / MAIN, start(host="elsewhere"), *steps(3))
    assert finalise(folder).ended == "running"
    for path in (folder / "capture").iterdir():
        os.utime(path, (time.time() - 3_600,) * 2)
    assert finalise(folder).ended == "without notice"


def test_a_run_without_a_window_gets_a_trace_of_its_steps_and_waits(
    profkit_folder: Path, exporter: CountingExporter
) -> None:
    append(profkit_folder / "capture" / MAIN, WindowOpened("pytorch", 0, 6, LONG_AGO_NS))
    info = finalise(profkit_folder)
    trace = read_trace(profkit_folder / "trace" / "window=0" / "rank=0")
    assert (trace.info.source, trace.info.counts["steps"]) == ("capture", 8)
    assert any("its operators are lost" in note for note in info.notes)


def test_native_files_are_compressed_once_they_are_traces(
    with_window: Path, native_file: Path, exporter: CountingExporter
) -> None:
    import gzip

    finalise(with_window)
    assert not (with_window / "capture" / NATIVE).exists()
    assert gzip.decompress((with_window / "capture" / f"{NATIVE}.gz").read_bytes()) == native_file.read_bytes()


def test_native_files_go_where_the_run_was_told_not_to_keep_them(
    tmp_path: Path, native_file: Path, exporter: CountingExporter
) -> None:
    folder = tmp_path / "run" / "plugins" / "profkit"
    window = Window("pytorch", 0, 2, 4, NATIVE, "kineto", 0)
    append(folder / "capture" / MAIN, start(keep_capture=False), *steps(8), window, End("finished", 0))
    shutil.copy(native_file, folder / "capture" / NATIVE)
    finalise(folder)
    assert [path.suffix for path in (folder / "capture").iterdir()] == [SUFFIX]


@pytest.mark.parametrize("content", [b"", b'{"traceEvents": [', b"\x1f\x8b broken", None])
def test_a_window_that_cannot_be_converted_costs_a_note_and_nothing_else(
    with_window: Path, content: bytes | None, exporter: CountingExporter
) -> None:
    native = with_window / "capture" / NATIVE
    native.unlink() if content is None else native.write_bytes(content)
    info = finalise(with_window)
    assert any(note.startswith("window 0 could not be turned into a trace") for note in info.notes)
    assert read_json(with_window / "run" / "rank=0.json", RunInfo).notes == info.notes
    assert read_json(with_window / "summary" / "rank=0.json", Report).steps == 8
    assert native.exists() == (content is not None)
    assert len(exporter.runs) == 1


def test_every_window_has_a_summary_of_its_own(
    with_window: Path, native_file: Path, exporter: CountingExporter
) -> None:
    second = NATIVE.replace("window-0", "window-1")
    shutil.copy(native_file, with_window / "capture" / second)
    append(with_window / "capture" / MAIN, Window("pytorch", 1, 5, 7, second, "kineto", 0))
    finalise(with_window)
    windows = [read_json(with_window / "summary" / f"window={w}" / "rank=0.json", Report) for w in (0, 1)]
    assert [report.windows for report in windows] == [1, 1]
    assert read_json(with_window / "summary" / "rank=0.json", Report).windows == 2


def test_an_export_that_fails_is_noted_and_not_tried_again(with_window: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    exporter = install(monkeypatch, CountingExporter(fails=RuntimeError("planted")))
    info = finalise(with_window)
    assert info.notes == ["the tensorboard export failed: RuntimeError: planted"]
    assert finalise(with_window) == info
    assert len(exporter.runs) == 1


def test_an_analysis_that_fails_leaves_the_tables_and_a_note(
    with_window: Path, monkeypatch: pytest.MonkeyPatch, exporter: CountingExporter
) -> None:
    def fail(run: Run) -> Report:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(summary, "report", fail)
    info = finalise(with_window)
    assert info.notes == ["the analysis failed: ZeroDivisionError: planted"]
    assert read_table(with_window / "steps" / "rank=0.parquet", STEPS).height == 8
    assert (with_window / "trace" / "window=0" / "rank=0" / "meta.json").exists()


def test_who_is_killed_on_the_way_leaves_the_work_to_the_next_one(
    with_window: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(monkeypatch, CountingExporter(fails=KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        finalise(with_window)
    exporter = install(monkeypatch, CountingExporter())
    assert finalise(with_window).ended == "finished"
    assert len(exporter.runs) == 1
    assert not list(with_window.rglob("*.part"))


def test_what_was_captured_after_finalising_is_not_lost_and_not_exported_twice(
    with_window: Path, exporter: CountingExporter
) -> None:
    finalise(with_window)
    append(with_window / "capture" / MAIN, Note("a late word", 5))
    assert finalise(with_window).notes == ["a late word"]
    assert read_json(with_window / "run" / "rank=0.json", RunInfo).notes == ["a late word"]
    assert len(exporter.runs) == 1


def test_callers_at_the_same_time_do_the_work_once(with_window: Path, exporter: CountingExporter) -> None:
    with ThreadPoolExecutor(4) as pool:
        infos = list(pool.map(finalise, [with_window] * 4))
    assert infos == [infos[0]] * 4
    assert len(exporter.runs) == 1


def test_the_state_is_no_secret(with_window: Path, exporter: CountingExporter) -> None:
    finalise(with_window)
    state = json.loads((with_window / "finalised" / "rank=0.json").read_bytes())
    sizes = {path.name: path.stat().st_size for path in (with_window / "capture").glob(f"*{SUFFIX}")}
    assert state == {"capture_bytes": sizes, "exported": True}


@pytest.fixture
def no_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "100")


def test_the_closing_text_is_the_verdict(with_window: Path, exporter: CountingExporter, no_colour: None) -> None:
    finalise(with_window)
    text = closing_text(with_window)
    assert read_json(with_window / "summary" / "rank=0.json", Report).headline in text
    assert "\x1b" not in text


@pytest.mark.parametrize("finish", [True, False])
def test_the_closing_text_is_one_line_where_there_is_no_verdict(
    profkit_folder: Path, exporter: CountingExporter, finish: bool
) -> None:
    append(profkit_folder / "capture" / MAIN, End("KeyboardInterrupt", 5))
    if finish:
        finalise(profkit_folder)
    text = closing_text(profkit_folder)
    assert str(profkit_folder.parents[1]) in text
    assert len(text.splitlines()) == 1
    assert ("KeyboardInterrupt after step 7" in text) == finish


# --- many ranks


@pytest.fixture
def two_ranks(tmp_path: Path) -> Path:
    """A run of two ranks, both of which have ended."""
    folder = tmp_path / "runs" / "20260101T000000Z-abc123" / "plugins" / "profkit"
    for rank in (0, 1):
        name = f"{HOST}-{rank}-{7 + rank}-00000000{SUFFIX}"
        end = End("finished", LONG_AGO_NS + 8 * STEP_NS)
        append(folder / "capture" / name, start(rank=rank, world_size=2), *steps(8), end)
    return folder


def test_the_last_rank_to_be_finalised_compares_them_all(two_ranks: Path, exporter: CountingExporter) -> None:
    assert finalise(two_ranks, 0).rank == 0
    first = RankFolder(two_ranks, 0)
    assert read_json(first.summary, Report).ranks is None
    assert not first.ranks_state.exists()
    assert finalise(two_ranks, 1).rank == 1
    found = read_json(first.summary, Report).ranks
    assert found is not None
    assert ([row.rank for row in found.rows], found.missing, found.world_size) == ([0, 1], [], 2)
    assert [run.info.rank for run in exporter.runs] == [0, 1, 0]
    finalise(two_ranks, 1)
    assert len(exporter.runs) == 3


def test_a_rank_that_never_came_is_missing_once_the_others_have_ended(
    two_ranks: Path, exporter: CountingExporter
) -> None:
    next(two_ranks.glob("capture/*-1-8-*")).unlink()
    assert finalise_ranks(two_ranks) == (0,)
    assert not RankFolder(two_ranks, 0).ranks_state.exists()
    run = load(two_ranks.parents[1])
    found = ranks_of(two_ranks.parents[1], run, "serial")
    assert found is not None
    assert found.missing == [1]


def test_nobody_waits_for_ranks_that_do_not_record(two_ranks: Path) -> None:
    next(two_ranks.glob("capture/*-1-8-*")).unlink()
    begun = time.monotonic()
    wait_for_ranks(two_ranks, 2)
    assert time.monotonic() - begun < 1
