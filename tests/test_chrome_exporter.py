"""The Chrome format: read back by profkit itself, and by the programs people open it with."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profkit.analysis.report import Report
from profkit.analysis.summary import report
from profkit.exporters.chrome import ChromeExporter
from profkit.exporters.kinetowords import is_of_xplane
from profkit.readers.kineto import nanoseconds
from profkit.trace.load import load
from profkit.trace.model import Run, RunInfo, Trace
from profkit.trace.schema import COUNTERS, STEPS, empty
from tests import corpus, traces
from tests.corpus import CORPUS, needs_corpus

MI300 = "AMD-AGI+TraceLens/tests/traces/mi300/Falconsai_nsfw_image_detection__1016002.json.gz"
SAMPLED = "facebookresearch+HolisticTraceAnalysis/tests/data/trace_filter/sampled_rank-0.json.gz"
DLRM = "facebookresearch+param/dlrm_kineto_unpacked/worker0_step_12.1694128201545.pt.trace.json.gz"
TRACES = (
    corpus.OWLV2, corpus.RESNET_0, corpus.TRACE_DIFF, corpus.SLOW, corpus.GLOO_RANK_0, MI300, SAMPLED, DLRM,
)  # fmt: skip
TF_LOOP = "../tensorflow/generated_here_tf221/custom_loop_step_markers/vm.xplane.pb"
TF_STALL = "../tensorflow/generated_here_tf221/stall_exact_D20/vm.xplane.pb"
JAX_CPU = "../tensorflow/generated_here_tf221/jax0.10.2_cpu_ipl/vm.xplane.pb"
JAX_GPU = "../tensorflow/AMD-AGI_TraceLens/tests/traces/mi300/jax_conv_minimal_08/tw003.xplane.pb"
TPU = "../tensorflow/openxla_xprof/tpu/tpu_inference_2.xplane.pb"
OF_XPLANE = (TF_LOOP, TF_STALL, JAX_CPU, JAX_GPU, TPU)
each_trace = pytest.mark.parametrize("path", TRACES, ids=lambda path: path[-40:])
each_file = pytest.mark.parametrize("path", (*TRACES, *OF_XPLANE), ids=lambda path: path[-40:])

# What a trace says of its spans; tracks and ids may be numbered anew. Old categories come back as today's.
COMPARED = [
    "start_ns", "duration_ns", "name", "kind", "depth", "self_ns", "step", "phase",
    "op_class", "shapes", "dtypes", "module", "stack", "bytes", "correlation", "args",
]  # fmt: skip


def a_run(trace: Trace, counters: pl.DataFrame | None = None) -> Run:
    return Run(
        RunInfo(script="made.py"),
        empty(STEPS),
        empty(COUNTERS) if counters is None else counters,
        None,
        (lambda: trace,),
    )


def exported(run: Run, folder: Path) -> Path:
    (path,) = ChromeExporter().export(run, report(run), folder)
    return Path(path)


def events_of(path: Path) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return events


def rows_of(trace: Trace) -> list[tuple[Any, ...]]:
    """Spans as plain rows, each with the name of its track, and of what encloses it; in an order of their own."""
    named = dict(zip(trace.tracks["id"], trace.tracks["name"], strict=True))
    parent = [None if p is None else trace.spans["start_ns"][p] for p in trace.spans["parent"].to_list()]
    track = [named[t] for t in trace.spans["track"].to_list()]
    return sorted(zip(*(trace.spans[c].to_list() for c in COMPARED), parent, track, strict=True), key=repr)


def thread_of_training(trace: Trace) -> Any:
    """Its name, and its numbers unless they were TensorFlow's, which no viewer could tell apart."""
    number = trace.info.training_thread
    numbers = [] if is_of_xplane(trace) else ["pid", "tid"]
    return None if number is None else trace.tracks.select("name", *numbers).row(number)


def links_of(trace: Trace) -> list[tuple[Any, ...]]:
    spans = trace.spans.select("start_ns", "name", "correlation")
    ends = [spans[trace.links[end]].rows() for end in ("from_id", "to_id")]
    return sorted(zip(trace.links["kind"].to_list(), *ends, strict=True), key=repr)


