"""Which steps a verdict rests on, how long they took, and how long they waited for data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.breakdown import Breakdown
from profkit.analysis.patterns import period
from profkit.analysis.report import Histogram, Overhead, StepTime, Wait

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

BINS = 40
IN_HISTOGRAM = 99.0  # percentile


@dataclass(frozen=True, slots=True)
class Sample:
    """The steps a verdict rests on: duration and wait of each in nanoseconds, and which ones they are, in words.

    `exposed_fraction`: the part of the wait in which no device worked; None where a device was used, not recorded.
    """

    duration_ns: Floats
    wait_ns: Floats
    exposed_fraction: float | None
    words: str
    position: Ints  # of the step's batch within its pass over the input
    startup_ns: float = 0.0
    batches: int = 0


def sample_of_run(steps: pl.DataFrame, exposed_fraction: float | None) -> Sample | None:
    """Steady steps outside windows; those inside where there are no others, all steps where none is steady."""
    if not steps.height:
        return None
    outside, steady = pl.col("window").is_null(), pl.col("steady")
    choices = (
        (outside & steady, "outside the recorded windows, all steady"),
        (steady, "inside a recorded window, which slows them, all steady"),
        (outside, "outside the recorded windows, none of them steady"),
        (pl.lit(True), "none of them steady"),
    )
    begun = pl.when(~pl.col("steady")).then("number").forward_fill().fill_null(pl.col("number").first())
    placed = steps.with_columns((pl.col("number") - begun).alias("position"))
    chosen, words = next((rows, w) for c, w in choices if (rows := placed.filter(c)).height)
    return Sample(
        duration_ns=(chosen["end_ns"] - chosen["start_ns"] - chosen["excluded_ns"]).to_numpy().astype(np.float64),
        wait_ns=chosen["wait_ns"].to_numpy().astype(np.float64),
        exposed_fraction=exposed_fraction,
        words=f"{_steps(chosen.height)} {words}",
        position=chosen["position"].to_numpy().astype(np.int64),
        startup_ns=float(steps["startup_ns"].sum()),
        batches=int(steps["batches"].sum()),
    )


def sample_of_trace(parts: list[Breakdown], batches: int, why: str) -> Sample | None:
    """The steps of traces, and how many waits for a batch they hold. `why` no others are judged, in words."""
    parts = [part for part in parts if not part.whole_trace]
    if not parts:
        return None
    wait = np.concatenate([part.wait_ns[part.steady] for part in parts]).astype(np.float64)
    return Sample(
        duration_ns=np.concatenate([part.duration[part.steady] for part in parts]).astype(np.float64),
        wait_ns=wait,
        exposed_fraction=exposed_fraction(parts),
        position=np.arange(len(wait)),
        words=f"{_steps(len(wait))} inside the recorded window, which slows them; {why}",
        batches=batches,
    )


def exposed_fraction(parts: list[Breakdown]) -> float | None:
    """Exposed wait over wait, on the windows' steady steps; None where a device's work was not recorded."""
    if not parts or any(part.exposed_ns is None for part in parts):
        return None
    wait = sum(int(part.wait_ns[part.steady].sum()) for part in parts)
    exposed = sum(int(part.exposed_ns[part.steady].sum()) for part in parts if part.exposed_ns is not None)
    return exposed / wait if wait else 1.0


def step_time(sample: Sample) -> StepTime:
    """Distribution of the step time, in nanoseconds."""
    p50, p95 = np.percentile(sample.duration_ns, [50, 95])
    return StepTime(float(sample.duration_ns.mean()), float(p50), float(p95), float(sample.duration_ns.max()))


def wait(sample: Sample) -> Wait:
    """The wait for data per step; its share is total wait over total time, so that a long step counts as one."""
    p50, p95, p99 = np.percentile(sample.wait_ns, [50, 95, 99])
    mean, total = float(sample.wait_ns.mean()), float(sample.duration_ns.sum())
    exposed = None if sample.exposed_fraction is None else mean * sample.exposed_fraction
    return Wait(
        mean_ns=mean,
        p50_ns=float(p50),
        p95_ns=float(p95),
        max_ns=float(sample.wait_ns.max()),
        share=min(1.0, float(sample.wait_ns.sum()) / total) if total else 0.0,
        exposed_ns=exposed,
        hidden_ns=None if exposed is None else mean - exposed,
        startup_ns=sample.startup_ns,
        batches=sample.batches,
        p99_ns=float(p99),
        period=period(sample.wait_ns, sample.position),
    )


@dataclass(frozen=True, slots=True)
class Restarts:
    """What passes over the input took to begin, the first one and those after it, of the time of the run."""

    passes: int  # after the first one
    startup_ns: int  # of these
    run_ns: int
    first_ns: int


def restarts(steps: pl.DataFrame) -> Restarts | None:
    """None where no pass was seen to begin."""
    begun = steps.filter(pl.col("startup_ns") > 0)
    if not begun.height:
        return None
    run_ns = int(steps["end_ns"][-1] - steps["start_ns"][0])
    startup_ns = begun["startup_ns"]
    return Restarts(begun.height - 1, int(startup_ns[1:].sum()), run_ns, int(startup_ns[0]))


def histogram(values: Floats) -> Histogram:
    """Bins of equal width up to the value that all but one in a hundred stay below; what is beyond is counted."""
    low, high = float(values.min()), float(np.percentile(values, IN_HISTOGRAM))
    inside = values[values <= high]
    counts, edges = np.histogram(inside, bins=min(BINS, len(inside)), range=(low, high))
    return Histogram(edges.tolist(), counts.tolist(), len(values) - len(inside))


def overhead(steps: pl.DataFrame, window_close_ns: list[int]) -> Overhead:
    """What profkit cost: its own clocked time outside windows, and how much a window slowed its steps."""
    steady = steps.filter(pl.col("steady"))
    outside, inside = (
        steady.filter(pl.col("window").is_null()),
        steady.filter(pl.col("window").is_not_null()),
    )
    close = sum(window_close_ns) if window_close_ns else None
    if not outside.height:
        return Overhead(window_close_ns=close)
    time = _duration(outside)
    own = float(np.median(outside["own_ns"].to_numpy()))
    ratio = spread = None
    if inside.height:
        ratios = _duration(inside) / np.median(time)
        ratio = float(np.median(ratios))
        low, high = np.percentile(ratios, [25, 75])
        spread = float(high - low) / 2
    return Overhead(
        outside_ns_per_step=own,
        outside_share=own / float(np.median(time)),
        inside_ratio=ratio,
        inside_spread=spread,
        window_close_ns=close,
    )


def _duration(steps: pl.DataFrame) -> Floats:
    return (steps["end_ns"] - steps["start_ns"]).to_numpy().astype(np.float64)


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count:,} steps"
