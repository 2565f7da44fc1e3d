"""Planted causes are ranked first, and loaders that are well yield nothing: live, with figures no threshold was
chosen by.

`python -m tests.loader_scenarios <folder> chosen` runs the set that thresholds were chosen with.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.loader_scenarios import SCENARIOS
from tests.programs import printed

TRIES = 3  # a machine that does something else meanwhile is a cause too, and not the planted one
AT_LEAST = 0.9


def is_right(outcome: dict[str, Any]) -> bool:
    """The planted cause comes first, or nothing was planted and nothing found."""
    found: list[str] = outcome["found"]
    return found[:1] == [outcome["planted"]] if outcome["fault"] else not found


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, bool], list[dict[str, Any]]]:
    """What was found in each training of the judged set; one whose answer was wrong is made again."""
    folder = tmp_path_factory.mktemp("judged")
    tried: dict[tuple[str, bool], list[dict[str, Any]]] = {}
    names = list(SCENARIOS)
    for _ in range(TRIES):
        for line in _lines(folder, names):
            tried.setdefault((line["scenario"], line["fault"]), []).append(line)
        names = [name for name in names if not all(is_right(tried[name, fault][-1]) for fault in (True, False))]
        if not names:
            break
    for (name, fault), lines in tried.items():
        print(name, "planted" if fault else "healthy", [line["found"] for line in lines], lines[-1]["headline"])
    return tried


def _lines(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    """A few at a time, for programs of tests have four minutes."""
    groups = [names[begin : begin + 5] for begin in range(0, len(names), 5)]
    return [json.loads(line) for group in groups for line in printed("loader_scenarios", folder, "judged", *group)]


def test_nine_of_ten_planted_causes_are_ranked_first(
    outcomes: dict[tuple[str, bool], list[dict[str, Any]]],
) -> None:
    planted = [lines for (_, fault), lines in outcomes.items() if fault]
    assert len(planted) >= 14
    wrong = [lines[-1] for lines in planted if not is_right(lines[-1])]
    assert len(wrong) <= (1 - AT_LEAST) * len(planted), wrong


def test_loaders_that_are_well_yield_no_finding(outcomes: dict[tuple[str, bool], list[dict[str, Any]]]) -> None:
    healthy = [lines for (_, fault), lines in outcomes.items() if not fault]
    assert len(healthy) >= 14
    assert [lines[-1] for lines in healthy if not is_right(lines[-1])] == []
