"""Ranks in a pool of processes on this machine: `python -m profkit.engines` is one of them.

They are spawned, never forked, and use one thread each. They stand in sessions of their own, so that Ctrl-C reaches
only who asked, who ends them; where that one is killed, the end of its pipe ends them.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from multiprocessing.connection import Connection, Pipe, wait

from profkit.companion import ONE_THREAD
from profkit.engines.answers import Opener, Tasks, answer, lost
from profkit.errors import EngineUnavailable
from profkit.loader import usable_cpus

EXIT_S = 5.0  # for a process whose pipe has ended to be gone


def in_processes(tasks: Tasks) -> Generator[bytes]:
    """The Outcome of each task, as they get ready. Raises EngineUnavailable where a process cannot even begin.

    Each process works on one rank at a time and has at most one answer that nobody took yet.
    """
    waiting = deque(tasks.items())
    workers: dict[Connection, _Worker] = {}
    try:
        for _ in range(min(usable_cpus(), len(tasks))):
            _begin(workers)
        while workers:
            for connection in wait(list(workers)):
                assert isinstance(connection, Connection)
                worker = workers[connection]
                said = worker.answer()
                if worker.has_ended or not waiting:
                    workers.pop(connection).end()
                else:
                    worker.ask(*waiting.popleft())
                if worker.has_ended and waiting:
                    _begin(workers)
                if said:
                    yield said
    finally:
        for worker in workers.values():
            worker.end()


def serve(connection: Connection) -> None:
    """Say that this process is ready, then answer for one rank after the other until the other end is closed."""
    import profkit.analysis.rankpart  # noqa: F401 - what fails here fails for every rank

    with suppress(EOFError, OSError):
        connection.send_bytes(b"")
        while True:
            connection.send_bytes(answer(*connection.recv()))


class _Worker:
    """One process of the pool, as who asks it sees it."""

    def __init__(self) -> None:
        self.connection, theirs = Pipe()
        self.has_ended = False
        self._rank: int | None = None
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", __package__, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": os.pathsep.join(path or os.curdir for path in sys.path)},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )

    def ask(self, rank: int, open_rank: Opener) -> None:
        """Give it a rank to work on."""
        self._rank = rank
        with suppress(BrokenPipeError):  # it died meanwhile, which `answer` will find
            self.connection.send((rank, open_rank))

    def answer(self) -> bytes:
        """The Outcome of its rank, once its connection is ready; empty where it is but ready to be asked.

        Raises EngineUnavailable where it has ended before.
        """
        try:
            return self.connection.recv_bytes()
        except (EOFError, OSError):
            self.has_ended = True
        if self._rank is None:
            raise EngineUnavailable(f"a process of the pool ended with {self._ending()} before it could begin")
        return lost(self._rank, f"the process that worked on it ended with {self._ending()}")

    def end(self) -> None:
        """Close the connection and make sure that the process is gone."""
        self.connection.close()
        self._process.kill()
        self._process.wait()

    def _ending(self) -> str:
        """`SIGKILL`, or `exit code 1`."""
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(EXIT_S)
        code = self._process.poll()
        return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _begin(workers: dict[Connection, _Worker]) -> None:
    worker = _Worker()
    workers[worker.connection] = worker
