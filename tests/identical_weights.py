"""Seeded trainings in TensorFlow and Keras whose final weights are compared: the program tests run.

python -m tests.identical_weights <training> <log folder or "">: trains, inside a run where a folder is given, and
prints a hash of the final weights and of the random numbers that come next, and the number of waits recorded.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

BATCH, FEATURES, CLASSES, BATCHES = 8, 12, 3, 20


def arrays() -> tuple[Any, Any]:
    """Features and labels, the same every time."""
    import numpy as np

    random = np.random.default_rng(7)
    count = BATCH * BATCHES
    return random.normal(size=(count, FEATURES)).astype("float32"), random.integers(0, CLASSES, count)


def keras_fit() -> Any:
    """`fit` with dropout, shuffling and validation, for two epochs."""
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential(
        [
            keras.Input((FEATURES,)),
            keras.layers.Dense(16, "relu"),
            keras.layers.Dropout(0.5),
            keras.layers.Dense(CLASSES),
        ]
    )
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.01), loss)
    features, labels = arrays()
    history = model.fit(features, labels, batch_size=BATCH, epochs=2, validation_split=0.2, verbose=0)
    return [*model.get_weights(), *history.history.values()]


def keras_train_on_batch() -> Any:
    """A loop of one's own."""
    import keras

    keras.utils.set_random_seed(3)
    model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dropout(0.5), keras.layers.Dense(CLASSES)])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    features, labels = arrays()
    losses = [
        model.train_on_batch(features[at : at + BATCH], labels[at : at + BATCH])
        for at in range(0, len(features), BATCH)
    ]
    return [*model.get_weights(), losses]


def tf_seeded_graph() -> Any:
    """The compiled step asks the iterator and draws stateful random numbers, whose seeds the graph counts."""
    import tensorflow as tf

    tf.random.set_seed(5)
    weights = tf.Variable(tf.random.normal((FEATURES, CLASSES)))

    @tf.function
    def step(iterator: Any) -> None:
        noise = tf.random.normal((BATCH, FEATURES))
        features, _ = next(iterator)
        mixed = features + 0.1 * noise + 0.1 * tf.random.uniform((BATCH, FEATURES))
        weights.assign_sub(0.01 * tf.matmul(mixed, tf.tanh(mixed @ weights), transpose_a=True))

    features, labels = arrays()
    data = tf.data.Dataset.from_tensor_slices((features, labels)).shuffle(64).batch(BATCH)
    for _ in range(2):
        iterator = iter(data)
        for _ in range(BATCHES):
            step(iterator)
    return [weights.numpy(), tf.random.normal((4,)).numpy()]


def tf_determinism_required_later() -> Any:
    """Deterministic operators are required in the middle of the training, when its step is compiled already."""
    import tensorflow as tf

    weights = tf.Variable(tf.ones((FEATURES, CLASSES)))

    @tf.function
    def step(iterator: Any) -> None:
        features, _ = next(iterator)
        weights.assign_sub(0.01 * tf.matmul(features, tf.tanh(features @ weights), transpose_a=True))

    features, labels = arrays()
    iterator = iter(tf.data.Dataset.from_tensor_slices((features, labels)).batch(BATCH))
    for number in range(BATCHES):
        if number == BATCHES // 2:
            tf.config.experimental.enable_op_determinism()
        step(iterator)
    return [weights.numpy()]


def tf_loop_in_graph() -> Any:
    """The whole pass is one compiled loop over the iterator."""
    import tensorflow as tf

    tf.random.set_seed(5)
    weights = tf.Variable(tf.ones((FEATURES, CLASSES)))

    @tf.function
    def one_pass(iterator: Any) -> None:
        for features, _ in iterator:
            noisy = features + 0.1 * tf.random.normal((BATCH, FEATURES))
            weights.assign_sub(0.01 * tf.matmul(noisy, tf.tanh(noisy @ weights), transpose_a=True))

    features, labels = arrays()
    for _ in range(3):
        one_pass(iter(tf.data.Dataset.from_tensor_slices((features, labels)).shuffle(64).batch(BATCH)))
    return [weights.numpy(), tf.random.normal((4,)).numpy()]


TRAININGS: dict[str, Callable[[], Any]] = {
    "keras_fit": keras_fit,
    "keras_train_on_batch": keras_train_on_batch,
    "tf_seeded_graph": tf_seeded_graph,
    "tf_loop_in_graph": tf_loop_in_graph,
    "tf_determinism_required_later": tf_determinism_required_later,
}


def main() -> None:
    """Train and print the hash."""
    name, logdir = sys.argv[1:]
    backend, _, training = name.rpartition(":")
    if backend:
        os.environ["KERAS_BACKEND"] = backend
        import keras  # noqa: F401
    else:
        import tensorflow  # noqa: F401
    import numpy as np

    import profkit

    plan = profkit.schedule(skip_first=2, warmup=1, active=4)
    around: Any = profkit.profile(logdir, schedule=plan, sidecar=False, quiet=True) if logdir else nullcontext()
    with around:
        result = TRAININGS[training]()
    digest = hashlib.sha256(b"".join(np.asarray(part).tobytes() for part in result)).hexdigest()
    print(json.dumps({"weights": digest, "waits": _waits(around.folder) if logdir else 0}))


def _waits(folder: Path) -> int:
    from profkit.capture import read_capture

    return len(read_capture(folder / "plugins" / "profkit" / "capture").waits)


if __name__ == "__main__":
    main()
