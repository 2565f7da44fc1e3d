"""What a training script touches."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import threading
from collections.abc import AsyncGenerator, Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

import profkit
from profkit.errors import RunStateError, UnknownPlugin, UsageError
from profkit.records import End, LoaderOpened, Note, Record, Start, Step, Wait

from .witness import Witness

NewRun = Callable[..., profkit.profile]
RecordsOf = Callable[[profkit.profile], list[Record]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]

SOON = profkit.schedule(skip_first=1, wait=0, warmup=0, active=2)


@pytest.fixture
def new_run(tmp_path: Path) -> NewRun:
    """A run without a second process and without text at its end."""

    def new(*hooks: Any, **options: Any) -> profkit.profile:
        defaults = {"hooks": hooks, "sidecar": False, "quiet": True, "schedule": SOON}
        return profkit.profile(tmp_path / "runs", **{**defaults, **options})

    return new


@pytest.fixture
def notes_of(records_of: RecordsOf) -> Callable[[profkit.profile], list[str]]:
    return lambda run: [record.text for record in records_of(run) if isinstance(record, Note)]


@pytest.fixture
def steps_of(records_of: RecordsOf) -> Callable[[profkit.profile], list[Step]]:
    return lambda run: [record for record in records_of(run) if isinstance(record, Step)]


StepsOf = Callable[[profkit.profile], list[Step]]
NotesOf = Callable[[profkit.profile], list[str]]


# --- steps -----------------------------------------------------------------------------------------------------


@profkit.step
def double(number: int) -> int:
    """Twice the number."""
    if number < 0:
        raise ValueError(f"{number} is negative")
    return 2 * number


@profkit.step
def count_up(number: int) -> Generator[int, int | None, str]:
    sent = None
    for value in range(number):
        sent = yield value if sent is None else sent
    return "done"


@profkit.step
async def double_later(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


@profkit.step
async def count_up_later(number: int) -> AsyncGenerator[int, int | None]:
    sent = None
    try:
        for value in range(number):
            sent = yield value if sent is None else sent
    except KeyError:
        yield -1


class Trainer:
    @profkit.step
    def train(self, number: int) -> tuple[Trainer, int]:
        return self, number


def test_steps_follow_each_other_from_the_beginning_of_the_run(new_run: NewRun, steps_of: StepsOf) -> None:
    with new_run() as run:
        assert [double(number) for number in range(3)] == [0, 2, 4]
    steps = steps_of(run)
    assert [(step.number, step.source) for step in steps] == [(0, "marker"), (1, "marker"), (2, "marker")]
    assert [step.start_ns for step in steps[1:]] == [step.end_ns for step in steps[:-1]]


def test_what_follows_the_last_step_is_no_step(new_run: NewRun, records_of: RecordsOf) -> None:
    with new_run() as run:
        double(1)
        run.note("evaluation")
    kinds = [type(record) for record in records_of(run)]
    assert kinds.count(Step) == 1
    assert kinds[-1] is End


def test_run_step_marks_the_end_of_a_step_in_a_loop(new_run: NewRun, steps_of: StepsOf) -> None:
    with new_run() as run:
        for _ in range(2):
            run.step()
    assert [step.number for step in steps_of(run)] == [0, 1]


def test_a_marked_function_keeps_name_documentation_and_signature() -> None:
    assert double.__name__ == "double"
    assert double.__doc__ == "Twice the number."
    assert list(inspect.signature(double).parameters) == ["number"]


@pytest.mark.parametrize("within_a_run", [False, True])
def test_marked_functions_of_every_kind_behave_as_before(
    new_run: NewRun, steps_of: StepsOf, within_a_run: bool
) -> None:
    async def asynchronously() -> tuple[int, list[int]]:
        return await double_later(3), [value async for value in count_up_later(3)]

    run = new_run()
    trainer = Trainer()
    with run if within_a_run else contextmanager(lambda: iter([None]))():
        assert double(2) == 4
        assert trainer.train(1) == (trainer, 1)
        assert list(count_up(3)) == [0, 1, 2]
        assert asyncio.run(asynchronously()) == (6, [0, 1, 2])
    if within_a_run:
        assert len(steps_of(run)) == 5


def test_a_marked_function_stays_of_its_kind() -> None:
    assert inspect.isgeneratorfunction(count_up)
    assert inspect.iscoroutinefunction(double_later)
    assert inspect.isasyncgenfunction(count_up_later)


def test_a_step_of_a_generator_lasts_until_it_is_exhausted(new_run: NewRun, steps_of: StepsOf) -> None:
    with new_run() as run:
        generator = count_up(2)
        next(generator)
        assert steps_of(run) == []
        assert generator.send(7) == 7
        with pytest.raises(StopIteration, match="done"):
            next(generator)
        assert len(steps_of(run)) == 1


def test_what_is_sent_and_thrown_reaches_an_asynchronous_generator(new_run: NewRun) -> None:
    async def talk() -> list[int]:
        generator = count_up_later(9)
        answers = [await anext(generator), await generator.asend(5), await generator.athrow(KeyError())]
        await generator.aclose()
        return answers

    with new_run():
        assert asyncio.run(talk()) == [0, 5, -1]


def test_a_step_that_raises_ends_when_it_raises(new_run: NewRun, steps_of: StepsOf) -> None:
    with new_run() as run:
        with pytest.raises(ValueError, match="-1 is negative"):
            double(-1)
        double(1)
    assert len(steps_of(run)) == 2


def test_of_marked_functions_within_each_other_the_outermost_counts(new_run: NewRun, steps_of: StepsOf) -> None:
    with new_run() as run:

        @profkit.step
        def train(number: int) -> int:
            run.step()
            return double(number)

        train(1)
        train(2)
    assert len(steps_of(run)) == 2


def test_steps_of_other_threads_are_ignored_and_noted(new_run: NewRun, steps_of: StepsOf, notes_of: NotesOf) -> None:
    results: list[int] = []
    with new_run() as run:
        double(1)
        thread = threading.Thread(target=lambda: results.append(double(2)))
        thread.start()
        thread.join()
        double(3)
    assert results == [4]
    assert len(steps_of(run)) == 2
    assert any("1 ends of steps came from other threads" in note for note in notes_of(run))


def test_a_run_without_a_step_says_how_to_mark_one(new_run: NewRun, notes_of: NotesOf) -> None:
    with new_run() as run:
        pass
    assert any("mark it with @profkit.step" in note for note in notes_of(run))


# --- loaders ---------------------------------------------------------------------------------------------------


def waits(records: list[Record]) -> list[tuple[int, bool]]:
    return [(record.loader, record.first) for record in records if isinstance(record, Wait)]


def test_every_batch_of_a_loader_is_a_wait_and_every_pass_begins_anew(new_run: NewRun, records_of: RecordsOf) -> None:
    with new_run() as run:
        loader = run.loader([1, 2])
        assert [list(loader), list(loader)] == [[1, 2], [1, 2]]
        assert len(loader) == 2
    records = records_of(run)
    assert [first for _, first in waits(records)] == [True, False, True, False]
    assert sum(isinstance(record, LoaderOpened) for record in records) == 2


def test_a_loader_stands_for_what_it_wraps(new_run: NewRun, records_of: RecordsOf) -> None:
    class Loader:
        num_workers = 3
        dataset = "text"

        def __iter__(self) -> Iterator[int]:
            return iter([1])

    with new_run() as run:
        loader = run.loader(Loader())
        assert loader.num_workers == 3
        assert not hasattr(loader, "__len__")
        assert not hasattr(loader, "missing")
        assert list(loader) == [1]
    [opened] = [record for record in records_of(run) if isinstance(record, LoaderOpened)]
    assert (opened.name, opened.settings["num_workers"], opened.settings["dataset"]) == ("Loader", 3, "str")
    cpus = opened.settings["cpus"]
    assert isinstance(cpus, int)
    assert cpus >= 1


def test_a_loaders_exception_passes_through_and_is_no_wait(new_run: NewRun, records_of: RecordsOf) -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("planted")

    with new_run() as run, pytest.raises(KeyError, match="planted"):
        list(run.loader(broken()))
    assert len(waits(records_of(run))) == 1


def test_a_generator_left_early_is_closed_as_without_profkit(new_run: NewRun) -> None:
    closed = []

    def batches() -> Iterator[int]:
        try:
            yield from range(9)
        finally:
            closed.append(True)

    with new_run() as run:
        for _ in run.loader(batches()):
            break
        assert closed == [True]


def test_a_loader_within_a_loader_is_counted_once(new_run: NewRun, records_of: RecordsOf) -> None:
    with new_run() as run:
        assert list(run.loader(run.loader([1, 2, 3]))) == [1, 2, 3]
    records = records_of(run)
    assert len(waits(records)) == 3
    assert sum(isinstance(record, LoaderOpened) for record in records) == 1


def test_a_loader_outlives_its_run(new_run: NewRun) -> None:
    with new_run() as run:
        loader = run.loader([1, 2])
    assert list(loader) == [1, 2]


# --- annotations -----------------------------------------------------------------------------------------------


class Annotating(Witness):
    """Offers annotations in its windows, and writes them down."""

    def open_window(self, window: int, first: int) -> None:
        self.recorder.annotators.append(self.span)

    def close_window(self, last: int) -> None:
        self.recorder.annotators.remove(self.span)

    def span(self, name: str) -> AbstractContextManager[None]:
        @contextmanager
        def written_down() -> Iterator[None]:
            self.calls.append(f"enter {name}")
            yield
            self.calls.append(f"leave {name}")

        return written_down()

    def spans(self) -> list[str]:
        return [call for call in self.calls if call.startswith(("enter", "leave"))]


@profkit.annotate("double")
def annotated(number: int) -> int:
    return 2 * number


def test_annotations_appear_in_windows_and_nowhere_else(new_run: NewRun) -> None:
    hook = Annotating()
    with new_run(hook) as run:
        for step in range(4):
            with profkit.annotate(f"part {step}"):
                assert annotated(step) == 2 * step
            run.step()
    spans = [[f"enter part {step}", "enter double", "leave double", f"leave part {step}"] for step in (1, 2)]
    assert hook.spans() == [*spans[0], *spans[1]]


def test_without_a_run_annotations_do_nothing() -> None:
    with profkit.annotate("nothing"):
        assert annotated(2) == 4


def test_an_annotation_lets_exceptions_through(new_run: NewRun) -> None:
    hook = Annotating()
    with new_run(hook, schedule=profkit.schedule(0, 0, 0, 1)):
        with pytest.raises(KeyError), profkit.annotate("part"):
            raise KeyError
        assert hook.spans() == ["enter part", "leave part"]


def test_one_annotation_can_be_entered_within_itself(new_run: NewRun) -> None:
    hook = Annotating()
    part = profkit.annotate("part")
    with new_run(hook, schedule=profkit.schedule(0, 0, 0, 1)), part, part:
        pass
    assert hook.spans() == ["enter part", "enter part", "leave part", "leave part"]


# --- starting --------------------------------------------------------------------------------------------------


def test_a_run_begins_with_what_it_is(new_run: NewRun, records_of: RecordsOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["/some/where/train.py", "--secret"])
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)  # of a file, and not of a module after -m
    with new_run(hparams={"lr": 0.1, "layers": [1, 2], "name": None}, keep_capture=False) as run:
        pass
    start = records_of(run)[0]
    assert isinstance(start, Start)
    assert (start.pid, start.rank, start.world_size, start.keep_capture) == (os.getpid(), 0, 1, False)
    assert start.schedule == (1, 0, 0, 2, 1)
    assert start.hparams == {"lr": 0.1, "layers": "[1, 2]", "name": "None"}
    assert start.script == "train.py"


def test_every_run_has_a_new_folder(new_run: NewRun) -> None:
    folders = []
    for _ in range(2):
        with new_run() as run:
            folders.append(run.folder)
    assert folders[0] != folders[1]
    assert folders[0].parent == folders[1].parent


def test_a_second_run_in_the_process_is_refused_and_harms_nothing(
    new_run: NewRun, steps_of: StepsOf, tmp_path: Path
) -> None:
    with new_run() as run:
        double(1)
        with pytest.raises(RunStateError, match="already active"), new_run():
            pass
        double(2)
    assert len(steps_of(run)) == 2
    assert list((tmp_path / "runs").iterdir()) == [run.folder]


def test_a_run_is_entered_once(new_run: NewRun) -> None:
    run = new_run()
    with run:
        pass
    with pytest.raises(RunStateError, match="entered once"):
        run.__enter__()


def test_an_unknown_hook_is_refused_with_the_known_ones(new_run: NewRun, tmp_path: Path) -> None:
    with pytest.raises(UnknownPlugin, match=r"'pytroch'; installed: .*pytorch"), new_run("pytroch"):
        pass
    assert not (tmp_path / "runs").exists()


def test_an_unwritable_log_folder_is_refused_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(UsageError, match=r"cannot write .*; choose another log folder"),
        profkit.profile(tmp_path / "file"),
    ):
        pass


def test_a_hook_that_fails_to_start_stops_those_that_had(new_run: NewRun, tmp_path: Path) -> None:
    sound = Witness()
    with pytest.raises(ValueError, match="planted in start"), new_run(sound, Witness(fails="start")):
        pass
    assert sound.calls == ["start", "stop"]
    assert list((tmp_path / "runs").iterdir()) == []
    with new_run():
        pass  # the process is free for another run


def test_ranks_behind_the_first_say_nothing(
    new_run: NewRun, records_of: RecordsOf, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with new_run(quiet=False) as run:
        double(1)
    start = records_of(run)[0]
    assert isinstance(start, Start)
    assert (start.rank, start.world_size) == (1, 2)
    assert capsys.readouterr().err == ""


# --- failing and ending ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["boundary", "open", "close", "stop"])
def test_a_hook_that_fails_later_is_reported_once_and_the_training_goes_on(
    new_run: NewRun,
    steps_of: StepsOf,
    notes_of: NotesOf,
    capsys: pytest.CaptureFixture[str],
    place: str,
) -> None:
    with new_run(Witness(fails=place)) as run:
        assert [double(number) for number in range(5)] == [0, 2, 4, 6, 8]
    assert len(steps_of(run)) == 5
    assert capsys.readouterr().err.count(f"planted in {place}") == 1
    assert sum(f"planted in {place}" in note for note in notes_of(run)) == 1


@pytest.mark.parametrize("place", ["boundary", "open", "close", "stop"])
def test_strict_mode_raises_a_hooks_failure_and_still_stops_everything(new_run: NewRun, place: str) -> None:
    hook = Witness(fails=place)
    with pytest.raises(ValueError, match=f"planted in {place}"), new_run(hook, strict=True):
        for number in range(5):
            double(number)
    assert hook.calls[-1] == "stop"


def test_an_exception_in_the_training_passes_and_is_the_reason(new_run: NewRun, records_of: RecordsOf) -> None:
    hook = Witness()
    with pytest.raises(ValueError, match="-1 is negative"), new_run(hook) as run:
        double(1)
        double(-1)
    end = records_of(run)[-1]
    assert isinstance(end, End)
    assert end.reason == "ValueError"
    assert hook.windows() == ["open 0 at 1", "close after 1"]
    assert hook.calls[-1] == "stop"


def test_a_hook_attached_later_takes_part(new_run: NewRun) -> None:
    hook = Witness()
    with new_run() as run:
        double(1)
        run.attach(hook)
        double(2)
    assert hook.calls[:3] == ["start", "open 0 at 1", "boundary 2"]
    assert hook.calls[-1] == "stop"


def test_a_hook_that_fails_to_attach_is_said_and_the_training_goes_on(
    new_run: NewRun, notes_of: NotesOf, steps_of: StepsOf
) -> None:
    with new_run() as run:
        run.attach(Witness(fails="start"))
        double(1)
    assert len(steps_of(run)) == 1
    assert any("planted in start" in note for note in notes_of(run))


INTERRUPTED = """
import os, signal, profkit
with profkit.profile("runs", sidecar=False, quiet=True, hooks=[]) as run:
    run.step()
    os.kill(os.getpid(), signal.SIGINT)
    run.step()
