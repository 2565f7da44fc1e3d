"""How far what-if predictions are from runs that were made: real work in the loaders, nothing of it used to fit."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.measuring import in_fresh_process
from benchmarks.outcome import Outcome, Table, Target
from profkit.analysis.loaderprofile import LoaderProfile
from profkit.analysis.loadersimulation import BatchCost, Costs
from profkit.analysis.whatif import predictions

WORKLOADS = (
    *("spectra", "inflated", "inflated, heavy step"),
    *("counted words", "augmented", "small pictures"),
)
ROUNDS, QUICK_ROUNDS, QUICK_WORKLOADS = 5, 1, 2
MEDIAN_LIMIT, TAIL_LIMIT = 0.05, 0.20
PREDICTORS = ("profkit", "no change", "max(compute, load / workers)")
CONFIGURATIONS, BATCHES, SPEED_LIMIT_S = 20, 200, 1.0


@dataclass(frozen=True, slots=True)
class Point:
    """A run that was predicted and made: seconds of its step as measured, and as each of PREDICTORS has it."""

    workload: str
    profiled: int
    workers: int
    measured_s: float
    predicted_s: tuple[float, ...]

    @property
    def errors(self) -> tuple[float, ...]:
        """Of each predictor, as a share of what was measured."""
        return tuple(predicted / self.measured_s - 1 for predicted in self.predicted_s)


def run(quick: bool) -> Outcome:
    """Every workload run with every number of workers, and predicted from profiles with others."""
    workloads = WORKLOADS[:QUICK_WORKLOADS] if quick else WORKLOADS
    points, oddness, again = [], [], []
    for name in workloads:
        with TemporaryDirectory() as folder:
            seen = in_fresh_process("loaders", name, str(QUICK_ROUNDS if quick else ROUNDS), folder)
        points += list(_points(name, seen))
        oddness += seen["oddness"].values()
        again += [found["step_s"] / seen["measured_s"][workers] - 1 for workers, found in seen["predicted"].items()]
    errors = {name: np.abs([p.errors[n] for p in points]) for n, name in enumerate(PREDICTORS)}
    took_s = _prediction_s()
    return Outcome(
        "whatif",
        [_table(points, float(np.median(oddness))), _summary(errors, float(np.median(np.abs(again))))],
        [*_targets(errors), _speed_target(took_s)],
        {"points": [[p.workload, p.profiled, p.workers, p.measured_s, *p.predicted_s] for p in points]},
    )


def _points(name: str, seen: dict[str, Any]) -> Iterator[Point]:
    """All but those with the settings of their profile."""
    for profiled, found in seen["predicted"].items():
        for workers, measured_s in seen["measured_s"].items():
            if workers != profiled:
                made_s, used_s, count = found["fetch_s"], found["consumer_s"], int(workers)
                simple_s = max(used_s, made_s / count) if count else made_s + used_s
                predicted_s = found["steps_s"][workers], found["step_s"], simple_s
                yield Point(name, int(profiled), count, measured_s, predicted_s)


def _table(points: Sequence[Point], oddness: float) -> Table:
    rows = [["loader", "profiled with", "run with", "measured ms", *(f"{name}, ms" for name in PREDICTORS), "error"]]
    rows += [
        [
            point.workload,
            f"{point.profiled} workers",
            f"{point.workers} workers",
            *(f"{seconds * 1e3:.1f}" for seconds in (point.measured_s, *point.predicted_s)),
            f"{100 * point.errors[0]:+.0f} %",
        ]
        for point in points
    ]
    note = (
        f"medians of several rounds; the machine was off its usual state by {100 * oddness:.0f} % "
        "(median of speed and of others' load together)"
    )
    return Table(f"what-if: {len(points)} runs predicted from profiles with other settings, step", rows, [note])


def _summary(errors: dict[str, Any], again: float) -> Table:
    rows = [["predictor", "median error", "p90", "largest"]]
    rows += [
        [name, *(f"{100 * value:.1f} %" for value in (np.median(e), np.quantile(e, 0.9), e.max()))]
        for name, e in errors.items()
    ]
    note = f"the same settings measured twice, in a profile and in a run, differ by {100 * again:.1f} % in the median"
    return Table("what-if: errors of profkit and of two simple rules", rows, [note])


def _targets(errors: dict[str, Any]) -> list[Target]:
    medians = {name: float(np.median(e)) for name, e in errors.items()}
    own, *simple = medians.values()
    tail = float(np.quantile(errors["profkit"], 0.9))
    return [
        Target(f"median error at most {MEDIAN_LIMIT:.0%}", f"{own:.1%}", own <= MEDIAN_LIMIT),
        Target(f"90th percentile at most {TAIL_LIMIT:.0%}", f"{tail:.1%}", tail <= TAIL_LIMIT),
        Target(
            "median error below both simple rules",
            " against ".join(f"{median:.1%}" for median in medians.values()),
            own < min(simple),
        ),
    ]


def _prediction_s() -> float:
    """Seconds of all predictions of a report of 200 batches on eight cores."""
    batches = tuple(BatchCost(1e4, 8e6 + n * 7919 % 13 * 1e5, 1e6, 5e6, 1e5) for n in range(BATCHES))
    costs = Costs(batches, 1e6, 1e6, 1e5)
    profile = LoaderProfile(2, 2, 8, costs, 0.9, False, 0.1, 1e7, 5e6)
    begun = time.perf_counter()
    made = len(predictions(profile))
    return (time.perf_counter() - begun) * CONFIGURATIONS / made


def _speed_target(took_s: float) -> Target:
    bound = f"{CONFIGURATIONS} configurations of {BATCHES} batches in less than {SPEED_LIMIT_S:.0f} s"
    return Target(bound, f"{took_s:.3f} s", took_s < SPEED_LIMIT_S)
