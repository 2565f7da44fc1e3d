"""A pipeline's definition shows its flaws before the first step, and none that TensorFlow repairs by itself."""

from __future__ import annotations

import json
import os
from functools import cache
from typing import Any

import pytest

from tests.programs import printed

PREFETCH, SERIAL, PYTHON = "tf_no_prefetch", "tf_serial_map", "tf_py_function"
CAPPED, BUFFER = "tf_parallelism_capped", "tf_shuffle_buffer"
LATE_SHUFFLE, CACHED = "tf_shuffle_after_batch", "tf_cache_after_random"

# Pipeline -> its flaws, each with its stage and what the detail must say.
EXPECTED = {
    "stateless_map": [],
    "stateless_map_with_an_assertion": [],
    "map_that_is_not_made_parallel": [(SERIAL, "Map", "it is told not to")],
    "random_map": [(SERIAL, "Map", "randomise (tf_data_flawed.py")],
    "random_map_in_a_compiled_function": [(SERIAL, "Map", "(RandomUniform)")],
    "table_lookup": [(SERIAL, "Map", "a lambda (tf_data_flawed.py")],
    "second_of_three_maps": [(SERIAL, "Map 2 of 3", "randomise")],
    "nothing_ahead": [(PREFETCH, "Batch", "it is told not to")],
    "nothing_ahead_without_rewriting": [(PREFETCH, "Batch", "without rewrites")],
    "prefetch_before_a_repeat": [],
    "parallel_map_at_the_end": [],
    "map_and_batch_in_one": [],
    "not_tuned": [(PREFETCH, "Batch", "without autotuning"), (SERIAL, "Map", "without autotuning")],
    "python_in_a_map": [(PYTHON, "Map", "in_python")],
    "python_in_a_compiled_function": [(PYTHON, "Map", "in_python")],
    "python_in_a_filter": [(PYTHON, "Filter", "a lambda")],
    "one_private_thread": [(CAPPED, "Map", "private_threadpool_size=1 on")],
    "more_calls_than_threads": [(CAPPED, "Map", "asks for 500 calls at once")],
    "fewer_calls_than_cores": [(CAPPED, "Map", "num_parallel_calls=1 on")],
    "shuffled_batches": [(LATE_SHUFFLE, "Shuffle", "batch(4)")],
    "batches_shuffled_again": [],
    "shuffled_after_unbatching": [],
    "random_then_cached": [(CACHED, "Cache", "randomise")],
    "cached_then_random": [],
    "shuffled_then_cached": [(CACHED, "Cache", "order of shuffle()")],
    "shuffled_cached_and_shuffled": [],
    "large_elements_shuffled": [(BUFFER, "Shuffle", "holds 1.2 GiB")],
    "decoded_elements_shuffled": [(BUFFER, "Shuffle", "512 elements before the first batch")],
    "numbers_shuffled_then_decoded": [],
    "two_branches": [(SERIAL, "Map 2 of 2", "randomise")],
    "partial_function": [(SERIAL, "Map", "a lambda")],
    "what_keras_makes_of_arrays": [],
    "what_keras_makes_of_a_pydataset": [],
    "two_hundred_and_one_stages": [],
    "random_map_of_an_old_dataset": [(SERIAL, "Map", "randomise")],
}
ONE_CORE = {"one_private_thread", "fewer_calls_than_cores"}  # flaws only where there are more
BUDGET_MS = 5.0


@cache
def looked_at() -> dict[str, dict[str, Any]]:
    """What the program printed of each pipeline."""
    return {row["name"]: row for row in map(json.loads, printed("tf_data_flawed"))}


def test_every_pipeline_is_expected() -> None:
    assert list(looked_at()) == list(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_definition_shows_its_flaws_and_no_others(name: str) -> None:
    if name in ONE_CORE and len(os.sched_getaffinity(0)) == 1:
        pytest.skip("one core")
    found = looked_at()[name]["flaws"]
    assert [(loader, cause, stage) for loader, cause, stage, _ in found] == [
        (7, cause, stage) for cause, stage, _ in EXPECTED[name]
    ]
    for (*_, detail), (*_, said) in zip(found, EXPECTED[name], strict=True):
        assert said in detail


@pytest.mark.parametrize("name", EXPECTED)
def test_tensorflow_does_not_repair_what_is_called_a_flaw(name: str) -> None:
    """The stages it made of the pipeline: whether a map has threads, and whether anything works ahead."""
    stages = looked_at()[name]["model"]
    if stages is None:
        pytest.skip("there is no model of it")
    causes = {cause for cause, _, _ in EXPECTED[name]}
    ahead = ("Prefetch 1", "MapAndBatch", "MapAndBatch 1", "ParallelMapV2", "ParallelMapV2 1")
    assert (PREFETCH in causes) == (next(s for s in stages[1:] if s != "ForeverRepeat 1") not in ahead)
    if CAPPED not in causes and name != "two_hundred_and_one_stages":
        assert (SERIAL in causes) == bool({"Map 1", "MapAndBatch 1"} & set(stages))


def test_looking_at_a_pipeline_takes_no_time() -> None:
    took = sorted(row["took_ms"] for row in looked_at().values())
    assert took[len(took) // 2] < BUDGET_MS
