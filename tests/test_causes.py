"""Each cause follows from its own evidence, and from nothing less; live loaders judge them in test_loader_causes."""

from __future__ import annotations

from typing import Any

import polars as pl
import pytest

from profkit.analysis.causes import CAUSES, LoaderCause, loader_causes, start_part
from profkit.analysis.loading import STAGES
from profkit.analysis.report import Fetch, LoaderStartup, Loading, LoadingStage, Prediction, TransformTime
from profkit.trace.schema import BATCHES

MS = 1_000_000


def inside(
    waits: dict[str, float],
    took: dict[str, float] | None = None,
    *,
    workers: int = 2,
    interval_ms: float = 20.0,
    utilisation: float | None = None,
    fetch: dict[str, float] | None = None,
    **more: Any,
) -> Loading:
    """A loader whose mean wait consists of these milliseconds; its fetch takes 10 ms on a core unless said."""
    parts = {"mean": 10.0, "p50": 10.0, "p95": 10.0, "max": 10.0, "cpu": 10.0, "run_queue": 0.0, "blocked": 0.0}
    parts |= fetch or {}
    figures = {f"{name}_ns": ms * MS for name, ms in parts.items() if not name.startswith("read")}
    reads = {name: value for name, value in parts.items() if name.startswith("read")}
    took = {"item": 10.0, **(took or {})}
    return Loading(
        loader="DataLoader",
        settings={"num_workers": workers, "cpus": 4},
        batches=50,
        num_workers=workers,
        wait_ns=sum(waits.values()) * MS,
        interval_ns=interval_ms * MS,
        stages=[
            LoadingStage(name=name, mean_ns=took.get(name, 0.0) * MS, wait_ns=waits.get(name, 0.0) * MS)
            for name in STAGES
        ],
        fetch=Fetch(**figures, **reads),
        utilisation=(0.95 if workers else None) if utilisation is None else utilisation,
        **more,
    )


def batches(fetch_ms: list[float], slowest_ms: list[float], wait_ms: list[float]) -> pl.DataFrame:
    """Batches with these fetches, slowest samples and waits."""
    rows = [
        {
            "index": number,
            "asked_ns": 0,
            "came_ns": round(wait * MS),
            "fetch_start_ns": 0,
            "fetch_end_ns": round(took * MS),
            "slowest_ns": round(slowest * MS),
            "slowest_index": 1_000 + number,
        }
        for number, (took, slowest, wait) in enumerate(zip(fetch_ms, slowest_ms, wait_ms, strict=True))
    ]
    return pl.DataFrame(rows, schema=BATCHES)


ALIKE = batches([10.0] * 20, [2.0] * 20, [8.0] * 20)


def first(case: Loading, judged: pl.DataFrame = ALIKE, foreign_cores: float | None = None) -> LoaderCause:
    cause = loader_causes(case, judged, foreign_cores)[0]
    assert cause.cause in CAUSES
    return cause


def workers(*steps_ms: float, now: int) -> list[Prediction]:
    """A what-if curve from 0 workers on."""
    return [
        Prediction(
            kind="workers",
            settings={"num_workers": count},
            step_ns=ms * MS,
            wait_ns=0.0,
            speedup=steps_ms[now] / ms,
            confidence="high",
        )
        for count, ms in enumerate(steps_ms)
    ]


def test_without_workers_the_training_process_makes_every_batch() -> None:
    found = first(inside({"item": 9.0, "collate": 1.0}, workers=0, predictions=workers(20, 11, 10.9, now=0)))
    assert found.cause == "no_workers"
    assert "num_workers=1," in found.remedy
    assert found.speedup == pytest.approx(20 / 11)


def test_busy_workers_where_more_would_help_are_too_few() -> None:
    found = first(inside({"item": 8.0}, workers=1, predictions=workers(30, 20, 10, 10, now=1)))
    assert (found.cause, found.speedup) == ("too_few_workers", 2.0)
    assert "num_workers=2)" in found.remedy


def test_busy_workers_where_more_would_not_help_need_cheaper_samples() -> None:
    decode = TransformTime(name="Decode", calls=9, mean_ns=1.0, share=0.8)
    found = first(inside({"item": 8.0}, predictions=workers(40, 22, 20, 20, now=2), transforms=[decode]))
    assert found.cause == "cpu_bound_workers"
    assert "Decode is 80 %" in found.remedy


@pytest.mark.parametrize(
    ("read", "cause"),
    [
        ({"read_bytes": 4e6, "read_chars": 8e6}, "slow_storage"),
        ({"read_bytes": 5e5, "read_chars": 8e6}, "blocked_workers"),
        ({"read_bytes": 4e4, "read_chars": 4e4}, "blocked_workers"),
    ],
)
def test_blocked_workers_wait_for_storage_where_it_delivered(read: dict[str, float], cause: str) -> None:
    assert first(inside({"item": 8.0}, fetch={"cpu": 2.0, "blocked": 8.0, **read})).cause == cause


def test_starved_workers_lack_cores_of_their_own_or_others_hold_them() -> None:
    starved = inside({"item": 8.0}, workers=6, fetch={"cpu": 5.0, "run_queue": 5.0})
    assert first(starved).cause == "cpu_oversubscribed"
    assert first(starved, foreign_cores=0.4).cause == "cpu_oversubscribed"
    assert first(starved, foreign_cores=1.5).cause == "other_processes"


