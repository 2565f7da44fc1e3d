"""Chrome-format JSON from the tables of a trace, column by column: what `chrome` and `torch_tb` share.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU ("Trace Event Format"),
with the categories and arguments of Kineto, the library behind torch.profiler.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.trace.assemble import STEPS_LANE
from profkit.trace.model import Trace
from profkit.trace.nesting import depth_and_parent, sorted_order

from .distinct import distinct
from .files import replacing
from .kinetowords import DEVICE_KINDS

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Measured on 32 MB of events: level 3 takes 0.11 s for 3.3 MB, level 6 0.23 s for 2.7 MB, level 1 0.09 s for 3.7 MB.
GZIP_LEVEL = 3
ROWS_PER_PIECE = 50_000
# Kineto counts from the last multiple of this (about three months), so that the ranks of a job share their zero and
# a double holds every nanosecond (libkineto, output_json.cpp).
BASE_NS = 7_889_238 * 1_000_000_000

_XPLANE_DEVICES = ("gpu:", "tpu:")
# c10/core/DeviceType.h
_DEVICE_TYPES = {"cpu": 0, "cuda": 1, "hip": 6, "xla": 9, "xpu": 12, "mps": 13, "mtia": 19, "privateuse1": 20}


@dataclass(frozen=True, slots=True)
class Address:
    """The (pid, tid) a track is written on, what the viewer calls it, and its device, None for the host's."""

    pid: int
    tid: int
    name: str
    device: str | None


def write(path: Path, header: dict[str, Any], pieces: Iterable[pl.Series]) -> None:
    """Write a document of `header` and the events of all `pieces` (one JSON object a row). Raises OSError."""
    with replacing(path) as file, gzip.GzipFile("", "wb", GZIP_LEVEL, file, mtime=0) as packed:
        packed.write(json.dumps(header).removesuffix("}").encode() + b', "traceEvents": [\n')
        separator = b""
        for piece in pieces:
            if len(piece):
                packed.write(separator + piece.str.join(",\n").item().encode())
                separator = b",\n"
        packed.write(b"\n]}\n")


def header(trace: Trace) -> dict[str, Any]:
    """What the document says outside its events. Viewers look for the rank by the text `"rank": 0`."""
    info = trace.info
    facts = {
        "window": info.window,
        "source": info.source,
        "first_step": info.first_step,
        "dropped": info.dropped,
        "repaired": info.repaired,
        "notes": info.notes,
    }
    return {
        "schemaVersion": 1,
        "displayTimeUnit": "ms",
        **info.native,
        **({"host_name": info.host} if info.host else {}),
        "deviceProperties": info.devices,
        "distributedInfo": {"backend": info.backend, "rank": info.rank, "world_size": info.world_size},
        "baseTimeNanoseconds": base_ns(trace),
        "profkit": {"profkit": info.profkit, **info.frameworks, **{k: v for k, v in facts.items() if v}},
    }


def base_ns(trace: Trace) -> int:
    """Unix nanoseconds the document counts from."""
    first = trace.spans["start_ns"].min() if trace.spans.height else trace.info.start_ns
    first_memory = trace.memory["time_ns"].min() if trace.memory.height else first
    earliest = min(int(first), int(first_memory))  # type: ignore[arg-type]
    return earliest // BASE_NS * BASE_NS


