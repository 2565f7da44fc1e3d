"""PyTorch: ends of steps, recorded windows, and other people's profilers."""

from __future__ import annotations

import gc
import json
import subprocess
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim.optimizer import _global_optimizer_post_hooks
from torch.profiler import ProfilerActivity

import profkit
from profkit import plugins
from profkit.records import Framework, Note, Record, Step, Window, WindowOpened

RecordsOf = Callable[[profkit.profile], list[Record]]
RunPython = Callable[..., subprocess.CompletedProcess[str]]

BOTH_STEPS = profkit.schedule(skip_first=1, wait=0, warmup=1, active=2)


class Training:
    """A linear layer and its optimizer."""

    def __init__(self) -> None:
        self.model = torch.nn.Linear(8, 4)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)

    def backward(self) -> None:
        self.model(torch.ones(3, 8)).sum().backward()

    def step(self) -> None:
        self.optimizer.zero_grad()
        self.backward()
        self.optimizer.step()


@pytest.fixture
def training() -> Training:
    return Training()


@pytest.fixture
def new_run(tmp_path: Path) -> Callable[..., profkit.profile]:
    """A run with the PyTorch hook, without a second process and without text at its end."""

    def new(**options: Any) -> profkit.profile:
        defaults = {"hooks": ["pytorch"], "sidecar": False, "quiet": True, "schedule": BOTH_STEPS}
        return profkit.profile(tmp_path / "runs", **{**defaults, **options})

    return new


NewRun = Callable[..., profkit.profile]


def steps(records: list[Record]) -> list[str]:
    return [record.source for record in records if isinstance(record, Step)]


def notes(records: list[Record]) -> list[str]:
    return [record.text for record in records if isinstance(record, Note)]


def windows(records: list[Record]) -> list[tuple[int, int]]:
    return [(record.first, record.last) for record in records if isinstance(record, Window)]


# --- ends of steps ---------------------------------------------------------------------------------------------


def test_an_optimizers_step_ends_a_step(new_run: NewRun, records_of: RecordsOf, training: Training) -> None:
    with new_run() as run:
        for _ in range(3):
            training.step()
    assert steps(records_of(run)) == ["optimizer"] * 3


def test_run_step_after_the_optimizer_counts_instead_of_it(
    new_run: NewRun, records_of: RecordsOf, training: Training
) -> None:
    with new_run() as run:
        for _ in range(3):
            training.step()
            run.step()
    records = records_of(run)
    assert steps(records) == ["marker"] * 3
    assert not any("steps were counted by" in note for note in notes(records))


def test_the_decorator_counts_instead_of_the_optimizer_within_it(
    new_run: NewRun, records_of: RecordsOf, training: Training
) -> None:
    with new_run() as run:
        train = profkit.step(training.step)
        for _ in range(3):
            train()
    assert steps(records_of(run)) == ["marker"] * 3


def test_a_marker_that_comes_later_takes_over_and_that_is_noted(
    new_run: NewRun, records_of: RecordsOf, training: Training
) -> None:
    with new_run() as run:
        for number in range(4):
            training.step()
            if number >= 2:
                run.step()
    records = records_of(run)
    assert steps(records) == ["optimizer"] * 3 + ["marker"] * 2
    assert "steps were counted by the optimizer until step 2, and by the marker from then on" in notes(records)


def test_with_gradient_accumulation_a_step_ends_when_the_optimizer_steps(
    new_run: NewRun, records_of: RecordsOf, training: Training
) -> None:
    with new_run() as run:
        for batch in range(8):
            training.backward()
            if batch % 4 == 3:
                training.optimizer.step()
    assert steps(records_of(run)) == ["optimizer"] * 2


def test_of_several_optimizers_the_first_one_counts(new_run: NewRun, records_of: RecordsOf) -> None:
    generator, critic = Training(), Training()
    with new_run() as run:
        for _ in range(4):
            critic.step()
            generator.step()
    assert steps(records_of(run)) == ["optimizer"] * 4


def test_when_the_first_optimizer_is_gone_the_next_one_counts(new_run: NewRun, records_of: RecordsOf) -> None:
    first, second = Training(), Training()
    with new_run() as run:
        first.step()
        second.step()
        del first
        gc.collect()
        second.step()
    assert len(steps(records_of(run))) == 2


