"""What making one batch takes: a DataLoader's fetcher with a clock, in its worker or in the training process."""

from __future__ import annotations

import inspect
import operator
import os
import weakref
from collections.abc import Callable
from contextlib import suppress
from time import perf_counter_ns as now
from time import process_time_ns, thread_time_ns
from typing import Any, Protocol

CHEAP_SAMPLE_NS = 20_000  # samples that take less are not clocked one by one: that would cost a tenth of them
FRESH_NS = 300_000  # shorter than that no thread waits for a core, and no fetch for storage, in a way that matters
TRIED_FETCHES = 3  # before it is known whether they do
DETAILED_FETCHES = 500  # of each process: their samples are written down; from then on those of slow fetches only
SLOW_FETCH = 2.0  # times the mean of the detailed ones
LARGEST = 2**63


class Clocked(Protocol):
    """What a fetch took: see `profkit.records.Fetch`, whose fields these are, in its order."""

    def __call__(self, batch: Any, fetch: tuple[Any, ...], samples: Samples, own_ns: int) -> Any:
        """Returns what the fetcher's caller gets for `batch`. `own_ns`: what was clocked before the fetch took."""


class Samples:
    """The samples of one fetch in order: their indices, and nanoseconds each."""

    __slots__ = ("durations", "ended", "indices")

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """The next fetch."""
        self.indices: list[Any] = []
        self.durations: list[int] = []
        self.ended = 0  # when the last sample was there

    def add(self, index: Any, begun: int) -> None:
        """The sample is there; it was begun at this moment, 0 if no one knows."""
        try:  # a third of what `suppress` takes
            if begun:
                self.ended = now()
                self.durations.append(self.ended - begun)
                self.indices.append(index)
        except Exception:
            return


class Detail:
    """Which fetches of a process have their samples written down: the first ones, and then the slow ones."""

    __slots__ = ("_fetches", "_took_ns")

    def __init__(self) -> None:
        self._fetches = self._took_ns = 0

    def wants(self, took_ns: int) -> bool:
        """Whether the next fetch, which took so long, is one of them."""
        if self._fetches == DETAILED_FETCHES:
            return took_ns * DETAILED_FETCHES > SLOW_FETCH * self._took_ns
        self._fetches += 1
        self._took_ns += took_ns
        return True


class Schedstat:
    """What the kernel says of the thread that made it: nanoseconds on a core, and nanoseconds runnable without one.

    The first is the thread's CPU clock: /proc/thread-self/schedstat has it too, but only as of the last tick of the
    scheduler, up to 4 ms ago. The second is in schedstat alone. `read()` gives (0, 0) where the system has none.
    """

    def __init__(self) -> None:
        self._fd = _opened("/proc/thread-self/schedstat")
        self._read_at = 0
        self.last = 0, 0  # what was read last

    def read(self) -> tuple[int, int]:
        """Both figures since the thread began. The second is at most FRESH_NS old: reading it takes 4 µs."""
        if self._fd >= 0:
            moment, waiting = now(), self.last[1]
            if moment - self._read_at > FRESH_NS:
                _, text, _ = os.pread(self._fd, 64, 0).split()
                self._read_at, waiting = moment, int(text)
            self.last = thread_time_ns(), waiting
        return self.last

    def close(self) -> None:
        """From here on there are no figures."""
        self._fd = _closed(self._fd)


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

    def close(self) -> None:
        """From here on there are no figures."""
        self._fd = _closed(self._fd)


def _opened(path: str) -> int:
    with suppress(OSError):
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    return -1


def _closed(fd: int) -> int:
    if fd >= 0:
        os.close(fd)
    return -1


