"""The clocks of the ranks of a torch.distributed job, compared through the store by which its ranks met."""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any
from weakref import ref

import torch

from profkit.rankclock import RankClock, Store
from profkit.recorder import Recorder
from profkit.records import ClockOffset

dist: Any = torch.distributed  # type checkers do not see what it exports

CONNECTION = timedelta(seconds=5)  # what connecting, and any answer of the store, may take


class JobClock:
    """Compares clocks for as long as there is a process group, whenever the training makes one."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._group: Callable[[], Any] = _none
        self._rank_clock: RankClock | None = None
        self._told: deque[ClockOffset | str] = deque()  # by the thread; the training thread writes it down
        recorder.collectors.append(self._look)
        atexit.register(self.stop)  # a thread within torch's C++ while the interpreter ends would abort the process
        self._look()

    def soon(self) -> None:
        """A window is about to open, or has been closed."""
        if self._rank_clock is not None:
            self._rank_clock.soon()

    def stop(self) -> None:
        """End the thread, and write down what it told last."""
        atexit.unregister(self.stop)
        if self._look in self._recorder.collectors:
            self._recorder.collectors.remove(self._look)
        self._follow(None)
        self._write_down()

    def _look(self) -> None:
        """At the end of every step: two comparisons, mostly."""
        if self._told:
            self._write_down()
        group = dist.group.WORLD
        if group is not self._group():
            self._follow(group)

    def _follow(self, group: Any) -> None:
        """A process group was made, or destroyed."""
        if self._rank_clock is not None:
            self._rank_clock.stop()
            self._rank_clock = None
        self._group = _none if group is None else ref(group)
        if group is not None and group.size() > 1:
            base = _meeting_point()
            if base is None:
                self._recorder.note(
                    "the ranks did not meet through a TCPStore, so that the distances of their clocks are not known"
                )
                return
            self._rank_clock = RankClock(
                rank=group.rank(),
                world_size=group.size(),
                connect=partial(_connection, *base),
                clock=self._recorder.clock,
                tell=self._told.append,
                is_over=self._is_over,
            )

    def _is_over(self) -> bool:
        """Asked in the thread: whether the group has been destroyed, and with it perhaps the store."""
        group = self._group()
        return group is None or group is not dist.group.WORLD

    def _write_down(self) -> None:
        while self._told:
            told = self._told.popleft()
            if isinstance(told, str):
                self._recorder.note(told)
            else:
                self._recorder.append(told)


def _meeting_point() -> tuple[str, int] | None:
    """Host and port of the default group's store; None where it is of another kind, or there is none, as with MPI."""
    store = dist.distributed_c10d._get_default_store()
    base = getattr(store, "_underlying_non_prefix_store", store)
    return (base.host, base.port) if isinstance(base, dist.TCPStore) else None


def _connection(host: str, port: int) -> Store:
    """A client of its own: the training's is held by whoever waits in it."""
    client = dist.TCPStore(host, port, is_master=False, wait_for_workers=False, timeout=CONNECTION)
    store: Store = dist.PrefixStore("profkit/clock", client)
    return store


def _none() -> None:
    """Refers to no group."""
