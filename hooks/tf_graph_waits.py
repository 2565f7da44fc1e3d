"""How long a compiled graph waits for its batches: a clock inside the graph.

In `model.fit`, and wherever a `tf.function` asks an iterator itself, Python sees nothing of the wait. So while a graph
is being traced, operators are added that read the clock before and behind its request and write both into a variable,
which Python reads now and then. They are two clock readings, a gather and a scatter of a few numbers. What the training
computes stays as it is, and so do the seeds of its random operators, which TensorFlow counts per random operator (older
versions did per operator of the graph; there nothing is added).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import random_seed

from profkit.recorder import Recorder

T = TypeVar("T")

SLOTS = 256  # waits kept between two readings; the row behind them counts them
CPU = "CPU:0"
# For the life of the process, and by name: a function compiled in one run goes on writing in the next ones.
RESOURCE = {"dtype": tf.float64, "shape": [SLOTS + 1, 2], "shared_name": "profkit_graph_waits", "container": ""}


_graphs = 0  # with a clock inside, in this process


class GraphWaits:
    """The waits of every graph traced since the first run, from its making on."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        with tf.device(CPU):
            self._handle = tf.raw_ops.VarHandleOp(**RESOURCE)
            if not tf.raw_ops.VarIsInitializedOp(resource=self._handle):
                zeros = tf.zeros(RESOURCE["shape"], tf.float64)
                tf.raw_ops.AssignVariableOp(resource=self._handle, value=zeros)
        self._seen = int(self._read()[SLOTS, 0])

    @property
    def in_use(self) -> bool:
        """Whether any graph has a clock inside."""
        return _graphs > 0

    def timed(self, request: Callable[[], T], *, in_a_loop: bool) -> T:
        """What `request` adds to the graph being traced, with the clock around it.

        `in_a_loop`: the result waits for the clock's reading, since nothing else keeps the rounds of a loop in order.
        """
        began = self._recorder.guard(_clock)
        with nullcontext() if began is None else tf.control_dependencies([began]):
            result = request()
        if began is None:
            return result
        written = self._recorder.guard(_write, began, result)
        global _graphs
        _graphs += 1
        if written is None or not in_a_loop:
            return result
        return self._recorder.guard(_behind, written, result) or result

    def take(self) -> list[tuple[int, int]]:
        """Start (unix ns) and duration (ns) of the waits since the last time, oldest first, at most SLOTS."""
        values = self._read()
        count = int(values[SLOTS, 0])
        new = np.arange(max(self._seen, count - SLOTS), count) % SLOTS
        self._seen = count
        start_ns = (values[new, 0] * 1e9).astype(np.int64)
        duration_ns = ((values[new, 1] - values[new, 0]) * 1e9).astype(np.int64)
        return list(zip(start_ns.tolist(), np.maximum(duration_ns, 0).tolist(), strict=True))

    def _read(self) -> Any:
        return tf.raw_ops.ReadVariableOp(resource=self._handle, dtype=tf.float64).numpy()


def seeds_are_counted_per_random_operator() -> bool:
    """Whether operators that are added to a graph leave the seeds of the others alone."""
    return hasattr(random_seed, "_graph_to_seed_dict")


def _clock() -> Any:
    """Seconds since the epoch, to a microsecond."""
    with tf.device(CPU):
        return tf.timestamp()


def _write(began: Any, result: Any) -> Any:
    """The operator that writes both readings once all of `result` is there."""
    arrived = tf.nest.flatten(result, expand_composites=True)
    with tf.device(CPU), tf.control_dependencies([getattr(part, "_variant_tensor", part) for part in arrived]):
        ended = tf.timestamp()
        handle = tf.raw_ops.VarHandleOp(**RESOURCE)
        count = tf.raw_ops.ResourceGather(resource=handle, indices=SLOTS, dtype=tf.float64)[0]
        rows = tf.stack([tf.cast(count, tf.int64) % SLOTS, SLOTS])
        values = [[began, ended], [count + 1, 0.0]]
        return tf.raw_ops.ResourceScatterUpdate(resource=handle, indices=rows, updates=values)


def _behind(written: Any, result: Any) -> Any:
    """`result`, available once `written` is done."""
    with tf.control_dependencies([written]):
        return tf.nest.map_structure(tf.identity, result, expand_composites=True)
