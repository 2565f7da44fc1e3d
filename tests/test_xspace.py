"""The wire format written by numpy is what protobuf reads."""

from __future__ import annotations

from typing import Any

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from profkit.exporters.xspace import STAT, Line, Plane, encoded
from profkit.readers.xplane_messages import XSpace

INT64 = st.integers(-(2**63), 2**63 - 1)
NUMBERS = st.one_of(
    st.integers(0, 300), INT64, st.sampled_from([2**shift - extra for shift in range(7, 63, 7) for extra in (0, 1)])
)
EVENTS = st.lists(
    st.tuples(
        st.integers(0, 2), st.text(max_size=5), st.text(max_size=3), st.integers(0, 2**50), st.integers(0, 2**50),
        st.none() | NUMBERS, st.none() | st.text(max_size=4),
    ),
    min_size=1, max_size=40,
)  # fmt: skip
COLUMNS = {
    "line": pl.Int64, "name": pl.String, "display_name": pl.String, "start_ns": pl.Int64, "duration_ns": pl.Int64,
    f"{STAT}number": pl.Int64, f"{STAT}text": pl.String,
}  # fmt: skip
LINES = [Line(7, "main"), Line(-3, "negative"), Line(1 << 40, "")]


def read(*planes: Plane) -> Any:
    space = XSpace()
    space.ParseFromString(encoded(planes, "host"))
    return space


def values(plane: Any, event: Any) -> dict[str, Any]:
    """The statistics of an event."""
    found = {}
    for stat in event.stats:
        field = stat.WhichOneof("value")
        value = getattr(stat, field)
        found[plane.stat_metadata[stat.metadata_id].name] = (
            plane.stat_metadata[value].name if field == "ref_value" else value
        )
    return found


@given(EVENTS)
def test_any_events_are_read_as_they_were_written(events: list[tuple[Any, ...]]) -> None:
    plane = Plane("/host:CPU")
    plane.add_lines(LINES, pl.DataFrame(events, schema=COLUMNS, orient="row"))
    (back,) = read(plane).planes
    assert [(line.id, line.name) for line in back.lines] == [(line.number, line.name) for line in LINES]
    found = []
    for number, line in enumerate(back.lines):
        for event in line.events:
            metadata, own = back.event_metadata[event.metadata_id], values(back, event)
            times = (event.offset_ps // 1_000, event.duration_ps // 1_000)
            found.append((number, metadata.name, metadata.display_name, *times, own.get("number"), own.get("text")))
    assert sorted(found, key=repr) == sorted(events, key=repr)
    order = [(line, start, -duration) for line, _, _, start, duration, _, _ in found]
    assert order == sorted(order)


def test_the_same_content_gives_the_same_bytes() -> None:
    def plane() -> Plane:
        made = Plane("/device:GPU:0")
        made.say("core_count", 80)
        made.say("device_vendor", "Nvidia")
        made.add_lines(
            LINES, pl.DataFrame([(0, "b", "", 5, 1, 3, "x"), (2, "a", "A", 0, 1, None, "y")], COLUMNS, orient="row")
        )
        return made

    assert encoded([plane()], "host") == encoded([plane()], "host")


def test_a_plane_without_events_has_its_facts() -> None:
    plane = Plane("Task Environment")
    plane.say("profile_start_time", 2**63 + 5)
    plane.say("profile_options", b"\x10\x02")
    space = read(plane)
    (back,) = space.planes
    assert list(space.hostnames) == ["host"]
    names = {stat.metadata_id: back.stat_metadata[stat.metadata_id].name for stat in back.stats}
    assert [(names[stat.metadata_id], stat.uint64_value, stat.bytes_value) for stat in back.stats] == [
        ("profile_start_time", 2**63 + 5, b""), ("profile_options", 0, b"\x10\x02"),
    ]  # fmt: skip
