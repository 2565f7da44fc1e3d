"""XPlane, the files tf.profiler and jax.profiler write: `<host>.xplane.pb`, from CPUs, GPUs and TPUs.

A file is planes (the host, each device), lines (threads, streams) and events; names and much else stand in tables of
the plane. Times are picoseconds from the line's own zero, which counts from `profile_start_time` of the plane
`Task Environment`; files older than that plane have absolute times.

Categories, the reader's words for what an event is, from its plane, its line and its name:

    user_annotation    a step, named `ProfilerStep#<n>`: an event with `step_num` and `_r`, or Keras's `Profiled batch`;
                       where the host marked none, the first device's line `Steps`
    tf_op              an operator, `<scope>/<op>:<type>`: the type is the name, the rest the module
    xla_op             an operator of a compiled program run by the host
    tf_data            a stage of the input pipeline, and the operators on its threads
    tf_data_wait       the graph or the training loop waits for a batch; also what is marked as an input stage
    python             a frame of the Python tracer
    runtime            a call into the device's runtime
    scheduling         thread pools and executors at work on themselves
    host               anything else of the host
    device_kernel, device_memcpy, device_memset, device_collective        work of a device
    device_module, device_async, device_scope    programs, copies beside the work, summaries: they overlap the work
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]  # protobuf ships no types

from profkit.errors import UnreadableTrace
from profkit.readers import jsonpieces
from profkit.readers.xplane_messages import ProfileOptions, XSpace, refuse_pure_python
from profkit.trace.batch import NATIVE_MEMORY, Batch, NativeHeader, NativeTrack, ReadContext
from profkit.trace.schema import WORD

Ints = npt.NDArray[np.int64]
Stats = dict[str, Any]

PS_PER_NS = 1_000
STEP = "user_annotation"
WAIT = "tf_data_wait"
MEMORY = "memory"
KERNEL = "device_kernel"
KERAS_STEP = "Profiled batch"

# Statistics kept as arguments. Values of the program's own (annotations take any keyword) are not among them.
_KEPT = frozenset(
    (
        *("group_id", "step_num", "_r", "_ipl_stage_name", "_ipl_stage_cat", "eager_op", "tracing_count"),
        *("id", "parent_id", "iter_num", "element_id", "element_size", "shapes", "types"),
        *("buffer_limit", "buffer_size", "parallelism", "autotune", "batch_size", "cycle_length", "deterministic"),
        *("tf_op", "hlo_op", "hlo_module", "hlo_category", "program_id", "run_id", "device_ordinal", "replica_id"),
        *("kernel_details", "memcpy_details", "device_id", "kernel_type"),
    )
)
_DEVICE_FACTS = frozenset(
    (
        *("device_vendor", "device_type_string", "clock_rate", "core_count", "memory_bandwidth", "memory_size"),
        *("compute_cap_major", "compute_cap_minor", "peak_teraflops_per_second", "peak_hbm_bw_gigabytes_per_second"),
    )
)

_PLANE_STARTS = (0x08, 0x12)  # the tags of a plane's id and of its name
_DEVICE_PLANE = re.compile(r"/device:([A-Z]+):(\d+)")
_TF_OP = re.compile(r"([A-Za-z0-9.][A-Za-z0-9_.\\/>-]*):([A-Za-z_]\w*)")
_COPY_SIZE = re.compile(r"\bsize:(\d+)")
_ALLOCATOR_OF_GPU = re.compile(r"GPU_(\d+)_")
# The first pattern that matches the name of an event of the host decides.
_HOST_CATEGORIES = tuple(
    (category, re.compile(pattern))
    for category, pattern in (
        ("python", r"\$"),
        (MEMORY, r"Memory(All|Deall)ocation$"),
        ("scheduling", r"ThreadpoolListener::|ExecutorState::|ExecutorDoneCallback$|end: "),
        (WAIT, r"IteratorGetNext\w*::DoCompute$"),
        ("tf_data", r"(Make)?Iterator::|InstantiatedCapturedFunction::|\w+(Produce|Consume)$"),
        ("runtime", r"(hip|cuda|cu)[A-Z]\w*$"),
        ("tf_op", _TF_OP.pattern + "$"),
    )
)
# Categories whose events' statistics are not read: half of all events, and nothing in them that an analysis asks for.
_PLAIN = ("python", "scheduling", "tf_op")
_DEVICE_WORK = tuple(
    (category, re.compile(pattern, re.IGNORECASE))
    for category, pattern in (
        ("device_memcpy", r"memcpy|__amd_rocclr_copyBuffer|copy(-start|-done)?$"),
        ("device_memset", r"memset|__amd_rocclr_fillBuffer"),
        ("device_collective", r"all-(reduce|gather|to-all)|reduce-scatter|collective-"),
    )
)


class XPlaneReader:
    """Reads an XSpace, gzip or plain: parsed as a whole, then line by line."""

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the content begins like a plane, or the name says XPlane and the content is no JSON."""
        named = path.name.removesuffix(".gz").endswith(".xplane.pb")
        return _begins_with_plane(head) or (named and head[:1] not in (b"{", b"["))

    def read(self, path: Path, context: ReadContext) -> Iterator[Batch]:
        """Yield one batch for each line. Raises UnreadableTrace, or MissingDependency for a slow protobuf."""
        refuse_pure_python()
        space = _parsed(path)
        if not any(line.events for plane in space.planes for line in plane.lines):
            raise UnreadableTrace(f"{path} is no trace: an XSpace without events")
        reading = _Reading()
        planes = [_Plane(message) for message in space.planes]
        # The host first: its markers of steps count for more than a device's.
        for plane in sorted(planes, key=lambda plane: plane.device is not None):
            for line in plane.message.lines:
                yield reading.batch(plane, line)
        yield Batch(
            pl.DataFrame(),
            pl.DataFrame(),
            pl.DataFrame(),
            counts={},
            dropped={},
            tracks=tuple(reading.tracks),
            header=_header(space, planes),
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
    space = XSpace()
    try:
        space.ParseFromString(data)
    except DecodeError as error:
        raise UnreadableTrace(f"{path} is damaged or no XPlane file: its protobuf cannot be decoded") from error
    return space


class _Plane:
    """A plane with its tables: names of statistics, and whose device it is (None for the host)."""

    def __init__(self, message: Any) -> None:
        self.message = message
        self.name: str = message.name
        found = _DEVICE_PLANE.match(self.name)
        self.device = int(found[2]) if found else None
        self.is_gpu = bool(found and found[1] == "GPU")
        self._stat_names = {key: metadata.name for key, metadata in message.stat_metadata.items()}
        self.stats = self.stats_of(message)

    def stats_of(self, message: Any) -> Stats:
        """The statistics of an event, of its metadata or of the plane, by name."""
        return {self._stat_names.get(stat.metadata_id, ""): self._value(stat) for stat in message.stats}

    def _value(self, stat: Any) -> Any:
        word = stat.WhichOneof("value")
        if word == "ref_value":
            return self._stat_names.get(stat.ref_value, "")
        return None if word is None else getattr(stat, word)


@dataclass(frozen=True, slots=True)
class _Entry:
    """What all events of one name on a line have in common."""

    name: str
    category: str
    module: str | None = None
    source: str | None = None
    flops: int | None = None
    bytes: int | None = None
    stats: Stats = field(default_factory=dict)
    args: str | None = None


class _Reading:
    """One pass over one file: its tracks, and whether a step has been found."""

    def __init__(self) -> None:
        self.tracks: list[NativeTrack] = []
        self.has_steps = False

    def batch(self, plane: _Plane, line: Any) -> Batch:
        """The columns of one line."""
        track = len(self.tracks)
        self.tracks.append(_track(plane, line))
        # A sum of many events has a count in the place of a time.
        events = [event for event in line.events if not event.num_occurrences]
        rows = _Rows(plane, line, events)
        steps = {} if plane.device is not None and self.has_steps else rows.steps()
        self.has_steps = self.has_steps or bool(steps)
        summed = len(line.events) - len(events)
        return Batch(
            rows.spans(track, steps),
            rows.memory(track),
            pl.DataFrame(),
            counts={
                "events": len(line.events),
                "kernels": int((rows.categories == KERNEL).sum()),
                "memory": len(rows.memory_rows),
            },
            dropped={"sums of events without times": summed} if summed else {},
        )


class _Rows:
    """The events of one line: `code` points each to its entry, `stats` holds the statistics of those that matter."""

    def __init__(self, plane: _Plane, line: Any, events: list[Any]) -> None:
        self.plane, self.is_steps_line = plane, plane.device is not None and line.name == "Steps"
        ids, code = np.unique(_integers(event.metadata_id for event in events), return_inverse=True)
        self.code: Ints = code
        self.entries = [_entry(plane, line.name, plane.message.event_metadata.get(int(i))) for i in ids]
        self.categories = _gathered([entry.category for entry in self.entries], code)
        self.stats = {
            int(row): plane.stats_of(events[row])
            for row in np.flatnonzero(~np.isin(self.categories, _PLAIN))
            if events[row].stats
        }
        self.start, self.duration = _times(line.timestamp_ns, events)
        self.memory_rows: list[int] = np.flatnonzero(self.categories == MEMORY).tolist()

    def name(self, row: int) -> str:
        name: str = self.entries[self.code[row]].name
        return name

    def steps(self) -> dict[int, int]:
        """Number of the step that each marker's row stands for."""
        if self.is_steps_line:
            numbers = ((row, self.name(row)) for row in range(len(self.code)))
            return {row: int(number) for row, number in numbers if number.isdecimal()}
        if self.plane.device is not None:
            return {}
        marked = {row: stats for row, stats in self.stats.items() if isinstance(stats.get("step_num"), int)}
        rooted = [row for row, stats in marked.items() if "_r" in stats]
        return {row: marked[row]["step_num"] for row in rooted or marked if rooted or self.name(row) == KERAS_STEP}

    def spans(self, track: int, steps: dict[int, int]) -> pl.DataFrame:
        """A row for every event but those of memory."""
        stats = {row: own for row, own in self.stats.items() if self.categories[row] != MEMORY}
        names = {row: f"ProfilerStep#{number}" for row, number in steps.items()}
        categories = _own_categories(stats, self.categories) | dict.fromkeys(steps, STEP)
        table = pl.DataFrame(
            {
                "start_ns": self.start,
                "duration_ns": self.duration,
                "name": self._column("name", names, WORD),
                "category": self._column("category", categories, WORD),
                "track": pl.repeat(track, len(self.code), dtype=pl.UInt32, eager=True),
                "correlation": self._column(None, _own(stats, _correlation), pl.Int64),
                "bytes": self._column("bytes", _own(stats, _bytes), pl.Int64),
                "flops": self._column("flops", {}, pl.Int64),
                "module": self._column("module", {}, WORD),
                "source": self._column("source", {}, WORD),
                "args": self._column("args", self._own_args(stats, steps), WORD),
            }
        )
        return table.filter(self.categories != MEMORY)

    def _own_args(self, stats: Mapping[int, Stats], steps: dict[int, int]) -> dict[int, str]:
        args = {row: self.entries[self.code[row]].stats | _kept(own) for row, own in stats.items()}
        for row in steps:  # the name that the step's number has replaced
            args[row] = args.get(row, {}) | {"marker": self.name(row)}
        return {row: text for row, own in args.items() if (text := _as_json(own))}

    def _column(self, attribute: str | None, own: Mapping[int, Any], dtype: Any) -> pl.Series:
        """Each row's value: its own, or else its entry's."""
        common = [getattr(entry, attribute) if attribute else None for entry in self.entries]
        values = pl.Series([*common, *own.values()], dtype=dtype, strict=False)
        code = self.code.copy()
        code[list(own)] = np.arange(len(common), len(values))
        return values.gather(code)

    def memory(self, track: int) -> pl.DataFrame:
        """Allocations and frees. What the allocator holds in reserve is not recorded."""
        rows = self.memory_rows
        stats = [self.stats.get(row, {}) for row in rows]
        signs = [1 if self.name(row) == "MemoryAllocation" else -1 for row in rows]
        columns = {
            "time_ns": self.start[rows],
            "track": [track] * len(rows),
            "device": [_memory_device(own) for own in stats],
            "address": [(_number(own.get("addr")) or 0) & 0xFFFF_FFFF_FFFF_FFFF for own in stats],
            "bytes": [s * (_number(own.get("allocation_bytes")) or 0) for s, own in zip(signs, stats, strict=True)],
            "allocated_bytes": [_number(own.get("bytes_allocated")) for own in stats],
            "reserved_bytes": [None] * len(rows),
        }
        return pl.DataFrame(columns, schema=NATIVE_MEMORY, strict=False)


def _track(plane: _Plane, line: Any) -> NativeTrack:
    pid = _number(plane.stats.get("process_id")) if plane.device is None else plane.device
    return NativeTrack(pid, line.id, line.display_name or line.name, plane.name)


def _integers(values: Iterable[int]) -> Ints:
    return np.fromiter(values, np.int64)


def _gathered(words: list[str], code: Ints) -> npt.NDArray[np.str_]:
    return np.array(words, dtype=np.str_)[code] if words else np.zeros(0, np.str_)


def _times(zero_ns: int, events: list[Any]) -> tuple[Ints, Ints]:
    """Start and duration in nanoseconds. Ends are rounded like starts, so that what nests still does."""
    start_ps = _integers(event.offset_ps for event in events)
    end_ps = start_ps + np.maximum(_integers(event.duration_ps for event in events), 0)
    start_ns = start_ps // PS_PER_NS
    return start_ns + zero_ns, end_ps // PS_PER_NS - start_ns


def _entry(plane: _Plane, line: str, metadata: Any) -> _Entry:
    """What the metadata of an event's name says; None where the file has lost it."""
    if metadata is None:
        return _Entry("", "host")
    if plane.device is not None:
        return _device_entry(plane, line, metadata)
    name = metadata.name
    category = next((word for word, pattern in _HOST_CATEGORIES if pattern.match(name)), "host")
    if category == "python":
        return _Entry(name[1:], category)
    if category == "tf_op" and (found := _TF_OP.match(name)):
        # What the input pipeline computes is none of the step's own work.
        return _Entry(found[2], "tf_data" if line.startswith("tf_data_") else category, module=found[1])
    return _Entry(name, category)


def _device_entry(plane: _Plane, line: str, metadata: Any) -> _Entry:
    stats = plane.stats_of(metadata)
    name = metadata.display_name or metadata.name  # a TPU's name is the whole line of the program
    kind = str(stats.get("hlo_category") or metadata.name)
    kept = _kept(stats)
    return _Entry(
        name=name,
        category=_device_category(plane, line, kind),
        source=stats.get("source"),
        flops=_number(stats.get("flops")),
        bytes=_number(stats.get("bytes_accessed")),
        stats=kept,
        args=_as_json(kept),
    )


def _device_category(plane: _Plane, line: str, kind: str) -> str:
    """GPUs work on streams, and their lines `XLA …` are summaries; a TPU works on the line `XLA Ops`."""
    if line == "XLA Modules":
        return "device_module"
    if line == "Async XLA Ops":
        return "device_async"
    if not (line.startswith("Stream") if plane.is_gpu else line == "XLA Ops"):
        return "device_scope"
    return next((word for word, pattern in _DEVICE_WORK if pattern.match(kind)), KERNEL)


def _own_categories(stats: Mapping[int, Stats], categories: npt.NDArray[np.str_]) -> dict[int, str]:
    """Categories that follow from an event's statistics: input stages and operators among what the host did."""
    host = {row: own for row, own in stats.items() if categories[row] == "host"}
    operators = {row: "xla_op" for row, own in host.items() if "hlo_op" in own}
    return operators | {row: WAIT for row, own in host.items() if "_ipl_stage_id" in own}


def _own(stats: Mapping[int, Stats], value_of: Callable[[Stats], int | None]) -> dict[int, int]:
    return {row: value for row, own in stats.items() if (value := value_of(own)) is not None}


def _correlation(stats: Stats) -> int | None:
    return _number(stats.get("correlation_id", stats.get("run_id")))


def _bytes(stats: Stats) -> int | None:
    """What a copy moved."""
    if found := _COPY_SIZE.search(str(stats.get("memcpy_details", ""))):
        return int(found[1])
    return _number(stats.get("size"))


def _memory_device(stats: Stats) -> str:
    """The device an allocator serves, from its name (`GPU_0_bfc`, `mklcpu`) or, on a TPU, from its index."""
    if "allocator_name" not in stats and "index_on_host" in stats:
        return f"tpu:{stats['index_on_host']}"
    allocator = str(stats.get("allocator_name", ""))
    found = _ALLOCATOR_OF_GPU.match(allocator)
    return f"gpu:{found[1]}" if found else "cpu" if "cpu" in allocator.lower() else allocator


def _number(value: Any) -> int | None:
    """An integer from 7 or "7"."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    return value if isinstance(value, int) else None


def _kept(stats: Stats) -> Stats:
    return {name: value for name, value in stats.items() if name in _KEPT and not isinstance(value, bytes)}


def _as_json(stats: Stats) -> str | None:
    return msgspec.json.encode(stats).decode() if stats else None


def _header(space: Any, planes: list[_Plane]) -> NativeHeader:
    """What the file says about itself. Allow-listed: of the task's environment nothing but times and levels."""
    stats = {plane.name: plane.stats for plane in planes}
    environment = stats.get("Task Environment", {})
    version = stats.get("/host:metadata", {}).get("jax_version")
    return NativeHeader(
        zero_ns=_zero(planes, _number(environment.get("profile_start_time")) or 0),
        host=next(iter(space.hostnames), ""),
        frameworks={"jax": str(version)} if version else {},
        devices=[_device(plane) for plane in planes if plane.device is not None],
        flags=_levels(environment.get("profile_options")),
        profiler="xplane",
    )


def _zero(planes: list[_Plane], start_ns: int) -> int:
    """The session's start where the lines count from it, 0 where they count from the epoch."""
    latest = max(line.timestamp_ns for plane in planes for line in plane.message.lines)
    return 0 if latest >= start_ns else start_ns


def _device(plane: _Plane) -> dict[str, str | int | float | None]:
    facts = {name: value for name, value in plane.stats.items() if name in _DEVICE_FACTS}
    return {"id": plane.device, "name": str(facts.get("device_type_string") or plane.name), **facts}


def _levels(options: Any) -> dict[str, str | int | float | bool | None]:
    """How much the profiler was told to record; what it was told is not what the user asked for in every version."""
    if not isinstance(options, bytes):
        return {}
    message = ProfileOptions()
    try:
        message.ParseFromString(options)
    except DecodeError:
        return {}
    return {name: getattr(message, name) for name in message.DESCRIPTOR.fields_by_name}
