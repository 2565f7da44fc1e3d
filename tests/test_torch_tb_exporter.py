"""torch-tb-profiler 0.4.3 shows the right times from our files: asked in-process, and in a TensorBoard that runs.

Its definitions differ from ours in three ways. It stretches a step to the end of the last kernel launched in it, and
leaves out trailing steps with few kernels: so its shares are compared with our times over its own step. Runtime calls
come before the DataLoader, wherever they run. A collective under a compute kernel counts as compute in both.
"""

from __future__ import annotations

import gzip
import json
import re
import urllib.parse
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from profkit.analysis.breakdown import steps
from profkit.analysis.columns import Columns
from profkit.analysis.report import Report
from profkit.analysis.summary import report
from profkit.exporters.torch_tb import TorchTbExporter
from profkit.trace.intervals import Intervals
from profkit.trace.load import load
from profkit.trace.model import Run, RunInfo, Trace
from profkit.trace.schema import COUNTERS, STEPS, empty
from tests import corpus, traces
from tests.corpus import CORPUS, needs_corpus
from tests.live_tensorboard import tensorboard, until

DLRM = "facebookresearch+param/dlrm_kineto_unpacked/worker0_step_12.1694128201545.pt.trace.json.gz"
WAITING = {"slow": corpus.SLOW, "fast": corpus.FAST, "resnet": corpus.RESNET_0, "owlv2": corpus.OWLV2}
TENSORFLOW = CORPUS.parent / "tensorflow"
HERE = TENSORFLOW / "generated_here_tf221"
JAX_ON_GPU = TENSORFLOW / "AMD-AGI_TraceLens/tests/traces/mi300/jax08_gemm/tw003.xplane.pb"
DISCOVERED = re.compile(r"^(.*?)(\.\d+)?\.pt\.trace\.json(?:\.gz)?$")

pytestmark = pytest.mark.filterwarnings("ignore::Warning")  # the plugin's own: it is of 2023


def exported(path: str, folder: Path) -> tuple[Path, Report]:
    run = load(CORPUS / path)
    found = report(run)
    (written,) = TorchTbExporter().export(run, found, folder)
    return Path(written), found


def exported_events(trace: Trace, folder: Path) -> list[dict[str, Any]]:
    run = Run(RunInfo(script="made.py"), empty(STEPS), empty(COUNTERS), None, (lambda: trace,))
    (path,) = TorchTbExporter().export(run, report(run), folder)
    events: list[dict[str, Any]] = json.loads(gzip.decompress(Path(path).read_bytes()))["traceEvents"]
    return [event for event in events if event["ph"] == "X"]


def understood(path: Path) -> Any:
    """What the plugin makes of a file, by its own code."""
    pytest.importorskip("torch_tb_profiler", reason="torch-tb-profiler is not installed: pip install 'profkit[peers]'")
    from torch_tb_profiler.profiler.data import RunProfileData

    plugin: Any = RunProfileData
    return plugin.parse("worker", None, str(path), str(path.parent))


def costs(data: Any) -> dict[str, float]:
    """The plugin's mean microseconds per step of each of its classes."""
    from torch_tb_profiler.profiler.event_parser import ProfileRole

    return {role.name: data.avg_costs.costs[role] for role in ProfileRole}


@needs_corpus
@pytest.mark.parametrize("path", WAITING.values(), ids=WAITING.keys())
def test_the_plugin_measures_the_wait_for_data_that_we_measure(path: str, tmp_path: Path) -> None:
    written, found = exported(path, tmp_path)
    measured = costs(understood(written))
    ours_us = found.breakdown_ns["data_wait"] / 1_000
    assert measured["DataLoader"] / measured["Total"] == pytest.approx(ours_us / measured["Total"], abs=0.005)
    step_us = sum(found.breakdown_ns.values()) / 1_000
    assert step_us <= measured["Total"] + 1
    # Only resnet50 has kernels that outlive their step.
    assert measured["Total"] == pytest.approx(step_us, rel=0.02 if path == corpus.RESNET_0 else 1e-6)


