"""Kineto's Chrome JSON, the files torch.profiler writes, in all the forms it has had since torch 1.8.

Four eras (facts measured on traces of torch 1.8 to 2.13): capitalised categories and string thread ids (1.8–1.9);
lower-case categories with whole microseconds since the epoch (1.10–2.2); the same with fractions (2.3); fractions
relative to `baseTimeNanoseconds` (2.4 on). CPU, NVIDIA, AMD and MTIA devices differ only in categories and names.
Any other file in the Chrome format is read too, as spans without operators.

A file that is not valid JSON is repaired piece by piece: broken UTF-8, unquoted N/A and NaN, trailing commas, stray
backslashes and control characters; what still does not parse is dropped event by event and counted.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.errors import UnreadableTrace
from profkit.readers import jsonpieces
from profkit.readers.kineto_columns import GROUPS, NO_SPANS, integer, is_returned, returned_columns
from profkit.readers.kineto_events import (
    BROKEN,
    Event,
    MemoryArgs,
    NameArgs,
    arguments,
    decode_document,
    decode_events,
    repaired,
    salvage_events,
)
from profkit.readers.kineto_header import header_fields, header_of
from profkit.trace.arrays import nullable
from profkit.trace.batch import NATIVE_FLOWS, NATIVE_MEMORY, Batch, NativeTrack, ReadContext
from profkit.trace.schema import WORD
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]

KERNEL_CATEGORIES = frozenset(("kernel", "Kernel"))
_NAMING = frozenset(("thread_name", "process_name"))
BACKWARD_FLOWS = frozenset(("fwdbwd", "forward_backward"))

# An XSpace may begin with a newline and a length of 91 or 123, but then a control character follows.
_JSON_BEGINS = re.compile(rb"\s*[{\[]([^\x00-\x08\x0e-\x1f]|$)")

# No time of a training lies further from 1970, in microseconds; what does is damage.
FURTHEST_US = 4e15


class KinetoReader:
    """Reads Chrome-format JSON, gzip or plain, in bounded pieces."""

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the content begins like a JSON object or array."""
        return _JSON_BEGINS.match(head) is not None

    def read(self, path: Path, context: ReadContext) -> Iterator[Batch]:
        """Yield the file's events in batches of columns. Raises UnreadableTrace where there are none."""
        reading = _Reading(path)
        for piece in jsonpieces.pieces(path):
            if piece.document is None:
                yield reading.batch(reading.events(piece.events))
            else:
                yield reading.last_batch(piece)


