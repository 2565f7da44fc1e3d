"""Which steps a verdict rests on, and what the report says of a run as a whole."""

from __future__ import annotations

import msgspec
import pytest

from profkit.analysis.report import Report
from profkit.analysis.summary import report
from tests.runs import MS, run


def test_the_verdict_rests_on_steady_steps_outside_windows() -> None:
    slow_window = [{"duration_ns": 300 * MS, "wait_ns": 30 * MS, "window": 0} for _ in range(5)]
    first = {"duration_ns": 900 * MS, "startup_ns": 800 * MS, "steady": False}
    found = report(run([first, *slow_window, *({"wait_ns": 40 * MS} for _ in range(10))]))
    assert found.steps == 16
    assert found.measured_on == "10 steps outside the recorded windows, all steady"
    assert found.step_time_ns is not None and found.step_time_ns.mean == found.step_time_ns.max == 100 * MS
    assert found.stall_share == pytest.approx(0.4)


def test_steps_inside_windows_serve_where_there_are_no_others_and_it_says_so() -> None:
    found = report(run([{"window": 0, "wait_ns": 50 * MS} for _ in range(5)]))
    assert "inside a recorded window" in found.measured_on
    assert found.stall_share == pytest.approx(0.5)


def test_where_no_step_is_steady_all_count() -> None:
    found = report(run([{"steady": False}, {"steady": False}]))
    assert found.measured_on == "2 steps outside the recorded windows, none of them steady"


def test_time_before_the_pass_over_the_loader_is_not_part_of_a_step() -> None:
    found = report(run([{"steady": False, "duration_ns": 500 * MS, "excluded_ns": 400 * MS}]))
    assert found.step_time_ns is not None and found.step_time_ns.mean == 100 * MS


def test_the_distribution_of_the_step_time() -> None:
    found = report(run([{"duration_ns": d * MS} for d in range(1, 102)]))
    assert found.step_time_ns is not None
    assert [t / MS for t in msgspec.structs.astuple(found.step_time_ns)] == [51, 51, 96, 101]


def test_the_overhead_is_given_twice_outside_windows_and_inside() -> None:
    inside = [{"duration_ns": 130 * MS, "window": 0} for _ in range(5)]
    overhead = report(run([{} for _ in range(20)] + inside, window_close_ns=[7 * MS])).overhead
    assert overhead.outside_ns_per_step == 5_000
    assert overhead.outside_share == pytest.approx(5e-5)
    assert overhead.inside_ratio == pytest.approx(1.3)
    assert overhead.inside_spread == 0
    assert overhead.window_close_ns == 7 * MS


def test_a_run_without_a_step_is_not_judged() -> None:
    found = report(run([]))
    assert (found.steps, found.step_time_ns, found.stall_share, found.findings) == (0, None, None, [])
    assert found.headline == "No step was recorded, so there is nothing to judge."


def test_the_report_is_json_and_back() -> None:
    found = report(run([{"wait_ns": 40 * MS} for _ in range(10)]))
    assert msgspec.json.decode(msgspec.json.encode(found), type=Report) == found
