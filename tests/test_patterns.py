"""Waits that come again are found with their period, and noise has none."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from profkit.analysis.patterns import period
from profkit.analysis.summary import report
from tests.runs import MS, loader, run


def noisy(waits: np.ndarray, seed: int, scale: float = 0.1) -> np.ndarray:
    return waits * np.random.default_rng(seed).lognormal(0, scale, len(waits))


@pytest.mark.parametrize("length", [2, 3, 4, 7, 16, 33])
def test_a_planted_period_is_found(length: int) -> None:
    position = np.arange(length * 12)
    waits = np.where(position % length == 0, 120.0, 4.0) * MS
    found = period(noisy(waits, length), position)
    assert found is not None
    assert found.steps == length
    assert found.long_ns == pytest.approx(120 * MS, rel=0.1)
    assert found.others_ns == pytest.approx(4 * MS, rel=0.1)


def test_a_period_holds_across_steps_that_were_left_out() -> None:
    position = np.delete(np.arange(80), range(30, 37))
    waits = np.where(position % 5 == 2, 50.0, 1.0) * MS
    found = period(noisy(waits, 1), position)
    assert found is not None
    assert found.steps == 5


@pytest.mark.parametrize("seed", range(200))
def test_noise_has_no_period(seed: int) -> None:
    random = np.random.default_rng(seed)
    waits = (random.exponential, random.standard_gamma)[seed % 2](2.0, int(random.integers(8, 400))) * MS
    assert period(waits, np.arange(len(waits))) is None


def wandering(random: np.random.Generator, steps: int) -> np.ndarray:
    return np.abs(np.cumsum(random.normal(size=steps)))


def changed_once(random: np.random.Generator, steps: int) -> np.ndarray:
    return np.where(np.arange(steps) < steps * random.random(), 100.0, 3.0) * random.lognormal(0, 0.2, steps)


def rare(random: np.random.Generator, steps: int) -> np.ndarray:
    return np.where(random.random(steps) < 0.05, 200.0, 2.0) * random.lognormal(0, 0.2, steps)


def smooth(random: np.random.Generator, steps: int) -> np.ndarray:
    return np.convolve(random.exponential(1, steps), np.ones(9) / 9, "same")[:steps]


@pytest.mark.parametrize("made", [wandering, changed_once, rare, smooth])
def test_what_varies_without_a_period_has_none(made: Callable[[np.random.Generator, int], np.ndarray]) -> None:
    for seed in range(500):
        random = np.random.default_rng(seed)
        steps = int(random.integers(8, 400))
        assert period(made(random, steps) * MS, np.arange(steps)) is None, seed


@pytest.mark.parametrize("waits", [[], [5.0], [3.0] * 50, [0.0] * 50, [0.0] * 49 + [900.0]])
def test_too_few_or_equal_waits_have_no_period(waits: list[float]) -> None:
    assert period(np.array(waits) * MS, np.arange(len(waits))) is None


def test_a_slow_drift_is_no_period() -> None:
    waits = np.linspace(1, 100, 300) * MS
    assert period(noisy(waits, 3), np.arange(300)) is None


def test_the_verdict_says_which_steps_wait() -> None:
    steps = [{"steady": number % 40 > 0, "wait_ns": (160 if number % 4 == 0 else 2) * MS, "duration_ns": 200 * MS}
             for number in range(120)]  # fmt: skip
    found = report(run(steps, loaders=loader(num_workers=4)))
    assert found.wait is not None
    assert found.wait.period is not None
    assert found.wait.period.steps == 4
    assert found.headline.endswith("; every 4th step waits 160 ms, the others 2 ms.")
    assert found.findings[0].evidence["every_steps"] == 4
