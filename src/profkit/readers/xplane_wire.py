"""Protobuf's wire format by the column: the fields of very many small messages, without an object for any of them.

Messages of one sort are decoded together: all their first fields, then all their second ones, and so on. The loop is
as long as the message with the most fields, not as the file. The format: protobuf.dev/programming-guides/encoding.
Groups (wire types 3 and 4), which proto3 does not have, count as damage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint64]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5  # wire types, the low three bits of a tag

_CONTINUES = np.uint64(0x8080_8080_8080_8080)
_PAYLOAD = np.uint64(0x7F7F_7F7F_7F7F_7F7F)
_ONES = np.uint64(0x0101_0101_0101_0101)
_LOW_HALF = np.uint64(0xFFFF_FFFF)
# Groups of 7 bits move together in pairs, ever wider ones: (low half, high half, how far the high one moves).
_PAIRS = tuple(
    (np.uint64(low), np.uint64(high), np.uint64(shift))
    for low, high, shift in (
        (0x007F_007F_007F_007F, 0x7F00_7F00_7F00_7F00, 1),
        (0x0000_3FFF_0000_3FFF, 0x3FFF_0000_3FFF_0000, 2),
        (0x0000_0000_0FFF_FFFF, 0x0FFF_FFFF_0000_0000, 4),
    )
)
_NONE: Ints = np.zeros(0, np.int64)
_BLOCK = 16_384  # messages decoded together: their columns stay in the processor's cache
_PADDING = 40  # bytes behind the last message: a tag and a value of the greatest size, and a word read from their end


class Damaged(ValueError):
    """The bytes are no messages."""


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields of many messages. A later field of a message stands behind an earlier one; messages are mixed.

    `message` is the message's number, `tag` number << 3 | wire type. `value` holds a varint or a fixed number; of bytes
    and messages it is the length, and `begin` where they begin in the data.
    """

    message: Ints
    tag: Ints
    value: Words
    begin: Ints

    def only(self, tag: int) -> Fields:
        """The fields with this tag."""
        return self.having(self.tag == tag)

    def having(self, marked: npt.NDArray[np.bool_]) -> Fields:
        """The fields that are marked."""
        at = np.flatnonzero(marked)
        return Fields(self.message[at], self.tag[at], self.value[at], self.begin[at])

    def last(self, count: int, *tags: int) -> Fields:
        """For each of `count` messages its last field of one of these tags, as protobuf reads a field or a oneof.

        Where a message has none, tag and value are 0.
        """
        at = np.flatnonzero(np.logical_or.reduce([self.tag == tag for tag in tags]))
        tag, value, begin = np.zeros(count, np.int64), np.zeros(count, np.uint64), np.zeros(count, np.int64)
        message = self.message[at]
        tag[message], value[message], begin[message] = self.tag[at], self.value[at], self.begin[at]
        return Fields(np.arange(count), tag, value, begin)


