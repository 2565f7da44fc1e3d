"""A file of any size in bounded memory: what is too much for one trace becomes several, one after the other in time.

Batches beyond MOST_SPANS go to a temporary folder as they come, whatever their order. Once all are there, times between
them are chosen at which one section ends and the next begins: where a step begins, since the breakdown of a step must
see all of it, and anywhere where there are no steps. A span that is open at such a time ends there and is continued in
the next section, so that the time of every step is told whole; it counts as a call in both.
"""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.trace.assemble import assemble
from profkit.trace.batch import Batch, ReadContext
from profkit.trace.model import Trace
from profkit.trace.vocabulary import step_number

Ints = npt.NDArray[np.int64]

MOST_SPANS = 400_000  # of a section, unless a single step has more; a trace of as many takes 300 MB while it is made
GRID = 4_096  # times to choose from where there are no steps


def sections(
    batches: Iterable[Batch], context: ReadContext, source: str, profkit: str, most_spans: int = MOST_SPANS
) -> list[Callable[[], Trace]]:
    """How to open the traces of one native file: one, made already, unless it has more than `most_spans` spans.

    Traces of several are made anew each time they are opened. Raises UnreadableTrace.
    """
    held: list[Batch] = []
    spilled: _Spilled | None = None
    spans = 0
    for batch in batches:
        spans += batch.spans.height
        if spilled is None and spans <= most_spans:
            held.append(batch)
            continue
        spilled = spilled or _Spilled(context, source, profkit)
        for each in (*held, batch):
            spilled.add(each)
        held.clear()
    if spilled is None:
        return [partial(_itself, assemble(held, context, source, profkit))]
    cuts = spilled.cuts(most_spans)
    return [partial(spilled.trace, number, cuts) for number in range(len(cuts) - 1)]


@dataclass(frozen=True, slots=True)
class _Part:
    """A batch on disk, and when what is in it begins and ends; an empty one ends before it begins."""

    folder: Path
    spans: int
    start_ns: int
    end_ns: int


class _Spilled:
    """The batches of a file in a temporary folder, which goes when nobody can open a section of it any more."""

    def __init__(self, context: ReadContext, source: str, profkit: str) -> None:
        self._context, self._source, self._profkit = context, source, profkit
        self._home = Path(tempfile.mkdtemp(prefix="profkit-"))
        weakref.finalize(self, shutil.rmtree, self._home, ignore_errors=True)
        self._parts: list[_Part] = []
        self._steps: list[Ints] = []
        self._rest: list[Batch] = []  # of each batch what is no table

    def add(self, batch: Batch) -> None:
        """Write a batch. Raises OSError."""
        folder = self._home / str(len(self._parts))
        folder.mkdir()
        for name in _TABLES:
            getattr(batch, name).write_ipc(folder / name, compression="lz4")
        begins, ends = _extent(batch)
        self._parts.append(_Part(folder, batch.spans.height, begins, ends))
        self._steps.append(_step_starts(batch.spans))
        self._rest.append(replace(batch, spans=pl.DataFrame(), memory=pl.DataFrame(), flows=pl.DataFrame()))

    def cuts(self, most: int) -> Ints:
        """Times at which sections of at most `most` spans begin, and the end of the last one."""
        filled = [part for part in self._parts if part.start_ns <= part.end_ns]
        first, last = min(part.start_ns for part in filled), max(part.end_ns for part in filled) + 1
        steps = np.unique(np.concatenate(self._steps))
        inside = steps[(steps > first) & (steps < last)]
        times = inside if len(inside) else np.unique(np.linspace(first, last, GRID + 1).astype(np.int64))[1:-1]
        edges = np.concatenate(([first], times, [last]))
        counts = np.zeros(len(edges), np.int64)
        for part in (part for part in filled if part.spans):
            start = pl.read_ipc(part.folder / "spans", columns=["start_ns"])["start_ns"].to_numpy()
            counts += np.bincount(np.searchsorted(edges, start, side="right") - 1, minlength=len(edges))
        return _filled_up(edges, counts[:-1], most)

    def trace(self, number: int, cuts: Ints) -> Trace:
        """The trace of one section, from the cut of its number to the next one."""
        low, high = int(cuts[number]), int(cuts[number + 1])
        with_rest = zip(self._parts, self._rest, strict=True)
        batches = [
            _section_of(rest if number == 0 else replace(rest, counts={}, dropped={}), part, low, high)
            for part, rest in with_rest
        ]
        context = replace(self._context, window=self._context.window + number)
        trace = assemble(batches, context, self._source, self._profkit)
        if number:
            trace.info.notes.clear()
        return trace


_TABLES = ("spans", "memory", "flows")


def _section_of(rest: Batch, part: _Part, low: int, high: int) -> Batch:
    """Of a batch what happened from `low` until `high`, clipped to it."""
    if part.start_ns >= high or part.end_ns < low:
        return rest
    spans, memory, flows = (pl.read_ipc(part.folder / name) for name in _TABLES)
    if spans.width and not (low <= part.start_ns and part.end_ns < high):
        spans = _clipped(spans, low, high)
    return replace(rest, spans=spans, memory=_within(memory, low, high), flows=_within(flows, low, high))


def _clipped(spans: pl.DataFrame, low: int, high: int) -> pl.DataFrame:
    """The spans that begin from `low` until `high` or go on then; what lies outside is cut off."""
    start, end = _times(spans)
    inside = (start < high) & ((start >= low) | (end > low))
    begins, ends = np.maximum(start[inside], low), np.minimum(end[inside], high)
    return spans.filter(inside).with_columns(pl.Series("start_ns", begins), pl.Series("duration_ns", ends - begins))


def _within(events: pl.DataFrame, low: int, high: int) -> pl.DataFrame:
    return events.filter(pl.col("time_ns").is_between(low, high, closed="left")) if events.height else events


def _extent(batch: Batch) -> tuple[int, int]:
    """When the first event of a batch begins and the last one ends."""
    instants = [frame["time_ns"].to_numpy() for frame in (batch.memory, batch.flows) if frame.height]
    begins, ends = _times(batch.spans) if batch.spans.height else (np.zeros(0, np.int64), np.zeros(0, np.int64))
    first, last = np.concatenate((begins, *instants)), np.concatenate((ends, *instants))
    return (int(first.min()), int(last.max())) if len(first) else (0, -1)


def _times(spans: pl.DataFrame) -> tuple[Ints, Ints]:
    start = spans["start_ns"].to_numpy()
    return start, start + spans["duration_ns"].to_numpy()


def _step_starts(spans: pl.DataFrame) -> Ints:
    """When the steps among the spans begin."""
    if not spans.height:
        return np.zeros(0, np.int64)
    names = spans["name"].unique().drop_nulls().cast(pl.String)
    steps = [name for name in names.to_list() if step_number(name) is not None]
    if not steps:
        return np.zeros(0, np.int64)
    return spans.filter(pl.col("name").cast(pl.String).is_in(steps))["start_ns"].to_numpy()


def _filled_up(edges: Ints, counts: Ints, most: int) -> Ints:
    """As few of the edges as sections of at most `most` spans need, the first and the last among them."""
    upto = np.concatenate(([0], np.cumsum(counts)))
    chosen = [0]
    while upto[-1] - upto[chosen[-1]] > most:
        furthest = int(np.searchsorted(upto, upto[chosen[-1]] + most, side="right")) - 1
        if max(furthest, chosen[-1] + 1) >= len(edges) - 1:
            break
        chosen.append(max(furthest, chosen[-1] + 1))
    return edges[[*chosen, len(edges) - 1]]


def _itself(trace: Trace) -> Trace:
    return trace
