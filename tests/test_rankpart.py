"""What is taken from one rank: its sums by definition, its collectives with the number all ranks count alike."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.analysis.collectives import collectives, operation
from profkit.analysis.columns import Columns
from profkit.analysis.loghistogram import ERROR, LogHistogram, histogram_of, merged
from profkit.analysis.rankpart import RankPart, rank_part
from profkit.trace.load import run_of
from profkit.trace.model import Run
from tests import traces
from tests.corpus import CORPUS, GLOO_RANK_0, needs_corpus

WORKER = 105  # a thread of gloo


def a_run(folder: Path, events: list[traces.Event], **top: Any) -> Run:
    return run_of(traces.traced(folder, events, **top), "made")


def nccl(correlation: int, start_us: float, duration_us: float, **args: Any) -> list[traces.Event]:
    """A collective's kernel and its launch."""
    kernel = traces.kernel("ncclDevKernel_AllReduce_Sum_f32_RING_LL", correlation, start_us, duration_us, stream=9)
    return [traces.launch(correlation, start_us - 1, 1), {**kernel, "args": {**kernel["args"], **args}}]


def gemm(correlation: int, start_us: float, duration_us: float) -> list[traces.Event]:
    return [
        traces.launch(correlation, start_us - 1, 1),
        traces.kernel("ampere_sgemm_128x64_nn", correlation, start_us, duration_us),
    ]


def gloo(start_us: float, duration_us: float) -> traces.Event:
    return traces.span("gloo:all_reduce", "user_annotation", start_us, duration_us, WORKER)


def test_with_a_device_kernels_hide_the_communication_they_run_beside(tmp_path: Path) -> None:
    events = [traces.step(1, 0, 100), *gemm(1, 10, 30), *nccl(2, 30, 40)]
    found = rank_part(a_run(tmp_path, events))
    assert found.communication_ns == 40_000
    assert found.exposed_communication_ns == 30_000
    assert found.idle_ns == 40_000
    assert sum(found.breakdown_ns.values()) == 100_000
    assert (found.breakdown_ns["compute"], found.breakdown_ns["communication"]) == (30_000, 30_000)


def test_without_a_device_operators_of_the_training_thread_do_and_those_within_a_wait_do_not(tmp_path: Path) -> None:
    events = [
        traces.step(1, 0, 100),
        traces.wait(0, 20),
        traces.op("aten::stack", 5, 10),  # collating
        gloo(0, 50),
        traces.op("aten::mm", 30, 40),
        traces.op("aten::mm", 40, 60, tid=traces.AUTOGRAD),
        traces.op("c10d::allreduce_", 75, 5),
    ]
    found = rank_part(a_run(tmp_path, events))
    assert found.communication_ns == 50_000
    assert found.exposed_communication_ns == 30_000
    assert found.idle_ns is None
    assert found.wait_ns == 20_000


def test_the_first_step_of_a_window_is_not_judged_by_its_collectives(tmp_path: Path) -> None:
    events = [traces.step(n, 100 * n, 100) for n in (4, 5, 6)] + [gloo(100 * n + 50, 20) for n in (4, 5, 6)]
    found = rank_part(a_run(tmp_path, events))
    assert (found.steps, found.judged_steps) == (3, 2)
    assert found.calls.array("step").tolist() == [5, 6]
    assert found.first_judged_ns == 1_700_000_000_000_000_000 + 500_000
    (only,) = rank_part(a_run(tmp_path, events[:1] + events[3:4])).calls.array("step").tolist()
    assert only == 4


def test_calls_are_numbered_by_their_place_in_the_step_and_by_the_sequence_where_it_is_known(tmp_path: Path) -> None:
    known = {"Collective name": "allreduce", "Process Group Name": "dp", "Group size": "2", "dtype": "Float"}
    steps = [traces.step(n, 1_000 * n, 1_000) for n in (1, 2)]
    by_place = [*steps, *nccl(1, 2_100, 10), *nccl(2, 2_200, 10)]
    by_sequence = [*steps, *nccl(1, 2_100, 10, Seq=17, **known), *nccl(2, 2_200, 10, Seq=18, **known)]
    place, sequence = (rank_part(a_run(tmp_path, events)).calls for events in (by_place, by_sequence))
    assert place.array("number").tolist() == [-1, -2]
    assert sequence.array("number").tolist() == [17, 18]
    assert [(label.operation, label.group, label.size, label.dtype) for label in sequence.labels] == [
        ("all_reduce", "dp", 2, "Float")
    ]


