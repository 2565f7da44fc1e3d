"""How what a worker clocked travels with its batch, through PyTorch's own queue.

The worker returns a Parcel instead of the batch. Pickling it takes time stamps on both sides of the batch, and
unpickling it gives the batch itself: nobody but `take()` ever sees that there was anything else. Pickling happens in
the worker's feeder thread, where an exception would lose the batch and hang the training: nothing here raises.
"""

from __future__ import annotations

import threading
from time import perf_counter_ns as now
from typing import Any, NamedTuple


class Opened(NamedTuple):
    """A batch that was unpickled in this thread: four moments of the monotonic clock, and what the worker clocked."""

    pickle_start: int
    pickle_end: int
    unpickle_start: int
    unpickle_end: int
    fetch: tuple[Any, ...]


class _Inbox(threading.local):
    opened: Opened | None = None


_inbox = _Inbox()


def take() -> Opened | None:
    """What came with the last batch this thread has unpickled; None the second time."""
    opened, _inbox.opened = _inbox.opened, None
    return opened


class Parcel:
    """A batch, and what its worker clocked for it, as values that pickle."""

    __slots__ = ("_batch", "_fetch")

    def __init__(self, batch: Any, fetch: tuple[Any, ...]) -> None:
        self._batch = batch
        self._fetch = fetch

    def __reduce__(self) -> tuple[Any, ...]:
        return _open, (_BEFORE, self._batch, _AFTER, self._fetch)


class _Stamp:
    """Pickles as the moment it is pickled, and unpickles as that and the moment it is unpickled."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            pickled = now()
        except Exception:
            pickled = 0
        return _stamped, (pickled,)


_BEFORE, _AFTER = _Stamp(), _Stamp()  # two, for what is pickled twice is pickled as a reference


def _stamped(pickled: int) -> tuple[int, int]:
    try:
        return pickled, now()
    except Exception:
        return pickled, 0


def _open(start: tuple[int, int], batch: Any, end: tuple[int, int], fetch: tuple[Any, ...]) -> Any:
    try:
        if all((*start, *end)):  # a stamp of 0 is none
            _inbox.opened = Opened(start[0], end[0], start[1], end[1], fetch)
    except Exception:
        return batch
    return batch
