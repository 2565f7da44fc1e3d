"""What profkit says of traces recorded by others, against the counts and answers known for each."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import pytest

from profkit.analysis.report import Report
from profkit.analysis.summary import report
from profkit.errors import UnreadableTrace
from profkit.trace.load import load
from tests import corpus
from tests.corpus import CORPUS, Listed, needs_corpus

pytestmark = needs_corpus


@cache
def reported(path: str) -> Report:
    return report(load(CORPUS / path))


@pytest.mark.parametrize("file", corpus.listed(), ids=lambda file: file.path[-60:])
def test_counts_of_events_steps_kernels_and_allocations_equal_the_manifest(file: Listed) -> None:
    counts = reported(file.path).counts
    found = (counts["events"], counts["steps"], counts["kernels"], counts["memory"])
    assert found == (file.events, file.steps, file.kernels, file.memory)


@pytest.mark.parametrize("file", corpus.listed(), ids=lambda file: file.path[-60:])
def test_the_breakdown_of_each_step_adds_up_to_the_nanosecond(file: Listed) -> None:
    for step in reported(file.path).window_steps:
        assert sum(step.breakdown_ns.values()) == step.duration_ns
        assert min(step.breakdown_ns.values()) >= 0


@pytest.mark.parametrize("path", corpus.NO_TRACES, ids=lambda path: path[-50:])
def test_a_file_that_is_no_trace_gets_one_sentence(path: str) -> None:
    with pytest.raises(UnreadableTrace) as refused:
        load(CORPUS / path)
    assert len(str(refused.value).splitlines()) == 1


def test_every_file_of_the_corpus_is_a_trace_or_listed_as_none() -> None:
    traces = {file.path for file in corpus.listed()}
    assert len(traces) == 81
    assert corpus.recorded() == traces | set(corpus.NO_TRACES)


def test_owlv2_waits_for_data_51_percent_of_its_step() -> None:
    share = reported(corpus.OWLV2).stall_share
    assert share == pytest.approx(0.511, abs=0.005)


def test_resnet_without_workers_is_input_bound_with_a_third_exposed() -> None:
    found = reported(corpus.RESNET_0)
    assert found.stall_share == pytest.approx(0.339, abs=0.01)
    assert found.wait is not None
    assert found.wait.share == pytest.approx(0.396, abs=0.005)
    assert [finding.cause for finding in found.findings] == ["input_bound"]


@pytest.mark.parametrize("path", [corpus.RESNET_4, corpus.TRACE_DIFF])
def test_a_healthy_loader_yields_no_finding(path: str) -> None:
    assert reported(path).findings == []


def test_generated_traces_show_the_wait_that_was_planted() -> None:
    slow, fast = reported(corpus.SLOW), reported(corpus.FAST)
    assert slow.stall_share == pytest.approx(0.929, abs=0.005)
    assert fast.stall_share == pytest.approx(0.380, abs=0.005)


def test_the_rank_with_the_slow_loader_is_the_one_that_waits() -> None:
    assert reported(corpus.GLOO_RANK_1).stall_share == pytest.approx(0.87, abs=0.02)
    other = reported(corpus.GLOO_RANK_0)
    assert other.stall_share is not None and other.stall_share < 0.2
    assert other.breakdown_ns["communication"] > other.breakdown_ns["data_wait"]


# Files in which a twentieth or more of a time has no class, and why.
UNCLASSIFIED = {
    "sampled_rank-0.json.gz": "ranges of the program, which profilers of that age recorded as operators",
    "sampled_rank-1.json.gz": "as above",
    "mtia_inference_rank_0.json.gz": "parts of a device's program, named after its stages",
}


def test_less_than_a_twentieth_of_any_time_has_no_class_but_where_it_is_known_why() -> None:
    without = {
        Path(file.path).name
        for file in corpus.listed()
        for share in (reported(file.path).unclassified_share, reported(file.path).unclassified_device_share)
        if share is not None and share >= 0.05
    }
    assert without == set(UNCLASSIFIED)


@pytest.mark.parametrize("file", corpus.listed(), ids=lambda file: file.path[-60:])
def test_time_by_class_adds_up_to_that_of_the_operators_and_of_the_device(file: Listed) -> None:
    found = reported(file.path)
    operators = [row for row in found.operators if row.kind in ("op", "collective")]
    assert sum(row.self_ns for row in found.operator_classes) == sum(row.self_ns for row in operators)
    assert sum(row.device_ns for row in found.operator_classes) == sum(row.total_ns for row in found.kernels)
