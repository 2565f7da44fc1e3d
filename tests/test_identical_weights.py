"""profkit changes no bit of a training in TensorFlow, nor in Keras on any of its backends."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.programs import printed

BATCHES = 20
# Training, whether deterministic operators are required, and how many waits for a batch profkit sees in it.
TRAININGS = (
    *((f"{backend}:keras_fit", "", 32) for backend in ("torch", "jax")),
    ("tensorflow:keras_fit", "", 40),  # validation asks for its batches, too
    ("tensorflow:keras_fit", "1", 40),
    *((f"{backend}:keras_train_on_batch", "", 0) for backend in ("tensorflow", "torch", "jax")),
    *((name, required, 2 * BATCHES) for name in ("tf_seeded_graph", "tf_loop_in_graph") for required in ("", "1")),
    ("tf_determinism_required_later", "", BATCHES // 2),
)


def trained(training: str, required: str, logdir: Path | None) -> dict[str, Any]:
    """The hash of the final weights, and the number of waits recorded."""
    *_, last = printed("identical_weights", training, logdir or "", TF_DETERMINISTIC_OPS=required or "0")
    result: dict[str, Any] = json.loads(last)
    return result


@pytest.mark.parametrize(("training", "required", "waits"), TRAININGS)
def test_final_weights_are_bit_identical_with_and_without(
    training: str, required: str, waits: int, tmp_path: Path
) -> None:
    with ThreadPoolExecutor(2) as at_once:
        folders = (None, None, tmp_path)
        without, again, recorded = at_once.map(lambda folder: trained(training, required, folder), folders)
    assert again == without, "the training itself cannot be repeated"
    assert recorded["weights"] == without["weights"]
    assert recorded["waits"] >= waits
