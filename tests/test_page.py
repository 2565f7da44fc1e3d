"""The first screen's data: small for any run, and no number of it differs from the report's."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import msgspec
import polars as pl
import pytest

from profkit.analysis import causes, whatif
from profkit.analysis.findings import CAUSES
from profkit.analysis.loaders import loaders_of
from profkit.analysis.loading import STAGES
from profkit.analysis.page import BATCH_POINTS, CURVE_POINTS, LAST_BATCHES, STEP_POINTS, BatchSeries, page
from profkit.analysis.report import WORTH_A_CHANGE, CollectiveRow, RankRow, Ranks, Report, Straggler
from profkit.analysis.steps import histogram
from profkit.analysis.summary import report
from profkit.exporters.tensorboard import TensorBoardExporter
from profkit.tensorboard import FILES
from profkit.trace.model import Run, RunInfo
from profkit.trace.schema import COUNTERS, empty
from tests import page_ranks, runs, traces
from tests.page_logs import SLOW_SAMPLE_EVERY, planted_batches
from tests.runs import MS


def test_a_point_of_the_series_is_the_longest_step_of_its_stretch() -> None:
    rows = [{"duration_ns": 900 * MS, "wait_ns": 800 * MS} if n == 4_321 else {} for n in range(10_000)]
    run = runs.run(rows, start_ns=0)
    found = page(run, report(run), {}).steps
    assert found.stretch == 5
    assert len(found.number) == STEP_POINTS
    place = found.number.index(4_321)
    assert (found.duration_ns[place], found.wait_ns[place]) == (900 * MS, 800 * MS)


def test_every_step_is_in_the_series_of_a_short_run() -> None:
    run = runs.run([{"window": 0 if n in (3, 4) else None, "steady": n > 0} for n in range(6)], start_ns=0)
    found = page(run, report(run), {}).steps
    assert found.number == list(range(6))
    assert found.window == [None, None, None, 0, 0, None]
    assert found.steady == [False, True, True, True, True, True]
    assert found.end_ns == [100 * MS * (n + 1) for n in range(6)]


def test_counters_are_thinned_to_means_and_begin_with_the_run() -> None:
    counters = pl.DataFrame(
        {"time_ns": [1_000 + i for i in range(3_000)], "name": ["cpu_percent"] * 3_000, "unit": ["percent"] * 3_000,
         "value": [float(i % 10) for i in range(3_000)]},
        schema_overrides=COUNTERS,
    )  # fmt: skip
    run = Run(RunInfo(start_ns=1_000), runs.steps_table([{}]), counters)
    (curve,) = page(run, report(run), {}).counters
    assert len(curve.value) == CURVE_POINTS
    assert set(curve.value) == {4.5}
    assert curve.time_ns[0] == 0


def test_a_histogram_counts_every_step_once() -> None:
    values = pl.Series([1.0] * 50 + [2.0] * 49 + [90.0]).to_numpy()
    found = histogram(values)
    assert sum(found.counts) + found.longer == 100
    assert found.longer == 1
    assert found.edges_ns[0] == 1.0
    assert len(found.edges_ns) == len(found.counts) + 1


@pytest.mark.parametrize("values", [[5.0], [5.0] * 200, [0.0, 0.0]])
def test_a_histogram_of_equal_steps_counts_them_all(values: list[float]) -> None:
    found = histogram(pl.Series(values).to_numpy())
    assert sum(found.counts) + found.longer == len(values)


def test_the_first_screen_of_a_large_report_is_small(tmp_path: Path) -> None:
    events = [traces.op(f"aten::op{i}", 10 * i, 5, args={"Input Dims": [[i]]}) for i in range(5_000)]
    trace = traces.traced(tmp_path, [traces.step(1, 0, 60_000), *events])
    run = Run(RunInfo(), runs.steps_table([{}]), empty(COUNTERS), None, (lambda: trace,))
    whole = report(run)
    assert len(msgspec.json.encode(whole)) > 500_000
    found = page(run, whole, {0: 1})
    assert len(msgspec.json.encode(found)) < 20_000
    assert found.report.operators == whole.operators[:10]
    assert found.report.breakdown_ns == whole.breakdown_ns


def test_the_first_screen_of_a_thousand_ranks_is_small_and_says_who_is_late() -> None:
    ranks = page_ranks.planted(1_024, {517: "input"})
    run = runs.run([{}], start_ns=0, world_size=1_024)
    found = page(run, page_ranks.with_ranks(report(run), ranks), {})
    assert len(msgspec.json.encode(found)) < 20_000
    assert found.report.ranks is not None
    assert found.report.ranks.stragglers == ranks.stragglers
    assert not found.report.ranks.rows
    assert not found.report.ranks.collectives


def test_ranks_are_written_once_beside_the_windows_and_in_none_of_their_reports(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [traces.step(1, 0, 60_000)])
    run = Run(RunInfo(world_size=2), runs.steps_table([{}]), empty(COUNTERS), None, (lambda: trace,))
    ranks = page_ranks.planted(2)
    TensorBoardExporter().export(run, page_ranks.with_ranks(report(run), ranks), tmp_path)
    files = tmp_path / FILES
    assert msgspec.json.decode(gzip.decompress((files / "ranks.json.gz").read_bytes()), type=Ranks) == ranks
    window = msgspec.json.decode(gzip.decompress((files / "window=0.report.json.gz").read_bytes()), type=Report)
    assert window.ranks is None


def test_a_run_of_one_process_has_no_file_of_ranks(tmp_path: Path) -> None:
    run = runs.run([{}], start_ns=0)
    TensorBoardExporter().export(run, report(run), tmp_path)
    assert not list(tmp_path.rglob("ranks*"))


def test_the_ranks_are_those_of_the_page_field_for_field() -> None:
    """What TypeScript is told of them has the names that Python writes."""
    types = (Path(__file__).parents[1] / "web" / "src" / "data" / "types.ts").read_text()
    for struct in (Ranks, RankRow, CollectiveRow, Straggler):
        declared = re.search(rf"export interface {struct.__name__} {{(.*?)\n}}", types, re.DOTALL)
        assert declared is not None, struct
        names = re.findall(r"^  (\w+): ", declared[1], re.MULTILINE)
        assert names == list(struct.__struct_fields__)


def with_batches(batches: pl.DataFrame) -> Run:
    return Run(RunInfo(start_ns=0), runs.steps_table([{}] * 3), empty(COUNTERS), batches=batches)


def test_a_bar_is_the_longest_wait_of_its_stretch_and_its_stages_add_up_to_it() -> None:
    batches = planted_batches(2_000)
    found = page(with_batches(batches), report(with_batches(batches)), {}).batches
    assert (found.stretch, len(found.wait_ns)) == (4, BATCH_POINTS)
    waits = (batches["came_ns"] - batches["asked_ns"]).to_list()
    assert found.wait_ns == [max(waits[begin : begin + 4]) for begin in range(0, 2_000, 4)]
    assert [sum(stages) for stages in zip(*found.by_stage.values(), strict=True)] == found.wait_ns
    assert min(min(stage) for stage in found.by_stage.values()) >= 0
    assert set(found.by_stage) == set(STAGES) - {"backlog", "pin", "hold"}, "what nothing waited for is left out"
    slow = [step for step, wait in zip(found.step, found.wait_ns, strict=True) if wait > 150 * MS]
    assert slow == list(range(SLOW_SAMPLE_EVERY - 1, 2_000, SLOW_SAMPLE_EVERY))


def test_of_the_last_batches_every_one_is_there() -> None:
    run = with_batches(planted_batches(1_003).sample(fraction=1.0, shuffle=True, seed=1))
    found = page(run, report(run), {}).last_batches
    assert found.stretch == 1
    assert found.step == list(range(1_003 - LAST_BATCHES, 1_003)), "in the order in which they came"
    assert [worker for worker in found.worker[:4] if worker is not None] == [3, 0, 1, 2]
    for asked, begun, fetched in zip(found.asked_ns, found.fetch_start_ns, found.fetch_ns, strict=True):
        assert begun is not None
        assert fetched is not None
        assert begun + fetched < asked + 250 * MS


def test_only_the_training_loops_loader_is_shown() -> None:
    batches = planted_batches(40)
    other = planted_batches(5).with_columns(pl.lit(1, pl.Int32).alias("loader"))
    run = with_batches(pl.concat([batches, other]))
    assert len(page(run, report(run), {}).batches.wait_ns) == 40


@pytest.mark.parametrize("seen", [0, 30])
def test_where_nobody_looked_inside_there_is_no_batch(seen: int) -> None:
    batches = planted_batches(seen).with_columns(pl.lit(None, pl.Int64).alias("fetch_start_ns"))
    run = with_batches(batches)
    found = page(run, report(run), {})
    assert found.batches == found.last_batches == BatchSeries()


def test_the_page_knows_a_card_for_every_cause() -> None:
    """Those of tf.data and of ranks are known by what they begin with."""
    cards = (Path(__file__).parents[1] / "web" / "src" / "loading" / "parts.ts").read_text()
    named = [cause for cause in CAUSES if not cause.startswith(("tf_", "straggler", "communication_"))]
    assert [cause for cause in named if f'"{cause}"' not in cards] == []


def test_a_run_of_nothing_has_a_page() -> None:
    run = Run(RunInfo(), runs.steps_table([]), empty(COUNTERS))
    found = page(run, report(run), {})
    assert found.windows == []
    assert found.steps.number == []
    assert found.report.step_histogram is None


@pytest.mark.parametrize(
    ("name", "library", "settings"),
    [
        ("enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__", "DataLoader", {"num_workers": 0}),
        ("enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__", "DataLoader", {}),
        ("profkit.loader#next", "loader", {}),
    ],
)
def test_a_trace_names_the_library_it_waited_for(
    tmp_path: Path, name: str, library: str, settings: dict[str, int]
) -> None:
    trace = traces.traced(tmp_path, [traces.span(name, "user_annotation", 0, 50)])
    (loader,) = loaders_of([trace]).values()
    assert (loader.name, loader.settings) == (library, settings)


@pytest.mark.parametrize(
    ("file", "written", "value"),
    [
        (
            "FetchCard.tsx",
            r"\[CPU, BLOCKED, STARVED\] = \[([\d., ]+)\]",
            [causes.BUSY_WORKER, causes.BLOCKED, causes.STARVED],
        ),
        ("FetchCard.tsx", r"LEAST_READ_BYTES\] = \[([\d._, ]+)\]", [causes.FROM_STORAGE, causes.LEAST_READ_BYTES]),
        ("curve.ts", r"GOOD_ENOUGH = ([\d.]+)", [whatif.GOOD_ENOUGH]),
        ("WhatIf.tsx", r"WORTH_TRYING = ([\d.]+)", [WORTH_A_CHANGE]),
    ],
)
def test_the_page_has_the_thresholds_of_the_analyses(file: str, written: str, value: list[float]) -> None:
    source = (Path(__file__).parents[1] / "web" / "src" / "loading" / file).read_text()
    found = re.search(written, source)
    assert found is not None
    assert [float(number) for number in found[1].replace("_", "").split(",")] == value
