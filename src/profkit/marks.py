"""What a training script writes on its functions: the step, and names for parts of it."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import ParamSpec, TypeVar

from profkit import active
from profkit.decorator import within

P = ParamSpec("P")
R = TypeVar("R")


def step(function: Callable[P, R]) -> Callable[P, R]:
    """Mark `function` as the training step: a step ends when its call does, also by an exception.

    Works on functions, methods, generators, coroutines and asynchronous generators, and changes nothing about
    them. Without an active run the function is just called.
    """
    # Calls that suspend do not nest like a stack, so they cannot be told from calls within each other.
    suspends = any(
        is_such(function)
        for is_such in (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    )
    return within(functools.partial(_MarkedCall, suspends), function)


class _MarkedCall:
    """One call of a marked function; belongs to the run that was active when it began."""

    __slots__ = ("_run", "_suspends")

    def __init__(self, suspends: bool) -> None:
        self._suspends = suspends

    def __enter__(self) -> None:
        self._run = active.listening()
        if self._run is not None:
            self._run._recorder.guard(self._run._step_called, self._suspends)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._run is not None:
            self._run._step_returned(self._suspends)


class annotate:
    """Name a part of the step: `with profkit.annotate("augment"):` or `@profkit.annotate("augment")`.

    It appears in recorded windows; outside them, and without a run, it does nothing.
    """

    __slots__ = ("_name", "_open")

    def __init__(self, name: str) -> None:
        self._name = name
        self._open: list[AbstractContextManager[object] | None] = []  # one object may be entered again within itself

    def __enter__(self) -> None:
        run = active.listening()
        opened = None if run is None else run._recorder.annotated(self._name)
        if opened is not None:
            opened.__enter__()
        self._open.append(opened)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        opened = self._open.pop()
        if opened is not None:
            opened.__exit__(None, None, None)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        return within(functools.partial(annotate, self._name), function)
