"""The collectives a rank took part in: which operation of which group, when it arrived, when it was through.

A call is matched with those of other ranks by operation, group and a number that all of them count alike: the group's
own sequence number where the source says it, else the call's place among those of its operation, group and step.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.columns import Columns
from profkit.trace.intervals import EMPTY, Intervals
from profkit.trace.model import Trace
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

CALLS: dict[str, pl.DataType | type[pl.DataType]] = {
    "operation": pl.String,
    "group": pl.String,  # empty where the source does not say
    "dtype": pl.String,
    "size": pl.Int32,  # ranks of the group
    "step": pl.Int64,  # of a trace without steps −1 − its window
    "number": pl.Int64,  # the sequence number; where none is known −1 − the place in the step
    "start_ns": pl.Int64,
    "end_ns": pl.Int64,
    "bytes": pl.Int64,
    "exposed_ns": pl.Int64,  # of the call, while nothing is computed
}

# What the sources' names of an operation have in common; the first that is found in a name decides.
_OPERATIONS = {
    "collectivereduce": "all_reduce",  # TensorFlow's
    "collectivegather": "all_gather",
    "collectivebcast": "broadcast",
    **{name.replace("_", ""): name for name in ("all_reduce", "all_gather", "reduce_scatter", "all_to_all")},
    "alltoall": "all_to_all",
    "collectivepermute": "permute",
    "sendrecv": "send_recv",
    **{name: name for name in ("broadcast", "barrier", "gather", "scatter", "reduce", "send", "recv")},
}
# In these no rank is through before the last one has arrived; elsewhere a root may leave early, or come late.
SYMMETRIC = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "barrier")


class _Args(msgspec.Struct, gc=False):
    """What a reader says of a collective beside its span, in torch's words; numbers may stand in quotes."""

    operation: Any = msgspec.field(default=None, name="Collective name")
    group: Any = msgspec.field(default=None, name="Process Group Name")
    ranks: Any = msgspec.field(default=None, name="Process Group Ranks")
    size: Any = msgspec.field(default=None, name="Group size")
    dtype: Any = None
    sequence: Any = msgspec.field(default=None, name="Seq")


def communicating(trace: Trace, columns: Columns) -> Bools:
    """Rows in which a collective is carried out: a device's, a worker thread's of gloo or MPI, an executor's."""
    by_executor = columns.executor_work & Words(trace.spans["op_class"]).among("communication")
    return columns.kind("collective") | by_executor


def collectives(trace: Trace, columns: Columns, computed: Intervals = EMPTY) -> pl.DataFrame:
    """The calls of one trace in order of time, with the columns of CALLS; `computed`: when something is computed.

    Left out are calls outside steps where there are steps, and those of the first step where there are others: ranks
    enter a window as late as starting their profilers takes, which no later step shows.
    """
    rows = np.flatnonzero(communicating(trace, columns))
    step = trace.spans["step"].gather(rows).cast(pl.Int64).fill_null(-1 - trace.info.window)
    judged = judged_steps(trace, columns)
    if len(judged):
        inside = np.isin(step.to_numpy(), judged)
        rows, step = rows[inside], step.filter(inside)
    order = np.argsort(columns.start[rows], kind="stable")
    rows, step = rows[order], step.gather(order)
    start, end = columns.start[rows], columns.end[rows]
    calls = _said(trace, rows).with_columns(
        step.alias("step"),
        pl.Series("start_ns", start),
        pl.Series("end_ns", end),
        pl.Series("exposed_ns", end - start - computed.covered(start, end)),
        trace.spans["bytes"].gather(rows).alias("bytes"),
    )
    return _numbered(calls)


def judged_steps(trace: Trace, columns: Columns) -> Ints:
    """Numbers of the steps whose collectives count: all but the first, unless that is the only one."""
    numbers = trace.spans["step"].gather(np.flatnonzero(columns.kind("step"))).drop_nulls().unique().sort()
    return numbers.to_numpy()[1 if len(numbers) > 1 else 0 :].astype(np.int64)


def _said(trace: Trace, rows: Ints) -> pl.DataFrame:
    """Operation, group, dtype, size and sequence number of each row, as far as its arguments and its name say them."""
    joined = ",".join(text or "{}" for text in trace.spans["args"].gather(rows).to_list())
    args = msgspec.json.decode(f"[{joined}]", type=list[_Args])
    said = pl.DataFrame(
        {name: [None if (value := getattr(a, name)) is None else str(value) for a in args] for name in _FIELDS},
        schema=dict.fromkeys(_FIELDS, pl.String),
    )
    called = said["operation"].fill_null(trace.spans["name"].gather(rows).cast(pl.String))
    size = pl.col("size").cast(pl.Int32, strict=False)
    # Groups that are not all ranks lie side by side and may share a name: their ranks tell them apart.
    ranks = pl.when(size < trace.info.world_size).then(pl.col("ranks")).fill_null("")
    return said.select(
        pl.Series("operation", [operation(name) for name in called.to_list()], dtype=pl.String),
        pl.concat_str(pl.col("group").fill_null(""), ranks, separator=" ").str.strip_chars().alias("group"),
        "dtype",
        size,
        pl.col("sequence").cast(pl.Int64, strict=False),
    )


_FIELDS = _Args.__struct_fields__


@cache
def operation(name: str) -> str:
    """What a collective is called by any source, in one word: `ncclDevKernel_AllReduce_Sum_f32_RING_LL` all_reduce."""
    letters = re.sub(r"[^a-z]", "", name.lower())
    known = next((word for part, word in _OPERATIONS.items() if part in letters), None)
    return known or name.split("(")[0]


def _numbered(calls: pl.DataFrame) -> pl.DataFrame:
    place = pl.int_range(pl.len()).over("operation", "group", "step")
    number = pl.coalesce("sequence", -1 - place)
    return calls.with_columns(number.alias("number")).select(pl.col(name).cast(kind) for name, kind in CALLS.items())
