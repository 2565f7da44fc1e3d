"""Which of several signals ends a step."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from profkit.boundaries import BATCH, CALLBACK, EVALUATION, MARKER, OPTIMIZER, Boundaries, Requests
from profkit.records import Step

Signals = list[tuple[str, int]]


def counted(signals: Signals) -> list[Step]:
    """The steps after these signals, each a source and a time."""
    boundaries = Boundaries(0)
    steps: list[Step] = []
    for source, time_ns in signals:
        boundaries.declare(source)
        steps += boundaries.offer(source, time_ns, own_ns=1)
    return [*steps, *boundaries.release()]


def ends(signals: Signals) -> list[tuple[int, str]]:
    return [(step.end_ns, step.source) for step in counted(signals)]


def test_the_optimizer_ends_a_step_where_nothing_better_does() -> None:
    assert ends([(OPTIMIZER, 10), (OPTIMIZER, 20)]) == [(10, OPTIMIZER), (20, OPTIMIZER)]


def test_a_single_step_held_back_counts_in_the_end() -> None:
    assert ends([(OPTIMIZER, 10)]) == [(10, OPTIMIZER)]


def test_a_marker_after_the_first_optimizer_step_takes_its_place() -> None:
    signals = [(OPTIMIZER, 10), (MARKER, 11), (OPTIMIZER, 20), (MARKER, 21)]
    assert ends(signals) == [(11, MARKER), (21, MARKER)]


def test_a_callback_outranks_the_optimizer_and_is_outranked_by_a_marker() -> None:
    assert ends([(OPTIMIZER, 10), (CALLBACK, 11), (OPTIMIZER, 20), (CALLBACK, 21)]) == [
        (11, CALLBACK),
        (21, CALLBACK),
    ]
    assert ends([(CALLBACK, 10), (MARKER, 11), (CALLBACK, 20), (MARKER, 21)]) == [(11, MARKER), (21, MARKER)]


def test_a_later_marker_takes_over_from_its_first_appearance() -> None:
    signals = [(OPTIMIZER, 10), (OPTIMIZER, 20), (MARKER, 21), (OPTIMIZER, 30), (MARKER, 31)]
    assert ends(signals) == [(10, OPTIMIZER), (20, OPTIMIZER), (21, MARKER), (31, MARKER)]


def test_a_change_of_source_is_told_only_where_steps_had_been_counted() -> None:
    boundaries = Boundaries(0)
    assert boundaries.declare(OPTIMIZER) is None
    boundaries.offer(OPTIMIZER, 10, 0)
    boundaries.offer(OPTIMIZER, 20, 0)
    assert boundaries.declare(OPTIMIZER) is None
    assert boundaries.declare(MARKER) == OPTIMIZER
    assert boundaries.declare(OPTIMIZER) is None


def test_own_time_of_a_superseded_boundary_is_kept() -> None:
    [step] = counted([(OPTIMIZER, 10), (MARKER, 11)])
    assert step.own_ns == 2


signals = st.lists(st.tuples(st.sampled_from([MARKER, CALLBACK, OPTIMIZER]), st.integers(1, 10)))


@given(signals)
def test_steps_follow_each_other_without_gap_whatever_the_signals(deltas: Signals) -> None:
    now, timed = 0, []
    for source, delta in deltas:
        now += delta
        timed.append((source, now))
    steps = counted(timed)
    assert [step.number for step in steps] == list(range(len(steps)))
    assert [step.start_ns for step in steps] == [0, *(step.end_ns for step in steps)][: len(steps)]
    assert bool(steps) == bool(deltas)


@given(signals)
def test_only_one_source_counts_at_a_time(deltas: Signals) -> None:
    sources = [step.source for step in counted(deltas)]
    changes = sum(one != two for one, two in pairwise(sources))
    assert changes <= 2  # upwards only: optimizer, callback, marker


# --- a loop that only asks for batches ---------------------------------------------------------------------------


def asked(requests: list[tuple[int, bool]], gone: set[int] | None = None) -> list[bool]:
    """Whether each request ended a step: a loader's number, and whether it had a batch."""
    known = gone if gone is not None else set()
    counting, ended = Requests(lambda loader: loader in known), []
    for loader, came in requests:
        ended.append(counting.asked(loader))
        if came:
            counting.answered(loader)
    return ended


def test_a_step_ends_when_the_next_batch_is_asked_for() -> None:
    assert asked([(0, True), (0, True), (0, False)]) == [False, True, True]


def test_the_end_of_a_pass_ends_one_step_and_the_next_pass_none() -> None:
    assert asked([(0, True), (0, False), (0, True), (0, False)]) == [False, True, False, True]


def test_another_loader_is_evaluation() -> None:
    assert asked([(0, True), (0, False), (1, True), (1, True), (1, False), (0, True), (0, True)]) == [
        False, True, False, False, False, False, True,
    ]  # fmt: skip


def test_where_the_first_loader_is_gone_the_next_takes_its_place() -> None:
    assert asked([(0, True), (0, False), (1, True), (1, True)], gone={0}) == [False, True, False, True]


def test_evaluation_counts_only_where_nothing_else_speaks() -> None:
    assert ends([(EVALUATION, 10), (EVALUATION, 20)]) == [(10, EVALUATION), (20, EVALUATION)]
    assert ends([(BATCH, 10), (EVALUATION, 15), (BATCH, 20)]) == [(10, BATCH), (20, BATCH)]
    assert ends([(BATCH, 10), (CALLBACK, 12), (BATCH, 20), (CALLBACK, 22)]) == [(12, CALLBACK), (22, CALLBACK)]
