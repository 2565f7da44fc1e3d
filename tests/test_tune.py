"""Tuning: which trials are run, when it stops, what it concludes; no trial is timed here."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from profkit.analysis import loadersimulation
from profkit.analysis.loaderprofile import LoaderProfile
from profkit.analysis.loadersimulation import BatchCost, Costs, simulate
from profkit.cli import tune as command
from profkit.cli.main import main
from profkit.trial import TrialFailed
from profkit.tune import Point, Search, Trial, search

MS = 1_000_000
CORES = 4


@pytest.fixture(autouse=True)
def uncrowded(monkeypatch: pytest.MonkeyPatch) -> None:
    """The simulated trainings have no caches that busy cores share."""
    monkeypatch.setattr(loadersimulation, "CROWDING", 0.0)


def world(fetch_ms: float, step_ms: float, base: tuple[int, int] = (0, 2)) -> Callable[[Point | None], LoaderProfile]:
    """A training as the simulator knows it: what a trial would measure at any point."""
    costs = Costs((BatchCost(0, fetch_ms * MS, 0, step_ms * MS, 0),), 1.0 * MS, 1.0 * MS, 0.0)

    def measure(point: Point | None) -> LoaderProfile:
        workers, prefetch = point or base
        outcome = simulate(costs, workers, prefetch, CORES)
        return LoaderProfile(workers, prefetch, CORES, costs, 0.9, workers == 0, 0.0, outcome.step_ns, outcome.wait_ns)

    return measure


def tuned(measure: Callable[[Point | None], LoaderProfile], trials: int = 6) -> Search:
    return search(measure, trials, lambda: True, lambda _: None)


def points(found: Search) -> list[int]:
    return [trial.point.num_workers for trial in found.trials]


def test_a_starving_training_gets_the_workers_it_needs() -> None:
    found = tuned(world(fetch_ms=20, step_ms=10))
    assert found.best()[0] == Point(2, 2)
    assert found.speedup() == pytest.approx(30 / 11, rel=0.05)


def test_the_first_trial_is_the_program_as_it_is_and_the_second_the_predicted_best() -> None:
    assert points(tuned(world(fetch_ms=20, step_ms=10)))[:2] == [0, 2]


def test_the_best_one_is_compared_with_its_neighbours_and_run_again() -> None:
    assert sorted(points(tuned(world(fetch_ms=20, step_ms=10)))) == [0, 0, 2, 2, 3]


def test_a_training_that_is_never_kept_waiting_is_tried_once() -> None:
    found = tuned(world(fetch_ms=5, step_ms=40, base=(2, 2)))
    assert points(found) == [2]
    assert found.best()[0] == found.base


def test_a_prediction_that_fails_is_measured_and_not_believed() -> None:
    """The machine gives a trial with workers nothing: the trials say so, whatever the simulator hopes for."""
    as_predicted = world(fetch_ms=20, step_ms=10)

    def measure(point: Point | None) -> LoaderProfile:
        return replace(as_predicted(point), step_ns=30.0 * MS)

    found = tuned(measure)
    assert len(found.trials) > 1
    assert found.best()[0] == found.base
    assert found.speedup() == 1


def test_no_more_trials_are_run_than_allowed() -> None:
    assert len(tuned(world(fetch_ms=20, step_ms=10), trials=2).trials) == 2


def test_no_trial_begins_when_the_time_is_over() -> None:
    found = search(world(fetch_ms=20, step_ms=10), 6, lambda: False, lambda _: None)
    assert points(found) == [0]


def test_a_failed_trial_is_kept_with_its_reason_and_never_best() -> None:
    good = world(fetch_ms=20, step_ms=10)

    def measure(point: Point | None) -> LoaderProfile:
        if point is not None and point.num_workers == 2:
            raise TrialFailed("cannot pickle")
        return good(point)

    found = tuned(measure)
    assert [trial.failure for trial in found.trials if trial.point.num_workers == 2] == ["cannot pickle"]
    assert found.best()[0] == Point(3, 2)


def test_a_program_that_fails_as_it_is_fails_the_search() -> None:
    def measure(point: Point | None) -> LoaderProfile:
        raise TrialFailed("no such file")

    with pytest.raises(TrialFailed, match="no such file"):
        tuned(measure)


@pytest.mark.parametrize(("second_ms", "keeps"), [(30.0, True), (26.5, False)])
def test_a_gain_within_the_noise_of_repeated_trials_is_none(second_ms: float, keeps: bool) -> None:
    """Without workers a step takes 29.5 ms, with two of them 26 ms, and the second time 30 or 26.5."""
    measure = world(fetch_ms=20, step_ms=10)
    found = Search(replace(measure(None), step_ns=29.5 * MS))
    for step_ms in (26.0, second_ms):
        found.add(Trial(Point(2, 2), 25.0 * MS, replace(measure(Point(2, 2)), step_ns=step_ms * MS)))
    assert found.noise() == pytest.approx(max((second_ms - 26) / (second_ms + 26), 0.02))
    assert found.keeps() is keeps


@pytest.mark.parametrize("words", [[], ["-m"], ["nothing.py"], ["--trials", "0", "train.py"]])
def test_what_cannot_be_tuned_is_said_in_one_sentence(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", *words]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"profkit: [^\n]+\n", told.err)


def test_both_predicted_and_measured_are_printed_for_each_trial(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(world(fetch_ms=20, step_ms=10), tmp_path, monkeypatch, capsys)
    rows = [line for line in out.splitlines() if re.match(r"\s+\d+\s+\d", line)]
    assert "as it is" in rows[0]
    assert all(re.search(r"ms\s+[\d.]+ ms\s+[+−]", row) for row in rows[1:])
    assert "DataLoader(…, num_workers=2, prefetch_factor=2, persistent_workers=True)" in out
    assert "2.73× as fast as it is" in out


def test_a_healthy_program_is_told_to_keep_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = printed(world(fetch_ms=5, step_ms=40, base=(2, 2)), tmp_path, monkeypatch, capsys)
    assert "Keep what you have" in out
    assert "DataLoader(" not in out


def test_the_result_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer = json.loads(printed(world(fetch_ms=20, step_ms=10), tmp_path, monkeypatch, capsys, "--json"))
    assert answer["keep"] is False
    assert answer["trials"][0]["predicted_ns"] is None
    assert answer["line"].startswith("DataLoader(…, num_workers=2")


def printed(
    measure: Callable[[Point | None], LoaderProfile],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *words: str,
) -> str:
    """What the command prints where trials measure what `measure` says."""
    script = folder / "train.py"
    script.touch()
    monkeypatch.setattr(command, "Trials", lambda order, steps, folder: measure)
    assert main(["tune", *words, str(script)]) == 0
    return capsys.readouterr().out
