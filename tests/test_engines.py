"""Ranks are analysed by the same function wherever it runs, and a rank that fails costs itself alone."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest

from profkit.analysis.rankpart import RankPart
from profkit.analysis.ranks import compare
from profkit.cli.main import main
from profkit.engines import fanout
from profkit.engines.answers import Tasks, serially
from profkit.engines.fanout import rank_parts
from profkit.errors import MissingDependency, UsageError
from profkit.runfolder import PROFKIT_FOLDER, RankFolder
from tests.local_cluster import local_cluster
from tests.needs import needs
from tests.programs import printed
from tests.synthetic_ranks import straggler_of, write_run
from tests.traces import op, step, written

RANKS, SPANS = 48, 5_000
FEW, DAMAGED = 10, 5  # ranks of the runs that faults are planted in, and the one it is planted in

# What a program can be made to do for one rank, by a module that Python imports when it starts.
AT_RANK = """
import os, signal, time
from profkit.analysis import rankpart
_whole = rankpart.rank_part
def _planted(run):
    {fault}
    return _whole(run)
rankpart.rank_part = _planted
"""
BROKEN_POOL = "import os, sys; 'profkit.engines' in sys.orig_argv and os._exit(3)"
OTHER_PROFKIT = """
import importlib.metadata as m
_version = m.version
def _planted(name):
    if name == "profkit":
        {version}
    return _version(name)
m.version = _planted
"""
IMPATIENT = "from profkit.engines import cluster; cluster.CONNECT_S = 1.0"
KILLED = f"run.info.rank == {DAMAGED} and os.kill(os.getpid(), signal.SIGKILL)"

Report = dict[str, Any]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of many ranks."""
    return write_run(tmp_path_factory.mktemp("runs") / "whole", RANKS, SPANS)


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of few ranks, nothing wrong with it."""
    return write_run(tmp_path_factory.mktemp("runs") / "few", FEW, SPANS)


@pytest.fixture
def damaged(tmp_path: Path) -> Path:
    """A run of few ranks, of which one was cut short on disk."""
    run = write_run(tmp_path / "damaged", FEW, SPANS)
    spans = RankFolder(run / PROFKIT_FOLDER, DAMAGED).trace(0) / "spans.parquet"
    spans.write_bytes(spans.read_bytes()[:1000])
    return run


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a cluster of two worker processes."""
    with local_cluster(2, tmp_path_factory.mktemp("dask")) as address:
        yield address


@pytest.fixture
def planted(tmp_path: Path) -> Callable[[str], Path]:
    """A folder for PYTHONPATH with which every Python runs the code as it starts."""

    def plant(code: str) -> Path:
        (tmp_path / "planted").mkdir()
        (tmp_path / "planted" / "sitecustomize.py").write_text(code)
        return tmp_path / "planted"

    return plant