def numbers_of(found: Report) -> dict[str, Any]:
    """Every figure of a report that is about the training and not about the file."""
    about_the_file = {"name", "counts", "dropped", "repaired", "notes", "profkit", "frameworks"}
    return {k: v for k, v in msgspec.to_builtins(found).items() if k not in about_the_file}


def assert_same(first: Trace, second: Trace) -> None:
    assert rows_of(first) == rows_of(second)
    assert links_of(first) == links_of(second)
    assert thread_of_training(first) == thread_of_training(second)
    memory = [t.memory.drop("span", "track").with_columns(pl.col("device").cast(pl.String)) for t in (first, second)]
    assert memory[0].equals(memory[1])


@needs_corpus
@each_file
def test_reading_our_own_file_gives_the_same_trace_and_the_same_report_to_the_nanosecond(
    path: str, tmp_path: Path
) -> None:
    run = load(CORPUS / path)
    back = load(exported(run, tmp_path))
    assert_same(run.traces[0], back.traces[0])
    before, after = numbers_of(report(run)), numbers_of(report(back))
    assert before.keys() == after.keys()
    for field, value in before.items():
        assert _unordered(after[field]) == _unordered(value), field


@needs_corpus
@pytest.mark.parametrize("path", OF_XPLANE, ids=lambda path: path[-40:])
def test_another_formats_words_come_back_and_the_file_speaks_kinetos(path: str, tmp_path: Path) -> None:
    (trace,) = load(CORPUS / path).traces
    file = exported(a_run(trace), tmp_path)
    (back,) = load(file).traces
    own = ["start_ns", "duration_ns", "category", "args", "flops", "source", "module"]
    assert sorted(back.spans.select(own).rows(), key=repr) == sorted(trace.spans.select(own).rows(), key=repr)
    assert sorted(back.tracks["device"].drop_nulls()) == sorted(trace.tracks["device"].drop_nulls())
    assert (back.info.frameworks, back.info.devices) == (trace.info.frameworks, trace.info.devices)
    known = {"cpu_op", "user_annotation", "python_function", "cuda_runtime", "kernel", "gpu_memcpy", "gpu_memset"}
    slices = [event for event in events_of(file) if event["ph"] == "X"]
    assert {event["cat"] for event in slices} <= known | {"gpu_user_annotation"}
    assert all(0 <= event[key] < 2**31 for event in slices for key in ("pid", "tid"))


def test_threads_of_a_process_without_a_number_are_in_one(tmp_path: Path) -> None:
    (trace,) = (traces.traced(tmp_path, [traces.op("a", 0, 1), traces.op("b", 0, 1, tid=traces.AUTOGRAD)]),)
    tracks = trace.tracks.with_columns(pid=pl.lit(None, pl.Int64), tid=pl.col("tid") + 2**40)
    nameless = Trace(trace.info, trace.spans, tracks, trace.links, trace.memory)
    slices = [event for event in events_of(exported(a_run(nameless), tmp_path)) if event["ph"] == "X"]
    assert len({event["pid"] for event in slices}) == 1
    assert len({event["tid"] for event in slices}) == 2


def test_memory_of_a_device_that_torch_has_not_keeps_its_name(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [traces.op("a", 0, 9), *(traces.allocation(n, 64, n, 64) for n in range(4))])
    names = ["gpu:3", "tpu:0", "xla_gpu_host_bfc", 'odd "name"']
    memory = trace.memory.with_columns(pl.Series("device", names, dtype=pl.Categorical))
    back = load(exported(a_run(Trace(trace.info, trace.spans, trace.tracks, trace.links, memory)), tmp_path)).traces[0]
    assert back.memory["device"].to_list() == names


def _unordered(value: Any) -> Any:
    """Rows of equal size may change places: they are ordered by time alone."""
    return sorted(value, key=repr) if isinstance(value, list) else value


