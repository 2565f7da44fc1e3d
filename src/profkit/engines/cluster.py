"""Ranks on an existing cluster, by dask.distributed: its workers run the function that runs here."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import suppress
from importlib.metadata import version
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING

from profkit import __version__
from profkit.engines.answers import Tasks, answer, lost
from profkit.errors import EngineUnavailable, MissingDependency, UsageError

if TYPE_CHECKING:
    from distributed import Client, Future

CONNECT_S = 10.0  # for the scheduler to answer, and for the cluster to have a worker
LOOK_S = 10.0  # without a result: then it is looked whether there still is a worker


def on_cluster(tasks: Tasks, scheduler: str | None) -> Generator[bytes]:
    """The Outcome of each task, as they get ready. Raises UsageError, MissingDependency, EngineUnavailable.

    When a worker dies, dask suspects all it was at work on, and gives up whatever was there several times. Those are
    tried once more one by one, which tells the cause from its neighbours.
    """
    with _connected(scheduler) as client:
        _check_workers(client)
        suspects = yield from _outcomes(client, tasks)
        for rank in suspects:
            if (yield from _outcomes(client, {rank: tasks[rank]})):
                yield lost(rank, "every worker that was given it died")


def _connected(scheduler: str | None) -> Client:
    """A client, to be closed."""
    if scheduler is None:
        raise UsageError("the engine dask needs the address of a scheduler, as tcp://host:8786")
    try:
        from distributed import Client
    except ImportError as error:
        raise MissingDependency("the engine dask needs dask.distributed: pip install 'profkit[dask]'") from error
    try:
        return Client(scheduler, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise EngineUnavailable(f"no dask scheduler answers at {scheduler}: {error}") from error


def _check_workers(client: Client) -> None:
    """Raises EngineUnavailable where there is no worker, or one with another profkit or none."""
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError as error:
        raise EngineUnavailable(f"no worker joined the cluster within {CONNECT_S:.0f} s") from error
    for worker, found in sorted(client.run(version, "profkit", on_error="return").items()):
        if found != __version__:
            has = f"profkit {found}" if isinstance(found, str) else "no profkit"
            raise EngineUnavailable(f"the worker at {worker} has {has}: install profkit {__version__} there, as here")


def _outcomes(client: Client, tasks: Tasks) -> Generator[bytes, None, list[int]]:
    """Yields what is answered, and returns the ranks whose workers died."""
    from distributed.scheduler import KilledWorker

    done: SimpleQueue[Future[bytes]] = SimpleQueue()
    pending = {client.submit(answer, *task, pure=False): task[0] for task in tasks.items()}
    for future in pending:
        future.add_done_callback(done.put)
    suspects = []
    while pending:
        future = _next(done, client)
        try:
            said = future.result(LOOK_S)
        except TimeoutError:  # its worker died with the result, which is computed anew
            future.add_done_callback(done.put)
            continue
        except KilledWorker:
            said = b""
            suspects.append(pending[future])
        except Exception as error:
            said = lost(pending[future], f"{type(error).__name__}: {error}")
        del pending[future]  # and its result on the cluster
        if said:
            yield said
    return suspects


def _next(done: SimpleQueue[Future[bytes]], client: Client) -> Future[bytes]:
    """The next that is done. Raises EngineUnavailable where nothing can be any more."""
    while True:
        with suppress(Empty):
            future = done.get(timeout=LOOK_S)
            if future.cancelled():
                raise EngineUnavailable("the connection to the scheduler was lost")
            return future
        if not client.nthreads():
            raise EngineUnavailable("the cluster has no worker left")
