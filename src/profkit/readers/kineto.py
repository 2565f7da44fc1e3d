"""Kineto's Chrome JSON, the files torch.profiler writes, in all the forms it has had since torch 1.8.

Four eras (facts measured on traces of torch 1.8 to 2.13): capitalised categories and string thread ids (1.8–1.9);
lower-case categories with whole microseconds since the epoch (1.10–2.2); the same with fractions (2.3); fractions
relative to `baseTimeNanoseconds` (2.4 on). CPU, NVIDIA, AMD and MTIA devices differ only in categories and names.
Any other file in the Chrome format is read too, as spans without operators.

A file that is not valid JSON is repaired piece by piece: broken UTF-8, unquoted N/A and NaN, trailing commas, stray
backslashes and control characters; what still does not parse is dropped event by event and counted.
"""

from __future__ import annotations

import itertools
import json
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.errors import UnreadableTrace
from profkit.readers import jsonpieces
from profkit.trace.batch import (
    NATIVE_FLOWS,
    NATIVE_MEMORY,
    Batch,
    NativeHeader,
    NativeTrack,
    ReadContext,
)
from profkit.trace.schema import WORD
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]

OPERATOR_CATEGORIES = frozenset(("cpu_op", "Operator", "user_annotation"))
RUNTIME_CATEGORIES = frozenset(
    (
        "cuda_runtime",
        "cuda_driver",
        "hip_runtime",
        "mtia_runtime",
        "xpu_runtime",
        "privateuse1_runtime",
        "Runtime",
    )
)
DEVICE_CATEGORIES = frozenset(
    ("kernel", "Kernel", "gpu_memcpy", "Memcpy", "gpu_memset", "Memset", "cuda_sync", "mtia_ccp_events")
)
KERNEL_CATEGORIES = frozenset(("kernel", "Kernel"))
BACKWARD_FLOWS = frozenset(("fwdbwd", "forward_backward"))

# No time of a training lies further from 1970, in microseconds; what does is damage.
FURTHEST_US = 4e15

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

_NONE = msgspec.Raw(b"")
_Args = TypeVar("_Args", bound=msgspec.Struct)


class _Event(msgspec.Struct, gc=False):
    ph: str = ""
    cat: str | None = None
    name: str = ""
    pid: Any = None
    tid: Any = None
    ts: float | None = None
    dur: float | None = None
    id: Any = None
    args: msgspec.Raw = _NONE


class _OperatorArgs(msgspec.Struct, gc=False):
    """Of an operator or a range: never its concrete inputs."""

    shapes: msgspec.Raw = msgspec.field(default=_NONE, name="Input Dims")
    dtypes: msgspec.Raw = msgspec.field(default=_NONE, name="Input type")
    call_stack: str | None = msgspec.field(default=None, name="Call stack")
    module: str | None = msgspec.field(default=None, name="Module Hierarchy")
    collective: msgspec.Raw = msgspec.field(default=_NONE, name="Collective name")
    kernel_backend: msgspec.Raw = _NONE


class _LaunchArgs(msgspec.Struct, gc=False):
    """Of a call into the device's runtime."""

    correlation: int | None = None


class _MemoryArgs(msgspec.Struct, gc=False):
    """Of an allocation or a free."""

    bytes: int | None = msgspec.field(default=None, name="Bytes")
    address: int | None = msgspec.field(default=None, name="Addr")
    device_type: int | None = msgspec.field(default=None, name="Device Type")
    device_id: int | None = msgspec.field(default=None, name="Device Id")
    allocated: int | None = msgspec.field(default=None, name="Total Allocated")
    reserved: int | None = msgspec.field(default=None, name="Total Reserved")


class _NameArgs(msgspec.Struct, gc=False):
    """Of the event that names a thread or a process."""

    name: Any = None


