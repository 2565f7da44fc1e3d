"""What records of loaders become: batches with their way, samples, workers, stages."""

from __future__ import annotations

from pathlib import Path

from profkit.capture import Capture, read_capture, run_info
from profkit.loadercapture import batches_table, samples_table
from profkit.records import (
    Batch,
    Fetch,
    LoaderOpened,
    Pipeline,
    Record,
    Samples,
    Stage,
    Step,
    Wait,
    WorkerStarted,
)
from tests.captured import append

OPENED = LoaderOpened(0, "DataLoader", 0, 0, {"num_workers": 1})
FETCH = Fetch(0, -90, -30, -20, -15, 40, 5, 0, 0, 50, 7, 1_000, 55)  # began 90 ns before its batch was asked for


def captured(tmp_path: Path, *records: Record) -> Capture:
    append(tmp_path / "capture" / "host-0-1-a.pkrec", *records)
    return read_capture(tmp_path / "capture")


def batch(index: int, asked_ns: int, fetch: Fetch | None = FETCH) -> Batch:
    """It came 20 ns after it was asked for."""
    return Batch(0, 0, index, asked_ns, 20, 1, 2, 3, -95, 18, None, (-12, -10, 5, 9), fetch, 0, 0, 0)


def test_moments_become_unix_time_and_a_batch_belongs_to_the_step_it_came_in(tmp_path: Path) -> None:
    steps = [Step(number, 1_000 * number, 1_000 * (number + 1), "marker", 0) for number in range(2)]
    capture = captured(tmp_path, OPENED, *steps, Wait(0, 500, 20, True), batch(0, 500), batch(1, 1_500))
    table = batches_table(capture)
    assert table.select("step", "first", "worker", "ready").rows() == [(0, True, 0, 1), (1, False, 0, 1)]
    columns = ("dispatched_ns", "fetch_start_ns", "fetch_end_ns", "pickle_end_ns", "unpickle_start_ns", "received_ns")
    assert table.select(columns).row(1) == (1_405, 1_410, 1_485, 1_490, 1_505, 1_518)
    assert table.select("item_ns", "collate_ns", "slowest_index").row(1) == (55, 10, 7)


def test_what_nobody_looked_into_is_null_and_not_nought(tmp_path: Path) -> None:
    table = batches_table(captured(tmp_path, OPENED, batch(0, 500, None)))
    names = ("worker", "ready", "fetch_start_ns", "item_ns", "cpu_ns", "pin_start_ns", "step")
    assert table.select(names).row(0) == (None,) * len(names)


def test_a_batch_of_the_training_process_has_no_worker(tmp_path: Path) -> None:
    alone = Fetch(-1, *[getattr(FETCH, name) for name in FETCH.__struct_fields__[1:]])
    table = batches_table(captured(tmp_path, OPENED, batch(0, 500, alone)))
    assert table.select("worker", "ready", "fetch_start_ns").row(0) == (None, None, 410)


def test_samples_of_a_fetch_are_rows_and_transforms_are_added_up(tmp_path: Path) -> None:
    records = [
        Samples(0, 1, 42, 900, [3, None], [10, 20], {"Crop": (2, 8)}),
        Samples(0, -1, 0, 950, [5], [30], {"Crop": (1, 2), "Blur": (1, 20)}),
    ]
    capture = captured(tmp_path, OPENED, *records)
    table = samples_table(capture)
    assert table.select("worker", "index", "duration_ns").rows() == [(1, 3, 10), (1, None, 20), (None, 5, 30)]
    transforms = run_info(capture, alive=False).loaders["0"].transforms
    assert [(t.name, t.calls, t.total_ns) for t in transforms] == [("Blur", 1, 20), ("Crop", 3, 10)]


def test_workers_say_what_their_start_took(tmp_path: Path) -> None:
    capture = captured(tmp_path, OPENED, WorkerStarted(0, 0, 1, 42, 500, 70, 20, 10))
    [worker] = run_info(capture, alive=False).loaders["0"].workers
    assert (worker.worker, worker.pid, worker.process_ns, worker.init_ns, worker.dataset_ns) == (1, 42, 70, 20, 10)


def test_of_several_readings_the_last_one_with_all_stages_counts(tmp_path: Path) -> None:
    """A generator that has run dry is in the model no more."""

    def reading(*stages: tuple[str, int]) -> Pipeline:
        return Pipeline(0, [Stage(name, elements, 9, 0, 1) for name, elements in stages])

    readings = [
        reading(("Root", 4)),
        reading(("Root", 8), ("Generator", 8)),
        reading(("Root", 16), ("Generator", 16)),
        reading(("Root", 20)),
    ]
    stages = run_info(captured(tmp_path, OPENED, *readings), alive=False).loaders["0"].stages
    assert [(stage.name, stage.elements) for stage in stages] == [("Root", 16), ("Generator", 16)]