def addresses(trace: Trace, *, steps_must_nest: bool) -> list[Address]:
    """Where each track is written, by its number: pairs (pid, tid) that no other track has.

    Steps go back to the thread they were marked on; where they overlap its spans without nesting and
    `steps_must_nest`, they get a lane of their own. So do spans that were moved to one by the repair.
    """
    tracks = trace.tracks.select("id", "pid", "tid", "name", "kind", "device").rows(named=True)
    numbers = [track[key] for track in tracks for key in ("pid", "tid") if _is_number(track[key])]
    spare = count(1 + max(numbers, default=0))
    nameless = next(spare)  # the process of all threads of which the source knows none
    found: dict[int, Address] = {}
    for track in sorted(tracks, key=lambda track: track["kind"] == "steps"):
        home = _home(trace, track, found) if track["kind"] == "steps" else None
        if home is None:
            found[track["id"]] = _free_address(trace, track, found, nameless, spare)
        elif steps_must_nest and _overlap(trace, track["id"], home):
            found[track["id"]] = Address(found[home].pid, next(spare), STEPS_LANE + found[home].name, None)
        else:
            found[track["id"]] = found[home]
    return [found[track["id"]] for track in tracks]


def _is_number(number: int | None) -> bool:
    """Whether viewers can tell it from others: TensorFlow's threads have numbers of 64 bits, and JSON's are doubles."""
    return number is not None and 0 <= number < 2**31


def _free_address(
    trace: Trace, track: dict[str, Any], found: dict[int, Address], nameless: int, spare: Iterator[int]
) -> Address:
    pid = nameless if track["pid"] is None else track["pid"]
    tid = track["tid"]
    if not _is_number(tid) or any((at.pid, at.tid) == (pid, tid) for at in found.values()):
        tid = next(spare)
    is_training = track["id"] == trace.info.training_thread
    name = (track["name"] or "").removesuffix(" (training)" if is_training else "")
    return Address(pid, tid, name, track["device"])


def _home(trace: Trace, steps: dict[str, Any], found: dict[int, Address]) -> int | None:
    """The track of the thread that `steps` were marked on, else the training thread's."""
    is_same = pl.all_horizontal(pl.col(number).eq_missing(steps[number]) for number in ("pid", "tid"))
    same = trace.tracks.filter(is_same & pl.col("id").is_in(list(found)))
    return int(same["id"][0]) if same.height else trace.info.training_thread


def _overlap(trace: Trace, *tracks: int) -> bool:
    """Whether the spans of these tracks would overlap without nesting if they were on one."""
    rows = trace.spans.filter(pl.col("track").is_in(tracks)).select("start_ns", "duration_ns")
    start = rows["start_ns"].to_numpy()
    end = start + rows["duration_ns"].to_numpy()
    track = np.zeros(len(start), np.int64)
    order = sorted_order(track, start, end)
    end = end[order]
    _, parent = depth_and_parent(track, start[order], end)
    return bool((end > np.where(parent >= 0, end[parent], end)).any())


def metadata(found: list[Address]) -> pl.Series:
    """Names and order of processes and threads: hosts before devices, the steps' lane where there is one last."""
    events = []
    for pid in dict.fromkeys(at.pid for at in found):
        on_device = any(at.device is not None for at in found if at.pid == pid)
        label = f"GPU {pid}" if on_device else "CPU"
        events += [
            _metadata_event("process_name", pid, 0, name="device" if on_device else "python"),
            _metadata_event("process_labels", pid, 0, labels=label),
            _metadata_event("process_sort_index", pid, 0, sort_index=int(on_device)),
        ]
    for index, at in enumerate(dict.fromkeys(found)):
        events += [
            _metadata_event("thread_name", at.pid, at.tid, name=at.name, **_own_device(at)),
            _metadata_event("thread_sort_index", at.pid, at.tid, sort_index=index),
        ]
    return pl.Series(events, dtype=pl.String)


def _own_device(at: Address) -> dict[str, str]:
    """The track's device, where its name would not follow from the number of the process."""
    return {"profkit device": at.device} if at.device and at.device.startswith(_XPLANE_DEVICES) else {}


def _metadata_event(event: str, pid: int, tid: int, **args: str | int) -> str:
    return json.dumps({"ph": "M", "name": event, "pid": pid, "tid": tid, "ts": 0, "args": args})


