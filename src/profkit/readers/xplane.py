"""XPlane, the files tf.profiler and jax.profiler write: `<host>.xplane.pb`, from CPUs, GPUs and TPUs.

A file is planes (the host, each device), lines (threads, streams) and events; names and much else stand in tables of
the plane. Times are picoseconds from the line's own zero, which counts from `profile_start_time` of the plane
`Task Environment`; files older than that plane have absolute times.

Categories, the reader's words for what an event is, from its plane, its line and its name:

    user_annotation    a step, named `ProfilerStep#<n>`: an event with `step_num` and `_r`, or Keras's `Profiled batch`;
                       where the host marked none, the first device's line `Steps`
    tf_op              an operator, `<scope>/<op>:<type>`: the type is the name, the rest the module
    eager_op           an operator that TensorFlow was asked for by itself, outside any graph
    xla_op             an operator of a compiled program run by the host
    tf_data            a stage of the input pipeline, and the operators on its threads
    tf_data_wait       the graph or the training loop waits for a batch; also what is marked as an input stage
    python             a frame of the Python tracer
    runtime            a call into the device's runtime
    scheduling         thread pools and executors at work on themselves: counted as `bookkeeping`, and no spans
    framework          what TensorFlow's and XLA's runtimes call around the work
    host               anything else of the host, the program's own ranges among it
    device_kernel, device_memcpy, device_memset, device_collective        work of a device
    device_module, device_async, device_scope    programs, copies beside the work, summaries: they overlap the work
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types

from profkit.errors import UnreadableTrace
from profkit.readers import jsonpieces
from profkit.readers.xplane_columns import device_of_allocator, device_steps, host_steps, memory_table, span_table
from profkit.readers.xplane_entries import KERNEL, Device, is_tensorflows
from profkit.readers.xplane_messages import PackedSpace, ProfileOptions, refuse_pure_python
from profkit.readers.xplane_plane import Events, Line, Plane
from profkit.readers.xplane_statistics import integer
from profkit.readers.xplane_wire import Damaged
from profkit.trace.batch import Batch, NativeHeader, NativeTrack, ReadContext

Flags = dict[str, str | int | float | bool | None]

_DEVICE_FACTS = frozenset(
    (
        *("device_vendor", "device_type_string", "clock_rate", "core_count", "memory_bandwidth", "memory_size"),
        *("compute_cap_major", "compute_cap_minor", "peak_teraflops_per_second", "peak_hbm_bw_gigabytes_per_second"),
    )
)
_PLANE_STARTS = (0x08, 0x12)  # the tags of a plane's id and of its name


class XPlaneReader:
    """Reads an XSpace, gzip or plain: tables by protobuf, events plane by plane by the column."""

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the content begins like a plane, or the name says XPlane and the content is no JSON."""
        named = path.name.removesuffix(".gz").endswith(".xplane.pb")
        return _begins_with_plane(head) or (named and head[:1] not in (b"{", b"["))

    def read(self, path: Path, context: ReadContext) -> Iterator[Batch]:
        """Yield a batch for each plane with lines. Raises UnreadableTrace, or MissingDependency for a slow protobuf."""
        refuse_pure_python()
        space = _parsed(path)
        reading = _Reading()
        try:
            planes = [Plane(message) for message in space.planes]
            if not any(len(plane.events.tag) for plane in planes):
                raise UnreadableTrace(f"{path} is no trace: an XSpace without events")
            # The host first: its markers of steps count for more than a device's.
            for plane in sorted(planes, key=lambda plane: plane.device is not None):
                if plane.lines:
                    yield reading.batch(plane)
        except Damaged as error:
            raise _damaged(path) from error
        yield Batch(
            pl.DataFrame(),
            pl.DataFrame(),
            pl.DataFrame(),
            counts={},
            dropped={},
            tracks=tuple(reading.tracks),
            header=_header(space, planes, reading),
            notes=(*space.errors, *space.warnings),
        )


def _begins_with_plane(head: bytes) -> bool:
    """Whether these are the tag of XSpace's first field, a length, and the tag of a plane's id or name."""
    length = re.match(rb"\x0a[\x80-\xff]{0,9}[\x00-\x7f]", head)
    return length is not None and length.end() < len(head) and head[length.end()] in _PLANE_STARTS


