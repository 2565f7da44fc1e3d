"""Windows of two frameworks in one process lie on one timeline."""

from __future__ import annotations

from pathlib import Path
from statistics import median

import polars as pl
import pytest

from profkit.analysis.summary import report
from profkit.trace.load import load
from tests.programs import printed

# Both ranges are opened by one call, the second after the first, and profilers round differently.
LIMIT_NS = 500_000


@pytest.mark.parametrize("modules", [("torch", "tensorflow"), ("tensorflow", "jax"), ("torch", "jax")])
def test_the_same_moment_has_the_same_time_in_both(modules: tuple[str, str], tmp_path: Path) -> None:
    printed("one_clock", *modules, tmp_path)
    run = load(tmp_path)
    [trace] = run.traces
    assert set(trace.info.source.split("+")) == {"kineto" if module == "torch" else "xplane" for module in modules}

    marks = trace.spans.filter(pl.col("name") == "mark").sort("start_ns")
    first, second = (part.sort("start_ns") for part in marks.partition_by("track"))
    assert first.height == second.height == 25
    offsets = (second["start_ns"] - first["start_ns"]).to_list()
    print(f"{modules}: {median(offsets) / 1e3:.1f} µs, {min(offsets) / 1e3:.1f} to {max(offsets) / 1e3:.1f}")
    assert abs(median(offsets)) < LIMIT_NS
    assert all(abs(offset - median(offsets)) < LIMIT_NS for offset in offsets[1:])

    found = report(run)
    assert [step.number for step in found.window_steps] == [2, 3, 4, 5, 6]  # once, though both marked them
    assert found.notes == []