class _Details(msgspec.Struct, gc=False, omit_defaults=True):
    """Of device work and collectives. What peers use of it passes through as it is, not looked at."""

    correlation: int | None = None
    bytes: Any = None  # AMD's runtime writes some as text
    device: msgspec.Raw = _NONE
    stream: msgspec.Raw = _NONE
    context: msgspec.Raw = _NONE
    queued: msgspec.Raw = _NONE
    grid: msgspec.Raw = _NONE
    block: msgspec.Raw = _NONE
    registers: msgspec.Raw = msgspec.field(default=_NONE, name="registers per thread")
    shared_memory: msgspec.Raw = msgspec.field(default=_NONE, name="shared memory")
    blocks_per_sm: msgspec.Raw = msgspec.field(default=_NONE, name="blocks per SM")
    warps_per_sm: msgspec.Raw = msgspec.field(default=_NONE, name="warps per SM")
    occupancy: msgspec.Raw = msgspec.field(default=_NONE, name="est. achieved occupancy %")
    bandwidth: msgspec.Raw = msgspec.field(default=_NONE, name="memory bandwidth (GB/s)")
    sync_kind: msgspec.Raw = msgspec.field(default=_NONE, name="cuda_sync_kind")
    wait_on_stream: msgspec.Raw = _NONE
    wait_on_record: msgspec.Raw = msgspec.field(default=_NONE, name="wait_on_cuda_event_record_corr_id")
    wait_on_event: msgspec.Raw = msgspec.field(default=_NONE, name="wait_on_cuda_event_id")
    kernel_backend: msgspec.Raw = _NONE
    kernel_file: msgspec.Raw = _NONE
    kernel_hash: msgspec.Raw = _NONE
    collective: msgspec.Raw = msgspec.field(default=_NONE, name="Collective name")
    dtype: msgspec.Raw = _NONE
    in_elements: msgspec.Raw = msgspec.field(default=_NONE, name="In msg nelems")
    out_elements: msgspec.Raw = msgspec.field(default=_NONE, name="Out msg nelems")
    group_size: msgspec.Raw = msgspec.field(default=_NONE, name="Group size")
    group_name: msgspec.Raw = msgspec.field(default=_NONE, name="Process Group Name")
    group_description: msgspec.Raw = msgspec.field(default=_NONE, name="Process Group Description")
    group_ranks: msgspec.Raw = msgspec.field(default=_NONE, name="Process Group Ranks")
    in_split: msgspec.Raw = msgspec.field(default=_NONE, name="In split size")
    out_split: msgspec.Raw = msgspec.field(default=_NONE, name="Out split size")


_decode_events = msgspec.json.Decoder(list[_Event]).decode
_decode_event = msgspec.json.Decoder(_Event, strict=False).decode
_decode_document = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode
_raw_decode = json.JSONDecoder().raw_decode
_list_decoders: dict[type[msgspec.Struct], Callable[[bytes], Any]] = {
    kind: msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
    for kind in (_OperatorArgs, _LaunchArgs, _MemoryArgs, _NameArgs, _Details)
}


class KinetoReader:
    """Reads Chrome-format JSON, gzip or plain, in bounded pieces."""

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether the content begins like a JSON object or array."""
        return head.lstrip()[:1] in (b"{", b"[")

    def read(self, path: Path, context: ReadContext) -> Iterator[Batch]:
        """Yield the file's events in batches of columns. Raises UnreadableTrace where there are none."""
        reading = _Reading(path)
        for piece in jsonpieces.pieces(path):
            if piece.document is None:
                yield reading.batch(reading.events(piece.events))
            else:
                yield reading.last_batch(piece)


