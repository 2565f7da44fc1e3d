"""From a reader's batches to a Trace: sources merged, spans nested, steps, phases and links found.

The order of the work is the order of this file: `assemble` reads as its table of contents.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.errors import UnreadableTrace
from profkit.trace import spanclasses, vocabulary
from profkit.trace.batch import (
    NATIVE_FLOWS,
    NATIVE_MEMORY,
    NATIVE_SPANS,
    Batch,
    NativeHeader,
    NativeTrack,
    ReadContext,
)
from profkit.trace.collectives import with_messages
from profkit.trace.model import Trace, TraceInfo
from profkit.trace.nesting import Nested, nest
from profkit.trace.schema import LINKS, MEMORY, SPANS, TRACKS, WORD
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

STEPS_TRACK = "steps"
STEPS_LANE = "steps of "  # what our own Chrome export calls the lane of steps that overlap their thread's spans


def assemble(batches: Iterable[Batch], context: ReadContext, source: str, profkit: str) -> Trace:
    """Build the trace of one native file. Raises UnreadableTrace where the batches hold no event at all."""
    merged = _Merged(batches, source)
    spans = merged.spans
    spans = spans.with_columns(_kinds(spans))
    kinds = Words(spans["kind"])
    track, tracks, steps_home = _tracks_with_steps(spans, kinds, merged.tracks)
    start = spans["start_ns"].to_numpy() + merged.header.zero_ns
    nested = nest(track, start, start + spans["duration_ns"].to_numpy(), yields=kinds.among("python", "module"))
    rows = _Rows(spans, kinds, nested, tracks)
    launches = _launches(rows)
    collective = rows.kinds("collective")
    rows.spans = with_messages(rows.spans, collective, rows.parent, launches, merged.header.groups)
    steps = _Steps(rows)
    step = _step_of(rows, steps, launches)
    backward = _backward_links(rows, merged.flows, merged.header.zero_ns)
    on_host = steps_home is not None and not rows.device_track[steps_home]
    training_thread = steps_home if on_host else _training_thread(rows)
    links = _links(launches, backward)
    scopes = spanclasses.Scopes(rows.spans)
    phases = _phases(rows, backward, scopes)
    table = _span_table(rows, nested, step, phases, _classes(rows, scopes, dict(phases)["optimizer"], launches))
    info = TraceInfo(
        profkit=profkit,
        source=source,
        frameworks=merged.header.frameworks,
        host=merged.header.host or context.host,
        rank=merged.header.rank if context.rank is None and merged.header.rank is not None else context.rank or 0,
        world_size=merged.header.world_size or 1,
        backend=merged.header.backend,
        devices=merged.header.devices,
        window=context.window,
        first_step=int(steps.number[0]) if len(steps.number) else None,
        training_thread=training_thread,
        device_recorded=bool(rows.on_device.any()),
        start_ns=int(nested.start.min()) if len(start) else 0,
        end_ns=int(nested.end.max()) if len(start) else 0,
        counts=merged.counts | {"spans": table.height, "steps": len(steps.number)},
        dropped=merged.dropped,
        repaired={
            name: count
            for name, count in (("clipped spans", nested.clipped), ("spans moved to a lane", nested.moved))
            if count
        },
        notes=list(merged.notes),
        native=merged.header.flags,
    )
    return Trace(
        info=info,
        spans=table,
        tracks=_track_table(tracks, rows, nested, training_thread, info),
        links=links,
        memory=_memory_table(merged.memory, merged.header.zero_ns, rows, nested, step, steps),
    )


class _Merged:
    """All batches of a file in one table of each sort."""

    def __init__(self, batches: Iterable[Batch], source: str) -> None:
        parts = list(batches)
        if not parts or parts[-1].header is None:
            raise UnreadableTrace(f"the {source} reader ended before the end of the file")
        self.header: NativeHeader = parts[-1].header
        self.tracks: tuple[NativeTrack, ...] = parts[-1].tracks
        self.notes = parts[-1].notes
        self.counts = _added([part.counts for part in parts])
        self.dropped = _added([part.dropped for part in parts])
        self.spans = _concat([part.spans for part in parts], NATIVE_SPANS)
        self.memory = _concat([part.memory for part in parts], NATIVE_MEMORY)
        self.flows = _concat([part.flows for part in parts], NATIVE_FLOWS)


def _added(parts: Sequence[dict[str, int]]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for part in parts:
        total.update(part)
    return dict(total)


def _concat(frames: Sequence[pl.DataFrame], columns: dict[str, Any]) -> pl.DataFrame:
    """One table; columns that no frame has become nulls."""
    table = pl.concat([*(frame for frame in frames if frame.width)] or [pl.DataFrame(schema=columns)], how="diagonal")
    return table.select(
        [pl.col(n) if n in table.columns else pl.lit(None, dtype=d).alias(n) for n, d in columns.items()]
    )


def _kinds(spans: pl.DataFrame) -> list[pl.Series]:
    """Kind and class of every span, and whether it is a device's work; each (name, category) is looked at once."""
    name, category = (spans[word].to_physical().cast(pl.Int64).fill_null(-1).to_numpy() + 1 for word in _PAIR)
    _, first, place = np.unique((name << 32) + category, return_index=True, return_inverse=True)
    pairs = spans.select(_PAIR)[first].rows()
    kinds = [vocabulary.kind(category, name) for name, category in pairs]
    classes = [vocabulary.class_of(kind, category, name) for kind, (name, category) in zip(kinds, pairs, strict=True)]
    return [
        pl.Series("kind", kinds, dtype=WORD).gather(place),
        pl.Series("op_class", np.array(spanclasses.numbers(classes), np.int64)[place]),
        pl.Series("on_device", np.array([vocabulary.is_device_work(c) for _, c in pairs], np.bool_)[place]),
    ]


