"""Which rank a process is, and that the ranks of one job share a run folder while nobody else joins it."""

from __future__ import annotations

import json
import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from profkit import jobs
from profkit.errors import UsageError
from profkit.jobs import Place, new_folder, place
from profkit.runfolder import PROFKIT_FOLDER, RankFolder, rank_of_capture, recorded_ranks

CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
LAUNCHED = {
    "torchrun": ({"RANK": "3", "WORLD_SIZE": "8", "MASTER_ADDR": "here", "MASTER_PORT": "29500"}, 3, 8),
    "slurm": ({"SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "77"}, 2, 4),
    "open mpi": ({"OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "2"}, 1, 2),
    "mpich": ({"PMI_RANK": "1", "PMI_SIZE": "3"}, 1, 3),
    "tf worker": ({"TF_CONFIG": json.dumps({"cluster": CLUSTER, "task": {"type": "worker", "index": 1}})}, 2, 3),
    "tf chief": ({"TF_CONFIG": json.dumps({"cluster": CLUSTER, "task": {"type": "chief", "index": 0}})}, 0, 3),
}


@pytest.fixture(autouse=True)
def no_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for pair in jobs.RANK_VARIABLES for name in pair]
    for name in (*names, *jobs.JOB_VARIABLES, "TF_CONFIG"):
        monkeypatch.delenv(name, raising=False)


def set_all(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str]) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)


def captured(folder: Path, rank: int) -> None:
    (folder / PROFKIT_FOLDER / "capture" / f"node-7-{rank}-{os.getpid()}-0123abcd.pkrec").touch()


@pytest.mark.parametrize("launcher", LAUNCHED)
def test_launchers_say_the_rank(launcher: str, monkeypatch: pytest.MonkeyPatch) -> None:
    variables, rank, world_size = LAUNCHED[launcher]
    set_all(monkeypatch, variables)
    found = place()
    assert (found.rank, found.world_size) == (rank, world_size)
    assert found.key


def test_a_process_alone_is_rank_0_of_1() -> None:
    assert place() == Place(0, 1, "")


@pytest.mark.parametrize(
    "variables",
    [
        {"RANK": "x", "WORLD_SIZE": "2"},
        {"RANK": "1"},
        {"RANK": "0", "WORLD_SIZE": "1"},
        {"TF_CONFIG": "no json"},
        {"TF_CONFIG": "[]"},
        {"TF_CONFIG": json.dumps({"cluster": CLUSTER, "task": {"type": "ps", "index": 0}})},
    ],
)
def test_what_says_no_rank_is_a_process_alone(variables: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    set_all(monkeypatch, variables)
    assert place() == Place()


def test_all_ranks_of_a_job_have_one_key_and_other_jobs_another(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = set()
    for port in ("29500", "29501"):
        for rank in ("0", "1"):
            set_all(monkeypatch, {"RANK": rank, "WORLD_SIZE": "2", "MASTER_ADDR": "here", "MASTER_PORT": port})
            keys.add(place().key)
    assert len(keys) == 2


def test_ranks_that_come_at_once_share_one_folder(tmp_path: Path) -> None:
    def joined(rank: int) -> Path:
        return new_folder(tmp_path / "runs", Place(rank, 8, "job"))

    with ThreadPoolExecutor(8) as pool:
        folders = set(pool.map(joined, range(8)))
    assert len(folders) == 1
    assert (folders.pop() / PROFKIT_FOLDER / "capture").is_dir()


def test_the_next_run_of_the_same_job_has_a_folder_of_its_own(tmp_path: Path) -> None:
    first = new_folder(tmp_path, Place(0, 2, "job"))
    captured(first, 0)
    assert new_folder(tmp_path, Place(1, 2, "job")) == first
    captured(first, 1)
    second = new_folder(tmp_path, Place(1, 2, "job"))
    assert second != first
    captured(second, 1)
    assert new_folder(tmp_path, Place(0, 2, "job")) == second


def test_another_job_and_a_process_alone_do_not_join(tmp_path: Path) -> None:
    first = new_folder(tmp_path, Place(0, 2, "job"))
    assert new_folder(tmp_path, Place(1, 2, "another")) != first
    assert new_folder(tmp_path, Place()) != first


def test_nobody_joins_a_folder_of_yesterday(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A launcher that gives every job the same port and name."""
    first = new_folder(tmp_path, Place(0, 2, "job"))
    captured(first, 0)
    day_s = 86_400
    tomorrow_s = time.time() + day_s
    monkeypatch.setattr(time, "time", lambda: tomorrow_s)
    assert new_folder(tmp_path, Place(1, 2, "job")) != first


def test_a_log_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for size in (1, 2):
        with pytest.raises(UsageError, match="choose another log folder"):
            new_folder(tmp_path / "file" / "runs", Place(0, size, "job"))


@pytest.mark.parametrize(
    ("name", "rank"),
    [
        ("host-3-4711-0123abcd.pkrec", 3),
        ("host-1-2-12-4711-0123abcd-worker.pkrec", 12),
        ("a-5-0-7-ffffffff-sidecar.pkrec", 0),
        ("main-7.pkrec", 0),
    ],
)
def test_the_rank_stands_in_a_capture_files_name(name: str, rank: int) -> None:
    assert rank_of_capture(name) == rank


def test_recorded_ranks_are_those_with_captures_or_tables(tmp_path: Path) -> None:
    folder = new_folder(tmp_path, Place(0, 4, "job"))
    for rank in (11, 2):
        captured(folder, rank)
    own = RankFolder(folder / PROFKIT_FOLDER, 3)
    own.info.parent.mkdir()
    own.info.touch()
    assert recorded_ranks(folder / PROFKIT_FOLDER) == (2, 3, 11)
    assert [path.name for path in RankFolder(folder / PROFKIT_FOLDER, 11).capture_files()] == [
        f"node-7-11-{os.getpid()}-0123abcd.pkrec"
    ]
