"""The wire decoder reads what protobuf's own parser reads, and takes no damage for content."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types
from hypothesis import given, settings
from hypothesis import strategies as st

from profkit.readers import xplane_wire
from profkit.readers.xplane_messages import XEvent, XLine
from profkit.readers.xplane_statistics import DENSE_KEYS, Keys, Names, Statistics
from profkit.readers.xplane_wire import Damaged, Fields, Packed

EVENT = 0x22
METADATA, OFFSET, DURATION, STATISTIC, OCCURRENCES = 0x08, 0x10, 0x18, 0x22, 0x28
NAMES = {1: "first", 2: "second", 900: "", 2**40: "far", -7: "negative"}

signed = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, 1, 127, 128, 2**56 - 1, 2**56, 2**63 - 1, -1, -(2**63)])
unsigned = st.integers(0, 2**64 - 1) | st.sampled_from([2**56, 2**63, 2**64 - 1])
values = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"int64_value": signed}),
    st.fixed_dictionaries({"uint64_value": unsigned}),
    st.fixed_dictionaries({"double_value": st.floats(allow_nan=False)}),
    st.fixed_dictionaries({"str_value": st.text('a\u00e9\u2713"\\\n', max_size=200)}),
    st.fixed_dictionaries({"bytes_value": st.binary(max_size=200)}),
    st.fixed_dictionaries({"ref_value": st.sampled_from([1, 2, 900, 2**40, 5])}),
)
statistics = st.lists(
    st.builds(lambda key, value: {"metadata_id": key} | value, st.sampled_from([*NAMES, 3]), values), max_size=4
)
# Fields that a newer writer may add, of every wire type, with numbers below and above what a tag of one byte holds.
unknown = st.sampled_from(
    [b"", b"\x50\x01", b"\x51" + bytes(8), b"\x55" + bytes(4), b"\x9a\x06\x03abc", b"\x90\x06\xff\x01"]
)


@st.composite
def events(draw: st.DrawFn) -> bytes:
    """An event as a writer may leave it: any field may be missing, and there may be some that we do not know."""
    fields: dict[str, Any] = {name: draw(signed) for name in ("metadata_id", "duration_ps") if draw(st.booleans())} | {
        "stats": draw(statistics)
    }
    time = draw(st.sampled_from(["offset_ps", "num_occurrences", None]))
    if time:
        fields[time] = draw(signed)
    known: bytes = XEvent(**fields).SerializeToString()
    return draw(unknown) + known + draw(unknown)


def padded(length: int) -> bytes:
    """An event of this many bytes, about."""
    message: bytes = XEvent(stats=[{"bytes_value": bytes(length - 8)}]).SerializeToString()
    return message


def decoded(messages: list[bytes]) -> tuple[Packed, Fields]:
    packed = Packed(messages)
    return packed, packed.fields(packed.begin, packed.end)


def column(fields: Fields, count: int, *tags: int) -> list[int]:
    values: list[int] = fields.last(count, *tags).value.view(np.int64).tolist()
    return values


@given(st.lists(events(), max_size=6))
def test_every_event_is_read_as_protobuf_reads_it(messages: list[bytes]) -> None:
    fields = decoded(messages)[1]
    parsed = [XEvent.FromString(message) for message in messages]
    count = len(messages)
    assert column(fields, count, METADATA) == [event.metadata_id for event in parsed]
    assert column(fields, count, DURATION) == [event.duration_ps for event in parsed]
    time = fields.last(count, OFFSET, OCCURRENCES)
    assert np.where(time.tag == OFFSET, time.value.view(np.int64), 0).tolist() == [event.offset_ps for event in parsed]
    assert np.bincount(fields.only(STATISTIC).message, minlength=count).tolist() == [
        len(event.stats) for event in parsed
    ]


@given(st.lists(events(), min_size=4, max_size=6))
def test_decoding_in_blocks_changes_nothing(messages: list[bytes]) -> None:
    packed, at_once = decoded(messages)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(xplane_wire, "_BLOCK", 3)
        in_blocks = packed.fields(packed.begin, packed.end)
    for tag in (METADATA, DURATION, STATISTIC):
        assert in_blocks.last(len(messages), tag).value.tolist() == at_once.last(len(messages), tag).value.tolist()


@given(st.lists(events(), max_size=6))
def test_the_first_field_is_found_without_the_others(messages: list[bytes]) -> None:
    packed = Packed(messages)
    values, other = packed.first_field(METADATA, packed.begin, packed.end)
    for number, message in enumerate(messages):
        if number in other:
            assert not message.startswith(b"\x08")
        else:
            assert values.view(np.int64)[number] == XEvent.FromString(message).metadata_id


@given(st.lists(st.lists(events() | st.sampled_from([128, 16_383, 16_384]).map(padded), max_size=4), max_size=4))
def test_the_events_of_a_line_are_found_among_its_other_fields(lines: list[list[bytes]]) -> None:
    messages = [
        b"".join(XLine(id=-1, name="a line", events=[XEvent.FromString(event)]).SerializeToString() for event in own)
        for own in lines
    ]
    packed = Packed(messages)
    found, others = packed.long_fields(EVENT)
    parsed = [XLine.FromString(message) for message in messages]
    assert np.bincount(found.message, minlength=len(lines)).tolist() == [len(line.events) for line in parsed]
    assert found.value.tolist() == [event.ByteSize() for line in parsed for event in line.events]
    names = others.last(len(lines), 0x12)
    assert [packed.text(b, n) for b, n in zip(names.begin.tolist(), names.value.tolist(), strict=True)] == [
        line.name for line in parsed
    ]


@given(st.lists(events(), min_size=1, max_size=4), st.data())
def test_a_truncated_line_is_damaged_where_protobuf_says_so(messages: list[bytes], data: st.DataObject) -> None:
    line = XLine(id=-1, name="a line", events=[XEvent.FromString(event) for event in messages]).SerializeToString()
    part = line[: data.draw(st.integers(0, len(line)))]
    assert fails(lambda: Packed([part, line]).long_fields(EVENT), Damaged) == fails(
        lambda: XLine.FromString(part), DecodeError
    )


def value_of(stat: Any) -> Any:
    word = stat.WhichOneof("value")
    return NAMES.get(stat.ref_value, "") if word == "ref_value" else word and getattr(stat, word)


def read(messages: list[bytes]) -> Statistics:
    packed, fields = decoded(messages)
    return Statistics(packed, fields.only(STATISTIC), Names(NAMES))


@given(st.lists(events(), max_size=6))
def test_statistics_become_json_as_protobuf_reads_them(messages: list[bytes]) -> None:
    every, none = np.ones(len(messages), np.bool_), np.zeros(len(messages), np.bool_)
    rows, objects = read(messages).pieces((), none, every).objects()
    found = {int(row): json.loads(text) for row, text in zip(rows, objects, strict=True)}
    for number, message in enumerate(messages):
        stats = [stat for stat in XEvent.FromString(message).stats if stat.WhichOneof("value") != "bytes_value"]
        expected = {NAMES.get(stat.metadata_id, ""): value_of(stat) for stat in stats}
        finite = {name: None if value in (float("inf"), -float("inf")) else value for name, value in expected.items()}
        assert found.get(number, {}) == finite


@given(st.lists(events(), max_size=6))
def test_only_the_names_that_are_asked_for_are_kept(messages: list[bytes]) -> None:
    every, none = np.ones(len(messages), np.bool_), np.zeros(len(messages), np.bool_)
    rows, objects = read(messages).pieces(("second",), every, none).objects()
    assert all(json.loads(text).keys() == {"second"} for text in objects)
    assert set(rows.tolist()) == {
        number
        for number, message in enumerate(messages)
        for stat in XEvent.FromString(message).stats
        if stat.metadata_id == 2 and stat.WhichOneof("value") != "bytes_value"
    }


@given(st.lists(events(), max_size=6))
def test_integers_are_found_by_name(messages: list[bytes]) -> None:
    rows, numbers = read(messages).numbers("first")
    expected = [
        (number, value)
        for number, message in enumerate(messages)
        for stat in XEvent.FromString(message).stats
        if stat.metadata_id == 1 and isinstance(value := value_of(stat), int)
    ]
    found = [(row, value % 2**64) for row, value in zip(rows.tolist(), numbers.tolist(), strict=True)]
    assert sorted(found) == sorted((row, value % 2**64) for row, value in expected)


def test_a_text_of_digits_is_an_integer_too() -> None:
    event = XEvent(stats=[{"metadata_id": 1, "str_value": "-41"}, {"metadata_id": 1, "str_value": "41 ms"}])
    rows, numbers = read([event.SerializeToString()]).numbers("first")
    assert (rows.tolist(), numbers.tolist()) == ([0], [-41])


def fails(read: Callable[[], object], error: type[Exception]) -> bool:
    try:
        read()
    except error:
        return True
    return False


@settings(max_examples=300)
@given(events(), st.data())
def test_a_truncated_event_is_damaged_where_protobuf_says_so(message: bytes, data: st.DataObject) -> None:
    part = message[: data.draw(st.integers(0, len(message)))]
    assert fails(lambda: read([part, b"\x08\x01"]), Damaged) == fails(lambda: XEvent.FromString(part), DecodeError)


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\x08" + b"\xff" * 10 + b"\x01", id="a varint of more than ten bytes"),
        pytest.param(b"\xff" * 11, id="a tag without end"),
        pytest.param(b"\x00\x01", id="a field without number"),
        pytest.param(b"\x0b\x0c", id="a group"),
        pytest.param(b"\x0e\x01", id="a wire type that does not exist"),
        pytest.param(b"\x22\xff\xff\xff\xff\xff\xff\xff\xff\x7f", id="a length beyond all memory"),
        pytest.param(b"\x22\x05\x08\x01", id="a length beyond the event"),
        pytest.param(b"\x22\x02\x08\xff", id="a statistic that ends within a value"),
    ],
)
def test_damage_is_found(message: bytes) -> None:
    with pytest.raises(Damaged):
        read([message, b"\x08\x01\x10\x01\x18\x01"])


@given(st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(0, 50), unique=True), st.lists(st.integers(-3, 60)))
def test_keys_have_the_places_they_have_in_the_table(table: list[int], wanted: list[int]) -> None:
    for keys in (table, [key for key in table if 0 <= key < DENSE_KEYS]):
        asked = [*wanted, *keys]
        places = Keys(keys).places(np.array(asked, np.int64)).tolist()
        assert places == [keys.index(key) if key in keys else len(keys) for key in asked]
