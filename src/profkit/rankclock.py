"""How far the clock of a rank is from rank 0's, measured through the job's key-value store beside the training.

Every other rank exchanges messages with rank 0, as NTP does (RFC 5905, section 8). For one that is sent at t0 by the
own clock, read by rank 0 at t1 by rank 0's, and whose answer is received at t3 by the own one, the offset is
t1 - (t0 + t3) / 2, and off by at most (t3 - t0) / 2, whichever way took longer; the quickest of many exchanges counts.

It all happens in a thread, over a connection of its own: no collective is issued, and the training neither waits nor
can hang. What fails costs the offset and nothing else.
"""

from __future__ import annotations

import secrets
import threading
import time
from bisect import bisect_right
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Protocol

from profkit.records import ClockOffset

EXCHANGES = 40
EVERY_S = 60.0  # and around every window
EVERY_S_PER_RANK = 0.25  # rank 0 answers one rank after the other: with thousands of them they ask less often
IDLE_S = 0.1  # between two looks whether anybody asks
TURN_S, LONGEST_S = 0.02, 1.0  # between two looks whether it is one's turn: for each rank that is ahead, and at most
PATIENCE_S = 30.0  # for rank 0 to begin recording, and for one's turn
ANSWER = timedelta(seconds=5)  # what an exchange may take: the other rank has died, or somebody keeps its interpreter
STOP_S = 2 * ANSWER.total_seconds()

UNANSWERED = (
    "rank 0 did not answer, so that the distance of this rank's clock from its is not known: "
    "is rank 0 recorded as well?"
)
NO_LONGER = "rank 0 no longer answered: how this rank's clock drifted from its since then is not known"


class Store(Protocol):
    """A connection to the job's store: the methods of torch.distributed's that are needed, and raise RuntimeError."""

    def set(self, key: str, value: str, /) -> None:
        """Write."""

    def get(self, key: str, /) -> bytes:
        """Read what is there."""

    def add(self, key: str, amount: int, /) -> int:
        """Count up; returns the sum."""

    def check(self, keys: list[str], /) -> bool:
        """Whether they are there."""

    def wait(self, keys: list[str], timeout: timedelta, /) -> None:
        """Return once they are there. torch writes to stderr where that takes too long."""

    def delete_key(self, key: str, /) -> bool:
        """Forget it."""


