"""The thread that copies batches into pinned memory, with a clock on both sides of it."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from time import perf_counter_ns as now
from typing import Any, NamedTuple

from . import dataloader_parcels
from .dataloader_parcels import Opened

KEPT = 1_000  # batches nobody asked about: those of a pass that was left early


class Pinned(NamedTuple):
    """A batch that went through the thread: what came with it, and when it entered and left."""

    opened: Opened | None
    start: int
    end: int


class Pinning:
    """What went through one pin thread, until the training thread asks for it."""

    def __init__(self) -> None:
        self._entered: tuple[Opened | None, int] | None = None
        self._left: dict[Any, Pinned] = {}

    def enter(self) -> None:
        """A batch came out of the workers' queue."""
        self._entered = dataloader_parcels.take(), now()

    def leave(self, index: Any) -> None:
        """It is pinned, and goes to the training thread."""
        if self._entered is not None:
            (opened, start), self._entered = self._entered, None
            if len(self._left) >= KEPT:
                self._left.clear()
            self._left[index] = Pinned(opened, start, now())

    def take(self, index: Any) -> Pinned | None:
        """What is known of this batch; None the second time."""
        return self._left.pop(index, None)


class Threads:
    """The pin threads by the queue they deliver to."""

    def __init__(self, failed: Callable[[Exception], object]) -> None:
        self._failed = failed
        self._of: weakref.WeakKeyDictionary[Any, Pinning] = weakref.WeakKeyDictionary()

    def timed(self, loop: Callable[..., Any]) -> Callable[..., Any]:
        """PyTorch's loop of the thread, with queues that take note."""

        def _pin_memory_loop(in_queue: Any, out_queue: Any, *args: Any, **kwargs: Any) -> Any:
            source, target = self._noting(in_queue, out_queue)
            return loop(source, target, *args, **kwargs)

        return _pin_memory_loop

    def of(self, queue: Any) -> Pinning | None:
        """The thread that delivers to this queue."""
        return self._of.get(queue)

    def _noting(self, in_queue: Any, out_queue: Any) -> tuple[Any, Any]:
        try:
            pinning = self._of[out_queue] = Pinning()
            return _Source(in_queue, pinning, self._failed), _Target(out_queue, pinning, self._failed)
        except Exception as error:
            self._failed(error)
            return in_queue, out_queue


class _Source:
    """The queue the thread takes batches from."""

    def __init__(self, queue: Any, pinning: Pinning, failed: Callable[[Exception], object]) -> None:
        self._queue, self._pinning, self._failed = queue, pinning, failed

    def get(self, *args: Any, **kwargs: Any) -> Any:
        item = self._queue.get(*args, **kwargs)
        try:
            self._pinning.enter()
        except Exception as error:
            self._failed(error)
        return item

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)


class _Target:
    """The queue the thread puts batches into."""

    def __init__(self, queue: Any, pinning: Pinning, failed: Callable[[Exception], object]) -> None:
        self._queue, self._pinning, self._failed = queue, pinning, failed

    def put(self, item: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            self._pinning.leave(item[0])
        except Exception as error:
            self._failed(error)
        return self._queue.put(item, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._queue, name)
