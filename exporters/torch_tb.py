"""Traces for the TensorBoard plugin torch-tb-profiler 0.4.3, rewritten so that it shows the right times.

Traces of TensorFlow and JAX too: their operators by type, their steps, and any wait for input as a DataLoader's.

The plugin was last released in 2023 and misreads what torch writes since 1.12: it drops every user annotation, so
that waiting for the DataLoader counts as nothing; it does not know the runtime calls' categories, so that no kernel
belongs to an operator; it counts steps again on the device's lanes; and it takes kernels of collectives for compute
(torch_tb_profiler/profiler/trace.py, event_parser.py). This module gives it the names it knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from profkit.analysis.report import Report
from profkit.trace.model import Run, Trace
from profkit.trace.words import Words

from . import chromejson, kinetowords
from .files import every_rank, safe_name, traces_of

# The only collectives the plugin knows, for each of these libraries; all others are shown as the nearest one.
_LIBRARIES = ("nccl", "gloo")
_KNOWN = ("broadcast", "reduce", "all_reduce", "all_gather", "reduce_scatter")
_NEAREST = {
    "_all_gather_base": "all_gather",
    "all_gather_into_tensor_coalesced": "all_gather",
    "allgather_into_tensor_coalesced": "all_gather",
    "_reduce_scatter_base": "reduce_scatter",
    "reduce_scatter_tensor_coalesced": "reduce_scatter",
    "all_reduce_barrier": "all_reduce",
    "allreduce_coalesced": "all_reduce",
    "all_to_all": "all_gather",
    "all_to_allv": "all_gather",
}
_COLLECTIVES = [f"{library}:{name}" for library in _LIBRARIES for name in _KNOWN]
_RENAMED = {f"{library}:{new}": f"{library}:{old}" for library in _LIBRARIES for new, old in _NEAREST.items()}


class TorchTbExporter:
    """Writes `<host>_<rank>.<time>.pt.trace.json.gz` for each recorded window, as the plugin discovers it."""

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        """Write below `folder`. Raises ExportError where nothing was recorded, OSError."""
        return [self._write(trace, folder) for own in every_rank(run) for trace in traces_of(own)]

    def _write(self, trace: Trace, folder: Path) -> Path:
        worker = f"{safe_name(trace.info.host or 'worker')}_{trace.info.rank}"
        path = folder / f"{worker}.{trace.info.start_ns}.pt.trace.json.gz"
        chromejson.write(path, chromejson.header(trace), _events(trace))
        return path


def _events(trace: Trace) -> Iterator[pl.Series]:
    found = chromejson.addresses(trace, steps_must_nest=False)
    yield chromejson.metadata(found)
    yield from chromejson.span_events(trace, rewritten(trace), found)
    yield from chromejson.memory_events(trace, found)
    yield from chromejson.flow_events(trace, found)


def rewritten(trace: Trace) -> pl.DataFrame:
    """The spans under the names and categories the plugin knows; the device's copies of annotations are left out."""
    spans = kinetowords.described(trace)
    kind, name, category = pl.col("kind").cast(pl.String), pl.col("name"), pl.col("category")
    spans = spans.with_columns(
        pl.when(kind == "step")
        .then(pl.format("ProfilerStep#{}", name.str.extract(r"(\d+)")))
        .when(kind == "data_wait")
        .then(_loader_name(name))
        .otherwise(name.replace(_RENAMED))
        .alias("name"),
    )
    is_collective = (category == "user_annotation") & name.is_in(_COLLECTIVES)
    external = _with_collectives(trace, spans, spans.select(is_collective).to_series())
    # The host's other spans of TensorFlow and JAX are no operators, and the plugin may pass them over; but without any
    # operator or step it finds no beginning of the trace.
    has_beginning = bool(Words(trace.spans["kind"]).among("op", "step").any())
    is_foreign = pl.col("own_category").is_not_null() & (kind != "data_wait") & has_beginning
    stays = (kind == "step") | is_collective | is_foreign
    return spans.with_columns(
        pl.Series("external", external),
        pl.when(category.is_in(kinetowords.RUNTIME_CATEGORIES))
        .then(pl.lit("Runtime"))
        .when((category == "user_annotation") & ~stays)
        .then(pl.lit("cpu_op"))
        .otherwise(category)
        .alias("category"),
    ).filter(category != "gpu_user_annotation")


def _loader_name(name: pl.Expr) -> pl.Expr:
    """The plugin knows a wait for data by its beginning and its end."""
    known = name.str.contains(r"^enumerate\(DataLoader\)#.*\.__next__$|^enumerate\(DataPipe\)#")
    bare = name.str.strip_prefix("enumerate(DataLoader)#").str.strip_prefix("profkit.loader#")
    return pl.when(known).then(name).otherwise(pl.format("enumerate(DataLoader)#{}.__next__", bare))


def _with_collectives(trace: Trace, spans: pl.DataFrame, is_collective: pl.Series) -> kinetowords.Ints:
    """External ids, with those of a collective's kernels and of the calls that launched them set to its range's."""
    external = spans["external"].to_numpy().copy()
    launch = trace.links.filter(pl.col("kind") == "launch")
    calls, work = launch["from_id"].to_numpy(), launch["to_id"].to_numpy()
    range_of_call = kinetowords.nearest_ancestor(spans["parent"], is_collective.to_numpy())[calls]
    of_collective = spans["kind"].cast(pl.String).gather(work).to_numpy() == "collective"
    linked = np.flatnonzero(of_collective & (range_of_call >= 0))
    external[calls[linked]] = external[work[linked]] = range_of_call[linked] + 1
    return external