def test_a_worker_that_computes_in_threads_is_told_so() -> None:
    starved = inside({"item": 8.0}, fetch={"cpu": 5.0, "run_queue": 5.0})
    rows = [
        {"worker": 0, "loop": 0, "fetch_start_ns": n, "worker_cpu_ns": n * 20 * MS, "cpu_ns": 5 * MS} for n in range(9)
    ]
    judged = pl.DataFrame(rows, schema=BATCHES).with_columns(
        pl.col("fetch_start_ns").alias("fetch_end_ns"), pl.lit(0).alias("asked_ns"), pl.lit(0).alias("came_ns")
    )
    assert first(starved, judged, foreign_cores=2.0).cause == "worker_threads"


def test_collating_is_named_where_it_is_most_of_the_fetch() -> None:
    assert first(inside({"item": 1.0, "collate": 7.0}, {"collate": 8.0})).cause == "slow_collate"
    assert first(inside({"item": 6.0, "collate": 2.0}, {"collate": 3.0})).cause != "slow_collate"


def test_slow_samples_are_named_by_their_index() -> None:
    judged = batches([10.0] * 38 + [120.0] * 2, [2.0] * 38 + [110.0, 112.0], [0.1] * 38 + [100.0] * 2)
    found = first(inside({"item": 5.1}, utilisation=0.5), judged)
    assert found.cause == "slow_samples"
    assert found.evidence["slowest_sample"] == 1_039
    assert "sample 1039 took 112 ms" in found.because


def test_a_slow_batch_without_a_slow_sample_is_not_blamed_on_one() -> None:
    judged = batches([10.0] * 38 + [120.0] * 2, [2.0] * 38 + [20.0] * 2, [0.1] * 38 + [100.0] * 2)
    assert first(inside({"item": 5.1}, utilisation=0.5), judged).cause != "slow_samples"


def test_a_slow_sampler_is_found_whatever_the_workers_do() -> None:
    for count in (0, 2):
        assert first(inside({"sampler": 6.0, "item": 1.0}, workers=count)).cause == "slow_sampler"


@pytest.mark.parametrize(
    ("waits", "took", "cause"),
    [
        ({"pickle": 4.0, "unpickle": 3.0}, {"pickle": 5.0, "unpickle": 4.0}, "many_objects"),
        ({"pipe": 6.0, "unpickle": 1.0}, {"pickle": 2.0, "unpickle": 2.0}, "large_payload"),
        ({"unpickle": 7.0}, {"pickle": 1.0, "unpickle": 7.0}, "slow_handover"),
        ({"pin": 7.0}, {"pin": 8.0}, "slow_pinning"),
    ],
)
def test_workers_with_time_to_spare_point_at_the_way_of_the_batch(
    waits: dict[str, float], took: dict[str, float], cause: str
) -> None:
    assert first(inside(waits, took, utilisation=0.5)).cause == cause


def test_a_saturated_worker_explains_slow_sending_too() -> None:
    found = first(inside({"pickle": 4.0, "unpickle": 3.0}, {"pickle": 5.0, "unpickle": 4.0}, utilisation=0.95))
    assert found.cause == "cpu_bound_workers"


def test_a_batch_that_costs_less_than_its_way_is_small() -> None:
    case = inside(
        {"pipe": 0.4, "unpickle": 0.3},
        {"item": 0.05, "pickle": 0.2, "unpickle": 0.3, "feeder": 0.1},
        interval_ms=1.0,
        utilisation=0.2,
        fetch={"mean": 0.1, "p50": 0.1, "cpu": 0.1},
    )
    assert first(case).cause == "small_batches"


def test_more_made_ahead_is_advised_where_that_is_predicted_to_help() -> None:
    factors = [
        Prediction(
            kind="prefetch",
            settings={"num_workers": 2, "prefetch_factor": factor},
            step_ns=ms * MS,
            wait_ns=0.0,
            speedup=20 / ms,
        )
        for factor, ms in ((1, 20.0), (2, 15.0), (4, 12.0), (8, 11.9))
    ]
    found = first(inside({"item": 6.0}, utilisation=0.6, predictions=factors))
    assert (found.cause, found.remedy) == ("small_prefetch", "DataLoader(…, prefetch_factor=4).")


def test_what_the_evidence_does_not_explain_has_no_cause() -> None:
    assert loader_causes(inside({"other": 8.0}, utilisation=0.2), ALIKE) == []
    assert loader_causes(inside({"hold": 0.0}, utilisation=0.2), ALIKE) == []


def test_beginning_a_pass_is_named_by_its_largest_part() -> None:
    startup = LoaderStartup(
        passes=3, first_wait_ns=900 * MS, process_ns=20 * MS, init_ns=700 * MS, first_fetch_ns=15 * MS
    )
    assert start_part(inside({"item": 1.0}, startup=startup)) == ("slow_worker_init", 700 * MS)
    startup = LoaderStartup(passes=3, first_wait_ns=900 * MS, process_ns=20 * MS, first_fetch_ns=800 * MS)
    assert start_part(inside({"item": 1.0}, startup=startup)) == ("slow_first_batch", 790 * MS)
