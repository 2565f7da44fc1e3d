"""The rows of a plane's events: steps, spans and memory, column by column."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from profkit.readers.xplane_entries import (
    HOST_LINE,
    INPUT_LINE,
    KEPT,
    KEPT_OF_DEVICES,
    MEMORY,
    STEPS_LINE,
    WAIT,
)
from profkit.readers.xplane_plane import Events
from profkit.readers.xplane_statistics import Pieces, as_json
from profkit.readers.xplane_wire import Ints
from profkit.trace.batch import NATIVE_MEMORY
from profkit.trace.schema import WORD

STEP = "user_annotation"
KERAS_STEP = "Profiled batch"

_COPY_SIZE = re.compile(r"\bsize:(\d+)")
_ALLOCATOR_OF_GPU = re.compile(r"GPU_(\d+)_")
_NO_ROWS: Ints = np.zeros(0, np.int64)


def host_steps(events: Events) -> tuple[Ints, Ints]:
    """Rows of the markers of steps, and the steps' numbers: roots with a number, or else Keras's own."""
    rows, number = events.statistics.numbers("step_num")
    is_marker = np.isin(rows, events.statistics.events("_r"))
    if not is_marker.any():
        is_marker = events.of_entries([entry.name == KERAS_STEP for entry in events.entries])[rows]
    return rows[is_marker], number[is_marker]


def device_steps(events: Events) -> tuple[Ints, Ints]:
    """The same on a device, whose line of steps names them by their numbers."""
    named = zip(events.entries, events.kinds, strict=True)
    numbers = [int(e.name) if kind == STEPS_LINE and e.name.isdecimal() else -1 for e, kind in named]
    number = np.array(numbers, np.int64)[events.code]
    rows = np.flatnonzero(number >= 0)
    return rows, number[rows]


def span_table(events: Events, track: int, steps: tuple[Ints, Ints]) -> pl.DataFrame:
    """A row for every event but those of memory. `track` is the number of the plane's first line."""
    rows, number = steps
    names = pl.Series([f"ProfilerStep#{n}" for n in number.tolist()], dtype=pl.String)
    columns = {
        "start_ns": events.start,
        "duration_ns": events.duration,
        "name": _column(events, "name", WORD, rows, names),
        "category": _column(events, "category", WORD, *_categories(events, rows)),
        "track": (events.line + track).astype(np.uint32),
        "correlation": _correlation(events),
        "bytes": _column(events, "bytes", pl.Int64, *_sizes(events)),
        "args": _args(events, rows),
    } | {
        name: _column(events, name, dtype, _NO_ROWS, pl.Series([], dtype=dtype))
        for name, dtype in (("flops", pl.Int64), ("module", WORD), ("source", WORD))
    }
    is_memory = events.where(MEMORY)
    table = pl.DataFrame(columns)
    return table.filter(~is_memory) if is_memory.any() else table


def memory_table(events: Events, track: int) -> pl.DataFrame:
    """Allocations and frees. What the allocator holds in reserve is not recorded."""
    rows = np.flatnonzero(events.where(MEMORY))
    if not len(rows):
        return pl.DataFrame(schema=NATIVE_MEMORY)
    address, size = events.numbers("addr")[0][rows], events.numbers("allocation_bytes")[0][rows]
    is_freed = events.of_entries([entry.name == "MemoryDeallocation" for entry in events.entries])[rows]
    allocated, is_known = (column[rows] for column in events.numbers("bytes_allocated"))
    columns = {
        "time_ns": events.start[rows],
        "track": (events.line[rows] + track).astype(np.uint32),
        "device": memory_devices(events).gather(rows),
        "address": address.view(np.uint64),
        "bytes": np.where(is_freed, -size, size),
        "allocated_bytes": pl.Series(allocated).set(pl.Series(~is_known), None),
        "reserved_bytes": pl.repeat(None, len(rows), dtype=pl.Int64, eager=True),
    }
    return pl.DataFrame(columns, schema=NATIVE_MEMORY)


