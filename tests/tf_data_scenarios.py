"""Trainings whose tf.data pipeline has one planted flaw, or none: the program tests run.

python -m tests.tf_data_scenarios <choosing | judging | clocked> <folder>

All work is real: pictures are decoded, numbers sorted in Python, records unzipped, a model trained. The scenarios of
`choosing` are those the thresholds were chosen with, those of `judging` were not looked at while that was done. A line
of JSON comes out for each: what was planted, and what profkit makes of it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

import profkit
from profkit.analysis.pipelines import pipeline_causes, with_stages, works
from profkit.analysis.summary import report
from profkit.trace.load import load
from profkit.trace.model import Run

FEATURES, BATCHES = 64, 48
AUTOTUNE = tf.data.AUTOTUNE

Elements = Callable[[Any], Any]


@dataclass(frozen=True)
class Scenario:
    """`planted`: the cause, None for a healthy control. `width`: of the model, which makes the step longer."""

    name: str
    planted: str | None
    dataset: Callable[[], tf.data.Dataset]
    width: int = 512
    keras: bool = False


# --- Work --------------------------------------------------------------------------------------------------------


@cache
def pictures(side: int) -> Any:
    """A few JPEG files in memory."""
    noise = np.random.default_rng(0).integers(0, 255, (4, side, side, 3), np.uint8)
    return tf.stack([tf.io.encode_jpeg(picture) for picture in noise])


def decode(side: int) -> Elements:
    """Decode a picture and make it small, in TensorFlow's own operators."""
    files = pictures(side)

    def decoded(number: Any) -> Any:
        picture = tf.io.decode_jpeg(tf.gather(files, number % 4), channels=3)
        small = tf.image.resize(picture, (8, 8))[..., 0] / 255.0
        return tf.reshape(small, (FEATURES,)), tf.cast(number % 2, tf.int64)

    return decoded


def augment(side: int) -> Elements:
    """The same with random changes, for which the function keeps state."""
    decoded = decode(side)

    def augmented(number: Any) -> Any:
        features, label = decoded(number)
        return features * tf.random.uniform((), 0.9, 1.1), label

    return augmented


def multiply(side: int) -> Elements:
    """Products of matrices, each from the one before."""

    def multiplied(number: Any) -> Any:
        matrix = tf.random.stateless_uniform((side, side), (number, number))
        for _ in range(3):
            matrix = tf.linalg.matmul(matrix, matrix) / float(side)
        return tf.reshape(matrix[:8, :8], (FEATURES,)), tf.cast(number % 2, tf.int64)

    return multiplied


def jitter(side: int) -> Elements:
    """The same from a random matrix."""
    multiplied = multiply(side)

    def jittered(number: Any) -> Any:
        return multiplied(number + tf.random.uniform((), 0, 9, tf.int64))

    return jittered


def sort_in_python(count: int) -> np.ndarray[Any, Any]:
    """Pure Python, which holds the interpreter's lock."""
    numbers = sorted((7 * number) % 1_009 for number in range(count))
    return np.full(FEATURES, numbers[0], np.float32)


def call_python(count: int, eager: bool = False) -> Elements:
    """A map function that leaves TensorFlow for Python."""
    leave = tf.py_function if eager else tf.numpy_function

    def called(number: Any) -> Any:
        features = leave(lambda _: sort_in_python(count), [number], tf.float32)
        return tf.ensure_shape(features, (FEATURES,)), tf.cast(number % 2, tf.int64)

    return called


def generated(count: int, size: int = 1) -> tf.data.Dataset:
    """A generator whose elements take Python some time; `size` makes them batches."""

    def elements() -> Iterator[Any]:
        for number in range(4_000):
            features = sort_in_python(count)
            yield (features, number % 2) if size == 1 else (np.tile(features, (size, 1)), np.zeros(size, np.int64))

    shape = () if size == 1 else (size,)
    signature = (tf.TensorSpec((*shape, FEATURES)), tf.TensorSpec(shape, tf.int64))
    return tf.data.Dataset.from_generator(elements, output_signature=signature)


