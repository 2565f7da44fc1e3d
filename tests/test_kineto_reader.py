"""The Kineto reader takes every form the format has had, and damaged files as far as they go."""

from __future__ import annotations

import gzip
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profkit.analysis.summary import report
from profkit.errors import UnreadableTrace
from profkit.readers import jsonpieces
from profkit.readers.kineto import nanoseconds
from profkit.trace.load import load
from profkit.trace.model import Trace
from tests.traces import MAIN, allocation, document, kernel, launch, op, span, step, traced, wait, written

EVENTS = [
    step(3, 0, 100),
    wait(1, 20),
    op("aten::linear", 30, 40, args={"Input Dims": [[2, 3], [3]], "Input type": ["float", "float"]}),
    op("aten::addmm", 35, 20, args={"Concrete Inputs": ["secret"]}),
    launch(9, 40, 5),
    kernel("gemm", 9, 60, 30),
    allocation(36, 512, 4096, 512),
]


def loaded(path: Path) -> Trace:
    return load(path).traces[0]


def names(trace: Trace) -> set[str]:
    return set(trace.spans["name"].to_list())


def test_columns_of_a_trace_are_what_the_file_says(tmp_path: Path) -> None:
    trace = traced(tmp_path, EVENTS)
    rows = {row["name"]: row for row in trace.spans.iter_rows(named=True)}
    zero = 1_700_000_000_000_000_000
    assert rows["aten::linear"]["start_ns"] == zero + 30_000
    assert rows["aten::linear"]["duration_ns"] == 40_000
    assert rows["aten::linear"]["shapes"] == "[[2, 3], [3]]"
    assert rows["aten::linear"]["op_class"] == "matmul"
    assert rows["aten::addmm"]["parent"] == rows["aten::linear"]["id"]
    assert rows["aten::linear"]["self_ns"] == 20_000
    assert {name: row["kind"] for name, row in rows.items()} == {
        "ProfilerStep#3": "step",
        "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__": "data_wait",
        "aten::linear": "op",
        "aten::addmm": "op",
        "cudaLaunchKernel": "runtime",
        "gemm": "kernel",
    }
    assert {row["step"] for row in rows.values()} == {3}
    assert trace.links.rows() == [(rows["cudaLaunchKernel"]["id"], rows["gemm"]["id"], "launch")]
    assert trace.memory["span"].to_list() == [rows["aten::addmm"]["id"]]
    assert trace.info.training_thread == rows["aten::linear"]["track"]
    assert trace.info.device_recorded


def test_argument_values_never_enter_a_trace(tmp_path: Path) -> None:
    trace = traced(tmp_path, EVENTS, environment={"TOKEN": "secret"}, metadata={"env": "secret"})
    frames = (trace.spans, trace.tracks, trace.links, trace.memory)
    everything = "".join(frame.cast(pl.String).write_json() for frame in frames) + str(trace.info)
    assert "secret" not in everything


def test_the_words_of_a_trace_that_profkit_wrote_for_another_source_come_back(tmp_path: Path) -> None:
    wait_args = {"profkit category": "tf_data_wait", "profkit name": "IteratorGetNextOp::DoCompute"}
    events = [
        span("Conv2D", "cpu_op", 0, 10, args={"profkit category": "tf_op", "Module Hierarchy": "model/conv"}),
        span("profkit.loader#IteratorGetNextOp::DoCompute", "user_annotation", 20, 5, args=wait_args),
        span(
            "Iterator::Map", "user_annotation", 30, 5, args={"profkit category": "tf_data", "profkit args": {"id": 7}}
        ),
        span("main", "python_function", 40, 5, args={"profkit category": "python", "correlation": "odd"}),
    ]
    spans = traced(tmp_path, events).spans.select(pl.col("name", "category", "kind", "module", "args").cast(pl.String))
    assert spans.rows() == [
        ("Conv2D", "tf_op", "op", "model/conv", None),
        ("IteratorGetNextOp::DoCompute", "tf_data_wait", "data_wait", None, None),
        ("Iterator::Map", "tf_data", "data_work", None, '{"id": 7}'),
        ("main", "python_function", "python", None, None),  # odd arguments lose only themselves
    ]


def test_device_work_belongs_to_the_step_that_launched_it(tmp_path: Path) -> None:
    events = [step(0, 0, 50), step(1, 50, 50), launch(1, 45, 2), kernel("late", 1, 60, 30)]
    trace = traced(tmp_path, events)
    assert trace.spans.filter(pl.col("name") == "late")["step"].to_list() == [0]