@needs_corpus
@each_file
def test_slices_of_one_thread_are_disjoint_or_nested_as_perfetto_wants_them(path: str, tmp_path: Path) -> None:
    threads: dict[tuple[int, int], list[tuple[int, int]]] = {}
    for event in events_of(exported(load(CORPUS / path), tmp_path)):
        if event["ph"] == "X":
            start, duration = nanoseconds([event["ts"], event["dur"]]).tolist()
            threads.setdefault((event["pid"], event["tid"]), []).append((start, start + duration))
    for slices in threads.values():
        open_ends: list[int] = []
        for start, end in sorted(slices, key=lambda s: (s[0], -s[1])):
            while open_ends and open_ends[-1] <= start:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1]
            open_ends.append(end)


@needs_corpus
@each_trace
def test_work_of_a_device_carries_the_number_of_the_operator_that_launched_it(path: str, tmp_path: Path) -> None:
    run = load(CORPUS / path)
    slices = [event for event in events_of(exported(run, tmp_path)) if event["ph"] == "X"]
    operators = {e["args"]["External id"]: e for e in slices if e["cat"] in ("cpu_op", "user_annotation")}
    calls = {e["args"]["correlation"]: e for e in slices if e["cat"].endswith(("_runtime", "_driver"))}
    assert len(operators) == sum(e["cat"] in ("cpu_op", "user_annotation") for e in slices)
    for event in slices:
        call = calls.get(event["args"].get("correlation"))
        if event["cat"] == "kernel" and call is not None:
            assert event["args"]["External id"] == call["args"]["External id"]
            if around := operators.get(call["args"]["External id"]):
                assert around["ts"] <= call["ts"] <= call["ts"] + call["dur"] <= around["ts"] + around["dur"] + 0.001


NASTY = st.one_of(
    st.text(max_size=20),
    st.sampled_from(
        [
            '"quoted"',
            "back\\slash\\",
            "\x00\x1f\x7f\n\t",
            "🔥🚀 ümläut",
            "x" * 10_000,
            '{"ph": "X"}',
            '}, {"ph"',
            "",
            "null",
        ]
    ),
)
SPANS = st.lists(
    st.tuples(NASTY, st.sampled_from(["cpu_op", "user_annotation", "python_function", "cuda_runtime", "made up"]),
              st.integers(0, 10**7), st.integers(0, 10**6), st.integers(1, 3)),
    min_size=1, max_size=30,
)  # fmt: skip


