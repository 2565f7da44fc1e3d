"""Several profilers' files of one window, on one timeline.

Where a program uses two frameworks, both profilers record the same steps in the same process. Each file's times become
unix nanoseconds, its tracks and correlation ids get a range of their own, and the steps are those of the first file
that has any, since every hook marks the same ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import polars as pl

from profkit.errors import UnreadableTrace
from profkit.trace import vocabulary
from profkit.trace.batch import Batch, NativeHeader, NativeTrack

IDS_OF_A_FILE = 1 << 48  # no profiler numbers its launches and arrows that far


def merged(files: Sequence[Iterable[Batch]]) -> list[Batch]:
    """The batches of `files`, one file after the other, as those of one file whose zero is the epoch.

    Raises UnreadableTrace where a file's batches end without its header.
    """
    done: list[Batch] = []
    tracks: list[NativeTrack] = []
    headers: list[NativeHeader] = []
    notes: list[str] = []
    has_steps = False
    for number, file in enumerate(files):
        batches = list(file)
        if not batches or batches[-1].header is None:
            raise UnreadableTrace("a reader ended before the end of its file")
        last, header = batches[-1], batches[-1].header
        place = _Place(header.zero_ns, len(tracks), number * IDS_OF_A_FILE)
        if has_steps:
            batches = [replace(batch, spans=_without_steps(batch.spans)) for batch in batches]
        has_steps = has_steps or any(_steps_among(batch.spans).height for batch in batches)
        done += [place.of(batch) for batch in batches]
        tracks += last.tracks
        headers.append(header)
        notes += last.notes
    return [*done[:-1], replace(done[-1], tracks=tuple(tracks), header=_one_header(headers), notes=tuple(notes))]


class _Place:
    """Where one file's times, tracks and ids lie among those of all."""

    def __init__(self, zero_ns: int, track: int, identifier: int) -> None:
        self._added = {
            "start_ns": zero_ns,
            "time_ns": zero_ns,
            "track": track,
            "correlation": identifier,
            "id": identifier,
        }

    def of(self, batch: Batch) -> Batch:
        """`batch` in its place among the others."""
        return replace(
            batch,
            spans=self._shifted(batch.spans),
            memory=self._shifted(batch.memory),
            flows=self._shifted(batch.flows),
            tracks=(),
            header=None,
            notes=(),
        )

    def _shifted(self, table: pl.DataFrame) -> pl.DataFrame:
        columns = [name for name in self._added if name in table.columns]
        return table.with_columns((pl.col(name) + self._added[name]).cast(table.schema[name]) for name in columns)


def _steps_among(spans: pl.DataFrame) -> pl.DataFrame:
    """The distinct (name, category) of the steps among `spans`."""
    if not spans.width:
        return spans
    pairs = spans.select("name", "category").unique()
    is_step = [vocabulary.kind(category, name) == "step" for name, category in pairs.iter_rows()]
    return pairs.filter(pl.Series(is_step, dtype=pl.Boolean))


def _without_steps(spans: pl.DataFrame) -> pl.DataFrame:
    steps = _steps_among(spans)
    if not steps.height:
        return spans
    return spans.join(steps, on=["name", "category"], how="anti", nulls_equal=True, maintain_order="left")


def _one_header(headers: Sequence[NativeHeader]) -> NativeHeader:
    """What all files say; where they disagree the earlier one is believed."""
    first, *others = headers
    for other in others:
        first = NativeHeader(
            rank=other.rank if first.rank is None else first.rank,
            world_size=other.world_size if first.world_size is None else first.world_size,
            backend=first.backend or other.backend,
            host=first.host or other.host,
            frameworks=other.frameworks | first.frameworks,
            devices=[*first.devices, *other.devices],
            flags=other.flags | first.flags,
            profiler=f"{first.profiler}+{other.profiler}",
        )
    return replace(first, zero_ns=0)