def test_forward_and_backward_operators_are_linked_and_give_the_phases(tmp_path: Path) -> None:
    flow = {"pid": 100, "cat": "fwdbwd", "name": "fwdbwd", "id": 1}
    events = [
        op("aten::mul", 0, 10),
        op("aten::empty", 2, 2),
        op("autograd::engine::evaluate_function: MulBackward0", 20, 10, tid=101),
        op("MulBackward0", 21, 8, tid=101),
        span("Optimizer.step#SGD.step", "user_annotation", 40, 10),
        op("aten::add_", 42, 2),
        {**flow, "ph": "s", "tid": MAIN, "ts": 0},
        {**flow, "ph": "f", "tid": 101, "ts": 21, "bp": "e"},
    ]
    trace = traced(tmp_path, events)
    phase = dict(zip(trace.spans["name"].to_list(), trace.spans["phase"].to_list(), strict=True))
    assert phase == {
        "aten::mul": "forward",
        "aten::empty": "forward",
        "autograd::engine::evaluate_function: MulBackward0": "backward",
        "MulBackward0": "backward",
        "Optimizer.step#SGD.step": "optimizer",
        "aten::add_": "optimizer",
    }
    assert trace.links["kind"].to_list() == ["backward"]


def test_times_of_today_are_exact_to_the_nanosecond() -> None:
    exact = [4542575796403.910, 7889237999999.999, 0.001, 4503599627370.497]
    assert nanoseconds(exact).tolist() == [4542575796403910, 7889237999999999, 1, 4503599627370497]


def test_gzip_and_plain_files_are_the_same_trace(tmp_path: Path) -> None:
    plain = written(tmp_path, EVENTS)
    packed = tmp_path / "made.json.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert loaded(packed).spans.equals(loaded(plain).spans)


def test_gzip_members_one_after_the_other_are_one_file(tmp_path: Path) -> None:
    text = written(tmp_path, EVENTS).read_bytes()
    packed = tmp_path / "members.json.gz"
    packed.write_bytes(gzip.compress(text[:100]) + gzip.compress(text[100:]))
    assert loaded(packed).spans.height == 6


def test_a_bare_list_of_events_is_a_trace_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "list.json"
    path.write_text(json.dumps(EVENTS))
    assert loaded(path).spans.height == 6
    assert loaded(path).info.start_ns == 0


def test_threads_given_as_numbers_and_as_text_are_one(tmp_path: Path) -> None:
    events = [op("aten::one", 0, 10), {**op("aten::two", 2, 3), "tid": str(MAIN)}]
    trace = traced(tmp_path, events)
    assert trace.spans["track"].n_unique() == 1
    assert trace.spans["depth"].to_list() == [0, 1]


def test_begin_and_end_events_become_spans(tmp_path: Path) -> None:
    begin, end = ({"ph": ph, "name": "outer", "pid": 1, "tid": 1, "ts": ts} for ph, ts in (("B", 0), ("E", 30)))
    inner = [{"ph": ph, "name": "inner", "pid": 1, "tid": 1, "ts": ts} for ph, ts in (("B", 10), ("E", 20))]
    trace = traced(tmp_path, [begin, *inner, end, {"ph": "E", "pid": 1, "tid": 1, "ts": 50}])
    assert sorted(zip(trace.spans["name"].to_list(), trace.spans["duration_ns"].to_list(), strict=True)) == [
        ("inner", 10_000),
        ("outer", 30_000),
    ]
    assert trace.info.dropped == {"begin or end events without a partner": 1}


def test_spans_without_a_usable_duration_are_dropped_and_counted(tmp_path: Path) -> None:
    trace = traced(tmp_path, [op("aten::ok", 0, 5), op("aten::minus", 0, -5), {**op("aten::none", 0, 0), "dur": None}])
    assert names(trace) == {"aten::ok"}
    assert trace.info.dropped == {"spans without a usable time": 2}


