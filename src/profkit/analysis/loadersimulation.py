"""A torch DataLoader with any settings, simulated batch by batch from what one profiled run cost.

Discrete events: indices go round robin to workers, `prefetch_factor` per worker ahead; each worker fetches and
sends in the order it was asked; the training process takes batches as they come, holds those that are early, and
works on each before it asks for the next. Whoever computes shares the cores evenly with all others that do
(processor sharing), and is the slower the more cores are busy (caches, memory, interrupts), so contention is made anew
by every simulation. Nothing is random.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import cycle, islice
from typing import NamedTuple

Then = Callable[[], None]

MEASURED_BATCHES = 120  # at least; the batches of the profile are used again from the first one
WARM_UP_BATCHES = 8  # besides those that are prefetched
CROWDING = 0.15  # CPU time the same work takes more when all cores are busy, as a share; half of it for half of them


class BatchCost(NamedTuple):
    """What one batch costs, in nanoseconds without any contention: its fetch, and the training loop's work on it."""

    sampler_ns: float
    fetch_cpu_ns: float
    fetch_blocked_ns: float
    consumer_cpu_ns: float
    consumer_blocked_ns: float


@dataclass(frozen=True, slots=True)
class Costs:
    """All a simulation needs. What is not in `batches` is the same for every batch.

    `send_cpu_ns`: pickling, in the worker. `receive_cpu_ns`: unpickling and all else that getting a batch takes the
    training thread. `transit_ns`: from one process to another, while nobody computes. `pin_cpu_ns` and
    `pin_blocked_ns`: the pin thread's part; None where there is none. `consumer_width`: how many cores the training
    loop's work keeps busy.
    """

    batches: tuple[BatchCost, ...]
    send_cpu_ns: float
    receive_cpu_ns: float
    transit_ns: float
    pin_ns: tuple[float, float] | None = None  # CPU, blocked
    consumer_width: float = 1.0


@dataclass(frozen=True, slots=True)
class Outcome:
    """Means of a steady batch, in nanoseconds: from request to request, and of that waiting.

    `crowding`: CPU time over what the same work takes on an otherwise idle machine.
    """

    step_ns: float
    wait_ns: float
    crowding: float = 1.0


def simulate(costs: Costs, num_workers: int, prefetch_factor: int, cores: int) -> Outcome:
    """The steady state with these settings, start-up left out."""
    warm_up = WARM_UP_BATCHES + num_workers * prefetch_factor
    measured = max(MEASURED_BATCHES, len(costs.batches))
    machine = _Machine(cores)
    loop = _Loop(machine, costs, warm_up + measured)
    loop.source = _Workers(machine, costs, num_workers, prefetch_factor, loop) if num_workers else None
    loop.start()
    while not loop.done:
        machine.advance()
    waits = loop.waits_ns[warm_up:]
    step_ns = (machine.now_ns - loop.asked_ns[warm_up]) / measured
    return Outcome(step_ns, sum(waits) / measured, machine.crowding())


class _Machine:
    """Simulated time, and who computes or is blocked in it.

    All that compute run at the same rate, so a job that begins at virtual time v ends at v + its work, and only the
    first to end has to be known.
    """

    def __init__(self, cores: int) -> None:
        self.now_ns = 0.0
        self._cores = cores
        self._virtual_ns = 0.0  # what each job has computed that was there from the beginning
        self._load = 0.0  # cores asked for
        self._used_ns = self._done_ns = 0.0  # CPU time, and what it would have been without crowding
        self._computing: list[tuple[float, int, float, Then]] = []  # virtual end, order, cores asked for
        self._blocked: list[tuple[float, int, Then]] = []
        self._order = 0  # of jobs that end at once: the one that began first

    def compute(self, work_ns: float, then: Then, width: float = 1.0) -> None:
        """`then`, after so much time on `width` cores."""
        self._order += 1
        self._load += width
        heappush(self._computing, (self._virtual_ns + work_ns, self._order, width, then))

    def block(self, time_ns: float, then: Then) -> None:
        """`then`, after so much time that takes no core; at once where that is none."""
        if time_ns <= 0:
            then()
            return
        self._order += 1
        heappush(self._blocked, (self.now_ns + time_ns, self._order, then))

    def crowding(self) -> float:
        """CPU time until now over the work that was done in it."""
        return self._used_ns / self._done_ns if self._done_ns else 1.0

    def advance(self) -> None:
        """Go to the next end of a job, and to what follows it."""
        busy = min(self._load, self._cores)
        slowed = 1.0 + CROWDING * (busy - 1) / (self._cores - 1) if busy > 1 else 1.0
        rate = (1.0 if self._load <= self._cores else self._cores / self._load) / slowed
        before_ns = self.now_ns
        computed_ns = self.now_ns + (self._computing[0][0] - self._virtual_ns) / rate if self._computing else None
        if computed_ns is None or (self._blocked and self._blocked[0][0] < computed_ns):
            end_ns, _, then = heappop(self._blocked)
            self._virtual_ns += (end_ns - self.now_ns) * rate
            self.now_ns = end_ns
        else:
            self._virtual_ns, _, width, then = heappop(self._computing)
            self._load = self._load - width if self._computing else 0.0
            self.now_ns = computed_ns
        used_ns = busy * (self.now_ns - before_ns)
        self._used_ns += used_ns
        self._done_ns += used_ns / slowed
        then()


