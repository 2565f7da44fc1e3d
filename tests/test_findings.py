"""A stall is found where there is one, with a remedy whose promise the arithmetic keeps; health yields nothing."""

from __future__ import annotations

from typing import Any

import pytest

from profkit.analysis.causes import INPUT_BOUND
from profkit.analysis.findings import CAUSES, SEVERE
from profkit.analysis.report import Finding, Report
from profkit.analysis.summary import report
from profkit.trace.model import Loader, PipelineStage
from tests.runs import MS, loader, run


def of_waits(share: float, count: int = 20, **settings: Any) -> Report:
    """The report of a run whose steady steps of 100 ms wait for this share of their time."""
    waiting = {"wait_ns": round(share * 100 * MS)}
    return report(run([dict(waiting) for _ in range(count)], loaders=loader(**settings)))


def only(found: Report) -> Finding:
    [finding] = found.findings
    assert finding.cause in CAUSES
    return finding


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.0999])
def test_a_wait_below_a_tenth_of_the_step_is_never_a_finding(share: float) -> None:
    found = of_waits(share, num_workers=0)
    assert found.findings == []
    assert found.headline.startswith("Nothing to fix in the input")


def test_a_wait_from_the_threshold_on_is_partly_input_bound_and_from_severe_on_wholly() -> None:
    assert only(of_waits(INPUT_BOUND, num_workers=0)).message.startswith("Partly input-bound: 10 %")
    assert only(of_waits(SEVERE, num_workers=0)).message == (
        "Input-bound: 25 % of each step waits for data, 25 ms of 100 ms."
    )


def test_the_headline_is_the_finding() -> None:
    found = of_waits(0.43, num_workers=0)
    assert found.headline == only(found).message
    assert found.stall_share == pytest.approx(0.43)


@pytest.mark.parametrize(
    ("share", "workers", "cores", "wanted", "speedup"),
    [
        (0.40, 0, 8, 1, 1.67),  # 40 ms a batch beside 60 ms of work: one worker hides it
        (0.75, 0, 8, 3, 4.0),  # 75 ms a batch beside 25 ms: three workers
        (0.50, 2, 8, 4, 2.0),  # two workers deliver one in 100 ms, so a batch costs 200; beside 50 ms: four
        (0.90, 0, 4, 4, 4.0),  # nine would be needed; four cores share 90 ms of loading and 10 of work: 25 ms a step
    ],
)
def test_the_remedy_names_the_number_of_workers_and_what_it_gains(
    share: float, workers: int, cores: int, wanted: int, speedup: float
) -> None:
    finding = only(of_waits(share, num_workers=workers, cpus=cores))
    assert f"num_workers={wanted}," in finding.remedy
    assert finding.predicted_speedup == speedup


def test_where_every_core_has_a_worker_already_the_sample_must_get_cheaper() -> None:
    finding = only(of_waits(0.5, num_workers=4, cpus=4))
    assert "num_workers" not in finding.remedy
    assert "cheaper" in finding.remedy


def test_few_steps_make_low_confidence() -> None:
    assert only(of_waits(0.5, count=4, num_workers=0)).confidence == "low"
    assert only(of_waits(0.5, count=5, num_workers=0)).confidence == "high"


def test_a_device_that_was_used_but_not_recorded_is_said_and_nothing_is_assumed() -> None:
    found = report(run([{"wait_ns": 50 * MS} for _ in range(20)], loaders=loader(num_workers=0), devices=["cuda:0"]))
    assert found.stall_share is None
    assert found.wait is not None and found.wait.exposed_ns is None
    finding = only(found)
    assert "not recorded" in finding.message
    assert finding.confidence == "low"


def of_stages(share: float, *stages: PipelineStage, cpus: int = 8) -> Finding:
    """The finding on a run of which tf.data's model says this."""
    waiting = {"wait_ns": round(share * 100 * MS)}
    loaders = {"0": Loader("tf.data", {"cpus": cpus}, [stage("Root", 0.0), *stages])}
    return only(report(run([dict(waiting) for _ in range(20)], loaders=loaders)))