def report(place: Path, *options: str, python_path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """`profkit report PLACE --json` in a process of its own."""
    path = os.pathsep.join(filter(None, [str(python_path or ""), os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-m", "profkit", "report", str(place), "--json", *options],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
    )


def reported(place: Path, *options: str, python_path: Path | None = None) -> Report:
    """What it says of the ranks."""
    ended = report(place, *options, python_path=python_path)
    assert ended.returncode == 0, ended.stderr
    ranks: Report = json.loads(ended.stdout)["ranks"]
    return ranks


def digests(place: Path, engine: str, *scheduler: str) -> list[str]:
    """Of each part in order of ranks, then of the comparison of the parts as they came."""
    return printed("rank_digests", place, RANKS, engine, *scheduler)


@needs("distributed")
def test_every_engine_gives_the_same_parts_and_the_same_comparison(whole: Path, scheduler: str) -> None:
    serial = digests(whole, "serial")
    assert len(set(serial)) == RANKS + 1
    assert digests(whole, "processes") == serial
    assert digests(whole, "dask", scheduler) == serial


def test_the_rank_that_is_late_is_found_among_many(whole: Path) -> None:
    ranks = reported(whole, "--engine", "processes")
    assert [late["rank"] for late in ranks["stragglers"]] == [straggler_of(RANKS)]
    assert ranks["stragglers"][0]["cause"] == "input"
    assert (ranks["missing"], ranks["notes"], len(ranks["rows"])) == ([], [], RANKS)


@needs("distributed")
def test_the_command_says_the_same_with_a_cluster(few: Path, scheduler: str) -> None:
    alone = report(few, "--engine", "serial")
    together = report(few, "--engine", "dask", "--scheduler", scheduler)
    assert (together.returncode, together.stderr) == (0, "")
    assert together.stdout == alone.stdout


@needs("distributed")
@pytest.mark.parametrize("engine", ["serial", "processes", "dask"])
def test_a_rank_that_cannot_be_read_costs_itself_alone(damaged: Path, scheduler: str, engine: str) -> None:
    options = ["--engine", engine, *(["--scheduler", scheduler] if engine == "dask" else [])]
    ranks = reported(damaged, *options)
    assert [row["rank"] for row in ranks["rows"]] == [rank for rank in range(FEW) if rank != DAMAGED]
    assert ranks["missing"] == [DAMAGED]
    assert any(note.startswith(f"Rank {DAMAGED} could not be read: UnreadableTrace: ") for note in ranks["notes"])


def test_a_rank_whose_process_dies_costs_itself_alone(few: Path, planted: Callable[[str], Path]) -> None:
    ranks = reported(few, "--engine", "processes", python_path=planted(AT_RANK.format(fault=KILLED)))
    assert ranks["missing"] == [DAMAGED]
    ended = f"Rank {DAMAGED} could not be read: the process that worked on it ended with SIGKILL"
    assert ended in ranks["notes"]


@needs("distributed")
def test_a_rank_that_kills_every_worker_of_a_cluster_costs_itself_alone(
    few: Path, planted: Callable[[str], Path], tmp_path: Path
) -> None:
    with local_cluster(2, tmp_path, planted(AT_RANK.format(fault=KILLED))) as address:
        ranks = reported(few, "--engine", "dask", "--scheduler", address)
    assert ranks["missing"] == [DAMAGED]
    assert f"Rank {DAMAGED} could not be read: every worker that was given it died" in ranks["notes"]


def test_processes_that_cannot_begin_are_no_ranks_fault(few: Path, planted: Callable[[str], Path]) -> None:
    ended = report(few, "--engine", "processes", python_path=planted(BROKEN_POOL))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "profkit: a process of the pool ended with exit code 3 before it could begin\n"


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)])
def test_no_process_outlives_the_command(
    few: Path, planted: Callable[[str], Path], sent: signal.Signals, code: int
) -> None:
    """Interrupted, it ends them; killed, they notice."""
    command = [sys.executable, "-m", "profkit", "report", str(few), "--engine", "processes"]
    path = os.pathsep.join([str(planted(AT_RANK.format(fault="time.sleep(1)"))), os.environ.get("PYTHONPATH", "")])
    with subprocess.Popen(command, env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE) as process:
        pool = _children(process.pid)
        process.send_signal(sent)
        assert process.wait(20) == code
        assert process.stderr
        assert process.stderr.read() == b""
    _, alive = psutil.wait_procs(pool, timeout=20)
    assert not alive


