"""Events of the Chrome format as Kineto writes them: decoding, and mending what is no valid JSON.

An event's arguments stay raw at first and are decoded a second time, those of many events together, as what their
category needs, so that no event carries forty empty fields; values are never looked at.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import msgspec

BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)

NONE = msgspec.Raw(b"")
_Args = TypeVar("_Args", bound=msgspec.Struct)


class Event(msgspec.Struct, gc=False):
    ph: str = ""
    cat: str | None = None
    name: str = ""
    pid: Any = None
    tid: Any = None
    ts: float | None = None
    dur: float | None = None
    id: Any = None
    args: msgspec.Raw = NONE


class OperatorArgs(msgspec.Struct, gc=False):
    """Of an operator or a range: never its concrete inputs."""

    shapes: msgspec.Raw = msgspec.field(default=NONE, name="Input Dims")
    dtypes: msgspec.Raw = msgspec.field(default=NONE, name="Input type")
    call_stack: str | None = msgspec.field(default=None, name="Call stack")
    module: str | None = msgspec.field(default=None, name="Module Hierarchy")
    collective: msgspec.Raw = msgspec.field(default=NONE, name="Collective name")
    kernel_backend: msgspec.Raw = NONE


class LaunchArgs(msgspec.Struct, gc=False):
    """Of a call into the device's runtime."""

    correlation: int | None = None


class MemoryArgs(msgspec.Struct, gc=False):
    """Of an allocation or a free."""

    bytes: int | None = msgspec.field(default=None, name="Bytes")
    address: int | None = msgspec.field(default=None, name="Addr")
    device_type: int | None = msgspec.field(default=None, name="Device Type")
    device_id: int | None = msgspec.field(default=None, name="Device Id")
    allocated: int | None = msgspec.field(default=None, name="Total Allocated")
    reserved: int | None = msgspec.field(default=None, name="Total Reserved")
    device: str | None = msgspec.field(default=None, name="profkit device")


class NameArgs(msgspec.Struct, gc=False):
    """Of the event that names a thread or a process."""

    name: Any = None
    device: str | None = msgspec.field(default=None, name="profkit device")


class ReturnedArgs(msgspec.Struct, gc=False):
    """Of a span that came from another format and was written by profkit: the words of its source."""

    category: str | None = msgspec.field(default=None, name="profkit category")
    own_name: str | None = msgspec.field(default=None, name="profkit name")
    own_args: msgspec.Raw = msgspec.field(default=NONE, name="profkit args")
    correlation: int | None = None
    bytes: int | None = None
    flops: int | None = None
    shapes: msgspec.Raw = msgspec.field(default=NONE, name="Input Dims")
    dtypes: msgspec.Raw = msgspec.field(default=NONE, name="Input type")
    call_stack: str | None = msgspec.field(default=None, name="Call stack")
    module: str | None = msgspec.field(default=None, name="Module Hierarchy")
    source: str | None = None


