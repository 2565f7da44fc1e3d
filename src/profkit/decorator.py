"""Decorators nobody notices: the function keeps its name, signature, kind, values and exceptions."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, ParamSpec, TypeVar, cast

P = ParamSpec("P")
R = TypeVar("R")

Context = Callable[[], AbstractContextManager[object]]


def within(context: Context, function: Callable[P, R]) -> Callable[P, R]:
    """`function` with each call inside a new `context()`, from its first line to its last one.

    A generator's call ends when the generator does, a coroutine's when it has been awaited.
    """
    if inspect.isasyncgenfunction(function):
        wrapped = _async_generator(context, function)
    elif inspect.iscoroutinefunction(function):
        wrapped = _coroutine(context, function)
    elif inspect.isgeneratorfunction(function):
        wrapped = _generator(context, function)
    else:
        wrapped = _plain(context, function)
    return cast(Callable[P, R], functools.wraps(function)(wrapped))


def _plain(context: Context, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with context():
            return function(*args, **kwargs)

    return call


def _generator(context: Context, function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        with context():
            return (yield from function(*args, **kwargs))

    return call


def _coroutine(context: Context, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with context():
            return await function(*args, **kwargs)

    return call


def _async_generator(context: Context, function: Callable[..., Any]) -> Callable[..., Any]:
    async def call(*args: Any, **kwargs: Any) -> Any:
        with context():
            generator = function(*args, **kwargs)
            upcoming = generator.asend(None)
            while True:
                try:
                    item = await upcoming
                except StopAsyncIteration:
                    return
                try:
                    sent = yield item
                except GeneratorExit:
                    await generator.aclose()
                    raise
                except BaseException as error:
                    upcoming = generator.athrow(error)
                else:
                    upcoming = generator.asend(sent)

    return call