class _Reading:
    """One pass over one file: the names of its tracks, what was dropped and what was repaired on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lanes = _Lanes()
        self.thread_names: dict[int, str] = {}
        self.devices: dict[int, str] = {}
        self.process_names: dict[Any, str] = {}
        self.mended = False
        self.lost = 0
        self.seen = 0

    def events(self, array: bytes) -> list[Event]:
        """The events of a JSON array, repaired where it is no valid JSON."""
        try:
            return decode_events(array)
        except BROKEN:
            return self._salvaged(array[1:-1])

    def last_batch(self, piece: jsonpieces.Piece) -> Batch:
        """The batch of the last piece, with tracks and header."""
        assert piece.document is not None
        events, top = self._last_events(piece.events, piece.document)
        if not self.seen and not any(event.ph for event in events):
            raise self._no_trace(top, piece.document)
        batch = self.batch(events)
        return Batch(
            batch.spans,
            batch.memory,
            batch.flows,
            batch.counts,
            batch.dropped,
            tracks=self._tracks(),
            header=header_of(top),
            notes=self._notes(),
        )

    def batch(self, events: list[Event]) -> Batch:
        """Columns of some events."""
        self.seen += len(events)
        spans = [e for e in events if e.ph == "X"]
        others: dict[str, list[Event]] = defaultdict(list)
        if len(spans) < len(events):
            for event in events:
                if event.ph != "X":
                    others[event.ph].append(event)
        halves = [e for e in events if e.ph in ("B", "E")] if {"B", "E"} & others.keys() else []
        joined = _joined_halves(halves)
        table, without_time, kernels = self._spans(spans + joined if joined else spans)
        dropped = {
            "spans without a usable time": without_time,
            "counter events": len(others["C"]),
            "begin or end events without a partner": len(halves) - 2 * len(joined),
        }
        self._learn_names(list({(e.name, e.pid, e.tid): e for e in others["M"] if e.name in _NAMING}.values()))
        memory = [e for e in others["i"] if e.name == "[memory]" and _has_time(e)]
        arrows = [e for e in others["s"] + others["f"] if e.cat in BACKWARD_FLOWS]
        flows = [e for e in arrows if _has_time(e) and _is_id(e.id)]
        return Batch(
            table,
            self._memory(memory),
            self._flows(flows),
            {"events": len(events), "kernels": kernels, "memory": len(memory)},
            {reason: count for reason, count in dropped.items() if count},
        )

    def _last_events(self, text: bytes, document: bytes) -> tuple[list[Event], dict[str, Any]]:
        """Events of the last piece and the document's other fields."""
        for mend in (None, repaired):
            attempt = mend(document) if mend else document
            try:
                if attempt.lstrip()[:1] == b"[":
                    return decode_events(attempt), {}
                top: dict[str, Any] = dict(decode_document(attempt))
                if "traceEvents" not in top:
                    return [], top
                events = decode_events(top.pop("traceEvents"))
            except BROKEN:
                continue
            self.mended = self.mended or attempt is not document
            return events, top
        header = document[: len(document) - len(text)]
        if not header:
            return [], {}
        return self._salvaged(text), header_fields(header)

    def _salvaged(self, text: bytes) -> list[Event]:
        """The events of damaged JSON; one by one where mending its text is not enough, the lost ones counted."""
        text = repaired(text)
        self.mended = True
        try:
            return decode_events(b"[" + text + b"]")
        except BROKEN:
            events, lost = salvage_events(text)
            self.lost += lost
            return events

    def _notes(self) -> tuple[str, ...]:
        if self.lost:
            plural = "event" if self.lost == 1 else "events"
            return (f"the file is damaged or cut short: {self.lost:,} {plural} could not be read",)
        return ("the file is no valid JSON; its text was repaired",) if self.mended else ()

    def _no_trace(self, top: dict[str, Any], document: bytes) -> UnreadableTrace:
        if top:
            keys = ", ".join(list(top)[:6])
            return UnreadableTrace(f"{self.path} is no trace: JSON without trace events (its keys: {keys})")
        if document.lstrip()[:1] in (b"[", b"{"):
            return UnreadableTrace(f"{self.path} is no trace: it holds no event in the Chrome format")
        return UnreadableTrace(f"{self.path} is no trace: it is not JSON")

    def _learn_names(self, events: Sequence[Event]) -> None:
        for event, args in zip(events, arguments(events, NameArgs), strict=True):
            if not isinstance(args.name, str):
                continue
            if event.name == "thread_name":
                lane = self.lanes[event.pid, event.tid]
                self.thread_names[lane], self.devices[lane] = args.name, args.device or ""
            else:
                self.process_names[integer(event.pid)] = args.name

    def _tracks(self) -> tuple[NativeTrack, ...]:
        return tuple(
            NativeTrack(
                pid,
                tid,
                self.thread_names.get(lane, label),
                self.process_names.get(pid, ""),
                self.devices.get(lane, ""),
            )
            for lane, (pid, tid, label) in enumerate(self.lanes.native)
        )

    def _spans(self, events: list[Event]) -> tuple[pl.DataFrame, int, int]:
        """Columns of the spans in the order of the file, how many had no usable time, and how many are kernels."""
        if not events:
            return pl.DataFrame(), 0, 0
        lanes = self.lanes
        category = pl.Series([e.cat for e in events], dtype=WORD)
        start = np.array([e.ts for e in events], np.float64)  # None becomes NaN
        duration = np.array([e.dur for e in events], np.float64)
        usable = (duration >= 0) & (duration < FURTHEST_US) & (np.abs(start) < FURTHEST_US)
        columns: dict[str, Any] = {
            "start_ns": nanoseconds(np.where(usable, start, 0)),
            "duration_ns": nanoseconds(np.where(usable, duration, 0)),
            "name": pl.Series([e.name for e in events], dtype=WORD),
            "category": category,
            "track": np.array([lanes[e.pid, e.tid] for e in events], np.uint32),
        }
        if is_returned(events):
            return pl.DataFrame(columns | returned_columns(events)).filter(usable), int((~usable).sum()), 0
        words = Words(category)
        table = pl.DataFrame(columns).with_columns(_own_columns(events, words))
        left_out = words.among(*NO_SPANS)
        kernels = int(words.among(*KERNEL_CATEGORIES).sum())
        keep = usable & ~left_out
        unusable = int((~usable & ~left_out).sum())
        return (table if keep.all() else table.filter(keep)), unusable, kernels

    def _memory(self, events: list[Event]) -> pl.DataFrame:
        args = arguments(events, MemoryArgs)
        columns = {
            "time_ns": nanoseconds([e.ts for e in events]),
            "track": [self.lanes[e.pid, e.tid] for e in events],
            "device": [a.device or _device_name(a.device_type, a.device_id) for a in args],
            "address": [_unsigned(a.address) for a in args],
            "bytes": [a.bytes for a in args],
            "allocated_bytes": [a.allocated for a in args],
            "reserved_bytes": [a.reserved for a in args],
        }
        return pl.DataFrame(columns, schema=NATIVE_MEMORY, strict=False).drop_nulls("bytes")

    def _flows(self, events: list[Event]) -> pl.DataFrame:
        columns = {
            "id": [e.id for e in events],
            "begins": [e.ph == "s" for e in events],
            "track": [self.lanes[e.pid, e.tid] for e in events],
            "time_ns": nanoseconds([e.ts for e in events]),
        }
        return pl.DataFrame(columns, schema=NATIVE_FLOWS)


