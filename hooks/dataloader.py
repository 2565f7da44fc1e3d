"""PyTorch's DataLoader: what every batch took to come, where that time went, and what it takes to begin a pass.

The waits are clocked around the iterators' `__next__`. Where the installed DataLoader is one whose inside is known
(profkit.hooks.dataloader_seams), each batch is followed from its sampler to the training loop besides:

    sampler ─ order ─▶ worker: fetch (dataloader_fetchers) ─▶ queue (dataloader_parcels) ─▶ pin thread ─▶ loop
"""

from __future__ import annotations

import functools
import inspect
import socket
from collections.abc import Callable
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch.utils.data import DataLoader, _utils, dataloader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from profkit.loader import opened, usable_cpus
from profkit.recorder import Recorder
from profkit.records import LoaderOpened
from profkit.records import Samples as SamplesRecord
from profkit.runfolder import RankFolder

from . import dataloader_parcels, dataloader_seams
from .dataloader_cost import OwnCost
from .dataloader_fetchers import Detail, ProcessIO, Samples, Schedstat, TimedFetcher, integer, moment
from .dataloader_pinning import Threads
from .dataloader_progress import Progress
from .dataloader_transforms import TransformClocks
from .dataloader_workers import Assignment, WorkerStart

Method = Callable[..., Any]

ALL_BATCHES, THINNED = 20_000, 17  # of each loader: so many are recorded, and then every so many; a prime, so that
# workers, which take turns, are all met


class _Known:
    """What is known of one loader over all passes."""

    __slots__ = ("batches", "detail", "loops")

    def __init__(self) -> None:
        self.loops = self.batches = 0  # begun, seen
        self.detail = Detail()  # of the fetches in the training process