class TimedFetcher:
    """Puts a clock around a fetcher's `fetch` and `collate_fn`, and around its samples where they come one by one.

    `clocked` gets what was found and says what the caller gets instead of the batch; `failed` gets what went wrong.
    The user's dataset and collate function are called exactly once and outside every `try`; what fails here costs the
    figures of one fetch. The fetcher holds its clocks, and they do not hold it: a stream that is left early ends when
    it would have ended.
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
        self._fetcher, self._fetch = weakref.ref(fetcher), type(fetcher).fetch
        self._worker = worker
        self._schedstat, self._process_io = schedstat, process_io
        self._clocked, self._failed = clocked, failed
        self._samples = Samples()
        self._collate_start = self._collate_end = 0
        self._fetches = 0
        self._was_read = (
            process_io.read()
        )  # by the process, until the last fetch: between fetches it reads next to nothing
        self._collate_fn = fetcher.collate_fn
        self._watched: _Items | _Stream | None = None
        self._watch_samples(fetcher)
        fetcher.fetch, fetcher.collate_fn = self.fetch, self.collate

    def remove(self) -> None:
        """Give the fetcher back as it was."""
        fetcher = self._fetcher()
        if fetcher is None:
            return
        if vars(fetcher).get("fetch") == self.fetch:
            del fetcher.fetch
        if fetcher.collate_fn == self.collate:
            fetcher.collate_fn = self._collate_fn
        self._unwatch_samples(fetcher)

    def fetch(self, index: Any) -> Any:
        """The fetcher's own, clocked."""
        before = self._before()
        batch = self._fetch(self._fetcher(), index)
        return batch if before is None else self._after(before, batch)

    def collate(self, samples: Any) -> Any:
        """The fetcher's own, clocked."""
        self._collate_start = moment()
        batch = self._collate_fn(samples)
        self._collate_end = moment()
        return batch

    def _before(self) -> tuple[Any, ...] | None:
        try:
            begun = now()
            self._collate_start = self._collate_end = 0
            self._samples.begin()
            if self._worker < 0:  # the training process has read its figures when it asked
                return begun, self._schedstat.last, 0, now()
            return begun, self._schedstat.read(), process_time_ns(), now()
        except Exception as error:
            self._failed(error)
            return None

    def _after(self, before: tuple[Any, ...], batch: Any) -> Any:
        try:
            end = now()
            begun, (cpu, run_queue), process, start = before
            cpu_now, run_queue_now = self._schedstat.read()
            chars, read = self._was_read
            if end - start > FRESH_NS:
                self._was_read = self._process_io.read()
            chars_now, read_now = self._was_read
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
                (self._samples.ended or self._collate_start or end) - start,
            )
            self._fetches += 1
            if self._fetches == TRIED_FETCHES and self._are_cheap():
                self._unwatch_samples(self._fetcher())
            return self._clocked(batch, fetch, self._samples, start - begun)
        except Exception as error:
            self._failed(error)
            return batch

    def _slowest(self) -> tuple[int, int | None]:
        durations = self._samples.durations
        if not durations:
            return 0, None
        longest = max(durations)
        return longest, integer(self._samples.indices[durations.index(longest)])

    def _are_cheap(self) -> bool:
        durations = self._samples.durations
        return len(durations) > 0 and sum(durations) < len(durations) * CHEAP_SAMPLE_NS

    def _watch_samples(self, fetcher: Any) -> None:
        """Only the fetcher sees the stand-in: `get_worker_info().dataset` stays the user's object.

        Not where the dataset hands out whole batches, nor where the iterator's state is asked for.
        """
        if not fetcher.auto_collation:
            return
        if hasattr(fetcher, "dataset_iter"):
            if not _has(fetcher.dataset_iter, "state_dict"):
                self._watched = fetcher.dataset_iter = _Stream(fetcher.dataset_iter, self._samples)
        elif not _has(fetcher.dataset, "__getitems__") and not _has(fetcher.dataset, "state_dict"):
            self._watched = fetcher.dataset = _Items(fetcher.dataset, self._samples)

    def _unwatch_samples(self, fetcher: Any) -> None:
        watched = self._watched
        if watched is None:
            return
        if fetcher.dataset is watched:
            fetcher.dataset = watched._watched
        elif vars(fetcher).get("dataset_iter") is watched:
            fetcher.dataset_iter = watched._watched
        self._watched = None


def _has(owner: Any, name: str) -> bool:
    """Whether it has the attribute, without calling a property or `__getattr__`: they are the user's code."""
    return inspect.getattr_static(owner, name, None) is not None


class _Items:
    """A dataset whose samples are clocked."""

    __slots__ = ("_samples", "_watched")

    def __init__(self, dataset: Any, samples: Samples) -> None:
        self._watched = dataset
        self._samples = samples

    def __getitem__(self, index: Any) -> Any:
        begun = moment()
        sample = self._watched[index]
        self._samples.add(index, begun)
        return sample

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watched, name)


class _Stream:
    """An iterator whose samples are clocked; they are counted, for they have no index."""

    __slots__ = ("_count", "_samples", "_watched")

    def __init__(self, iterator: Any, samples: Samples) -> None:
        self._watched = iterator
        self._samples = samples
        self._count = 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        begun = moment()
        sample = next(self._watched)
        self._samples.add(self._count, begun)
        self._count += 1
        return sample

    def __getattr__(self, name: str) -> Any:
        return getattr(self._watched, name)


def integer(index: Any) -> int | None:
    """The index of a sample as a number of 64 bits; None where it is anything else."""
    with suppress(Exception):
        number = operator.index(index)
        if -LARGEST <= number < LARGEST:
            return number
    return None


def moment() -> int:
    """Now; 0 if even the clock fails, for the user's code comes next."""
    try:
        return now()
    except Exception:
        return 0
