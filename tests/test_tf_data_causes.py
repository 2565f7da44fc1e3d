"""Trainings with a planted tf.data cause name it first, those without yield nothing, and stages take what they take.

Judged on a set no threshold was chosen by; `python -m tests.tf_data_scenarios choosing FOLDER` runs the other one.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.programs import printed

RIGHT = 0.9  # of the planted causes ranked first


@cache
def ran(folder: Path) -> list[dict[str, Any]]:
    """What the program printed of the set that judges."""
    rows = [json.loads(line) for line in printed("tf_data_scenarios", "judging", folder)]
    for row in rows:
        print(f"  {row['scenario']}: planted {row['planted']}, found {row['causes']}")
    return rows


@pytest.fixture
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return ran(tmp_path_factory.getbasetemp() / "tf.data")


def test_the_planted_cause_is_ranked_first(found: list[dict[str, Any]]) -> None:
    planted = [row for row in found if row["planted"]]
    missed = [row for row in planted if row["causes"][:1] != [row["planted"]]]
    assert len({row["planted"] for row in planted}) == 7
    assert len(missed) <= (1 - RIGHT) * len(planted), missed


def test_healthy_trainings_yield_nothing(found: list[dict[str, Any]]) -> None:
    healthy = [row for row in found if not row["planted"]]
    assert len(healthy) >= 9
    assert not [row for row in healthy if row["causes"]]


def test_nothing_inside_profkit_fails(found: list[dict[str, Any]]) -> None:
    assert not [note for row in found for note in row["notes"]]


def test_a_stage_takes_what_its_function_clocks(tmp_path: Path) -> None:
    rows = [json.loads(line) for line in printed("tf_data_scenarios", "clocked", tmp_path)]
    print(*rows, sep="\n")
    assert [row["by"] for row in rows] == ["model", "model", "model", "window"]
    for row in rows:
        assert row["found_ms"] == pytest.approx(row["clocked_ms"], rel=0.10), row