_PAIR = ["name", "category"]


def _tracks_with_steps(
    spans: pl.DataFrame, kinds: Words, tracks: tuple[NativeTrack, ...]
) -> tuple[Ints, list[NativeTrack], int | None]:
    """Track numbers with the steps moved to a track of their own, the last one; and the track they came from.

    The range of a step would overlap what begins in one step and ends in the next.
    """
    track = spans["track"].to_numpy().astype(np.int64)
    is_step = kinds.among("step")
    if not is_step.any():
        return track, list(tracks), None
    home = _home_of_steps(tracks, int(track[is_step][0]))
    track = np.where(is_step, len(tracks), track)
    return track, [*tracks, NativeTrack(tracks[home].pid, tracks[home].tid, STEPS_TRACK)], home


def _home_of_steps(tracks: tuple[NativeTrack, ...], found: int) -> int:
    """The thread the steps were marked on: where they are found, or the one that the lane there is named after."""
    lane = tracks[found]
    if not lane.name.startswith(STEPS_LANE):
        return found
    thread = (lane.pid, lane.name.removeprefix(STEPS_LANE))
    return next((number for number, t in enumerate(tracks) if (t.pid, t.name) == thread), found)


class _Rows:
    """The spans in nested order, with the masks every later question asks for."""

    def __init__(self, spans: pl.DataFrame, kinds: Words, nested: Nested, tracks: Sequence[NativeTrack]) -> None:
        order = nested.order
        self.spans = spans[order]
        self.track, self.start, self.end, self.parent = nested.track, nested.start, nested.end, nested.parent
        self.subtree_end = nested.subtree_end
        self._kinds, self._order = kinds, order
        self.is_step = self.kinds("step")
        self.is_wait = self.kinds("data_wait")
        self.is_runtime = self.kinds("runtime")
        self.on_device = self.spans["on_device"].to_numpy()
        self.device_track = _device_tracks(tracks, nested)
        self.device_track[nested.track[self.on_device]] = True
        self.correlation = self.spans["correlation"].fill_null(-1).to_numpy()

    def kinds(self, *words: str) -> Bools:
        """Rows of these kinds."""
        return self._kinds.among(*words)[self._order]

    def inside(self, mask: Bools) -> Bools:
        """Rows with an ancestor in `mask`, or in it themselves."""
        count = len(mask)
        marks = np.zeros(count + 1, np.int64)
        rows = np.flatnonzero(mask)
        np.add.at(marks, rows, 1)
        np.add.at(marks, self.subtree_end[rows], -1)
        return np.cumsum(marks[:count]) > 0


