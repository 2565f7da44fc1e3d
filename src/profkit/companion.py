"""The sidecar as its training sees it: spawned, asked after, waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from profkit.recorder import say

FINISH_LIMIT_S = 120.0
PROGRESS_EVERY_S = 5.0
ONE_THREAD = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Companion:
    """The process that samples the system and turns what is captured into tables.

    It learns of the run's end from the pipe (its end is closed here) or from the pidfd (this process died).
    """

    def __init__(self, profkit_folder: Path, rank: int) -> None:
        """Spawn it. Raises OSError where no process can be started."""
        read, self._pipe = os.pipe()
        pidfd = _own_pidfd()
        try:
            self._process = _spawn(profkit_folder, rank, read, pidfd)
        except OSError:
            os.close(self._pipe)
            raise
        finally:
            for fd in (read, pidfd):
                if fd >= 0:
                    os.close(fd)

    def has_died(self) -> bool:
        """Whether it is gone, though the run goes on."""
        return self._process.poll() is not None

    def finish(self) -> int | None:
        """Tell it that the run is over and wait. Returns its exit code; None: still at work after the limit."""
        self._close_pipe()
        end = time.monotonic() + FINISH_LIMIT_S
        while True:
            try:
                return self._process.wait(PROGRESS_EVERY_S)
            except subprocess.TimeoutExpired:
                if time.monotonic() > end:
                    return None
                say("the training is over; the recording is being turned into tables ...")

    def forget(self) -> None:
        """In a forked child: hold nothing open that tells the sidecar the training lives."""
        self._close_pipe()
        self._process.returncode = 0  # somebody else's child: it must not be waited for here

    def _close_pipe(self) -> None:
        if self._pipe >= 0:
            os.close(self._pipe)
            self._pipe = -1


def _own_pidfd() -> int:
    """Opened by the training itself, so that no reuse of its pid misleads. -1 where the system has none."""
    try:
        return os.pidfd_open(os.getpid())
    except (AttributeError, OSError):
        return -1


def _spawn(profkit_folder: Path, rank: int, read: int, pidfd: int) -> subprocess.Popen[bytes]:
    arguments = [str(profkit_folder), str(os.getpid()), str(rank), str(read), str(pidfd)]
    with (profkit_folder / "capture" / f"sidecar-{rank}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "profkit.sidecar", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": _python_path()},
            pass_fds=[fd for fd in (read, pidfd) if fd >= 0],
            start_new_session=True,
        )


def _python_path() -> str:
    """PYTHONPATH for a child that runs in `/`: made absolute, with profkit's own place unless site has it."""
    inherited = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    entries = [str(Path(entry).absolute()) for entry in inherited if entry]
    home = Path(__file__).resolve().parents[1]
    if str(home) not in {*entries, sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        entries.append(str(home))
    return os.pathsep.join(entries)
