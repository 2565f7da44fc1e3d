"""A rank that the others wait for is named with its cause; ranks that keep step, whatever their jitter, are not."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from profkit.analysis.rankpart import rank_part
from profkit.analysis.ranks import compare
from profkit.analysis.report import Finding, Ranks
from profkit.analysis.stragglers import SlowInput, findings_of_ranks
from profkit.analysis.summary import report
from profkit.trace.load import load
from tests.corpus import CORPUS, needs_corpus
from tests.rank_parts import MS, STEP_MS, TRANSFER_MS, calls_table, part, training
from tests.synthetic_ranks import LATE_NS, straggler_of, write_run

GLOO = CORPUS / "_generated-torch-2.13.0-cpu" / "ddp_gloo_2rank"
DLRM = CORPUS / "facebookresearch+param" / "dlrm_kineto_unpacked"


@pytest.mark.parametrize(
    ("takes", "cause"),
    [
        ("data_wait", "input"),
        ("compute", "compute"),
        ("host", "host"),
        ("runtime", "host"),
        ("unattributed", "host"),
        ("copy", "memory"),
        ("allocator", "memory"),
        ("nothing that was recorded", "unexplained"),
    ],
)
@pytest.mark.parametrize("ranks", [2, 3, 8])
def test_the_late_rank_is_named_with_what_holds_it_up(ranks: int, takes: str, cause: str) -> None:
    found = compare(training(ranks, late_ms={1: 20}, takes=takes, jitter_ms=0.5)).stragglers
    assert [(one.rank, one.cause) for one in found] == [(1, cause)]
    assert found[0].costs_ns == pytest.approx(20 * MS, rel=0.1)
    assert found[0].last_share == 1


@pytest.mark.parametrize("jitter_ms", [0.0, 1.0, 8.0])
@pytest.mark.parametrize(("ranks", "steps"), [(2, 4), (2, 30), (8, 5), (64, 10)])
def test_ranks_that_keep_step_have_no_straggler_among_them(ranks: int, steps: int, jitter_ms: float) -> None:
    blamed = [bool(compare(training(ranks, steps, jitter_ms=jitter_ms, seed=seed)).stragglers) for seed in range(20)]
    assert sum(blamed) <= 1  # in twenty trainings, whose steps vary by up to a fifth


def test_all_ranks_of_a_slow_machine_are_named() -> None:
    late = dict.fromkeys(range(8, 12), 15.0)
    found = compare(training(16, late_ms=late, takes="compute", jitter_ms=0.5)).stragglers
    assert {one.rank for one in found} == set(late)
    assert {one.cause for one in found} == {"compute"}
    (_, finding), *others = findings_of_ranks(compare(training(16, late_ms=late)), None)
    assert not others
    assert finding.message.startswith("Ranks 8, 9, 10 and 11 are late: ")


def test_less_than_five_percent_of_a_step_is_no_lateness() -> None:
    step_ms = STEP_MS + TRANSFER_MS
    assert not compare(training(4, late_ms={2: 0.04 * step_ms})).stragglers
    assert compare(training(4, late_ms={2: 0.07 * step_ms})).stragglers


def test_a_lateness_within_the_clocks_error_is_none() -> None:
    parts = training(2, late_ms={1: 20})
    sure, unsure = (
        [msgspec.structs.replace(one, clock_uncertainty_ns=error) for one in parts] for error in (1e6, 20e6)
    )
    assert compare(sure).stragglers
    assert not compare(unsure).stragglers


def came_late(steps: int) -> Ranks:
    """The last of three ranks begins its only judged step 20 ms behind the others, and does what they do."""
    calls = [calls_table([("all_reduce", 0, -1, arrived, 42.0)]) for arrived in (20.0, 20.0, 40.0)]
    own = {"compute": 10.0, "host": 10.0, "communication": 22.0}
    parts = [
        part(rank, table, 3, steps, times_ms=own, began_ms=20 if rank == 2 else 0) for rank, table in enumerate(calls)
    ]
    return compare(msgspec.structs.replace(one, judged_steps=1) for one in parts)


def test_a_rank_that_came_late_into_the_only_step_is_said_to() -> None:
    ranks = came_late(steps=1)
    (found,) = ranks.stragglers
    assert (found.rank, found.cause) == (2, "unexplained")
    assert found.excess_ns["before"] == pytest.approx(20 * MS)
    ((_, finding),) = findings_of_ranks(ranks, None)
    assert "It came 20 ms late into the only recorded step" in finding.message
    assert finding.confidence == "low"
    ((_, of_two),) = findings_of_ranks(came_late(steps=2), None)
    assert "Nothing that was recorded explains it" in of_two.message


@pytest.mark.parametrize(("late_ms", "causes"), [(4.0, []), (12.0, ["unexplained"])])
def test_a_little_lateness_without_a_cause_is_jitter(late_ms: float, causes: list[str]) -> None:
    found = compare(training(4, late_ms={2: late_ms}, takes="nothing at all"))
    assert [late.cause for late in found.stragglers] == causes


@pytest.mark.parametrize("takes", ["data_wait", "compute", "host", "copy", "nothing"])
def test_a_finding_names_the_rank_and_what_the_others_wait(takes: str) -> None:
    ((cost_ns, finding),) = findings_of_ranks(compare(training(4, late_ms={3: 20}, takes=takes)), None)
    step_ms = 40 + 2 + 20
    assert cost_ns == pytest.approx(20 * MS)
    assert finding.message.startswith("Rank 3 is late: the others wait 20 ms of each ")
    assert finding.evidence["rank"] == 3
    if takes != "nothing":
        assert finding.predicted_speedup == pytest.approx(step_ms / (step_ms - 20), rel=0.01)
        assert finding.confidence == "high"


def test_a_slow_input_is_told_in_the_words_of_the_rank_itself() -> None:
    ranks = compare(training(2, late_ms={1: 20}, takes="data_wait"))
    own = Finding(
        cause="no_workers",
        message="Input-bound: 35 % of each step waits for data: the training process makes every batch itself.",
        remedy="DataLoader(…, num_workers=2).",
        evidence={"exposed_wait_share": 0.35},
        predicted_speedup=1.5,
        confidence="high",
    )
    ((_, finding),) = findings_of_ranks(ranks, SlowInput("DataLoader", own))
    assert "Its DataLoader is slow: 35 % of each step waits for data: the training process makes" in finding.message
    assert finding.remedy == own.remedy


def test_exposed_communication_is_a_finding_only_where_nobody_is_late() -> None:
    ((cost_ns, finding),) = findings_of_ranks(compare(training(4, transfer_ms=30)), None)
    assert cost_ns == pytest.approx(30 * MS)
    assert finding.cause == "communication_bound"
    assert "43 % of each step exchanges data while nothing is computed, 30 ms of 70 ms, mostly all_reduce of 4 KiB" in (
        finding.message
    )
    assert finding.predicted_speedup == pytest.approx(70 / 55, abs=0.01)
    assert not findings_of_ranks(compare(training(4)), None)
    ((_, late),) = findings_of_ranks(compare(training(4, transfer_ms=30, late_ms={1: 30})), None)
    assert late.cause == "straggler_compute"


@needs_corpus
@pytest.mark.parametrize("shown", [0, 1])
def test_the_verdict_on_a_slow_loader_names_its_rank_and_the_loader(shown: int) -> None:
    run = load(GLOO)
    ranks = compare(rank_part(run.of_rank(rank)) for rank in run.ranks)
    found = report(run if shown == 0 else load(next(GLOO.glob("rank1.*"))), ranks)
    assert found.headline.startswith("Rank 1 is late: the others wait 42.5 ms of each 49.5 ms step for it. ")
    assert "Its DataLoader is slow: 87 % of each step waits for data" in found.headline
    assert [finding.cause for finding in found.findings] == ["straggler_input"]
    assert found.ranks == ranks


@needs_corpus
def test_a_healthy_pair_of_ranks_has_no_finding() -> None:
    folder = CORPUS / "facebookresearch+HolisticTraceAnalysis/tests/data/trace_filter"
    run = load(folder)
    ranks = compare(rank_part(run.of_rank(rank)) for rank in run.ranks)
    assert not ranks.stragglers
    assert not [finding for finding in report(run, ranks).findings if finding.cause.startswith("straggler")]


@needs_corpus
def test_the_ranks_that_hta_finds_late_are_the_most_costly() -> None:
    run = load(DLRM)
    found = compare(rank_part(run.of_rank(rank)) for rank in run.ranks).stragglers
    assert [one.rank for one in found] == [7, 2, 6]  # HTA's two are 2 and 7, and its third is 6
    assert {one.cause for one in found} == {"unexplained"}


def test_collectives_that_queue_behind_a_late_one_are_not_what_it_costs(tmp_path: Path) -> None:
    """On a device; the late rank waits 15 ms longer for its batches, and each step has eight all-reduces."""
    ranks, spans = 4, 40_000
    run = load(write_run(tmp_path / "run", ranks, spans))
    found = compare([rank_part(run.of_rank(rank)) for rank in run.ranks])
    [late] = found.stragglers
    assert (late.rank, late.cause) == (straggler_of(ranks), "input")
    assert late.excess_ns["input"] == pytest.approx(LATE_NS, rel=0.2)
    assert late.costs_ns == pytest.approx(LATE_NS, rel=0.2)
    assert all(abs(late.excess_ns[other]) < 0.05 * LATE_NS for other in ("compute", "host", "memory"))
