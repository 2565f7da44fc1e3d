"""Columns of the common trace, format version 1. docs/format.md tells users what each one means.

Times are integer nanoseconds since the Unix epoch, sizes integer bytes; a name carries its unit.
"""

import polars as pl

FORMAT_VERSION = 1

WORD = pl.Categorical  # dictionary-encoded strings: a new word never breaks an old file

SPANS: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.UInt32,
    "start_ns": pl.Int64,
    "duration_ns": pl.Int64,
    "name": WORD,
    "kind": WORD,
    "track": pl.UInt32,
    "depth": pl.UInt16,
    "parent": pl.UInt32,
    "self_ns": pl.Int64,
    "step": pl.Int32,
    "phase": WORD,
    "op_class": WORD,
    "shapes": WORD,
    "dtypes": WORD,
    "module": WORD,
    "stack": WORD,
    "source": WORD,
    "flops": pl.Int64,
    "bytes": pl.Int64,
    "correlation": pl.Int64,
    # What a file in the source's own format needs besides, to be given back without loss:
    "category": WORD,  # the source's own word for the kind
    "args": WORD,  # JSON object of the source's arguments that have no column; never argument values
}

TRACKS: dict[str, pl.DataType | type[pl.DataType]] = {
    "id": pl.UInt32,
    "name": pl.String,
    "kind": WORD,
    "pid": pl.Int64,
    "tid": pl.Int64,
    "host": pl.String,
    "rank": pl.Int32,
    "device": pl.String,
}

LINKS: dict[str, pl.DataType | type[pl.DataType]] = {
    "from_id": pl.UInt32,
    "to_id": pl.UInt32,
    "kind": WORD,
}

MEMORY: dict[str, pl.DataType | type[pl.DataType]] = {
    "time_ns": pl.Int64,
    "track": pl.UInt32,
    "device": WORD,
    "address": pl.UInt64,
    "bytes": pl.Int64,
    "allocated_bytes": pl.Int64,
    "reserved_bytes": pl.Int64,
    "step": pl.Int32,
    "span": pl.UInt32,
}

STEPS: dict[str, pl.DataType | type[pl.DataType]] = {
    "number": pl.Int32,
    "start_ns": pl.Int64,
    "end_ns": pl.Int64,
    "wait_ns": pl.Int64,  # waiting for batches, start-up left out
    "startup_ns": pl.Int64,  # making iterators and their first batches
    "excluded_ns": pl.Int64,  # before the pass over the loader began: evaluation, checkpoints
    "batches": pl.Int32,
    "source": WORD,
    "window": pl.Int32,  # the window that recorded it, or null
    "steady": pl.Boolean,  # not the first of an epoch, nothing excluded
    "own_ns": pl.Int64,  # what profkit took, by its own clock
}

COUNTERS: dict[str, pl.DataType | type[pl.DataType]] = {
    "time_ns": pl.Int64,
    "track": WORD,
    "name": WORD,
    "unit": WORD,
    "value": pl.Float64,
}

SPAN_KINDS = (
    *("step", "op", "kernel", "memcpy", "memset", "collective", "runtime", "python", "module"),
    *("data_wait", "data_work", "annotation", "compile", "gc", "sync"),
)


def empty(columns: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """A table with these columns and no row."""
    return pl.DataFrame(schema=columns)
