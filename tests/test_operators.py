"""Calls, total and self times equal torch's own table, nanosecond by nanosecond; recursion is counted once."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from profkit.analysis.operators import Operators, kernels, operators
from profkit.analysis.report import Operator
from profkit.trace.batch import ReadContext
from profkit.trace.load import read_native
from profkit.trace.model import Trace
from tests.traces import kernel, launch, op, traced


def by_name(trace: Trace) -> dict[str, Operator]:
    return {operator.name: operator for operator in operators(trace).by_name}


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> tuple[profile, Trace]:
    """A live window of a small training, with torch's profiler still at hand to ask."""
    model = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5))
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(model(torch.rand(8, 1, 8, 8)), torch.randint(5, (8,)))
        loss.backward()
        optimizer.step()

    step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as profiler:
        for _ in range(4):
            step()
    path = tmp_path_factory.mktemp("window") / "window.pt.trace.json"
    profiler.export_chrome_trace(str(path))
    return profiler, read_native(path, "kineto", ReadContext())


def nesting_names(profiler: profile) -> set[str]:
    """Operators called from inside an operator of the same name; torch counts their time twice."""
    events = profiler.events() or []
    found = set()
    for event in events:
        parent = event.cpu_parent
        while parent is not None:
            if parent.name == event.name:
                found.add(event.name)
            parent = parent.cpu_parent
    return found


def test_calls_total_and_self_time_equal_key_averages(window: tuple[profile, Trace]) -> None:
    profiler, trace = window
    ours = by_name(trace)
    recursive = nesting_names(profiler)
    compared = 0
    for theirs in profiler.key_averages():
        if theirs.key in recursive:
            continue
        operator = ours[theirs.key]
        assert operator.calls == theirs.count
        # torch gives microseconds as a float with nanoseconds behind the point.
        assert operator.total_ns == round(theirs.cpu_time_total * 1_000)
        assert operator.self_ns == round(theirs.self_cpu_time_total * 1_000)
        compared += 1
    assert compared > 30


def test_every_operator_torch_lists_is_there(window: tuple[profile, Trace]) -> None:
    profiler, trace = window
    assert {theirs.key for theirs in profiler.key_averages()} == set(by_name(trace))


def test_calls_by_shape_equal_key_averages_by_shape(window: tuple[profile, Trace]) -> None:
    profiler, trace = window
    by_shape = operators(trace).by_shape
    ours = Counter({(o.name, o.shapes): o.calls for o in by_shape if o.shapes})
    theirs = Counter({(k.key, str(k.input_shapes)): k.count for k in profiler.key_averages(group_by_input_shape=True)})
    shared = {key for key in ours if key in theirs}
    assert len(shared) > 20
    assert all(ours[key] == theirs[key] for key in shared)


def test_recursion_is_counted_once_where_torch_counts_it_twice(tmp_path: Path) -> None:
    def outer(depth: int) -> None:
        with torch.profiler.record_function("again"):
            if depth:
                outer(depth - 1)
            torch.ones(200).sum()

    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        outer(1)
    path = tmp_path / "again.json"
    profiler.export_chrome_trace(str(path))
    ours = by_name(read_native(path, "kineto", ReadContext()))["again"]
    theirs = next(k for k in profiler.key_averages() if k.key == "again")
    whole = max(e.cpu_time_total for e in profiler.events() or [] if e.name == "again")
    assert ours.calls == theirs.count == 2
    assert ours.total_ns == round(whole * 1_000)
    assert theirs.cpu_time_total > whole


def test_device_time_is_that_of_the_kernels_launched_from_inside(tmp_path: Path) -> None:
    events = [
        op("aten::linear", 0, 100),
        op("aten::addmm", 10, 50),
        launch(1, 20, 5),
        launch(2, 70, 5),
        op("aten::relu", 200, 50),
        launch(3, 210, 5),
        kernel("gemm", 1, 300, 40),
        kernel("bias", 2, 340, 7),
        kernel("relu", 3, 400, 9),
        kernel("orphan", 99, 500, 1),
    ]
    trace = traced(tmp_path, events)
    assert {name: o.device_ns for name, o in by_name(trace).items()} == {
        "aten::linear": 47_000,
        "aten::addmm": 40_000,
        "aten::relu": 9_000,
    }
    assert [(o.name, o.total_ns) for o in kernels(trace)] == [
        ("gemm", 40_000),
        ("relu", 9_000),
        ("bias", 7_000),
        ("orphan", 1_000),
    ]


def test_a_name_on_two_threads_counts_on_both(tmp_path: Path) -> None:
    trace = traced(tmp_path, [op("aten::add", 0, 100), op("aten::add", 50, 100, tid=101), op("aten::add", 10, 20)])
    assert (by_name(trace)["aten::add"].calls, by_name(trace)["aten::add"].total_ns) == (3, 200_000)


def test_a_trace_without_operators_has_an_empty_table(tmp_path: Path) -> None:
    assert operators(traced(tmp_path, [kernel("alone", 1, 0, 5)])) == Operators([], [], [])
