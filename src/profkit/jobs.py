"""Which rank of which job this process is, and the one run folder that the job's ranks share.

Launchers tell each process its rank in the environment; a process that was started by hand and joined a group of
torch.distributed is asked there. Ranks find each other's folder without talking: the first to come writes the job's
key into its new run folder, those that follow look for it. A lock in the log folder keeps them apart.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import secrets
import socket
import sys
import time
from calendar import timegm
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from profkit.errors import UsageError
from profkit.records import SUFFIX
from profkit.runfolder import PROFKIT_FOLDER, rank_of_capture

# Pairs of variables that say rank and number of processes: torchrun and its like, SLURM, Open MPI, MPICH and Intel MPI.
RANK_VARIABLES = (
    ("RANK", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),
    ("PMI_RANK", "PMI_SIZE"),
    ("SLURM_PROCID", "SLURM_NTASKS"),
)
# What is the same for all processes of one job, and differs from another job's.
JOB_VARIABLES = (
    *("TORCHELASTIC_RUN_ID", "TORCHELASTIC_RESTART_COUNT", "MASTER_ADDR", "MASTER_PORT"),
    *("SLURM_JOB_ID", "SLURM_STEP_ID", "PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"),
)
JOB_FILE, LOCK_FILE = "job", ".profkit.lock"
TOGETHER_S = 1_800  # ranks of a job begin their runs within this time
_NAME = re.compile(r"^(\d{8}T\d{6})Z-[0-9a-f]{6}$")
_TIME = "%Y%m%dT%H%M%S"


@dataclass(frozen=True, slots=True)
class Place:
    """A process in its job. `key` is the same text for all its ranks."""

    rank: int = 0
    world_size: int = 1
    key: str = ""


def place() -> Place:
    """Of this process; the only one of its job where nothing says otherwise."""
    environment = os.environ
    for found in (_from_torch(), _from_variables(environment), _from_tensorflow(environment)):
        if found is not None and found[1] > 1:
            return Place(*found, key=_key(environment))
    return Place()


def new_folder(logdir: Path, place: Place) -> Path:
    """The run's folder, new or the one that another rank of this job has made. Raises UsageError."""
    try:
        if place.world_size == 1:
            return _made(logdir)
        with _locked(logdir):
            joined = _folder_of_job(logdir, place)
            return _made(logdir, place.key) if joined is None else joined
    except OSError as error:
        raise UsageError(f"cannot write {logdir}: {error.strerror}; choose another log folder") from error


def _made(logdir: Path, key: str = "") -> Path:
    folder = logdir / f"{time.strftime(_TIME, time.gmtime())}Z-{secrets.token_hex(3)}"
    (folder / PROFKIT_FOLDER / "capture").mkdir(parents=True)
    if key:
        (folder / PROFKIT_FOLDER / JOB_FILE).write_text(key)
    return folder


def _folder_of_job(logdir: Path, place: Place) -> Path | None:
    """The newest folder of this job that this rank has no part in yet: a job may record several runs."""
    for folder in sorted(logdir.iterdir(), reverse=True):
        if not _is_recent(folder.name):
            continue
        with suppress(OSError):
            job = (folder / PROFKIT_FOLDER / JOB_FILE).read_text()
            if job == place.key and not _takes_part(folder, place.rank):
                return folder
    return None


def begun_together(name: str, other: str) -> bool:
    """Whether two run folders of these names may be one job's."""
    begun_s, other_s = _begun_s(name), _begun_s(other)
    return begun_s is not None and other_s is not None and abs(begun_s - other_s) < TOGETHER_S


def _is_recent(name: str) -> bool:
    begun_s = _begun_s(name)
    return begun_s is not None and time.time() - begun_s < TOGETHER_S


def _begun_s(name: str) -> float | None:
    """When the run of this name began, Unix time; None where it is no run's name."""
    found = _NAME.match(name)
    return None if found is None else timegm(time.strptime(found[1], _TIME))


def _takes_part(folder: Path, rank: int) -> bool:
    captured = (folder / PROFKIT_FOLDER / "capture").glob(f"*{SUFFIX}")
    return any(rank_of_capture(path.name) == rank for path in captured)


@contextmanager
def _locked(logdir: Path) -> Iterator[None]:
    logdir.mkdir(parents=True, exist_ok=True)
    with (logdir / LOCK_FILE).open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _from_torch() -> tuple[int, int] | None:
    """Of a process group that exists already."""
    distributed: Any = sys.modules.get("torch.distributed")
    with suppress(Exception):  # somebody else's module, perhaps half imported
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank(), distributed.get_world_size()
    return None


def _from_variables(environment: Mapping[str, str]) -> tuple[int, int] | None:
    for rank, size in RANK_VARIABLES:
        found = environment.get(rank, ""), environment.get(size, "")
        if all(value.isdecimal() for value in found):
            return int(found[0]), int(found[1])
    return None


def _from_tensorflow(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Of tf.distribute's TF_CONFIG: the chief first, then the workers, as its own ranks go."""
    cluster = _tensorflow_cluster(environment)
    with suppress(ValueError, TypeError, KeyError):
        task = json.loads(environment["TF_CONFIG"])["task"]
        chiefs, workers = len(cluster.get("chief", ())), len(cluster.get("worker", ()))
        index = int(task["index"]) + (chiefs if task["type"] == "worker" else 0)
        return (index, chiefs + workers) if task["type"] in ("chief", "worker") else None
    return None


def _tensorflow_cluster(environment: Mapping[str, str]) -> dict[str, Any]:
    with suppress(ValueError, TypeError, KeyError):
        cluster = json.loads(environment["TF_CONFIG"])["cluster"]
        return cluster if isinstance(cluster, dict) else {}
    return {}


def _key(environment: Mapping[str, str]) -> str:
    """What tells this job from others; where the environment says nothing, processes of one parent are one job."""
    said = [f"{name}={environment[name]}" for name in JOB_VARIABLES if name in environment]
    if cluster := _tensorflow_cluster(environment):
        said.append(json.dumps(cluster, sort_keys=True))
    if not said:
        said.append(f"{socket.gethostname()}:{os.getppid()}")
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]
