"""What-if: the simulator against answers known in closed form, what a profile takes from a table, and the command."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.analysis import loadersimulation
from profkit.analysis.loaderprofile import LoaderProfile, profile_of
from profkit.analysis.loadersimulation import BatchCost, Costs, simulate
from profkit.analysis.whatif import Settings, knee, predict, predictions, profile_of_run
from profkit.cli.main import main
from profkit.records import SUFFIX, Batch, End, Fetch, LoaderOpened, Record, Start, Step, Wait
from profkit.trace.load import load
from profkit.trace.schema import BATCHES
from tests.captured import append
from tests.runs import MS, run

MANY = 64  # cores


@pytest.fixture(autouse=True)
def uncrowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed forms know nothing of caches that busy cores share; one test has them."""
    monkeypatch.setattr(loadersimulation, "CROWDING", 0.0)


def costs(
    fetch_cpu: float = 0, fetch_blocked: float = 0, consumer: float = 0, blocked: float = 0, **others: Any
) -> Costs:
    """Equal batches, in milliseconds, whose way costs nothing unless it is said."""
    batch = BatchCost(0.0, fetch_cpu * MS, fetch_blocked * MS, consumer * MS, blocked * MS)
    way = {"send_cpu_ns": 0.0, "receive_cpu_ns": 0.0, "transit_ns": 0.0}
    return Costs((batch,), **(way | others))


def step_ms(of: Costs, workers: int, prefetch: int = 2, cores: int = MANY) -> float:
    return simulate(of, workers, prefetch, cores).step_ns / MS


def test_without_workers_fetch_and_training_follow_each_other() -> None:
    outcome = simulate(costs(fetch_cpu=6, fetch_blocked=2, consumer=5, blocked=1), 0, 2, 2)
    assert outcome.step_ns == pytest.approx(14 * MS)
    assert outcome.wait_ns == pytest.approx(8 * MS)


@pytest.mark.parametrize(("fetch", "consumer", "expected"), [(10, 4, 12), (3, 20, 21)])
def test_one_worker_and_the_training_overlap_the_slower_side_sets_the_pace(
    fetch: float, consumer: float, expected: float
) -> None:
    way = {"send_cpu_ns": 2.0 * MS, "receive_cpu_ns": 1.0 * MS}
    assert step_ms(costs(fetch_cpu=fetch, consumer=consumer, **way), workers=1) == pytest.approx(expected)


@pytest.mark.parametrize("workers", [1, 2, 3, 4, 5, 8])
def test_workers_divide_the_fetch_down_to_the_training(workers: int) -> None:
    expected = max(24 / workers, 5)
    assert step_ms(costs(fetch_cpu=24, consumer=5), workers) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("workers", [2, 4, 9])
def test_saturated_cores_do_all_the_work_there_is_and_no_more(workers: int) -> None:
    of = costs(fetch_cpu=12, consumer=4, send_cpu_ns=1.0 * MS, receive_cpu_ns=1.0 * MS)
    assert step_ms(of, workers, cores=2) == pytest.approx((12 + 4 + 1 + 1) / 2, rel=0.01)


def test_work_takes_longer_the_more_cores_are_busy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loadersimulation, "CROWDING", 0.25)
    of = costs(fetch_cpu=12, consumer=4)
    assert step_ms(of, 0, cores=2) == pytest.approx(16)  # one at a time
    assert step_ms(of, 4, cores=2) == pytest.approx(16 / 2 * 1.25, rel=0.01)