def memory_devices(events: Events) -> pl.Series:
    """The device whose memory each row is about: the allocator's name tells it, or, on a TPU, its index."""
    code, words = np.zeros(len(events), np.int64), [""]
    index, has_index = events.numbers("index_on_host")
    for number in np.unique(index[has_index]).tolist():
        code[has_index & (index == number)] = len(words)
        words.append(f"tpu:{number}")
    for rows, allocator in events.statistics.texts("allocator_name"):
        code[rows] = len(words)
        words.append(device_of_allocator(allocator))
    return pl.Series(words, dtype=WORD).gather(code)


def device_of_allocator(name: str) -> str:
    """The device that an allocator serves: `GPU_0_bfc`, `mklcpu`."""
    found = _ALLOCATOR_OF_GPU.match(name)
    return f"gpu:{found[1]}" if found else "cpu" if "cpu" in name.lower() else name


def _column(events: Events, attribute: str, dtype: type[pl.DataType], rows: Ints, own: pl.Series) -> pl.Series:
    """Each row's value: its own, for these rows, or else its entry's. Of several own ones the last counts."""
    common = [getattr(entry, attribute) for entry in events.entries]
    return _gathered(events, pl.Series(common, dtype=dtype), rows, own.cast(dtype))


def _gathered(events: Events, common: pl.Series, rows: Ints, own: pl.Series) -> pl.Series:
    code = events.code.copy()
    code[rows] = np.arange(len(common), len(common) + len(own))
    return pl.concat([common, own]).gather(code)


def _categories(events: Events, steps: Ints) -> tuple[Ints, pl.Series]:
    """Rows whose category their statistics tell, and which it is: among what the host did, operators and input."""
    is_host = events.where("host")
    parts = [
        *((rows[is_host[rows]], word) for name, word in _TELLING for rows in (events.statistics.events(name),)),
        (steps, STEP),
    ]
    words = [pl.repeat(word, len(rows), dtype=pl.String, eager=True) for rows, word in parts]
    return np.concatenate([rows for rows, _ in parts]), pl.concat(words)


_TELLING = (("hlo_op", "xla_op"), ("_ipl_stage_id", WAIT))


def _correlation(events: Events) -> pl.Series:
    """What joins a launch to its work: `correlation_id` on GPUs, `run_id` on TPUs."""
    run, in_run = events.numbers("run_id")
    own, has_own = events.numbers("correlation_id")
    return pl.Series(np.where(has_own, own, run)).set(pl.Series(~(has_own | in_run)), None)


def _sizes(events: Events) -> tuple[Ints, pl.Series]:
    """Rows that moved bytes, and how many."""
    rows, sizes = events.statistics.numbers("size")
    parts = [(rows, sizes)]
    for copies, details in events.statistics.texts("memcpy_details"):
        if found := _COPY_SIZE.search(details):
            parts.append((copies, np.full(len(copies), int(found[1]))))
    return np.concatenate([rows for rows, _ in parts]), pl.Series(np.concatenate([sizes for _, sizes in parts]))


def _args(events: Events, steps: Ints) -> pl.Series:
    """Kept statistics in JSON: those of the entry, the row's own, and the name that a step's number has replaced."""
    on_device = not {HOST_LINE, INPUT_LINE} & set(events.kinds)
    own = events.statistics.pieces(
        KEPT | KEPT_OF_DEVICES if on_device else KEPT,
        ~events.where(MEMORY),
        events.of_entries([entry.keeps_all for entry in events.entries]),
    )
    markers = [as_json(events.entries[code].name) for code in events.code[steps].tolist()]
    pieces = own.followed_by(
        [*_entries_pieces(events, own), (steps, "marker", pl.Series(markers, dtype=pl.String))],
    )
    common = pl.Series([as_json(entry.stats) if entry.stats else None for entry in events.entries], dtype=WORD)
    rows, objects = pieces.objects()
    return _gathered(events, common, rows, objects.cast(WORD))


def _entries_pieces(events: Events, own: Pieces) -> list[tuple[Ints, str, pl.Series]]:
    """For rows that have pieces of their own, those of their entries besides; a row's own count for more."""
    parts: list[tuple[Ints, str, pl.Series]] = []
    for code, entry in enumerate(events.entries):
        rows = np.unique(own.event[events.code[own.event] == code]) if entry.stats else _NO_ROWS
        for name, value in entry.stats.items():
            others = np.setdiff1d(rows, own.of(name))
            parts.append((others, name, pl.repeat(as_json(value), len(others), dtype=pl.String, eager=True)))
    return parts