class Packed:
    """Bytes with messages in them, each from its `begin` to its `end`."""

    def __init__(self, messages: Sequence[bytes]) -> None:
        self._bytes = b"".join((*messages, bytes(_PADDING)))
        self._data = np.frombuffer(self._bytes, np.uint8)
        # The eight bytes from each position on, as one number.
        self._words: Words = np.ndarray((len(self._bytes) - 7,), "<u8", self._bytes, strides=(1,))
        self.end: Ints = np.cumsum(np.fromiter(map(len, messages), np.int64, len(messages)))
        self.begin: Ints = np.concatenate((np.zeros(1, np.int64), self.end[:-1])) if len(messages) else self.end

    def text(self, begin: int, length: int) -> str:
        """UTF-8 from these bytes."""
        return self._bytes[begin : begin + length].decode(errors="replace")

    def fields(self, begin: Ints, end: Ints) -> Fields:
        """All fields of the messages at these places. Raises Damaged."""
        rounds = (self._rounds(block.start, begin[block], end[block]) for block in _blocks(begin))
        return _joined([fields for block in rounds for fields in block])

    def long_fields(self, tag: int) -> tuple[Fields, Fields]:
        """The fields of these messages themselves, few that have many each: those with this tag, and the others.

        Raises Damaged.
        """
        wanted, others = [], []
        for number, (begin, end) in enumerate(zip(self.begin.tolist(), self.end.tolist(), strict=True)):
            at = np.fromiter(_starts(self._bytes, begin, end), np.int64)
            for block in _blocks(at):
                fields, _ = self._decoded(np.full(len(at[block]), number), at[block], end)
                wanted.append(fields.having(fields.tag == tag))
                others.append(fields.having(fields.tag != tag))
        return _joined(wanted), _joined(others)

    def first_field(self, tag: int, begin: Ints, end: Ints) -> tuple[Words, Ints]:
        """Values of the varint that each message begins with, and the numbers of messages that begin otherwise."""
        other = np.flatnonzero((begin == end) | (self._data[begin] != tag))
        return np.concatenate([_NONE.view(np.uint64), *(self._varints(begin[b] + 1)[0] for b in _blocks(begin))]), other

    def _rounds(self, first: int, begin: Ints, end: Ints) -> list[Fields]:
        """The first fields of some messages, their second ones, and so on. `first` is the first message's number."""
        rounds = []
        message = np.flatnonzero(begin < end)
        at, end = begin[message], end[message]
        while len(message):
            fields, after = self._decoded(message + first, at, end)
            rounds.append(fields)
            more = np.flatnonzero(after < end)
            message, at, end = message[more], after[more], end[more]
        return rounds

    def _decoded(self, message: Ints, at: Ints, end: Ints | int) -> tuple[Fields, Ints]:
        """The fields at these places, and where what follows them begins, which is not behind their messages' ends."""
        tag, size = self._tags(at)
        if (at + size > end).any() or (tag < 8).any():
            raise Damaged
        value, begin, after = self._values(at + size, tag & 7)
        if (after > end).any():
            raise Damaged
        return Fields(message, tag, value, begin), after

    def _tags(self, at: Ints) -> tuple[Ints, Ints | int]:
        """Tags at these places, and how many bytes they take: one, unless the field's number is above 15."""
        tags = self._data[at]
        if (tags < 0x80).all():
            return tags.astype(np.int64), 1
        long_tags, sizes = self._varints(at)
        return long_tags.astype(np.int64), sizes

    def _values(self, at: Ints, kind: Ints) -> tuple[Words, Ints, Ints]:
        """Value, first byte and first byte behind each field whose value is at `at`."""
        value, size = self._varints(at)
        fixed = np.flatnonzero((kind != VARINT) & (kind != LENGTH))
        if len(fixed):
            value[fixed], size[fixed] = self._fixed(at[fixed], kind[fixed])
        begin = at + size
        # A length greater than the data is damage, which the caller sees from where the field would end.
        length = np.minimum(value, np.uint64(len(self._data))).astype(np.int64)
        return value, begin, np.where(kind == LENGTH, begin + length, begin)

    def _fixed(self, at: Ints, kind: Ints) -> tuple[Words, Ints]:
        """Numbers of four and of eight bytes, and how many bytes they take."""
        is_short = kind == FIXED32
        if not (is_short | (kind == FIXED64)).all():
            raise Damaged
        return np.where(is_short, self._words[at] & _LOW_HALF, self._words[at]), np.where(is_short, 4, 8)

    def _varints(self, at: Ints) -> tuple[Words, Ints]:
        """Varints at these places and how many bytes they take. A varint is at most ten bytes of seven bits each."""
        word = self._words[at]
        stops = ~word & _CONTINUES
        lowest = stops & (~stops + np.uint64(1))
        mask = lowest ^ (lowest - np.uint64(1))  # all bits up to the last byte's highest; of a longer varint, all
        value = word & mask & _PAYLOAD
        for low, high, shift in _PAIRS:
            value = (value & low) | ((value & high) >> shift)
        size = (((mask & _ONES) * _ONES) >> np.uint64(56)).astype(np.int64)
        longer = np.flatnonzero(stops == 0)
        if len(longer):
            self._add_last_bytes(longer, at, value, size)
        return value, size

    def _add_last_bytes(self, rows: Ints, at: Ints, value: Words, size: Ints) -> None:
        """The ninth and the tenth byte of the varints in these rows. One that goes on behind them ends nowhere."""
        ninth, tenth = self._data[at[rows] + 8].astype(np.uint64), self._data[at[rows] + 9].astype(np.uint64)
        has_tenth = ninth >= 0x80
        value[rows] |= (ninth & np.uint64(0x7F)) << np.uint64(56)
        value[rows] |= np.where(has_tenth, tenth << np.uint64(63), np.uint64(0))
        size[rows] = np.where(has_tenth, np.where(tenth >= 0x80, len(self._data), 10), 9)


def _blocks(rows: Ints) -> list[slice]:
    return [slice(first, first + _BLOCK) for first in range(0, len(rows), _BLOCK)]


def _joined(parts: Sequence[Fields]) -> Fields:
    """All these fields, in this order."""
    parts = [Fields(_NONE, _NONE, _NONE.view(np.uint64), _NONE), *parts]
    return Fields(*(np.concatenate([getattr(part, name) for part in parts]) for name in Fields.__slots__))


def _starts(data: bytes, at: int, end: int) -> Iterator[int]:
    """Where each field of a message begins: the one thing that can only be found from field to field.

    Nearly all fields here are bytes, of fewer than 2^14; the others are left to `_behind`.
    """
    while at < end:
        yield at
        if data[at] & 0x87 == LENGTH:
            size = data[at + 1]
            if size < 0x80:
                at += 2 + size
                continue
            if data[at + 2] < 0x80:
                at += 3 + (size & 0x7F | data[at + 2] << 7)
                continue
        at = _behind(data, at)


def _behind(data: bytes, at: int) -> int:
    """Where the field that begins here ends."""
    tag, at = _varint(data, at)
    if tag & 7 == VARINT:
        return _varint(data, at)[1]
    if tag & 7 == LENGTH:
        size, at = _varint(data, at)
        return at + size
    if tag & 7 in (FIXED64, FIXED32):
        return at + (8 if tag & 7 == FIXED64 else 4)
    raise Damaged


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint, and the first byte behind it."""
    value = shift = 0
    while data[at] >= 0x80:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
    return value | data[at] << shift, at + 1
