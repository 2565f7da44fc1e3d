"""`kill -9` of a real training at a random moment: the run opens, and no step that was finished is missing.

PROFKIT_KILLS sets how many moments are tried.
"""

import os
import random
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

import profkit
from profkit.analysis.summary import report
from profkit.cli.text import verdict
from profkit.trace.model import Run

KILLS = int(os.environ.get("PROFKIT_KILLS", "5"))
LIMIT_S = 60  # for what takes seconds; only a failure waits longer

TRAINING = """
import os, sys, time
import torch
import profkit
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
finished = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
model = torch.nn.Sequential(*[torch.nn.Linear(32, 32) for _ in range(4)])
optimizer = torch.optim.SGD(model.parameters(), 0.01)
loader = DataLoader(TensorDataset(torch.randn(64 * 50, 32)), 64)
with profkit.profile(sys.argv[1], schedule=profkit.schedule(skip_first=10, wait=20, warmup=2, active=30, repeat=0)):
    while True:
        for (batch,) in loader:
            optimizer.zero_grad()
            model(batch).pow(2).mean().backward()
            optimizer.step()
            os.write(finished, b".")  # what nothing but the kernel can lose
            time.sleep(0.002)
"""


@dataclass(frozen=True)
class Training:
    """A training under way, its sidecar, and the file with one byte per finished step."""

    process: psutil.Process
    sidecar: psutil.Process
    logdir: Path
    finished: Path

    def steps(self) -> int:
        return self.finished.stat().st_size if self.finished.exists() else 0


@contextmanager
def training(folder: Path) -> Iterator[Training]:
    logdir, finished = folder / "runs", folder / "finished"
    with (folder / "stderr").open("wb") as errors:
        process = subprocess.Popen([sys.executable, "-c", TRAINING, str(logdir), str(finished)], stderr=errors)
    until = time.monotonic() + LIMIT_S
    while not (finished.exists() and finished.stat().st_size >= 3):
        assert time.monotonic() < until and process.poll() is None, (folder / "stderr").read_text()
        time.sleep(0.01)
    (sidecar,) = psutil.Process(process.pid).children()
    try:
        yield Training(psutil.Process(process.pid), sidecar, logdir, finished)
    finally:
        with suppress(psutil.NoSuchProcess):
            sidecar.kill()
        process.kill()
        process.wait()


def wait_for_end(process: psutil.Process) -> None:
    try:
        pidfd = os.pidfd_open(process.pid)
    except ProcessLookupError:  # it has ended already
        return
    try:
        assert select.select([pidfd], [], [], LIMIT_S)[0], f"{process} did not end"
    finally:
        os.close(pidfd)


def assert_nothing_finished_is_missing(run: Run, finished: int) -> None:
    recorded = run.steps["number"].to_list()
    assert recorded == list(range(len(recorded)))
    assert finished <= len(recorded) <= finished + 1  # the last one may have been killed before it was counted
    assert run.info.ended == "without notice"
    judged = report(run)
    assert (judged.state, judged.last_step) == ("without notice", recorded[-1])
    assert f"ended without notice (killed) after step {recorded[-1]}." in verdict(judged, None, 100, False)


@pytest.mark.parametrize("kill", range(KILLS))
def test_a_training_killed_at_any_moment_loses_no_finished_step(kill: int, tmp_path: Path) -> None:
    with training(tmp_path) as killed:
        time.sleep(random.Random(kill).uniform(0, 2))
        killed.process.kill()
        wait_for_end(killed.sidecar)
        (folder,) = killed.logdir.iterdir()
        assert (folder / "plugins" / "profkit" / "run" / "rank=0.json").exists()
        assert_nothing_finished_is_missing(profkit.load(killed.logdir), killed.steps())


@pytest.mark.parametrize("kill", range(max(KILLS // 5, 1)))
def test_where_the_sidecar_is_killed_as_well_whoever_opens_the_run_finishes_it(kill: int, tmp_path: Path) -> None:
    with training(tmp_path) as killed:
        time.sleep(random.Random(kill).uniform(0, 2))
        killed.sidecar.kill()
        killed.process.kill()
        for process in (killed.sidecar, killed.process):
            wait_for_end(process)
        assert_nothing_finished_is_missing(profkit.load(killed.logdir), killed.steps())