def test_crowding_is_taken_out_of_a_profile_and_put_back_by_its_simulation(monkeypatch: pytest.MonkeyPatch) -> None:
    """A saturated run whose batches take 16 ms of CPU time on both cores: 12.8 without each other."""
    batches = table(workers=4, cpu_ns=12 * MS, consumer_cpu_ns=4 * MS)
    batches = batches.with_columns(process_cpu_ns=pl.col("index").cast(pl.Int64) * 4 * MS)
    batches = batches.with_columns(worker_cpu_ns=pl.col("index").cast(pl.Int64) // 4 * 12 * MS)
    as_measured = profile_of(batches, 4, 2)
    monkeypatch.setattr(loadersimulation, "CROWDING", 0.25)
    uncrowded = profile_of(batches, 4, 2)
    assert as_measured is not None
    assert uncrowded is not None
    fetch_ns = uncrowded.costs.batches[0].fetch_cpu_ns
    assert 12 * MS / 1.25 <= fetch_ns < 12 * MS
    own = predict(uncrowded, Settings.of(uncrowded)).step_ns
    monkeypatch.setattr(loadersimulation, "CROWDING", 0.0)
    assert own == pytest.approx(predict(as_measured, Settings.of(as_measured)).step_ns, rel=0.03)


def test_blocked_fetches_need_no_core() -> None:
    assert step_ms(costs(fetch_blocked=16, consumer=1), workers=8, cores=1) == pytest.approx(2, rel=0.01)


def test_a_training_that_keeps_two_cores_busy_leaves_none_to_the_workers() -> None:
    of = costs(fetch_cpu=8, consumer=10, consumer_width=2.0)
    assert step_ms(of, workers=2, cores=2) == pytest.approx((2 * 10 + 8) / 2, rel=0.01)


@pytest.mark.parametrize(("workers", "prefetch"), [(1, 1), (1, 4), (2, 2), (3, 1)])
def test_a_slow_batch_is_waited_for_beyond_what_was_prefetched(workers: int, prefetch: int) -> None:
    """Ordered workers · prefetch batches before its turn, it has their training's time to be made in."""
    quick, slow = BatchCost(0, 1.0 * MS, 0, 10.0 * MS, 0), BatchCost(0, 75.0 * MS, 0, 10.0 * MS, 0)
    of = replace(costs(), batches=(*[quick] * 11, slow))
    outcome = simulate(of, workers, prefetch, MANY)
    assert outcome.wait_ns * 12 == pytest.approx((75 - 10 * workers * prefetch) * MS, rel=0.01)
    assert outcome.step_ns - outcome.wait_ns == pytest.approx(10 * MS)


def test_enough_prefetched_batches_hide_a_slow_one() -> None:
    quick, slow = BatchCost(0, 1.0 * MS, 0, 10.0 * MS, 0), BatchCost(0, 75.0 * MS, 0, 10.0 * MS, 0)
    assert simulate(replace(costs(), batches=(*[quick] * 19, slow)), 2, 4, MANY).wait_ns == pytest.approx(0, abs=1)


def test_the_pin_thread_is_a_station_of_its_own() -> None:
    of = costs(fetch_cpu=2, consumer=3, pin_ns=(4.0 * MS, 3.0 * MS))
    assert step_ms(of, workers=4) == pytest.approx(7)


def test_the_same_question_has_the_same_answer() -> None:
    of = replace(costs(), batches=tuple(BatchCost(0, (n * 7919 % 13) * MS, n % 3 * MS, 4.0 * MS, 0) for n in range(50)))
    assert simulate(of, 3, 2, 2) == simulate(of, 3, 2, 2)


times = st.floats(0, 20)
batch_costs = st.builds(BatchCost, *[times.map(lambda ms: ms * MS)] * 5)


@given(st.lists(batch_costs, min_size=1, max_size=20), times, st.integers(0, 6), st.integers(1, 4), st.integers(1, 4))
def test_no_step_is_shorter_than_its_work_allows(
    batches: list[BatchCost], way: float, workers: int, prefetch: int, cores: int
) -> None:
    of = Costs(tuple(batches), way * MS, way * MS, 0.0)
    outcome = simulate(of, workers, prefetch, cores)
    assert 0 <= outcome.wait_ns <= outcome.step_ns + 1
    used = [batches[n % len(batches)] for n in range(1200)]
    consumer = sum(b.consumer_cpu_ns + b.consumer_blocked_ns for b in batches) / len(batches)
    cpu = sum(b.sampler_ns + b.fetch_cpu_ns + b.consumer_cpu_ns for b in batches) / len(batches)
    # The measured stretch is no multiple of the batches: it can miss the dearest of them once.
    slack = 2 * max(sum(b) for b in used) * (workers * prefetch + len(batches)) / 120
    assert outcome.step_ns >= consumer - slack - 1
    assert outcome.step_ns >= cpu / cores - slack - 1


def table(count: int = 24, workers: int = 1, **changed: Any) -> pl.DataFrame:
    """Batches of one pass: a fetch of 20 ms, 12 on a core and 5 in the queue for one; training of 10 ms, 7 and 1.

    Beside their fetches the worker takes 1.5 ms of CPU time, the training process 0.8 ms beside its training.
    """
    rows = []
    for n in range(count):
        asked = 30 * MS * n
        row: dict[str, Any] = dict.fromkeys(BATCHES)
        row |= {"loader": 0, "loop": 0, "index": n, "step": n, "first": n == 0}
        row |= {"asked_ns": asked, "came_ns": asked + 20 * MS, "ready": 0, "outstanding": 2 * workers}
        row |= {"sampler_ns": 0, "fetch_start_ns": asked - 5 * MS, "fetch_end_ns": asked + 15 * MS}
        row |= {"item_ns": 15 * MS, "collate_ns": 5 * MS, "cpu_ns": 12 * MS, "run_queue_ns": 5 * MS}
        row |= {"consumer_cpu_ns": 7 * MS, "consumer_run_queue_ns": MS, "process_cpu_ns": int(7.8 * MS) * n}
        if workers:
            row |= {"worker": n % workers, "worker_cpu_ns": int(13.5 * MS) * (n // workers)}
            row |= {"pickle_start_ns": asked + 16 * MS, "pickle_end_ns": asked + 17 * MS}
            row |= {"unpickle_start_ns": asked + 18 * MS, "unpickle_end_ns": asked + 19 * MS}
        rows.append(row | changed)
    return pl.DataFrame(rows, schema=BATCHES)


def profiled(batches: pl.DataFrame, workers: int = 1) -> LoaderProfile:
    profile = profile_of(batches, workers, 4)
    assert profile is not None
    return profile


def test_a_profile_holds_what_batches_cost_without_their_contention() -> None:
    profile = profiled(table())
    assert profile.costs.batches[0] == BatchCost(0, 12 * MS, 3 * MS, 7 * MS, 2 * MS)
    assert profile.costs.send_cpu_ns == pytest.approx(1.5 * MS)
    assert profile.costs.receive_cpu_ns == pytest.approx(0.8 * MS)
    assert profile.costs.transit_ns == pytest.approx(2 * MS)  # 15 to 18 ms, one of it pickling
    assert (profile.num_workers, profile.prefetch_factor, profile.cores) == (1, 2, 4)
    assert profile.item_share == pytest.approx(0.75)
    assert (profile.step_ns, profile.wait_ns) == (30 * MS, 20 * MS)


def test_cpu_time_of_the_process_beside_its_training_thread_widens_the_training() -> None:
    batches = table().with_columns(process_cpu_ns=pl.col("index").cast(pl.Int64) * 16 * MS)
    profile = profiled(batches)
    assert profile.costs.receive_cpu_ns == pytest.approx(2 * MS)  # from unpickling's begin until it came
    assert profile.costs.consumer_width == pytest.approx(1 + (16 - 7 - 2) / 7)


def test_without_workers_the_way_of_a_batch_is_assumed_and_said_to_be() -> None:
    batches = table(workers=0).with_columns(process_cpu_ns=pl.col("index").cast(pl.Int64) * 19 * MS)
    profile = profiled(batches, 0)
    assert profile.assumes_transfer
    assert profile.costs.send_cpu_ns > 0
    assert profile.costs.consumer_width == 1


def test_batches_that_were_ordered_before_the_first_came_are_no_part_of_a_profile() -> None:
    slow_start = pl.when(pl.col("index") < 4).then(pl.col("fetch_start_ns") - 500 * MS).otherwise("fetch_start_ns")
    assert profiled(table(workers=2).with_columns(fetch_start_ns=slow_start), 2) == profiled(table(workers=2), 2)


def test_what_lies_between_rows_that_are_missing_is_no_cost() -> None:
    batches = table(40).filter(~pl.col("index").is_between(20, 24))
    assert {batch.consumer_cpu_ns for batch in profiled(batches).costs.batches} == {7 * MS}
    assert profiled(batches).step_ns == 30 * MS


@pytest.mark.parametrize(
    "batches", [table(7), table(cpu_ns=None), table(fetch_start_ns=None), pl.DataFrame(schema=BATCHES)]
)
def test_too_few_batches_or_fetches_nobody_looked_into_give_no_profile(batches: pl.DataFrame) -> None:
    assert profile_of(batches, 1, 4) is None


def test_a_run_whose_loader_nobody_looked_into_has_no_profile() -> None:
    assert profile_of_run(run([{}] * 20)) is None


def test_predictions_cover_workers_prefetch_batch_sizes_and_stages_and_mark_what_was_measured() -> None:
    profile = profiled(table())
    predicted = predictions(profile, 8)
    by_kind = {kind: [p for p in predicted if p.kind == kind] for kind in ("workers", "prefetch", "batch", "without")}
    assert [p.settings["num_workers"] for p in by_kind["workers"]] == list(range(7))
    assert [p.settings["prefetch_factor"] for p in by_kind["prefetch"]] == [1, 2, 4, 8]
    assert [p.settings["batch_size"] for p in by_kind["batch"]] == [4, 16, 32]
    assert [p.settings["stage"] for p in by_kind["without"]] == ["item", "collate", "transfer"]
    assert sum(map(len, by_kind.values())) == len(predicted)
    assert by_kind["workers"][1].speedup == 1
    assert {p.confidence for p in by_kind["batch"]} == {"low"}


def test_a_run_that_does_not_predict_itself_promises_little() -> None:
    profile = profiled(table())
    own = predict(profile, Settings.of(profile)).step_ns
    as_predicted = replace(profile, step_ns=own)
    disturbed = replace(profile, step_ns=2 * own)
    assert predictions(as_predicted)[1].confidence == "high"
    assert {p.confidence for p in predictions(disturbed)} == {"low"}


def test_the_knee_is_the_fewest_workers_that_are_nearly_as_fast_as_any() -> None:
    profile = replace(profiled(table()), costs=costs(fetch_cpu=19.8, consumer=5), cores=16)
    curve = [p for p in predictions(profile) if p.kind == "workers"]
    assert knee(curve).settings["num_workers"] == 4


@pytest.mark.parametrize(("stage", "expected"), [("item", 0.25 * 20), ("collate", 0.75 * 20), ("transfer", 20)])
def test_a_stage_that_costs_nothing_is_taken_out_of_the_fetch(stage: str, expected: float) -> None:
    profile = replace(
        profiled(table()), costs=costs(fetch_cpu=20, consumer=1, send_cpu_ns=3.0 * MS, receive_cpu_ns=0.5 * MS)
    )
    sent = 0 if stage == "transfer" else 3
    assert predict(profile, Settings(1, 2, without=stage)).step_ns / MS == pytest.approx(expected + sent)


def test_a_larger_batch_scales_fetch_and_training_but_not_the_way() -> None:
    profile = replace(profiled(table()), costs=costs(fetch_cpu=20, consumer=1, send_cpu_ns=3.0 * MS))
    assert predict(profile, Settings(1, 2, batch_scale=4)).step_ns / MS == pytest.approx(83)


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    """A log folder with a run: no workers, fetches of 20 ms and training of 10, on 4 cores."""
    path = tmp_path / "runs" / "20260101T000000Z-abc123" / "plugins" / "profkit" / "capture" / f"host-0-7-0{SUFFIX}"
    records: list[Record] = [
        Start(7, 0, 1, "host", MS, "train.py", "3.11", "0.1.0", (1, 0, 1, 3, 1), {}, 7),
        LoaderOpened(0, "DataLoader", MS, 0, {"num_workers": 0, "batch_size": 8, "cpus": 4}),
    ]
    for n in range(30):
        asked = (1 + 30 * n) * MS
        fetch = Fetch(-1, 0, 15 * MS, 20 * MS, 20 * MS, 20 * MS, 0, 0, 0, MS, 0, 0, 15 * MS)
        records += [
            Batch(0, 0, n, asked, 20 * MS, -1, 0, 0, 0, 0, None, None, fetch, 10 * MS * (n > 0), 0, 30 * MS * n),
            Wait(0, asked, 20 * MS, n == 0),
            Step(n, asked, asked + 30 * MS, "marker", 0),
        ]
    append(path, *records, End("finished", 30 * 31 * MS))
    return tmp_path / "runs"


def test_the_command_prints_the_curve_marks_both_settings_and_gives_a_line(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whatif", str(run_folder), "--width", "100"]) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if re.match(r"\s+\d+\s+[\d.]+ ms", line)]
    assert [int(row[0]) for row in rows] == list(range(7))
    assert [row[0] for row in rows if row[-1] == "now"] == ["0"]
    recommended = next(row for row in rows if row[-1] == "recommended")
    assert f"DataLoader(…, num_workers={recommended[0]}, persistent_workers=True)" in out
    assert int(recommended[0]) == 2  # 20 ms and 2.5 for the way, halved, are less than the training's 10 and 2.1
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize("width", [40, 62, 80, 120])
def test_no_line_of_the_table_is_wider_than_asked(
    width: int, run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whatif", str(run_folder), "--width", str(width)]) == 0
    *table, line = [row for row in capsys.readouterr().out.splitlines() if "DataLoader(…" not in row]
    assert max(map(len, [*table, line])) <= width


def test_the_command_answers_in_json(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whatif", str(run_folder), "--json", "--workers", "1,8", "--prefetch", "3"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["measured"]["step_ns"] == pytest.approx(30 * MS)
    assert [p["settings"] for p in answer["predictions"][:3]] == [{"num_workers": n} for n in (0, 1, 8)]
    assert [p["settings"]["prefetch_factor"] for p in answer["predictions"][3:]] == [3]
    assert answer["recommended"] in answer["predictions"]


def test_a_run_without_batches_is_said_in_one_sentence(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (capture,) = run_folder.glob(f"*/plugins/profkit/capture/*{SUFFIX}")
    capture.unlink()
    append(capture, Start(7, 0, 1, "host", MS, "train.py", "3.11", "0.1.0", (1, 0, 1, 3, 1), {}, 7))
    append(capture, Step(0, MS, 9 * MS, "marker", 0), End("finished", 10 * MS))
    assert main(["whatif", str(run_folder)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"profkit: [^\n]+ does not tell what its batches cost[^\n]+\n", told.err)


@pytest.mark.parametrize(
    "words", [["--workers", "two"], ["--workers", "1,,2"], ["--prefetch", "0"], ["--workers", "999"]]
)
def test_settings_that_are_no_numbers_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["whatif", "runs", *words]) == 2
    assert "no whole numbers" in capsys.readouterr().err


def test_where_nothing_is_to_be_gained_the_command_says_to_keep_what_there_is(
    run_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["whatif", str(run_folder), "--workers", "0"]) == 0
    out = capsys.readouterr().out
    assert "Keep what you have" in out
    assert "DataLoader(…" not in out


def test_the_profile_of_a_run_is_that_of_its_training_loader(run_folder: Path) -> None:
    found = profile_of_run(load(run_folder))
    assert found is not None
    profile, loader = found
    assert (loader.name, profile.cores, profile.num_workers) == ("DataLoader", 4, 0)
