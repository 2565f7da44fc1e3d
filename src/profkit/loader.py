"""Any iterable as an input whose waits are recorded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sized
from typing import Any, Generic, TypeVar

from profkit.recorder import Recorder, Timed
from profkit.records import LoaderOpened

T = TypeVar("T")

WAIT_RANGE = "profkit.loader#next"  # by this name the reader knows the wait in a recorded window

SETTINGS = (
    "num_workers",
    "batch_size",
    "prefetch_factor",
    "persistent_workers",
    "pin_memory",
    "in_order",
    "timeout",
    # Keras's PyDataset
    "workers",
    "use_multiprocessing",
    "max_queue_size",
)


class TimedLoader(Generic[T]):
    """Stands for `iterable`, attributes included; its iterators record what each batch took to come.

    `source` is what the record describes, where the iterable only passes on what another object makes. `ends_steps`:
    asking for the next batch may end a step.
    """

    def __init__(
        self, iterable: Iterable[T], recorder: Recorder, source: object = None, ends_steps: bool = True
    ) -> None:
        self._iterable = iterable
        self._recorder = recorder
        self._source = iterable if source is None else source
        self._ask = recorder.request if ends_steps else recorder.wait

    def __iter__(self) -> Iterator[T]:
        number = self._recorder.guard(self._recorder.loader_number, self._source) or 0
        with self._recorder.timed(lambda start, took: opened(self._source, number, start, took)):
            iterator = iter(self._iterable)
        return TimedIterator(iterator, number, self._recorder, self._ask)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterable, name)


class SizedTimedLoader(TimedLoader[T]):
    """A TimedLoader over an iterable that knows its length."""

    def __len__(self) -> int:
        return len(self._iterable)  # type: ignore[arg-type]  # made only where it is Sized


class TimedIterator(Iterator[T]):
    """Stands for `iterator`, attributes included; records a wait for each batch that comes."""

    def __init__(
        self, iterator: Iterator[T], loader: int, recorder: Recorder, ask: Callable[[int, bool], Timed]
    ) -> None:
        self._iterator = iterator
        self._loader = loader
        self._recorder = recorder
        self._ask = ask
        self._first = True

    def __next__(self) -> T:
        first, self._first = self._first, False
        with self._ask(self._loader, first), self._recorder.annotated(WAIT_RANGE):
            return next(self._iterator)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._iterator, name)


def timed_loader(
    iterable: Iterable[T], recorder: Recorder, source: object = None, ends_steps: bool = True
) -> TimedLoader[T]:
    """`iterable`, with its waits recorded as those for `source`."""
    kind = SizedTimedLoader if isinstance(iterable, Sized) else TimedLoader
    return kind(iterable, recorder, source, ends_steps)


def opened(loader: object, number: int, start_ns: int, duration_ns: int) -> LoaderOpened:
    """The record of a new pass over `loader`, with its settings as far as it has them."""
    return LoaderOpened(number, type(loader).__name__, start_ns, duration_ns, settings(loader))


def settings(loader: object) -> dict[str, str | int | float | bool | None]:
    """What advice about `loader` needs to know, in the words of PyTorch's DataLoader, and the usable CPUs."""
    found = {name: getattr(loader, name) for name in SETTINGS if hasattr(loader, name)}
    known = {name: value for name, value in found.items() if isinstance(value, str | int | float | None)}
    dataset = getattr(loader, "dataset", None)
    if dataset is not None:
        known["dataset"] = type(dataset).__name__
    return {**known, "cpus": usable_cpus()}


def usable_cpus() -> int:
    """Logical CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
