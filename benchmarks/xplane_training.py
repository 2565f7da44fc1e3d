"""Record a training with TensorFlow's profiler at host level 3: `python -m benchmarks.xplane_training FOLDER STEPS`.

Prints one line of JSON: the file. A small convolutional network is fed by tf.data; every step is marked for XProf.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

IMAGES, SIDE, CLASSES, BATCH = 512, 28, 10, 32


class Level(int):
    """A level that TensorFlow 2.20 and 2.21 obey: they take an int for a bool first, and every int is a level of 2."""

    def __bool__(self) -> bool:
        raise TypeError("a level is no yes or no")


def record(folder: str, steps: int, host_level: int = 3) -> Path:
    """Train, with the profiler on after the first step, and return the XPlane file."""
    import tensorflow as tf

    step, batches = _training(tf), iter(_batches(tf))
    step(batches)  # traces the function
    options = tf.profiler.experimental.ProfilerOptions(Level(host_level), Level(0), Level(1))
    tf.profiler.experimental.start(folder, options=options)
    for number in range(steps):
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            step(batches)
    tf.profiler.experimental.stop()
    return next(Path(folder).rglob("*.xplane.pb"))


def _batches(tf: Any) -> Any:
    images = tf.random.normal((IMAGES, SIDE, SIDE, 1))
    labels = tf.random.uniform((IMAGES,), 0, CLASSES, tf.int64)
    return (
        tf.data.Dataset.from_tensor_slices((images, labels))
        .repeat()
        .shuffle(64)
        .map(lambda image, label: (image * 2.0, label), num_parallel_calls=2)
        .batch(BATCH)
        .prefetch(2)
    )


def _training(tf: Any) -> Any:
    """The function that makes one step with the next of some batches."""
    from keras import Input, Sequential, layers, losses, optimizers

    convolutions = (layers.Conv2D(8, 3, activation="relu"), layers.MaxPooling2D(), layers.Conv2D(16, 3))
    model = Sequential([Input((SIDE, SIDE, 1)), *convolutions, layers.Flatten(), layers.Dense(CLASSES)])
    loss_of, optimizer = losses.SparseCategoricalCrossentropy(from_logits=True), optimizers.Adam()
    optimizer.build(model.trainable_variables)

    @tf.function  # type: ignore[untyped-decorator]  # TensorFlow ships no types
    def step(batches: Iterator[Any]) -> Any:
        images, labels = next(batches)
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        optimizer.apply_gradients(
            zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables, strict=True)
        )
        return loss

    return step


if __name__ == "__main__":
    os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow", "CUDA_VISIBLE_DEVICES": "-1"}
    print(json.dumps({"file": str(record(sys.argv[1], int(sys.argv[2])))}))