"""


def test_ctrl_c_ends_the_run_and_the_process_as_without_profkit(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    ended = run_python(INTERRUPTED)
    assert ended.returncode in (-2, 130)
    assert ended.stderr.rstrip().endswith("KeyboardInterrupt")
    *_, last_note, end = only_records(tmp_path / "runs")
    assert isinstance(end, End)
    assert end.reason == "KeyboardInterrupt"
    assert isinstance(last_note, Note)


@pytest.mark.parametrize(("code", "reason"), [("", "finished"), ("0", "finished"), ("3", "SystemExit")])
def test_sys_exit_keeps_its_code(
    run_python: RunPython,
    only_records: Callable[[Path], list[Record]],
    tmp_path: Path,
    code: str,
    reason: str,
) -> None:
    program = "import profkit, sys\nwith profkit.profile('runs', sidecar=False, quiet=True, hooks=[]):\n sys.exit"
    ended = run_python(f"{program}({code})")
    assert (ended.returncode, ended.stderr) == (int(code or 0), "")
    end = only_records(tmp_path / "runs")[-1]
    assert isinstance(end, End)
    assert end.reason == reason


FORKING = """
import os, profkit

@profkit.step
def train(number):
    with profkit.annotate("part"):
        return number

with profkit.profile("runs", sidecar=False, quiet=True, hooks=[]) as run:
    train(0)
    child = os.fork()
    for number in range(5 if child == 0 else 2):
        train(number)
    for batch in run.loader([1, 2]):
        pass
    if child == 0:
        with profkit.profile("child", sidecar=False, quiet=True, hooks=[]) as own:
            train(0)
        raise SystemExit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def test_a_forked_child_forgets_the_run_and_may_have_its_own(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    ended = run_python(FORKING)
    assert (ended.returncode, ended.stderr) == (0, "")
    parents, childs = only_records(tmp_path / "runs"), only_records(tmp_path / "child")
    assert sum(isinstance(record, Step) for record in parents) == 3
    assert sum(isinstance(record, Wait) for record in parents) == 2
    assert sum(isinstance(record, Step) for record in childs) == 1


FULL_DISK = """
import resource, sys, profkit
with profkit.profile("runs", sidecar=False, quiet=True, hooks=[]) as run:
    run.step()
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
    for number in range(1000):
        run.step()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(number)
"""


def test_a_full_disk_stops_the_recording_and_not_the_training(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    ended = run_python(FULL_DISK)
    assert (ended.returncode, ended.stdout) == (0, "999\n")
    assert ended.stderr.count("stopped recording") == 1
    numbers = [record.number for record in only_records(tmp_path / "runs") if isinstance(record, Step)]
    assert numbers == list(range(len(numbers)))
    assert 0 < len(numbers) < 1000


# --- the second process ----------------------------------------------------------------------------------------


def test_the_sidecar_finishes_the_run_before_the_training_goes_on(new_run: NewRun) -> None:
    with new_run(sidecar=True) as run:
        double(1)
    assert (run.folder / "plugins" / "profkit" / "run" / "rank=0.json").exists()


def test_a_sidecar_that_died_is_noted_and_the_run_finishes_itself(new_run: NewRun, notes_of: NotesOf) -> None:
    with new_run(Witness(), sidecar=True) as run:
        double(1)
        assert run._companion is not None
        process = run._companion._process
        process.kill()
        process.wait()
        double(2)  # closes nothing yet: the window of two steps goes on
        double(3)
    assert "the sidecar died: there are no system counters from here on" in notes_of(run)
    assert (run.folder / "plugins" / "profkit" / "run" / "rank=0.json").exists()


def test_a_run_whose_sidecar_cannot_be_started_finishes_itself(
    new_run: NewRun, notes_of: NotesOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with new_run(sidecar=True) as run:
        double(1)
    assert any("no sidecar could be started" in note for note in notes_of(run))
    assert (run.folder / "plugins" / "profkit" / "run" / "rank=0.json").exists()


def test_the_verdict_is_printed_unless_quiet(new_run: NewRun, capsys: pytest.CaptureFixture[str]) -> None:
    with new_run(quiet=False) as run:
        double(1)
    assert run.folder.name in capsys.readouterr().err
    with new_run(quiet=True):
        double(1)
    assert capsys.readouterr().err == ""
