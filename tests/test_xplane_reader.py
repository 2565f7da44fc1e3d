"""The XPlane reader takes what tf.profiler and jax.profiler record on CPUs, GPUs and TPUs."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from google.protobuf import descriptor_pool  # type: ignore[import-untyped]  # protobuf ships no types
from google.protobuf.internal import api_implementation  # type: ignore[import-untyped]  # as above

from profkit.errors import MissingDependency, UnreadableTrace
from profkit.readers.xplane import XPlaneReader
from profkit.readers.xplane_messages import XSpace
from profkit.trace.assemble import assemble
from profkit.trace.batch import Batch, ReadContext
from profkit.trace.model import Trace
from tests.corpus import CORPUS
from tests.spaces import SESSION_NS, Space

TENSORFLOW = CORPUS.parent / "tensorflow"
GENERATED = "generated_here_tf221"
CORRUPT = "openxla_xprof/corrupt/tpu_inference_2.utf8-mangled.xplane.pb"
TPU = "openxla_xprof/tpu/tpu_inference_2.xplane.pb"
AMD = "AMD-AGI_TraceLens/tests/traces/mi300/jax_conv_minimal_08/tw003.xplane.pb"

needs_corpus = pytest.mark.skipif(
    not TENSORFLOW.is_dir(), reason="the corpus of recorded XPlane files is not beside this repository"
)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "here.xplane.pb"


def batches(file: Path, space: Space | None = None) -> list[Batch]:
    if space is not None:
        file.write_bytes(space.message.SerializeToString())
    return list(XPlaneReader().read(file, ReadContext()))


def traced(file: Path, space: Space | None = None) -> Trace:
    return assemble(batches(file, space), ReadContext(), "xplane", "test")


def rows(file: Path, space: Space | None = None) -> list[dict[str, Any]]:
    """The native spans, as they come."""
    return [row for batch in batches(file, space) for row in batch.spans.to_dicts()]


def categories(file: Path, space: Space) -> dict[str, str]:
    return {row["name"]: row["category"] for row in rows(file, space)}


def refusal(file: Path) -> str:
    with pytest.raises(UnreadableTrace) as caught:
        batches(file)
    return str(caught.value)


def test_a_plane_is_recognised_by_content_under_any_name() -> None:
    space = Space()
    space.event("train", 0, 10)
    head = space.message.SerializeToString()
    assert XPlaneReader().recognises(Path("download"), head)
    assert XPlaneReader().recognises(Path("download"), XSpace(planes=[{"id": 3, "name": "x"}]).SerializeToString())


@pytest.mark.parametrize("head", [b'{"traceEvents": []}', b"[]", b'\n{"traceEvents": []}', b"\n[]", b"", b"\n", b"PK"])
def test_nothing_else_is_recognised_by_content(head: bytes) -> None:
    assert not XPlaneReader().recognises(Path("download"), head)


def test_a_name_decides_unless_the_content_is_json() -> None:
    assert XPlaneReader().recognises(Path("vm.xplane.pb"), b"\xff")
    assert XPlaneReader().recognises(Path("vm.xplane.pb.gz"), b"\xff")
    assert not XPlaneReader().recognises(Path("vm.xplane.pb"), b'{"traceEvents": []}')


def test_times_are_nanoseconds_since_the_session_began(file: Path) -> None:
    space = Space()
    space.line("/host:CPU", "python", timestamp_ns=500)
    space.event("outer", 1_900, 10_200)
    space.event("inner", 2_000, 10_100)  # ends with the outer one
    outer, inner = rows(file, space)
    assert (outer["start_ns"], outer["duration_ns"]) == (501, 11)
    assert (inner["start_ns"], inner["duration_ns"]) == (502, 10)
    assert traced(file).info.start_ns == SESSION_NS + 501


def test_lines_that_count_from_the_epoch_stay_where_they_are(file: Path) -> None:
    space = Space()
    space.line("/host:CPU", "python", timestamp_ns=SESSION_NS + 7)
    space.event("train", 0, 1_000)
    assert traced(file, space).info.start_ns == SESSION_NS + 7


def test_a_step_is_a_root_event_with_a_number(file: Path) -> None:
    space = Space()
    space.event("train", 0, 1_000, step_num=7, _r=1)
    space.event("FunctionRun", 100, 500, _r=1)
    space.event("checkpoint", 2_000, 100, step_num=7)
    found = {"ProfilerStep#7": "user_annotation", "FunctionRun": "framework", "checkpoint": "host"}
    assert categories(file, space) == found
    assert json.loads(rows(file)[0]["args"]) == {"step_num": 7, "_r": 1, "marker": "train"}
    assert traced(file).info.first_step == 7


def test_keras_own_markers_are_steps_where_there_is_no_better_one(file: Path) -> None:
    space = Space()
    space.event("Profiled batch", 0, 1_000, step_num=3)
    assert list(categories(file, space)) == ["ProfilerStep#3"]
    space.event("train", 10, 900, step_num=4, _r=1)
    assert list(categories(file, space)) == ["Profiled batch", "ProfilerStep#4"]


def test_a_device_marks_steps_only_where_the_host_does_not(file: Path) -> None:
    space = Space()
    space.event("5", 0, 1_000, line="Steps", plane="/device:TPU:0")
    space.event("5", 0, 1_000, line="Steps", plane="/device:TPU:1")
    assert [row["name"] for row in rows(file, space)] == ["ProfilerStep#5", "5"]
    space.event("train", 0, 1_000, step_num=9, _r=1)
    assert [row["name"] for row in rows(file, space)] == ["ProfilerStep#9", "5", "5"]


@pytest.mark.parametrize(
    ("name", "category"),
    [
        ("IteratorGetNextOp::DoCompute", "tf_data_wait"),
        ("IteratorGetNextAsOptionalOp::DoCompute", "tf_data_wait"),
        ("Iterator::Root::Prefetch", "tf_data"),
        ("MapAndBatchProduce", "tf_data"),
        ("hipModuleLaunchKernel", "runtime"),
        ("cuLaunchKernel", "runtime"),
        ("customer", "host"),
        ("jit_f:XLA GPU module", "host"),
    ],
)
def test_a_name_of_the_host_has_its_category(name: str, category: str, file: Path) -> None:
    space = Space()
    space.event(name, 0, 10)
    assert categories(file, space) == {name: category}


def test_an_operator_is_named_by_its_type_and_keeps_its_scope(file: Path) -> None:
    space = Space()
    space.event("sequential/conv2d/Relu:_FusedConv2D", 0, 10)
    [row] = rows(file, space)
    assert (row["name"], row["module"], row["category"]) == ("_FusedConv2D", "sequential/conv2d/Relu", "tf_op")


def test_operators_on_the_threads_of_the_input_are_its_work(file: Path) -> None:
    space = Space()
    space.event("PyFunc:PyFunc", 0, 10, line="tf_data_private_threadpool/7")
    assert categories(file, space) == {"PyFunc": "tf_data"}


def test_the_python_tracer_gives_frames(file: Path) -> None:
    space = Space()
    space.event("$train.py:12 step", 0, 10)
    assert categories(file, space) == {"train.py:12 step": "python"}


@pytest.mark.parametrize(
    "name",
    [
        *("ThreadpoolListener::Record", "ExecutorState::ScheduleReady"),
        *("ExecutorPropagateOutputs", "end: fusion.4"),
    ],
)
def test_bookkeeping_is_counted_and_becomes_no_row(name: str, file: Path) -> None:
    space = Space()
    space.event("train", 0, 10)
    space.event(name, 0, 10, id=4)
    assert [row["name"] for row in rows(file, space)] == ["train"]
    counts = traced(file).info.counts
    assert (counts["events"], counts["bookkeeping"], counts["spans"]) == (2, 1, 1)


def test_all_statistics_of_an_input_stage_are_kept(file: Path) -> None:
    space = Space()
    space.event("Iterator::Root::Prefetch", 0, 10, id=2**62, algorithm="DEFAULT", buffered_elements=2)
    space.event("PrefetchProduce", 0, 10, element_id=7, algorithm="secret")
    stage, produced = (json.loads(row["args"]) for row in rows(file, space))
    assert stage == {"id": 2**62, "algorithm": "DEFAULT", "buffered_elements": 2}
    assert produced == {"element_id": 7}


@pytest.mark.parametrize(
    ("name", "frameworks"),
    [
        *(("TFE_Py_Execute", {"tensorflow": ""}), ("FunctionRun", {"tensorflow": ""})),
        *(("Iterator::Root", {"tensorflow": ""}), ("PjitFunction(f)", {})),
    ],
)
def test_a_file_is_tensorflows_where_its_events_say_so(name: str, frameworks: dict[str, str], file: Path) -> None:
    space = Space()
    space.event(name, 0, 10)
    assert traced(file, space).info.frameworks == frameworks


def test_what_is_marked_as_an_input_stage_is_a_wait(file: Path) -> None:
    space = Space()
    space.event("loader", 0, 10, _ipl_stage_id=1 << 40, _ipl_stage_name="loader")
    assert categories(file, space) == {"loader": "tf_data_wait"}


def test_an_operator_of_a_compiled_program_is_known_by_its_statistics(file: Path) -> None:
    space = Space()
    space.event("fusion.4", 0, 10, hlo_op="fusion.4")
    space.event("end: fusion.4", 10, 0, hlo_op="fusion.4")
    assert categories(file, space) == {"fusion.4": "xla_op"}


def test_values_of_the_program_are_not_kept(file: Path) -> None:
    space = Space()
    space.event("annotation", 0, 10, learning_rate="secret", group_id=4)
    [row] = rows(file, space)
    assert json.loads(row["args"]) == {"group_id": 4}


def test_a_launch_finds_its_work_on_the_device(file: Path) -> None:
    space = Space()
    gpu = {"line": "Stream #16(Kernel)", "plane": "/device:GPU:0"}
    space.event("hipModuleLaunchKernel", 0, 10, correlation_id=31)
    space.event("fusion.kd", 20, 10, correlation_id=31, kernel_details="grid:1,1,1", **gpu)
    space.event("MemcpyH2D", 40, 10, memcpy_details="kind:Unknown size:512 dest:0 async:1", **gpu)
    space.event("jit_f", 20, 30, line="XLA Modules", plane="/device:GPU:0")
    found = {row["name"]: row for row in rows(file, space)}
    assert found["hipModuleLaunchKernel"]["correlation"] == found["fusion.kd"]["correlation"] == 31
    assert found["MemcpyH2D"]["bytes"] == 512
    assert json.loads(found["fusion.kd"]["args"]) == {"kernel_details": "grid:1,1,1"}
    assert [found[n]["category"] for n in ("fusion.kd", "MemcpyH2D", "jit_f")] == [
        *("device_kernel", "device_memcpy", "device_module"),
    ]


def test_every_line_of_a_device_says_whose_it_is(file: Path) -> None:
    space = Space()
    space.event("train", 0, 10)
    space.event("jit_f", 20, 30, line="XLA Modules", plane="/device:GPU:1")
    space.event("all-reduce", 20, 30, line="XLA Ops", plane="/device:TPU:3")
    assert [track.device for track in batches(file, space)[-1].tracks] == ["", "gpu:1", "tpu:3"]


def test_a_launch_on_a_tpu_is_joined_by_its_run(file: Path) -> None:
    space = Space()
    space.event("Execute", 0, 10, run_id=31)
    space.event("Launch", 0, 10, run_id=31, correlation_id=7)
    space.event("train", 0, 10)
    assert [row["correlation"] for row in rows(file, space)] == [31, 7, None]


def test_an_operations_own_statistics_count_for_more_than_its_metadatas(file: Path) -> None:
    space = Space()
    tpu = {"line": "XLA Ops", "plane": "/device:TPU:0"}
    space.event("copy", 0, 10, run_id=5, program_id=2, **tpu)
    space.event("copy", 20, 10, **tpu)
    space.event("copy", 40, 10, group_id=6, **tpu)
    plane = space.plane("/device:TPU:0")
    space.add_stat(plane, plane.event_metadata[1].stats, "program_id", 1)
    found = [json.loads(row["args"]) for row in rows(file, space)]
    assert found == [{"run_id": 5, "program_id": 2}, {"program_id": 1}, {"group_id": 6, "program_id": 1}]


def test_a_tpu_works_on_its_line_of_operations(file: Path) -> None:
    space = Space()
    tpu = space.plane("/device:TPU:0")
    space.event("%all-reduce = f32[5] all-reduce(f32[5] %x)", 0, 10, line="XLA Ops", plane=tpu.name)
    metadata = tpu.event_metadata[1]
    metadata.display_name = "all-reduce"
    for name, value in (("hlo_category", "all-reduce"), ("flops", 12), ("bytes_accessed", 40), ("source", "a.py:3")):
        space.add_stat(tpu, metadata.stats, name, value)
    [row] = rows(file, space)
    assert (row["name"], row["category"], row["flops"], row["bytes"]) == ("all-reduce", "device_collective", 12, 40)
    assert row["source"] == "a.py:3"


def test_allocations_and_frees_are_memory_and_no_spans(file: Path) -> None:
    space = Space()
    sizes: dict[str, Any] = {"allocation_bytes": 256, "addr": -1, "allocator_name": "GPU_1_bfc"}
    space.event("MemoryAllocation", 1_000, 0, bytes_allocated=1_256, **sizes)
    space.event("MemoryDeallocation", 2_000, 0, bytes_allocated=1_000, **sizes)
    assert rows(file, space) == []
    memory = pl.concat([batch.memory for batch in batches(file) if batch.memory.width])
    assert memory["bytes"].to_list() == [256, -256]
    assert memory["allocated_bytes"].to_list() == [1_256, 1_000]
    assert memory["time_ns"].to_list() == [1, 2]
    assert memory["address"].to_list() == [2**64 - 1] * 2
    assert memory["device"].to_list() == ["gpu:1"] * 2


def test_the_allocators_name_and_peak_are_facts_of_the_whole(file: Path) -> None:
    space = Space()
    for size in (256, 512):
        space.event("MemoryAllocation", size, 0, allocator_name="mklcpu", peak_bytes_in_use=size, allocation_bytes=256)
    native = traced(file, space).info.native
    assert (native["cpu allocator"], native["cpu peak_bytes_in_use"]) == ("mklcpu", 512)


def test_a_tpus_memory_is_known_by_its_index(file: Path) -> None:
    space = Space()
    space.event("MemoryAllocation", 0, 0, index_on_host=3, allocation_bytes=256)
    assert traced(file, space).memory["device"].to_list() == ["tpu:3"]


def test_an_event_that_sums_up_others_is_dropped_and_counted(file: Path) -> None:
    space = Space()
    space.event("train", 0, 10)
    space.event("often", 0, 10).num_occurrences = 5
    assert traced(file, space).info.dropped == {"sums of events without times": 1}
    assert [row["name"] for row in rows(file)] == ["train"]


def test_an_event_without_a_name_is_still_a_span(file: Path) -> None:
    space = Space()
    space.line("/host:CPU", "python").events.add(metadata_id=99, offset_ps=0, duration_ps=5_000)
    assert [(row["name"], row["duration_ns"]) for row in rows(file, space)] == [("", 5)]


def test_the_header_says_where_what_and_how_much_was_recorded(file: Path) -> None:
    space = Space()
    space.event("train", 0, 10)
    gpu = space.plane("/device:GPU:2")
    for name, value in (("core_count", 304), ("home_folder", "secret")):
        space.add_stat(gpu, gpu.stats, name, value)
    metadata = space.plane("/host:metadata")
    space.add_stat(metadata, metadata.stats, "jax_version", "0.10.2")
    info = traced(file, space).info
    assert (info.host, info.frameworks) == ("here", {"jax": "0.10.2"})
    assert info.devices == [{"id": 2, "name": "/device:GPU:2", "core_count": 304}]
    assert info.native == {"host_tracer_level": 2, "device_tracer_level": 0, "python_tracer_level": 0}


def test_options_that_cannot_be_decoded_are_left_out(file: Path) -> None:
    space = Space()
    space.event("train", 0, 10)
    space.plane("Task Environment").stats[1].bytes_value = b"\x0a\xff"
    assert traced(file, space).info.native == {}


def test_gzip_gives_the_same(file: Path) -> None:
    space = Space()
    space.event("train", 0, 10)
    plain = rows(file, space)
    packed = file.with_name("here.xplane.pb.gz")
    packed.write_bytes(gzip.compress(file.read_bytes()))
    assert rows(packed) == plain


@pytest.mark.parametrize("content", [b"", b"\x7a\x03abc", XSpace(planes=[{"name": "/host:CPU"}]).SerializeToString()])
def test_a_file_without_events_is_refused_with_a_sentence(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    assert refusal(file) == f"{file} is no trace: an XSpace without events"


def test_a_damaged_file_is_refused_with_a_sentence(file: Path) -> None:
    space = Space()
    space.event("train", 0, 10)
    file.write_bytes(space.message.SerializeToString()[:-3])
    assert refusal(file) == f"{file} is damaged or no XPlane file: its protobuf cannot be decoded"


def test_damage_within_an_event_is_refused_with_the_same_sentence(file: Path) -> None:
    space = Space()
    space.event("train", 0, 10)
    whole = space.event("a second", 0, 10).SerializeToString()
    damaged = space.message.SerializeToString().replace(whole, b"\x08\x02" + b"\xff" * (len(whole) - 2))
    file.write_bytes(damaged)
    assert refusal(file) == f"{file} is damaged or no XPlane file: its protobuf cannot be decoded"


def test_a_missing_file_is_refused_with_a_sentence(file: Path) -> None:
    assert refusal(file) == f"cannot read {file}: No such file or directory"


def test_protobuf_in_pure_python_is_refused_with_the_remedy(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(api_implementation, "Type", lambda: "python")
    with pytest.raises(MissingDependency, match="pip install --force-reinstall protobuf"):
        batches(file)


def test_the_messages_are_not_in_the_pool_that_tensorflow_uses() -> None:
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindFileByName("profkit/xplane.proto")


def listed() -> list[tuple[str, dict[str, tuple[int, int]]]]:
    """Lines and events of each plane that the manifest counts, by file."""
    manifest = CORPUS.parent / "MANIFEST.md"
    found = (
        re.findall(r"^\| `(\S+\.xplane\.pb)` \| \d+ \| (.*?) \|$", manifest.read_text(), re.M)
        if manifest.exists()
        else []
    )
    return [
        (path, {p: (int(lines), int(events)) for p, lines, events in re.findall(r"(/\S+): (\d+) lines/(\d+) ev", text)})
        for path, text in found
        if "NOT PARSEABLE" not in text
    ]


@needs_corpus
@pytest.mark.parametrize(("path", "planes"), listed(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_line_and_event_of_a_recorded_file_is_read(path: str, planes: dict[str, tuple[int, int]]) -> None:
    read = batches(TENSORFLOW / path)
    tracks = read[-1].tracks
    lines = Counter(track.process for track in tracks)
    events = Counter[str]()
    for batch in read[:-1]:
        assert batch.counts["events"] == batch.spans.height + batch.memory.height + batch.counts["bookkeeping"]
        events[tracks[batch.spans["track"][0]].process] += batch.counts["events"]
    assert planes
    assert {plane: (lines[plane], events[plane]) for plane in planes} == planes


@needs_corpus
@pytest.mark.parametrize(("path", "planes"), listed(), ids=lambda value: value if isinstance(value, str) else "")
def test_a_recorded_file_is_recognised_and_becomes_a_trace(path: str, planes: dict[str, tuple[int, int]]) -> None:
    file = TENSORFLOW / path
    assert XPlaneReader().recognises(Path("download"), file.read_bytes()[:4096])
    trace = traced(file)
    counts = trace.info.counts
    assert trace.spans.height + trace.memory.height + counts["bookkeeping"] == counts["events"]
    assert trace.info.start_ns > 1_700_000_000_000_000_000


@needs_corpus
@pytest.mark.parametrize(
    ("name", "steps"),
    [
        *(("custom_loop_step_markers", 20), ("custom_loop_no_markers", 0), ("keras_fit_fixed_markers", 64)),
        *(("keras_fit_steps_per_execution4", 16), ("jax0.10.2_cpu", 8)),
    ],
)
def test_a_recorded_file_has_the_steps_it_was_made_with(name: str, steps: int) -> None:
    assert traced(TENSORFLOW / GENERATED / name / "vm.xplane.pb").info.counts["steps"] == steps


def exposed_ms(wait: dict[str, Any], work: list[dict[str, Any]]) -> float:
    """The part of a wait beside which none of `work`, whose spans do not overlap, goes on."""
    begin, end = wait["start_ns"], wait["start_ns"] + wait["duration_ns"]
    beside = (min(end, w["start_ns"] + w["duration_ns"]) - max(begin, w["start_ns"]) for w in work)
    return float(end - begin - sum(ns for ns in beside if ns > 0)) / 1e6


@needs_corpus
@pytest.mark.parametrize(("name", "stall_ms"), [("D0", 0), ("D20", 10), ("D5_prefetch1", 0)])
def test_exposed_waits_are_what_the_input_was_made_to_stall(name: str, stall_ms: int) -> None:
    found = rows(TENSORFLOW / GENERATED / f"stall_exact_{name}" / "vm.xplane.pb")
    training = [row for row in found if row["name"] == "EagerPyFunc"]  # the training's own 10 ms
    waits = sorted(exposed_ms(row, training) for row in found if row["category"] == "tf_data_wait")
    assert len(waits) == 12
    assert stall_ms - 2 < waits[len(waits) // 2] < stall_ms + 2  # the recording machine was busy with other work


@needs_corpus
def test_device_work_of_a_recorded_file_has_a_launch() -> None:
    found = [row for row in rows(TENSORFLOW / AMD) if row["correlation"] is not None]
    launches = {row["correlation"] for row in found if row["category"] == "runtime"}
    work = {row["correlation"] for row in found if row["category"] in ("device_kernel", "device_memcpy")}
    assert work
    assert work <= launches


@needs_corpus
def test_a_tpu_file_tells_operations_from_copies_and_collectives() -> None:
    found = Counter(row["category"] for row in rows(TENSORFLOW / TPU))
    assert (found["device_kernel"], found["device_memcpy"], found["device_collective"]) == (1_201, 4_800, 12)


@needs_corpus
def test_the_corrupt_recorded_file_is_refused_with_a_sentence() -> None:
    message = refusal(TENSORFLOW / CORRUPT)
    assert message.endswith("is damaged or no XPlane file: its protobuf cannot be decoded")
