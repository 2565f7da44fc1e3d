"""What profkit does inside a DataLoader's worker process.

A WorkerStart stands for the user's `worker_init_fn`, which the worker calls first; it puts clocks on every fetcher the
worker makes. What concerns one batch travels with it; what concerns samples goes into the worker's own capture file.
Nothing here raises into the worker.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from time import perf_counter_ns as now
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profkit.recorder import Recorder

    from .dataloader_fetchers import Samples, TimedFetcher

DETAILED_FETCHES = 500  # of each worker: their samples are written down; from then on those of slow fetches only
SLOW_FETCH = 2.0  # times the mean of the detailed ones
BUDGET_NS, BUDGET_SHARE = 100_000, 0.01  # what looking into a fetch may take: the larger of the two
JUDGED_FETCHES = 64


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
    """Called by the worker instead of the user's `worker_init_fn`, which it calls."""

    def __init__(self, original: Callable[[int], Any] | None, assignment: Assignment) -> None:
        self.original = original
        self.assignment = assignment

    def __call__(self, worker: int) -> Any:
        """Set up, then whatever the user wanted to be done."""
        inside = _inside(self.assignment, worker)
        begun = _moment()
        result = None if self.original is None else self.original(worker)
        if inside is not None:
            inside.initialised(_moment() - begun)
        return result


def _inside(assignment: Assignment, worker: int) -> InsideWorker | None:
    try:
        return InsideWorker(assignment, worker)
    except Exception as error:
        _say(error)
        return None


class InsideWorker:
    """Clocks and files of one worker process."""

    def __init__(self, assignment: Assignment, worker: int) -> None:
        from torch.utils.data import dataloader  # the worker has imported it long ago

        from .dataloader_fetchers import ProcessIO, Schedstat

        self._started = now()
        self._assignment, self._worker = assignment, worker
        self._schedstat, self._process_io = Schedstat(), ProcessIO()
        self._recorder: Recorder | None = None
        self._timed: TimedFetcher | None = None
        self._transforms: Any = None
        self._init_ns = 0
        self._fetches = self._detailed_ns = self._fetch_ns = 0
        self._own: list[int] = []
        self._given_up = False
        self._create = dataloader._DatasetKind.create_fetcher
        dataloader._DatasetKind.create_fetcher = staticmethod(self._create_fetcher)  # type: ignore[method-assign]

    def initialised(self, took_ns: int) -> None:
        """The user's worker_init_fn is over."""
        self._init_ns = took_ns

    def _create_fetcher(self, *args: Any, **kwargs: Any) -> Any:
        begun = _moment()
        fetcher = self._create(*args, **kwargs)
        self._put_clocks_on(fetcher, begun, sys._getframe(1).f_code.co_name)
        return fetcher

    def _put_clocks_on(self, fetcher: Any, begun: int, caller: str) -> None:
        """Not on the fetcher of a loader that the dataset itself iterates over: there nobody opens parcels."""
        if self._given_up or caller != "_worker_loop":
            return
        try:
            from .dataloader_fetchers import TimedFetcher
            from .dataloader_transforms import TransformClocks

            took = now() - begun
            self._recorder = self._recorder or self._new_recorder()
            if self._transforms is None:
                self._transforms = TransformClocks(fetcher.dataset)
            self._append_started(took)
            self._timed = TimedFetcher(
                fetcher, self._worker, self._schedstat, self._process_io, self._clocked, self._failed
            )
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
                    init=self._init_ns,
                    dataset=dataset_ns,
                )
            )
            self._assignment = replace(given, asked=0)

    def _clocked(self, batch: Any, fetch: tuple[Any, ...], samples: Samples) -> Any:
        from .dataloader_parcels import Parcel

        end = fetch[4]
        took = end - fetch[1]
        parcel = Parcel(batch, fetch)
        self._fetches += 1
        self._fetch_ns += took
        if self._wants_samples(took):
            self._append_samples(fetch[1], samples)
        self._own.append(now() - end)
        if self._fetches % JUDGED_FETCHES == 0:
            self._judge_own_cost()
        return parcel

    def _wants_samples(self, took: int) -> bool:
        if self._fetches <= DETAILED_FETCHES:
            self._detailed_ns += took
            return True
        return took * DETAILED_FETCHES > SLOW_FETCH * self._detailed_ns

    def _append_samples(self, start: int, samples: Samples) -> None:
        from profkit.records import Samples as Record

        from .dataloader_fetchers import integer

        given, transforms = self._assignment, self._transforms.take()
        if self._recorder is None or not (samples.durations or transforms) or Path(given.done).exists():
            return
        self._recorder.append(
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
        own_ns, self._own = median(self._own), []
        fetch_ns, self._fetch_ns = self._fetch_ns / JUDGED_FETCHES, 0
        if own_ns > max(BUDGET_NS, BUDGET_SHARE * fetch_ns):
            self._give_up(own_ns)

    def _give_up(self, own_ns: float) -> None:
        self._given_up = True
        if self._timed is not None:
            self._timed.remove()
        if self._transforms is not None:
            self._transforms.remove()
        if self._recorder is not None:
            self._recorder.note(
                f"looking into a loader's worker took {own_ns / 1e3:.0f} µs a batch, more than it may: "
                "it was given up, and what that worker did from then on is not known"
            )

    def _failed(self, error: Exception) -> None:
        with suppress(Exception):
            if self._recorder is not None:
                self._recorder.failed(error)
            else:
                _say(error)


def _moment() -> int:
    """Now; 0 if even the clock fails, for the user's code comes next."""
    try:
        return now()
    except Exception:
        return 0


def _say(error: Exception) -> None:
    with suppress(Exception):
        from profkit.recorder import say

        say(f"a loader's worker could not be looked into, the training goes on: {type(error).__name__}: {error}")