def sorted_arrays(count: int, size: int) -> tf.data.Dataset:
    """A generator of batches whose work is NumPy's, which leaves the lock to others."""

    def elements() -> Iterator[Any]:
        generator = np.random.default_rng(0)
        while True:
            features = np.sort(generator.random(count, np.float32))[:FEATURES]
            yield np.tile(features, (size, 1)), np.zeros(size, np.int64)

    signature = (tf.TensorSpec((size, FEATURES)), tf.TensorSpec((size,), tf.int64))
    return tf.data.Dataset.from_generator(elements, output_signature=signature)


def records(folder: Path, kilobytes: int) -> tf.data.Dataset:
    """Zipped records, read one after the other."""
    path = folder / f"{kilobytes}.tfrecord"
    if not path.exists():
        noise = np.random.default_rng(0).integers(0, 60, kilobytes << 10, np.uint8).tobytes()
        with tf.io.TFRecordWriter(str(path), tf.io.TFRecordOptions(compression_type="GZIP")) as writer:
            for _ in range(64):
                writer.write(noise)

    def shorten(record: Any) -> Any:
        features = tf.cast(tf.io.decode_raw(tf.strings.substr(record, 0, FEATURES), tf.uint8), tf.float32)
        return tf.ensure_shape(features, (FEATURES,)) / 60.0, tf.constant(0, tf.int64)

    return tf.data.TFRecordDataset(str(path), "GZIP").repeat().map(shorten, AUTOTUNE)


def options(**chosen: Any) -> tf.data.Options:
    """Options by dotted name, with two underscores for the dot."""
    made = tf.data.Options()
    for name, value in chosen.items():
        group, _, option = name.partition("__")
        setattr(getattr(made, group), option, value)
    return made


NOT_TUNED = {"autotune__enabled": False}
NOT_AHEAD = {"experimental_optimization__inject_prefetch": False}


def numbers() -> tf.data.Dataset:
    return tf.data.Dataset.range(1_000_000)


# --- Scenarios ---------------------------------------------------------------------------------------------------


def choosing(folder: Path) -> list[Scenario]:
    """Those the thresholds were chosen with."""
    few = options(threading__private_threadpool_size=1)
    bare = options(experimental_optimization__apply_default_optimizations=False)
    return [
        Scenario(
            "generator without a prefetch, not tuned",
            "tf_no_prefetch",
            lambda: generated(1_500).batch(8).with_options(options(**NOT_TUNED)),
        ),
        Scenario(
            "random decoding without a prefetch",
            "tf_no_prefetch",
            lambda: numbers().map(augment(96)).shuffle(8).batch(8).with_options(options(**NOT_AHEAD)),
        ),
        Scenario(
            "random decoding in a serial map",
            "tf_serial_map",
            lambda: numbers().map(augment(256)).batch(8).prefetch(2),
        ),
        Scenario(
            "random decoding in a serial map, keras",
            "tf_serial_map",
            lambda: numbers().map(augment(256)).shuffle(16).batch(8).prefetch(AUTOTUNE),
            keras=True,
        ),
        Scenario(
            "numpy_function on all threads",
            "tf_py_function",
            lambda: numbers().map(call_python(8_000), AUTOTUNE).batch(8).prefetch(2),
        ),
        Scenario(
            "one private thread",
            "tf_parallelism_capped",
            lambda: numbers().map(decode(256), AUTOTUNE).batch(8).prefetch(2).with_options(few),
        ),
        Scenario("slow generator", "tf_slow_source", lambda: generated(8_000).batch(8).prefetch(2)),
        Scenario(
            "slow decoding on all threads",
            "tf_slow_stage",
            lambda: numbers().map(decode(384), AUTOTUNE).batch(8).prefetch(2),
        ),
        Scenario(
            "shuffle of decoded pictures, filled anew every 16 batches",
            "tf_shuffle_buffer",
            lambda: numbers().take(128).map(decode(256), AUTOTUNE).shuffle(128).batch(8).repeat().prefetch(2),
            width=1_024,
        ),
        Scenario("large zipped records", "tf_slow_source", lambda: records(folder, 384).batch(6).prefetch(2)),
        Scenario(
            "zipped records without any rewriting",
            "tf_slow_source",
            lambda: records(folder, 64).batch(12).with_options(bare),
        ),
        Scenario("arrays in memory", None, lambda: numbers().map(multiply(8)).batch(8).prefetch(2), width=1_024),
        Scenario("nothing but a map", None, lambda: numbers().map(decode(32)).batch(8), width=1_024),
        Scenario("small numpy_function", None, lambda: numbers().map(call_python(20)).batch(4), width=1_024),
        Scenario("light serial random map", None, lambda: numbers().map(jitter(8)).batch(4).prefetch(1), width=1_024),
        Scenario("light generator, keras", None, lambda: generated(20, 8), width=1_024, keras=True),
        Scenario(
            "one private thread with little to do",
            None,
            lambda: numbers().map(decode(16), AUTOTUNE).batch(8).with_options(few),
            width=1_024,
        ),
        Scenario(
            "batches shuffled, cached, keras",
            None,
            lambda: numbers().take(256).map(decode(32)).batch(8).cache().shuffle(8).repeat(),
            width=1_024,
            keras=True,
        ),
        Scenario(
            "a light pipeline without a prefetch",
            None,
            lambda: numbers().map(multiply(8)).shuffle(64).batch(8).with_options(options(**NOT_AHEAD)),
            width=1_024,
        ),
        Scenario("small records", None, lambda: records(folder, 1).batch(8), width=1_024),
    ]


