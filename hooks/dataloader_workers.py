"""What profkit does inside a DataLoader's worker process.

A WorkerStart stands for the user's `worker_init_fn`, which the worker calls first; it puts clocks on every fetcher the
worker makes. What concerns one batch travels with it; what concerns samples goes into the worker's own capture file.
Nothing here raises into the worker.
"""

from __future__ import annotations

import os
import sys
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from multiprocessing.util import Finalize
from pathlib import Path
from time import perf_counter_ns as now
from typing import TYPE_CHECKING, Any

from .dataloader_cost import OwnCost
from .dataloader_fetchers import Detail, ProcessIO, Samples, Schedstat, TimedFetcher, integer, moment
from .dataloader_parcels import Parcel
from .dataloader_transforms import TransformClocks

if TYPE_CHECKING:
    from profkit.recorder import Recorder


@dataclass(frozen=True)
class Assignment:
    """What a worker has to know of the run. Pickles, for spawned workers; imports nothing."""

    capture: str  # folder of the capture files
    stem: str  # how the names of this rank's files begin
    done: str  # a file that is there once the run has become tables
    loader: int
    loop: int
    asked: int  # monotonic clock
    offset_ns: int  # Unix time of the monotonic clock's zero


class WorkerStart:
    """Called by the worker instead of the user's `worker_init_fn`, which it calls.

    `leave` closes the run's recorder in a forked worker, where it is a copy that must write nothing.
    """

    def __init__(
        self,
        original: Callable[[int], Any] | None,
        assignment: Assignment,
        leave: Callable[[], object] | None = None,
    ) -> None:
        self.original = original
        self.assignment = assignment
        self._leave = leave

    def __reduce__(self) -> tuple[Any, ...]:
        return WorkerStart, (self.original, self.assignment)

    def __call__(self, worker: int) -> Any:
        """Set up, then whatever the user wanted to be done."""
        inside = _inside(self.assignment, self._leave, worker)
        if self.original is None:
            return None
        begun = moment()
        result = self.original(worker)
        if inside is not None:
            inside.init_ns = moment() - begun
        return result


def _inside(assignment: Assignment, leave: Callable[[], object] | None, worker: int) -> InsideWorker | None:
    try:
        if leave is not None:
            leave()
        return InsideWorker(assignment, worker)
    except Exception as error:
        _say(error)
        return None


class InsideWorker:
    """Clocks and files of one worker process."""

    def __init__(self, assignment: Assignment, worker: int) -> None:
        from torch.utils.data import dataloader  # the worker has imported it long ago

        self.init_ns = 0  # what the user's worker_init_fn took
        self._started = now()
        self._assignment, self._worker = assignment, worker
        self._done = Path(assignment.done)
        self._schedstat, self._process_io = Schedstat(), ProcessIO()
        self._recorder: Recorder | None = None
        self._timed: weakref.ref[TimedFetcher] | None = None  # the fetcher's own, so that it ends when it would
        self._transforms = TransformClocks()
        self._detail = Detail()
        self._cost = OwnCost()
        self._given_up = self._is_over = False
        self._create: Callable[..., Any] = dataloader._DatasetKind.create_fetcher
        dataloader._DatasetKind.create_fetcher = staticmethod(self._create_fetcher)  # type: ignore[method-assign]

    def _create_fetcher(self, *args: Any, **kwargs: Any) -> Any:
        begun = moment()
        fetcher = self._create(*args, **kwargs)
        self._put_clocks_on(fetcher, begun)
        return fetcher

    def _put_clocks_on(self, fetcher: Any, begun: int) -> None:
        """Not on the fetcher of a loader that the dataset itself iterates over: there nobody opens parcels."""
        try:
            took = now() - begun
            if self._given_up or sys._getframe(2).f_code.co_name != "_worker_loop":
                return
            if self._recorder is None:
                self._recorder = self._new_recorder()
                Finalize(None, self._flush, exitpriority=0)
            self._append_started(took)
            self._transforms.put_on(fetcher.dataset)
            timed = TimedFetcher(fetcher, self._worker, self._schedstat, self._process_io, self._clocked, self._failed)
            self._timed = weakref.ref(timed)
        except Exception as error:
            self._failed(error)

    def _new_recorder(self) -> Recorder:
        from profkit.clock import Clock
        from profkit.recorder import Recorder
        from profkit.records import SUFFIX

        given = self._assignment
        name = f"{given.stem}-{os.getpid()}-{os.urandom(4).hex()}-worker{SUFFIX}"
        return Recorder(Path(given.capture) / name, clock=Clock(given.offset_ns))

    def _append_started(self, dataset_ns: int) -> None:
        from profkit.records import WorkerStarted

        given = self._assignment
        if self._recorder is not None and given.asked:  # a worker that stays starts once
            self._recorder.append(
                WorkerStarted(
                    loader=given.loader,
                    loop=given.loop,
                    worker=self._worker,
                    pid=os.getpid(),
                    asked_ns=given.asked + given.offset_ns,
                    process=self._started - given.asked,
                    init=self.init_ns,
                    dataset=dataset_ns,
                )
            )
            self._assignment = replace(given, asked=0)

    def _clocked(self, batch: Any, fetch: tuple[Any, ...], samples: Samples, own_ns: int) -> Any:
        end = fetch[4]
        took = end - fetch[1]
        if self._detail.wants(took):
            self._append_samples(fetch[1], samples)
        self._cost.add(own_ns + now() - end, took)
        if self._cost.is_due():
            self._judge_own_cost()
        return Parcel(batch, fetch)

    def _append_samples(self, start: int, samples: Samples) -> None:
        from profkit.records import Samples as Record

        given, transforms = self._assignment, self._transforms.take()
        if self._recorder is None or self._is_over or not (samples.durations or transforms):
            return
        self._recorder.defer(
            Record(
                loader=given.loader,
                worker=self._worker,
                pid=os.getpid(),
                fetch_start_ns=start + given.offset_ns,
                indices=[integer(index) for index in samples.indices],
                durations=samples.durations,
                transforms=transforms,
            )
        )

    def _judge_own_cost(self) -> None:
        """Give up what costs too much; the waits are recorded all the same, in the training process."""
        self._is_over = self._done.exists()
        own_ns = self._cost.too_much_ns()
        if own_ns:
            self._give_up(own_ns)

    def _give_up(self, own_ns: float) -> None:
        self._given_up = True
        timed = self._timed() if self._timed is not None else None
        if timed is not None:
            timed.remove()
        self._transforms.remove()
        if self._recorder is not None:
            self._recorder.note(
                f"looking into a loader's worker took {own_ns / 1e3:.0f} µs a batch, more than it may: "
                "it was given up, and what that worker did from then on is not known"
            )

    def _flush(self) -> None:
        """The worker ends: what was put off is written down."""
        with suppress(Exception):
            if self._recorder is not None:
                self._recorder.flush()

    def _failed(self, error: Exception) -> None:
        with suppress(Exception):
            if self._recorder is not None:
                self._recorder.failed(error)
            else:
                _say(error)


def _say(error: Exception) -> None:
    with suppress(Exception):
        from profkit.recorder import say

        say(f"a loader's worker could not be looked into, the training goes on: {type(error).__name__}: {error}")