GOOD = json.dumps(document(EVENTS))
DAMAGE: dict[str, Callable[[str], bytes]] = {
    "N/A": lambda text: text.replace('"dur": 40', '"x": N/A, "dur": 40').encode(),
    "NaN": lambda text: text.replace('"dur": 40', '"x": NaN, "dur": 40').encode(),
    "-nan": lambda text: text.replace('"dur": 40', '"x": -nan, "dur": 40').encode(),
    "trailing comma": lambda text: text.replace("}]}", "},]}").encode(),
    "comma before a brace": lambda text: text.replace('"dur": 40,', '"dur": 40, "args2": {"a": 1,},').encode(),
    "broken UTF-8": lambda text: text.encode().replace(b"schemaVersion", b"sch\xffema"),
    "stray backslash": lambda text: text.replace("schemaVersion", "C:\\schema").encode(),
    "control character": lambda text: text.replace("schemaVersion", "schema\x01\n").encode(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_invalid_json_of_the_kinds_found_in_the_field_is_repaired_without_loss(damage: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.json"
    path.write_bytes(DAMAGE[damage](GOOD))
    assert path.read_bytes() != GOOD.encode()
    trace = loaded(path)
    assert trace.spans.height == 6
    assert trace.info.notes == ["the file is no valid JSON; its text was repaired"]


def test_a_truncated_file_gives_the_events_it_holds_and_says_so(tmp_path: Path) -> None:
    path = tmp_path / "short.json"
    path.write_text(GOOD[: GOOD.index('"gemm"') + 3])
    trace = loaded(path)
    assert names(trace) >= {"aten::linear", "aten::addmm", "cudaLaunchKernel"}
    assert "gemm" not in names(trace)
    assert trace.info.notes == ["the file is damaged or cut short: 1 event could not be read"]


def test_a_truncated_gzip_file_gives_the_events_it_holds(tmp_path: Path) -> None:
    events = [op(f"aten::op{i}", i * 10, 5) for i in range(20_000)]
    path = tmp_path / "short.json.gz"
    path.write_bytes(gzip.compress(json.dumps(document(events)).encode())[:-3_000])
    found = loaded(path)
    assert 1_000 < found.spans.height < 20_000
    assert found.info.notes


def test_one_bad_event_does_not_lose_the_others(tmp_path: Path) -> None:
    bad = {**op("aten::bad", 0, 1), "name": ["no", "name"]}
    trace = traced(tmp_path, [op("aten::a", 0, 1), bad, op("aten::b", 5, 1)])
    assert names(trace) == {"aten::a", "aten::b"}
    assert trace.info.notes == ["the file is damaged or cut short: 1 event could not be read"]


def test_odd_arguments_lose_only_themselves(tmp_path: Path) -> None:
    odd = [{**op("aten::a", 0, 1), "args": "none"}, {**op("aten::b", 2, 1), "args": {"Call stack": 7}}]
    odd_launch = {**launch(1, 4, 1), "args": {"correlation": "x"}}
    assert names(traced(tmp_path, [*odd, odd_launch])) == {"aten::a", "aten::b", "cudaLaunchKernel"}


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is empty"),
        (b"hello", "no reader knows its format"),
        (b"{}", "it holds no event"),
        (b"[]", "it holds no event"),
        (b"[1, 2, 3]", "it holds no event"),
        (b'{"traceEvents": []}', "it holds no event"),
        (b'{"nodes": [], "schema": 1}', "its keys: nodes, schema"),
        (b'{"a": 1}\n{"a": 2}\n', "it holds no event"),
        (b"{" * 5_000, "it holds no event"),
        (b'[{"ph": "X"' * 3, "it holds no event"),
        (gzip.compress(b"not json"), "no reader knows its format"),
        (b"\x1f\x8b" + b"garbage" * 9, "damaged gzip"),
    ],
)
def test_what_is_no_trace_gets_one_clear_sentence(content: bytes, why: str, tmp_path: Path) -> None:
    path = tmp_path / "file.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableTrace, match=why):
        load(path)


def test_a_path_that_is_not_there_gets_one_clear_sentence(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTrace, match="does not exist"):
        load(tmp_path / "nothing")


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_no_mutation_of_a_file_ends_in_anything_but_a_trace_or_a_sentence(data: st.DataObject) -> None:
    text = bytearray(GOOD.encode())
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 12))] = data.draw(st.binary(max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mutated.json"
        path.write_bytes(bytes(text))
        try:
            report(load(path))
        except UnreadableTrace as refused:
            assert "\n" not in str(refused)


@pytest.mark.parametrize("size", [300, 1_000, 5_000])
def test_a_file_cut_into_pieces_gives_the_same_trace(
    size: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = [op(f"aten::op{i % 7}", i * 10, 5, args={"Input Dims": [[i, 2]]}) for i in range(200)] + EVENTS
    path = written(tmp_path, events, distributedInfo={"rank": 3, "world_size": 8, "backend": "nccl"})
    whole = loaded(path)
    cut = jsonpieces.pieces
    monkeypatch.setattr(jsonpieces, "pieces", lambda p: cut(p, size))
    assert len(list(jsonpieces.pieces(path))) > 3
    pieced = loaded(path)
    assert pieced.spans.equals(whole.spans)
    assert pieced.memory.equals(whole.memory)
    assert (pieced.info.rank, pieced.info.world_size, pieced.info.backend) == (3, 8, "nccl")
