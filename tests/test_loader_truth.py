"""What profkit says the stages of a batch took is what they took, by their own clocks, for every kind of loader.

A busy machine delays whatever runs between two clocks: a kind is measured up to three times.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest

from tests.loader_truth import BURNT_MS, ITEM_MS, KINDS, SLOW_INDEX, SLOW_MS, TWO_PASSES
from tests.needs import needs
from tests.programs import printed

MEDIAN_US, MEDIAN_SHARE = 50, 0.02  # what the median error may be: the larger of the two
P95_US, P95_SHARE = 1_500, 0.25  # a thread that has to wait for a core waits a few milliseconds
TRIES = 3
CPU_SHARE = 0.1
ALONE = ("no workers", "no workers, pinned", "stream", "computing", "transforms", "stateful")
WITHOUT_SAMPLER = ("single samples", "stream", "stream, 1 worker")
SLEEPING = ("no workers", "2 forked", "1 spawned", "2 that stay", "2, any order", "1, pinned", "stateful")

Seen = dict[str, Any]
T = TypeVar("T")


def stages(kind: str) -> list[str]:
    """What is planted in a kind of loader."""
    found = ["item", "collate"]
    found += [] if kind in ALONE else ["pickle", "unpickle"]
    found += [] if kind in WITHOUT_SAMPLER else ["sampler"]
    return [*found, "pin"] if "pinned" in kind and kind not in ALONE else found  # alone, it is what the fetch leaves


def errors_us(seen: Seen, stage: str) -> tuple[float, float, float]:
    """Median of what was planted, and the median and the 95th percentile of the error, in microseconds."""
    truth = np.array([batch[stage] for batch in seen["truths"]]) / 1e3
    found = np.array([batch[stage] for batch in seen["times"]], dtype=float) / 1e3
    error = np.abs(found - truth)
    return float(np.median(truth)), float(np.median(error)), float(np.quantile(error, 0.95))


def wrong(seen: Seen, kind: str) -> list[str]:
    """The stages that are further off than they may be, with all figures."""
    found = []
    for stage in stages(kind):
        truth, median, p95 = errors_us(seen, stage)
        if median > max(MEDIAN_US, MEDIAN_SHARE * truth) or p95 > max(P95_US, P95_SHARE * truth):
            found.append(f"{stage}: planted {truth:.0f} µs, error {median:.1f} µs, 95th percentile {p95:.1f} µs")
    return found


def measured(kind: str, folder: Path, wrongs: Callable[[Seen], list[str]]) -> Seen:
    """A measurement in which nothing is wrong; fails with the figures of all where there is none."""
    failures = []
    for number in range(TRIES):
        (folder / str(number)).mkdir()
        [line] = printed("loader_truth", folder / str(number), kind)
        seen: Seen = json.loads(line)
        failures.append(wrongs(seen))
        if not failures[-1]:
            return seen
    pytest.fail(f"{kind}: {failures}")


@pytest.mark.parametrize("kind", [pytest.param(k, marks=needs("torchdata")) if "stateful" in k else k for k in KINDS])
def test_every_stage_takes_what_it_clocked_itself(kind: str, tmp_path: Path) -> None:
    def wrongs(seen: Seen) -> list[str]:
        found = wrong(seen, kind)
        if "computing" in kind:
            found += _wrong_cpu(seen)
        if "transforms" in kind and "worker" not in kind:
            found += _wrong_transforms(seen)
        if kind in ("2 forked", "1 spawned", "stream, 1 worker"):
            found += _wrong_start(seen)
        return found

    seen = measured(kind, tmp_path, wrongs)
    for stage in stages(kind):
        print(kind, stage, *(f"{figure:.1f}" for figure in errors_us(seen, stage)))
    assert set(seen["left"]) == {0}, "the parts add up to the wait"
    assert len(seen["times"]) == len(seen["truths"])
    assert {fetch["loop"] for fetch in seen["fetches"]} == ({0, 1} if kind in TWO_PASSES else {0})
    if kind in SLEEPING:
        _assert_names_the_slow_sample(seen)
    if kind == "2 forked":
        _assert_sleeping_is_blocked(seen)


def _assert_names_the_slow_sample(seen: Seen) -> None:
    slowest = max(seen["fetches"], key=lambda fetch: fetch["slowest_ns"])
    assert slowest["slowest_index"] == SLOW_INDEX
    assert ITEM_MS + SLOW_MS <= slowest["slowest_ns"] / 1e6 < ITEM_MS + 2 * SLOW_MS


def _assert_sleeping_is_blocked(seen: Seen) -> None:
    blocked = [fetch["fetch_ns"] - fetch["cpu_ns"] - fetch["run_queue_ns"] for fetch in seen["fetches"]]
    assert np.median(blocked) / 1e6 > ITEM_MS


def _wrong_cpu(seen: Seen) -> list[str]:
    """Computing is time on a core; what a loaded machine adds is time in the run queue."""
    cpu_ms = float(np.median([fetch["cpu_ns"] for fetch in seen["fetches"]])) / 1e6
    blocked = [fetch["fetch_ns"] - fetch["cpu_ns"] - fetch["run_queue_ns"] for fetch in seen["fetches"]]
    blocked_ms = float(np.median(blocked)) / 1e6
    collate_ms = errors_us(seen, "collate")[0] / 1e3  # it sleeps
    if abs(cpu_ms - BURNT_MS) > CPU_SHARE * BURNT_MS or abs(blocked_ms - collate_ms) > CPU_SHARE * BURNT_MS:
        return [f"on a core {cpu_ms:.2f} ms of {BURNT_MS}, blocked {blocked_ms:.2f} ms of {collate_ms:.2f}"]
    return []


def _wrong_transforms(seen: Seen) -> list[str]:
    found = []
    for name, truth in seen["transforms"].items():
        calls, total = seen["clocked_transforms"][name]
        assert calls == len(seen["truths"])
        if abs(total - truth) / calls > max(MEDIAN_US * 1e3, MEDIAN_SHARE * truth / calls):
            found.append(f"{name}: planted {truth / calls / 1e3:.1f} µs a call, found {total / calls / 1e3:.1f} µs")
    return found


def _wrong_start(seen: Seen) -> list[str]:
    """Process, worker_init_fn and iter(dataset), each against the last worker's own clock."""
    truth = seen["truths"][-1]
    found = []
    for process, init, dataset in seen["workers"]:
        if process <= truth.get("import", 0):
            found.append(f"process {process} ns, of which importing took {truth['import']}")
        for name, took in (("init", init), ("dataset", dataset)):
            planted = truth.get(name)
            if planted is not None and abs(took - planted) > max(2e6, MEDIAN_SHARE * planted):
                found.append(f"{name}: planted {planted / 1e6:.2f} ms, found {took / 1e6:.2f} ms")
    return found