def test_an_optimizer_no_longer_used_is_replaced_after_twenty_steps(new_run: NewRun, records_of: RecordsOf) -> None:
    pretraining, finetuning = Training(), Training()
    with new_run() as run:
        pretraining.step()
        for _ in range(25):
            finetuning.step()
    assert len(steps(records_of(run))) == 1 + 6


def test_an_optimizer_that_steps_rarely_is_not_replaced_by_those_that_step_often(
    new_run: NewRun, records_of: RecordsOf
) -> None:
    slow, quick = Training(), [Training() for _ in range(30)]
    with new_run() as run:
        for _ in range(3):
            slow.step()
            for training in quick:
                training.step()
    assert len(steps(records_of(run))) == 3


@pytest.mark.parametrize("fused", [False, True])
def test_a_step_that_a_grad_scaler_skips_is_a_step(new_run: NewRun, records_of: RecordsOf, fused: bool) -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.Adam(model.parameters(), fused=fused)
    scaler = torch.amp.GradScaler("cpu")
    with new_run() as run:
        for factor in (1.0, float("inf"), 1.0):
            optimizer.zero_grad()
            scaler.scale(model(torch.ones(1, 2)).sum() * factor).backward()
            scaler.step(optimizer)
            scaler.update()
    assert steps(records_of(run)) == ["optimizer"] * 3


def test_an_optimizer_in_another_thread_ends_no_step(
    new_run: NewRun, records_of: RecordsOf, training: Training
) -> None:
    with new_run() as run:
        thread = threading.Thread(target=Training().step)
        thread.start()
        thread.join()
        training.step()
    records = records_of(run)
    assert len(steps(records)) == 1
    assert any("other threads" in note for note in notes(records))


# --- windows ---------------------------------------------------------------------------------------------------


def native_file(run: profkit.profile, window: int = 0) -> dict[str, Any]:
    capture = run.folder / "plugins" / "profkit" / "capture"
    return json.loads((capture / f"window-{window}-rank-0.pt.trace.json").read_text())  # type: ignore[no-any-return]


