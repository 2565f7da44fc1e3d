"""PyTorch's DataLoader: what every batch took to come, and what it takes to begin a pass."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from weakref import WeakKeyDictionary

from torch.utils.data import DataLoader
from torch.utils.data.dataloader import _BaseDataLoaderIter

from profkit.loader import opened, usable_cpus
from profkit.recorder import Recorder
from profkit.records import LoaderOpened

Method = Callable[..., Any]

NOT_COUNTED = nullcontext()


class DataLoaderHook:
    """Times `next` and `iter` of every DataLoader; changes no batch, order, type or random number.

    Iterators of other libraries that derive from PyTorch's, such as torchdata's, are timed too.
    """

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # iterator -> its loader's number

    def start(self, recorder: Recorder) -> None:
        """Replace the two methods; leaves a note instead where the classes do not look as expected."""
        self._recorder = recorder
        if not _looks_as_expected():
            recorder.note("this version of PyTorch's DataLoader is not known: its waits are not recorded")
            return
        self._replace(_BaseDataLoaderIter, "__next__", self._timed_next)
        self._replace(DataLoader, "__iter__", self._timed_iter)

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
        """Put the original methods back."""
        while self._undo:
            self._undo.pop()()

    def _replace(self, owner: type, name: str, timed: Callable[[Method], Method]) -> None:
        original = vars(owner)[name]
        setattr(owner, name, timed(original))
        self._undo.append(lambda: setattr(owner, name, original))

    def _timed_next(self, original: Method) -> Method:
        @functools.wraps(original)
        def __next__(iterator: Any) -> Any:
            with self._recorder.guard(self._wait, iterator) or NOT_COUNTED:
                return original(iterator)

        return __next__

    def _timed_iter(self, original: Method) -> Method:
        @functools.wraps(original)
        def __iter__(loader: Any) -> Any:
            number = self._recorder.guard(self._recorder.loader_number, loader) or 0
            with self._recorder.timed(lambda start, took: opened(loader, number, start, took)):
                iterator = original(loader)
            self._recorder.guard(self._numbers.__setitem__, iterator, number)
            return iterator

        return __iter__

    def _wait(self, iterator: Any) -> AbstractContextManager[None]:
        number = self._numbers.get(iterator)
        if number is None and self._recorder.counts_waits():
            number = self._numbers[iterator] = self._adopted(iterator)
        # torch counts anew with each pass, also where the workers stay.
        return self._recorder.wait(number or 0, first=iterator._num_yielded == 0)

    def _adopted(self, iterator: Any) -> int:
        """An iterator made before the run, or by an `__iter__` that is not PyTorch's."""
        recorder = self._recorder
        number = recorder.loader_number(iterator)
        settings = {
            "num_workers": iterator._num_workers,
            "dataset": type(iterator._dataset).__name__,
            "cpus": usable_cpus(),
        }
        recorder.append(LoaderOpened(number, type(iterator).__name__, recorder.clock(), 0, settings))
        return number


def _looks_as_expected() -> bool:
    """Whether the methods to replace are there, take only their object, and count as `_wait` needs it."""
    methods = [vars(_BaseDataLoaderIter).get("__next__"), vars(DataLoader).get("__iter__")]
    return (
        all(method is not None and list(inspect.signature(method).parameters) == ["self"] for method in methods)
        and "_num_yielded" in _BaseDataLoaderIter.__init__.__code__.co_names
    )
