"""The contract of every hook: it records, it gives way, it leaves nothing behind."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from profkit import plugins
from tests.hook_contract import ACTIVE, RECORDING
from tests.programs import printed

each_hook = pytest.mark.parametrize("hook", plugins.names(plugins.HOOKS))
each_recording_hook = pytest.mark.parametrize("hook", RECORDING)


def tried(hook: str, folder: Path) -> dict[str, Any]:
    """What the program saw of this hook."""
    *_, last = printed("hook_contract", hook, folder / hook)
    seen: dict[str, Any] = json.loads(last)
    return seen


@cache
def all_tried(folder: Path) -> dict[str, dict[str, Any]]:
    """What the program saw of every hook; two are tried at a time."""
    hooks = plugins.names(plugins.HOOKS)
    with ThreadPoolExecutor(2) as at_once:
        return dict(zip(hooks, at_once.map(lambda hook: tried(hook, folder), hooks), strict=True))


@pytest.fixture
def seen(hook: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return all_tried(tmp_path_factory.getbasetemp() / "contract")[hook]


@each_hook
def test_a_hook_keeps_to_the_protocol(seen: dict[str, Any]) -> None:
    assert seen["is_hook"]


@each_hook
def test_every_patch_is_undone_whatever_ended_the_run(seen: dict[str, Any]) -> None:
    runs = [seen[name] for name in ("plain", "raising", "too short")]
    assert [run["patched"] for run in runs] == [[], [], []]
    assert [run["leftovers"] for run in runs] == [[], [], []]


@pytest.mark.parametrize("hook", ["dataloader", "tf_data", "keras"])
def test_what_a_hook_replaces_is_replaced_while_it_runs(seen: dict[str, Any]) -> None:
    assert seen["patched meanwhile"]


@each_hook
def test_an_error_of_the_training_is_the_trainings(seen: dict[str, Any]) -> None:
    assert (seen["raising"]["ended"], seen["raising"]["steps"]) == ("KeyError", 4)


@each_hook
def test_every_step_is_counted(seen: dict[str, Any]) -> None:
    assert (seen["plain"]["ended"], seen["plain"]["steps"]) == ("finished", 12)


@each_recording_hook
def test_the_window_holds_the_steps_of_the_schedule(seen: dict[str, Any]) -> None:
    assert seen["plain"]["windows"] == [[3, 4, 5]]
    assert len(seen["plain"]["windows"][0]) == ACTIVE
    assert seen["plain"]["notes"] == []


@each_recording_hook
def test_a_window_that_the_loop_cuts_short_is_kept_and_said(seen: dict[str, Any]) -> None:
    cut = seen["too short"]
    assert any("cut short: the loop ended after step 3" in note for note in cut["notes"])
    [steps] = cut["windows"]
    assert steps[0] == 3


@each_recording_hook
def test_a_window_waits_until_another_profiler_is_done(seen: dict[str, Any]) -> None:
    postponed = seen["another session"]
    assert any("another profiler" in note and "postponed" in note for note in postponed["notes"])
    [steps] = postponed["windows"]
    assert len(steps) == ACTIVE
    assert steps[0] > 3


@each_recording_hook
def test_the_framework_is_named_with_its_version(hook: str, seen: dict[str, Any]) -> None:
    name = {"pytorch": "torch"}.get(hook, hook)
    assert seen["plain"]["frameworks"][name][0].isdigit()