@pytest.fixture
def kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native files stay as torch wrote them."""
    monkeypatch.setattr("profkit.run._finalise", lambda folder: None)


@pytest.mark.usefixtures("kept")
def test_a_window_is_a_whole_file_in_torchs_own_format(
    new_run: NewRun, records_of: RecordsOf, training: Training
) -> None:
    with new_run() as run:
        for _ in range(6):
            with profkit.annotate("mine"):
                training.step()
    document = native_file(run)
    events = document["traceEvents"]
    names = Counter(event["name"] for event in events if event.get("cat") == "user_annotation")
    assert {name: names[name] for name in ("ProfilerStep#2", "ProfilerStep#3", "mine")} == {
        "ProfilerStep#2": 1,
        "ProfilerStep#3": 1,
        "mine": 2,
    }
    assert names["ProfilerStep#4"] == 0
    assert any(event.get("args", {}).get("Input Dims") for event in events)
    assert any(event["name"] == "[memory]" for event in events)
    assert any(event.get("cat") == "fwdbwd" for event in events)
    assert document["profkit"]["torch"] == torch.__version__
    assert (document["distributedInfo"]["rank"], document["distributedInfo"]["world_size"]) == (0, 1)
    records = records_of(run)
    assert windows(records) == [(2, 3)]
    [opened] = [record for record in records if isinstance(record, WindowOpened)]
    assert (opened.hook, opened.window, opened.first) == ("pytorch", 0, 2)
    assert Framework("torch", torch.__version__, ()) in records


@pytest.mark.usefixtures("kept")
def test_options_are_torchs(new_run: NewRun, training: Training) -> None:
    hook = type(plugins.load(plugins.HOOKS, "pytorch"))(record_shapes=False, profile_memory=False, with_stack=True)
    with new_run(hooks=[hook]) as run:
        for _ in range(5):
            training.step()
    document = native_file(run)
    assert document["with_stack"] == 1
    assert "record_shapes" not in document
    assert any(event.get("cat") == "python_function" for event in document["traceEvents"])


@pytest.mark.usefixtures("kept")
def test_every_window_has_its_own_file(new_run: NewRun, records_of: RecordsOf, training: Training) -> None:
    with new_run(schedule=profkit.schedule(0, 1, 0, 1, 3)) as run:
        for _ in range(8):
            training.step()
    assert windows(records_of(run)) == [(1, 1), (3, 3), (5, 5)]
    for number in range(3):
        assert native_file(run, number)["traceEvents"]


def test_a_loop_that_ends_inside_a_window_leaves_what_there_was(
    new_run: NewRun, records_of: RecordsOf, training: Training
) -> None:
    with new_run(schedule=profkit.schedule(0, 0, 0, 99)) as run:
        for _ in range(3):
            training.step()
    records = records_of(run)
    assert windows(records) == [(0, 2)]
    assert any("cut short" in note for note in notes(records))


def test_a_loop_that_ends_in_the_warm_up_leaves_no_profiler_behind(
    new_run: NewRun, records_of: RecordsOf, training: Training
) -> None:
    with new_run(schedule=profkit.schedule(0, 0, 50)) as run:
        training.step()
    records = records_of(run)
    assert windows(records) == []
    assert any("lower skip_first" in note for note in notes(records))
    with torch.profiler.profile(activities=[ProfilerActivity.CPU]) as own:
        training.step()
    assert own.events()


def test_an_exception_inside_a_window_keeps_the_window(
    new_run: NewRun, records_of: RecordsOf, training: Training
) -> None:
    with pytest.raises(KeyError), new_run(schedule=profkit.schedule(0, 0, 0, 99)) as run:
        training.step()
        raise KeyError
    assert windows(records_of(run)) == [(0, 0)]


def test_everything_of_torchs_is_put_back(new_run: NewRun, training: Training) -> None:
    before = torch.amp.GradScaler.step, torch.autograd.profiler.profile.__dict__["__exit__"]
    with new_run():
        assert torch.amp.GradScaler.step is not before[0]
        training.step()
    assert (torch.amp.GradScaler.step, torch.autograd.profiler.profile.__dict__["__exit__"]) == before
    assert not _global_optimizer_post_hooks


def test_a_hook_that_fails_halfway_through_its_start_puts_everything_back(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(torch.amp.grad_scaler.GradScaler, "step")
    with pytest.raises(AttributeError), new_run():
        pass
    assert not _global_optimizer_post_hooks


def test_an_unknown_version_of_torchs_profiler_is_noted_and_left_alone(
    new_run: NewRun, records_of: RecordsOf, training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profkit.hooks.pytorch_sessions.WATCHED", ("_prepare_trace", "_gone"))
    with new_run() as run:
        for _ in range(5):
            training.step()
    records = records_of(run)
    assert len(steps(records)) == 5
    assert windows(records) == []
    assert any("has no _gone" in note for note in notes(records))


FULL_DISK = """
import resource, torch, profkit
model = torch.nn.Linear(8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
with profkit.profile("runs", sidecar=False, quiet=True, schedule=profkit.schedule(0, 0, 0, 2)) as run:
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
    for number in range(4):
        model(torch.ones(3, 8)).sum().backward()
        optimizer.step()
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    print(number, *sorted(path.name for path in run.folder.rglob("window*")))
"""


def test_a_full_disk_loses_the_window_says_so_and_leaves_no_rubbish(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    ended = run_python(FULL_DISK)
    assert (ended.returncode, ended.stdout) == (0, "3\n"), ended.stderr
    assert "the window is lost; is the disk full?" in ended.stderr
    records = only_records(tmp_path / "runs")
    assert windows(records) == []
    assert len(steps(records)) == 4


# --- other people's profilers ----------------------------------------------------------------------------------
# In child processes, because torch ends the process where sessions overlap.

PRELUDE = """
import sys, threading, torch, profkit
from torch.profiler import ProfilerActivity, profile, schedule
model = torch.nn.Linear(8, 4)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

def train():
    model(torch.ones(3, 8)).sum().backward()
    optimizer.step()

def theirs(**options):
    return profile(activities=[ProfilerActivity.CPU], **options)

def ours(*plan):
    return profkit.profile("runs", sidecar=False, quiet=True, schedule=profkit.schedule(*plan))

def say(profiler):
    print("theirs:", sum(event.name == "aten::linear" for event in profiler.events()))
"""


def test_a_window_waits_until_another_profiler_has_ended(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    program = """
with ours(1, 0, 1, 2):
    with theirs() as other:
        for _ in range(4):
            train()
    for _ in range(5):
        train()
say(other)
"""
    ended = run_python(PRELUDE + program)
    assert (ended.returncode, ended.stdout) == (0, "theirs: 4\n"), ended.stderr
    records = only_records(tmp_path / "runs")
    assert windows(records) == [(6, 7)]
    assert "another profiler is active: the window is postponed until it ends" in notes(records)


def test_another_profiler_around_everything_means_no_window_and_a_note(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    program = """
with theirs() as other, ours(1, 0, 1, 2):
    for _ in range(6):
        train()
say(other)
"""
    ended = run_python(PRELUDE + program)
    assert (ended.returncode, ended.stdout) == (0, "theirs: 6\n"), ended.stderr
    records = only_records(tmp_path / "runs")
    assert windows(records) == []
    assert any(note.startswith("no window could be recorded") for note in notes(records))


def test_another_profiler_that_only_warms_up_is_left_in_peace(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    program = """
with theirs(schedule=schedule(wait=0, warmup=3, active=2, repeat=1)) as other, ours(0, 0, 0, 1):
    for _ in range(9):
        train()
        other.step()
say(other)
"""
    ended = run_python(PRELUDE + program)
    assert (ended.returncode, ended.stdout) == (0, "theirs: 2\n"), ended.stderr
    [(first, last)] = windows(only_records(tmp_path / "runs"))
    assert first == last
    assert first > 4


@pytest.mark.parametrize("options", ["", "schedule=schedule(wait=0, warmup=1, active=2, repeat=1)"])
def test_a_profiler_that_begins_inside_our_window_ends_it_and_both_have_their_trace(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path, options: str
) -> None:
    program = f"""
with ours(0, 0, 1, 50):
    for _ in range(4):
        train()
    with theirs({options}) as other:
        for _ in range(4):
            train()
            other.step()
    train()
say(other)
"""
    ended = run_python(PRELUDE + program)
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == ("theirs: 2\n" if options else "theirs: 4\n")
    records = only_records(tmp_path / "runs")
    assert windows(records) == [(1, 3)]
    assert "the window was cut short in step 4: another profiler was started" in notes(records)
    assert len(steps(records)) == 9


def test_a_profiler_that_begins_while_ours_warms_up_comes_first(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    program = """
with ours(0, 0, 3, 2):
    train()
    with theirs() as other:
        for _ in range(3):
            train()
    for _ in range(6):
        train()
say(other)
"""
    ended = run_python(PRELUDE + program)
    assert (ended.returncode, ended.stdout) == (0, "theirs: 3\n"), ended.stderr
    [(first, last)] = windows(only_records(tmp_path / "runs"))
    assert (first, last) == (6, 7)


def test_a_profiler_that_begins_in_another_thread_costs_our_window_and_not_the_process(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    program = """
def elsewhere():
    with theirs() as other:
        train()
    say(other)

with ours(0, 0, 0, 4):
    for number in range(6):
        train()
        if number == 1:
            thread = threading.Thread(target=elsewhere)
            thread.start()
            thread.join()
"""
    ended = run_python(PRELUDE + program)
    assert (ended.returncode, ended.stdout) == (0, "theirs: 1\n"), ended.stderr
    records = only_records(tmp_path / "runs")
    assert windows(records) == []
    assert "the window was lost: another profiler was started in another thread" in notes(records)
    assert len(steps(records)) == 6


def test_compiled_code_is_the_same_whole_graph_with_a_run_around_it(
    run_python: RunPython, only_records: Callable[[Path], list[Record]], tmp_path: Path
) -> None:
    """What a compiler traces holds nothing of profkit; the steps are those of the optimizer outside of it."""
    program = """
@torch.compile(backend="eager", fullgraph=True)
@profkit.step
def loss_of(features):
    with profkit.annotate("inner"):
        return model(features).sum()

with ours(1, 0, 0, 2):
    for _ in range(5):
        loss_of(torch.ones(3, 8)).backward()
        optimizer.step()
"""
    ended = run_python(PRELUDE + program)
    assert ended.returncode == 0, ended.stderr
    records = only_records(tmp_path / "runs")
    assert steps(records) == ["optimizer"] * 5
    assert windows(records) == [(1, 2)]
