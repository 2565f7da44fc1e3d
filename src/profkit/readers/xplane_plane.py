"""A plane of an XSpace: its tables, and its events in columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from profkit.readers.xplane_entries import SCHEDULING, Entry, device_entry, device_of, host_entry, line_kind
from profkit.readers.xplane_statistics import Keys, Names, Statistics
from profkit.readers.xplane_wire import Fields, Ints, Packed

Bools = npt.NDArray[np.bool_]
Stats = dict[str, Any]

PS_PER_NS = 1_000
# Categories that become no rows: half of all events at host level 2 and 3, and no question asks for them.
BOOKKEEPING = frozenset((SCHEDULING,))

# Tags of XLine's fields.
_ID, _NAME, _TIMESTAMP, _EVENT, _DISPLAY_NAME = 0x08, 0x12, 0x18, 0x22, 0x5A
# Tags of XEvent's fields. An offset and a number of occurrences are choices of one field: a sum of events has no time.
_METADATA, _OFFSET, _DURATION, _STATISTIC, _OCCURRENCES = 0x08, 0x10, 0x18, 0x22, 0x28


@dataclass(frozen=True, slots=True)
class Line:
    """A thread or stream. Its events count from `timestamp_ns`."""

    id: int
    name: str
    display_name: str
    timestamp_ns: int


class Plane:
    """A plane's message with its tables, and where its events lie; `device` is None for the host."""

    def __init__(self, message: Any) -> None:
        """Raises Damaged."""
        self.message = message
        self.name: str = message.name
        self.device = device_of(self.name)
        self.stat_table: dict[int, str] = {key: metadata.name for key, metadata in message.stat_metadata.items()}
        self.stats = self.stats_of(message)
        self.packed = Packed(list(message.lines))
        self.events, others = self.packed.long_fields(_EVENT)  # the events' messages are the lines
        self.lines = _lines(self.packed, others, len(message.lines))

    def stats_of(self, message: Any) -> Stats:
        """The statistics of the plane or of an event's metadata, by name."""
        return {self.stat_table.get(stat.metadata_id, ""): self._value(stat) for stat in message.stats}

    def entry(self, metadata: Any, line: str) -> Entry:
        """What events with these metadata are on a line of this kind; None: metadata that the file has lost."""
        if metadata is None:
            return Entry("", "host")
        if self.device is None:
            return host_entry(metadata.name, line)
        return device_entry(metadata, self.stats_of(metadata), line)

    def _value(self, stat: Any) -> Any:
        word = stat.WhichOneof("value")
        if word == "ref_value":
            return self.stat_table.get(stat.ref_value, "")
        return None if word is None else getattr(stat, word)


class Events:
    """The events of a plane that become rows.

    `line` and `code` point each to its line and to its entry, `start` and `duration` are nanoseconds, the start since
    the file's zero. `total` counts all events of the plane, `bookkeeping` and `sums` those that are no rows.
    """

    def __init__(self, plane: Plane) -> None:
        """Raises Damaged."""
        packed, line, begin = plane.packed, plane.events.message, plane.events.begin
        end = begin + plane.events.value.astype(np.int64)
        self.entries, self.kinds, code = _entries(plane, _metadata_ids(packed, begin, end), line)
        kept = np.flatnonzero(~np.array([entry.category in BOOKKEEPING for entry in self.entries], np.bool_)[code])
        self.total, self.bookkeeping = len(code), len(code) - len(kept)
        fields = packed.fields(begin[kept], end[kept])
        occurrences = fields.last(len(kept), _OFFSET, _OCCURRENCES)
        timed = np.flatnonzero((occurrences.tag != _OCCURRENCES) | (occurrences.value == 0))
        self.sums = len(kept) - len(timed)
        if self.sums:
            kept = kept[timed]
            fields = packed.fields(begin[kept], end[kept])
        self.line, self.code = line[kept], code[kept]
        zero_ns = np.array([line.timestamp_ns for line in plane.lines], np.int64)
        offset, duration = (fields.last(len(kept), tag).value.view(np.int64) for tag in (_OFFSET, _DURATION))
        self.start, self.duration = _times(zero_ns[self.line], offset, duration)
        self.statistics = Statistics(packed, fields.only(_STATISTIC), Names(plane.stat_table))

    def __len__(self) -> int:
        return len(self.code)

    def where(self, *categories: str) -> Bools:
        """Rows of these categories, as the name says."""
        return self.of_entries([entry.category in categories for entry in self.entries])

    def of_entries(self, marked: list[bool]) -> Bools:
        """Rows whose entry is marked."""
        return np.array(marked, np.bool_)[self.code]

    def numbers(self, name: str) -> tuple[Ints, Bools]:
        """Each row's integer of this name, 0 where it has none, and whether it has one."""
        values, present = np.zeros(len(self), np.int64), np.zeros(len(self), np.bool_)
        rows, numbers = self.statistics.numbers(name)
        values[rows], present[rows] = numbers, True
        return values, present


def _lines(packed: Packed, fields: Fields, count: int) -> list[Line]:
    def texts(tag: int) -> list[str]:
        found = fields.last(count, tag)
        return [packed.text(b, n) for b, n in zip(found.begin.tolist(), found.value.tolist(), strict=True)]

    ids, timestamps = (fields.last(count, tag).value.view(np.int64).tolist() for tag in (_ID, _TIMESTAMP))
    return list(map(Line, ids, texts(_NAME), texts(_DISPLAY_NAME), timestamps))


def _metadata_ids(packed: Packed, begin: Ints, end: Ints) -> Ints:
    """Each event's key of its name: its first field, where the writer keeps protobuf's order."""
    ids, other = packed.first_field(_METADATA, begin, end)
    if len(other):
        ids[other] = packed.fields(begin[other], end[other]).last(len(other), _METADATA).value
    return ids.view(np.int64)


def _entries(plane: Plane, ids: Ints, line: Ints) -> tuple[list[Entry], list[str], Ints]:
    """The entries of the metadata that are used on each kind of line, those kinds, and which one each event has."""
    kinds = [line_kind(plane.device, line.name) for line in plane.lines]
    table = plane.message.event_metadata
    known = [*table.values(), None]
    distinct = sorted(set(kinds))
    kind = np.array([distinct.index(name) for name in kinds], np.int64)[line]
    pair = kind * len(known) + Keys(list(table)).places(ids)
    used = np.flatnonzero(np.bincount(pair, minlength=1))
    code = np.zeros(len(known) * max(len(distinct), 1), np.int64)
    code[used] = np.arange(len(used))
    named = [(known[at % len(known)], distinct[at // len(known)]) for at in used.tolist()]
    return [plane.entry(metadata, word) for metadata, word in named], [word for _, word in named], code[pair]


def _times(zero_ns: Ints, start_ps: Ints, duration_ps: Ints) -> tuple[Ints, Ints]:
    """Start and duration in nanoseconds. Ends are rounded like starts, so that what nests still does."""
    end_ps = start_ps + np.maximum(duration_ps, 0)
    start_ns = start_ps // PS_PER_NS
    return start_ns + zero_ns, end_ps // PS_PER_NS - start_ns