def judging(folder: Path) -> list[Scenario]:
    """Those that were looked at once the thresholds stood."""
    few = options(threading__private_threadpool_size=1)
    serial = options(experimental_optimization__map_parallelization=False)
    bare = options(experimental_optimization__apply_default_optimizations=False)
    ahead, tuned = options(**NOT_AHEAD), options(**NOT_TUNED)
    with_state = jitter(256)
    return [
        Scenario(
            "random products without a prefetch",
            "tf_no_prefetch",
            lambda: numbers().map(jitter(96)).shuffle(32).batch(16).with_options(ahead),
        ),
        Scenario(
            "batches of a generator without a prefetch, not tuned, keras",
            "tf_no_prefetch",
            lambda: generated(9_000, 8).with_options(tuned),
            keras=True,
        ),
        Scenario(
            "random products in a serial map", "tf_serial_map", lambda: numbers().map(with_state).batch(4).prefetch(4)
        ),
        Scenario(
            "random products in a serial map, keras",
            "tf_serial_map",
            lambda: numbers().shuffle(100).map(with_state).batch(5).prefetch(1),
            keras=True,
        ),
        Scenario(
            "decoding that is not to be made parallel",
            "tf_serial_map",
            lambda: numbers().map(decode(320)).batch(6).prefetch(AUTOTUNE).with_options(serial),
        ),
        Scenario(
            "py_function in a serial map, keras",
            "tf_py_function",
            lambda: numbers().map(call_python(15_000, eager=True)).batch(6).prefetch(2),
            keras=True,
        ),
        Scenario(
            "numpy_function with two calls at once",
            "tf_py_function",
            lambda: numbers().map(call_python(6_000), 2).shuffle(64).batch(16).prefetch(4),
        ),
        Scenario(
            "one call at once", "tf_parallelism_capped", lambda: numbers().map(multiply(224), 1).batch(8).prefetch(2)
        ),
        Scenario(
            "one private thread, keras",
            "tf_parallelism_capped",
            lambda: numbers().map(decode(300)).shuffle(10).batch(8).prefetch(2).with_options(few),
            keras=True,
        ),
        Scenario(
            "wide random products without any rewriting",
            "tf_no_prefetch",
            lambda: numbers().map(jitter(128)).shuffle(9).batch(10).with_options(bare),
        ),
        Scenario(
            "two files of zipped records",
            "tf_slow_source",
            lambda: records(folder, 256).concatenate(records(folder, 256)).batch(10).prefetch(2),
        ),
        Scenario(
            "generator of sorted arrays, keras",
            "tf_slow_source",
            lambda: sorted_arrays(1_200_000, 8).map(lambda x, y: (x * 2.0, y), AUTOTUNE),
            keras=True,
        ),
        Scenario(
            "large products on all threads, keras",
            "tf_slow_stage",
            lambda: numbers().map(multiply(320), AUTOTUNE).batch(8).prefetch(2),
            keras=True,
        ),
        Scenario(
            "shuffle of a generator's numbers, filled anew every 16 batches, keras",
            "tf_shuffle_buffer",
            lambda: generated(6_000).take(96).shuffle(96).batch(6).repeat().prefetch(2),
            width=768,
            keras=True,
        ),
        Scenario("products", None, lambda: numbers().map(multiply(12), AUTOTUNE).batch(6).prefetch(4), width=1_024),
        Scenario(
            "products, keras", None, lambda: numbers().map(multiply(12)).shuffle(32).batch(6), width=1_024, keras=True
        ),
        Scenario(
            "small py_function, keras",
            None,
            lambda: numbers().map(call_python(30, eager=True), AUTOTUNE).batch(3).prefetch(2),
            width=1_280,
            keras=True,
        ),
        Scenario("small generator of batches", None, lambda: generated(50, 12), width=1_024),
        Scenario(
            "light random decoding", None, lambda: numbers().map(augment(24)).batch(6).prefetch(AUTOTUNE), width=1_024
        ),
        Scenario(
            "light random decoding, keras",
            None,
            lambda: numbers().map(augment(24)).shuffle(24).batch(6).prefetch(2),
            width=1_024,
            keras=True,
        ),
        Scenario(
            "one call at once, little to do",
            None,
            lambda: numbers().map(decode(20), 1).batch(5).prefetch(2),
            width=1_024,
        ),
        Scenario(
            "little to do, not tuned",
            None,
            lambda: numbers().map(multiply(8)).batch(6).prefetch(2).with_options(tuned),
            width=1_024,
        ),
        Scenario(
            "cached decoding, keras",
            None,
            lambda: numbers().take(60).map(augment(32)).cache().shuffle(60).repeat().batch(5).prefetch(2),
            width=1_024,
            keras=True,
        ),
        Scenario("small zipped records", None, lambda: records(folder, 2).batch(10).prefetch(2), width=1_024),
        Scenario(
            "small zipped records without any rewriting, keras",
            None,
            lambda: records(folder, 1).batch(4).prefetch(1).with_options(bare),
            width=1_280,
            keras=True,
        ),
        Scenario(
            "one thread, shuffled late",
            None,
            lambda: numbers().map(multiply(9)).batch(4).shuffle(16).with_options(few),
            width=1_024,
        ),
        Scenario(
            "arrays, keras",
            None,
            lambda: (
                tf.data.Dataset.from_tensor_slices((np.zeros((2_000, FEATURES), np.float32), np.zeros(2_000, np.int64)))
                .shuffle(2_000)
                .batch(8)
            ),
            width=1_024,
            keras=True,
        ),
    ]


