"""The schedule, carried out on hooks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from profkit.recorder import Recorder
from profkit.records import Note, frames
from profkit.schedule import Schedule
from profkit.windows import Windows

from .witness import Witness


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    recorder = Recorder(tmp_path / "0.pkrec")
    yield recorder
    recorder.close()


def notes(recorder: Recorder) -> list[str]:
    data = (recorder.capture / "0.pkrec").read_bytes()
    return [record.text for record, _ in frames(data) if isinstance(record, Note)]


def drive(schedule: Schedule, hooks: list[Witness], recorder: Recorder, steps: int) -> None:
    windows = Windows(schedule, hooks, recorder)
    for number in range(steps + 1):
        windows.step_begins(number)
    windows.finish(steps)


def test_windows_open_and_close_at_their_steps(recorder: Recorder) -> None:
    hook = Witness()
    drive(Schedule(2, 1, 1, 2, 2), [hook], recorder, 20)
    assert hook.calls == ["open 0 at 4", "boundary 5", "close after 5", "open 1 at 8", "boundary 9", "close after 9"]
    assert notes(recorder) == []


def test_windows_may_follow_each_other_without_a_gap(recorder: Recorder) -> None:
    hook = Witness()
    drive(Schedule(0, 0, 0, 1, 2), [hook], recorder, 3)
    assert hook.calls == ["open 0 at 0", "close after 0", "open 1 at 1", "close after 1"]


def test_a_loop_that_ends_inside_a_window_closes_it_and_says_so(recorder: Recorder) -> None:
    hook = Witness()
    drive(Schedule(1, 0, 1, 5, 1), [hook], recorder, 4)
    assert hook.calls == ["open 0 at 2", "boundary 3", "boundary 4", "close after 3"]
    assert notes(recorder) == [
        "the window was cut short: the loop ended after step 3, recording was to go on to step 6"
    ]


def test_a_loop_shorter_than_the_schedule_says_what_to_change(recorder: Recorder) -> None:
    hook = Witness()
    drive(Schedule(), [hook], recorder, 3)
    assert hook.calls == []
    assert notes(recorder) == [
        "the loop ended after 3 steps, but recording begins at step 7: lower skip_first, "
        "or pass schedule=profkit.schedule(skip_first=0, warmup=1)"
    ]


def test_a_window_waits_as_long_as_another_profiler_is_in_the_way(recorder: Recorder) -> None:
    hook = Witness(busy=3)
    drive(Schedule(2, 0, 1, 2, 1), [hook], recorder, 20)
    assert hook.calls == ["open 0 at 6", "boundary 7", "close after 7"]


def test_another_profiler_that_never_ends_is_noted(recorder: Recorder) -> None:
    hook = Witness(busy=1000)
    drive(Schedule(2, 0, 1, 2, 1), [hook], recorder, 9)
    assert hook.calls == []
    assert notes(recorder) == [
        "no window could be recorded: another profiler was active at each of the 8 steps when recording was due"
    ]


def test_no_hook_at_all_is_noted(recorder: Recorder) -> None:
    drive(Schedule(0, 0, 0, 1, 1), [], recorder, 0)
    [note] = notes(recorder)
    assert "import it before" in note


def test_a_hook_that_fails_does_not_keep_the_others_from_recording(recorder: Recorder) -> None:
    broken, sound = Witness(fails="open"), Witness()
    drive(Schedule(0, 0, 0, 2, 1), [broken, sound], recorder, 3)
    assert sound.calls == ["open 0 at 0", "boundary 1", "close after 1"]
    [note] = notes(recorder)
    assert "ValueError: planted" in note


def test_a_hook_attached_within_a_window_takes_part_in_it(recorder: Recorder) -> None:
    late = Witness()
    windows = Windows(Schedule(0, 0, 0, 5, 1), [Witness()], recorder)
    windows.join(late, 0)
    assert late.calls == []
    windows.step_begins(0)
    windows.join(late, 0)
    assert late.calls == ["open 0 at 0"]