class _Reading:
    """One pass over one file: the names of its tracks, what was dropped and what was repaired on the way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lanes = _Lanes()
        self.thread_names: dict[int, str] = {}
        self.process_names: dict[Any, str] = {}
        self.notes: list[str] = []
        self.seen = 0

    def events(self, array: bytes) -> list[_Event]:
        """The events of a JSON array, repaired where it is no valid JSON."""
        try:
            return _decode_events(array)
        except BROKEN:
            return self._salvaged(array[1:-1])

    def last_batch(self, piece: jsonpieces.Piece) -> Batch:
        """The batch of the last piece, with tracks and header."""
        assert piece.document is not None
        events, top = self._last_events(piece.events, piece.document)
        if not self.seen and not any(event.ph for event in events):
            raise self._no_trace(top, piece.document)
        batch = self.batch(events)
        return Batch(
            batch.spans,
            batch.memory,
            batch.flows,
            batch.counts,
            batch.dropped,
            tracks=self._tracks(),
            header=_header(top),
            notes=tuple(dict.fromkeys(self.notes)),
        )

    def batch(self, events: list[_Event]) -> Batch:
        """Columns of some events."""
        self.seen += len(events)
        by_phase: dict[str, list[_Event]] = defaultdict(list)
        for event in events:
            by_phase[event.ph].append(event)
        halves = [e for e in events if e.ph in ("B", "E")] if {"B", "E"} & by_phase.keys() else []
        joined = _joined_halves(halves)
        table, without_time = self._spans(by_phase["X"] + joined)
        dropped = {
            "spans without a usable time": without_time,
            "counter events": len(by_phase["C"]),
            "begin or end events without a partner": len(halves) - 2 * len(joined),
        }
        names = [e for e in by_phase["M"] if e.name in ("thread_name", "process_name")]
        self._learn_names(list({(e.name, e.pid, e.tid): e for e in names}.values()))
        memory = [e for e in by_phase["i"] if e.name == "[memory]" and _has_time(e)]
        arrows = by_phase["s"] + by_phase["f"]
        flows = [e for e in arrows if e.cat in BACKWARD_FLOWS and _has_time(e) and _is_id(e.id)]
        counts = {
            "events": len(events),
            "kernels": int(Words(table["category"]).among(*KERNEL_CATEGORIES).sum()),
            "memory": len(memory),
        }
        return Batch(
            table,
            self._memory(memory),
            self._flows(flows),
            counts,
            {reason: count for reason, count in dropped.items() if count},
        )

    def _last_events(self, text: bytes, document: bytes) -> tuple[list[_Event], dict[str, Any]]:
        """Events of the last piece and the document's other fields."""
        for mend in (None, _repaired):
            attempt = mend(document) if mend else document
            try:
                if attempt.lstrip()[:1] == b"[":
                    return _decode_events(attempt), {}
                top: dict[str, Any] = dict(_decode_document(attempt))
                if "traceEvents" not in top:
                    return [], top
                events = _decode_events(top.pop("traceEvents"))
            except BROKEN:
                continue
            if attempt is not document:
                self.notes.append("the file is no valid JSON; its text was repaired")
            return events, top
        header = document[: len(document) - len(text)]
        if not header:
            return [], {}
        return self._salvaged(text), _header_fields(header)

    def _salvaged(self, text: bytes) -> list[_Event]:
        """The events of damaged JSON, one by one; those that do not parse are dropped and counted."""
        text = _repaired(text)
        try:
            events = _decode_events(b"[" + text + b"]")
        except BROKEN:
            pass
        else:
            self.notes.append("the file is no valid JSON; its text was repaired")
            return events
        events, lost = [], 0
        for chunk in _split_events(text):
            event = _lenient_event(chunk)
            if event is None:
                lost += 1
            else:
                events.append(event)
        if lost and events:
            plural = "event" if lost == 1 else "events"
            self.notes.append(f"the file is damaged or cut short: {lost} {plural} could not be read")
        return events

    def _no_trace(self, top: dict[str, Any], document: bytes) -> UnreadableTrace:
        if top:
            keys = ", ".join(list(top)[:6])
            return UnreadableTrace(f"{self.path} is no trace: JSON without trace events (its keys: {keys})")
        if document.lstrip()[:1] in (b"[", b"{"):
            return UnreadableTrace(f"{self.path} is no trace: it holds no event in the Chrome format")
        return UnreadableTrace(f"{self.path} is no trace: it is not JSON")

    def _learn_names(self, events: Sequence[_Event]) -> None:
        for event, args in zip(events, _arguments(events, _NameArgs), strict=True):
            if not isinstance(args.name, str):
                continue
            if event.name == "thread_name":
                self.thread_names[self.lanes[event.pid, event.tid]] = args.name
            else:
                self.process_names[_number(event.pid)] = args.name

    def _tracks(self) -> tuple[NativeTrack, ...]:
        return tuple(
            NativeTrack(pid, tid, self.thread_names.get(lane, label), self.process_names.get(pid, ""))
            for lane, (pid, tid, label) in enumerate(self.lanes.native)
        )

    def _spans(self, events: list[_Event]) -> tuple[pl.DataFrame, int]:
        """Columns of the spans, and how many had no usable time and were left out."""
        lanes = self.lanes
        start, duration = (np.array(times, np.float64) for times in ([e.ts for e in events], [e.dur for e in events]))
        usable = (duration >= 0) & (duration < FURTHEST_US) & (np.abs(start) < FURTHEST_US)
        category = pl.Series([e.cat for e in events], dtype=WORD)
        words = Words(category)
        columns: dict[str, Any] = {
            "start_ns": nanoseconds(np.where(usable, start, 0)),
            "duration_ns": nanoseconds(np.where(usable, duration, 0)),
            "name": pl.Series([e.name for e in events], dtype=WORD),
            "category": category,
            "track": np.array([lanes[e.pid, e.tid] for e in events], np.uint32),
            **_argument_columns(events, words),
        }
        is_frame = words.among("Trace")  # the recording itself
        kept = usable & ~is_frame
        table = pl.DataFrame(columns)
        return table if kept.all() else table.filter(kept), int((~usable & ~is_frame).sum())

    def _memory(self, events: list[_Event]) -> pl.DataFrame:
        args = _arguments(events, _MemoryArgs)
        columns = {
            "time_ns": nanoseconds([e.ts for e in events]),
            "track": [self.lanes[e.pid, e.tid] for e in events],
            "device": [_device_name(a.device_type, a.device_id) for a in args],
            "address": [_unsigned(a.address) for a in args],
            "bytes": [a.bytes for a in args],
            "allocated_bytes": [a.allocated for a in args],
            "reserved_bytes": [a.reserved for a in args],
        }
        return pl.DataFrame(columns, schema=NATIVE_MEMORY, strict=False).drop_nulls("bytes")

    def _flows(self, events: list[_Event]) -> pl.DataFrame:
        columns = {
            "id": [e.id for e in events],
            "begins": [e.ph == "s" for e in events],
            "track": [self.lanes[e.pid, e.tid] for e in events],
            "time_ns": nanoseconds([e.ts for e in events]),
        }
        return pl.DataFrame(columns, schema=NATIVE_FLOWS)


