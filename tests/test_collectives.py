"""A collective tells its bytes, type, group and peers, in whatever words its PyTorch had for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from profkit.trace.collectives import element_bytes
from profkit.trace.load import load
from profkit.trace.model import Trace
from tests.corpus import CORPUS, GLOO_RANK_0, needs_corpus
from tests.traces import Event, kernel, launch, op, span, traced

GROUP = {"pg_name": "0", "pg_desc": "default_pg", "pg_size": 2, "ranks": [0, 1]}
SAID = {
    "Collective name": "allreduce",
    "In msg nelems": 1_000,
    "Out msg nelems": 1_000,
    "Group size": 4,
    "dtype": "BFloat16",
    "Process Group Name": "7",
    "Process Group Ranks": "[0, 2, 4, 6]",
    "Seq": 12,
}
NCCL_KERNEL = "ncclDevKernel_AllReduce_Sum_bf16_RING_LL"
DLRM = "facebookresearch+param/dlrm_kineto_unpacked/worker0_step_12.1694128201545.pt.trace.json.gz"
HTA_GATHER = "facebookresearch+HolisticTraceAnalysis/tests/data/timeline_analysis/sampled_rank-0.json.gz"


def rows(trace: Trace, name: str) -> list[dict[str, Any]]:
    """The spans of this name, their arguments decoded."""
    found = trace.spans.filter(pl.col("name").cast(pl.String).str.contains(name, literal=True))
    return [{**row, "args": json.loads(row["args"] or "{}")} for row in found.iter_rows(named=True)]


def with_inputs(name: str, category: str, dims: list[Any], types: list[str], duration: float = 20) -> Event:
    return span(name, category, 0, duration, args={"Input Dims": dims, "Input type": types})


def test_a_kernel_and_its_call_tell_bytes_group_type_peers_and_sequence(tmp_path: Path) -> None:
    nccl = kernel(NCCL_KERNEL, 1, 20, 30)
    nccl["args"] |= SAID
    trace = traced(tmp_path, [op("record_param_comms", 0, 10, args=SAID), launch(1, 2, 3), nccl])
    for row in (*rows(trace, NCCL_KERNEL), *rows(trace, "record_param_comms")):
        assert row["bytes"] == 2_000
        assert {key: row["args"][key] for key in SAID} == SAID
        assert row["op_class"] == "communication"
    assert rows(trace, NCCL_KERNEL)[0]["kind"] == "collective"


def test_the_larger_of_what_goes_in_and_what_comes_out_counts(tmp_path: Path) -> None:
    gather = SAID | {"Collective name": "_allgather_base", "In msg nelems": 250, "dtype": "Float"}
    assert rows(traced(tmp_path, [op("record_param_comms", 0, 10, args=gather)]), "record")[0]["bytes"] == 4_000


def test_what_gloo_was_given_tells_its_bytes_and_the_only_group_of_the_file_is_its(tmp_path: Path) -> None:
    reduce = with_inputs("gloo:all_reduce", "user_annotation", [[570], [2, 3]], ["float", "float"])
    trace = traced(tmp_path, [reduce], distributedInfo={"rank": 1, "world_size": 2, "pg_config": [GROUP]})
    (row,) = rows(trace, "gloo:all_reduce")
    assert (row["kind"], row["bytes"]) == ("collective", 4 * 576)
    assert row["args"] == {
        "Collective name": "all_reduce",
        "dtype": "Float",
        "In msg nelems": 576,
        "Group size": 2,
        "Process Group Name": "0",
        "Process Group Ranks": "[0, 1]",
    }


@pytest.mark.parametrize("config", [None, [], [GROUP, {**GROUP, "pg_name": "1"}], "odd", [{"pg_name": 3}]])
def test_of_several_groups_or_none_nothing_is_said(config: object, tmp_path: Path) -> None:
    reduce = with_inputs("gloo:all_reduce", "user_annotation", [[570]], ["float"])
    (row,) = rows(traced(tmp_path, [reduce], distributedInfo={"rank": 1, "pg_config": config}), "gloo")
    assert row["bytes"] == 2_280
    assert "Process Group Name" not in row["args"]


@pytest.mark.parametrize(
    ("dims", "types"), [([[3]], ["TensorList"]), ([[[3]]], ["float"]), ([], []), ([["x"]], ["float"]), ([[3]], [])]
)
def test_bytes_that_cannot_be_known_are_null(dims: list[Any], types: list[str], tmp_path: Path) -> None:
    events = [with_inputs("c10d::allreduce_", "cpu_op", dims, types)]
    assert rows(traced(tmp_path, events), "c10d")[0]["bytes"] is None


def test_a_kernel_without_a_word_takes_what_its_launching_range_says(tmp_path: Path) -> None:
    events = [
        with_inputs("c10d::_allgather_base_", "cpu_op", [[64], [16], []], ["signed char", "signed char", ""], 40),
        with_inputs("nccl:_all_gather_base", "user_annotation", [[16]], ["signed char"], 30),
        launch(5, 2, 3),
        kernel("ncclKernel_AllGather_RING_LL_Sum_int8_t", 5, 50, 10),
        launch(6, 60, 3),
        kernel("ncclKernel_Broadcast_RING_LL_Sum_int8_t", 6, 70, 10),
    ]
    trace = traced(tmp_path, events)
    (gather,), (alone,) = rows(trace, "ncclKernel_AllGather"), rows(trace, "ncclKernel_Broadcast")
    assert gather["bytes"] == 64  # what comes out, of which only the outer call knows
    assert gather["args"]["dtype"] == "Char"
    assert gather["args"]["stream"] == 7  # its own words stay
    assert alone["bytes"] is None


def test_copies_keep_their_bytes_and_other_operators_have_none(tmp_path: Path) -> None:
    copy = {**span("Memcpy HtoD", "gpu_memcpy", 5, 2, 7, {"bytes": 77, "device": 0, "stream": 7}), "pid": 0}
    trace = traced(tmp_path, [copy, with_inputs("aten::mm", "cpu_op", [[3]], ["float"]), kernel(NCCL_KERNEL, 1, 9, 1)])
    assert {row["name"]: row["bytes"] for row in rows(trace, "")} == {
        "Memcpy HtoD": 77,
        "aten::mm": None,
        NCCL_KERNEL: None,
    }


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("Float", 4), ("c10::BFloat16", 2), ("long int", 8), ("c10::Float8_e4m3fn", 1), ("unknown", None), (None, None)],
)
def test_the_size_of_an_element_is_known_by_either_name(dtype: str | None, size: int | None) -> None:
    assert element_bytes(dtype) == size


@needs_corpus
def test_recorded_collectives_of_gloo_tell_bytes_and_peers() -> None:
    found = rows(load(CORPUS / GLOO_RANK_0).traces[0], "gloo:all_reduce")
    assert [row["bytes"] for row in found] == [2_280] * 4
    assert {row["args"]["Process Group Ranks"] for row in found} == {"[0, 1]"}


@needs_corpus
def test_recorded_kernels_of_nccl_tell_bytes_though_they_say_nothing() -> None:
    kernels = rows(load(CORPUS / DLRM).traces[0], "ncclKernel_AllReduce")
    assert sorted(row["bytes"] for row in kernels) == [448, 907_840, 1_576_964]
    gathers = rows(load(CORPUS / HTA_GATHER).traces[0], "nccl:_all_gather_base")
    assert {row["bytes"] for row in gathers} == {1 << 30}
