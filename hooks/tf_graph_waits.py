"""How long a compiled graph waits for its batches: a clock inside the graph.

In `model.fit`, and wherever a `tf.function` asks an iterator itself, Python sees nothing of the wait. So while a graph
is being traced, operators are added that read the clock before and behind its request and write both into a variable,
which Python reads now and then. What the training computes stays as it is, and so do the seeds of its random operators,
which TensorFlow counts per random operator (older versions did per operator of the graph; there nothing is added).

A compiled function outlives the run, so its clock has a switch, off unless a run is active. Where deterministic
operators are required TensorFlow has neither a clock nor such a variable: then Python's clock is called from the graph
instead, which is dearer, for it may have to wait for Python's lock. Where they are required later the switch is thrown.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import config, random_seed

from profkit.recorder import Recorder

T = TypeVar("T")

SLOTS = 256  # waits kept between two readings; the row behind them counts them
CPU = "CPU:0"
# For the life of the process, and by name: a function compiled in one run goes on writing in the next ones.
TABLE = {"dtype": tf.float64, "shape": [SLOTS + 1, 2], "shared_name": "profkit_graph_waits", "container": ""}
SWITCH = {"dtype": tf.bool, "shape": [], "shared_name": "profkit_graph_clock", "container": ""}

_graphs = 0  # with a clock inside, in this process
_called: list[tuple[float, float]] = []  # what Python's clock was asked, in seconds since the epoch


class GraphWaits:
    """The waits in every graph traced since the process's first run, while this object is switched on."""

    def __init__(self, recorder: Recorder) -> None:
        """Switch on."""
        self._recorder = recorder
        with tf.device(CPU):
            self._table = tf.raw_ops.VarHandleOp(**TABLE)
            if not tf.raw_ops.VarIsInitializedOp(resource=self._table):
                zeros = tf.zeros(TABLE["shape"], tf.float64)
                tf.raw_ops.AssignVariableOp(resource=self._table, value=zeros)
        self._seen = int(self._read()[SLOTS, 0])
        self._enable = config._pywrap_determinism.enable
        config._pywrap_determinism.enable = self._watched(self._enable)
        _switch(not config.is_op_determinism_enabled())
        _called.clear()

    def stop(self) -> None:
        """Switch off."""
        config._pywrap_determinism.enable = self._enable
        _switch(False)

    @property
    def in_use(self) -> bool:
        """Whether any graph has a clock inside."""
        return _graphs > 0

    def timed(self, request: Callable[[], T], *, in_a_loop: bool) -> T:
        """What `request` adds to the graph being traced, with the clock around it.

        `in_a_loop`: the result waits for the clock's reading, since nothing else keeps the rounds of a loop in order.
        """
        clock = PythonClock if config.is_op_determinism_enabled() else GraphClock
        began = self._recorder.guard(clock.begin)
        with nullcontext() if began is None else tf.control_dependencies([began]):
            result = request()
        if began is None:
            return result
        written = self._recorder.guard(self._end, clock, began, result)
        behind = self._recorder.guard(_behind, written, result) if in_a_loop and written is not None else None
        return result if behind is None else behind

    def take(self) -> list[tuple[int, int]]:
        """Start (unix ns) and duration (ns) of the waits since the last time, oldest first, at most SLOTS."""
        values = self._read()
        count = int(values[SLOTS, 0])
        new = np.arange(max(self._seen, count - SLOTS), count) % SLOTS
        self._seen = count
        called, _called[:] = _called[:], []
        return [(int(began * 1e9), max(0, int((ended - began) * 1e9))) for began, ended in (*values[new], *called)]

    def _end(self, clock: type[Clock], began: Any, result: Any) -> Any:
        """The operator that writes the wait down once all of `result` is there."""
        global _graphs
        _graphs += 1
        arrived = [getattr(part, "_variant_tensor", part) for part in tf.nest.flatten(result, expand_composites=True)]
        with tf.control_dependencies(arrived):
            return clock.end(began)

    def _read(self) -> Any:
        return tf.raw_ops.ReadVariableOp(resource=self._table, dtype=tf.float64).numpy()

    def _watched(self, enable: Callable[[bool], None]) -> Callable[[bool], None]:
        @functools.wraps(enable)
        def enable_determinism(enabled: bool) -> None:
            if enabled:
                self._recorder.guard(_switch, False)  # before it is required: the operators would fail from then on
            enable(enabled)

        return enable_determinism


class Clock:
    """A clock whose readings are operators of a graph, in seconds since the epoch."""

    @staticmethod
    def begin() -> Any:
        """The operator that reads the clock; 0 while it is switched off."""

    @staticmethod
    def end(began: Any) -> Any:
        """The operator that reads it again, and writes both down unless `began` is 0."""


class GraphClock(Clock):
    """TensorFlow's own, read by its executor."""

    @staticmethod
    def begin() -> Any:
        with tf.device(CPU):
            switched_on = tf.raw_ops.ReadVariableOp(resource=tf.raw_ops.VarHandleOp(**SWITCH), dtype=tf.bool)
            return tf.cond(switched_on, tf.timestamp, lambda: tf.constant(0.0, tf.float64))

    @staticmethod
    def end(began: Any) -> Any:
        with tf.device(CPU):
            return tf.cond(began > 0, lambda: _write(began), lambda: tf.constant(False))


class PythonClock(Clock):
    """Python's, called by TensorFlow."""

    @staticmethod
    def begin() -> Any:
        return tf.numpy_function(time.time, [], tf.float64)

    @staticmethod
    def end(began: Any) -> Any:
        return tf.numpy_function(_call, [began], tf.bool)


def seeds_are_counted_per_random_operator() -> bool:
    """Whether operators that are added to a graph leave the seeds of the others alone."""
    return hasattr(random_seed, "_graph_to_seed_dict")


def _call(began: Any) -> Any:
    _called.append((float(began), time.time()))
    del _called[:-SLOTS]
    return np.True_


def _write(began: Any) -> Any:
    """One row for the wait, and the count behind the rows."""
    table = tf.raw_ops.VarHandleOp(**TABLE)
    ended = tf.timestamp()
    count = tf.raw_ops.ResourceGather(resource=table, indices=SLOTS, dtype=tf.float64)[0]
    rows = tf.stack([tf.cast(count, tf.int64) % SLOTS, SLOTS])
    written = tf.raw_ops.ResourceScatterUpdate(resource=table, indices=rows, updates=[[began, ended], [count + 1, 0.0]])
    with tf.control_dependencies([written]):
        return tf.constant(True)


def _switch(on: bool) -> None:
    with tf.device(CPU):
        tf.raw_ops.AssignVariableOp(resource=tf.raw_ops.VarHandleOp(**SWITCH), value=tf.constant(on))


def _behind(written: Any, result: Any) -> Any:
    """`result`, available once `written` is done."""
    with tf.control_dependencies([written]):
        return tf.nest.map_structure(tf.identity, result, expand_composites=True)
