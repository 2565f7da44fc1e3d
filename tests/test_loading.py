"""The inside of a loader, from a table of its batches: the parts of a wait, and what they say of the workers."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.analysis.loading import STAGES, loading, stage_times, stage_waits
from profkit.trace.model import Loader, LoaderWorker, Run, RunInfo, Transform
from profkit.trace.schema import BATCHES, SAMPLES, STEPS, empty

MOMENTS = (
    *("dispatched_ns", "fetch_start_ns", "fetch_end_ns", "pickle_start_ns", "pickle_end_ns"),
    *("unpickle_start_ns", "unpickle_end_ns", "pin_start_ns", "pin_end_ns", "received_ns"),
)
# Each stage from here to there, as numbers of the moments above; collate is the end of the fetch.
BETWEEN = {"backlog": (0, 1), "feeder": (2, 3), "pickle": (3, 4), "pipe": (4, 5), "unpickle": (5, 6), "pin": (7, 8)}


def batch(**columns: Any) -> dict[str, Any]:
    """A batch that was asked for at 1000 and came at 2000, and of which nothing else is known."""
    usual = {"loader": 0, "loop": 0, "index": 0, "asked_ns": 1_000, "came_ns": 2_000, "first": False, "step": 1}
    return {**dict.fromkeys(BATCHES), **usual, "sampler_ns": 0, **columns}


def table(*rows: dict[str, Any]) -> pl.DataFrame:
    return pl.DataFrame(list(rows), schema=BATCHES)


def known(moments: list[int], **columns: Any) -> dict[str, Any]:
    """A batch whose way is known: its ten moments in order."""
    return batch(**dict(zip(MOMENTS, moments, strict=True)), item_ns=0, collate_ns=0, worker=0, **columns)


def waits(row: dict[str, Any]) -> dict[str, int]:
    """The stages something was waited for."""
    [found] = stage_waits(table(row)).to_dicts()
    return {name: ns for name, ns in found.items() if ns}


@pytest.mark.parametrize("stage", BETWEEN)
def test_a_stage_that_fills_the_wait_is_all_of_it(stage: str) -> None:
    begin, _ = BETWEEN[stage]
    assert waits(known([1_000] * (begin + 1) + [2_000] * (9 - begin))) == {stage: 1_000}


@pytest.mark.parametrize(("stage", "of_fetch"), [("item", {"item_ns": 1_000}), ("collate", {"collate_ns": 1_000})])
def test_a_part_of_the_fetch_that_fills_the_wait_is_all_of_it(stage: str, of_fetch: dict[str, int]) -> None:
    assert waits({**known([1_000, 1_000, *[2_000] * 8]), **of_fetch}) == {stage: 1_000}


def test_choosing_the_indices_is_the_samplers_part() -> None:
    assert waits(batch(sampler_ns=400)) == {"sampler": 400, "other": 600}


def test_what_was_done_before_the_batch_was_asked_for_is_no_wait() -> None:
    """The fetch began long before; only its end is waited for."""
    row = {**known([0, 100, 1_300, *[1_300] * 6, 1_300]), "item_ns": 900, "collate_ns": 300}
    assert waits(row) == {"collate": 300, "other": 700}
    [times] = stage_times(table(row)).to_dicts()
    assert (times["item"], times["collate"], times["backlog"]) == (900, 300, 100)


def test_a_batch_that_lay_ready_was_held_and_not_waited_for() -> None:
    row = known([0, 10, 20, 20, 30, 30, 40, 40, 40, 50])
    assert waits(row) == {"other": 1_000}
    assert stage_times(table(row))["hold"].to_list() == [950]


def test_of_a_batch_nobody_looked_into_all_is_other() -> None:
    assert waits(batch()) == {"other": 1_000}
    [times] = stage_times(table(batch())).to_dicts()
    assert [name for name, ns in times.items() if ns is not None] == ["sampler"]


@given(
    st.lists(st.integers(0, 3_000), min_size=10, max_size=10),
    st.integers(0, 200),
    st.floats(0, 1),
    st.lists(st.sampled_from(MOMENTS), max_size=4),
)
def test_the_parts_add_up_to_the_wait(moments: list[int], sampler: int, share: float, unknown: list[str]) -> None:
    """Whatever lies within the wait, and whatever is not known of it."""
    row = known(sorted(moments), sampler_ns=sampler)
    row["collate_ns"] = int(share * (row["fetch_end_ns"] - row["fetch_start_ns"]))
    found = stage_waits(table({**row, **dict.fromkeys(unknown)}))
    assert found.columns == list(STAGES)
    assert found.sum_horizontal().to_list() == [1_000]
    assert all(found[name].item() >= 0 for name in STAGES if name not in ("sampler", "other"))


def steady(count: int, workers: int, fetch_ns: int, interval_ns: int, **columns: Any) -> pl.DataFrame:
    """Batches that come at a steady pace, from workers that take turns."""
    rows = []
    for number in range(count):
        came = 10_000 + number * interval_ns
        rows.append(
            batch(
                index=number,
                step=number,
                asked_ns=came - 10,
                came_ns=came,
                first=number == 0,
                worker=number % workers if workers else None,
                fetch_start_ns=came - 20 - fetch_ns,
                fetch_end_ns=came - 20,
                item_ns=fetch_ns,
                collate_ns=0,
                slowest_ns=None,
                **columns,
            )
        )
    return table(*rows)


def run(batches: pl.DataFrame, loader: Loader, samples: pl.DataFrame | None = None) -> Run:
    info = RunInfo(loaders={"0": loader})
    return Run(
        info=info,
        steps=empty(STEPS),
        counters=pl.DataFrame(),
        batches=batches,
        samples=empty(SAMPLES) if samples is None else samples,
    )


def test_utilisation_is_fetching_over_the_time_of_all_workers() -> None:
    found = loading(run(steady(40, 2, fetch_ns=1_500, interval_ns=1_000), Loader("DataLoader", {"num_workers": 2})))
    assert found is not None
    assert found.utilisation == pytest.approx(0.75)
    assert [worker.worker for worker in found.workers] == [0, 1]
    assert [worker.busy_share for worker in found.workers] == pytest.approx([0.75, 0.75], rel=0.05)


def test_a_training_process_that_makes_its_batches_itself_has_no_utilisation() -> None:
    found = loading(run(steady(40, 0, fetch_ns=1_500, interval_ns=1_000), Loader("DataLoader", {"num_workers": 0})))
    assert found is not None
    assert (found.num_workers, found.utilisation) == (0, None)
    assert [worker.worker for worker in found.workers] == [None]
    assert found.queue_depth == []


def test_the_queues_depth_counts_how_often_so_many_batches_were_ready() -> None:
    batches = steady(6, 2, 1_500, 1_000).with_columns(pl.Series("ready", [9, 0, 2, 2, 1, 0], dtype=pl.Int32))
    found = loading(run(batches, Loader("DataLoader", {"num_workers": 2})))
    assert found is not None
    assert found.queue_depth == [2, 1, 2], "the first batch of a pass is start-up"


def test_fetch_is_split_into_core_run_queue_and_blocked() -> None:
    batches = steady(10, 1, 1_000, 1_000, cpu_ns=600, run_queue_ns=300)
    found = loading(run(batches, Loader("DataLoader", {"num_workers": 1})))
    assert found is not None
    assert found.fetch is not None
    assert (found.fetch.cpu_ns, found.fetch.run_queue_ns, found.fetch.blocked_ns) == (600, 300, 100)


def test_where_nobody_looked_inside_there_is_nothing_to_say() -> None:
    assert loading(run(empty(BATCHES), Loader("DataLoader"))) is None
    assert loading(run(table(*[batch(index=number) for number in range(9)]), Loader("DataLoader"))) is None


def test_the_slowest_samples_are_named_with_their_batch() -> None:
    batches = steady(10, 1, 1_000, 1_000)
    samples = pl.DataFrame(
        {
            "loader": [0, 0],
            "worker": [0, 0],
            "pid": [7, 7],
            "fetch_start_ns": batches["fetch_start_ns"].to_list()[3:5],
            "index": [31, 44],
            "duration_ns": [100, 900],
        },
        schema=SAMPLES,
    )
    found = loading(run(batches, Loader("DataLoader", {"num_workers": 1}), samples))
    assert found is not None
    assert [(slow.index, slow.batch) for slow in found.slowest_samples] == [(44, 4), (31, 3)]


def test_start_up_counts_from_the_moment_the_pass_was_begun() -> None:
    started = LoaderWorker(worker=0, pid=7, loop=0, asked_ns=4_000, process_ns=500, init_ns=60, dataset_ns=40)
    loader = Loader("DataLoader", {"num_workers": 1}, workers=[started], transforms=[Transform("Crop", 4, 400)])
    found = loading(run(steady(10, 1, 1_000, 1_000), loader))
    assert found is not None
    assert found.startup is not None
    assert (found.startup.first_wait_ns, found.startup.process_ns) == (6_000, 500)
    assert (found.startup.init_ns, found.startup.dataset_ns) == (60, 40)
    assert [(t.name, t.mean_ns, t.share) for t in found.transforms] == [("Crop", 100, 1.0)]
    assert np.isclose(sum(stage.wait_ns for stage in found.stages), found.wait_ns)