# --- Trainings ---------------------------------------------------------------------------------------------------


def by_hand(dataset: tf.data.Dataset, width: int) -> None:
    """A loop around a compiled step."""
    generator = np.random.default_rng(0)
    sizes = ((FEATURES, width), (width, width), (width, 2))
    weights = [tf.Variable(generator.normal(0, 0.02, size).astype(np.float32)) for size in sizes]

    @tf.function(reduce_retracing=True)
    def step(features: Any, labels: Any) -> Any:
        with tf.GradientTape() as tape:
            for layer in weights[:-1]:
                features = tf.nn.relu(features @ layer)
            logits = features @ weights[-1]
            loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
        for weight, gradient in zip(weights, tape.gradient(loss, weights), strict=True):
            weight.assign_sub(0.01 * gradient)
        return loss

    for features, labels in dataset.take(BATCHES):
        step(features, labels).numpy()


def by_keras(dataset: tf.data.Dataset, width: int) -> None:
    """model.fit"""
    import keras

    layers = [keras.layers.Dense(width, activation="relu") for _ in range(2)]
    model = keras.Sequential([keras.Input((FEATURES,)), *layers, keras.layers.Dense(2)])
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(dataset, steps_per_epoch=BATCHES, verbose=0)


def trained(scenario: Scenario, folder: Path) -> dict[str, Any]:
    """What was planted and what was found."""
    run = recorded(scenario, folder)
    found, loader = report(run), with_stages(next(iter(run.info.loaders.values())), run.traces)
    assert found.step_time_ns is not None and found.wait is not None
    causes = pipeline_causes(loader, found.step_time_ns.mean, found.wait.mean_ns)
    return {
        "scenario": scenario.name,
        "planted": scenario.planted,
        "causes": [cause.name for cause in causes],
        "step_ms": found.step_time_ns.mean / 1e6,
        "wait_ms": found.wait.mean_ns / 1e6,
        "notes": run.info.notes,
    }


