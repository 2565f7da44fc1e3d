"""XProf 2.24.2 shows PyTorch's traces from our files: asked by its own converters.

None of what it needs is documented. Each rule is pinned by a trace that shows it, and where a rule is the reason for
something odd in our files, by what XProf says without it. They fail where a new version changes its mind.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profkit.analysis.breakdown import breakdown
from profkit.analysis.summary import report
from profkit.exporters.xprof import XProfExporter
from profkit.exporters.xspace import STAT, Line, Plane, encoded
from profkit.readers.xplane_messages import XSpace
from profkit.trace.load import load
from profkit.trace.model import Run, RunInfo, Trace
from profkit.trace.schema import COUNTERS, STEPS, empty
from tests import corpus, traces, xprof_viewer
from tests.corpus import CORPUS, needs_corpus

MS = 1_000  # microseconds, as the Chrome format counts
PINNED = "2.24.2"


@pytest.fixture(scope="module", autouse=True)
def the_pinned_version() -> None:
    try:
        assert version("xprof") == PINNED, "the rules below were measured on another version: look at each again"
    except PackageNotFoundError:
        pytest.skip("xprof is not installed: pip install 'profkit[peers]'")


def a_run(*recorded: Trace, script: str = "made.py") -> Run:
    windows = tuple(partial(_itself, trace) for trace in recorded)
    return Run(RunInfo(script=script), empty(STEPS), empty(COUNTERS), None, windows)


def _itself(trace: Trace) -> Trace:
    return trace


def exported(run: Run, folder: Path) -> list[Path]:
    return [Path(path) for path in XProfExporter().export(run, report(run), folder)]


def written(events: list[traces.Event], folder: Path, **top: Any) -> Path:
    """These events, exported."""
    (path,) = exported(a_run(traces.traced(folder, events, **top)), folder)
    return path


def changed(path: Path, change: Callable[[Any], None]) -> Path:
    """The file after a change, in a folder of its own."""
    space = XSpace()
    space.ParseFromString(path.read_bytes())
    change(space)
    folder = path.parent.with_name(f"{path.parent.name}-changed")
    folder.mkdir()
    (folder / path.name).write_bytes(space.SerializeToString())
    return folder / path.name


def without_lines(space: Any, *names: str) -> None:
    for plane in space.planes:
        for line in [line for line in plane.lines if line.name in names]:
            plane.lines.remove(line)


def rename_statistic(space: Any, name: str, other: str) -> None:
    for plane in space.planes:
        for number in [number for number, metadata in plane.stat_metadata.items() if metadata.name == name]:
            plane.stat_metadata[number].name = other


def steps_on_cpu(count: int) -> list[traces.Event]:
    """Steps of 10 ms: 3 ms of waiting, 4 ms of an operator."""
    events = []
    for step in range(count):
        at = 1_000 + step * 10 * MS
        events += [
            traces.step(step, at, 10 * MS), traces.wait(at + 100, 3 * MS),
            traces.op("aten::conv2d", at + 4 * MS, 4 * MS), traces.op("aten::empty", at + 5 * MS, MS),
        ]  # fmt: skip
    return events


def steps_on_gpu(count: int) -> list[traces.Event]:
    """Steps of 10 ms: 3 ms of waiting, in the first of which the device still works, and 5 ms of a kernel."""
    events = []
    for step in range(count):
        at = 1_000 + step * 10 * MS
        events += [
            traces.step(step, at, 10 * MS), traces.wait(at, 3 * MS), traces.op("aten::conv2d", at + 4 * MS, MS),
            traces.launch(step + 1, at + 4 * MS + 100, 10), traces.kernel("volta_sgemm", step + 1, at + 6 * MS, 4 * MS),
            traces.launch(step + 101, at, 10), traces.kernel("tail", step + 101, at, MS),
        ]  # fmt: skip
    return events


# Recorded traces: XProf's figures are ours.


@needs_corpus
def test_a_stalled_gpu_training_is_called_input_bound_with_the_times_of_our_own_report(tmp_path: Path) -> None:
    run = load(CORPUS / corpus.RESNET_0)
    found = xprof_viewer.overview(*exported(run, tmp_path))
    ours = breakdown(run.traces[0])
    assert ours.exposed_ns is not None
    inner = slice(1, -1)  # XProf leaves out the first and the last of more than five steps
    assert len(found.steps) == len(ours.number) - 2 == 4
    assert [step["stepTimeMs"] for step in found.steps] == pytest.approx(ours.duration[inner] / 1e6)
    # A kernel that runs across the end of a step is, to XProf, none of the next one's.
    assert [step["infeedTimeMs"] for step in found.steps] == pytest.approx(ours.exposed_ns[inner] / 1e6, abs=0.3)
    work = (ours.time_ns["compute"] + ours.time_ns["copy"])[inner] / 1e6  # it takes torch's copies for compute
    assert [step["deviceComputeTimeMs"] for step in found.steps] == pytest.approx(work, abs=0.5)
    share = 100 * ours.exposed_ns[inner].sum() / ours.duration[inner].sum()
    assert 100 * found.mean("infeedTimeMs") / found.mean("stepTimeMs") == pytest.approx(share, abs=0.2)
    assert found.verdict.startswith("Your program is HIGHLY input-bound because 33.7%")


@needs_corpus
def test_a_healthy_gpu_training_is_not_blamed_on_its_input(tmp_path: Path) -> None:
    run = load(CORPUS / corpus.RESNET_4)
    found = xprof_viewer.overview(*exported(run, tmp_path))
    ours = breakdown(run.traces[0])
    assert ours.exposed_ns is not None
    assert found.mean("infeedTimeMs") == pytest.approx(ours.exposed_ns[1:-1].mean() / 1e6, abs=0.2)
    assert found.mean("infeedTimeMs") / found.mean("stepTimeMs") < 0.01
    assert "input-bound" not in found.verdict or "NOT input-bound" in found.verdict or "POTENTIALLY" in found.verdict


@needs_corpus
@pytest.mark.parametrize("path", [corpus.RESNET_0, corpus.SLOW], ids=["gpu", "cpu"])
def test_operators_have_the_calls_of_our_own_report_and_the_time_of_their_spans(path: str, tmp_path: Path) -> None:
    run = load(CORPUS / path)
    shown = xprof_viewer.operators(*exported(run, tmp_path))
    calls = {op.name: op.calls for op in report(run).operators if op.kind == "op"}
    spans = run.traces[0].spans.filter(pl.col("kind") == "op").group_by("name").agg(pl.sum("duration_ns"))
    named = {name.replace("::", "/"): (name, ns) for name, ns in spans.rows() if name.startswith("aten::")}
    theirs = {name: row for (where, kind, name), row in shown.items() if where == "Host" and kind and name in named}
    assert len(theirs) > 15
    for operator, row in theirs.items():
        name, duration_ns = named[operator]
        assert row["occurrences"] == calls[name], name
        assert row["total_time"] == pytest.approx(duration_ns / 1e3), name


@needs_corpus
def test_kernels_have_their_calls_and_the_operator_that_launched_them(tmp_path: Path) -> None:
    run = load(CORPUS / corpus.RESNET_0)
    files = exported(run, tmp_path)
    table = xprof_viewer.rows(xprof_viewer.ask("kernel_stats", *files))
    kernels = {op.name: op for op in report(run).kernels if op.kind == "kernel"}
    total_us = sum(row["total_duration_us"] for row in table)
    assert total_us == pytest.approx(sum(op.total_ns for op in kernels.values()) / 1e3, rel=1e-6)
    first = max(table, key=lambda row: row["total_duration_us"])
    assert first["op_name"].startswith("aten/cudnn_")
    assert first["block_dim"] != "1,1,1"
    on_device = {name: row for (where, _, name), row in xprof_viewer.operators(*files).items() if where == "Device"}
    assert on_device["aten/cudnn_convolution"]["total_self_time"] > 100_000


@needs_corpus
def test_a_cpu_training_has_its_steps_its_input_and_its_peak_of_memory(tmp_path: Path) -> None:
    run = load(CORPUS / corpus.SLOW)
    files, ours = exported(run, tmp_path), breakdown(run.traces[0])
    found = xprof_viewer.overview(*files)
    assert [step["stepnum"] for step in found.steps] == [f"train {n}" for n in ours.number.tolist()]
    assert [step["stepTimeMs"] for step in found.steps] == pytest.approx(ours.duration / 1e6)
    assert [step["infeedTimeMs"] for step in found.steps] == pytest.approx(ours.wait_ns / 1e6)
    busy = ours.duration - ours.wait_ns - ours.time_ns["unattributed"]
    assert [step["hostComputeTimeMs"] for step in found.steps] == pytest.approx(busy / 1e6, abs=0.01)
    assert found.verdict.startswith("Your program is HIGHLY input-bound because 92.9%")
    (stage,) = xprof_viewer.input_stages(*files)
    wait = "enumerate(DataLoader)#_SingleProcessDataLoaderIter.__next__"
    assert (stage["opName"], stage["category"], stage["count"]) == (wait, "Preprocessing", 4)
    cpu = xprof_viewer.memory(*files)["cpu"]
    assert int(cpu["profileSummary"]["peakBytesUsageLifetime"]) == report(run).memory.peak_bytes
    named = {snapshot["activityMetadata"]["tfOpName"] for snapshot in cpu["memoryProfileSnapshots"]}
    assert "aten::empty" in named


# Small traces: one rule each.


def test_a_step_on_the_cpu_is_divided_into_input_operators_and_the_rest(tmp_path: Path) -> None:
    found = xprof_viewer.overview(written(steps_on_cpu(4), tmp_path))
    assert [step["stepnum"] for step in found.steps] == [f"train {n}" for n in range(4)]
    for step in found.steps:
        assert (step["stepTimeMs"], step["infeedTimeMs"], step["hostComputeTimeMs"], step["otherTimeMs"]) == (
            pytest.approx((10, 3, 4, 3))
        )


def test_of_more_than_five_steps_the_first_and_the_last_are_left_out(tmp_path: Path) -> None:
    found = xprof_viewer.overview(written(steps_on_cpu(6), tmp_path))
    assert [step["stepnum"] for step in found.steps] == ["train 1", "train 2", "train 3", "train 4"]


def test_a_step_on_a_gpu_is_divided_into_exposed_wait_device_work_and_the_rest(tmp_path: Path) -> None:
    found = xprof_viewer.overview(written(steps_on_gpu(4), tmp_path))
    assert len(found.steps) == 4
    for step in found.steps:
        assert (step["stepTimeMs"], step["infeedTimeMs"], step["deviceComputeTimeMs"], step["otherTimeMs"]) == (
            pytest.approx((10, 2, 5, 3))
        )


@pytest.mark.parametrize(
    ("name", "category", "column"),
    [
        ("ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)", "kernel", "deviceCollectives"),
        ("Memcpy HtoD (Pageable -> Device)", "gpu_memcpy", "deviceCompute"),
        ("Memset (Device)", "gpu_memset", "deviceCompute"),
    ],
)
def test_collectives_are_a_class_of_their_own_and_copies_are_compute(
    name: str, category: str, column: str, tmp_path: Path
) -> None:
    events = steps_on_gpu(4)
    for step in range(4):
        at = 1_000 + step * 10 * MS
        work = traces.kernel(name, step + 201, at + 4 * MS, MS)
        events += [traces.launch(step + 201, at + 4 * MS - 100, 10), {**work, "cat": category}]
    found = xprof_viewer.overview(written(events, tmp_path))
    expected = {"deviceCompute": 5.0, "deviceCollectives": 0.0} | {column: 1.0 if "Coll" in column else 6.0}
    for shown in found.steps:
        assert {key: shown[f"{key}TimeMs"] for key in expected} == pytest.approx(expected)


def test_a_step_in_which_a_gpu_computes_nothing_is_none_to_xprof(tmp_path: Path) -> None:
    events = [event for event in steps_on_gpu(4) if event["args"].get("correlation") not in (3, 103)]
    found = xprof_viewer.overview(written(events, tmp_path))
    assert [step["stepnum"] for step in found.steps] == ["0", "1", "3"]


def test_without_its_line_on_the_device_no_wait_counts_which_is_why_it_is_shown_as_a_copy(tmp_path: Path) -> None:
    path = changed(written(steps_on_gpu(4), tmp_path), lambda space: without_lines(space, "Waiting for input"))
    found = xprof_viewer.overview(path)
    assert [step["infeedTimeMs"] for step in found.steps] == [0.0] * 4


def test_the_line_of_waits_lets_the_device_be_idle_from_the_first_wait_on_which_is_what_it_costs(
    tmp_path: Path,
) -> None:
    kernels_us, first_us, last_us = 4 * 5 * MS, 1_000, 1_000 + 4 * 10 * MS
    events = [event for event in steps_on_gpu(4) if event["name"] != "tail"]
    idle = xprof_viewer.operators(written(events, tmp_path))["Device", "IDLE", "IDLE"]
    assert idle["total_self_time"] == pytest.approx(last_us - first_us - kernels_us + 4 * MS)


def test_left_to_itself_xprof_takes_the_devices_work_for_the_step_which_is_why_we_group(tmp_path: Path) -> None:
    def as_recorded(space: Any) -> None:
        without_lines(space, "Waiting for input", "Steps")
        rename_statistic(space, "group_id", "ungrouped")

    events = [event for event in steps_on_gpu(4) if event["args"].get("correlation", 0) < 100]
    path = written(events, tmp_path)
    assert [step["stepTimeMs"] for step in xprof_viewer.overview(path).steps] == pytest.approx([10] * 4)
    found = xprof_viewer.overview(changed(path, as_recorded))
    assert [step["stepTimeMs"] for step in found.steps] == pytest.approx([4] * 4)


def test_without_the_line_of_steps_a_grouped_file_has_none_on_a_gpu(tmp_path: Path) -> None:
    path = changed(written(steps_on_gpu(4), tmp_path), lambda space: without_lines(space, "Steps"))
    assert xprof_viewer.overview(path).steps == []


def test_a_stage_numbered_like_a_name_counts_twice_which_is_why_its_number_is_large(tmp_path: Path) -> None:
    def small(space: Any) -> None:
        for plane in space.planes:
            numbers = [key for key, name in plane.stat_metadata.items() if name.name == "_ipl_stage_id"]
            for stat in (stat for line in plane.lines for event in line.events for stat in event.stats):
                if stat.metadata_id in numbers:
                    stat.int64_value = 1

    path = written(steps_on_cpu(4), tmp_path)
    assert [stage["count"] for stage in xprof_viewer.input_stages(path)] == [4]
    assert [stage["count"] for stage in xprof_viewer.input_stages(changed(path, small))] == [8]


def test_an_instant_belongs_to_no_step_because_xprof_lets_it_last_until_the_next_event(tmp_path: Path) -> None:
    instants = [traces.op("aten::alias", 1_000 + step * 10 * MS + 9 * MS, 0) for step in range(4)]
    found = xprof_viewer.overview(written(steps_on_cpu(4) + instants, tmp_path))
    assert [step["hostComputeTimeMs"] for step in found.steps] == pytest.approx([4] * 4)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("aten::conv2d", ("conv2d", "aten/conv2d")),
        ("aten::add_", ("add_", "aten/add_")),
        ("autograd::engine::evaluate_function: MmBackward0", ("MmBackward0", "autograd/evaluate_function/MmBackward0")),
        ("torchvision::roiAlign", ("roialign", "torchvision/roiAlign")),
        ("mylib::3d conv", ("_3d_conv", "mylib/3d_conv")),
        ("ünïcode::öp", ("_p", "op_n_code/_p")),
        ("::", ("op", "op")),
        ("", ("op", "op")),
    ],
)
def test_any_operator_of_torch_is_one_to_xprof(name: str, shown: tuple[str, str], tmp_path: Path) -> None:
    found = xprof_viewer.operators(written([traces.step(0, 0, 100), traces.op(name, 10, 50)], tmp_path))
    assert found["Host", *shown]["total_self_time"] == pytest.approx(50)


def test_python_of_other_threads_is_no_work_of_the_step(tmp_path: Path) -> None:
    idle = [traces.span("threading.py(3): wait", "python_function", 1_000, 40 * MS, tid=traces.AUTOGRAD)]
    found = xprof_viewer.overview(written(steps_on_cpu(4) + idle, tmp_path))
    assert [step["hostComputeTimeMs"] for step in found.steps] == pytest.approx([4] * 4)


def test_facts_of_a_device_are_those_of_torch(tmp_path: Path) -> None:
    properties = [{"id": 0, "name": "Tesla V100", "totalGlobalMem": 1 << 34, "computeMajor": 7, "computeMinor": 0}]
    path = written(steps_on_gpu(2), tmp_path, deviceProperties=properties)
    page = xprof_viewer.ask("overview_page", path)
    assert page[2]["p"]["device_type"] == "Nvidia GPU (Volta)"


def test_a_kernels_launch_is_told_with_its_grid_and_block(tmp_path: Path) -> None:
    event = traces.kernel("volta_sgemm", 9, 50, 20)
    event["args"] |= {"grid": [4, 2, 1], "block": [256, 1, 1], "registers per thread": 32, "shared memory": 1_024,
                      "est. achieved occupancy %": 25}  # fmt: skip
    path = written([traces.step(0, 0, 100), traces.op("aten::mm", 1, 20), traces.launch(9, 5, 2), event], tmp_path)
    (row,) = xprof_viewer.rows(xprof_viewer.ask("kernel_stats", path))
    keys = ("grid_dim", "block_dim", "registers_per_thread", "shmem_bytes", "occupancy_pct", "op_name")
    assert [row[key] for key in keys] == ["4,2,1", "256,1,1", 32, 1_024, 25, "aten/mm"]


def test_the_tools_for_a_gpu_are_offered(tmp_path: Path) -> None:
    offered = xprof_viewer.tools(written(steps_on_gpu(2), tmp_path))
    assert {"trace_viewer@", "overview_page", "input_pipeline_analyzer", "framework_op_stats", "kernel_stats"} <= set(
        offered
    )


# Odd traces.


def test_a_trace_without_steps_has_operators_and_says_that_no_step_was_marked(tmp_path: Path) -> None:
    path = written([traces.op("aten::conv2d", 10, 50)], tmp_path)
    page = xprof_viewer.ask("overview_page", path)
    assert page[1]["rows"] == []
    assert page[3]["p"]["statement"].startswith("No step time measured")
    assert xprof_viewer.operators(path)["Host", "conv2d", "aten/conv2d"]["occurrences"] == 1


def test_a_trace_without_spans_still_shows_its_memory(tmp_path: Path) -> None:
    path = written([traces.allocation(10, 4_096, 64, 4_096), traces.allocation(20, -4_096, 64, 0)], tmp_path)
    assert xprof_viewer.memory(path)["cpu"]["profileSummary"]["peakBytesUsageLifetime"] == "4096"


def test_steps_whose_numbers_return_are_told_apart(tmp_path: Path) -> None:
    events = [traces.step(number, at * MS, 10 * MS) for at, number in ((0, 1), (10, 2), (20, 1), (30, 2))]
    events += [traces.op("aten::mm", at * MS, MS) for at in (0, 10, 20, 30)]
    found = xprof_viewer.overview(written(events, tmp_path))
    assert [step["stepnum"] for step in found.steps] == ["train 1", "train 2", "train 1", "train 2"]


def test_threads_of_two_processes_with_one_number_have_a_line_each(tmp_path: Path) -> None:
    events = [traces.op("aten::mm", 0, 100), {**traces.op("aten::add", 50, 100), "pid": 200}]
    space = XSpace()
    space.ParseFromString(written(events, tmp_path).read_bytes())
    lines = [line.id for plane in space.planes for line in plane.lines]
    assert lines == [traces.MAIN, traces.MAIN + 1]


NASTY = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        ['"quoted"', "back\\slash\\", "\x00\x1f\x7f\n\t", "🔥🚀 ümläut", "x" * 10_000, "", "a/b:C", "$", "::"]
    ),
)


@given(st.lists(st.tuples(NASTY, st.sampled_from(["cpu_op", "user_annotation", "python_function", "made up"]),
                          st.integers(0, 10**6), st.integers(0, 10**6)), min_size=1, max_size=20))  # fmt: skip
@settings(max_examples=15, deadline=None)
def test_any_names_are_shown_as_they_are(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[str, str, int, int]]
) -> None:
    folder = tmp_path_factory.mktemp("nasty")
    events = [
        traces.span(name, category, start, duration, args={"Input Dims": name})
        for name, category, start, duration in spans
    ]
    path = written(events, folder)
    shown = [event for event in xprof_viewer.ask("trace_viewer", path)["traceEvents"] if event.get("ph") in ("X", "i")]
    assert len(shown) == len(spans)
    names = [name for name, category, _, _ in spans if category != "cpu_op" or "::" in name]
    assert Counter(names) <= Counter(event["name"] for event in shown)
    xprof_viewer.operators(path)


def test_two_windows_are_two_runs_and_two_ranks_are_two_machines_of_one(tmp_path: Path) -> None:
    def trace(window: int, rank: int) -> Trace:
        made = traces.traced(
            tmp_path, steps_on_cpu(4), host_name="node", distributedInfo={"rank": rank, "world_size": 2}
        )
        info = msgspec.structs.replace(made.info, window=window)
        return Trace(info, made.spans, made.tracks, made.links, made.memory)

    paths = exported(a_run(*(trace(window, rank) for window in (0, 3) for rank in (0, 1)), script="t.py"), tmp_path)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        f"plugins/profile/t-window{window}/node_{rank}.xplane.pb" for window in (0, 3) for rank in (0, 1)
    ]
    page = xprof_viewer.ask("overview_page", *paths[:2])
    assert page[2]["p"]["host_count"] == "2"
    assert [row["stepTimeMs"] for row in xprof_viewer.rows(page[1])] == pytest.approx([10] * 4)


def test_what_was_exported_before_is_exported_alike(tmp_path: Path) -> None:
    first = written(steps_on_gpu(4), tmp_path)
    (second,) = exported(load(first), tmp_path / "plugins")
    found = [xprof_viewer.overview(file) for file in (first, second)]
    assert (found[0].steps, found[0].verdict) == (found[1].steps, found[1].verdict)
    before, after = (xprof_viewer.operators(file) for file in (first, second))
    assert before["Device", "IDLE", "IDLE"]["total_time"] == after["Device", "IDLE", "IDLE"]["total_time"]


def test_keras_own_markers_are_steps_that_xprof_knows(tmp_path: Path) -> None:
    """Without `_r`, XProf takes them for none (keras 3.15): "No step marker observed"."""
    rows: list[tuple[Any, ...]] = [(0, "Profiled batch", "", n * 10_000_000, 9_000_000, n) for n in range(4)]
    rows += [(0, "model/dense:MatMul", "", n * 10_000_000 + 1_000_000, 5_000_000, None) for n in range(4)]
    columns = ["line", "name", "display_name", "start_ns", "duration_ns", f"{STAT}step_num"]
    plane = Plane("/host:CPU")
    plane.add_lines([Line(1, "python")], pl.DataFrame(rows, schema=columns, orient="row"))
    original = tmp_path / "keras" / "here.xplane.pb"
    original.parent.mkdir()
    original.write_bytes(encoded([plane], "here"))
    assert xprof_viewer.overview(original).steps == []
    found = xprof_viewer.overview(*exported(load(original), tmp_path))
    assert [step["stepnum"] for step in found.steps] == ["train 0", "train 1", "train 2", "train 3"]
    assert [step["hostComputeTimeMs"] for step in found.steps] == pytest.approx([5] * 4)


@needs_corpus
def test_what_profkit_reads_back_has_the_same_steps_waits_and_device_work(tmp_path: Path) -> None:
    run = load(CORPUS / corpus.RESNET_0)
    (path,) = exported(run, tmp_path)
    back, ours = breakdown(load(path).traces[0]), breakdown(run.traces[0])
    assert np.array_equal(back.number, ours.number)
    assert np.array_equal(back.duration, ours.duration)
    assert np.array_equal(back.wait_ns, ours.wait_ns)