class _Lanes(dict[tuple[Any, Any], int]):
    """(pid, tid) -> number of the track, in order of appearance; `"7"`, `"stream 7"` and 7 are one."""

    def __init__(self) -> None:
        self.native: list[tuple[int | None, int | None, str]] = []
        self._numbers: dict[tuple[Any, Any], int] = {}

    def __missing__(self, key: tuple[Any, Any]) -> int:
        pid, tid = key
        number, thread = _number(pid), _number(tid)
        normal = (pid if number is None else number, tid if thread is None else thread)
        normal = (str(normal[0]), str(normal[1]))
        if normal not in self._numbers:
            self._numbers[normal] = len(self.native)
            self.native.append((number, thread, tid if isinstance(tid, str) else ""))
        lane = self[key] = self._numbers[normal]
        return lane


def nanoseconds(microseconds: Sequence[float | None] | npt.NDArray[np.float64]) -> Ints:
    """Exact integer nanoseconds of times the format gives in microseconds with up to three decimals.

    Whole and fractional part apart: multiplied at once, times of this size would round to the wrong nanosecond.
    """
    values = np.asarray(microseconds, np.float64)
    whole = np.floor(values)
    return whole.astype(np.int64) * 1_000 + np.rint((values - whole) * 1_000).astype(np.int64)


def _joined_halves(halves: list[_Event]) -> list[_Event]:
    """Spans from begin and end events, which nest by thread."""
    open_by_thread: dict[tuple[Any, Any], list[_Event]] = {}
    joined = []
    for event in halves:
        stack = open_by_thread.setdefault((event.pid, event.tid), [])
        if event.ph == "B":
            stack.append(event)
        elif stack:
            begun = stack.pop()
            if begun.ts is not None and event.ts is not None and event.ts >= begun.ts:
                begun.dur = event.ts - begun.ts
                joined.append(begun)
    return joined


def _arguments(events: Sequence[_Event], kind: type[_Args]) -> list[_Args]:
    """The arguments of events as `kind`, decoded together; those that do not fit are empty."""
    texts = [e.args if e.args is not _NONE else b"{}" for e in events]
    try:
        decoded: list[_Args] = _list_decoders[kind](b"[" + b",".join(texts) + b"]")
    except BROKEN:
        return [_one_argument(text, kind) for text in texts]
    return decoded