def stage(name: str, ms: float, parallelism: int = 1, tuned: bool = False) -> PipelineStage:
    """A stage that takes so long for each of ten batches."""
    work = round(ms * 10 * MS)
    return PipelineStage(name=name, elements=10, processing_ns=work, buffered=0, parallelism=parallelism, tuned=tuned)


def test_the_slowest_stage_of_a_pipeline_is_named_with_its_time_for_a_batch() -> None:
    found = of_stages(0.5, stage("Prefetch", 0.1), stage("ParallelMapV2", 80.0), stage("TensorSlice", 1.0))
    assert found.evidence["slow_stage"] == "ParallelMapV2"
    assert found.evidence["slow_stage_ns_per_batch"] == 80 * MS
    assert "tf.data's stage ParallelMapV2 takes 80 ms for a batch on 1 thread:" in found.message
    assert found.remedy.startswith(".map(…, num_parallel_calls=tf.data.AUTOTUNE)")
    assert found.predicted_speedup == 2.0


def test_a_stage_is_slow_by_what_its_threads_deliver() -> None:
    assert (
        of_stages(0.5, stage("ParallelMapV2", 120.0, 4), stage("Generator", 60.0)).evidence["slow_stage"] == "Generator"
    )


def test_a_stage_that_tf_data_tunes_itself_gets_a_number() -> None:
    assert "et num_parallel_calls=2" in of_stages(0.5, stage("MapAndBatch", 90.0, 1, tuned=True)).remedy


def test_a_stage_with_all_cores_is_to_be_made_cheaper() -> None:
    found = of_stages(0.5, stage("MapAndBatch", 200.0, 2), cpus=2)
    assert "on 2 threads:" in found.message
    assert found.remedy == "Make it cheaper, or .cache() what it makes."


def test_a_pydataset_is_advised_in_its_own_words() -> None:
    assert "PyDataset(workers=" in only(of_waits(0.5, workers=1)).remedy


def of_passes(passes: int, startup_ms: float, steps: int = 20, **settings: Any) -> Report:
    """The report of a run of steps of 100 ms, none of which waits, in which every pass takes this long to begin."""
    startup = round(startup_ms * MS)
    first = {"startup_ns": startup, "steady": False, "duration_ns": 100 * MS + startup}
    rows = [dict(first) if number == 0 else {} for _ in range(passes) for number in range(steps)]
    return report(run(rows, loaders=loader(**settings)))


def test_workers_that_are_started_for_every_pass_are_found() -> None:
    finding = only(of_passes(5, 800, num_workers=2, persistent_workers=False))
    assert finding.cause == "loader_restarts"
    assert (
        finding.message == "Start-up: 23 % of the run goes into beginning 4 further passes over the input, 800 ms each."
    )
    assert "persistent_workers=True" in finding.remedy
    assert finding.predicted_speedup == 1.3
    assert finding.evidence["startup_ns_per_pass"] == 800 * MS


@pytest.mark.parametrize(
    ("passes", "startup_ms"),
    [(1, 9_000), (2, 900), (5, 100), (30, 20)],  # one pass; less than a second in all; a twentieth of the run; less
)
def test_what_passes_take_to_begin_is_no_finding_where_it_does_not_matter(passes: int, startup_ms: float) -> None:
    assert of_passes(passes, startup_ms, num_workers=2, persistent_workers=False).findings == []


def test_other_inputs_that_begin_slowly_are_not_told_to_keep_workers() -> None:
    assert "persistent_workers" not in only(of_passes(5, 800, num_workers=0, persistent_workers=False)).remedy
    assert "persistent_workers" not in only(of_passes(5, 800)).remedy


@pytest.mark.parametrize(
    ("steps", "causes"), [(100, ["input_bound", "loader_restarts"]), (20, ["loader_restarts", "input_bound"])]
)
def test_what_cost_the_run_most_comes_first(steps: int, causes: list[str]) -> None:
    rows = [{"wait_ns": 60 * MS} for _ in range(steps)]  # 6 or 1.2 seconds of waiting
    rows += [{"startup_ns": 1_000 * MS, "steady": False, "duration_ns": 1_100 * MS} for _ in range(4)]
    found = report(run(rows, loaders=loader(num_workers=2, persistent_workers=False))).findings
    assert [finding.cause for finding in found] == causes
