"""Which module of the model an operator and an allocation belong to."""

from __future__ import annotations

from pathlib import Path

from profkit.analysis.columns import Columns
from profkit.analysis.memory import memory
from profkit.analysis.modules import module_of
from profkit.analysis.operators import operators
from profkit.trace.model import Trace
from tests import traces
from tests.traces import Event


def module(name: str, start_us: float, duration_us: float) -> Event:
    return traces.span(f"nn.Module: {name}", "python_function", start_us, duration_us)


def modules(trace: Trace) -> dict[str, str | None]:
    found = module_of(trace, Columns(trace)).cast(str).to_list()
    return dict(zip(trace.spans["name"].to_list(), found, strict=True))


MODEL = [
    module("Net_0", 0, 100), traces.op("aten::add", 1, 5), module("Linear_0", 10, 30),
    traces.op("aten::linear", 12, 20), traces.op("aten::addmm", 14, 10), traces.op("aten::outside", 200, 5),
]  # fmt: skip


def test_an_operator_belongs_to_the_innermost_module_around_it(tmp_path: Path) -> None:
    found = modules(traces.traced(tmp_path, MODEL))
    assert found["aten::addmm"] == found["aten::linear"] == "Linear_0"
    assert found["aten::add"] == "Net_0"
    assert found["aten::outside"] is None


def test_a_backward_operator_has_the_module_of_its_forward(tmp_path: Path) -> None:
    backward = traces.op("AddmmBackward0", 300, 20, traces.AUTOGRAD)
    flows = [
        {"ph": "s", "id": 1, "pid": 100, "tid": traces.MAIN, "ts": 12, "cat": "fwdbwd", "name": "fwdbwd"},
        {
            "ph": "f",
            "id": 1,
            "pid": 100,
            "tid": traces.AUTOGRAD,
            "ts": 300,
            "cat": "fwdbwd",
            "name": "fwdbwd",
            "bp": "e",
        },
    ]
    inner = traces.op("aten::mm", 305, 5, traces.AUTOGRAD)
    found = modules(traces.traced(tmp_path, [*MODEL, backward, inner, *flows]))
    assert found["AddmmBackward0"] == found["aten::mm"] == "Linear_0"


def test_operators_are_told_apart_by_module_where_there_are_modules(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [*MODEL, traces.op("aten::add", 20, 4)])
    rows = {(row.name, row.module): row.calls for row in operators(trace).by_module}
    assert rows["aten::add", "Net_0"] == 1
    assert rows["aten::add", "Linear_0"] == 1
    assert operators(traces.traced(tmp_path, [traces.op("aten::add", 1, 5)])).by_module == []


def test_what_lives_at_the_peak_names_its_module(tmp_path: Path) -> None:
    [device] = memory(traces.traced(tmp_path, [*MODEL, traces.allocation(15, 64, 1, 64)])).devices
    assert [(a.operator, a.module, a.bytes) for a in device.alive_at_peak] == [("aten::addmm", "Linear_0", 64)]


def test_growth_from_step_to_step_is_seen(tmp_path: Path) -> None:
    events = [event for n in (1, 2) for event in (
        traces.step(n, 100 * n, 100), traces.allocation(100 * n + 10, 50, n, 50 * n),
        traces.allocation(100 * n + 20, 30, 9, 50 * n + 30), traces.allocation(100 * n + 30, -30, 9, 50 * n),
    )]  # fmt: skip
    [device] = memory(traces.traced(tmp_path, events)).devices
    assert [(s.number, s.peak_bytes, s.end_bytes) for s in device.steps] == [(1, 80, 50), (2, 130, 100)]