def _parsed(path: Path) -> Any:
    try:
        data = b"".join(jsonpieces.raw_bytes(path))
    except OSError as error:
        raise UnreadableTrace(f"cannot read {path}: {error.strerror or error}") from error
    space = PackedSpace()
    try:
        space.ParseFromString(data)
    except DecodeError as error:
        raise _damaged(path) from error
    return space


def _damaged(path: Path) -> UnreadableTrace:
    return UnreadableTrace(f"{path} is damaged or no XPlane file: its protobuf cannot be decoded")


class _Reading:
    """One pass over one file: its tracks, whether a step has been found, and what its events say of the whole."""

    def __init__(self) -> None:
        self.tracks: list[NativeTrack] = []
        self.has_steps = self.is_tensorflows = False
        self.flags: Flags = {}

    def batch(self, plane: Plane) -> Batch:
        """The columns of one plane. Raises Damaged."""
        events = Events(plane)
        track = len(self.tracks)
        self.tracks += [_track(plane, line) for line in plane.lines]
        steps = host_steps(events) if plane.device is None else device_steps(events)
        if plane.device is not None and self.has_steps:
            steps = steps[0][:0], steps[1][:0]
        self.has_steps = self.has_steps or bool(len(steps[0]))
        if plane.device is None:
            self.is_tensorflows |= any(is_tensorflows(entry.name) for entry in events.entries)
        memory = memory_table(events, track)
        self.flags |= _allocators(events)
        return Batch(
            span_table(events, track, steps),
            memory,
            pl.DataFrame(),
            counts={
                "events": events.total,
                "bookkeeping": events.bookkeeping,
                "kernels": int(events.where(KERNEL).sum()),
                "memory": memory.height,
            },
            dropped={"sums of events without times": events.sums} if events.sums else {},
        )


def _track(plane: Plane, line: Line) -> NativeTrack:
    name = line.display_name or line.name
    if plane.device is None:
        return NativeTrack(integer(plane.stats.get("process_id")), line.id, name, plane.name)
    return NativeTrack(plane.device.number, line.id, name, plane.name, plane.device.name)


def _allocators(events: Events) -> Flags:
    """Each device's allocator by name, and the most it ever held: facts that no row of memory has a column for."""
    peak, has_peak = events.numbers("peak_bytes_in_use")
    flags: Flags = {}
    for rows, name in events.statistics.texts("allocator_name"):
        device = device_of_allocator(name)
        flags[f"{device} allocator"] = name
        if has_peak[rows].any():
            flags[f"{device} peak_bytes_in_use"] = int(peak[rows].max())
    return flags


def _header(space: Any, planes: list[Plane], reading: _Reading) -> NativeHeader:
    """What the file says about itself. Allow-listed: of the task's environment nothing but times and levels."""
    stats = {plane.name: plane.stats for plane in planes}
    environment = stats.get("Task Environment", {})
    version = stats.get("/host:metadata", {}).get("jax_version")
    return NativeHeader(
        zero_ns=_zero(planes, integer(environment.get("profile_start_time")) or 0),
        host=next(iter(space.hostnames), ""),
        # No file says which TensorFlow wrote it.
        frameworks=({"jax": str(version)} if version else {}) | ({"tensorflow": ""} if reading.is_tensorflows else {}),
        devices=[_device(plane, plane.device) for plane in planes if plane.device is not None],
        flags=_levels(environment.get("profile_options")) | reading.flags,
        profiler="xplane",
    )


def _zero(planes: list[Plane], start_ns: int) -> int:
    """The session's start where the lines count from it, 0 where they count from the epoch."""
    latest = max(line.timestamp_ns for plane in planes for line in plane.lines)
    return 0 if latest >= start_ns else start_ns


def _device(plane: Plane, device: Device) -> dict[str, str | int | float | None]:
    facts = {name: value for name, value in plane.stats.items() if name in _DEVICE_FACTS}
    return {"id": device.number, "name": str(facts.get("device_type_string") or plane.name), **facts}


def _levels(options: Any) -> Flags:
    """How much the profiler was told to record; what it was told is not what the user asked for in every version."""
    if not isinstance(options, bytes):
        return {}
    message = ProfileOptions()
    try:
        message.ParseFromString(options)
    except DecodeError:
        return {}
    return {name: getattr(message, name) for name in message.DESCRIPTOR.fields_by_name}