@given(SPANS, st.lists(NASTY, max_size=3))
@settings(max_examples=60, deadline=None)
def test_any_names_and_times_survive_the_way_out_and_back(
    tmp_path_factory: pytest.TempPathFactory, spans: list[tuple[str, str, int, int, int]], notes: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    events = [
        traces.span(name, category, start / 1_000, duration / 1_000, tid, {"Input Dims": [[1, 2], []], "stack": name})
        for name, category, start, duration, tid in spans
    ]
    events += [traces.step(7, 0.0, 5_000.5), traces.kernel("a kernel", 3, 10.001, 20.002), traces.launch(3, 1, 2)]
    trace = traces.traced(folder, events)
    back = load(exported(a_run(trace), folder)).traces[0]
    assert_same(trace, back)


def test_a_sub_microsecond_time_far_from_the_epoch_is_exact(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [traces.op("a", 0.001, 0.999), traces.op("b", 7_889_237_000_000.123, 0.001)])
    back = load(exported(a_run(trace), tmp_path)).traces[0]
    assert back.spans["start_ns"].to_list() == trace.spans["start_ns"].to_list()
    assert back.spans["duration_ns"].to_list() == [999, 1]


def test_a_run_without_framework_recording_keeps_its_steps_and_waits(tmp_path: Path) -> None:
    """Spans from sources with words of their own come back as steps and waits."""
    trace = traces.traced(tmp_path, [traces.step(4, 0, 100), traces.wait(0, 40)])
    names = {"ProfilerStep#4": "step 4"}
    renamed = trace.spans["name"].cast(pl.String).replace(names).replace({traces.wait(0, 1)["name"]: "wait for X"})
    spans = trace.spans.with_columns(renamed.cast(pl.Categorical), category=pl.lit(None, pl.Categorical))
    capture = Trace(trace.info, spans, trace.tracks, trace.links, trace.memory)
    back = load(exported(a_run(capture), tmp_path)).traces[0]
    assert back.spans.select(pl.col("name", "kind").cast(pl.String), "step", "duration_ns").rows() == [
        ("profkit.loader#wait for X", "data_wait", 4, 40_000),
        ("ProfilerStep#4", "step", 4, 100_000),
    ]


def test_counters_inside_the_window_become_tracks_of_values(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [traces.op("a", 0, 1_000)])
    start = trace.info.start_ns
    rows = {"time_ns": [start - 1, start + 500, start + 600, start + 2_000_000], "value": [1.0, 2.5, np.nan, 4.0]}
    samples = pl.DataFrame(rows).with_columns(name=pl.lit('cpu"percent'))
    counters = pl.concat([empty(COUNTERS), samples.cast({"name": pl.Categorical})], how="diagonal")
    found = [e for e in events_of(exported(a_run(trace, counters), tmp_path)) if e["ph"] == "C"]
    assert [(e["name"], e["args"], e["pid"]) for e in found] == [('cpu"percent', {"value": 2.5}, 100)]


def test_arrows_lead_from_calls_to_kernels_and_from_forward_to_backward(tmp_path: Path) -> None:
    flow = {"cat": "fwdbwd", "name": "fwdbwd", "id": 5, "pid": 100}
    events = [
        traces.op("aten::mm", 0, 10), traces.launch(9, 2, 1), traces.kernel("k", 9, 20, 5),
        traces.op("MmBackward0", 30, 5, traces.AUTOGRAD),
        {"ph": "s", **flow, "tid": traces.MAIN, "ts": 0}, {"ph": "f", **flow, "tid": traces.AUTOGRAD, "ts": 30},
    ]  # fmt: skip
    found = events_of(exported(a_run(traces.traced(tmp_path, events)), tmp_path))
    base = min(e["ts"] for e in found if e["ph"] == "X")
    arrows = [(e["cat"], e["ph"], e["id"], e["pid"], e["tid"], round(e["ts"] - base)) for e in found if e["ph"] in "sf"]
    assert arrows == [
        ("ac2g", "s", 9, 100, 100, 2), ("ac2g", "f", 9, 0, 7, 20),
        ("fwdbwd", "s", 1, 100, 100, 0), ("fwdbwd", "f", 1, 100, 101, 30),
    ]  # fmt: skip


def test_the_header_holds_the_rank_as_peers_look_for_it(tmp_path: Path) -> None:
    trace = traces.traced(
        tmp_path, [traces.op("a", 0, 1)], distributedInfo={"backend": "nccl", "rank": 3, "world_size": 8}
    )
    text = gzip.decompress(exported(a_run(trace), tmp_path).read_bytes()).decode()
    assert text.index('"rank": 3') < text.index('"traceEvents"')
    back = load(tmp_path / "made-window0-rank3.trace.json.gz").traces[0].info
    assert (back.rank, back.world_size, back.backend) == (3, 8, "nccl")


# HolisticTraceAnalysis: the same answers from our file as from the original.


def hta_answers(folder: Path) -> dict[str, Any]:
    from hta.trace_analysis import TraceAnalysis

    analysis: Any = TraceAnalysis(trace_dir=str(folder))
    questions = {
        "temporal breakdown": lambda: analysis.get_temporal_breakdown(visualize=False),
        "kernel breakdown": lambda: analysis.get_gpu_kernel_breakdown(visualize=False),
        "idle time": lambda: analysis.get_idle_time_breakdown(visualize=False)[0],
        "overlap": lambda: analysis.get_comm_comp_overlap(visualize=False),
        "launches": lambda: analysis.get_cuda_kernel_launch_stats(visualize=False),
        "memory bandwidth": analysis.get_memory_bw_summary,
        "annotations": lambda: analysis.get_gpu_user_annotation_breakdown(visualize=False),
        "queue length": analysis.get_queue_length_summary,
    }
    answers = {}
    for name, ask in questions.items():
        with contextlib.suppress(ValueError, TypeError, IndexError, KeyError):  # what it raises on the original
            answers[name] = ask()
    return answers


@pytest.mark.filterwarnings("ignore::Warning")  # HTA's own: it is written for older pandas
@needs_corpus
@pytest.mark.parametrize(
    ("path", "answered"),
    [(corpus.OWLV2, 8), (corpus.RESNET_0, 5), (corpus.TRACE_DIFF, 3), (SAMPLED, 5), (DLRM, 7), (MI300, 6)],
    ids=lambda value: str(value)[-40:],
)
def test_holistic_trace_analysis_answers_as_from_the_original(path: str, answered: int, tmp_path: Path) -> None:
    pytest.importorskip("hta", reason="HolisticTraceAnalysis is not installed: pip install 'profkit[peers]'")
    folders = [tmp_path / name for name in ("original", "export")]
    for folder in folders:
        folder.mkdir()
    shutil.copy(CORPUS / path, folders[0])
    run = load(CORPUS / path)
    exported(run, folders[1])
    # The clock of whole microseconds lets 14 spans of this file overlap by its last count: reading clips one from each.
    slack_us = run.traces[0].info.repaired["clipped spans"] if path == corpus.TRACE_DIFF else 0
    assert slack_us <= 14
    original, ours = (hta_answers(folder) for folder in folders)
    assert original.keys() <= ours.keys()
    assert sum(answer is not None for answer in original.values()) >= answered
    for name, expected in original.items():
        assert_equal_tables(name, expected, ours[name], slack_us)


@pytest.mark.filterwarnings("ignore::Warning")  # HTA's own: it is written for older pandas
@needs_corpus
def test_holistic_trace_analysis_answers_about_jax_on_a_gpu(tmp_path: Path) -> None:
    pytest.importorskip("hta", reason="HolisticTraceAnalysis is not installed: pip install 'profkit[peers]'")
    run = load(CORPUS / JAX_GPU)
    exported(run, tmp_path)
    answers = hta_answers(tmp_path)
    kernels = [operator for operator in report(run).kernels if operator.kind == "kernel"]
    _, by_name = answers["kernel breakdown"]
    assert set(by_name["name"]) <= {kernel.name for kernel in kernels} | {"__amd_rocclr_copyBuffer.kd"}
    assert answers["temporal breakdown"]["compute_time(us)"].sum() > 0


def assert_equal_tables(name: str, expected: Any, found: Any, slack_us: int) -> None:
    if isinstance(expected, tuple):
        for ours, theirs in zip(found, expected, strict=True):
            assert_equal_tables(name, theirs, ours, slack_us)
    elif isinstance(expected, dict):
        assert expected.keys() == found.keys()
        for key in expected:
            assert_equal_tables(name, expected[key], found[key], slack_us)
    elif expected is None:
        assert found is None
    else:
        # Its queue length depends on the file's order where a call and a kernel begin in the same microsecond.
        relative = 5e-3 if name == "queue length" else 1e-9
        ours, theirs = plain(found), plain(expected)
        assert list(ours.columns) == list(theirs.columns)
        assert len(ours) == len(theirs)
        for column in theirs.columns:
            if theirs[column].dtype.kind in "if":
                np.testing.assert_allclose(
                    ours[column].to_numpy(),
                    theirs[column].to_numpy(),
                    rtol=relative,
                    atol=0.0 if "pctg" in str(column) or column == "percentage" else slack_us,
                    err_msg=f"{name} {column}",
                )
            else:
                assert [str(v) for v in ours[column]] == [str(v) for v in theirs[column]], f"{name} {column}"


def plain(table: Any) -> Any:
    """A data frame without a mere row number, its rows in an order of their own."""
    flat = table.reset_index(drop=table.index.names == [None])
    return flat.sort_values(list(flat.columns), ignore_index=True)
