"""Pipelines with flaws and without, what profkit says of their definitions, and what TensorFlow made of them.

python -m tests.tf_data_flawed: prints a line of JSON for each pipeline.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
import tensorflow as tf

from profkit.hooks.tf_data_flaws import flaws
from tests.tf_data_scenarios import options

AUTOTUNE = tf.data.AUTOTUNE
Dataset = tf.data.Dataset
PIPELINES: dict[str, Callable[[], Any]] = {}

off = options(autotune__enabled=False)
not_ahead = options(experimental_optimization__inject_prefetch=False)
serial = options(experimental_optimization__map_parallelization=False)
bare = options(experimental_optimization__apply_default_optimizations=False)
one_thread = options(threading__private_threadpool_size=1)


def pipeline(make: Callable[[], Any]) -> Callable[[], Any]:
    """Have a look at the dataset that `make` returns."""
    PIPELINES[make.__name__] = make
    return make


def numbers() -> Any:
    return Dataset.range(4_000)


def scale(x: Any) -> Any:
    return tf.sqrt(tf.cast(x, tf.float32))


def randomise(x: Any) -> Any:
    return scale(x) + tf.random.uniform(())


def in_python(x: Any) -> Any:
    return tf.numpy_function(lambda a: np.float32(a), [x], tf.float32)


# --- What TensorFlow does by itself ------------------------------------------------------------------------------


@pipeline
def stateless_map() -> Any:
    return numbers().map(scale).shuffle(8).batch(4)


@pipeline
def stateless_map_with_an_assertion() -> Any:
    def checked(x: Any) -> Any:
        tf.debugging.assert_less(x, tf.constant(1 << 40, tf.int64))
        return scale(x)

    return numbers().map(checked).shuffle(8).batch(4)


@pipeline
def map_that_is_not_made_parallel() -> Any:
    return numbers().map(scale).shuffle(8).batch(4).with_options(serial)


@pipeline
def random_map() -> Any:
    return numbers().map(randomise).shuffle(8).batch(4)


@pipeline
def random_map_in_a_compiled_function() -> Any:
    return numbers().map(tf.function(randomise)).shuffle(8).batch(4)


@pipeline
def table_lookup() -> Any:
    keys = tf.range(10, dtype=tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(keys, keys), 0)
    return numbers().map(lambda x: table.lookup(x)).shuffle(8).batch(4)


@pipeline
def second_of_three_maps() -> Any:
    return numbers().map(scale, AUTOTUNE).shuffle(8).map(randomise).shuffle(8).map(scale, AUTOTUNE).batch(4)


@pipeline
def nothing_ahead() -> Any:
    return numbers().shuffle(8).batch(4).with_options(not_ahead)


@pipeline
def nothing_ahead_without_rewriting() -> Any:
    return numbers().shuffle(8).batch(4).with_options(bare)


@pipeline
def prefetch_before_a_repeat() -> Any:
    return numbers().shuffle(8).batch(4).prefetch(2).repeat().with_options(not_ahead)


@pipeline
def parallel_map_at_the_end() -> Any:
    return numbers().map(scale, AUTOTUNE).with_options(not_ahead)


@pipeline
def map_and_batch_in_one() -> Any:
    return numbers().map(scale).batch(4).with_options(not_ahead)


@pipeline
def not_tuned() -> Any:
    return numbers().map(scale).shuffle(8).batch(4).with_options(off)


# --- The rest ----------------------------------------------------------------------------------------------------


@pipeline
def python_in_a_map() -> Any:
    return numbers().map(in_python, AUTOTUNE).batch(4)


@pipeline
def python_in_a_compiled_function() -> Any:
    return numbers().map(tf.function(in_python), AUTOTUNE).batch(4)


@pipeline
def python_in_a_filter() -> Any:
    return numbers().filter(lambda x: tf.numpy_function(lambda a: np.bool_(a >= 0), [x], tf.bool)).batch(4)


@pipeline
def one_private_thread() -> Any:
    return numbers().map(scale, AUTOTUNE).batch(4).with_options(one_thread)


@pipeline
def more_calls_than_threads() -> Any:
    return numbers().map(scale, 500).batch(4)


@pipeline
def fewer_calls_than_cores() -> Any:
    return numbers().map(scale, 1).batch(4)


@pipeline
def shuffled_batches() -> Any:
    return numbers().batch(4).shuffle(8)


@pipeline
def batches_shuffled_again() -> Any:
    return numbers().shuffle(8).batch(4).shuffle(8)


@pipeline
def shuffled_after_unbatching() -> Any:
    return numbers().batch(4).unbatch().shuffle(8)


@pipeline
def random_then_cached() -> Any:
    return numbers().map(randomise, AUTOTUNE).cache().batch(4)


@pipeline
def cached_then_random() -> Any:
    return numbers().map(scale, AUTOTUNE).cache().map(randomise, AUTOTUNE).batch(4)


@pipeline
def shuffled_then_cached() -> Any:
    return numbers().shuffle(8).cache().batch(4)


@pipeline
def shuffled_cached_and_shuffled() -> Any:
    return numbers().shuffle(8).cache().shuffle(8).batch(4)


@pipeline
def large_elements_shuffled() -> Any:
    return Dataset.from_tensors(tf.zeros((1 << 20,))).repeat(400).shuffle(300).batch(2)


@pipeline
def decoded_elements_shuffled() -> Any:
    return numbers().map(scale, AUTOTUNE).shuffle(512).batch(4)


@pipeline
def numbers_shuffled_then_decoded() -> Any:
    return numbers().shuffle(4_000).map(scale, AUTOTUNE).batch(4)


@pipeline
def two_branches() -> Any:
    return Dataset.zip((numbers().map(randomise), numbers().map(scale))).batch(4)


@pipeline
def partial_function() -> Any:
    return numbers().map(partial(lambda x, y: randomise(x) + y, y=1.0)).shuffle(8).batch(4)


@pipeline
def what_keras_makes_of_arrays() -> Any:
    from keras.src.trainers.data_adapters.array_data_adapter import ArrayDataAdapter

    return ArrayDataAdapter(np.zeros((64, 4)), np.zeros(64), batch_size=4, shuffle=True).get_tf_dataset()


@pipeline
def what_keras_makes_of_a_pydataset() -> Any:
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    class Batches(keras.utils.PyDataset):
        def __len__(self) -> int:
            return 8

        def __getitem__(self, index: int) -> Any:
            return np.zeros((4, 2)), np.zeros(4)

    return PyDatasetAdapter(Batches()).get_tf_dataset()


@pipeline
def two_hundred_and_one_stages() -> Any:
    dataset = numbers().map(randomise)
    for _ in range(200):
        dataset = dataset.skip(0)
    return dataset


@pipeline
def random_map_of_an_old_dataset() -> Any:
    return tf.compat.v1.data.Dataset.range(400).map(randomise).batch(4)


def modelled(dataset: Any) -> list[str] | None:
    """The stages TensorFlow made of it, with `1` behind those that are known to have but one thread."""
    iterator = iter(dataset)
    for _ in range(2):
        next(iterator)
    try:
        model = tf.data.experimental.get_model_proto(iterator)
    except tf.errors.NotFoundError:
        return None
    found = []
    for _, node in sorted(model.nodes.items()):
        threads = [p for p in node.parameters if p.name == "parallelism"]
        alone = not threads or (threads[0].value == 1 and not threads[0].tunable)
        found.append(node.name + " 1" * alone)
    return found


def main() -> None:
    """Look at each of them."""
    flaws(0, numbers().map(scale))  # what is slow at first use is none of the pipelines'
    for name, make in PIPELINES.items():
        dataset = make()
        began = time.perf_counter()
        found = flaws(7, dataset)
        took_ms = 1e3 * (time.perf_counter() - began)
        as_rows = [[flaw.loader, flaw.cause, flaw.stage, flaw.detail] for flaw in found]
        stages = None if name.startswith("what_keras") else modelled(dataset)
        print(json.dumps({"name": name, "flaws": as_rows, "took_ms": took_ms, "model": stages}))


if __name__ == "__main__":
    main()
