"""What each transform of a dataset's pipeline takes: pipelines as torchvision, albumentations and MONAI have them.

A pipeline is an object with a list `transforms`. The classes of its transforms are given a clock; transforms that are
plain functions cannot be, and are left out.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import suppress
from time import perf_counter_ns as now
from types import FunctionType
from typing import Any

LOOKED_INTO = ("transform", "transforms", "target_transform", "dataset")  # attributes a pipeline is found in
DEEPEST = 4  # a subset of a concatenation of ..., and pipelines within pipelines
CORE = "torch.nn."  # a model may be made of the same classes


class TransformClocks:
    """Clocks on transform classes; `take()` gives what has been clocked since."""

    def __init__(self) -> None:
        self._took: dict[str, tuple[int, int]] = {}
        self._undo: dict[type, Callable[[], None]] = {}
        self._busy = False  # transforms within transforms count once

    def put_on(self, dataset: Any) -> None:
        """A clock on every transform class of this dataset that has none."""
        for transform in _transforms(dataset, DEEPEST):
            kind = type(transform)
            if kind not in self._undo and not f"{kind.__module__}.".startswith(CORE):
                self._put_on(kind)

    def take(self) -> dict[str, tuple[int, int]]:
        """Calls and nanoseconds by name of the class, since this was last asked."""
        self._busy = False  # one that raised has no end
        took, self._took = self._took, {}
        return took

    def remove(self) -> None:
        """Take the clocks off."""
        while self._undo:
            self._undo.popitem()[1]()

    def _put_on(self, kind: type) -> None:
        original, own = kind.__call__, vars(kind).get("__call__")
        name = kind.__qualname__
        if not isinstance(original, FunctionType):  # a class of C, or of something that cannot be called
            return

        @functools.wraps(original)
        def __call__(transform: Any, *args: Any, **kwargs: Any) -> Any:
            begun = self._begin()
            transformed = original(transform, *args, **kwargs)
            self._end(name, begun)
            return transformed

        kind.__call__ = __call__  # type: ignore[method-assign]
        self._undo[kind] = (
            functools.partial(delattr, kind, "__call__")
            if own is None
            else functools.partial(setattr, kind, "__call__", own)
        )

    def _begin(self) -> int:
        with suppress(Exception):
            if not self._busy:
                self._busy = True
                return now()
        return 0

    def _end(self, name: str, begun: int) -> None:
        with suppress(Exception):
            if begun:
                self._busy = False
                calls, total = self._took.get(name, (0, 0))
                self._took[name] = calls + 1, total + now() - begun


def _transforms(holder: Any, deepest: int) -> Iterator[Any]:
    """The single transforms of every pipeline found in the usual attributes of `holder`."""
    if deepest == 0:
        return
    listed = _attribute(holder, "transforms")
    if isinstance(listed, list | tuple):
        for transform in listed:
            inner = list(_transforms(transform, deepest - 1))
            yield from inner or (transform,)
        return
    for name in LOOKED_INTO:
        found = _attribute(holder, name)
        if found is not None and not isinstance(found, type):
            yield from _transforms(found, deepest - 1)


def _attribute(holder: Any, name: str) -> Any:
    """What the object itself holds under this name: properties are the user's code, and are not called."""
    return getattr(holder, "__dict__", {}).get(name)
