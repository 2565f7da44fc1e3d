"""The capture file of the training process, and how failures are kept out of the training."""

from __future__ import annotations

import resource
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from profkit.recorder import DEFERRED_AT_MOST, NOBODY, Recorder
from profkit.records import LoaderOpened, Note, Record, Step, Wait, frames
from profkit.testing import FakeClock

NewRecorder = Callable[..., Recorder]


@pytest.fixture
def new_recorder(tmp_path: Path, clock: FakeClock) -> Iterator[NewRecorder]:
    opened: list[Recorder] = []

    def new(strict: bool = False) -> Recorder:
        recorder = Recorder(tmp_path / f"{len(opened)}.pkrec", clock=clock, strict=strict)
        opened.append(recorder)
        return recorder

    yield new
    for recorder in opened:
        recorder.close()


@pytest.fixture
def recorder(new_recorder: NewRecorder) -> Recorder:
    return new_recorder()


def written(recorder: Recorder) -> list[Record]:
    """What the file holds once all that was put off is in it."""
    recorder.flush()
    return in_file(recorder)


def in_file(recorder: Recorder) -> list[Record]:
    data = (recorder.capture / "0.pkrec").read_bytes()
    return [record for record, _ in frames(data)]


@contextmanager
def room_for(path: Path, more: int) -> Iterator[None]:
    """A disk on which `path` can grow by `more` bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fails() -> None:
    raise ValueError("planted")


def test_a_record_is_in_the_file_when_append_returns(recorder: Recorder) -> None:
    recorder.append(Note("one", 1))
    assert in_file(recorder) == [Note("one", 1)]


def test_a_deferred_record_comes_with_the_next_one_in_order(recorder: Recorder) -> None:
    recorder.defer(Note("one", 1))
    assert in_file(recorder) == []
    recorder.append(Note("two", 2))
    assert in_file(recorder) == [Note("one", 1), Note("two", 2)]


def test_not_more_than_a_few_records_are_put_off(recorder: Recorder) -> None:
    for number in range(DEFERRED_AT_MOST):
        recorder.defer(Step(number, 0, 1, "marker"))
    assert len(in_file(recorder)) == DEFERRED_AT_MOST


def test_a_capture_file_is_never_written_over(tmp_path: Path, recorder: Recorder) -> None:
    with pytest.raises(FileExistsError):
        Recorder(tmp_path / "0.pkrec")


@pytest.mark.parametrize("room", [0, 5])
def test_after_a_failed_or_short_write_nothing_is_appended_and_that_is_said_once(
    recorder: Recorder, capsys: pytest.CaptureFixture[str], room: int
) -> None:
    path = recorder.capture / "0.pkrec"
    recorder.append(Note("whole", 1))
    with room_for(path, room):
        recorder.append(Note("torn", 2))
    size = path.stat().st_size
    recorder.append(Note("late", 3))
    assert written(recorder) == [Note("whole", 1)]
    assert path.stat().st_size == size
    assert recorder.failure is not None
    assert capsys.readouterr().err.count("stopped recording") == 1


def test_a_failed_write_is_raised_in_strict_mode(new_recorder: NewRecorder) -> None:
    recorder = new_recorder(strict=True)
    with room_for(recorder.capture / "0.pkrec", 0), pytest.raises(OSError, match="File too large"):
        recorder.append(Note("lost", 1))


def test_a_closed_recorder_writes_nothing_and_listens_to_no_thread(recorder: Recorder) -> None:
    recorder.close()
    recorder.append(Note("late", 1))
    assert written(recorder) == []
    assert recorder.thread == NOBODY
    assert not recorder.in_training_thread()


def test_two_threads_write_whole_records(recorder: Recorder) -> None:
    def write(first: int) -> None:
        for number in range(first, first + 500):
            recorder.append(Step(number, 0, 1, "marker"))

    threads = [threading.Thread(target=write, args=(first,)) for first in (0, 500)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(record.number for record in written(recorder) if isinstance(record, Step)) == list(range(1000))


def test_the_same_note_is_written_once(recorder: Recorder) -> None:
    for text in ("one", "two", "one"):
        recorder.note(text)
    assert [record.text for record in written(recorder) if isinstance(record, Note)] == ["one", "two"]


def test_what_profkit_raises_is_said_once_with_its_place_and_goes_no_further(
    recorder: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    assert recorder.guard(fails) is None
    assert recorder.guard(fails) is None
    error = capsys.readouterr().err
    assert error.count("ValueError: planted (test_recorder.py:") == 1
    [note] = written(recorder)
    assert isinstance(note, Note)
    assert "ValueError: planted" in note.text


def test_a_guarded_call_gives_its_value(recorder: Recorder) -> None:
    assert recorder.guard(max, 1, 2) == 2


def test_strict_mode_raises_what_profkit_raises(new_recorder: NewRecorder) -> None:
    with pytest.raises(ValueError, match="planted"):
        new_recorder(strict=True).guard(fails)


def test_ctrl_c_is_never_kept_from_the_training(recorder: Recorder) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        recorder.guard(interrupted)


def test_a_wait_lasts_from_asking_to_having(recorder: Recorder, clock: FakeClock) -> None:
    clock.advance(5)
    with recorder.wait(3, first=True):
        clock.advance(40)
    assert written(recorder) == [Wait(3, clock.now_ns - 40, 40, True)]


def test_no_batch_is_no_wait(recorder: Recorder) -> None:
    with pytest.raises(StopIteration), recorder.wait(0, first=False):
        next(iter(()))
    assert written(recorder) == []


def test_a_wait_within_a_wait_is_counted_once(recorder: Recorder, clock: FakeClock) -> None:
    with recorder.wait(0, first=False):
        clock.advance(10)
        with recorder.wait(1, first=False):
            clock.advance(20)
    with recorder.wait(1, first=False):
        clock.advance(1)
    assert [(wait.loader, wait.duration_ns) for wait in written(recorder) if isinstance(wait, Wait)] == [
        (0, 30),
        (1, 1),
    ]


def test_a_wait_within_one_that_raised_does_not_silence_the_next(recorder: Recorder) -> None:
    with pytest.raises(ValueError, match="planted"), recorder.wait(0, first=False):
        fails()
    with recorder.wait(1, first=False):
        pass
    assert [type(record) for record in written(recorder)] == [Wait]


def test_another_threads_waits_are_not_the_trainings(recorder: Recorder) -> None:
    def load() -> None:
        with recorder.wait(0, first=False):
            pass

    thread = threading.Thread(target=load)
    thread.start()
    thread.join()
    [note] = written(recorder)
    assert isinstance(note, Note)
    assert "run.loader" in note.text


def test_opening_a_loader_is_timed_like_a_wait(recorder: Recorder, clock: FakeClock) -> None:
    with recorder.timed(lambda start, took: LoaderOpened(0, "x", start, took, {})):
        clock.advance(7)
    assert written(recorder) == [LoaderOpened(0, "x", clock.now_ns - 7, 7, {})]


def test_a_loader_keeps_its_number_as_long_as_it_lives(recorder: Recorder) -> None:
    class Loader:
        pass

    one, two = Loader(), Loader()
    assert [recorder.loader_number(loader) for loader in (one, two, one)] == [0, 1, 0]
    del one
    assert recorder.loader_number(Loader()) == 2
    assert [recorder.loader_number([]) for _ in range(2)] == [3, 4]


@pytest.mark.parametrize("failing", range(1, 4))
def test_a_failing_clock_costs_a_record_and_nothing_else(tmp_path: Path, failing: int) -> None:
    calls = 0

    def clock() -> int:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError("planted")
        return calls

    recorder = Recorder(tmp_path / "0.pkrec", clock=clock)
    batches = []
    for batch in range(3):
        with recorder.wait(0, first=False):
            batches.append(batch)
    recorder.flush()
    assert batches == [0, 1, 2]
    assert sum(isinstance(record, Wait) for record in written(recorder)) >= 2