def _children(pid: int) -> list[psutil.Process]:
    """The pool of the command, once there is one and it is at work."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pool = psutil.Process(pid).children()
        if pool and all(child.cpu_times().user > 0.2 for child in pool):
            return pool
        time.sleep(0.05)
    raise AssertionError("no process of the pool ever worked")


def test_whoever_takes_no_more_parts_leaves_no_process(few: Path) -> None:
    parts = rank_parts(few, range(FEW), "processes")
    assert isinstance(next(parts), RankPart)
    assert psutil.Process().children()
    parts.close()  # type: ignore[attr-defined]
    # nothing_left_behind looks for the rest


@needs("distributed")
def test_a_cluster_that_does_not_answer_is_said_soon(few: Path, planted: Callable[[str], Path]) -> None:
    begun = time.monotonic()
    ended = report(few, "--engine", "dask", "--scheduler", "tcp://127.0.0.1:1", python_path=planted(IMPATIENT))
    assert time.monotonic() - begun < 15
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"profkit: no dask scheduler answers at tcp://127\.0\.0\.1:1: [^\n]+\n", ended.stderr)


@needs("distributed")
def test_a_cluster_without_a_worker_is_said(few: Path, planted: Callable[[str], Path], tmp_path: Path) -> None:
    with local_cluster(0, tmp_path) as address:
        ended = report(few, "--engine", "dask", "--scheduler", address, python_path=planted(IMPATIENT))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == "profkit: no worker joined the cluster within 1 s\n"


@needs("distributed")
@pytest.mark.parametrize(
    ("version", "has"), [("return '0.0.9'", "profkit 0.0.9"), ("raise m.PackageNotFoundError(name)", "no profkit")]
)
def test_workers_with_another_profkit_are_refused(
    few: Path, planted: Callable[[str], Path], tmp_path: Path, version: str, has: str
) -> None:
    with local_cluster(1, tmp_path, planted(OTHER_PROFKIT.format(version=version))) as address:
        ended = report(few, "--engine", "dask", "--scheduler", address)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(rf"profkit: the worker at tcp://[\d.:]+ has {has}: install [^\n]+\n", ended.stderr)


def test_dask_is_asked_for_by_name_only(few: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    assert len(list(rank_parts(few, [0], "auto"))) == 1
    with pytest.raises(MissingDependency, match=r"pip install 'profkit\[dask\]'"):
        list(rank_parts(few, [0], "dask", "tcp://127.0.0.1:1"))


@pytest.mark.parametrize(
    ("engine", "scheduler", "said"),
    [
        ("dask", None, "needs the address of a scheduler"),
        ("processes", "tcp://127.0.0.1:1", "only the engine dask has a scheduler"),
        ("spark", None, "no engine 'spark'; there are auto, serial, processes, dask"),
    ],
)
def test_what_cannot_be_meant_is_refused(few: Path, engine: str, scheduler: str | None, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        list(rank_parts(few, [0], engine, scheduler))


def test_a_trace_of_one_process_starts_no_engine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trace = written(tmp_path, [step(1, 0, 1000), op("aten::mm", 5, 990)])
    assert main(["report", str(trace), "--json", "--engine", "dask", "--scheduler", "tcp://127.0.0.1:1"]) == 0
    assert json.loads(capsys.readouterr().out)["ranks"] is None


def test_exports_carry_the_ranks(few: Path, tmp_path: Path) -> None:
    assert main(["export", str(few), "--to", "json", "--output", str(tmp_path)]) == 0
    [exported] = [json.loads(path.read_text()) for path in tmp_path.rglob("*report*.json")]
    assert len(exported["ranks"]["rows"]) == FEW


@pytest.mark.parametrize(("ranks", "starts"), [(fanout.FEW, False), (fanout.FEW + 1, True)])
def test_a_few_ranks_are_not_worth_starting_processes(
    few: Path, monkeypatch: pytest.MonkeyPatch, ranks: int, starts: bool
) -> None:
    started: list[int] = []

    def start(tasks: Tasks) -> Iterator[bytes]:
        started.append(len(tasks))
        return serially(tasks)

    monkeypatch.setattr(fanout, "usable_cpus", lambda: 2)
    monkeypatch.setattr(fanout, "in_processes", start)
    assert len(list(rank_parts(few, range(ranks)))) == ranks
    assert started == ([ranks] if starts else [])


def test_the_comparison_does_not_depend_on_the_order_of_the_parts(few: Path) -> None:
    parts = list(rank_parts(few, range(FEW), "serial"))
    assert msgspec.msgpack.encode(compare(parts)) == msgspec.msgpack.encode(compare(parts[::-1]))
