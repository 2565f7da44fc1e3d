"""What a capture file holds."""

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.records import (
    FRAME,
    End,
    Framework,
    LoaderOpened,
    Note,
    Record,
    Sample,
    Start,
    Step,
    Wait,
    Window,
    WindowOpened,
    frames,
)

EVERY_KIND: list[Record] = [
    Start(1, 0, 1, "host", 10, "train.py", "3.11", "0.1", (5, 0, 2, 5, 1), {"lr": 0.1, "name": "x"}, 7),
    Framework("torch", "2.13.0", ("cuda:0",)),
    Step(0, 10, 20, "marker", 3),
    Wait(0, 11, 5, True),
    LoaderOpened(0, "DataLoader", 10, 1, {"num_workers": 2, "prefetch_factor": None}),
    WindowOpened("pytorch", 0, 7, 30),
    Window("pytorch", 0, 7, 11, "window-0-rank-0.pt.trace.json", "kineto", 5),
    Note("one sentence", 40),
    End("finished", 50),
    Sample(60, {"cpu_percent": 12.5}),
]


def framed(record: Record) -> bytes:
    body = msgspec.msgpack.encode(record)
    return FRAME.pack(len(body), zlib.crc32(body)) + body


ALL = b"".join(map(framed, EVERY_KIND))


def test_every_kind_of_record_comes_back_as_it_was() -> None:
    assert [record for record, _ in frames(ALL)] == EVERY_KIND


def test_each_record_comes_with_the_offset_behind_it() -> None:
    offsets = [offset for _, offset in frames(ALL)]
    assert [list(frames(ALL[:offset]))[-1][0] for offset in offsets] == EVERY_KIND
    assert offsets[-1] == len(ALL)


@given(st.integers(0, len(ALL)))
def test_whatever_is_cut_off_the_whole_records_before_are_read(length: int) -> None:
    read = [record for record, _ in frames(ALL[:length])]
    assert read == EVERY_KIND[: len(read)]
    assert len(read) == sum(offset <= length for _, offset in frames(ALL))


@given(st.integers(0, len(ALL) - 1), st.integers(1, 255))
def test_a_damaged_byte_ends_the_reading_and_invents_nothing(place: int, change: int) -> None:
    damaged = bytearray(ALL)
    damaged[place] ^= change
    read = [record for record, _ in frames(bytes(damaged))]
    assert read == EVERY_KIND[: sum(offset <= place for _, offset in frames(ALL))]


@pytest.mark.parametrize("record", EVERY_KIND, ids=lambda record: type(record).__name__)
def test_records_are_frozen(record: Record) -> None:
    name = record.__struct_fields__[0]
    with pytest.raises(AttributeError, match="immutable"):
        setattr(record, name, getattr(record, name))
