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

# Every batch the training loop got, with the way it came; docs/definitions.md draws it. What the loader's own
# processes did is null where nobody looked inside it; `_ns` that are moments are Unix time.
BATCHES: dict[str, pl.DataType | type[pl.DataType]] = {
    "loader": pl.Int32,  # its number in the run
    "loop": pl.Int32,  # the pass over it, from 0
    "index": pl.Int32,  # of the batch in its pass, as the loader counts
    "asked_ns": pl.Int64,
    "came_ns": pl.Int64,
    "first": pl.Boolean,  # the first that came in its pass
    "step": pl.Int32,  # that consumed it
    "worker": pl.Int32,  # null: the training process itself
    "ready": pl.Int32,  # batches that were ready when this one was asked for
    "outstanding": pl.Int32,  # batches ordered from workers by then, this one included
    "sampler_ns": pl.Int64,  # taking indices from the sampler, within the wait
    "dispatched_ns": pl.Int64,  # its indices were given to the worker
    "fetch_start_ns": pl.Int64,
    "fetch_end_ns": pl.Int64,
    "item_ns": pl.Int64,  # of the fetch: getting the samples from the dataset
    "collate_ns": pl.Int64,  # of the fetch: making one batch of them
    "cpu_ns": pl.Int64,  # of the fetch: its thread ran on a core
    "run_queue_ns": pl.Int64,  # of the fetch: its thread could have run, and no core was free
    "read_chars": pl.Int64,  # bytes the process read by system calls during the fetch
    "read_bytes": pl.Int64,  # bytes of these that storage had to deliver
    "slowest_ns": pl.Int64,  # the slowest sample of the batch, and its index in the dataset
    "slowest_index": pl.Int64,
    "pickle_start_ns": pl.Int64,  # in the worker's feeder thread
    "pickle_end_ns": pl.Int64,
    "unpickle_start_ns": pl.Int64,  # in the training process, in its pin thread where there is one
    "unpickle_end_ns": pl.Int64,
    "pin_start_ns": pl.Int64,
    "pin_end_ns": pl.Int64,
    "received_ns": pl.Int64,  # the training loop took it from the queue; it may be held until its turn
    "consumer_cpu_ns": pl.Int64,  # the training thread between the batch before and this request: on a core
    "consumer_run_queue_ns": pl.Int64,  # the same: waiting for a core
    "worker_cpu_ns": pl.Int64,  # CPU time of the whole worker process until the fetch began
    "process_cpu_ns": pl.Int64,  # CPU time of the training process until the batch was asked for
}

# Single samples, where the dataset hands them out one by one: the first fetches of every worker, then the slow ones.
SAMPLES: dict[str, pl.DataType | type[pl.DataType]] = {
    "loader": pl.Int32,
    "worker": pl.Int32,
    "pid": pl.Int64,
    "fetch_start_ns": pl.Int64,  # of the batch, as in BATCHES
    "index": pl.Int64,  # in the dataset; of an iterable one, the count of samples; null if it is no integer
    "duration_ns": pl.Int64,
}

SPAN_KINDS = (
    *("step", "op", "kernel", "memcpy", "memset", "collective", "runtime", "python", "module"),
    *("data_wait", "data_work", "annotation", "compile", "gc", "sync"),
)


def empty(columns: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    """A table with these columns and no row."""
    return pl.DataFrame(schema=columns)
