"""XSpace, the file of TensorFlow's and JAX's profilers, written from columns.

The few things a file has by name (planes, metadata, devices' facts) are protobuf messages. Its events are many: their
wire format is laid out by numpy, a column at a time, because protobuf takes microseconds for each event (measured:
200,000 events with four statistics 1.3 s, against 0.3 s with all tables). Every value of a statistic is written as a
varint: texts are references to names of the plane, as TensorFlow writes most of them.

Fields and numbers: `profkit.readers.xplane_messages`. Encoding: https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.readers.xplane_messages import XSpace

from .distinct import distinct

Ints = npt.NDArray[np.int64]
Unsigned = npt.NDArray[np.uint64]
Bytes = npt.NDArray[np.uint8]

STAT = "stat:"  # how the names of columns begin that are statistics

# Tags: number of the field << 3 | how its value is encoded (0: varint, 2: length and bytes).
_PLANE_OF_SPACE = 1 << 3 | 2
_LINE_OF_PLANE = 3 << 3 | 2
_EVENT_OF_LINE = 4 << 3 | 2
_METADATA, _OFFSET, _DURATION, _STAT_OF_EVENT = 1 << 3, 2 << 3, 3 << 3, 4 << 3 | 2
_NAME_OF_STAT, _INTEGER, _REFERENCE = 1 << 3, 4 << 3, 7 << 3


@dataclass(frozen=True, slots=True)
class Line:
    """A thread or stream: its number, unique in the plane, and its name."""

    number: int
    name: str


class Plane:
    """A plane under construction: its lines, and its tables of names."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._message = XSpace().planes.add(name=name)
        self._words: dict[str, int] = {}
        self._lines: list[bytes] = []

    def say(self, name: str, value: int | str | bytes) -> None:
        """Add a statistic of the plane itself."""
        field = "str_value" if isinstance(value, str) else "uint64_value" if isinstance(value, int) else "bytes_value"
        self._message.stats.add(metadata_id=self._word(name), **{field: value})

    def add_lines(self, lines: Sequence[Line], events: pl.DataFrame) -> None:
        """Add lines with their events, whose column `line` counts `lines` from 0. Called once.

        `events` has the columns `line`, `name`, `display_name` (viewers show it where it is not empty), `start_ns`
        (since the lines' zero) and `duration_ns`. A column `STAT + name` is a statistic, of whole numbers or of texts,
        null where an event has it not. Within a line events are written by start, the longest first: XProf finds
        no step in a file that is not sorted so (measured).
        """
        home, start, duration = (events[name].to_numpy() for name in ("line", "start_ns", "duration_ns"))
        order = np.lexsort((-duration, start, home))
        events = events[order]
        starts, content = _encoded_events([*self._parts(events), *self._statistics(events)])
        at = starts[np.searchsorted(home[order], np.arange(len(lines) + 1))]
        for line, begin, end in zip(lines, at[:-1].tolist(), at[1:].tolist(), strict=True):
            head = XSpace().planes.add().lines.add(id=line.number, name=line.name, display_name=line.name)
            self._lines.append(head.SerializeToString(deterministic=True) + content[begin:end])

    def encoded(self) -> bytes:
        """The plane as protobuf has it; the same content gives the same bytes."""
        for word, number in self._words.items():
            metadata = self._message.stat_metadata[number]
            metadata.id, metadata.name = number, word
        tables: bytes = self._message.SerializeToString(deterministic=True)
        return tables + b"".join(_length_delimited(_LINE_OF_PLANE, line) for line in self._lines)

    def _word(self, word: str) -> int:
        """The number of a statistic's name, or of a text that events refer to."""
        return self._words.setdefault(word, len(self._words) + 1)

    def _parts(self, events: pl.DataFrame) -> list[_Field]:
        """What every event has. Times are picoseconds."""
        return [
            _field(slice(None), (_METADATA,), self._named(events)),
            _field(slice(None), (_OFFSET,), events["start_ns"].to_numpy() * 1_000),
            _field(slice(None), (_DURATION,), events["duration_ns"].to_numpy() * 1_000),
        ]

    def _named(self, events: pl.DataFrame) -> Ints:
        """The number of each event's name in the plane's table, which is filled here."""
        names, displayed = distinct(events["name"]), distinct(events["display_name"])
        width = len(displayed.words)
        both = names.row.to_numpy().astype(np.int64) * width + displayed.row.to_numpy()
        pairs, code = np.unique(both, return_inverse=True)
        for number, pair in enumerate(pairs.tolist(), start=1):
            metadata = self._message.event_metadata[number]
            metadata.id, metadata.name = number, names.words[pair // width]
            metadata.display_name = displayed.words[pair % width]
        return code + 1

    def _statistics(self, events: pl.DataFrame) -> Iterator[_Field]:
        for column in (column for column in events.iter_columns() if column.name.startswith(STAT)):
            rows = np.flatnonzero(column.is_not_null().to_numpy())
            if not len(rows):
                continue
            is_text = not column.dtype.is_integer()
            name = _varint(self._word(column.name.removeprefix(STAT)))
            values, tag = column.drop_nulls(), _REFERENCE if is_text else _INTEGER
            numbers = self._referred(values) if is_text else values.to_numpy()
            yield _field(rows, (_NAME_OF_STAT, *name, tag), numbers, is_stat=True)

    def _referred(self, texts: pl.Series) -> Ints:
        found = distinct(texts)
        numbers: Ints = np.array([self._word(word) for word in found.words], np.int64)[found.row.to_numpy()]
        return numbers


def encoded(planes: Iterable[Plane], host: str) -> bytes:
    """A whole file. `host` is the name viewers give the machine."""
    parts = [_length_delimited(_PLANE_OF_SPACE, plane.encoded()) for plane in planes]
    rest: bytes = XSpace(hostnames=[host]).SerializeToString()
    return b"".join(parts) + rest


def _length_delimited(tag: int, content: bytes) -> bytes:
    return bytes((tag, *_varint(len(content)))) + content


def _varint(value: int) -> tuple[int, ...]:
    """A number in bytes of seven bits, the lowest first; the high bit says that more follow."""
    return (value,) if value < 0x80 else (value & 0x7F | 0x80, *_varint(value >> 7))


@dataclass(frozen=True, slots=True)
class _Field:
    """A varint behind constant bytes, in the events of `rows`; a statistic's bytes begin with their own length."""

    rows: Ints | slice
    prefix: tuple[int, ...]
    values: Unsigned
    sizes: Ints
    is_stat: bool

    @property
    def length(self) -> Ints:
        """Bytes it takes in each of its events."""
        return self.sizes + len(self.prefix) + 2 * self.is_stat

    def put(self, buffer: Bytes, at: Ints) -> None:
        """Write it at these places."""
        if self.is_stat:
            buffer[at] = _STAT_OF_EVENT
            buffer[at + 1] = self.sizes + len(self.prefix)  # less than 128: two varints and two tags
            at = at + 2
        for place, byte in enumerate(self.prefix):
            buffer[at + place] = byte
        _put_varints(buffer, at + len(self.prefix), self.values, self.sizes)


def _field(rows: Ints | slice, prefix: tuple[int, ...], values: Ints, is_stat: bool = False) -> _Field:
    unsigned = values.astype(np.int64).view(np.uint64)  # a negative number takes ten bytes, as in protobuf
    return _Field(rows, prefix, unsigned, _sizes(unsigned), is_stat)


def _encoded_events(fields: Sequence[_Field]) -> tuple[Ints, bytes]:
    """Where each event begins in the bytes of all of them, and these bytes; the last place is their end."""
    length = np.zeros(len(fields[0].values), np.int64)  # of the first field every event has one
    for each in fields:
        length[each.rows] += each.length
    size_of_length = _sizes(length.view(np.uint64))
    starts = np.concatenate(([0], np.cumsum(1 + size_of_length + length)))
    buffer = np.zeros(starts[-1], np.uint8)
    at = starts[:-1] + 1 + size_of_length
    buffer[starts[:-1]] = _EVENT_OF_LINE
    _put_varints(buffer, starts[:-1] + 1, length.view(np.uint64), size_of_length)
    for each in fields:
        each.put(buffer, at[each.rows])
        at[each.rows] += each.length
    return starts, buffer.tobytes()


_LIMITS = np.array([1 << 7 * size for size in range(1, 10)], np.uint64)


def _sizes(values: Unsigned) -> Ints:
    """Bytes each value takes: seven bits in each."""
    return np.searchsorted(_LIMITS, values, side="right").astype(np.int64) + 1


def _put_varints(buffer: Bytes, at: Ints, values: Unsigned, sizes: Ints) -> None:
    """Write each value at its place, as `_varint` does."""
    for place in range(int(sizes.max(initial=0))):
        rows = np.flatnonzero(sizes > place) if place else slice(None)
        byte = (values[rows] >> np.uint64(7 * place)).astype(np.uint8) & 0x7F
        buffer[at[rows] + place] = byte | ((sizes[rows] > place + 1).astype(np.uint8) << 7)
