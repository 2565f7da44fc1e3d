"""What TensorFlow's profiler writes today, recorded in a process of its own: `python -m tests.tensorflow_files FOLDER`.

Below the folder, one folder for each recording: `level1`, `level2`, `level3` and `python` hold three marked steps
each, `keras` the batches 2 to 4 of a fit under Keras's own callback.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

STEPS = 3
KERAS_STEPS = (2, 4)
BATCH, SIDE = 64, 32  # large enough for the allocator to report it
RECORDINGS = {"level1": (1, 0), "level2": (2, 0), "level3": (3, 0), "python": (2, 1)}  # host and Python levels


class Level(int):
    """A level that TensorFlow 2.20 and 2.21 obey: they take an int for a bool first, and every int is a level of 2."""

    def __bool__(self) -> bool:
        raise TypeError("a level is no yes or no")


def record(folder: Path) -> None:
    """Write all recordings."""
    import keras
    import tensorflow as tf

    network = [keras.layers.Conv2D(16, 3), keras.layers.Flatten(), keras.layers.Dense(1)]
    model = keras.Sequential([keras.Input((SIDE, SIDE, 3)), *network])
    model.compile("sgd", "mse")
    images, values = tf.zeros((BATCH * 6, SIDE, SIDE, 3)), tf.zeros((BATCH * 6, 1))
    data = tf.data.Dataset.from_tensor_slices((images, values)).map(lambda x, y: (x + 1.0, y)).batch(BATCH)
    callback = keras.callbacks.TensorBoard(folder / "keras", profile_batch=KERAS_STEPS, write_graph=False)
    model.fit(data, callbacks=[callback], verbose=0)
    for name, levels in RECORDINGS.items():
        _record_steps(tf, folder / name, levels, model, data)


def _record_steps(tf: Any, folder: Path, levels: tuple[int, int], model: Any, data: Any) -> None:
    """Steps of the training that Keras compiled, on an iterator of our own: the graph asks it for its batch."""
    step = model.make_train_function()
    batches = iter(data.repeat())
    step(batches)
    host, python = levels
    options = tf.profiler.experimental.ProfilerOptions(Level(host), Level(python), Level(1))
    tf.profiler.experimental.start(str(folder), options=options)
    for number in range(STEPS):
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            step(batches)
    tf.profiler.experimental.stop()


if __name__ == "__main__":
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"  # its allocator is the one on a CPU that reports what it does
    record(Path(sys.argv[1]))
