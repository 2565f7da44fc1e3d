"""What a reader hands to the core: columns as the native file has them, before sorting, nesting and steps."""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from profkit.trace.collectives import Group
from profkit.trace.schema import WORD

# Times are nanoseconds since the file's own zero; `track` counts the pairs (pid, tid) in order of appearance.
# A reader fills the columns it knows and leaves out the others; the first five are required.
NATIVE_SPANS: dict[str, pl.DataType | type[pl.DataType]] = {
    "start_ns": pl.Int64,
    "duration_ns": pl.Int64,
    "name": WORD,
    "category": WORD,
    "track": pl.UInt32,
    "correlation": pl.Int64,
    "bytes": pl.Int64,
    "flops": pl.Int64,
    "shapes": WORD,
    "dtypes": WORD,
    "module": WORD,
    "stack": WORD,
    "source": WORD,
    "args": WORD,
}

NATIVE_MEMORY: dict[str, pl.DataType | type[pl.DataType]] = {
    "time_ns": pl.Int64,
    "track": pl.UInt32,
    "device": WORD,
    "address": pl.UInt64,
    "bytes": pl.Int64,
    "allocated_bytes": pl.Int64,
    "reserved_bytes": pl.Int64,
}

# The two ends of an arrow from a forward operator to its backward one, joined by `id`.
NATIVE_FLOWS: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.Int64,
    "begins": pl.Boolean,
    "track": pl.UInt32,
    "time_ns": pl.Int64,
}


@dataclass(frozen=True, slots=True)
class NativeTrack:
    """A thread or stream as the file names it: numbers where it gives numbers, a name where it has one.

    `device` is set where the file says that the track is a device's, whatever lies on it: `gpu:0`, `tpu:3`.
    """

    pid: int | None
    tid: int | None
    name: str
    process: str = ""
    device: str = ""


@dataclass(frozen=True, slots=True)
class NativeHeader:
    """What the file says about itself. `zero_ns`: unix time of the file's zero, 0 where its times are absolute."""

    zero_ns: int = 0
    rank: int | None = None
    world_size: int | None = None
    backend: str = ""
    groups: tuple[Group, ...] = ()
    host: str = ""
    frameworks: dict[str, str] = field(default_factory=dict)
    devices: list[dict[str, str | int | float | None]] = field(default_factory=list)
    flags: dict[str, str | int | float | bool | None] = field(default_factory=dict)
    profiler: str = "torch"


@dataclass(frozen=True, slots=True)
class ReadContext:
    """What the core knows and the file may not."""

    rank: int | None = None
    window: int = 0
    host: str = ""


@dataclass(frozen=True, slots=True)
class Batch:
    """A bounded piece of a native file. The last one carries `tracks` (in order of their numbers) and `header`."""

    spans: pl.DataFrame
    memory: pl.DataFrame
    flows: pl.DataFrame
    counts: dict[str, int]
    dropped: dict[str, int]
    tracks: tuple[NativeTrack, ...] = ()
    header: NativeHeader | None = None
    notes: tuple[str, ...] = ()