class RankClock:
    """The thread: on rank 0 it answers, on every other rank it asks, at intervals and when told to.

    `connect` opens the connection, in the thread. `tell` is given, in the thread, what was measured, and sentences
    on what was not. `is_over` says whether the store is no longer to be used.
    """

    def __init__(
        self,
        rank: int,
        world_size: int,
        connect: Callable[[], Store],
        clock: Callable[[], int],
        tell: Callable[[ClockOffset | str], None],
        is_over: Callable[[], bool],
    ) -> None:
        self._every_s = max(EVERY_S, EVERY_S_PER_RANK * world_size)
        self._patience_s = max(PATIENCE_S, EVERY_S_PER_RANK * world_size)
        self._connect = connect
        self._clock = clock
        self._tell = tell
        self._group_is_over = is_over
        self._stopped, self._due = threading.Event(), threading.Event()
        work = self._serve if rank == 0 else self._ask
        self._thread = threading.Thread(target=self._run, args=(work,), name="profkit-rank-clock", daemon=True)
        self._thread.start()

    def soon(self) -> None:
        """Measure now, and not only at the next interval."""
        self._due.set()

    def stop(self) -> None:
        """End; an exchange under way is finished."""
        self._stopped.set()
        self._due.set()
        self._thread.join(STOP_S)

    def _run(self, work: Callable[[Store], None]) -> None:
        try:
            work(self._connect())
        except Exception as error:
            if not self._is_over():
                self._tell(f"the clocks of the ranks are not compared from here on: {error}")

    def _is_over(self) -> bool:
        return self._stopped.is_set() or self._group_is_over()

    # --- rank 0

    def _serve(self, store: Store) -> None:
        """Answer those who drew a number, one after the other. A session tells rank 0's threads in a store apart."""
        session, served = secrets.token_hex(4), 0
        store.set("turn", f"{session}/{served}")
        self._tell(ClockOffset(self._clock(), 0, 0))
        while not self._is_over():
            if store.add(f"{session}/numbers", 0) == served:
                self._stopped.wait(IDLE_S)
            else:
                served += 1
                store.set("turn", f"{session}/{served}")
                self._answer(store, f"{session}/{served}")

    def _answer(self, store: Store, asker: str) -> None:
        if not self._comes(store, f"{asker}/asked/0", ANSWER.total_seconds()):
            return
        for number in range(EXCHANGES):
            asked = f"{asker}/asked/{number}"
            try:
                store.wait([asked], ANSWER)
            except RuntimeError:  # that rank is gone, and others wait for their turn
                return
            store.set(f"{asker}/answered/{number}", str(self._clock()))
            store.delete_key(asked)

    # --- every other rank

    def _ask(self, store: Store) -> None:
        measured_once = False
        while not self._is_over():
            self._due.clear()
            measured = self._measured(store)
            if measured is not None:
                measured_once = True
                self._tell(measured)
            elif not self._is_over():
                self._tell(NO_LONGER if measured_once else UNANSWERED)
            self._due.wait(self._every_s)
        if not measured_once:
            self._tell(UNANSWERED)

    def _measured(self, store: Store) -> ClockOffset | None:
        """None where rank 0 does not answer, or the run ends before it does."""
        asker = self._turn(store) if self._comes(store, "turn", self._patience_s) else None
        try:
            return None if asker is None else quickest_exchange(store, asker, self._clock)
        except RuntimeError:  # whatever is wrong: where it is the connection, the next use of it says so
            return None

    def _turn(self, store: Store) -> str | None:
        """Draw a number and wait for its turn. Returns what keys begin with; None where it does not come."""
        session, number, until_s = "", 0, time.monotonic() + self._patience_s
        while time.monotonic() < until_s and not self._is_over():
            serving, _, served = store.get("turn").decode().partition("/")
            ahead = number - int(served)
            if serving != session or ahead < 0:
                session, number = serving, store.add(f"{serving}/numbers", 1)
            elif ahead == 0:
                return f"{session}/{number}"
            else:
                self._stopped.wait(min(TURN_S * ahead, LONGEST_S))
        return None

    def _comes(self, store: Store, key: str, patience_s: float) -> bool:
        """Whether the key appears before patience, or the run, is at an end."""
        until_s = time.monotonic() + patience_s
        while not store.check([key]):
            if time.monotonic() > until_s or self._is_over():
                return False
            self._stopped.wait(TURN_S)
        return True


def quickest_exchange(store: Store, asker: str, clock: Callable[[], int]) -> ClockOffset:
    """What the quickest of many exchanges tells; rank 0 is waiting for them. Raises RuntimeError where it is not."""
    exchanges = (_exchange(store, asker, number, clock) for number in range(EXCHANGES))
    return min(exchanges, key=lambda exchange: exchange.uncertainty_ns)


def offset_at(measured: Sequence[ClockOffset], time_ns: int) -> ClockOffset | None:
    """The offset at a moment of the own clock: linear between two measurements, for clocks drift; before the first
    and after the last one theirs. `measured` is sorted by time; None where there is none."""
    if not measured:
        return None
    after = bisect_right(measured, time_ns, key=lambda offset: offset.time_ns)
    if after in (0, len(measured)):
        return measured[min(after, len(measured) - 1)]
    left, right = measured[after - 1], measured[after]
    part = (time_ns - left.time_ns) / (right.time_ns - left.time_ns)
    offset_ns = left.offset_ns + round(part * (right.offset_ns - left.offset_ns))
    return ClockOffset(time_ns, offset_ns, max(left.uncertainty_ns, right.uncertainty_ns))


def _exchange(store: Store, asker: str, number: int, clock: Callable[[], int]) -> ClockOffset:
    answered = f"{asker}/answered/{number}"
    sent_ns = clock()
    store.set(f"{asker}/asked/{number}", "")
    store.wait([answered], ANSWER)
    received_ns = clock()
    there_ns = int(store.get(answered))
    store.delete_key(answered)
    return ClockOffset(received_ns, there_ns - (sent_ns + received_ns) // 2, (received_ns - sent_ns + 1) // 2)
