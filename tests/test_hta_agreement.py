"""Idle, compute, communication and overlap of every GPU trace as HolisticTraceAnalysis tells them, or shown why not.

docs/hta.md tells users the same. HTA is asked with its rounding to whole microseconds off and its last step kept.
"""

from __future__ import annotations

import logging
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest

from profkit.analysis.columns import Columns
from profkit.analysis.overlap import overlap
from profkit.trace.intervals import Intervals
from profkit.trace.load import load
from profkit.trace.model import Trace
from profkit.trace.words import Words
from tests.corpus import CORPUS, listed, needs_corpus

Bools = npt.NDArray[np.bool_]
Figures = dict[str, float]  # microseconds

WITHIN = 0.01
_HTA_DATA = "facebookresearch+HolisticTraceAnalysis/tests/data"
_VLLM = "AMD-AGI+TraceLens/tests/traces/inference/vllm_decode_full/capture_traces/graph_capture_rank_0"
_SIMPLE_ADD = f"{_HTA_DATA}/critical_path/end_to_end/simple_add"


def with_operators_of_triton(trace: Trace, columns: Columns) -> tuple[Bools, Bools]:
    """HTA takes whatever has an argument `stream` for device work: so it does an operator of Triton, on the host."""
    on_host = columns.kind("op") & _says(trace, '"stream"')
    return columns.device_work | on_host, _computing(columns) | on_host


def with_synchronisation(trace: Trace, columns: Columns) -> tuple[Bools, Bools]:
    """For the same reason HTA takes the host's waiting for a device (`cuda_sync`) for work of the device."""
    waits = Words(trace.spans["category"]).among("cuda_sync") & ~_says(trace, '"stream":-1')
    return columns.device_work | waits, _computing(columns)


def _says(trace: Trace, text: str) -> Bools:
    """Spans whose arguments hold a text."""
    found: Bools = trace.spans["args"].cast(pl.String).str.contains(text, literal=True).fill_null(False).to_numpy()
    return found


def with_a_launch(trace: Trace, columns: Columns) -> tuple[Bools, Bools]:
    """HTA leaves out device work whose launch is not in the file."""
    launched = np.zeros(len(columns.start), np.bool_)
    launched[trace.links.filter(pl.col("kind") == "launch")["to_id"].to_numpy()] = True
    return columns.device_work & launched, _computing(columns) & launched


def with_units_of_mtia(trace: Trace, columns: Columns) -> tuple[Bools, Bools]:
    """HTA knows which of MTIA's units copy, and which only command; to profkit all of them compute."""
    other = re.compile(r"dma|job_exe|packet|pe_exe|cpum_exe_subgraph|collective_subgraph_execution|hccl|runFunction")
    names = trace.spans["name"].unique().drop_nulls().to_list()
    elsewhere = Words(trace.spans["name"]).among(*(n for n in names if other.match(n) or re.search("dma|Mem", n)))
    return columns.device_work, columns.device_work & ~elsewhere


def _computing(columns: Columns) -> Bools:
    return columns.device_work & columns.kind("kernel")


Rule = Callable[[Trace, Columns], tuple[Bools, Bools]]  # what HTA takes for device work, and what of it for computing
DIFFERENT: dict[str, Rule] = {
    f"{_VLLM}.1773709742341309550.pt.trace.json.gz": with_operators_of_triton,
    f"{_HTA_DATA}/triton_example/triton_example.json.gz": with_operators_of_triton,
    f"{_HTA_DATA}/critical_path/cuda_event_sync/event_sync_trace.json.gz": with_synchronisation,
    f"{_HTA_DATA}/critical_path/cuda_event_sync_multi_stream/event_sync_trace.json.gz": with_synchronisation,
    f"{_HTA_DATA}/critical_path/simple_add/benchmark_result_493459_1694039959_trace.json.gz": with_synchronisation,
    f"{_SIMPLE_ADD}/input/trace.json.gz": with_synchronisation,
    f"{_SIMPLE_ADD}/output/overlaid_critical_path_trace.json.gz": with_synchronisation,
    f"{_HTA_DATA}/trace_compare/base/base.json.gz": with_a_launch,
    f"{_HTA_DATA}/trace_compare/test/test.json.gz": with_a_launch,
    f"{_HTA_DATA}/trace_diff/test/test.json.gz": with_a_launch,
    f"{_HTA_DATA}/mtia_inference_trace/mtia_inference_rank_0.json.gz": with_units_of_mtia,
    f"{_HTA_DATA}/mtia_trace_single_rank/mtia_rank_0.json.gz": with_units_of_mtia,
}
UNREADABLE = {  # HTA raises
    "AMD-AGI+TraceLens/tests/traces/inference/xdit_flux.1_aiter_sage/profile_trace_rank_0.json.gz",
    "AMD-AGI+TraceLens/tests/traces/torch_compile_triton/trace.json.gz",
}


def gpu_traces() -> list[str]:
    return [one.path for one in listed() if one.kernels or "mtia" in one.path]


