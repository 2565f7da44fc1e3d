"""Operators by name, by name and shape, and by name and module: calls, total, self and device time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.columns import Columns
from profkit.analysis.modules import module_of
from profkit.analysis.report import Operator
from profkit.trace.model import Trace

Ints = npt.NDArray[np.int64]

HOST_KINDS = ("op", "annotation", "data_wait", "collective")


@dataclass(frozen=True, slots=True)
class Operators:
    """The operators of one trace, grouped in three ways. `by_module` is empty where no module was recorded."""

    by_name: list[Operator]
    by_shape: list[Operator]
    by_module: list[Operator]


def operators(trace: Trace, columns: Columns | None = None, modules: pl.Series | None = None) -> Operators:
    """Operators and ranges of the host, the largest self time first.

    `total_ns` is the union of a name's spans on each track, so that recursion counts once; `self_ns` is duration
    minus direct children; `device_ns` the device work launched from inside. `modules`: those of all spans, if known.
    """
    columns = columns or Columns(trace)
    rows = np.flatnonzero(columns.kind(*HOST_KINDS) & ~columns.internals & ~columns.on_device_track)
    table = trace.spans.select("name", "op_class", "kind", "shapes")[rows].with_columns(
        pl.Series("self_ns", columns.self_time[rows]),
        pl.Series("total_ns", columns.duration[rows]),
        pl.Series("device_ns", device_time(trace, columns)[rows]),
        pl.Series("outermost", _outermost_of_name(trace, columns, rows)),
        (module_of(trace, columns) if modules is None else modules).gather(rows).alias("module"),
    )
    by_module = _grouped(table, ["name", "module"]) if table["module"].null_count() < table.height else []
    return Operators(_grouped(table, ["name"]), _grouped(table, ["name", "shapes"]), by_module)


def kernels(trace: Trace, columns: Columns | None = None) -> list[Operator]:
    """Device work by name, the largest total first; a kernel has no children, so that self time is its total.

    Of several classes a name has that of the largest time.
    """
    columns = columns or Columns(trace)
    rows = np.flatnonzero(columns.device_work)
    table = trace.spans.select("name", "op_class", "kind", "duration_ns")[rows]
    grouped = (
        table.group_by("name", "op_class", maintain_order=True)
        .agg(pl.len().alias("calls"), pl.sum("duration_ns"), pl.first("kind"))
        .sort("duration_ns", descending=True, maintain_order=True)
        .group_by("name", maintain_order=True)
        .agg(pl.sum("calls", "duration_ns"), pl.first("op_class", "kind"))
        .sort("duration_ns", descending=True, maintain_order=True)
    )
    return [
        Operator(name=name, calls=calls, total_ns=time, self_ns=time, device_ns=time, op_class=op_class, kind=kind)
        for name, calls, time, op_class, kind in grouped.iter_rows()
    ]


def device_time(trace: Trace, columns: Columns) -> Ints:
    """For each span, the device work launched by it or from inside it, in nanoseconds: kernels and collectives,
    copies included, summed over streams."""
    launch = trace.links.filter(pl.col("kind") == "launch")
    own = np.zeros(len(columns.start) + 1, np.int64)
    np.add.at(own, launch["from_id"].to_numpy() + 1, columns.duration[launch["to_id"].to_numpy()])
    upto = np.cumsum(own)
    return upto[columns.subtree_end] - upto[:-1]


def _outermost_of_name(trace: Trace, columns: Columns, rows: Ints) -> npt.NDArray[np.bool_]:
    """Whether each of these rows lies in no earlier span of its own name on its track."""
    names = trace.spans["name"].to_physical().to_numpy()[rows].astype(np.int64)
    track, start, end = columns.track[rows], columns.start[rows], columns.end[rows]
    order = np.lexsort((rows, track, names))  # rows of one track are sorted by start already
    low = int(start.min()) if len(start) else 0
    key = np.cumsum(np.diff(names[order] * (int(track.max(initial=0)) + 1) + track[order], prepend=-1) != 0)
    width = np.int64((int(end.max()) if len(end) else 0) - low + 2)
    reach = np.maximum.accumulate(key * width + end[order] - low)
    begins = key * width + start[order] - low
    outermost = np.ones(len(rows), np.bool_)
    outermost[order[1:]] = begins[1:] >= reach[:-1]
    return outermost


def _grouped(table: pl.DataFrame, keys: list[str]) -> list[Operator]:
    """One row per key; of several classes that of the largest self time, as an addition may be the optimizer's too."""
    grouped = (
        table.group_by(*keys, "op_class", maintain_order=True)
        .agg(
            pl.len().alias("calls"),
            pl.col("total_ns").filter("outermost").sum(),
            pl.sum("self_ns"),
            pl.col("device_ns").filter("outermost").sum(),
            pl.first("kind"),
        )
        .sort("self_ns", descending=True, maintain_order=True)
        .group_by(keys, maintain_order=True)
        .agg(pl.sum("calls", "total_ns", "self_ns", "device_ns"), pl.first("op_class", "kind"))
        .sort("self_ns", descending=True, maintain_order=True)
    )
    return [Operator(**row) for row in grouped.iter_rows(named=True)]