class _Loop:
    """The training loop: asks for a batch, waits, works on it. Without a source it fetches for itself."""

    def __init__(self, machine: _Machine, costs: Costs, batches: int) -> None:
        self.source: _Workers | None = None
        self.asked_ns: list[float] = []
        self.waits_ns: list[float] = []
        self.done = False
        self._machine = machine
        self._width = costs.consumer_width
        self._costs = islice(cycle(costs.batches), batches)

    def start(self) -> None:
        """Ask for the next batch, if there is one."""
        cost = next(self._costs, None)
        if cost is None:
            self.done = True
            return
        self.asked_ns.append(self._machine.now_ns)
        self._cost = cost
        if self.source is not None:
            self.source.ask()
        else:
            self._machine.block(cost.fetch_blocked_ns, self._fetch)

    def came(self) -> None:
        """The batch is there: work on it."""
        self.waits_ns.append(self._machine.now_ns - self.asked_ns[-1])
        self._machine.compute(self._cost.consumer_cpu_ns, self._computed, self._width)

    def _fetch(self) -> None:
        self._machine.compute(self._cost.sampler_ns + self._cost.fetch_cpu_ns, self.came)

    def _computed(self) -> None:
        self._machine.block(self._cost.consumer_blocked_ns, self.start)


class _Workers:
    """The worker processes with their queues, up to the training loop's request."""

    def __init__(self, machine: _Machine, costs: Costs, num_workers: int, prefetch_factor: int, loop: _Loop) -> None:
        self._machine = machine
        self._shared = costs
        self._loop = loop
        self._batches = costs.batches
        self._orders: list[deque[int]] = [deque() for _ in range(num_workers)]
        self._busy = [False] * num_workers
        self._ordered = 0
        self._arrived: deque[int] = deque()  # in the queue to the training process
        self._to_pin: deque[int] = deque()
        self._pinning = False
        self._held: set[int] = set()  # received before their turn
        self._next = 0  # the batch whose turn it is
        self._is_asked = False  # the loop waits, and nothing has arrived
        for _ in range(num_workers * prefetch_factor):
            self._order_one()

    def ask(self) -> None:
        """The loop wants the next batch."""
        if self._next in self._held:
            self._held.discard(self._next)
            self._machine.compute(self._cost(self._next).sampler_ns, self._deliver)
        elif self._arrived:
            self._receive(self._arrived.popleft())
        else:
            self._is_asked = True

    def _receive(self, number: int) -> None:
        receive_ns = self._shared.receive_cpu_ns
        if number == self._next:
            self._machine.compute(receive_ns + self._cost(number).sampler_ns, self._deliver)
        else:
            self._held.add(number)
            self._machine.compute(receive_ns, self.ask)

    def _deliver(self) -> None:
        """Order a new batch in place of this one, as torch does, and hand it over."""
        self._next += 1
        self._order_one()
        self._loop.came()

    def _order_one(self) -> None:
        worker = self._ordered % len(self._orders)
        self._orders[worker].append(self._ordered)
        self._ordered += 1
        if not self._busy[worker]:
            self._busy[worker] = True
            self._machine.block(self._shared.transit_ns, lambda: self._begin(worker))

    def _begin(self, worker: int) -> None:
        if not self._orders[worker]:
            self._busy[worker] = False
            return
        number = self._orders[worker].popleft()
        cost = self._cost(number)
        work_ns = cost.fetch_cpu_ns + self._shared.send_cpu_ns

        def sent() -> None:
            self._machine.block(self._shared.transit_ns, lambda: self._arrive(number))
            self._begin(worker)

        self._machine.block(cost.fetch_blocked_ns, lambda: self._machine.compute(work_ns, sent))

    def _arrive(self, number: int) -> None:
        if self._shared.pin_ns is None:
            self._arrived.append(number)
            self._answer()
            return
        self._to_pin.append(number)
        if not self._pinning:
            self._pin(self._shared.pin_ns)

    def _pin(self, pin_ns: tuple[float, float]) -> None:
        """The pin thread takes one batch after the other."""
        self._pinning = bool(self._to_pin)
        if not self._pinning:
            return
        number = self._to_pin.popleft()

        def pinned() -> None:
            self._arrived.append(number)
            self._answer()
            self._pin(pin_ns)

        self._machine.block(pin_ns[1], lambda: self._machine.compute(pin_ns[0], pinned))

    def _answer(self) -> None:
        if self._is_asked:
            self._is_asked = False
            self.ask()

    def _cost(self, number: int) -> BatchCost:
        return self._batches[number % len(self._batches)]
