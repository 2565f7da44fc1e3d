"""The workers of a loader as tracks of a trace: each fetch a span, linked to the step that consumed its batch.

They come from the run's table of batches and not from a profiler's file, and are joined to a trace when it is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from profkit.trace.model import Loader, Trace
from profkit.trace.schema import LINKS, SPANS, TRACKS
from profkit.trace.store import conform


def with_workers(trace: Trace, batches: pl.DataFrame, loaders: Mapping[str, Loader]) -> Trace:
    """`trace` with a track for every worker that fetched while it was recorded; the same trace where none did."""
    fetches = _within(trace, batches)
    if not fetches.height:
        return trace
    tracks = _tracks(trace, fetches, loaders)
    spans = _spans(trace, fetches.join(tracks.select("loader", "worker", "track"), on=["loader", "worker"]))
    return replace(
        trace,
        spans=pl.concat([trace.spans, conform(spans, SPANS)]),
        tracks=pl.concat([trace.tracks, conform(tracks.rename({"track": "id"}), TRACKS)]),
        links=pl.concat([trace.links, conform(_links(trace, spans), LINKS)]),
    )


def _within(trace: Trace, batches: pl.DataFrame) -> pl.DataFrame:
    info = trace.info
    return batches.filter(
        pl.col("worker").is_not_null()
        & (pl.col("fetch_start_ns") < info.end_ns)
        & (pl.col("fetch_end_ns") > info.start_ns)
    )


def _tracks(trace: Trace, fetches: pl.DataFrame, loaders: Mapping[str, Loader]) -> pl.DataFrame:
    """One row for each worker of each loader, numbered behind the trace's own tracks."""
    pids = {(int(number), w.worker): w.pid for number, loader in loaders.items() for w in loader.workers}
    several = fetches["loader"].n_unique() > 1
    first = int(trace.tracks["id"].max() or 0) + 1 if trace.tracks.height else 0  # type: ignore[arg-type]
    rows = [
        {
            "loader": loader,
            "worker": worker,
            "track": first + place,
            "name": f"worker {worker} of loader {loader}" if several else f"loader worker {worker}",
            "kind": "loader_worker",
            "pid": pids.get((loader, worker)),
            "host": trace.info.host,
            "rank": trace.info.rank,
        }
        for place, (loader, worker) in enumerate(fetches.select("loader", "worker").unique().sort(pl.all()).rows())
    ]
    schema = {"loader": pl.Int32, "worker": pl.Int32, "track": pl.UInt32, "pid": pl.Int64}
    return pl.DataFrame(rows, schema_overrides=schema)


def _spans(trace: Trace, fetches: pl.DataFrame) -> pl.DataFrame:
    """A span for each fetch, and within it one for its samples and one for collating them."""
    ordered = fetches.sort("track", "fetch_start_ns").with_row_index("place")
    whole = pl.col("fetch_end_ns") - pl.col("fetch_start_ns")
    item, collate = pl.col("item_ns").clip(0, whole), pl.col("collate_ns")
    parts = {
        "fetch": (pl.col("fetch_start_ns"), whole, pl.format("fetch batch {}", "index"), whole - item - collate),
        "item": (pl.col("fetch_start_ns"), item, pl.lit("item"), item),
        "collate": (pl.col("fetch_end_ns") - collate, collate, pl.lit("collate"), collate),
    }
    first = trace.spans.height
    rows = [
        ordered.select(
            (first + 3 * pl.col("place") + place).cast(pl.UInt32).alias("id"),
            start.alias("start_ns"),
            took.alias("duration_ns"),
            name.alias("name"),
            pl.lit("data_work").alias("kind"),
            pl.col("track"),
            pl.lit(min(place, 1)).alias("depth"),
            (pl.lit(None) if place == 0 else first + 3 * pl.col("place")).cast(pl.UInt32).alias("parent"),
            own.clip(lower_bound=0).alias("self_ns"),
            pl.col("step"),
            pl.lit("data").alias("phase"),
        )
        for place, (start, took, name, own) in enumerate(parts.values())
    ]
    return pl.concat(rows).sort("id")


def _links(trace: Trace, spans: pl.DataFrame) -> pl.DataFrame:
    """From each fetch to the span of the step that consumed its batch, where that was recorded."""
    steps = trace.spans.filter(pl.col("kind") == "step").select("step", pl.col("id").alias("to_id")).unique("step")
    fetches = spans.filter(pl.col("depth") == 0).select("step", pl.col("id").alias("from_id"))
    return fetches.join(steps, on="step").with_columns(pl.lit("batch").alias("kind"))