def test_groups_side_by_side_are_told_apart_by_their_ranks(tmp_path: Path) -> None:
    said = {"Process Group Name": "tp", "Group size": 2, "Process Group Ranks": "[2, 3]"}
    events = [traces.step(1, 0, 100), *nccl(1, 10, 10, **said)]
    info = {"backend": "nccl", "rank": 2, "world_size": 4}
    trace = traces.traced(tmp_path, events, distributedInfo=info)
    found = collectives(trace, Columns(trace))
    assert found["group"].to_list() == ["tp [2, 3]"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "all_reduce"),
        ("ncclKernel_SendRecv_RING_SIMPLE_Sum_int8_t(ncclDevComm*, unsigned long, ncclWork*)", "send_recv"),
        ("_reduce_scatter_base", "reduce_scatter"),
        ("allgather_into_tensor_coalesced", "all_gather"),
        ("all_to_allv", "all_to_all"),
        ("gloo:broadcast", "broadcast"),
        ("CollectiveReduceV2", "all_reduce"),
        ("all-reduce.12", "all_reduce"),
        ("reduce", "reduce"),
        ("cross_device_magic(int)", "cross_device_magic"),
    ],
)
def test_an_operation_has_one_word_for_all_sources(name: str, word: str) -> None:
    assert operation(name) == word


def test_the_allocator_counts_while_no_device_works(tmp_path: Path) -> None:
    stall = traces.span("cudaMalloc", "cuda_runtime", 20, 40)
    found = rank_part(a_run(tmp_path, [traces.step(1, 0, 100), traces.op("a", 0, 90), *gemm(1, 10, 20), stall]))
    assert found.allocator_ns == 30_000
    assert found.breakdown_ns["runtime"] >= 30_000


def test_each_trace_is_opened_once_and_adds_to_the_sums(tmp_path: Path) -> None:
    trace = a_run(tmp_path, [traces.step(1, 0, 100), *gemm(1, 10, 30), *nccl(2, 30, 40)]).traces[0]
    opened = []

    def opening() -> Any:
        opened.append(1)
        return trace

    run = run_of(trace, "made")
    twice = Run(run.info, run.steps, run.counters, open_traces=(opening, opening))
    once, both = rank_part(run), rank_part(twice)
    assert len(opened) == 2
    assert both.steps == 2 * once.steps
    assert both.communication_ns == 2 * once.communication_ns
    assert both.step_times.count == 2 * once.step_times.count


@needs_corpus
def test_a_part_travels_by_msgpack_and_by_pickle_and_is_small() -> None:
    from profkit.trace.load import load

    found = rank_part(load(CORPUS / GLOO_RANK_0))
    packed = msgspec.msgpack.encode(found)
    assert msgspec.msgpack.decode(packed, type=RankPart) == found
    assert pickle.loads(pickle.dumps(found)) == found
    assert len(packed) < 1_200 + 6 * 8 * len(found.calls.array("step"))


durations = st.lists(st.integers(0, 10**12), min_size=1, max_size=60)


@given(durations, st.floats(0, 1))
def test_a_quantile_is_within_one_percent(values: list[int], share: float) -> None:
    found = histogram_of(np.array(values)).quantile(share)
    exact = sorted(values)[int(share * (len(values) - 1))]
    assert abs(found - exact) <= ERROR * exact * (1 + 1e-9)


@given(durations, st.randoms(use_true_random=False), st.integers(1, 5))
def test_histograms_merge_exactly_in_any_order_and_in_pieces(values: list[int], chance: Any, pieces: int) -> None:
    whole = histogram_of(np.array(values))
    shuffled = chance.sample(values, len(values))
    parts = [histogram_of(np.array(shuffled[i::pieces], np.int64)) for i in range(pieces)]
    assert merged([merged(parts[:2]), *parts[2:]]) == whole
    assert (whole.count, whole.total, whole.max) == (len(values), sum(values), max(values))


def test_a_quantile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        LogHistogram().quantile(0.5)
