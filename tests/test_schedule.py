"""When to record."""

from itertools import groupby

import pytest
from hypothesis import given
from hypothesis import strategies as st

import profkit
from profkit.errors import UsageError
from profkit.schedule import Action, Schedule

IDLE, WARM_UP, RECORD = Action.IDLE, Action.WARM_UP, Action.RECORD

counts = st.integers(0, 4)
schedules = st.builds(Schedule, counts, counts, counts, st.integers(1, 4), counts)


def test_the_words_mean_what_they_mean_in_torch() -> None:
    plan = profkit.schedule(skip_first=2, wait=1, warmup=1, active=2, repeat=2)
    assert [plan.action(step) for step in range(12)] == [
        *(IDLE, IDLE),
        *(IDLE, WARM_UP, RECORD, RECORD),
        *(IDLE, WARM_UP, RECORD, RECORD),
        *(IDLE, IDLE),
    ]


def test_the_default_records_five_steps_once_and_soon() -> None:
    plan = profkit.schedule()
    assert [step for step in range(1000) if plan.action(step) is RECORD] == [7, 8, 9, 10, 11]
    assert plan.first_recorded == 7


def test_repeat_0_goes_on_for_ever() -> None:
    plan = profkit.schedule(skip_first=0, wait=0, warmup=0, active=1, repeat=0)
    assert plan.action(10**9) is RECORD


@given(schedules, st.integers(0, 200))
def test_a_window_ends_after_active_steps(plan: Schedule, step: int) -> None:
    window = range(step - plan.active + 1, step + 1)
    if plan.ends_window(step):
        assert all(plan.action(recorded) is RECORD for recorded in window)
    elif plan.action(step) is RECORD:
        assert plan.action(step + 1) is RECORD


@given(schedules)
def test_as_many_windows_are_recorded_as_asked_for(plan: Schedule) -> None:
    steps = range(plan.skip_first + plan.cycle * 6)
    assert sum(plan.ends_window(step) for step in steps) == (plan.repeat or 6)
    first = next(step for step in steps if plan.action(step) is RECORD)
    assert first == plan.first_recorded


@given(schedules)
def test_every_window_is_warmed_up_as_long_as_asked_for(plan: Schedule) -> None:
    actions = [plan.action(step) for step in range(plan.skip_first + plan.cycle * 6)]
    warmed = [len(list(steps)) for action, steps in groupby(actions) if action is WARM_UP]
    assert set(warmed) <= {plan.warmup}


@pytest.mark.parametrize("wrong", [{"skip_first": -1}, {"wait": -2}, {"warmup": -1}, {"repeat": -1}, {"active": 0}])
def test_a_schedule_that_records_nothing_is_refused_by_name(wrong: dict[str, int]) -> None:
    [(name, value)] = wrong.items()
    with pytest.raises(UsageError, match=rf"{name}.*{value}"):
        profkit.schedule(**wrong)


few = st.integers(0, 4)


@given(st.builds(Schedule, few, few, few, active=st.integers(1, 3), repeat=few), st.integers(0, 60))
def test_the_next_busy_step_is_the_first_that_is_not_idle(schedule: Schedule, step: int) -> None:
    expected = next((n for n in range(step, step + 60) if schedule.action(n) is not Action.IDLE), None)
    assert schedule.next_busy(step) == expected
