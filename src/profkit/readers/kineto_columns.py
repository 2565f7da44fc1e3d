"""The columns that spans of Kineto's categories have besides name and time, from their arguments."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import msgspec
import polars as pl

from profkit.readers.kineto_events import (
    Details,
    Event,
    LaunchArgs,
    OperatorArgs,
    ReturnedArgs,
    arguments,
    one_argument,
)
from profkit.trace.schema import WORD
from profkit.trace.vocabulary import categories_of

Group = Callable[[list[Event]], dict[str, pl.Series]]  # a group of categories, by the columns of its own

OPERATOR_CATEGORIES = categories_of("op") | {"user_annotation"}
RUNTIME_CATEGORIES = categories_of("runtime")
DEVICE_CATEGORIES = categories_of("kernel", "memcpy", "memset", "sync")
RETURNED = b'"profkit category"'  # an argument of every span of a file in which profkit wrote another format's trace

_encode = msgspec.json.encode


def _operator_columns(events: list[Event]) -> dict[str, pl.Series]:
    args = arguments(events, OperatorArgs)
    columns = {
        "shapes": _texts([a.shapes for a in args]),
        "dtypes": _texts([a.dtypes for a in args]),
        "stack": [a.call_stack or None for a in args] if any(a.call_stack for a in args) else None,
        "module": [a.module or None for a in args] if any(a.module for a in args) else None,
        "args": _collective_details(events, args) if any(a.collective or a.kernel_backend for a in args) else None,
    }
    return {name: pl.Series(values, dtype=WORD) for name, values in columns.items() if values is not None}


def _collective_details(events: list[Event], args: list[OperatorArgs]) -> list[str | None]:
    return [
        _details_as_json([one_argument(event.args, Details)])[0] if a.collective or a.kernel_backend else None
        for event, a in zip(events, args, strict=True)
    ]


def _launch_columns(events: list[Event]) -> dict[str, pl.Series]:
    return {"correlation": _integers([a.correlation for a in arguments(events, LaunchArgs)])}


def _device_columns(events: list[Event]) -> dict[str, pl.Series]:
    work = arguments(events, Details)
    return {
        "correlation": _integers([a.correlation for a in work]),
        "bytes": _integers([integer(a.bytes) for a in work]),
        "args": pl.Series(_details_as_json(work), dtype=WORD),
    }


def is_returned(events: list[Event]) -> bool:
    """Whether these came from another format, as profkit's own exports of such traces say in every span."""
    return bool(events) and RETURNED in bytes(events[0].args)


def returned_columns(events: list[Event]) -> dict[str, pl.Series]:
    """All that the source said, under its own words."""
    args = arguments(events, ReturnedArgs)
    return {
        "name": pl.Series([a.own_name or e.name for a, e in zip(args, events, strict=True)], dtype=WORD),
        "category": pl.Series([a.category or e.cat for a, e in zip(args, events, strict=True)], dtype=WORD),
        "correlation": _integers([a.correlation for a in args]),
        "bytes": _integers([a.bytes for a in args]),
        "flops": _integers([a.flops for a in args]),
        "shapes": pl.Series(_texts([a.shapes for a in args]), dtype=WORD),
        "dtypes": pl.Series(_texts([a.dtypes for a in args]), dtype=WORD),
        "stack": pl.Series([a.call_stack for a in args], dtype=WORD),
        "module": pl.Series([a.module for a in args], dtype=WORD),
        "source": pl.Series([a.source for a in args], dtype=WORD),
        "args": pl.Series(_texts([a.own_args for a in args]), dtype=WORD),
    }


# Categories whose arguments are looked at. Of Python's frames and everything unknown nothing but name and time is kept.
GROUPS: tuple[tuple[frozenset[str], Group], ...] = (
    (OPERATOR_CATEGORIES, _operator_columns),
    (RUNTIME_CATEGORIES, _launch_columns),
    (DEVICE_CATEGORIES, _device_columns),
)
NO_SPANS = ("Trace",)  # the recording itself


def _integers(values: list[int | None]) -> pl.Series:
    """A column of integers; one that is too large becomes null."""
    return pl.Series(values, dtype=pl.Int64, strict=False)


def _texts(raws: list[msgspec.Raw]) -> list[str | None]:
    """JSON fragments as text, None where there is none; taken together, for a character no JSON holds divides them."""
    joined = b"\0".join(raws).decode("utf-8", "replace")
    return [text or None for text in joined.split("\0")]


def _details_as_json(work: list[Details]) -> list[str | None]:
    """The arguments peers use, each a JSON object; None where there are none."""
    for details in work:
        details.correlation = details.bytes = None  # these have columns of their own
    return [None if text == b"{}" else text.decode("utf-8", "replace") for text in map(_encode, work)]


def integer(value: Any) -> int | None:
    """An integer from 7, "7" or "stream 7"."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and (found := re.fullmatch(r"(?:stream )?(-?\d{1,18})", value.strip())):
        return int(found[1])
    return None