def span_events(trace: Trace, spans: pl.DataFrame, found: list[Address]) -> Iterator[pl.Series]:
    """The spans as events, some rows at a time."""
    named = spans.with_columns(
        json_text(spans["name"]).alias("name"),
        json_text(spans["category"]).alias("category"),
        json_text(spans["stack"]).alias("stack"),
        json_text(spans["module"]).alias("module"),
        valid_json(spans["shapes"]).alias("shapes"),
        valid_json(spans["dtypes"]).alias("dtypes"),
        pl.col("args").cast(pl.String),
        stream(spans, found).alias("stream"),
        place(spans["track"], found).alias("place"),
        json_text(spans["own_category"]).alias("own_category"),
        json_text(spans["own_name"]).alias("own_name"),
        json_text(spans["source"]).alias("source"),
    )
    zero = base_ns(trace)
    for piece in named.iter_slices(ROWS_PER_PIECE):
        yield piece.select(_span_event(zero)).to_series()


def _span_event(zero: int) -> pl.Expr:
    column = pl.col
    args = pl.concat_str(
        _labelled("External id", pl.when(column("external") >= 0).then(column("external"))),
        _labelled("Ev Idx", column("id")),
        _labelled("correlation", column("correlation")),
        _labelled("bytes", column("bytes")),
        _labelled("Input Dims", column("shapes")),
        _labelled("Input type", column("dtypes")),
        _labelled("Call stack", column("stack")),
        _labelled("Module Hierarchy", column("module")),
        column("python"),
        column("stream"),
        _labelled("flops", column("flops")),
        _labelled("source", column("source")),
        _labelled("profkit category", column("own_category")),
        _labelled("profkit name", column("own_name")),
        pl.when(column("args") != "{}").then(
            pl.when(column("own_category").is_null())
            .then(column("args").str.slice(1).str.strip_suffix("}"))
            .otherwise(_labelled("profkit args", column("args")))
        ),
        separator=", ",
        ignore_nulls=True,
    )
    return pl.concat_str(
        pl.lit('{"ph": "X", "cat": '), column("category"),
        pl.lit(', "name": '), column("name"),
        column("place"),
        pl.lit(', "ts": '), microseconds(column("start_ns") - zero),
        pl.lit(', "dur": '), microseconds(column("duration_ns")),
        pl.lit(', "args": {'), args, pl.lit("}}"),
    )  # fmt: skip


def _labelled(key: str, value: pl.Expr) -> pl.Expr:
    """`"key": value`, or null where the value is."""
    return pl.format(f'"{key}": {{}}', value)


