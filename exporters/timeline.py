"""A window's spans as the page's columnar binary: docs/format.md, "The timeline".

Times become distances: from the end of the span before in the same row, and durations. Both fit into 32 bits but for
pauses of more than 4 seconds, are small numbers, and so compress to a third of absolute times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl
from isal import igzip

from profkit.analysis.columns import Columns
from profkit.analysis.memory import allocated_bytes, extremes
from profkit.trace.model import Trace

Ints = npt.NDArray[np.int64]
Array = npt.NDArray[Any]

MAGIC = b"PKTL\x01\0\0\0"
ALIGNMENT = 8
VERSION = 1
# isal's level 2, measured on a million spans: 0.04 s for 5.6 MB; zlib's level 4 takes 0.42 s for 5.1 MB.
ISAL_LEVEL = 2
MEMORY_POINTS = 4_000  # of each device

LABEL = ("name", "kind", "phase", "op_class")
DETAIL = ("shapes", "dtypes", "module", "source", "flops", "bytes", "category")
TRACK = ("name", "kind", "pid", "tid", "host", "rank", "device")


def encoded(trace: Trace, counters: pl.DataFrame | None = None) -> bytes:
    """The binary of `trace`, with those of the run's `counters` that were read meanwhile."""
    columns = Columns(trace)
    order = np.lexsort((columns.start, trace.spans["depth"].to_numpy(), columns.track))
    labels, label = _labels(trace, columns, order)
    details, detail = _details(trace, order)
    numbers, first_step = _steps(trace, order)
    curves, memory = _memory(trace)
    arrays = {
        **_times(trace, columns, order),
        "label": _narrow(label),
        "detail": _narrow(detail),
        "step": _narrow(numbers),
        **_links(trace, order),
        **memory,
    }
    header = {
        "version": VERSION,
        "start_ns": str(trace.info.start_ns),
        "length_ns": trace.info.end_ns - trace.info.start_ns,
        "spans": len(order),
        "links": trace.links.height,
        **labels,
        "details": details,
        "first_step": first_step,
        "steps": _step_ranges(trace, columns),
        **_tracks(trace, columns, order),
        "link_kinds": _link_kinds(trace),
        "memory": curves,
        "counters": _counters(trace, counters),
        "arrays": [{"name": name, "type": _type(array), "length": len(array)} for name, array in arrays.items()],
    }
    return b"".join(_pieces(header, arrays))


def packed(trace: Trace, counters: pl.DataFrame | None = None) -> bytes:
    """The binary as it is stored: gzip, the same bytes for the same trace."""
    return igzip.compress(encoded(trace, counters), ISAL_LEVEL, mtime=0)


def _pieces(header: dict[str, Any], arrays: dict[str, Array]) -> Iterator[bytes]:
    text = msgspec.json.encode(header)
    text += b" " * (-(len(MAGIC) + 4 + len(text)) % ALIGNMENT)
    yield MAGIC
    yield len(text).to_bytes(4, "little")
    yield text
    for array in arrays.values():
        content = array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()
        yield content
        yield bytes(-len(content) % ALIGNMENT)


def _type(array: Array) -> str:
    return {"u": "u", "f": "f"}[array.dtype.kind] + str(8 * array.dtype.itemsize)


def _narrow(values: Ints) -> Array:
    """The same numbers, none of them negative, in 16 bits where they fit, else in 32."""
    return values.astype(np.uint16 if values.max(initial=0) < 1 << 16 else np.uint32)


def _times(trace: Trace, columns: Columns, order: Ints) -> dict[str, Array]:
    """Distances within each row, and durations."""
    start, end = columns.start[order] - trace.info.start_ns, columns.end[order] - trace.info.start_ns
    before = np.concatenate(([0], end[:-1]))
    before[_row_starts(trace, columns, order)] = 0
    gap, gap_at, gap_ns = _short(start - before)
    duration, duration_at, duration_ns = _short(end - start)
    return {
        "gap": gap,
        "duration": duration,
        "gap_at": gap_at,
        "gap_ns": gap_ns,
        "duration_at": duration_at,
        "duration_ns": duration_ns,
    }


def _short(values: Ints) -> tuple[Array, Array, Array]:
    """The values as u32, and places and values of those that do not fit."""
    is_long = (values < 0) | (values >= 1 << 32)
    at = np.flatnonzero(is_long)
    return np.where(is_long, 0, values).astype(np.uint32), at.astype(np.uint32), values[at].astype(np.float64)


def _row_starts(trace: Trace, columns: Columns, order: Ints) -> Ints:
    """Places of the first spans of all rows."""
    track, depth = columns.track[order], trace.spans["depth"].to_numpy().astype(np.int64)[order]
    return np.flatnonzero(
        np.concatenate((np.ones(min(len(order), 1), np.bool_), (np.diff(track) | np.diff(depth)) != 0))
    )


def _labels(trace: Trace, columns: Columns, order: Ints) -> tuple[dict[str, Any], Ints]:
    """The distinct labels, with the words they are made of, and which one each span has."""
    rows = trace.spans.select(LABEL).with_columns(pl.Series("internal", columns.internals))
    distinct, label = _distinct(rows)
    places: dict[str | None, int] = {None: -1}
    columns_of_words = {name: distinct[name].cast(pl.String).to_list() for name in LABEL}
    named = {
        name: [places.setdefault(word, len(places) - 1) for word in words] for name, words in columns_of_words.items()
    }
    internal = distinct["internal"].cast(pl.Int8).to_list()
    return {"labels": {**named, "internal": internal}, "words": [*places][1:]}, label[order]


