"""Trainings of two ranks, started as users start them: one run holds both ranks, and neither trains anything else."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from profkit.analysis.report import Report, Straggler
from profkit.capture import read_capture
from profkit.cli.report import judged
from profkit.runfolder import PROFKIT_FOLDER, rank_of_capture
from profkit.trace.load import load
from profkit.trace.model import Run, Trace
from tests.distributed_training import ACTIVE, BATCHES, DIES_IN, RANKS, SHIFT_NS, SKIPPED, SLOW_MS, WARMUP
from tests.programs import ROOT

LIMIT_S = 240
ATTEMPTS = 3
JOBS = {
    "plain": "torch",
    "ddp": "torch",
    "fsdp2": "torch",
    "shifted": "torch",
    "slow_loader": "torch",
    "healthy": "torch",
    "accelerate": "hugging_face",
    "trainer": "hugging_face",
    "tf_multi_worker": "tensorflow",
}
TRAININGS = ("plain", "ddp", "fsdp2", "accelerate", "trainer", "tf_multi_worker")
COMPARED = ("plain", "ddp", "fsdp2", "accelerate", "trainer")  # in these jobs there is a store to compare clocks by


def started(arguments: Sequence[object], log: Path, **environment: str) -> subprocess.Popen[bytes]:
    """A process that runs python with these arguments, where the tests can be imported."""
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
    with log.open("ab") as output:
        return subprocess.Popen(
            [sys.executable, "-W", "ignore", *map(str, arguments)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **environment},
            stdout=output,
            stderr=subprocess.STDOUT,
        )


def torchrun(folder: Path, *trainings: str) -> int:
    """One launcher, which starts both ranks; its exit code."""
    launcher = ("-m", "torch.distributed.run", "--standalone", "--local-addr=127.0.0.1", f"--nproc-per-node={RANKS}")
    job = started([*launcher, "-m", "tests.distributed_training", folder, *trainings], folder / "log")
    return ended([job])[0]


def by_hand(folder: Path, training: str) -> list[int]:
    """Two processes that find each other by what their environment says; their exit codes."""
    place = {"WORLD_SIZE": str(RANKS), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_ports(1)[0])}
    program = ("-m", "tests.distributed_training", folder, training)
    return ended([started(program, folder / f"log-{rank}", RANK=str(rank), **place) for rank in range(RANKS)])


def tensorflow_workers(folder: Path, training: str) -> list[int]:
    """Two workers of tf.distribute; their exit codes."""
    workers = [f"127.0.0.1:{port}" for port in free_ports(RANKS)]
    places = [{"cluster": {"worker": workers}, "task": {"type": "worker", "index": rank}} for rank in range(RANKS)]
    program = ("-m", "tests.distributed_training", folder, training)
    logs = [folder / f"log-{rank}" for rank in range(RANKS)]
    return ended([started(program, log, TF_CONFIG=json.dumps(place)) for log, place in zip(logs, places, strict=True)])


def ended(processes: list[subprocess.Popen[bytes]]) -> list[int]:
    """Wait for them; what hangs is ended, and so is what is left when one has been aborted."""
    until_s = time.monotonic() + LIMIT_S
    while None in (codes := [process.poll() for process in processes]):
        if -signal.SIGABRT in codes or time.monotonic() > until_s:
            break
        time.sleep(0.05)
    for process in processes:
        process.kill()
    return [process.wait() for process in processes]


def free_ports(count: int) -> list[int]:
    with ExitStack() as opened:
        sockets = [opened.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclass(frozen=True)
class Trained:
    """What a training left behind. `weights`: of each rank hashes without profkit, with it, and without again."""

    folder: Path
    weights: list[list[str]]

    @property
    def capture(self) -> Path:
        return self.folder / PROFKIT_FOLDER / "capture"

    def ranks(self) -> Iterator[Run]:
        run = load(self.folder)
        return (run.of_rank(rank) for rank in range(RANKS))

    def traces(self) -> Iterator[Trace]:
        for run in self.ranks():
            [trace] = run.traces
            yield trace


@pytest.fixture(scope="session")
def jobs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The folders of the jobs that were run already."""
    return {}


