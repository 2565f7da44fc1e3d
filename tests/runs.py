"""Runs made by hand, for questions about steps."""

from __future__ import annotations

from typing import Any

import polars as pl

from profkit.trace.model import Loader, Run, RunInfo
from profkit.trace.schema import COUNTERS, STEPS, empty

MS = 1_000_000


def steps_table(rows: list[dict[str, Any]]) -> pl.DataFrame:
    """Steps one after the other; each row says what differs from a steady step of 100 ms without any wait."""
    table, begin = [], 0
    for number, row in enumerate(rows):
        duration = row.pop("duration_ns", 100 * MS)
        usual = {"wait_ns": 0, "startup_ns": 0, "excluded_ns": 0, "batches": 1, "source": "optimizer"}
        usual |= {"window": None, "steady": True, "own_ns": 5_000}
        table.append({"number": number, "start_ns": begin, "end_ns": begin + duration, **usual, **row})
        begin += duration
    return pl.DataFrame(table, schema=STEPS)


def run(rows: list[dict[str, Any]], **info: Any) -> Run:
    """A run with these steps and no window."""
    return Run(RunInfo(script="train.py", ended="finished", **info), steps_table(rows), empty(COUNTERS))


def loader(**settings: Any) -> dict[str, Loader]:
    """The one loader of a run."""
    return {"0": Loader("DataLoader", {"cpus": 8, **settings})}
