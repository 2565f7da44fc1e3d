"""The spans of a trace in Kineto's words: categories and names that every reader of its files knows, and numbers.

Spans of other sources are written under the nearest of these words; their own go along for the way back.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.trace.model import Trace
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

OPERATOR_CATEGORIES = ("cpu_op", "user_annotation")
RUNTIME_CATEGORIES = (
    "cuda_runtime", "cuda_driver", "hip_runtime", "mtia_runtime", "xpu_runtime", "privateuse1_runtime"
)  # fmt: skip
DEVICE_KINDS = ("kernel", "memcpy", "memset", "collective")

# Categories of torch 1.8 and 1.9 -> those since.
_MODERN = {
    "Operator": "cpu_op",
    "Kernel": "kernel",
    "Memcpy": "gpu_memcpy",
    "Memset": "gpu_memset",
    "Runtime": "cuda_runtime",
}
# Categories of XPlane (profkit.readers.xplane says what each one is) -> the nearest of Kineto.
_OF_XPLANE = {
    "tf_op": "cpu_op",
    "xla_op": "cpu_op",
    "eager_op": "cpu_op",
    "python": "python_function",
    "runtime": "cuda_runtime",
    "tf_data": "user_annotation",
    "tf_data_wait": "user_annotation",
    "scheduling": "user_annotation",
    "host": "user_annotation",
    "framework": "user_annotation",
    "device_kernel": "kernel",
    "device_collective": "kernel",
    "device_memcpy": "gpu_memcpy",
    "device_memset": "gpu_memset",
    "device_module": "gpu_user_annotation",
    "device_async": "gpu_user_annotation",
    "device_scope": "gpu_user_annotation",
}
# For spans whose source has no categories.
_CATEGORY_OF_KIND = {
    "op": "cpu_op",
    "kernel": "kernel",
    "memcpy": "gpu_memcpy",
    "memset": "gpu_memset",
    "runtime": "cuda_runtime",
    "python": "python_function",
    "module": "python_function",
    "sync": "cuda_sync",
}
_MARKED_BY_NAME = ("step", "data_wait")


def described(trace: Trace) -> pl.DataFrame:
    """The spans with today's categories and names that readers of the format know, and four columns more.

    `external` is the number that ties runtime calls and device work to the innermost operator around the call,
    `python` the arguments that tie Python frames to each other. `own_category` and `own_name` are the source's words
    where the way back needs them: the category in every span of an XPlane trace, the name where it was changed.
    """
    kind = pl.col("kind").cast(pl.String)
    category = pl.col("category").cast(pl.String).replace(_MODERN | _OF_XPLANE)
    by_kind = kind.replace_strict(_CATEGORY_OF_KIND, default="user_annotation")
    device = pl.Series(np.isin(trace.spans["track"].to_numpy(), _device_tracks(trace)))
    marked = kind.is_in(_MARKED_BY_NAME)
    spans = trace.spans.with_columns(
        pl.when(marked | (category.is_null() & (kind == "collective") & ~device))
        .then(pl.lit("user_annotation"))
        .when(category.is_null() & (kind == "collective"))
        .then(pl.lit("kernel"))
        .otherwise(category.fill_null(by_kind))
        .alias("category"),
        pl.when(marked).then(_marked_name()).otherwise(pl.col("name").cast(pl.String)).alias("name"),
        pl.when(is_of_xplane(trace)).then("category").cast(pl.String).alias("own_category"),
    )
    is_renamed = pl.col("own_category").is_not_null() & (pl.col("name") != trace.spans["name"].cast(pl.String))
    return spans.with_columns(
        pl.when(is_renamed).then(trace.spans["name"].cast(pl.String)).alias("own_name"),
        pl.Series("external", external_ids(trace, spans)),
        python_ids(spans).alias("python"),
    )


def is_of_xplane(trace: Trace) -> bool:
    """Whether the trace speaks of its spans in XPlane's words."""
    return bool(Words(trace.spans["category"]).among(*_OF_XPLANE).any())


def _marked_name() -> pl.Expr:
    """Names by which steps and waits are known in the format, where the source named them otherwise."""
    name = pl.col("name").cast(pl.String)
    step = pl.format("ProfilerStep#{}", pl.col("step"))
    is_step = pl.col("kind").cast(pl.String) == "step"
    return (
        pl.when(is_step & name.str.contains(r"^ProfilerStep#?\s?\d+"))
        .then(name)
        .when(is_step)
        .then(step)
        .when(name.str.contains(r"^(enumerate\(Data(Loader|Pipe)\)#|profkit\.loader#)"))
        .then(name)
        .otherwise(pl.format("profkit.loader#{}", name))
    )


def external_ids(trace: Trace, spans: pl.DataFrame) -> Ints:
    """External id of each span, −1 for none: of an operator its own; of a runtime call that of the innermost operator
    around it, 0 where there is none; of device work that of the call that launched it."""
    category = spans["category"]
    own, runtime = category.is_in(OPERATOR_CATEGORIES).to_numpy(), category.is_in(RUNTIME_CATEGORIES).to_numpy()
    nearest = nearest_ancestor(spans["parent"], own)
    external = np.full(len(own), -1, np.int64)
    external[own] = np.flatnonzero(own) + 1
    external[runtime] = nearest[runtime] + 1
    external[spans["kind"].cast(pl.String).is_in(DEVICE_KINDS).to_numpy() & ~own] = 0
    launch = trace.links.filter(pl.col("kind") == "launch")
    external[launch["to_id"].to_numpy()] = external[launch["from_id"].to_numpy()]
    return external


def nearest_ancestor(parent: pl.Series, wanted: Bools) -> Ints:
    """Row of the innermost span among `wanted` that encloses each row, −1 where none does. For all rows of a trace."""
    up = parent.cast(pl.Int64).fill_null(-1).to_numpy()
    at = up.copy()
    rows = np.flatnonzero((at >= 0) & ~wanted[at])
    while len(rows):
        at[rows] = up[at[rows]]
        rows = rows[(at[rows] >= 0) & ~wanted[at[rows]]]
    return at


def _device_tracks(trace: Trace) -> list[int]:
    return trace.tracks.filter(pl.col("kind") == "device_stream")["id"].to_list()


def python_ids(spans: pl.DataFrame) -> pl.Series:
    """Arguments that make a tree of Python frames, and number the modules among them by their names' last digits."""
    kinds = Words(spans["kind"])
    frames, modules = kinds.among("python", "module"), kinds.among("module")
    if not frames.any():
        return pl.Series([None], dtype=pl.String).new_from_index(0, spans.height)
    parent = pl.Series(nearest_ancestor(spans["parent"], frames))
    parent_id = pl.when(parent >= 0).then((parent + 1).cast(pl.String)).otherwise(pl.lit("null"))
    number = pl.col("name").cast(pl.String).str.extract(r"_(\d+)$").fill_null("0")
    ids = pl.format('"Python id": {}, "Python parent id": {}', pl.col("id") + 1, parent_id)
    module = pl.format('{}, "Python module id": {}', ids, number)
    chosen = pl.when(pl.Series(modules)).then(module).when(pl.Series(frames)).then(ids)
    return spans.select(chosen).to_series()