@needs_corpus
@pytest.mark.parametrize("path", [corpus.RESNET_0, corpus.OWLV2, DLRM, corpus.TRACE_DIFF], ids=lambda path: path[-40:])
def test_operators_have_the_device_time_of_what_they_launched(path: str, tmp_path: Path) -> None:
    written, found = exported(path, tmp_path)
    aggregated = {op.name: op for op in understood(written).op_list_groupby_name}
    ours = max((op for op in found.operators if op.kind == "op"), key=lambda op: op.device_ns)
    theirs = aggregated[ours.name]
    assert theirs.calls == ours.calls
    kernels_only = sum(kernel.total_ns for kernel in found.kernels if kernel.kind == "kernel")
    attributed = sum(op.self_device_duration for op in aggregated.values()) * 1_000
    assert 0.5 * kernels_only < attributed <= 1.35 * sum(kernel.total_ns for kernel in found.kernels)


@needs_corpus
@pytest.mark.parametrize("path", [DLRM, corpus.TRACE_DIFF, corpus.GLOO_RANK_0], ids=lambda path: path[-40:])
def test_communication_is_shown_as_such(path: str, tmp_path: Path) -> None:
    written, found = exported(path, tmp_path)
    data = understood(written)
    measured = costs(data)
    share = found.breakdown_ns["communication"] / sum(found.breakdown_ns.values())
    assert data.has_communication
    assert measured["Communication"] / measured["Total"] == pytest.approx(share, abs=0.02)


@needs_corpus
def test_an_original_file_shows_no_wait_which_is_why_this_exporter_exists() -> None:
    assert costs(understood(CORPUS / corpus.OWLV2))["DataLoader"] == 0


@needs_corpus
@pytest.mark.parametrize(
    ("names", "fast"), [(list(WAITING), "--load_fast=false"), (["fast", "resnet"], "--load_fast=true")]
)
def test_a_running_tensorboard_shows_the_wait_for_data_in_its_overview(
    names: list[str], fast: str, tmp_path: Path
) -> None:
    pytest.importorskip("torch_tb_profiler", reason="torch-tb-profiler is not installed: pip install 'profkit[peers]'")
    found, workers = {}, {}
    for name in names:
        (tmp_path / name).mkdir()
        written, found[name] = exported(WAITING[name], tmp_path / name)
        workers[name] = written.name.split(".")[0]
    with tensorboard(tmp_path, fast) as ask:
        route = "data/plugin/pytorch_profiler"
        until(lambda: ask(f"{route}/runs"), lambda runs: set(runs["runs"]) == set(names) and not runs["loading"])
        for name, ours in found.items():
            query = urllib.parse.urlencode({"run": name, "view": "Overview"})
            assert ask(f"{route}/workers?{query}") == [workers[name]]
            query = urllib.parse.urlencode({"run": name, "worker": workers[name], "span": "1", "view": "Overview"})
            (step,) = ask(f"{route}/overview?{query}")["performance"]
            shown = {row["name"]: row["extra"] for row in step["children"]}  # percent of the step of step["value"] µs
            ours_us = ours.breakdown_ns["data_wait"] / 1_000
            assert shown["DataLoader"] == pytest.approx(100 * ours_us / step["value"], abs=0.5)
            query = query.replace("view=Overview", "view=Operator") + "&group_by=Operation"
            table = ask(f"{route}/operation/table?{query}")
            device = [row.get("device_self_duration", 0) for row in table["data"]]
            assert (max(device) > 0) == bool(ours.kernels)


@needs_corpus
@pytest.mark.parametrize(
    "name", ["stall_exact_D20", "custom_loop_step_markers", "keras_fit_fixed_markers", "jax0.10.2_cpu_ipl"]
)
def test_the_plugin_measures_the_wait_for_data_of_tensorflow_and_jax(name: str, tmp_path: Path) -> None:
    run = load(HERE / name / "vm.xplane.pb")
    (path,) = TorchTbExporter().export(run, report(run), tmp_path)
    data = understood(Path(path))
    (trace,) = run.traces
    number, start, end = steps(trace, Columns(trace))
    waits = trace.spans.filter(pl.col("kind") == "data_wait")
    begin, duration = (waits[name].to_numpy() for name in ("start_ns", "duration_ns"))
    waited = Intervals.union(begin, begin + duration).covered(start, end)
    measured = costs(data)
    assert measured["DataLoader"] == pytest.approx(waited.mean() / 1e3, rel=1e-3)
    assert measured["Total"] == pytest.approx((end - start).mean() / 1e3, rel=1e-3)
    assert len(data.steps_costs) == len(number)


