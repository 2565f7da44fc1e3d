"""Memory inside a window: peak, curve, and what is alive at the peak."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.report import Allocation, DeviceMemory, Memory, MemoryPoint
from profkit.trace.model import Trace

Ints = npt.NDArray[np.int64]

CURVE_POINTS = 500
LARGEST_OWNERS = 20


def memory(trace: Trace) -> Memory:
    """Peak and curve of each device that reported allocations; `peak_bytes` is None where none did."""
    if not trace.memory.height:
        return Memory()
    devices = [
        _device_memory(trace, str(device), events)
        for (device,), events in trace.memory.group_by("device", maintain_order=True)
    ]
    return Memory(max(d.peak_bytes for d in devices), devices)


def _device_memory(trace: Trace, device: str, events: pl.DataFrame) -> DeviceMemory:
    allocated = _allocated(events)
    time = events["time_ns"].to_numpy() - trace.info.start_ns
    peak = int(allocated.argmax())
    owners = _alive(trace, events[: peak + 1])
    reserved = events["reserved_bytes"].max()
    return DeviceMemory(
        device=device,
        peak_bytes=int(allocated[peak]),
        peak_time_ns=int(time[peak]),
        reserved_bytes=int(reserved) if isinstance(reserved, int) and reserved else None,
        alive_at_peak=owners[:LARGEST_OWNERS],
        unknown_at_peak_bytes=max(0, int(allocated[peak]) - sum(owner.bytes for owner in owners)),
        curve=_curve(time, allocated),
    )


def _allocated(events: pl.DataFrame) -> Ints:
    """Bytes allocated after each event: the allocator's own total, or the sum so far where it gives none."""
    if events["allocated_bytes"].null_count():
        total = np.cumsum(events["bytes"].to_numpy())
        return total - min(0, int(total.min()))  # what was freed had been allocated before recording began
    return events["allocated_bytes"].to_numpy()


def _alive(trace: Trace, events: pl.DataFrame) -> list[Allocation]:
    """What was allocated in `events` and not freed by their end, by operator, the largest first."""
    last = events.filter(pl.col("address").is_not_null()).group_by("address").last()
    alive = last.filter(pl.col("bytes") > 0)
    operator = trace.spans["name"].gather(alive["span"]).cast(pl.String).fill_null("outside any operator")
    owned = (
        alive.with_columns(operator.alias("operator"))
        .group_by("operator")
        .agg(pl.sum("bytes"), pl.len().alias("count"))
        .sort("bytes", "operator", descending=[True, False])
    )
    return [Allocation(*row) for row in owned.iter_rows()]


def _curve(time: Ints, allocated: Ints) -> list[MemoryPoint]:
    """At most CURVE_POINTS points: the largest of each stretch, so that no peak is lost."""
    edges = np.unique(np.linspace(0, len(time), CURVE_POINTS + 1).astype(np.int64))[:-1]
    largest = np.maximum.reduceat(allocated, edges)
    return [MemoryPoint(int(t), int(b)) for t, b in zip(time[edges], largest, strict=True)]
