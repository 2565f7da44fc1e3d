"""Memory inside a window: peak, curve, what is alive at the peak, and how it grows from step to step."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.breakdown import steps
from profkit.analysis.columns import Columns
from profkit.analysis.modules import module_of
from profkit.analysis.report import Allocation, DeviceMemory, Memory, MemoryPoint, StepMemory
from profkit.trace.model import Trace

Ints = npt.NDArray[np.int64]

CURVE_POINTS = 500
LARGEST_OWNERS = 20


def memory(trace: Trace, columns: Columns | None = None, modules: pl.Series | None = None) -> Memory:
    """Peak and curve of each device that reported allocations; `peak_bytes` is None where none did.

    `modules`: those of all spans, if known.
    """
    if not trace.memory.height:
        return Memory()
    columns = columns or Columns(trace)
    modules = module_of(trace, columns) if modules is None else modules
    devices = [
        _device_memory(trace, columns, modules, str(device), events)
        for (device,), events in trace.memory.group_by("device", maintain_order=True)
    ]
    return Memory(max(d.peak_bytes for d in devices), devices)


def memory_of_all(parts: Sequence[tuple[int, Memory]]) -> Memory:
    """The memory of windows that follow one another, each with its begin since the first one's, in nanoseconds."""
    names = dict.fromkeys(device.device for _, part in parts for device in part.devices)
    devices = [
        _one_device([(begin, d) for begin, part in parts for d in part.devices if d.device == name]) for name in names
    ]
    return Memory(max(d.peak_bytes for d in devices), devices) if devices else Memory()


def _one_device(parts: Sequence[tuple[int, DeviceMemory]]) -> DeviceMemory:
    """Where memory was at its highest says what was alive; curves and steps follow one another."""
    begin, highest = max(parts, key=lambda part: part[1].peak_bytes)
    curve = [msgspec.structs.replace(p, time_ns=p.time_ns + begin) for begin, part in parts for p in part.curve]
    rows = extremes(np.array([point.bytes for point in curve], np.int64), CURVE_POINTS)
    reserved = [part.reserved_bytes for _, part in parts if part.reserved_bytes]
    return msgspec.structs.replace(
        highest,
        peak_time_ns=highest.peak_time_ns + begin,
        reserved_bytes=max(reserved, default=None),
        curve=[curve[row] for row in rows],
        steps=[step for _, part in parts for step in part.steps],
    )


def _device_memory(
    trace: Trace, columns: Columns, modules: pl.Series, device: str, events: pl.DataFrame
) -> DeviceMemory:
    allocated = allocated_bytes(events)
    time = events["time_ns"].to_numpy() - trace.info.start_ns
    peak = int(allocated.argmax())
    owners = _alive(trace, modules, events[: peak + 1])
    reserved = events["reserved_bytes"].max()
    return DeviceMemory(
        device=device,
        peak_bytes=int(allocated[peak]),
        peak_time_ns=int(time[peak]),
        reserved_bytes=int(reserved) if isinstance(reserved, int) and reserved else None,
        alive_at_peak=owners[:LARGEST_OWNERS],
        unknown_at_peak_bytes=max(0, int(allocated[peak]) - sum(owner.bytes for owner in owners)),
        curve=_curve(time, allocated, events["reserved_bytes"]),
        steps=_by_step(trace, columns, events["time_ns"].to_numpy(), allocated),
    )


def allocated_bytes(events: pl.DataFrame) -> Ints:
    """Bytes allocated after each event: the allocator's own total, or the sum so far where it gives none."""
    if events["allocated_bytes"].null_count():
        total = np.cumsum(events["bytes"].to_numpy())
        return total - min(0, int(total.min()))  # what was freed had been allocated before recording began
    return events["allocated_bytes"].to_numpy()


def _alive(trace: Trace, modules: pl.Series, events: pl.DataFrame) -> list[Allocation]:
    """What was allocated in `events` and not freed by their end, by operator and module, the largest first."""
    last = events.filter(pl.col("address").is_not_null()).group_by("address").last()
    alive = last.filter(pl.col("bytes") > 0)
    operator = trace.spans["name"].gather(alive["span"]).cast(pl.String).fill_null("outside any operator")
    owned = (
        alive.with_columns(operator.alias("operator"), modules.gather(alive["span"]).cast(pl.String).alias("module"))
        .group_by("operator", "module")
        .agg(pl.sum("bytes"), pl.len().alias("count"))
        .sort("bytes", "operator", "module", descending=[True, False, False])
        .select("operator", "bytes", "count", "module")
    )
    return [Allocation(*row) for row in owned.iter_rows()]


def _curve(time: Ints, allocated: Ints, reserved: pl.Series) -> list[MemoryPoint]:
    rows = extremes(allocated, CURVE_POINTS)
    known = [value or None for value in reserved.gather(rows).to_list()]
    return [MemoryPoint(int(t), int(b), r) for t, b, r in zip(time[rows], allocated[rows], known, strict=True)]


def extremes(values: Ints, most: int) -> Ints:
    """Places of at most `most` values to draw: the largest and the least of each stretch, so that none is lost."""
    if len(values) <= most:
        return np.arange(len(values))
    edges = np.linspace(0, len(values), most // 2 + 1).astype(np.int64)
    stretches = list(zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True))
    largest = [begin + int(values[begin:end].argmax()) for begin, end in stretches]
    least = [begin + int(values[begin:end].argmin()) for begin, end in stretches]
    return np.unique([*largest, *least])


def _by_step(trace: Trace, columns: Columns, time: Ints, allocated: Ints) -> list[StepMemory]:
    """The steps in which anything was allocated or freed."""
    number, start, end = steps(trace, columns)
    first, behind = np.searchsorted(time, start), np.searchsorted(time, end)
    return [
        StepMemory(n, int(allocated[low:high].max()), int(allocated[high - 1]))
        for n, low, high in zip(number.tolist(), first, behind, strict=True)
        if high > low
    ]