@needs_corpus
def test_operators_of_tensorflow_are_shown_by_their_types_and_its_memory_as_the_cpus(tmp_path: Path) -> None:
    run = load(HERE / "custom_loop_step_markers" / "vm.xplane.pb")
    (path,) = TorchTbExporter().export(run, report(run), tmp_path)
    data = understood(Path(path))
    (trace,) = run.traces
    calls = dict(trace.spans.filter(pl.col("kind") == "op").group_by(pl.col("name").cast(pl.String)).len().rows())
    shown = {op.name: op.calls for op in data.op_list_groupby_name if not op.name.startswith("enumerate(")}
    assert shown == calls
    records = data.memory_snapshot.memory_records
    assert {record.device_name for record in records} == {"CPU"}
    assert max(record.total_allocated for record in records) == report(run).memory.peak_bytes


@needs_corpus
def test_kernels_of_jax_are_shown_where_it_recorded_neither_steps_nor_operators(tmp_path: Path) -> None:
    run = load(JAX_ON_GPU)
    (path,) = TorchTbExporter().export(run, report(run), tmp_path)
    data, measured = understood(Path(path)), costs(understood(Path(path)))
    kernels = {operator.name for operator in report(run).kernels if operator.kind == "kernel"}
    assert set(data.kernel_stat.index) == kernels
    assert 0 < measured["Kernel"] < measured["Total"]


def test_a_file_is_named_as_the_plugin_discovers_it(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [traces.op("a", 0, 1)], host_name="node 7/x", distributedInfo={"rank": 2})
    exported_events(trace, tmp_path / ".")
    (path,) = tmp_path.glob("*.gz")
    match = DISCOVERED.match(path.name)
    assert match
    assert match[1] == "node-7-x_2"
    assert match[2] == f".{trace.info.start_ns}"


def test_categories_become_the_ones_the_plugin_knows(tmp_path: Path) -> None:
    events = [
        traces.step(3, 0, 100), traces.wait(0, 10), traces.span("Optimizer.step#SGD.step", "user_annotation", 20, 5),
        traces.launch(4, 30, 1), traces.kernel("k", 4, 40, 5),
        {**traces.span("ProfilerStep#3", "gpu_user_annotation", 40, 5, tid=traces.STREAM), "pid": 0},
    ]  # fmt: skip
    found = {e["name"]: e["cat"] for e in exported_events(traces.traced(tmp_path, events), tmp_path)}
    assert found == {
        "ProfilerStep#3": "user_annotation",
        traces.wait(0, 1)["name"]: "cpu_op",
        "Optimizer.step#SGD.step": "cpu_op",
        "cudaLaunchKernel": "Runtime",
        "k": "kernel",
    }


def test_kernels_of_collectives_get_the_number_of_their_range_under_a_name_the_plugin_knows(tmp_path: Path) -> None:
    events = [
        traces.span("nccl:_all_gather_base", "user_annotation", 0, 50), traces.op("c10d::_allgather_base_", 5, 40),
        traces.launch(8, 10, 1), traces.kernel("ncclDevKernel_AllGather_RING_LL", 8, 60, 20),
    ]  # fmt: skip
    found = {e["name"]: e for e in exported_events(traces.traced(tmp_path, events), tmp_path)}
    collective = found["nccl:all_gather"]
    assert collective["cat"] == "user_annotation"
    number = collective["args"]["External id"]
    assert found["ncclDevKernel_AllGather_RING_LL"]["args"]["External id"] == number
    assert found["cudaLaunchKernel"]["args"]["External id"] == number
    assert found["c10d::_allgather_base_"]["args"]["External id"] != number


def test_any_loader_of_ours_is_a_data_loader_to_the_plugin(tmp_path: Path) -> None:
    events = [traces.step(0, 0, 100), traces.span("profkit.loader#batches", "user_annotation", 0, 40)]
    names = [e["name"] for e in exported_events(traces.traced(tmp_path, events), tmp_path)]
    assert "enumerate(DataLoader)#batches.__next__" in names
    (path,) = tmp_path.glob("*.gz")
    assert costs(understood(path))["DataLoader"] == 40.0


def test_python_frames_form_the_tree_that_the_module_view_shows(tmp_path: Path) -> None:
    events = [
        traces.step(0, 0, 100), traces.span("train.py(3): main", "python_function", 1, 90),
        traces.op("aten::relu", 5, 80), traces.span("nn.Module: Linear_2", "python_function", 10, 20),
    ]  # fmt: skip
    found = {e["name"]: e["args"] for e in exported_events(traces.traced(tmp_path, events), tmp_path)}
    module, outer = found["nn.Module: Linear_2"], found["train.py(3): main"]
    assert module["Python parent id"] == outer["Python id"]
    assert module["Python module id"] == 2
    assert outer["Python parent id"] is None