def _device_tracks(tracks: Sequence[NativeTrack], nested: Nested) -> Bools:
    """Tracks that their file calls a device's, and the lanes split off them; steps are marked by the host."""
    named = [bool(track.device) and track.name != STEPS_TRACK for track in tracks]
    for lane in sorted(nested.lanes):  # a lane may come from another lane
        named.append(named[nested.lanes[lane]])
    return np.array(named, np.bool_)


def _launches(rows: _Rows) -> tuple[Ints, Ints]:
    """Rows of the host's launching calls and of the device work they launched, pair by pair, by correlation."""
    launching = np.flatnonzero((rows.is_runtime) & (rows.correlation >= 0))
    launched = np.flatnonzero(rows.on_device & (rows.correlation >= 0))
    return _match(rows.correlation[launching], launching, rows.correlation[launched], launched)


def _match(keys: Ints, rows: Ints, other_keys: Ints, other_rows: Ints) -> tuple[Ints, Ints]:
    """Pairs (row, other row) with equal keys; of several rows with one key, the first."""
    distinct, first = np.unique(keys, return_index=True)
    if not len(distinct):
        return rows[:0], other_rows[:0]
    at = np.minimum(np.searchsorted(distinct, other_keys), len(distinct) - 1)
    found = distinct[at] == other_keys
    return rows[first[at[found]]], other_rows[found]


class _Steps:
    """Rows of the steps in order of time."""

    def __init__(self, rows: _Rows) -> None:
        at = np.flatnonzero(rows.is_step)
        self.row = at[np.argsort(rows.start[at], kind="stable")]
        self.start, self.end = rows.start[self.row], rows.end[self.row]
        names = rows.spans["name"][self.row].to_list() if len(at) else []
        numbers = [vocabulary.step_number(name) for name in names]
        self.number = np.array([i if n is None else n for i, n in enumerate(numbers)], np.int64)

    def at(self, time: Ints) -> Ints:
        """Index of the step that holds each time, −1 where none does."""
        if not len(self.start):
            return np.full(len(time), -1, np.int64)
        index = np.searchsorted(self.start, time, side="right") - 1
        return np.where((index >= 0) & (time < self.end[np.maximum(index, 0)]), index, -1)


def _step_of(rows: _Rows, steps: _Steps, launches: tuple[Ints, Ints]) -> Ints:
    """Number of the step each span belongs to, −1 for none: by launch for device work, by its start otherwise."""
    index = steps.at(rows.start)
    launching, launched = launches
    index[launched] = index[launching]
    return np.where(index >= 0, steps.number[np.maximum(index, 0)] if len(steps.number) else -1, -1)


def _backward_links(rows: _Rows, flows: pl.DataFrame, zero_ns: int) -> tuple[Ints, Ints]:
    """Rows of forward operators and of their backward ones, pair by pair."""
    if not flows.height:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    ends = []
    for begins in (True, False):
        part = flows.filter(pl.col("begins") == begins).unique("id", keep="first", maintain_order=True)
        row = _row_starting_at(rows, part["track"].to_numpy().astype(np.int64), part["time_ns"].to_numpy() + zero_ns)
        found = row >= 0
        ends.append((part["id"].to_numpy()[found], row[found]))
    (begin_id, begin_row), (end_id, end_row) = ends
    return _match(begin_id, begin_row, end_id, end_row)


