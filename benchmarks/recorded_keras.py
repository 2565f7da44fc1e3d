"""Keras's `fit` with and without a run, in a process of its own: `python -m benchmarks.recorded_keras FOLDER COUNT`.

Prints one line of JSON: wall microseconds per step of COUNT triples of epochs, and profkit's own clocked nanoseconds.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import profkit
from profkit.trace.load import load

STEPS = 200  # of an epoch
BATCH, FEATURES = 32, 64
NEVER = profkit.schedule(skip_first=10**9)


def fit_of(data: Any) -> Callable[[], float]:
    """A model of its own, compiled at its first call; each call is an epoch, in microseconds per step."""
    import keras

    dense = keras.layers.Dense
    model = keras.Sequential([keras.Input((FEATURES,)), dense(64, "relu"), dense(64, "relu"), dense(1)])
    model.compile("sgd", "mse")
    times: list[float] = []

    class Clock(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            times.append(time.perf_counter())

    def epoch() -> float:
        times.clear()
        model.fit(data, verbose=0, callbacks=[Clock()])
        return (times[-1] - times[0]) / (len(times) - 1) * 1e6

    return epoch


def measured(folder: str, count: int) -> dict[str, Any]:
    """Triples in random order: bare, recorded with the clock in the graph, bare again. The first ones compile."""
    import tensorflow as tf

    rows = tf.random.normal((STEPS * BATCH, FEATURES))
    data = tf.data.Dataset.from_tensor_slices((rows, rows[:, :1])).batch(BATCH).cache().prefetch(4)
    bare, timed, own = fit_of(data), fit_of(data), list[int]()

    def recorded() -> float:
        with profkit.profile(folder, schedule=NEVER, sidecar=False, quiet=True) as run:
            seen = timed()
        own.extend(load(run.folder).steps.filter(steady=True)["own_ns"].to_list())
        return seen

    kinds: dict[str, Callable[[], float]] = {"bare": bare, "recorded": recorded, "bare again": bare}
    for work in kinds.values():
        work()
    own.clear()
    times: dict[str, list[float]] = {name: [] for name in kinds}
    for _ in range(count):
        for name in random.sample(list(kinds), len(kinds)):
            times[name].append(kinds[name]())
    return {"step_us": times, "own_ns": own}


if __name__ == "__main__":
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    import keras  # noqa: F401  # before the run: it attaches to what the program has imported

    print(json.dumps(measured(sys.argv[1], int(sys.argv[2]))))
