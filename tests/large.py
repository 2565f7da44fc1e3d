"""A trace as large as one likes, made by the core from a reader's columns: steps of operators, launches and kernels."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.trace.assemble import assemble
from profkit.trace.batch import NATIVE_FLOWS, NATIVE_MEMORY, NATIVE_SPANS, Batch, NativeHeader, NativeTrack, ReadContext
from profkit.trace.model import Trace
from profkit.trace.schema import empty

Ints = npt.NDArray[np.int64]

GROUPS_PER_STEP = 250  # each an operator, two inner ones, a launch and a kernel
SPANS_PER_GROUP = 5
GROUP_NS = 40_000
ZERO_NS = 1_700_000_000_000_000_000
OPERATORS = ("aten::linear", "aten::conv2d", "aten::relu", "aten::add", "aten::softmax", "aten::layer_norm")
INNER = (
    "aten::addmm",
    "aten::convolution",
    "aten::clamp_min",
    "aten::empty",
    "aten::_softmax",
    "aten::native_layer_norm",
)
TRACKS = 4  # threads, and as many streams


def large_trace(spans: int, seed: int = 0) -> Trace:
    """About `spans` spans, a wait of a fifth in every step, on four threads and four streams."""
    random = np.random.default_rng(seed)
    groups = spans // SPANS_PER_GROUP
    per_track = groups // TRACKS
    tables = [_track(random, number, per_track) for number in range(TRACKS)]
    steps = max(1, per_track // GROUPS_PER_STEP)
    table = pl.concat([_steps(steps), *tables]).cast({"name": pl.Categorical, "category": pl.Categorical})
    tracks = (
        *(NativeTrack(100, 100 + number, f"thread {100 + number} (python)") for number in range(TRACKS)),
        *(NativeTrack(0, number, f"stream {number}", device="gpu:0") for number in range(TRACKS)),
    )
    header = NativeHeader(zero_ns=ZERO_NS, frameworks={"torch": "2.13.0"})
    batch = Batch(table, empty(NATIVE_MEMORY), empty(NATIVE_FLOWS), {"events": table.height}, {}, tracks, header)
    return assemble([batch], ReadContext(), source="kineto", profkit="0")


def _steps(count: int) -> pl.DataFrame:
    """Steps that begin with a wait, on the first track."""
    length = GROUPS_PER_STEP * GROUP_NS
    start = np.arange(count) * length
    waits = _table(
        start,
        np.full(count, length // 5),
        "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__",
        "user_annotation",
        0,
    )
    ranges = _table(start, np.full(count, length), "", "user_annotation", 0)
    return pl.concat([ranges.with_columns(pl.format("ProfilerStep#{}", pl.int_range(pl.len())).alias("name")), waits])


def _track(random: np.random.Generator, number: int, groups: int) -> pl.DataFrame:
    """Groups one after the other, none of them in the first fifth of a step."""
    at = np.arange(groups)
    place = at % GROUPS_PER_STEP
    step_start = at // GROUPS_PER_STEP * GROUPS_PER_STEP * GROUP_NS
    width = GROUP_NS * 4 // 5
    start = step_start + GROUPS_PER_STEP * GROUP_NS // 5 + place * width + random.integers(0, 2_000, groups)
    took = random.integers(8_000, width - 4_000, groups)
    kinds = random.integers(0, len(OPERATORS), groups)
    correlation = number * groups + at + 1
    outer = _table(start, took, pl.Series(OPERATORS).gather(kinds), "cpu_op", number)
    inner = _table(start + 500, took // 2, pl.Series(INNER).gather(kinds), "cpu_op", number)
    alloc = _table(start + 700, took // 8, "aten::empty", "cpu_op", number)
    launch = _table(start + took // 2 + 700, took // 8, "cudaLaunchKernel", "cuda_runtime", number, correlation)
    kernel = _table(
        start + took // 2 + 3_000, took, pl.Series(INNER).gather(kinds), "kernel", TRACKS + number, correlation
    )
    return pl.concat([outer, inner, alloc, launch, kernel])


def _table(
    start: Ints, duration: Ints, name: str | pl.Series, category: str, track: int, correlation: Ints | None = None
) -> pl.DataFrame:
    columns = {
        "start_ns": start,
        "duration_ns": duration,
        "category": [category] * len(start),
        "track": [track] * len(start),
    }
    texts = {"name": [name] * len(start) if isinstance(name, str) else name, "category": columns.pop("category")}
    known = {**columns, **texts} | ({} if correlation is None else {"correlation": correlation})
    schema = {**NATIVE_SPANS, "name": pl.String, "category": pl.String}
    frame = pl.DataFrame(known)
    return frame.select(
        (pl.col(column) if column in known else pl.lit(None)).cast(dtype).alias(column)
        for column, dtype in schema.items()
    )
