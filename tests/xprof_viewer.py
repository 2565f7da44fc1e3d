"""XProf's own answers about a file, from its converters: no server, no browser, no network."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # or every question prints a page; read when xprof is imported

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Overview:
    """What XProf's first page says. Times are milliseconds; with more than five steps it leaves out first and last."""

    steps: list[Row]
    means: dict[str, Any]
    verdict: str

    def mean(self, column: str) -> float:
        """Of one of the columns `deviceComputeTimeMs`, `hostComputeTimeMs`, `infeedTimeMs`, `stepTimeMs`, …"""
        return float(sum(step[column] for step in self.steps)) / len(self.steps)


def ask(tool: str, *files: Path) -> Any:
    """What one of XProf's tools makes of the files of one run. It leaves its caches beside them."""
    convert = pytest.importorskip(
        "xprof.convert.raw_to_tool_data", reason="xprof is not installed: pip install 'profkit[peers]'"
    )
    options = {} if tool.startswith("trace_viewer") else {"tqx": "out:json;"}
    data, _ = convert.xspace_to_tool_data([str(file) for file in files], tool, options)
    return json.loads(data)


def tools(*files: Path) -> list[str]:
    """The tools XProf offers for a run."""
    convert = pytest.importorskip(
        "xprof.convert.raw_to_tool_data", reason="xprof is not installed: pip install 'profkit[peers]'"
    )
    names: list[str] = convert.xspace_to_tool_names([str(file) for file in files])
    return names


def rows(table: dict[str, Any]) -> list[Row]:
    """The rows of a table, by the names of its columns."""
    names = [column["id"] for column in table["cols"]]
    return [{name: cell["v"] for name, cell in zip(names, row["c"], strict=True)} for row in table["rows"]]


def overview(*files: Path) -> Overview:
    """The first page."""
    page = ask("overview_page", *files)
    return Overview(rows(page[1]), page[1]["p"], page[3]["p"]["statement"])


def operators(*files: Path) -> dict[tuple[str, str, str], Row]:
    """The statistics of operators, by where they ran, type and name. Times are microseconds."""
    table = ask("framework_op_stats", *files)[0]
    return {(row["host_or_device"], row["type"], row["operation"]): row for row in rows(table)}


def input_stages(*files: Path) -> list[Row]:
    """The stages of the input pipeline. Times are milliseconds."""
    return rows(ask("input_pipeline_analyzer", *files)[2])


def memory(*files: Path) -> dict[str, Any]:
    """What XProf says of each allocator."""
    found: dict[str, Any] = ask("memory_profile", *files).get("memoryProfilePerAllocator", {})
    return found
