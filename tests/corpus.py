"""The recorded traces with known answers that lie beside the repository, and the manifest that counts their events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

CORPUS = Path(__file__).resolve().parents[1].parent / "shared" / "corpus" / "pytorch"

needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="the corpus of recorded traces is not beside this repository"
)

OWLV2 = "AMD-AGI+TraceLens/tests/traces/h100/google_owlv2-large-patch14-ensemble__1016001.json.gz"
RESNET_0 = "pytorch+kineto/tb_plugin/samples/resnet50_num_workers_0/worker0.1623143089861.pt.trace.json.gz"
RESNET_4 = "pytorch+kineto/tb_plugin/samples/resnet50_num_workers_4/worker0.1623212756351.pt.trace.json.gz"
TRACE_DIFF = "facebookresearch+HolisticTraceAnalysis/tests/data/trace_diff/test/test.json.gz"
SLOW = "_generated-torch-2.13.0-cpu/slow_nw0/worker0.1795399601956410923.pt.trace.json.gz"
FAST = "_generated-torch-2.13.0-cpu/fast_nw0/worker0.1795399601675066073.pt.trace.json.gz"
GLOO_RANK_0 = "_generated-torch-2.13.0-cpu/ddp_gloo_2rank/rank0.1795399607091970150.pt.trace.json.gz"
GLOO_RANK_1 = "_generated-torch-2.13.0-cpu/ddp_gloo_2rank/rank1.1795399607101329650.pt.trace.json.gz"


@dataclass(frozen=True, slots=True)
class Listed:
    """A Kineto file as the manifest counts it."""

    path: str
    events: int
    steps: int
    kernels: int
    memory: int


def listed() -> list[Listed]:
    """Every file the manifest counts events of; empty where there is no corpus."""
    manifest = CORPUS.parent / "MANIFEST.md"
    if not manifest.exists():
        return []
    rows = [line.strip().strip("|").split("|") for line in manifest.read_text().splitlines() if line.startswith("|")]
    return [
        Listed(cells[0].strip(), int(cells[3]), int(cells[4]), int(cells[6]), int(cells[8]))
        for cells in rows
        if len(cells) > 9 and cells[3].strip().isdigit()
    ]


# Files of the corpus that are no traces: execution traces, memory timelines, samples of a system, other formats.
_SAGEMAKER = "awslabs+sagemaker-debugger/tests/profiler/resources"
_TF_PROFILER = f"{_SAGEMAKER}/tfprofiler_timeline_traces/framework/tensorflow"
_TF_FILES = f"{_TF_PROFILER}/detailed_profiling/2020080513/000000000"
_TF_HOST = f"{_TF_FILES}/plugins/profile/2020_08_05_13_37_44/8c859046be41.ant.amazon.com"
_HTA = "facebookresearch+HolisticTraceAnalysis/tests/data"
_PARAM = "facebookresearch+param/et_replay/tests/inputs"
NO_TRACES = (
    "AMD-AGI+TraceLens/tests/rocprof/908_results.json.gz",
    "_generated-torch-2.13.0-cpu/execution_trace/et.json.gz",
    "_generated-torch-2.13.0-cpu/memory_timeline/mem.json.gz",
    "_generated-torch-2.13.0-cpu/memory_timeline/mem.raw.json.gz",
    f"{_SAGEMAKER}/1591160699.algo-1.json",
    f"{_SAGEMAKER}/1591160699.algo-1.json.corrupt",
    f"{_SAGEMAKER}/test_traces/system/incremental/1591160699.algo-1.json",
    f"{_SAGEMAKER}/test_traces/system/incremental/1591748100.algo-1.json",
    f"{_SAGEMAKER}/test_traces/system/incremental/1591748160.algo-1.json",
    f"{_TF_PROFILER}/cProfile/1596585374963238.0_1596585376008161.0_151-algo-1_2/python_stats",
    f"{_TF_PROFILER}/cProfile/1596585376012363.8_1596585376017246.5_151-algo-1_3/python_stats",
    f"{_TF_FILES}/80807-8c859046be41.ant.amazon.com_1596659864545103_1596659864854168.metadata",
    f"{_TF_FILES}/events.out.tfevents.1596659864.8c859046be41.ant.amazon.com.profile-empty",
    f"{_TF_HOST}.input_pipeline.pb",
    f"{_TF_HOST}.kernel_stats.pb",
    f"{_TF_HOST}.overview_page.pb",
    f"{_TF_HOST}.tensorflow_stats.pb",
    f"{_HTA}/execution_trace/benchmark_simple_add_et.json.gz",
    f"{_HTA}/memory_analysis/memory_timeline.raw.gz",
    f"{_PARAM}/1.1.0-chakra.0.0.4/resnet_2gpu_et.json.gz",
    f"{_PARAM}/linear_et.json.gz",
    f"{_PARAM}/resnet_et.json.gz",
    "pytorch+kineto/tb_plugin/test/result_check_file.txt",
)


def recorded() -> set[str]:
    """Every file somebody's program wrote: all but licences and sources."""
    files = (path.relative_to(CORPUS) for path in CORPUS.rglob("*") if path.is_file())
    return {str(path) for path in files if path.name != "LICENSE" and path.suffix != ".py"}
