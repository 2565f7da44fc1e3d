"""Whatever call of profkit's own fails while a DataLoader is followed: the training gets the same batches, in time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.loader_faults import BATCHES, KINDS, LAST
from tests.programs import printed

EVERY = 150  # calls that fail one by one in a forked process; of those behind them every so many
SAMPLE = 13
SPAWNED = 29  # of spawned workers, whose start takes seconds: a prime, for every batch makes the same calls

# Where the calls are counted, the kind of loader, and k: first, step, last.
SWEEPS = [
    ("training", "no workers", 1, 1, LAST),
    *(
        (where, kind, *sweep)
        for where in ("training", "workers")
        for kind in ("1 forked", "2 forked")
        for sweep in ((1, 1, EVERY), (EVERY + 1, SAMPLE, LAST))
    ),
    ("training", "1 forked, pinned", 1, SAMPLE, LAST),
    ("workers", "1 spawned", 1, SPAWNED, LAST),
    ("training", "2 spawned", 7, 4 * SPAWNED, LAST),
]


@pytest.mark.parametrize(("where", "kind", "first", "step", "last"), SWEEPS)
def test_no_failing_call_changes_what_the_training_gets(
    tmp_path: Path, where: str, kind: str, first: int, step: int, last: int
) -> None:
    lines = printed("loader_faults", tmp_path, where, kind, first, step, last)
    seen: list[dict[str, Any]] = [json.loads(line) for line in lines]
    assert [fault for fault in seen if fault["ended"] != "same"] == []
    planted = [fault for fault in seen if fault["failed"]]
    assert len(planted) >= min(3, (last - first) // step)
    assert all(len(fault["failed"]) <= max(1, KINDS[kind].get("num_workers", 0)) for fault in planted)
    lost = [fault for fault in planted if fault["waits"] < BATCHES - (where == "training")]
    assert lost == [], "a failing call costs one wait at most"