def done_job(job: str, folders: pytest.TempPathFactory) -> Path:
    """Do its trainings. Once in some dozens of windows TensorFlow 2.21 frees something twice when its profiler is
    stopped in such a job, without profkit as well (docs/distributed.md): that job is done again."""
    for _ in range(ATTEMPTS if job == "tensorflow" else 1):
        folder = folders.mktemp(job)
        trainings = [name for name in JOBS if JOBS[name] == job]
        codes = tensorflow_workers(folder, *trainings) if job == "tensorflow" else [torchrun(folder, *trainings)]
        if -signal.SIGABRT not in codes:
            break
    assert not any(codes), "\n".join(log.read_text() for log in folder.glob("log*"))
    return folder


@pytest.fixture
def trained(training: str, jobs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """A training, done together with the others of its job when the first of them is asked for."""
    job = JOBS[training]
    if job not in jobs:
        jobs[job] = done_job(job, tmp_path_factory)
    results = [json.loads((jobs[job] / f"rank-{rank}.json").read_text())[training] for rank in range(RANKS)]
    [folder] = {result["folder"] for result in results}  # both ranks recorded into the same one
    return Trained(jobs[job] / training / folder, [result["weights"] for result in results])


def report_on(folder: Path) -> Report:
    return judged(folder)[0]


@pytest.mark.parametrize("training", TRAININGS)
def test_one_run_holds_every_rank(trained: Trained) -> None:
    assert [path for path in trained.folder.parent.iterdir() if path.is_dir()] == [trained.folder]
    assert load(trained.folder).ranks == tuple(range(RANKS))
    for rank, run in enumerate(trained.ranks()):
        info = run.info
        assert (info.rank, info.world_size, info.ended, info.notes) == (rank, RANKS, "finished", [])
        assert run.steps["number"].to_list() == list(range(BATCHES))
        assert sum(run.steps["batches"]) >= BATCHES


@pytest.mark.parametrize("training", TRAININGS)
def test_each_rank_has_one_capture_and_one_sidecar(trained: Trained) -> None:
    names = [path.stem for path in trained.capture.glob("*.pkrec")]
    sidecars = [name for name in names if name.endswith("-sidecar")]
    trainings = [name for name in names if not name.endswith(("-sidecar", "-worker"))]
    for files in (sidecars, trainings):
        assert sorted(rank_of_capture(f"{name}.pkrec") for name in files) == list(range(RANKS))
    for run in trained.ranks():
        assert run.counters.height > 0  # what the sidecar sampled


@pytest.mark.parametrize("training", TRAININGS)
def test_all_ranks_recorded_the_same_window(trained: Trained) -> None:
    first = SKIPPED + WARMUP
    for rank, run in enumerate(trained.ranks()):
        windows = read_capture(trained.capture, rank).windows
        assert [(window.window, window.first, window.last) for window in windows] == [(0, first, first + ACTIVE - 1)]
        recorded = run.steps.filter(run.steps["window"] == 0)
        assert recorded["number"].to_list() == list(range(first, first + ACTIVE))
    assert [trace.info.rank for trace in trained.traces()] == list(range(RANKS))


@pytest.mark.parametrize("training", TRAININGS)
def test_collectives_are_in_the_trace_of_every_rank(trained: Trained) -> None:
    for trace in trained.traces():
        communication = trace.spans.filter(trace.spans["op_class"] == "communication")
        assert communication.height >= ACTIVE


@pytest.mark.parametrize("training", TRAININGS)
def test_the_ranks_are_compared(trained: Trained) -> None:
    ranks = report_on(trained.folder).ranks
    assert ranks is not None
    assert (ranks.world_size, ranks.missing) == (RANKS, [])
    assert [(row.rank, row.steps) for row in ranks.rows] == [(rank, ACTIVE) for rank in range(RANKS)]
    assert all(row.collectives > 0 for row in ranks.rows)


@pytest.mark.parametrize("training", TRAININGS)
def test_final_weights_are_bit_identical_with_and_without(trained: Trained) -> None:
    for before, recorded, again in trained.weights:
        assert again == before, "the training itself cannot be repeated"
        assert recorded == before


@pytest.mark.parametrize("training", COMPARED)
def test_ranks_of_one_machine_have_one_clock(trained: Trained) -> None:
    first, second = (run.info for run in trained.ranks())
    assert (first.clock_offset_ns, first.clock_uncertainty_ns) == (0, 0)
    assert second.clock_uncertainty_ns is not None
    assert abs(second.clock_offset_ns) <= second.clock_uncertainty_ns < SHIFT_NS


@pytest.mark.parametrize("training", ["shifted"])
def test_a_clock_that_is_ahead_is_measured_within_the_stated_uncertainty(trained: Trained) -> None:
    _, second = (run.info for run in trained.ranks())
    assert second.clock_uncertainty_ns is not None
    assert abs(second.clock_offset_ns + SHIFT_NS) <= second.clock_uncertainty_ns < SHIFT_NS
    measured = read_capture(trained.capture, 1).clock_offsets
    assert len(measured) >= 2  # when the group was found, and around the window
    assert all(abs(one.offset_ns + SHIFT_NS) <= one.uncertainty_ns for one in measured)


@pytest.mark.parametrize("training", ["tf_multi_worker"])
def test_without_a_store_no_offset_is_claimed(trained: Trained) -> None:
    for run in trained.ranks():
        assert (run.info.clock_offset_ns, run.info.clock_uncertainty_ns) == (0, None)


@pytest.mark.parametrize("training", ["slow_loader"])
def test_a_slow_loader_of_one_rank_is_named(trained: Trained) -> None:
    result = report_on(trained.folder)
    assert result.ranks is not None
    [late] = result.ranks.stragglers
    assert (late.rank, late.cause) == (1, "input")
    assert late.costs_ns >= 0.5e6 * SLOW_MS
    assert "Rank 1 is late" in result.headline
    assert "DataLoader" in result.headline + "".join(finding.message for finding in result.findings)


@pytest.mark.parametrize("training", ["healthy"])
def test_ranks_that_keep_step_have_no_straggler_among_them(
    trained: Trained, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A machine that does something else for a moment delays a rank as well: what is wrong is wrong each time."""
    late = stragglers_in(trained.folder)
    for _ in range(ATTEMPTS - 1):
        if not late:
            break
        folder = tmp_path_factory.mktemp("healthy")
        assert torchrun(folder, "healthy") == 0
        [again] = [path for path in (folder / "healthy").iterdir() if path.is_dir()]
        late = stragglers_in(again)
    assert late == []


def stragglers_in(folder: Path) -> list[Straggler]:
    ranks = report_on(folder).ranks
    assert ranks is not None
    return ranks.stragglers


@pytest.mark.parametrize("launch", [by_hand, torchrun])
def test_a_rank_that_is_killed_takes_nothing_of_what_was_recorded_with_it(launch: Any, tmp_path: Path) -> None:
    codes = launch(tmp_path, "dying")
    assert codes not in (0, [0, 0])
    [folder] = [path for path in (tmp_path / "dying").iterdir() if path.is_dir()]
    run = load(folder)
    assert run.ranks == (0, 1)
    survivor, killed = run.of_rank(0), run.of_rank(1)
    assert killed.info.ended == "without notice"
    assert survivor.info.ended not in ("finished", "running")  # its collective failed, or torchrun ended it
    for rank in (survivor, killed):
        assert rank.steps["number"].to_list() == list(range(DIES_IN))
        assert len(rank.traces) == 1 and rank.traces[0].info.source == "kineto"
    result = report_on(folder)
    assert result.state == survivor.info.ended
    assert result.ranks is not None and result.ranks.missing == []
