"""What the training process knows of one DataLoader iterator: batches ordered, received, and handed to the loop."""

from __future__ import annotations

from time import perf_counter_ns as now
from time import process_time_ns
from typing import Any, NamedTuple

from profkit.records import Batch, Fetch, Wait

from .dataloader_fetchers import Schedstat
from .dataloader_parcels import Opened

KEPT = 10_000  # batches of an iterator that nobody in the training thread asks for


class Received(NamedTuple):
    """A batch the training process took from the queue. Moments of the monotonic clock."""

    at: int
    opened: Opened | None  # None where its worker clocked nothing
    pinned: tuple[int, int] | None


class Progress:
    """One iterator's batches, from order to delivery. All moments are of the monotonic clock."""

    __slots__ = (
        "_begun",
        "_consumer",
        "_dispatched",
        "_first",
        "_ordered",
        "_process_cpu",
        "_received",
        "_returned",
        "_schedstat",
        "fetched",
        "fetched_at",
        "last_received",
        "loader",
        "loop",
        "outstanding",
        "own_ns",
        "pinned_here",
        "ready",
        "sampler",
        "wait",
    )

    def __init__(self, loader: int, loop: int, schedstat: Schedstat) -> None:
        self.loader = loader
        self._dispatched: dict[int, int] = {}
        self._received: dict[int, Received] = {}
        self.last_received = -1
        self.fetched: tuple[Any, ...] | None = None  # in the training process itself
        self.fetched_at = 0
        self.pinned_here = False
        self.sampler = 0
        self.ready = self.outstanding = 0
        self.own_ns = 0  # of looking into this batch
        self.wait: Wait | None = None
        self._schedstat = schedstat
        self._consumer = 0, 0
        self._process_cpu = 0
        self.begin_loop(loop)

    def begin_loop(self, loop: int) -> None:
        """The next pass over the loader, perhaps with the same workers."""
        self.loop = loop
        self._begun = self._first = False
        self._ordered = 0
        self._returned: tuple[int, int] | None = None  # the training thread's figures when it got its last batch
        self._dispatched.clear()

    def forget(self) -> None:
        """Nobody will ask what became of the batches on their way."""
        self._dispatched.clear()
        self._received.clear()

    def continue_loop(self, ordered: int) -> None:
        """It was begun before anybody looked; so many batches have been ordered."""
        self._begun = True
        self._ordered = ordered

    def forget_received(self) -> None:
        """What was left of the pass before has come in."""
        self._received.clear()

    def asked(self, ready: int, outstanding: int) -> None:
        """The training loop asks for its next batch; `ready` is −1 where the system cannot count."""
        self.ready = ready if ready < 0 else ready + len(self._received)
        self.outstanding = outstanding
        self.fetched = None
        self.sampler = 0
        cpu, run_queue = self._schedstat.read()
        before = self._returned
        self._consumer = (0, 0) if before is None else (cpu - before[0], run_queue - before[1])
        self._process_cpu = process_time_ns()

    def awaited(self, restarted: bool) -> None:
        """A wait begins; `restarted` where the iterator counts from 0."""
        self.wait = None
        self.own_ns = 0
        self._first = restarted or not self._begun

    def waited(self, start_ns: int, duration_ns: int) -> Wait:
        """The record of the wait, which is over."""
        self._begun = True
        self.wait = Wait(self.loader, start_ns, duration_ns, self._first)
        return self.wait

    def came(self, index: int, offset_ns: int, in_order: bool) -> Batch | None:
        """The record of the batch the training loop has just got; None where its wait does not count."""
        wait, received = self.wait, self._received.pop(index, None)
        dispatched = self._dispatched.pop(index, 0)
        # Without workers the fetch has just read them.
        self._returned = self._schedstat.last if self.fetched is not None else self._schedstat.read()
        self._forget(index, in_order)
        if wait is None:
            return None
        zero = wait.start_ns - offset_ns
        opened = received.opened if received is not None else None
        fetch = self.fetched if opened is None else opened.fetch
        pinned = received.pinned if received is not None else None
        if self.pinned_here and fetch is not None:
            pinned = self.fetched_at, zero + wait.duration_ns
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

    def ordered(self, orders: int) -> None:
        """A batch may have been given to a worker: the iterator counts so many by now."""
        if orders > self._ordered:
            self._ordered = orders
            self._dispatched[orders - 1] = now()
            if len(self._dispatched) > KEPT:
                self._dispatched.clear()

    def receive(self, index: int, opened: Opened | None, pinned: tuple[int, int] | None) -> None:
        """This batch was taken from the queue."""
        if len(self._received) >= KEPT:
            self._received.clear()
        self._received[index] = Received(now(), opened, pinned)
        self.last_received = index

    def _forget(self, index: int, in_order: bool) -> None:
        """Of what came before this batch nothing will be handed on: ends of streams, batches that failed."""
        for known in (self._received, self._dispatched):
            while known and in_order and (first := next(iter(known))) < index:
                del known[first]
        if not in_order:
            self._received.clear()