@pytest.fixture
def hta() -> Iterator[Any]:
    """HTA's class, told not to round."""
    pytest.importorskip("hta", reason="HolisticTraceAnalysis is not installed: pip install 'profkit[peers]'")
    from hta.configs.env_options import HTAEnvOptions
    from hta.trace_analysis import TraceAnalysis

    options: Any = HTAEnvOptions.instance()
    before = options.disable_ns_rounding()
    options.set_disable_ns_rounding(True)
    logging.disable(logging.CRITICAL)
    yield TraceAnalysis
    logging.disable(logging.NOTSET)
    options.set_disable_ns_rounding(before)


def theirs(hta: Any, path: Path, folder: Path) -> Figures:
    shutil.copy(path, folder)
    analysis = hta(trace_dir=str(folder), include_last_profiler_step=True)
    row = analysis.get_temporal_breakdown(visualize=False).iloc[0]
    kinds = analysis.get_gpu_kernel_breakdown(visualize=False)[0]
    by_kind = dict(zip(kinds["kernel_type"], kinds["sum"], strict=True))
    return {
        **{
            name: float(row[f"{name}(us)"]) for name in ("kernel_time", "idle_time", "compute_time", "non_compute_time")
        },
        "communication": float(sum(time for kind, time in by_kind.items() if "COMMUNICATION" in kind)),
        "both": float(sum(time for kind, time in by_kind.items() if kind.count("COM") == 2)),
        "overlap_pctg": float(np.nan_to_num(analysis.get_comm_comp_overlap(visualize=False).iloc[0, 1])),
    }


def ours(columns: Columns) -> Figures:
    """From the first work of any device to the last."""
    work = columns.device_work
    start, end = columns.start[work].min(keepdims=True), columns.end[work].max(keepdims=True)
    within = overlap(columns.trace, columns, start, end)
    assert within.idle is not None
    span, idle, compute, communication, exposed = (
        float(each[0]) / 1_000
        for each in (end - start, within.idle, within.compute, within.communication, within.exposed)
    )
    return {
        "kernel_time": span,
        "idle_time": idle,
        "compute_time": compute,
        "non_compute_time": span - idle - compute,
        "communication": communication,
        "both": communication - exposed,
        "overlap_pctg": 100 * (communication - exposed) / communication if communication else 0.0,
    }


def as_hta_counts(trace: Trace, columns: Columns, rule: Rule) -> Figures:
    """profkit's own spans, counted by HTA's rule."""
    work, compute = rule(trace, columns)
    busy, computing = (
        Intervals.union(columns.start[mask], columns.end[mask]).total / 1_000 for mask in (work, compute)
    )
    span = float(columns.end[work].max() - columns.start[work].min()) / 1_000
    return {
        "kernel_time": span,
        "idle_time": span - busy,
        "compute_time": computing,
        "non_compute_time": busy - computing,
    }


def differing(own: Figures, other: Figures, events: int) -> set[str]:
    """Figures that differ by more than 1 %, or than what HTA's kernel breakdown loses by whole microseconds."""
    slack_us = {"communication": 1.0 * events, "both": 1.0 * events, "overlap_pctg": 0.01}
    return {
        name
        for name, value in own.items()
        if abs(value - other[name]) > max(WITHIN * max(abs(value), abs(other[name])), slack_us.get(name, 0.001))
    }


@pytest.mark.filterwarnings("ignore::Warning")  # HTA's own: it is written for older pandas
@needs_corpus
@pytest.mark.parametrize("path", gpu_traces(), ids=lambda path: path[-60:])
def test_the_figures_are_those_of_hta_or_the_difference_is_understood(path: str, hta: Any, tmp_path: Path) -> None:
    trace = load(CORPUS / path).traces[0]
    columns = Columns(trace)
    own = ours(columns)
    if path in UNREADABLE:
        with pytest.raises(TypeError):
            theirs(hta, CORPUS / path, tmp_path)
        return
    other = theirs(hta, CORPUS / path, tmp_path)
    events = int(columns.device_work.sum())
    assert bool(differing(own, other, events)) == (path in DIFFERENT)
    if path in DIFFERENT:
        assert not differing(as_hta_counts(trace, columns, DIFFERENT[path]), other, events)


@needs_corpus
def test_the_traces_on_which_hta_differs_are_among_those_compared() -> None:
    assert DIFFERENT.keys() | UNREADABLE <= set(gpu_traces())
    assert len(gpu_traces()) >= 40


@pytest.mark.filterwarnings("ignore::Warning")
@needs_corpus
def test_hta_filters_away_the_ranks_that_are_late_by_most(hta: Any) -> None:
    """Its metric is the start of the last long SendRecv, and the later a rank comes, the shorter its kernel is."""
    folder = CORPUS / "facebookresearch+param/dlrm_kineto_unpacked"
    run = load(folder)
    sixth = {rank: _sixth_collective(run.of_rank(rank).traces[0]) for rank in run.ranks}
    last = sorted(sixth, key=lambda rank: -sixth[rank][0])[:2]
    assert last == [5, 4]
    assert all(sixth[rank][1] < 200_000 for rank in last)  # of a step of 20 ms HTA looks at kernels of 1 % and more
    assert hta(trace_dir=str(folder)).get_potential_stragglers() == [2, 7]


def _sixth_collective(trace: Trace) -> tuple[int, int]:
    """Its start and duration, in nanoseconds."""
    calls = trace.spans.filter(pl.col("kind") == "collective").sort("start_ns")
    return int(calls["start_ns"][5]), int(calls["duration_ns"][5])