def microseconds(nanoseconds: pl.Expr) -> pl.Expr:
    """As the format counts: microseconds, with the three decimals that keep every nanosecond."""
    fraction = (nanoseconds % 1_000).cast(pl.String).str.zfill(3)
    return pl.format("{}.{}", nanoseconds // 1_000, fraction)


def json_text(words: pl.Series) -> pl.Series:
    """Each word as a JSON string; null stays null."""
    return _each_word(words, lambda word: msgspec.json.encode(word).decode())


def valid_json(words: pl.Series) -> pl.Series:
    """Each word as it is where it is JSON, else as a JSON string; null and empty become null."""
    return _each_word(words, _as_json)


def _as_json(word: str) -> str | None:
    try:
        msgspec.json.decode(word)
    except (msgspec.DecodeError, RecursionError):
        return msgspec.json.encode(word).decode() if word else None
    return word


def _each_word(words: pl.Series, written: Callable[[str], str | None]) -> pl.Series:
    """The column with each distinct word written once."""
    found = distinct(words)
    return found.spread(pl.Series([written(word) for word in found.words], dtype=pl.String))


def stream(spans: pl.DataFrame, found: list[Address]) -> pl.Series:
    """Device and stream of device work whose source does not name them: those of its track."""
    texts = [f'"device": {at.pid}, "stream": {at.tid}' if at.device is not None else None for at in found]
    of_track = pl.Series(texts, dtype=pl.String).gather(spans["track"])
    is_work = spans["kind"].cast(pl.String).is_in(DEVICE_KINDS)
    says_itself = spans["args"].is_not_null() & spans["own_category"].is_null()
    return pl.select(pl.when(is_work & ~says_itself).then(of_track)).to_series()


def place(track: pl.Series, found: list[Address]) -> pl.Series:
    """`, "pid": …, "tid": …` of each row's track."""
    texts = [f', "pid": {at.pid}, "tid": {at.tid}' for at in found]
    return pl.Series(texts, dtype=pl.String).gather(track)


def memory_events(trace: Trace, found: list[Address]) -> Iterator[pl.Series]:
    """Allocations and frees as the instants that torch writes."""
    memory = trace.memory.with_columns(
        _each_word(trace.memory["device"], _device_arguments).alias("device"),
        place(trace.memory["track"], found).alias("place"),
    )
    args = pl.concat_str(
        pl.col("device"),
        _labelled("Bytes", pl.col("bytes")),
        _labelled("Addr", pl.col("address")),
        _labelled("Total Allocated", pl.col("allocated_bytes")),
        _labelled("Total Reserved", pl.col("reserved_bytes")),
        separator=", ",
        ignore_nulls=True,
    )
    event = pl.concat_str(
        pl.lit('{"ph": "i", "cat": "cpu_instant_event", "s": "t", "name": "[memory]"'), pl.col("place"),
        pl.lit(', "ts": '), microseconds(pl.col("time_ns") - base_ns(trace)),
        pl.lit(', "args": {'), args, pl.lit("}}"),
    )  # fmt: skip
    for piece in memory.iter_slices(ROWS_PER_PIECE):
        yield piece.select(event).to_series()


def _device_arguments(device: str) -> str:
    """Device Type and Device Id of names such as `cpu`, `cuda:1`, `device7:0`."""
    kind, _, index = device.partition(":")
    number = _DEVICE_TYPES.get(kind, kind.removeprefix("device"))
    if number in _DEVICE_TYPES.values() or str(number).isdecimal():
        return f'"Device Type": {number}, "Device Id": {index or -1}'
    # A device or an allocator of XPlane: the nearest of torch's, and its own name for the way back.
    nearest = (1, index) if device.startswith(_XPLANE_DEVICES) else (0, -1)
    return f'"Device Type": {nearest[0]}, "Device Id": {nearest[1]}, "profkit device": {json.dumps(device)}'


def flow_events(trace: Trace, found: list[Address]) -> Iterator[pl.Series]:
    """Arrows from launching calls to device work, and from forward operators to their backward ones."""
    at = trace.spans.select("start_ns", place(trace.spans["track"], found).alias("place"))
    launch = trace.links.filter(pl.col("kind") == "launch")
    backward = trace.links.filter(pl.col("kind") == "backward")
    correlation = trace.spans["correlation"].gather(launch["from_id"])
    zero = base_ns(trace)
    for name, links, number in (
        ("ac2g", launch, correlation.fill_null(launch["to_id"].cast(pl.Int64))),
        ("fwdbwd", backward, pl.Series(range(1, backward.height + 1), dtype=pl.Int64)),
    ):
        yield _arrow_ends(name, "s", number, at[links["from_id"]], zero)
        yield _arrow_ends(name, "f", number, at[links["to_id"]], zero)


def _arrow_ends(name: str, phase: str, number: pl.Series, at: pl.DataFrame, zero: int) -> pl.Series:
    event = pl.concat_str(
        pl.lit(f'{{"ph": "{phase}", "cat": "{name}", "name": "{name}", "id": '), number.alias("number"),
        pl.col("place"),
        pl.lit(', "ts": '), microseconds(pl.col("start_ns") - zero),
        pl.lit(', "bp": "e"}' if phase == "f" else "}"),
    )  # fmt: skip
    return at.select(event).to_series()