def _row_starting_at(rows: _Rows, track: Ints, time: Ints) -> Ints:
    """Row of the outermost operator that begins at each (track, time), −1 where none does."""
    operators = np.flatnonzero(rows.kinds("op"))
    if not len(operators) or not len(time):
        return np.full(len(time), -1, np.int64)
    base = min(int(rows.start.min()), int(time.min()))
    width = np.int64(max(int(rows.end.max()), int(time.max())) - base + 2)
    keys = rows.track[operators] * width + rows.start[operators] - base
    wanted = track * width + time - base
    at = np.minimum(np.searchsorted(keys, wanted, side="left"), len(keys) - 1)
    return np.where(keys[at] == wanted, operators[at], -1)


def _training_thread(rows: _Rows) -> int | None:
    """Where no step says which thread the training loop ran on: that of its waits, else the busiest of the host."""
    for mask in (rows.is_wait, rows.kinds("op", "annotation", "python", "runtime")):
        outermost = mask & ~rows.device_track[rows.track] & (rows.parent < 0)
        if outermost.any():
            duration = (rows.end - rows.start)[outermost].astype(np.float64)
            return int(np.bincount(rows.track[outermost], weights=duration).argmax())
    return None


def _phases(rows: _Rows, backward: tuple[Ints, Ints], scopes: spanclasses.Scopes) -> list[tuple[str, Bools]]:
    """Which rows are proven to belong to a phase, later ones winning over earlier ones."""
    forward_row, backward_row = backward
    forward = np.zeros(len(rows.start), np.bool_)
    forward[forward_row] = True
    names, named = Words(rows.spans["name"]), rows.kinds("op", "annotation")
    in_backward = names.beginning("autograd::engine::evaluate_function: ") & named
    in_backward[backward_row] = True
    return [
        ("forward", rows.inside(forward)),
        ("backward", rows.inside(in_backward) | scopes.backward),
        ("optimizer", rows.inside(names.beginning("Optimizer.") & named) | scopes.optimizer),
        ("data", rows.inside(rows.is_wait)),
    ]


def _classes(rows: _Rows, scopes: spanclasses.Scopes, in_optimizer: Bools, launches: tuple[Ints, Ints]) -> pl.Series:
    """The operator class of each row, by its name and by where it ran."""
    classes = spanclasses.in_scope(rows.spans["op_class"].to_numpy(), scopes.op_class)
    classes = spanclasses.in_optimizer(classes, in_optimizer & rows.kinds("op"))
    launching, launched = launches
    kernels = rows.kinds("kernel")[launched]
    return spanclasses.words(spanclasses.of_kernels(classes, rows.parent, launching[kernels], launched[kernels]))


def _links(launches: tuple[Ints, Ints], backward: tuple[Ints, Ints]) -> pl.DataFrame:
    parts = [
        pl.DataFrame({"from_id": begin, "to_id": end, "kind": pl.Series([kind] * len(begin), dtype=WORD)}).cast(LINKS)  # type: ignore[arg-type]
        for kind, (begin, end) in (("launch", launches), ("backward", backward))
    ]
    return pl.concat(parts)


def _span_table(
    rows: _Rows, nested: Nested, step: Ints, phases: list[tuple[str, Bools]], classes: pl.Series
) -> pl.DataFrame:
    count = len(rows.start)
    phase_code = np.zeros(count, np.uint32)
    for code, (_, mask) in enumerate(phases, start=1):
        phase_code[mask] = code
    words = pl.Series([None, *(name for name, _ in phases)], dtype=WORD)
    return rows.spans.with_columns(
        pl.Series("id", np.arange(count, dtype=np.uint32)),
        pl.Series("start_ns", nested.start),
        pl.Series("duration_ns", nested.end - nested.start),
        pl.Series("track", nested.track.astype(np.uint32)),
        pl.Series("depth", np.clip(nested.depth, 0, 65_535).astype(np.uint16)),
        _nullable("parent", nested.parent, pl.UInt32),
        pl.Series("self_ns", nested.self_time),
        _nullable("step", step, pl.Int32),
        words.gather(phase_code).alias("phase"),
        classes,
    ).select(
        pl.col(name) if name in (*rows.spans.columns, *_COMPUTED) else pl.lit(None, dtype=dtype).alias(name)
        for name, dtype in SPANS.items()
    )