class DataLoaderHook:
    """Follows the batches of every DataLoader; changes no batch, order, type or random number.

    Iterators of other libraries that derive from PyTorch's are timed, and torchdata's are followed too.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._progress: WeakKeyDictionary[Any, Progress] = WeakKeyDictionary()  # by iterator
        self._known: dict[int, _Known] = {}  # by the loader's number
        self._opening: Any = None  # the loader whose iterator the training loop is making
        self._fetchers: WeakSet[TimedFetcher] = WeakSet()  # of the training process
        self._transforms = TransformClocks()
        self._with_workers: tuple[type, ...] = ()  # the iterators that are followed
        self._looks_inside = False
        self._cost = OwnCost()

    def start(self, recorder: Recorder) -> None:
        """Replace the methods; leaves a note instead where the classes do not look as expected."""
        self._recorder = recorder
        if not _looks_as_expected():
            recorder.note("this version of PyTorch's DataLoader is not known: its waits are not recorded")
            return
        self._came_at = now()  # the batch before
        self._offset_ns = recorder.clock() - self._came_at
        self._schedstat, self._process_io = Schedstat(), ProcessIO()
        self._undo += [self._schedstat.close, self._process_io.close]
        self._replace(_BaseDataLoaderIter, "__next__", self._timed_next)
        self._replace(DataLoader, "__iter__", self._timed_iter)
        unknown = dataloader_seams.unknown()
        if unknown:
            recorder.note(
                "the inside of this version of PyTorch's DataLoader is not known, so its waits are recorded and not "
                f"what they waited for: {', '.join(unknown[:3])}"
            )
            return
        self._look_inside()

    def boundary(self, number: int) -> None:
        """Waits know nothing of steps."""

    def prepare_window(self) -> bool:
        """Always ready."""
        return True

    def open_window(self, window: int, first: int) -> None:
        """Waits are recorded all the time."""

    def close_window(self, last: int) -> None:
        """Waits are recorded all the time."""

    def stop(self) -> None:
        """Put the original methods back. Iterators may live on: workers send what they clock, and nobody reads it."""
        self._look_no_longer()
        while self._undo:
            self._undo.pop()()

    def _look_no_longer(self) -> None:
        self._looks_inside = False
        for progress in self._progress.values():
            progress.forget()
        for timed in tuple(self._fetchers):
            timed.remove()
        self._fetchers.clear()
        self._transforms.remove()

    # --- what is replaced: the user's code is called once in each, and outside every `try`

    def _replace(self, owner: Any, name: str, replacement: Callable[[Method], Method]) -> None:
        original = vars(owner)[name]
        replaced = replacement(original)
        functools.update_wrapper(replaced, original)
        setattr(owner, name, replaced)
        self._undo.append(lambda: setattr(owner, name, original))

    def _look_inside(self) -> None:
        self._looks_inside = True
        self._threads = Threads(self._recorder.failed)
        self._replace(_utils.pin_memory, "_pin_memory_loop", self._threads.timed)
        self._replace(_BaseDataLoaderIter, "_next_index", self._timed_next_index)
        self._replace(dataloader._SingleProcessDataLoaderIter, "__init__", self._started_alone)
        self._follow(dataloader._MultiProcessingDataLoaderIter)
        stateful = dataloader_seams.stateful_module()
        if stateful is not None:
            self._replace(stateful.StatefulDataLoader, "__iter__", self._timed_iter)
            self._replace(stateful._StatefulSingleProcessDataLoaderIter, "__init__", self._started_alone)
            self._follow(stateful._StatefulMultiProcessingDataLoaderIter)

    def _follow(self, iterators: type) -> None:
        self._with_workers += (iterators,)
        self._replace(iterators, "__init__", self._started_with_workers)
        for name, replacement in (
            ("_reset", self._noted_reset),
            ("_try_put_index", self._noted_order),
            ("_try_get_data", self._noted_arrival),
        ):
            if name in vars(iterators):
                self._replace(iterators, name, replacement)

    def _timed_next(self, original: Method) -> Method:
        recorder = self._recorder

        def __next__(iterator: Any) -> Any:
            progress = recorder.guard(self._asked, iterator)
            if progress is None:
                with recorder.wait(0, first=False):
                    return original(iterator)
            with recorder.timed(progress.waited):
                batch = original(iterator)
            recorder.guard(self._came, iterator, progress)
            return batch

        return __next__

    def _timed_iter(self, original: Method) -> Method:
        recorder = self._recorder

        def __iter__(loader: Any) -> Any:
            number = recorder.guard(self._opens, loader) or 0
            with recorder.timed(lambda start, took: opened(loader, number, start, took)):
                iterator = original(loader)
            recorder.guard(self._opened, iterator, number)
            return iterator

        return __iter__

    def _timed_next_index(self, original: Method) -> Method:
        guard = self._recorder.guard

        def _next_index(iterator: Any) -> Any:
            begun = moment()
            index = original(iterator)
            guard(self._sampled, iterator, begun)
            return index

        return _next_index

    def _started_alone(self, original: Method) -> Method:
        guard = self._recorder.guard

        def __init__(iterator: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
            original(iterator, loader, *args, **kwargs)
            guard(self._begin_alone, iterator, loader)

        return __init__

    def _started_with_workers(self, original: Method) -> Method:
        guard = self._recorder.guard

        def __init__(iterator: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
            original(iterator, guard(self._begin_with_workers, iterator, loader) or loader, *args, **kwargs)

        return __init__

    def _noted_reset(self, original: Method) -> Method:
        guard = self._recorder.guard

        def _reset(iterator: Any, loader: Any, first_iter: bool = False, *args: Any, **kwargs: Any) -> Any:
            if not first_iter:
                guard(self._begin_again, iterator)
            result = original(iterator, loader, first_iter, *args, **kwargs)
            guard(self._forget_received, iterator)
            return result

        return _reset

    def _noted_order(self, original: Method) -> Method:
        guard = self._recorder.guard

        def _try_put_index(iterator: Any) -> Any:
            result = original(iterator)
            guard(self._ordered, iterator)
            return result

        return _try_put_index

    def _noted_arrival(self, original: Method) -> Method:
        guard = self._recorder.guard

        def _try_get_data(iterator: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(iterator, *args, **kwargs)
            guard(self._arrived, iterator, result)
            return result

        return _try_get_data

    # --- what is known of iterators

    def _opens(self, loader: Any) -> int:
        """The number of a loader whose iterator is being made: for the training loop, or within a dataset."""
        self._opening = loader if self._recorder.counts_waits() else None
        return self._recorder.loader_number(loader)

    def _begin(self, iterator: Any, loader: Any) -> Progress | None:
        """A new iterator; None where nobody looks inside it: a dataset's own loader, or another thread's."""
        recorder = self._recorder
        if not self._looks_inside or not (loader is self._opening or recorder.counts_waits()):
            return None
        number = recorder.loader_number(loader)
        progress = self._progress[iterator] = Progress(number, self._next_loop(number), self._schedstat)
        return progress

    def _begin_with_workers(self, iterator: Any, loader: Any) -> Any:
        """What the iterator sees instead of the loader."""
        progress = self._begin(iterator, loader)
        if progress is None:
            return loader
        recorder = self._recorder
        capture: Path = recorder.capture
        assignment = Assignment(
            capture=str(capture),
            stem=f"{socket.gethostname()}-{recorder.rank}",
            done=str(RankFolder(capture.parent, recorder.rank).state),
            loader=progress.loader,
            loop=progress.loop,
            asked=now(),
            offset_ns=self._offset_ns,
        )
        return _LoaderView(loader, WorkerStart(loader.worker_init_fn, assignment, recorder.close))

    def _begin_again(self, iterator: Any) -> None:
        progress = self._progress.get(iterator)
        if progress is not None:
            progress.begin_loop(self._next_loop(progress.loader))

    def _forget_received(self, iterator: Any) -> None:
        """What was left of the pass before came in while the workers got ready for this one."""
        progress = self._progress.get(iterator)
        if progress is not None:
            progress.forget_received()

    def _next_loop(self, number: int) -> int:
        known = self._known.setdefault(number, _Known())
        known.loops += 1
        return known.loops - 1

    def _opened(self, iterator: Any, number: int) -> None:
        wanted, self._opening = self._opening is not None, None
        if wanted and iterator not in self._progress:
            self._progress[iterator] = Progress(number, self._next_loop(number), self._schedstat)

    def _adopted(self, iterator: Any) -> Progress:
        """An iterator made before the run, or by an `__iter__` that is not PyTorch's."""
        recorder = self._recorder
        number = recorder.loader_number(iterator)
        settings = {
            "num_workers": iterator._num_workers,
            "dataset": type(iterator._dataset).__name__,
            "cpus": usable_cpus(),
        }
        recorder.append(LoaderOpened(number, type(iterator).__name__, recorder.clock(), 0, settings))
        progress = Progress(number, self._next_loop(number), self._schedstat)
        progress.continue_loop(getattr(iterator, "_send_idx", 0))
        return progress

    def _begin_alone(self, iterator: Any, loader: Any) -> None:
        """There are no workers: the training process makes the batches itself."""
        progress = self._begin(iterator, loader)
        if progress is None:
            return
        progress.pinned_here = bool(iterator._pin_memory)
        self._transforms.put_on(iterator._dataset)

        def clocked(batch: Any, fetch: tuple[Any, ...], samples: Samples, own_ns: int) -> Any:
            progress.fetched = fetch
            self._append_samples(progress.loader, fetch, samples)
            progress.fetched_at = now()
            progress.own_ns += own_ns + progress.fetched_at - fetch[4]
            return batch

        failed = self._recorder.failed
        fetcher = iterator._dataset_fetcher
        self._fetchers.add(TimedFetcher(fetcher, -1, self._schedstat, self._process_io, clocked, failed))

    def _append_samples(self, loader: int, fetch: tuple[Any, ...], samples: Samples) -> None:
        if not self._recorder.in_training_thread() or not self._known[loader].detail.wants(fetch[4] - fetch[1]):
            return
        took = self._transforms.take()
        if samples.durations or took:
            indices = [integer(index) for index in samples.indices]
            start_ns = fetch[1] + self._offset_ns
            self._recorder.defer(SamplesRecord(loader, -1, 0, start_ns, indices, samples.durations, took))

    # --- what happens to batches

    def _asked(self, iterator: Any) -> Progress | None:
        if not self._recorder.counts_waits():
            return None
        begun = now()
        progress = self._progress.get(iterator)
        if progress is None:
            progress = self._progress[iterator] = self._adopted(iterator)
        progress.awaited(iterator._num_yielded == 0)  # torch counts anew with each pass, also where the workers stay
        if self._looks_inside:
            if self._has_workers(iterator):
                progress.asked(_queued(iterator), len(iterator._task_info))
            else:
                progress.asked(0, 0)
            progress.own_ns = now() - begun
        return progress

    def _came(self, iterator: Any, progress: Progress) -> None:
        if not self._looks_inside:
            return
        begun = now()
        in_order = not self._has_workers(iterator) or iterator._in_order
        batch = progress.came(self._delivered(iterator, progress), self._offset_ns, in_order)
        if batch is None:
            return
        known = self._known[progress.loader]
        known.batches += 1
        if known.batches <= ALL_BATCHES or known.batches % THINNED == 0 or self._recorder.annotators:
            self._recorder.defer(batch)
        ended = now()
        own_ns = progress.own_ns + ended - begun
        self._recorder.own_ns += own_ns
        self._cost.add(own_ns, ended - self._came_at)
        self._came_at = ended
        if self._cost.is_due():
            self._judge_own_cost()

    def _has_workers(self, iterator: Any) -> bool:
        return isinstance(iterator, self._with_workers)

    def _delivered(self, iterator: Any, progress: Progress) -> int:
        """The index of the batch the loop has just got, as the iterator counts."""
        if not self._has_workers(iterator):
            return int(iterator._num_yielded) - 1
        return int(iterator._rcvd_idx) - 1 if iterator._in_order else progress.last_received

    def _judge_own_cost(self) -> None:
        """Give up what costs too much; the waits are recorded all the same."""
        own_ns = self._cost.too_much_ns()
        if own_ns:
            self._look_no_longer()
            self._recorder.note(
                f"looking into the loader took {own_ns / 1e3:.0f} µs a batch, more than it may: "
                "it was given up, and from then on only the waits are recorded"
            )

    def _sampled(self, iterator: Any, begun: int) -> None:
        progress = self._progress.get(iterator)
        if progress is not None and begun:
            progress.sampler += now() - begun

    def _ordered(self, iterator: Any) -> None:
        progress = self._progress.get(iterator)
        if progress is not None and self._looks_inside:
            progress.ordered(iterator._send_idx)

    def _arrived(self, iterator: Any, result: Any) -> None:
        came_with, pinned = dataloader_parcels.take(), None
        progress = self._progress.get(iterator)
        if progress is None or not self._looks_inside or not result[0]:
            return
        index = result[1][0]
        if not isinstance(index, int):  # a worker that is ready for its next pass
            return
        if iterator._pin_memory:
            thread = self._threads.of(iterator._data_queue)
            went_through = thread.take(index) if thread is not None else None
            if went_through is not None:
                came_with, pinned = went_through.opened, (went_through.start, went_through.end)
        progress.receive(index, came_with, pinned)


class _LoaderView:
    """What an iterator sees instead of its loader: the same, with another `worker_init_fn`."""

    def __init__(self, loader: Any, worker_init_fn: Any) -> None:
        self.__dict__.update(_loader=loader, worker_init_fn=worker_init_fn)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loader, name, value)


def _looks_as_expected() -> bool:
    """Whether the methods to replace are there, take only their object, and count as the waits need it."""
    methods = [vars(_BaseDataLoaderIter).get("__next__"), vars(DataLoader).get("__iter__")]
    return (
        all(method is not None and list(inspect.signature(method).parameters) == ["self"] for method in methods)
        and "_num_yielded" in _BaseDataLoaderIter.__init__.__code__.co_names
    )


def _queued(iterator: Any) -> int:
    """Batches in the queue; −1 where the system cannot count them."""
    try:
        return int(iterator._data_queue.qsize())
    except NotImplementedError:
        return -1
