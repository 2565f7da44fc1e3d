"""The same stall, planted in every framework and style of loop, is found in each: outside windows and inside."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from tests.programs import printed

DELAYS_MS = (0.0, 5.0, 20.0, 40.0)
ATTEMPTS = 3
KERAS = ("keras_fit", "keras_train_on_batch", "keras_evaluate", "keras_predict")
STYLES = (
    "torch_loop",
    *("tf_eager_loop", "tf_function_loop", "tf_iterator_in_function", "tf_distributed"),
    "tensorflow:keras_fit_jit",
    *(f"{backend}:{style}" for backend in ("tensorflow", "torch", "jax") for style in KERAS),
    "tensorflow:keras_fit_several_steps",
    "jax:keras_fit_several_steps",  # Keras refuses it on PyTorch
    "jax_loop",
)
# Where ends of steps come from in each style; everywhere else Keras's callback says so.
SOURCES = {"torch_loop": "optimizer", "tf_eager_loop": "batch", "tf_function_loop": "batch", "jax_loop": "batch"}
SOURCES |= dict.fromkeys(("tf_iterator_in_function", "tf_distributed"), "marker")


def backend(style: str) -> str:
    """What is imported for a style: those that share it share a process."""
    before, keras, _ = style.partition(":")
    return f"keras on {before}" if keras else style.partition("_")[0]


@cache
def trained(styles: tuple[str, ...], folder: Path, attempt: int) -> dict[str, list[dict[str, Any]]]:
    """One program trains in each of these styles, which share a backend, once for each delay."""
    lines = printed("planted_stalls", folder / str(attempt), ",".join(map(str, DELAYS_MS)), *styles)
    return {style: json.loads(line) for style, line in zip(styles, lines, strict=True)}


@pytest.fixture
def attempts(style: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[dict[str, Any]]]:
    """The results of a style: of all styles of its backend at first, then of this one alone.

    A machine that does something else for a moment is not the planted delay; what is wrong is wrong each time.
    """
    folder = tmp_path_factory.getbasetemp() / "planted"
    together = tuple(other for other in STYLES if backend(other) == backend(style))
    return (trained(together if attempt == 0 else (style,), folder, attempt)[style] for attempt in range(ATTEMPTS))


def close(found: float, clocked: float) -> bool:
    """Within 2 ms or 10 %."""
    return abs(found - clocked) <= max(2.0, 0.1 * clocked)


def clocked(result: dict[str, Any], *, inside: bool) -> float:
    """The median of what the fixture clocked, in the recorded steps or in the others."""
    within = set(result["inside_steps"])
    of_steps: list[float] = [ms for step, ms in enumerate(result["clocked_ms"], 1) if (step in within) == inside]
    return median(of_steps)


@pytest.mark.parametrize("style", STYLES)
def test_the_wait_outside_the_window_is_what_the_fixture_clocked(attempts: Iterator[list[dict[str, Any]]]) -> None:
    wrong = []
    for results in attempts:
        for result in results:
            assert result["outside_ms"] is not None, result["notes"]
            assert result["measured_on"].endswith("outside the recorded windows, all steady")
        off = [result for result in results if not close(result["outside_ms"], clocked(result, inside=False))]
        if not off:
            return
        wrong += off
    pytest.fail(f"in {ATTEMPTS} attempts: {wrong}")


@pytest.mark.parametrize("style", STYLES)
def test_the_wait_inside_the_window_is_what_the_fixture_clocked(attempts: Iterator[list[dict[str, Any]]]) -> None:
    wrong = []
    for results in attempts:
        assert all(len(result["inside_ms"]) == 6 for result in results)
        off = [result for result in results if not close(median(result["inside_ms"]), clocked(result, inside=True))]
        if not off:
            return
        wrong += off
    pytest.fail(f"in {ATTEMPTS} attempts: {wrong}")


@pytest.mark.parametrize("style", STYLES)
def test_each_batch_is_one_step_of_the_expected_source(style: str, attempts: Iterator[list[dict[str, Any]]]) -> None:
    kind = "evaluation" if style.endswith(("evaluate", "predict")) else "callback"
    batches_a_step = 2 if style.endswith("several_steps") else 1
    for result in next(attempts):
        assert result["steps"] == 36 // batches_a_step
        assert result["source"] == SOURCES.get(style, kind)
        assert not result["notes"]