class Details(msgspec.Struct, gc=False, omit_defaults=True):
    """Of device work and collectives. What peers use of it passes through as it is, not looked at."""

    correlation: int | None = None
    bytes: Any = None  # AMD's runtime writes some as text
    device: msgspec.Raw = NONE
    stream: msgspec.Raw = NONE
    context: msgspec.Raw = NONE
    queued: msgspec.Raw = NONE
    grid: msgspec.Raw = NONE
    block: msgspec.Raw = NONE
    registers: msgspec.Raw = msgspec.field(default=NONE, name="registers per thread")
    shared_memory: msgspec.Raw = msgspec.field(default=NONE, name="shared memory")
    blocks_per_sm: msgspec.Raw = msgspec.field(default=NONE, name="blocks per SM")
    warps_per_sm: msgspec.Raw = msgspec.field(default=NONE, name="warps per SM")
    occupancy: msgspec.Raw = msgspec.field(default=NONE, name="est. achieved occupancy %")
    bandwidth: msgspec.Raw = msgspec.field(default=NONE, name="memory bandwidth (GB/s)")
    sync_kind: msgspec.Raw = msgspec.field(default=NONE, name="cuda_sync_kind")
    wait_on_stream: msgspec.Raw = NONE
    wait_on_record: msgspec.Raw = msgspec.field(default=NONE, name="wait_on_cuda_event_record_corr_id")
    wait_on_event: msgspec.Raw = msgspec.field(default=NONE, name="wait_on_cuda_event_id")
    kernel_backend: msgspec.Raw = NONE
    kernel_file: msgspec.Raw = NONE
    kernel_hash: msgspec.Raw = NONE
    collective: msgspec.Raw = msgspec.field(default=NONE, name="Collective name")
    dtype: msgspec.Raw = NONE
    in_elements: msgspec.Raw = msgspec.field(default=NONE, name="In msg nelems")
    out_elements: msgspec.Raw = msgspec.field(default=NONE, name="Out msg nelems")
    group_size: msgspec.Raw = msgspec.field(default=NONE, name="Group size")
    group_name: msgspec.Raw = msgspec.field(default=NONE, name="Process Group Name")
    group_description: msgspec.Raw = msgspec.field(default=NONE, name="Process Group Description")
    group_ranks: msgspec.Raw = msgspec.field(default=NONE, name="Process Group Ranks")
    in_split: msgspec.Raw = msgspec.field(default=NONE, name="In split size")
    out_split: msgspec.Raw = msgspec.field(default=NONE, name="Out split size")
    rank_start: msgspec.Raw = msgspec.field(default=NONE, name="Global rank start")
    rank_stride: msgspec.Raw = msgspec.field(default=NONE, name="Global rank stride")
    source_rank: msgspec.Raw = msgspec.field(default=NONE, name="Src Rank")
    destination_rank: msgspec.Raw = msgspec.field(default=NONE, name="Dst Rank")
    sequence: msgspec.Raw = msgspec.field(default=NONE, name="Seq")
    communicator: msgspec.Raw = msgspec.field(default=NONE, name="Comms Id")


decode_events = msgspec.json.Decoder(list[Event]).decode
_decode_event = msgspec.json.Decoder(Event, strict=False).decode
decode_document = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_decode = json.JSONDecoder().raw_decode
_list_decoders: dict[type[msgspec.Struct], Callable[[bytes], Any]] = {
    kind: msgspec.json.Decoder(list[kind]).decode  # type: ignore[valid-type]
    for kind in (OperatorArgs, LaunchArgs, MemoryArgs, NameArgs, ReturnedArgs, Details)
}


def arguments(events: Sequence[Event], kind: type[_Args]) -> list[_Args]:
    """The arguments of events as `kind`, decoded together; those that do not fit are empty."""
    texts = [e.args if e.args is not NONE else b"{}" for e in events]
    try:
        decoded: list[_Args] = _list_decoders[kind](b"[" + b",".join(texts) + b"]")
    except BROKEN:
        return [one_argument(text, kind) for text in texts]
    return decoded


def one_argument(text: msgspec.Raw | bytes, kind: type[_Args]) -> _Args:
    try:
        return msgspec.json.decode(text, type=kind)
    except BROKEN:
        return kind()


def salvage_events(text: bytes) -> tuple[list[Event], int]:
    """The events of damaged text, one by one, and how many could not be read."""
    found = [_lenient_event(chunk) for chunk in _split_events(text)]
    events = [event for event in found if event is not None]
    return events, len(found) - len(events)


_CONTROL = bytes(range(0x20))
_REPAIRS: tuple[tuple[re.Pattern[bytes], bytes], ...] = (
    (re.compile(rb":\s*(?:N/A|-?nan(?:\([a-z]*\))?|-?inf(?:inity)?)(?=\s*[,}\]])", re.IGNORECASE), b": null"),
    (re.compile(rb",(\s*[}\]])"), rb"\1"),
    (re.compile(rb'\\(?![\\"/bfnrtu])'), rb"\\\\"),
)


def repaired(text: bytes) -> bytes:
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


def _lenient_event(text: bytes) -> Event | None:
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
        return msgspec.convert(fields, Event, strict=False)
    except BROKEN:
        return None
