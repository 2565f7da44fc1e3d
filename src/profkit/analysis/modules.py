"""Which module of the model a span belongs to, as far as the framework recorded modules."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.columns import Columns
from profkit.trace.model import Trace
from profkit.trace.schema import WORD

Ints = npt.NDArray[np.int64]

TORCH_MODULE = "nn.Module: "  # how torch.profiler names the ranges of modules, where it records stacks


def module_of(trace: Trace, columns: Columns) -> pl.Series:
    """The module of each span, null where none is known.

    That is what the source wrote beside the span, else what encloses it; a backward operator has that of its forward.
    """
    own = _own_modules(trace, columns)
    if own.null_count() == len(own):
        return own
    source = np.where(own.is_not_null().to_numpy(), np.arange(len(own)), -1)  # the row whose module a row has
    parent = trace.spans["parent"].cast(pl.Int64).fill_null(-1).to_numpy()
    depth = trace.spans["depth"].to_numpy()
    _inherit(source, parent, depth)
    backward = trace.links.filter(pl.col("kind") == "backward")
    forward, target = backward["from_id"].to_numpy(), backward["to_id"].to_numpy()
    unknown = source[target] < 0
    source[target[unknown]] = source[forward[unknown]]
    _inherit(source, parent, depth)
    return own.gather(pl.Series(source).set(pl.Series(source < 0), None))


def _own_modules(trace: Trace, columns: Columns) -> pl.Series:
    written, rows = trace.spans["module"], np.flatnonzero(columns.kind("module"))
    if not len(rows):
        return written
    ranged = trace.spans["name"].gather(rows).cast(pl.String).str.strip_prefix(TORCH_MODULE).cast(WORD)
    return written.clone().scatter(rows, ranged)


def _inherit(source: Ints, parent: Ints, depth: npt.NDArray[np.uint16]) -> None:
    """Give each span without a module that of its parent, from the outermost to the innermost."""
    rows = np.flatnonzero((source < 0) & (parent >= 0))
    rows = rows[np.argsort(depth[rows], kind="stable")]
    levels = np.flatnonzero(np.diff(depth[rows], prepend=-1))
    for level in np.split(rows, levels[1:]):
        source[level] = source[parent[level]]
