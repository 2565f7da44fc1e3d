"""Peak, curve and owners of memory are those of the recorded allocations."""

from __future__ import annotations

from pathlib import Path

from profkit.analysis.memory import CURVE_POINTS, memory
from profkit.analysis.report import Allocation
from tests.traces import allocation, op, traced


def test_the_peak_and_who_owns_it_then(tmp_path: Path) -> None:
    events = [
        op("aten::empty", 0, 10),
        allocation(1, 1_000, 0xA, 1_000),
        op("aten::mm", 20, 10),
        allocation(21, 500, 0xB, 1_500),
        allocation(22, 300, 0xC, 1_800),
        allocation(29, -500, 0xB, 1_300),
        allocation(40, -1_000, 0xA, 300),
    ]
    found = memory(traced(tmp_path, events))
    assert found.peak_bytes == 1_800
    [device] = found.devices
    assert device.alive_at_peak == [Allocation("aten::empty", 1_000, 1), Allocation("aten::mm", 800, 2)]
    assert device.unknown_at_peak_bytes == 0
    assert [point.bytes for point in device.curve] == [1_000, 1_500, 1_800, 1_300, 300]


def test_what_was_allocated_before_recording_is_called_unknown(tmp_path: Path) -> None:
    found = memory(traced(tmp_path, [op("aten::mm", 0, 10), allocation(1, 100, 0xA, 5_100)]))
    assert found.devices[0].unknown_at_peak_bytes == 5_000


def test_an_address_freed_and_taken_again_belongs_to_its_last_owner(tmp_path: Path) -> None:
    events = [
        op("aten::first", 0, 10),
        allocation(1, 100, 0xA, 100),
        allocation(5, -100, 0xA, 0),
        op("aten::second", 20, 10),
        allocation(21, 400, 0xA, 400),
    ]
    assert memory(traced(tmp_path, events)).devices[0].alive_at_peak == [Allocation("aten::second", 400, 1)]


def test_without_the_allocators_total_the_sum_serves(tmp_path: Path) -> None:
    events = [op("aten::mm", 0, 10), *(allocation(t, size, 0xA + t, 0) for t, size in ((1, -300), (2, 100), (3, 400)))]
    for event in events[1:]:
        del event["args"]["Total Allocated"]
    assert memory(traced(tmp_path, events)).peak_bytes == 500


def test_a_long_curve_keeps_its_peak(tmp_path: Path) -> None:
    events = [allocation(i, 1, i, 10_000 if i == 3_333 else i % 50) for i in range(5_000)]
    [device] = memory(traced(tmp_path, [op("aten::mm", 0, 10), *events])).devices
    assert len(device.curve) == CURVE_POINTS
    assert max(point.bytes for point in device.curve) == device.peak_bytes == 10_000


def test_no_allocation_recorded_is_said_as_null(tmp_path: Path) -> None:
    assert memory(traced(tmp_path, [op("aten::mm", 0, 10)])).peak_bytes is None