def _details(trace: Trace, order: Ints) -> tuple[list[dict[str, Any]], Ints]:
    """The distinct details, the empty one first, and which one each span has."""
    known = [name for name in DETAIL if trace.spans[name].null_count() < trace.spans.height]
    if not known:
        return [{}], np.zeros(len(order), np.int64)
    rows = trace.spans.select(known)
    nothing = pl.DataFrame({name: [None] for name in known}, schema=rows.schema)
    distinct, detail = _distinct(pl.concat([nothing, rows]))
    texts = distinct.with_columns(pl.col(pl.Categorical).cast(pl.String))
    found = [{name: value for name, value in row.items() if value is not None} for row in texts.iter_rows(named=True)]
    return found, detail[1:][order]


def _distinct(rows: pl.DataFrame) -> tuple[pl.DataFrame, Ints]:
    """The distinct rows in order of appearance, and the place of each row among them."""
    distinct = rows.unique(maintain_order=True)
    numbered = distinct.with_row_index("place")
    place = rows.join(numbered, on=rows.columns, how="left", nulls_equal=True, maintain_order="left")["place"]
    return distinct, place.to_numpy().astype(np.int64)


def _steps(trace: Trace, order: Ints) -> tuple[Ints, int | None]:
    """Each span's step, counted from 1, 0 for none; and the number of the first."""
    step = trace.spans["step"].cast(pl.Int64)
    first: int | None = step.min()  # type: ignore[assignment]
    return (step - (first or 0) + 1).fill_null(0).to_numpy()[order], first


def _step_ranges(trace: Trace, columns: Columns) -> list[tuple[int | None, int, int]]:
    rows = np.flatnonzero(columns.kind("step") & ~columns.on_device_track)
    number = trace.spans["step"].gather(rows).to_list()
    start, duration = columns.start[rows] - trace.info.start_ns, columns.duration[rows]
    return list(zip(number, start.tolist(), duration.tolist(), strict=True))


def _tracks(trace: Trace, columns: Columns, order: Ints) -> dict[str, Any]:
    """The tracks, and the rows in them."""
    place = {int(number): index for index, number in enumerate(trace.tracks["id"])}
    starts = _row_starts(trace, columns, order)
    counts = np.diff(np.append(starts, len(order)))
    first = order[starts]
    depth = trace.spans["depth"].to_numpy()[first]
    rows = zip(columns.track[first].tolist(), depth.tolist(), starts.tolist(), counts.tolist(), strict=True)
    tracks = trace.tracks.select(TRACK).with_columns(pl.col(pl.Categorical).cast(pl.String))
    home = trace.info.training_thread
    return {
        "tracks": tracks.to_dicts(),
        "rows": [(place[track], *rest) for track, *rest in rows],
        "training_track": None if home is None else place.get(home),
    }


def _links(trace: Trace, order: Ints) -> dict[str, Array]:
    place = np.empty(len(order), np.uint32)
    place[order] = np.arange(len(order), dtype=np.uint32)
    kinds = {kind: code for code, kind in enumerate(_link_kinds(trace))}
    kind = trace.links["kind"].cast(pl.String).replace_strict(kinds, return_dtype=pl.UInt8) if kinds else None
    return {
        "link_from": place[trace.links["from_id"].to_numpy()],
        "link_to": place[trace.links["to_id"].to_numpy()],
        "link_kind": np.zeros(0, np.uint8) if kind is None else kind.to_numpy(),
    }


def _link_kinds(trace: Trace) -> list[str]:
    return sorted(trace.links["kind"].cast(pl.String).unique().to_list())


def _memory(trace: Trace) -> tuple[list[tuple[str, int, int]], dict[str, Array]]:
    """Devices with their places in the arrays, and the arrays, thinned so that neither a peak nor a low is lost."""
    devices = trace.memory.group_by("device", maintain_order=True)
    parts = {str(device): _points(trace, events) for (device,), events in devices}
    lengths = [len(part) for part in parts.values()]
    firsts = np.cumsum([0, *lengths]).tolist()
    points = np.concatenate(list(parts.values())) if parts else np.zeros((0, 3))
    names = ("memory_time", "memory_allocated", "memory_reserved")
    arrays: dict[str, Array] = {name: np.ascontiguousarray(points[:, column]) for column, name in enumerate(names)}
    return list(zip(parts, firsts, lengths, strict=False)), arrays


def _points(trace: Trace, events: pl.DataFrame) -> npt.NDArray[np.float64]:
    """Time, allocated and reserved bytes."""
    allocated = allocated_bytes(events)
    rows = extremes(allocated, MEMORY_POINTS)
    reserved = events["reserved_bytes"].gather(rows).cast(pl.Float64).fill_null(np.nan).to_numpy()
    time = events["time_ns"].gather(rows).to_numpy() - trace.info.start_ns
    return np.stack([time, allocated[rows], reserved], axis=1).astype(np.float64)


def _counters(trace: Trace, counters: pl.DataFrame | None) -> list[dict[str, Any]]:
    """The counters' values inside the window."""
    if counters is None:
        return []
    inside = counters.filter(pl.col("time_ns").is_between(trace.info.start_ns, trace.info.end_ns))
    return [
        {
            "name": str(name),
            "unit": str(unit),
            "time_ns": (values["time_ns"] - trace.info.start_ns).to_list(),
            "value": values["value"].to_list(),
        }
        for (name, unit), values in inside.group_by("name", "unit", maintain_order=True)
    ]