_COMPUTED = ("id", "depth", "parent", "self_ns", "step", "phase")


def _nullable(name: str, values: Ints, dtype: type[pl.DataType]) -> pl.Series:
    """A column in which negative means null."""
    series = pl.Series(name, values)
    return series.set(series < 0, None).cast(dtype)


def _track_table(
    tracks: list[NativeTrack], rows: _Rows, nested: Nested, training_thread: int | None, info: TraceInfo
) -> pl.DataFrame:
    """All tracks; lanes added by the repair carry the name of the track they were split from."""
    all_tracks = list(tracks)
    for lane in sorted(nested.lanes):
        origin = all_tracks[nested.lanes[lane]]
        all_tracks.append(replace(origin, name=f"{origin.name} (overlapping)"))
    on_device = rows.device_track
    is_steps = [track.name == STEPS_TRACK for track in all_tracks]
    prefix = _device_prefix(info)
    device = [(t.device or f"{prefix}:{t.pid}") if d else None for t, d in zip(all_tracks, on_device, strict=True)]
    kinds = ["device_stream" if d else "steps" if s else "thread" for d, s in zip(on_device, is_steps, strict=True)]
    return pl.DataFrame(
        {
            "id": range(len(all_tracks)),
            "name": [
                _track_name(t, bool(d), i == training_thread)
                for i, (t, d) in enumerate(zip(all_tracks, on_device, strict=True))
            ],
            "kind": kinds,
            "pid": [t.pid for t in all_tracks],
            "tid": [t.tid for t in all_tracks],
            "host": [info.host or None] * len(all_tracks),
            "rank": [info.rank] * len(all_tracks),
            "device": device,
        },
        schema=TRACKS,
    )


def _track_name(track: NativeTrack, on_device: bool, is_training: bool) -> str:
    fallback = f"stream {track.tid}" if on_device else f"thread {track.tid}"
    return (track.name or fallback) + (" (training)" if is_training else "")


def _device_prefix(info: TraceInfo) -> str:
    return "mtia" if "mtia" in info.backend else "cuda"


def _memory_table(
    memory: pl.DataFrame, zero_ns: int, rows: _Rows, nested: Nested, step: Ints, steps: _Steps
) -> pl.DataFrame:
    """Allocations and frees in order of time, each with the innermost span that made it."""
    if not memory.height:
        return pl.DataFrame(schema=MEMORY)
    memory = memory.with_columns(pl.col("time_ns") + zero_ns).sort("time_ns", maintain_order=True)
    time, track = memory["time_ns"].to_numpy(), memory["track"].to_numpy().astype(np.int64)
    index = steps.at(time)
    number = np.where(index >= 0, steps.number[np.maximum(index, 0)] if len(steps.number) else -1, -1)
    return memory.with_columns(
        _nullable("step", number, pl.Int32), _nullable("span", innermost_at(nested, track, time), pl.UInt32)
    ).select(list(MEMORY))


def innermost_at(nested: Nested, track: Ints, time: Ints) -> Ints:
    """Row of the innermost span open on each track at each time, −1 where none is. A few steps up the parents."""
    if not len(nested.start):
        return np.full(len(time), -1, np.int64)
    low = min(int(nested.start.min()), int(time.min()))
    width = np.int64(max(int(nested.end.max()), int(time.max())) - low + 2)
    row = np.searchsorted(nested.track * width + nested.start - low, track * width + time - low, side="right") - 1
    row = np.where((row >= 0) & (nested.track[np.maximum(row, 0)] == track), row, -1)
    while (over := (row >= 0) & (nested.end[np.maximum(row, 0)] <= time)).any():
        row[over] = nested.parent[row[over]]
    return row
