"""What the training process knows of one DataLoader iterator: batches ordered, received, and handed to the loop."""

from __future__ import annotations

from time import perf_counter_ns as now
from time import process_time_ns
from typing import Any, NamedTuple

from profkit.records import Batch, Fetch, Wait

from .dataloader_fetchers import Schedstat
from .dataloader_parcels import Opened


class Received(NamedTuple):
    """A batch the training process took from the queue. Moments of the monotonic clock."""

    at: int
    opened: Opened | None  # None where its worker clocked nothing
    pinned: tuple[int, int] | None


class Progress:
    """One iterator's batches, from order to delivery. All moments are of the monotonic clock."""

    __slots__ = (
        "_consumer",
        "_process_cpu",
        "_returned",
        "_schedstat",
        "dispatched",
        "fetched",
        "index",
        "last_received",
        "loader",
        "loop",
        "outstanding",
        "pinned_here",
        "ready",
        "received",
        "sampler",
        "wait",
    )

    def __init__(self, loader: int, loop: int, schedstat: Schedstat) -> None:
        self.loader, self.loop = loader, loop
        self.dispatched: dict[int, int] = {}
        self.received: dict[int, Received] = {}
        self.last_received = -1
        self.fetched: tuple[Any, ...] | None = None  # in the training process itself
        self.pinned_here = False
        self.sampler = 0
        self.index = -1  # of the last batch, where there are no workers
        self.ready = self.outstanding = 0
        self.wait: Wait | None = None
        self._schedstat = schedstat
        self._returned: tuple[int, int] | None = None  # the training thread's figures when it got its last batch
        self._consumer = 0, 0
        self._process_cpu = 0

    def begin_loop(self, loop: int) -> None:
        """The next pass over the loader, with the same workers."""
        self.loop = loop
        self.index = -1
        self._returned = None

    def asked(self) -> None:
        """The training loop asks for its next batch."""
        self.wait = None
        self.fetched = None
        self.sampler = 0
        cpu, run_queue = self._schedstat.read()
        before = self._returned
        self._consumer = (0, 0) if before is None else (cpu - before[0], run_queue - before[1])
        self._process_cpu = process_time_ns()

    def first(self, is_first: bool) -> Any:
        """How the wait that goes on is recorded."""
        return lambda start_ns, duration_ns: self._waited(start_ns, duration_ns, is_first)

    def _waited(self, start_ns: int, duration_ns: int, first: bool) -> Wait:
        self.wait = Wait(self.loader, start_ns, duration_ns, first)
        return self.wait

    def came(self, index: int, offset_ns: int) -> Batch | None:
        """The record of the batch the training loop has just got; None where its wait does not count."""
        wait, received = self.wait, self.received.pop(index, None)
        dispatched = self.dispatched.pop(index, 0)
        self._returned = self._schedstat.read()
        if wait is None:
            return None
        zero = wait.start_ns - offset_ns
        opened = received.opened if received is not None else None
        fetch = self.fetched if opened is None else opened.fetch
        pinned = received.pinned if received is not None else None
        if self.pinned_here and fetch is not None:
            pinned = fetch[4], zero + wait.duration_ns
        return Batch(
            loader=self.loader,
            loop=self.loop,
            index=index,
            asked_ns=wait.start_ns,
            came=wait.duration_ns,
            ready=self.ready,
            outstanding=self.outstanding,
            sampler=self.sampler,
            dispatched=dispatched - zero if dispatched else 0,
            received=received.at - zero if received is not None else 0,
            pinned=None if pinned is None else (pinned[0] - zero, pinned[1] - zero),
            unpickled=None
            if opened is None
            else (
                opened.pickle_start - zero,
                opened.pickle_end - zero,
                opened.unpickle_start - zero,
                opened.unpickle_end - zero,
            ),
            fetch=None if fetch is None else Fetch(fetch[0], *[moment - zero for moment in fetch[1:5]], *fetch[5:]),
            consumer_cpu=self._consumer[0],
            consumer_run_queue=self._consumer[1],
            process_cpu=self._process_cpu,
        )

    def order(self, index: int) -> None:
        """The indices of this batch were given to a worker."""
        self.dispatched[index] = now()

    def receive(self, index: int, opened: Opened | None, pinned: tuple[int, int] | None) -> None:
        """This batch was taken from the queue."""
        self.received[index] = Received(now(), opened, pinned)
        self.last_received = index