def _one_argument(text: msgspec.Raw | bytes, kind: type[_Args]) -> _Args:
    try:
        return msgspec.json.decode(text, type=kind)
    except BROKEN:
        return kind()


def _argument_columns(events: list[_Event], categories: Words) -> dict[str, pl.Series]:
    """Columns that come from the arguments, by category: operators carry shapes, device work its correlation."""
    count = len(events)
    operators = np.flatnonzero(categories.among(*OPERATOR_CATEGORIES))
    launching = np.flatnonzero(categories.among(*RUNTIME_CATEGORIES))
    on_device = np.flatnonzero(categories.among(*DEVICE_CATEGORIES))
    columns: dict[str, pl.Series] = {}
    details: dict[int, str | None] = {}
    if len(operators):
        args = _arguments([events[i] for i in operators.tolist()], _OperatorArgs)
        for name, values in (
            ("shapes", _texts([a.shapes for a in args])),
            ("dtypes", _texts([a.dtypes for a in args])),
            ("stack", [a.call_stack or None for a in args]),
            ("module", [a.module or None for a in args]),
        ):
            columns[name] = _scattered(values, operators, count, WORD)
        for i, a in zip(operators.tolist(), args, strict=True):
            if a.collective or a.kernel_backend:
                details[i] = _details_as_json([_one_argument(events[i].args, _Details)])[0]
    if len(launching) or len(on_device):
        launches = _arguments([events[i] for i in launching.tolist()], _LaunchArgs)
        work = _arguments([events[i] for i in on_device.tolist()], _Details)
        correlations = [a.correlation for a in launches] + [a.correlation for a in work]
        both = np.concatenate((launching, on_device))
        columns["correlation"] = _scattered(correlations, both, count, pl.Int64)
        columns["bytes"] = _scattered([_number(a.bytes) for a in work], on_device, count, pl.Int64)
        details.update(zip(on_device.tolist(), _details_as_json(work), strict=True))
    if details:
        columns["args"] = _scattered(list(details.values()), np.array(list(details)), count, WORD)
    return columns


def _scattered(values: list[Any], rows: Ints, count: int, dtype: type[pl.DataType]) -> pl.Series:
    """A column of `count` rows that holds the values at `rows` and nulls elsewhere."""
    source = np.full(count, -1, np.int64)
    source[rows] = np.arange(len(rows))
    index = pl.Series(source)
    return pl.Series(values, dtype=dtype, strict=False).gather(index.set(index < 0, None))


def _texts(raws: list[msgspec.Raw]) -> list[str | None]:
    """JSON fragments as text, None where there is none; taken together, for a character no JSON holds divides them."""
    joined = b"\0".join(raws).decode("utf-8", "replace")
    return [text or None for text in joined.split("\0")]


def _details_as_json(work: list[_Details]) -> list[str | None]:
    """The arguments peers use, each a JSON object; None where there are none."""
    for details in work:
        details.correlation = details.bytes = None  # these have columns of their own
    return [None if text == b"{}" else text.decode("utf-8", "replace") for text in map(_encode, work)]


def _header(top: dict[str, Any]) -> NativeHeader:
    """What the document says outside its events. Allow-listed: never the environment, never argument values."""
    fields = {key: _decoded(raw) for key, raw in top.items() if key in _HEADER_FIELDS}
    distributed = fields.get("distributedInfo")
    distributed = distributed if isinstance(distributed, dict) else {}
    own = fields.get("profkit")
    own = own if isinstance(own, dict) else {}
    version = own.get("torch") or ""
    devices = fields.get("deviceProperties")
    return NativeHeader(
        zero_ns=_int(fields.get("baseTimeNanoseconds")) or 0,
        rank=_int(distributed.get("rank")),
        world_size=_int(distributed.get("world_size")),
        backend=str(distributed.get("backend") or ""),
        host=str(fields.get("host_name") or ""),
        frameworks={"torch": str(version)} if version else {},
        devices=[_scalars(d) for d in devices if isinstance(d, dict)] if isinstance(devices, list) else [],
        flags=_scalars({key: value for key, value in fields.items() if key in _FLAGS}),
    )


