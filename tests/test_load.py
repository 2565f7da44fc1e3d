"""`profkit.load` opens a run in whatever state it is, one of its traces, and anybody's file."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

import profkit
from profkit.errors import UnreadableTrace
from profkit.records import End, Start, Step, Wait
from profkit.trace.batch import ReadContext
from profkit.trace.load import read_native
from profkit.trace.store import write_trace
from tests.captured import append
from tests.traces import op, step, wait, written

MS = 1_000_000


def a_run(logdir: Path, name: str = "20260101T000000Z-abc123", time_ns: int = MS, ended: bool = True) -> Path:
    """A run folder as a training leaves it: ten steps of 10 ms, each waiting for 4."""
    begin = Start(1, 0, 1, "host", time_ns, "train.py", "3.11", "0.1.0", (5, 0, 2, 5, 1), {}, 1)
    steps = [Step(n, n * 10 * MS, (n + 1) * 10 * MS, "marker") for n in range(10)]
    waits = [Wait(0, n * 10 * MS, 4 * MS, n == 0) for n in range(10)]
    records = [record for pair in zip(waits, steps, strict=True) for record in pair]
    end = [End("finished", 100 * MS)] if ended else []
    append(logdir / name / "plugins" / "profkit" / "capture" / "host-0-1-ab.pkrec", begin, *records, *end)
    return logdir / name


def test_a_run_folder_and_every_folder_of_it_are_the_run(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    for path in (folder, folder / "plugins" / "profkit", tmp_path):
        run = profkit.load(path)
        assert (run.folder, run.steps.height, run.info.ended) == (folder, 10, "finished")


def test_of_a_log_folder_the_newest_run_is_taken(tmp_path: Path) -> None:
    a_run(tmp_path, "20260101T000000Z-ffffff")
    newest = a_run(tmp_path, "20260102T000000Z-000000")
    assert profkit.load(tmp_path).folder == newest


def test_a_run_in_a_folder_that_cannot_be_written_is_read_from_its_capture(tmp_path: Path) -> None:
    folder = a_run(tmp_path)
    (folder / "plugins" / "profkit" / ".lock-0").mkdir()  # what opening a file to write fails at, for root as well
    run = profkit.load(folder)
    assert (run.steps.height, run.info.ended) == (10, "finished")
    assert not (folder / "plugins" / "profkit" / "run" / "rank=0.json").exists()


def test_a_run_that_goes_on_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    folder = a_run(tmp_path, time_ns=time.time_ns(), ended=False)
    run = profkit.load(folder)
    assert (run.steps.height, run.info.ended) == (10, "running")
    assert not (folder / "plugins" / "profkit" / "run" / "rank=0.json").exists()


def test_one_trace_of_a_run_is_a_run_of_its_own(tmp_path: Path) -> None:
    native = written(tmp_path, [step(4, 0, 100), wait(0, 40), op("aten::mm", 50, 30)])
    trace = read_native(native, "kineto", ReadContext())
    write_trace(trace, tmp_path / "trace" / "window=0" / "rank=0")
    run = profkit.load(tmp_path / "trace" / "window=0" / "rank=0")
    assert run.info.ended == "trace"
    assert run.traces[0].spans.equals(trace.spans)


def test_a_folder_without_a_run_gets_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTrace, match="holds no profkit run"):
        profkit.load(tmp_path)


def a_rank(folder: Path, name: str, rank: int | None) -> Path:
    """A trace file of one rank of two, which its head says, or nothing does."""
    said = {} if rank is None else {"distributedInfo": {"backend": "gloo", "rank": rank, "world_size": 2}}
    return written(folder, [step(1, 0, 100), op("aten::add", 10, 20)], **said).rename(folder / name)


def test_a_folder_of_trace_files_is_a_run_of_many_ranks(tmp_path: Path) -> None:
    a_rank(tmp_path, "a.pt.trace.json", 1)
    a_rank(tmp_path, "b.pt.trace.json", 0)
    (tmp_path / "notes.txt").write_text("no trace")
    run = profkit.load(tmp_path)
    assert (run.ranks, run.info.rank, run.info.script) == ((0, 1), 0, "b.pt.trace.json")
    assert run.of_rank(1).info.script == "a.pt.trace.json"
    assert run.of_rank(0) is run


@pytest.mark.parametrize(
    ("names", "ranks"),
    [(("rank3.json", "rank10.json"), (3, 10)), (("x.json", "y.json"), (0, 1)), (("crank7.json", "y.json"), (0, 1))],
)
def test_a_rank_the_file_does_not_say_is_told_by_its_name_or_place(
    names: tuple[str, ...], ranks: tuple[int, ...], tmp_path: Path
) -> None:
    for name in names:
        a_rank(tmp_path, name, None)
    run = profkit.load(tmp_path)
    assert run.ranks == ranks
    assert [run.of_rank(rank).info.rank for rank in ranks] == list(ranks)


def test_two_traces_of_one_rank_are_no_run(tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        a_rank(tmp_path, name, 1)
    with pytest.raises(UnreadableTrace, match=r"several traces of rank 1, a\.json and b\.json"):
        profkit.load(tmp_path)


def test_of_ranks_the_lowest_that_can_be_read_is_given(tmp_path: Path) -> None:
    (tmp_path / "rank0.json").write_text('{"traceEvents": [')
    a_rank(tmp_path, "rank1.json", 1)
    assert profkit.load(tmp_path).info.rank == 1
    (tmp_path / "rank1.json").write_text('{"traceEvents": [')
    with pytest.raises(UnreadableTrace):
        profkit.load(tmp_path)