def _own_columns(events: list[Event], words: Words) -> list[pl.Series]:
    """The columns that only some categories have, null for the others."""
    rows = [np.flatnonzero(words.among(*categories)) for categories, _ in GROUPS]
    tables = [
        pl.DataFrame(columns([events[row] for row in found.tolist()]))
        for found, (_, columns) in zip(rows, GROUPS, strict=True)
        if len(found)
    ]
    if not tables:
        return []
    told = pl.concat(tables, how="diagonal")
    place = np.full(len(events), -1, np.int64)
    place[np.concatenate(rows)] = np.arange(told.height)
    return told.select(pl.all().gather(nullable(place))).get_columns()


class _Lanes(dict[tuple[Any, Any], int]):
    """(pid, tid) -> number of the track, in order of appearance; `"7"`, `"stream 7"` and 7 are one."""

    def __init__(self) -> None:
        self.native: list[tuple[int | None, int | None, str]] = []
        self._numbers: dict[tuple[Any, Any], int] = {}

    def __missing__(self, key: tuple[Any, Any]) -> int:
        pid, tid = key
        number, thread = integer(pid), integer(tid)
        normal = (pid if number is None else number, tid if thread is None else thread)
        normal = (str(normal[0]), str(normal[1]))
        if normal not in self._numbers:
            self._numbers[normal] = len(self.native)
            self.native.append((number, thread, tid if isinstance(tid, str) else ""))
        lane = self[key] = self._numbers[normal]
        return lane


def nanoseconds(microseconds: Sequence[float | None] | npt.NDArray[np.float64]) -> Ints:
    """Exact integer nanoseconds of times the format gives in microseconds with up to three decimals.

    Whole and fractional part apart: multiplied at once, times of this size would round to the wrong nanosecond.
    """
    values = np.asarray(microseconds, np.float64)
    whole = np.floor(values)
    return whole.astype(np.int64) * 1_000 + np.rint((values - whole) * 1_000).astype(np.int64)


def _joined_halves(halves: list[Event]) -> list[Event]:
    """Spans from begin and end events, which nest by thread."""
    open_by_thread: dict[tuple[Any, Any], list[Event]] = {}
    joined = []
    for event in halves:
        stack = open_by_thread.setdefault((event.pid, event.tid), [])
        if event.ph == "B":
            stack.append(event)
        elif stack:
            begun = stack.pop()
            if begun.ts is not None and event.ts is not None and event.ts >= begun.ts:
                begun.dur = event.ts - begun.ts
                joined.append(begun)
    return joined


def _has_time(event: Event) -> bool:
    return event.ts is not None and abs(event.ts) < FURTHEST_US


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < 2**62


def _unsigned(value: int | None) -> int | None:
    return None if value is None else value & 0xFFFF_FFFF_FFFF_FFFF


# c10/core/DeviceType.h, the ones an allocator reports for.
_DEVICE_TYPES = {0: "cpu", 1: "cuda", 6: "hip", 9: "xla", 12: "xpu", 13: "mps", 19: "mtia", 20: "privateuse1"}


@cache
def _device_name(kind: int | None, index: int | None) -> str:
    name = _DEVICE_TYPES.get(kind or 0, f"device{kind}")
    return name if index is None or index < 0 else f"{name}:{index}"