_FLAGS = frozenset(
    (
        *("schemaVersion", "displayTimeUnit", "trace_id"),
        *("record_shapes", "profile_memory", "with_stack", "with_flops", "with_modules"),
        *("cuda_runtime_version", "cuda_driver_version", "cupti_version"),
        *("hip_runtime_version", "hip_driver_version"),
    )
)
_HEADER_FIELDS = _FLAGS | {
    "distributedInfo",
    "deviceProperties",
    "baseTimeNanoseconds",
    "host_name",
    "profkit",
}


def _header_fields(header: bytes) -> dict[str, Any]:
    """Fields that come before the events of a document whose end is lost."""
    try:
        top: dict[str, Any] = dict(_decode_document(_repaired(header) + b"]}"))
    except BROKEN:
        return {}
    top.pop("traceEvents", None)
    return top


_CONTROL = bytes(range(0x20))
_REPAIRS: tuple[tuple[re.Pattern[bytes], bytes], ...] = (
    (re.compile(rb":\s*(?:N/A|-?nan(?:\([a-z]*\))?|-?inf(?:inity)?)(?=\s*[,}\]])", re.IGNORECASE), b": null"),
    (re.compile(rb",(\s*[}\]])"), rb"\1"),
    (re.compile(rb'\\(?![\\"/bfnrtu])'), rb"\\\\"),
)


def _repaired(text: bytes) -> bytes:
    """Text with the damage found in the field mended: UTF-8, N/A, NaN, trailing commas, backslashes, control bytes."""
    text = text.decode("utf-8", "replace").encode().translate(bytes.maketrans(_CONTROL, b" " * 32))
    for pattern, replacement in _REPAIRS:
        text = pattern.sub(replacement, text)
    return text.rstrip().removesuffix(b",")


_EVENT_START = re.compile(rb'(?:^|,|\[)\s*(?=\{\s*"(?:ph|name|cat|pid|ts)")')


def _split_events(text: bytes) -> Iterator[bytes]:
    """The text of each event of the inside of an array, guessed from where events begin."""
    starts = [found.end() for found in _EVENT_START.finditer(text)]
    for begin, end in itertools.pairwise([*starts, len(text)]):
        yield text[begin:end].rstrip().removesuffix(b",").rstrip()


def _lenient_event(text: bytes) -> _Event | None:
    """One event, without its arguments where only they are odd; None where it cannot be read.

    What follows the event in `text`, as the end of the file does behind the last one, is ignored.
    """
    words = text.decode("utf-8", "replace")
    try:
        fields, end = _raw_decode(words)
    except (ValueError, RecursionError):
        return None
    try:
        return _decode_event(words[:end])
    except BROKEN:
        fields.pop("args", None)
    try:
        return msgspec.convert(fields, _Event, strict=False)
    except BROKEN:
        return None


def _number(value: Any) -> int | None:
    """An integer from 7, "7" or "stream 7"."""
    if isinstance(value, int):
        return value
    if isinstance(value, str) and (found := re.fullmatch(r"(?:stream )?(-?\d{1,18})", value.strip())):
        return int(found[1])
    return None


def _has_time(event: _Event) -> bool:
    return event.ts is not None and abs(event.ts) < FURTHEST_US


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and abs(value) < 2**62


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _unsigned(value: int | None) -> int | None:
    return None if value is None else value & 0xFFFF_FFFF_FFFF_FFFF


# c10/core/DeviceType.h, the ones an allocator reports for.
_DEVICE_TYPES = {0: "cpu", 1: "cuda", 6: "hip", 9: "xla", 12: "xpu", 13: "mps", 19: "mtia", 20: "privateuse1"}


@cache
def _device_name(kind: int | None, index: int | None) -> str:
    name = _DEVICE_TYPES.get(kind or 0, f"device{kind}")
    return name if index is None or index < 0 else f"{name}:{index}"


def _scalars(values: dict[str, Any]) -> dict[str, str | int | float | None]:
    return {k: v for k, v in values.items() if isinstance(v, str | int | float | None)}


def _decoded(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except BROKEN:
        return None