def recorded(scenario: Scenario, folder: Path) -> Run:
    """The run of a training."""
    train = by_keras if scenario.keras else by_hand
    plan = profkit.schedule(skip_first=24, warmup=1, active=4)
    with profkit.profile(folder, schedule=plan, sidecar=False, quiet=True) as run:
        train(scenario.dataset(), scenario.width)
    return load(run.folder)


# --- Stages of known cost ----------------------------------------------------------------------------------------


@dataclass
class Clocked:
    """A function in Python that takes its time, and clocks itself."""

    seconds: float
    busy: bool
    took: list[float] = field(default_factory=list)

    def __call__(self, number: Any) -> Any:
        began = time.perf_counter()
        if not self.busy:
            time.sleep(self.seconds)
        while time.perf_counter() - began < self.seconds:
            pass
        self.took.append(time.perf_counter() - began)
        return np.full(FEATURES, number, np.float32)

    def called(self, number: Any) -> Any:
        """As a map function."""
        features = tf.ensure_shape(tf.numpy_function(self, [number], tf.float32), (FEATURES,))
        return features, tf.constant(0, tf.int64)


def clocked(folder: Path) -> Iterator[dict[str, Any]]:
    """What stages took for a batch: by the function's own clock, and by the model, or the window where there is none.

    What TensorFlow itself adds to a call of Python, some 1 ms here, is the stage's too, and not on that clock.
    """
    not_tuned = options(**NOT_TUNED)
    busy, waiting = Clocked(0.025, busy=True), Clocked(0.030, busy=False)
    plants: dict[str, tuple[Clocked, int, Callable[[Any], tf.data.Dataset]]] = {
        "serial": (busy, 2, lambda f: numbers().map(f).batch(2).prefetch(2)),
        "before a shuffle": (busy, 2, lambda f: numbers().map(f).shuffle(6).batch(2)),
        "on two threads": (waiting, 3, lambda f: numbers().map(f, 2).batch(3).prefetch(2)),
        "not tuned": (busy, 2, lambda f: numbers().map(f).shuffle(6).batch(2).with_options(not_tuned)),
    }
    for number, (name, (function, samples, make)) in enumerate(plants.items()):
        function.took.clear()
        scenario = Scenario(name, None, partial(make, function.called), 16, keras=number % 2 == 1)
        run = recorded(scenario, folder / str(number))
        loader = next(iter(run.info.loaders.values()))
        yield {
            "name": name,
            "by": "model" if loader.stages else "window",
            "found_ms": max(work.ns for work in works(with_stages(loader, run.traces).stages)) / 1e6,
            "clocked_ms": 1e3 * samples * float(np.mean(function.took)),
        }


def main() -> None:
    """All scenarios of a set, or those whose names hold a third argument."""
    which, folder = sys.argv[1], Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    if which == "clocked":
        for line in clocked(folder):
            print(json.dumps(line), flush=True)
        return
    for number, scenario in enumerate({"choosing": choosing, "judging": judging}[which](folder)):
        if len(sys.argv) < 4 or sys.argv[3] in scenario.name:
            print(json.dumps({"set": which, **trained(scenario, folder / str(number))}), flush=True)


if __name__ == "__main__":
    main()
