"""What the report takes from one window, so that its spans need not stay in memory, and the sums over several."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

import msgspec

from profkit.analysis.breakdown import Breakdown, breakdown
from profkit.analysis.columns import Columns
from profkit.analysis.loaders import loaders_of
from profkit.analysis.memory import memory, memory_of_all
from profkit.analysis.modules import module_of
from profkit.analysis.opclasses import operator_classes, with_shares
from profkit.analysis.operators import Operators, kernels, operators
from profkit.analysis.report import Memory, Operator, OperatorClass
from profkit.trace.intervals import Intervals
from profkit.trace.model import Loader, Run, Trace, TraceInfo


@dataclass(frozen=True, slots=True)
class Tables:
    """What is told of operators, device work and memory."""

    operators: Operators
    kernels: list[Operator]
    classes: list[OperatorClass]
    memory: Memory


NO_TABLES = Tables(Operators([], [], []), [], [], Memory())


@dataclass(frozen=True, slots=True)
class Window:
    """One window. `batches`: how many waits for one it holds; `tables` is None where nobody asked."""

    info: TraceInfo
    breakdown: Breakdown
    batches: int
    loaders: dict[str, Loader]
    tables: Tables | None

    @property
    def has_operators(self) -> bool:
        """Whether a framework's profiler recorded it."""
        return self.info.source != "capture"


def windows_of(run: Run) -> list[Window]:
    """All windows, one in memory at a time. Tables are of the first, and of all sections of a file that has several."""
    in_sections = run.folder is None
    return [_window(trace, in_sections or number == 0) for number, trace in enumerate(run.each_trace())]


def _window(trace: Trace, with_tables: bool) -> Window:
    columns = Columns(trace)
    waits = columns.kind("data_wait")
    return Window(
        trace.info,
        breakdown(trace, columns),
        # one within another, as of a graph in the range of Python's request, is the same
        len(Intervals.union(columns.start[waits], columns.end[waits])),
        loaders_of([trace]),
        _tables(trace, columns) if with_tables else None,
    )


def _tables(trace: Trace, columns: Columns) -> Tables:
    modules = module_of(trace, columns)
    return Tables(
        operators(trace, columns, modules),
        kernels(trace, columns),
        operator_classes(trace, columns),
        memory(trace, columns, modules),
    )


def loaders_of_all(windows: Sequence[Window]) -> dict[str, Loader]:
    """The loaders whose waits any window holds."""
    found = {name: loader for window in windows for name, loader in window.loaders.items()}
    return dict(sorted(found.items()))


def tables_of(windows: Sequence[Window]) -> Tables:
    """The tables of all windows that have any, as if they were one."""
    parts = [(window.info.start_ns, window.tables) for window in windows if window.tables]
    if len(parts) < 2:
        return parts[0][1] if parts else NO_TABLES
    tables = [table for _, table in parts]
    return Tables(
        Operators(
            _added(lambda row: row.name, (table.operators.by_name for table in tables)),
            _added(lambda row: (row.name, row.shapes), (table.operators.by_shape for table in tables)),
            _added(lambda row: (row.name, row.module), (table.operators.by_module for table in tables)),
        ),
        _added(lambda row: row.name, (table.kernels for table in tables)),
        with_shares(_added_classes(table.classes for table in tables)),
        memory_of_all([(start_ns - parts[0][0], table.memory) for start_ns, table in parts]),
    )


def _added(key: Callable[[Operator], Hashable], parts: Iterable[list[Operator]]) -> list[Operator]:
    """Rows with equal keys as one, the largest self time first; of several classes that of the largest self time."""
    groups: dict[Hashable, list[Operator]] = {}
    for part in parts:
        for row in part:
            groups.setdefault(key(row), []).append(row)
    return sorted(map(_sum, groups.values()), key=lambda row: -row.self_ns)


def _sum(rows: list[Operator]) -> Operator:
    return msgspec.structs.replace(
        max(rows, key=lambda row: row.self_ns),
        calls=sum(row.calls for row in rows),
        total_ns=sum(row.total_ns for row in rows),
        self_ns=sum(row.self_ns for row in rows),
        device_ns=sum(row.device_ns for row in rows),
    )


def _added_classes(parts: Iterable[list[OperatorClass]]) -> list[tuple[str | None, int, int, int]]:
    """Class, calls, self time and device time, of all windows."""
    sums: dict[str | None, list[int]] = {}
    for part in parts:
        for row in part:
            total = sums.setdefault(row.op_class, [0, 0, 0])
            for place, value in enumerate((row.calls, row.self_ns, row.device_ns)):
                total[place] += value
    ordered = sorted(sums.items(), key=lambda item: (-item[1][2], -item[1][1]))
    return [(name, *total) for name, total in ordered]  # type: ignore[misc]  # three of them
