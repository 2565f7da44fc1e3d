"""What making one batch takes: a DataLoader's fetcher with a clock, in its worker or in the training process."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns as now
from time import process_time_ns
from typing import Any, Protocol

CHEAP_SAMPLE_NS = 20_000  # samples that take less are not clocked one by one: that would cost a tenth of them
TRIED_FETCHES = 3  # before it is known whether they do


class Clocked(Protocol):
    """What a fetch took: see `profkit.records.Fetch`, whose fields these are, in its order."""

    def __call__(self, batch: Any, fetch: tuple[Any, ...], samples: Samples) -> Any:
        """Returns what the fetcher's caller gets for `batch`."""


class Samples:
    """The samples of one fetch in order: their indices, and nanoseconds each."""

    __slots__ = ("durations", "indices")

    def __init__(self) -> None:
        self.indices: list[Any] = []
        self.durations: list[int] = []

    def add(self, index: Any, begun: int) -> None:
        """The sample is there; it was begun at this moment, 0 if no one knows."""
        with suppress(Exception):
            if begun:
                self.durations.append(now() - begun)
                self.indices.append(index)


class Schedstat:
    """What the kernel says of the calling thread: nanoseconds on a core, and nanoseconds runnable without one.

    /proc/thread-self/schedstat; `read()` gives (0, 0) where the system has none.
    """

    def __init__(self) -> None:
        self._fd = _opened("/proc/thread-self/schedstat")

    def read(self) -> tuple[int, int]:
        """Both figures since the thread began."""
        if self._fd < 0:
            return 0, 0
        on_core, waiting, _ = os.pread(self._fd, 64, 0).split()
        return int(on_core), int(waiting)


class ProcessIO:
    """What the kernel says this process has read: bytes by system calls, and bytes that storage had to deliver.

    /proc/self/io; `read()` gives (0, 0) where the system has none.
    """

    def __init__(self) -> None:
        self._fd = _opened("/proc/self/io")

    def read(self) -> tuple[int, int]:
        """Both figures since the process began."""
        if self._fd < 0:
            return 0, 0
        fields = os.pread(self._fd, 256, 0).split()
        return int(fields[1]), int(fields[9])  # rchar, read_bytes


def _opened(path: str) -> int:
    with suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return -1


class TimedFetcher:
    """Puts a clock around a fetcher's `fetch` and `collate_fn`, and around its samples where they come one by one.

    `clocked` gets what was found and says what the caller gets instead of the batch; `failed` gets what went wrong.
    The user's dataset and collate function are called exactly once and outside every `try`; what fails here costs the
    figures of one fetch.
    """

    def __init__(
        self,
        fetcher: Any,
        worker: int,
        schedstat: Schedstat,
        process_io: ProcessIO,
        clocked: Clocked,
        failed: Callable[[Exception], object],
    ) -> None:
        self._fetcher = fetcher
        self._worker = worker
        self._schedstat, self._process_io = schedstat, process_io
        self._clocked, self._failed = clocked, failed
        self._samples = Samples()
        self._collate_start = self._collate_end = 0
        self._fetches = 0
        self._fetch, self._collate_fn = fetcher.fetch, fetcher.collate_fn
        fetcher.fetch, fetcher.collate_fn = self.fetch, self.collate
        self._dataset = None
        self._watch_samples(fetcher)

    def remove(self) -> None:
        """Give the fetcher back as it was."""
        fetcher = self._fetcher
        fetcher.fetch, fetcher.collate_fn = self._fetch, self._collate_fn
        self._unwatch_samples()

    def fetch(self, index: Any) -> Any:
        """The fetcher's own, clocked."""
        before = self._before()
        batch = self._fetch(index)
        return batch if before is None else self._after(before, batch)

    def collate(self, samples: Any) -> Any:
        """The fetcher's own, clocked."""
        self._collate_start = _moment()
        batch = self._collate_fn(samples)
        self._collate_end = _moment()
        return batch

    def _before(self) -> tuple[Any, ...] | None:
        try:
            self._collate_start = self._collate_end = 0
            self._samples = Samples()
            return self._schedstat.read(), self._process_io.read(), process_time_ns(), now()
        except Exception as error:
            self._failed(error)
            return None

    def _after(self, before: tuple[Any, ...], batch: Any) -> Any:
        try:
            end = now()
            (cpu, run_queue), (chars, read), process, start = before
            cpu_now, run_queue_now = self._schedstat.read()
            chars_now, read_now = self._process_io.read()
            slowest, slowest_index = self._slowest()
            fetch = (
                self._worker,
                start,
                self._collate_start or end,
                self._collate_end or end,
                end,
                cpu_now - cpu,
                run_queue_now - run_queue,
                chars_now - chars,
                read_now - read,
                slowest,
                slowest_index,
                process,
            )
            self._fetches += 1
            if self._fetches == TRIED_FETCHES and self._are_cheap(end - start):
                self._unwatch_samples()
            return self._clocked(batch, fetch, self._samples)
        except Exception as error:
            self._failed(error)
            return batch

    def _slowest(self) -> tuple[int, int | None]:
        durations = self._samples.durations
        if not durations:
            return 0, None
        longest = max(durations)
        return longest, integer(self._samples.indices[durations.index(longest)])

    def _are_cheap(self, fetch_ns: int) -> bool:
        count = len(self._samples.durations)
        return count > 0 and fetch_ns < count * CHEAP_SAMPLE_NS

    def _watch_samples(self, fetcher: Any) -> None:
        """Only the fetcher sees the stand-in: `get_worker_info().dataset` stays the user's object.

        Not where the dataset hands out whole batches, nor where the iterator's state is asked for.
        """
        if not fetcher.auto_collation:
            return
        if not hasattr(fetcher, "dataset_iter"):
            if not getattr(fetcher.dataset, "__getitems__", None):
                self._dataset, fetcher.dataset = fetcher.dataset, _Items(fetcher.dataset, self)
        elif not hasattr(fetcher.dataset_iter, "state_dict"):
            self._dataset, fetcher.dataset_iter = fetcher.dataset_iter, _Stream(fetcher.dataset_iter, self)

    def _unwatch_samples(self) -> None:
        if isinstance(self._fetcher.dataset, _Items):
            self._fetcher.dataset = self._dataset
        elif isinstance(getattr(self._fetcher, "dataset_iter", None), _Stream):
            self._fetcher.dataset_iter = self._dataset


class _Items:
    """A dataset whose samples are clocked."""

    __slots__ = ("_dataset", "_timed")

    def __init__(self, dataset: Any, timed: TimedFetcher) -> None:
        self._dataset = dataset
        self._timed = timed

    def __getitem__(self, index: Any) -> Any:
        begun = _moment()
        sample = self._dataset[index]
        self._timed._samples.add(index, begun)
        return sample

    def __getattr__(self, name: str) -> Any:
        return getattr(self._dataset, name)


class _Stream:
    """An iterator whose samples are clocked; they are counted, for they have no index."""

    __slots__ = ("_count", "_iterator", "_timed")

    def __init__(self, iterator: Any, timed: TimedFetcher) -> None:
        self._iterator = iterator
        self._timed = timed
        self._count = 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        begun = _moment()
        sample = next(self._iterator)
        self._timed._samples.add(self._count, begun)
        self._count += 1
        return sample

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


def integer(index: Any) -> int | None:
    """The index of a sample as a number; None where it is anything else."""
    return index if isinstance(index, int) else int(index) if hasattr(index, "__index__") else None


def _moment() -> int:
    """Now; 0 if even the clock fails, for the user's code comes next."""
    try:
        return now()
    except Exception:
        return 0
