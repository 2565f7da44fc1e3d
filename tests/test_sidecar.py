"""A real sidecar beside a training that only writes records: it ends when the run does, and finishes it."""

import gzip
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from profkit import plugins, sidecar
from profkit.analysis.report import Report
from profkit.capture import read_capture
from profkit.records import SUFFIX, Note, Sample, Step, Wait, Window
from profkit.sidecar import CURVES, STEPS_PER_TICK, WAITS_COME_LATE_NS, Live
from profkit.system import Sampler
from profkit.tensorboard import TAG
from profkit.trace.model import Run, RunInfo
from profkit.trace.schema import COUNTERS, STEPS
from profkit.trace.store import read_json, read_table, read_trace
from tests.captured import append

LIMIT_S = 30  # for what takes a second; only a failure waits longer

TRAINING = """
import os, socket, subprocess, sys, time
from pathlib import Path
from profkit.recorder import Recorder
from profkit.records import End, LoaderOpened, Start, Step, Wait

folder, ends, pidfd_too = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "pidfd"
host, pid = socket.gethostname(), os.getpid()
recorder = Recorder(folder / "capture" / f"{host}-0-{pid}-00000000.pkrec")
recorder.append(
    Start(pid, 0, 1, host, time.time_ns(), "train.py", "3.11", "0.1.0", (5, 0, 2, 5, 1), {}, pid)
)
read, write = os.pipe()
pidfd = os.pidfd_open(pid) if pidfd_too else -1
with open(folder / "capture" / "sidecar-0.log", "ab") as log:
    sidecar = subprocess.Popen(
        [sys.executable, "-m", "profkit.sidecar", str(folder), str(pid), "0", str(read), str(pidfd)],
        stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd="/", start_new_session=True,
        pass_fds=[fd for fd in (read, pidfd) if fd >= 0],
    )
os.close(read)
if "daemon" in ends and os.fork() == 0:  # forked without exec: it holds the pipe open for as long as it lives
    os.closerange(0, 3)
    time.sleep(60)
    os._exit(0)
print(sidecar.pid, flush=True)
for number in range(20):
    now = time.time_ns()
    recorder.append(Wait(0, now, 1_000_000, number == 0))
    recorder.append(Step(number, now, now + 4_000_000, "marker"))
sys.stdin.readline()
recorder.append(End("finished", time.time_ns()))
os.close(write)
print(sidecar.wait())
"""


class Training:
    """A process with the sidecar it has spawned."""

    def __init__(self, folder: Path, ends: str = "", watch: str = "pidfd") -> None:
        (folder / "capture").mkdir(parents=True)
        self.folder = folder
        self.process = subprocess.Popen(
            [sys.executable, "-c", TRAINING, str(folder), ends, watch],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.sidecar = psutil.Process(int(self.process.stdout.readline()))
        self.sidecar_ended = os.pidfd_open(self.sidecar.pid)

    def leave(self) -> int:
        """End in the proper way, and reap the sidecar. Returns its exit code."""
        output, _ = self.process.communicate("leave\n", timeout=LIMIT_S)
        return int(output)

    def die(self) -> None:
        self.process.kill()
        self.process.communicate()

    def wait_for_sidecar(self) -> None:
        assert select.select([self.sidecar_ended], [], [], LIMIT_S)[0], self.log()

    def wait_until(self, true: Callable[[], bool]) -> None:
        until = time.monotonic() + LIMIT_S
        while not true():
            assert time.monotonic() < until, self.log()
            time.sleep(0.02)

    def wait_for_samples(self, count: int = 1) -> None:
        self.wait_until(lambda: len(read_capture(self.folder / "capture").samples) >= count)

    def wait_for_ticks(self) -> None:
        """Until the sidecar has worked again."""
        before = self.sidecar.num_ctx_switches().voluntary
        self.wait_until(lambda: self.sidecar.num_ctx_switches().voluntary > before + 1)

    def capture(self) -> Path:
        """The file the training appends to."""
        return next((self.folder / "capture").glob(f"*-00000000{SUFFIX}"))

    def info(self) -> RunInfo:
        return read_json(self.folder / "run" / "rank=0.json", RunInfo)

    def log(self) -> str:
        return (self.folder / "capture" / "sidecar-0.log").read_text()

    def close(self) -> None:
        for process in [self.sidecar, *psutil.Process().children(recursive=True)]:
            if process.is_running():
                process.kill()
        self.process.communicate()
        os.close(self.sidecar_ended)


Begin = Callable[..., Training]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Begins a training; whatever is left of it at the end is killed."""
    trainings: list[Training] = []

    def begin(*arguments: str) -> Training:
        trainings.append(Training(tmp_path / "run" / "plugins" / "profkit", *arguments))
        return trainings[-1]

    yield begin
    for training in trainings:
        training.close()


def pages(run_folder: Path) -> list[dict[str, Any]]:
    """What the live event file holds for profkit's tab, oldest first."""
    accumulator: Any = EventAccumulator  # tensorboard ships no types
    events = accumulator(str(run_folder), size_guidance={"tensors": 0}).Reload()
    if TAG not in events.Tags()["tensors"]:
        return []
    return [json.loads(gzip.decompress(event.tensor_proto.string_val[0])) for event in events.Tensors(TAG)]


def test_the_page_of_a_running_training_is_there_after_some_seconds(begin: Begin) -> None:
    training = begin()
    run_folder = training.folder.parents[1]
    training.wait_until(lambda: bool(pages(run_folder)))
    [page] = pages(run_folder)
    assert (page["report"]["state"], page["report"]["steps"]) == ("running", 20)
    assert page["steps"]["number"] == list(range(20))
    assert training.leave() == 0


def test_a_report_takes_at_most_its_share_of_the_sidecars_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = [0.0]
    monkeypatch.setattr("profkit.sidecar.time.monotonic", lambda: now[0])
    (tmp_path / "capture").mkdir()
    follower = sidecar.Sidecar(tmp_path, os.getpid(), 0)
    asked: list[float] = []

    def report() -> None:
        asked.append(now[0])
        now[0] += 0.4  # what it takes

    monkeypatch.setattr(Live, "is_open", True)
    monkeypatch.setattr(follower._live, "report", report)
    while now[0] < 100:
        follower._report()
        now[0] += 0.5
    assert asked[0] == pytest.approx(sidecar.REPORT_EVERY_S)
    assert all(later - sooner >= 0.4 / sidecar.REPORT_SHARE for sooner, later in pairwise(asked))
    assert len(asked) > 3
    follower._recorder.close()


def test_leaving_the_run_ends_the_sidecar_and_finishes_the_run(begin: Begin) -> None:
    training = begin()
    training.wait_for_samples(2)
    assert training.leave() == 0
    assert not training.sidecar.is_running()
    assert training.info().ended == "finished"
    assert read_table(training.folder / "steps" / "rank=0.parquet", STEPS)["number"].max() == 19
    counters = read_table(training.folder / "counters" / "rank=0.parquet", COUNTERS)
    assert {"cpu_percent", "resident_memory_bytes"} <= set(counters["name"].to_list())
    assert training.log() == ""


@pytest.mark.parametrize("watch", ["pidfd", "sampler"])
def test_a_training_that_is_killed_is_finished_by_its_sidecar(begin: Begin, watch: str) -> None:
    training = begin("", watch)
    training.wait_for_samples()
    training.die()
    training.wait_for_sidecar()
    assert training.info().ended == "without notice"
    assert read_table(training.folder / "steps" / "rank=0.parquet", STEPS).height == 20


@pytest.mark.parametrize("watch", ["pidfd", "sampler"])
def test_a_forked_daemon_that_holds_the_pipe_open_does_not_keep_the_sidecar(begin: Begin, watch: str) -> None:
    training = begin("daemon", watch)
    training.wait_for_samples()
    (daemon,) = (p for p in psutil.Process(training.process.pid).children() if p != training.sidecar)
    try:
        training.die()
        training.wait_for_sidecar()
        assert daemon.is_running()
        assert training.info().ended == "without notice"
    finally:
        daemon.kill()


def test_neither_ctrl_c_nor_a_closed_terminal_ends_the_sidecar(begin: Begin) -> None:
    training = begin()
    training.wait_for_samples()
    for number in (signal.SIGINT, signal.SIGHUP):
        training.sidecar.send_signal(number)
    seen = len(read_capture(training.folder / "capture").samples)
    training.wait_for_samples(seen + 1)
    training.leave()
    assert training.info().ended == "finished"


def test_the_sidecar_is_modest_and_does_not_count_itself(begin: Begin) -> None:
    training = begin()
    training.wait_for_samples()
    assert training.sidecar.nice() == 19
    assert training.sidecar.ionice().ioclass == psutil.IOPRIO_CLASS_IDLE
    autogroup = Path(f"/proc/{training.sidecar.pid}/autogroup")
    assert not autogroup.exists() or autogroup.read_text().split()[-1] == "19"
    assert os.getsid(training.sidecar.pid) != os.getsid(0)
    assert all(s.values["processes"] == 1 for s in read_capture(training.folder / "capture").samples)


def test_modesty_ends_with_the_training() -> None:
    if not Path("/proc/self/autogroup").exists():
        pytest.skip("this kernel has no autogroups")
    code = (
        "from pathlib import Path\n"
        "from profkit.sidecar import be_modest, be_quick\n"
        "for become in (be_modest, be_quick): become(); print(Path('/proc/self/autogroup').read_text().split()[-1])"
    )
    levels = subprocess.run(
        [sys.executable, "-c", code], start_new_session=True, capture_output=True, text=True, check=True
    )
    assert levels.stdout.split() == ["19", "0"]


def test_a_window_becomes_a_trace_while_the_training_goes_on(begin: Begin) -> None:
    training = begin()
    training.wait_for_samples()
    event = {"ph": "X", "cat": "cpu_op", "name": "aten::mm", "pid": 1, "tid": 1, "ts": 1.0, "dur": 2.0}
    native = training.folder / "capture" / "window-0-rank-0.pt.trace.json"
    native.write_bytes(msgspec.json.encode({"traceEvents": [event]}))
    append(training.capture(), Window("pytorch", 0, 2, 4, native.name, "kineto", 0))
    trace = training.folder / "trace" / "window=0" / "rank=0"
    training.wait_until(trace.exists)
    assert read_trace(trace).spans["name"].to_list() == ["aten::mm"]
    assert native.exists()
    training.leave()
    assert not native.exists()
    assert not [note for note in training.info().notes if "window" in note]


def test_a_sidecar_that_has_nothing_to_convert_does_not_load_polars(begin: Begin) -> None:
    training = begin()
    training.wait_for_samples(2)
    mapped = {Path(region.path).name for region in training.sidecar.memory_maps()}
    assert not [name for name in mapped if "polars" in name]


def test_a_disk_that_is_full_ends_no_sidecar_and_the_training_learns_that_nothing_is_in_place(
    begin: Begin,
) -> None:
    training = begin()
    training.wait_for_samples()
    # To a process, no byte allowed in any file is the same as none left on the disk.
    psutil.Process(training.sidecar.pid).rlimit(psutil.RLIMIT_FSIZE, (0, 0))
    training.wait_for_ticks()
    assert training.sidecar.is_running()
    assert training.leave() == 1
    assert not (training.folder / "finalised" / "rank=0.json").exists()


def test_a_folder_that_vanishes_ends_no_sidecar_before_its_time(begin: Begin) -> None:
    training = begin()
    training.wait_for_samples()
    shutil.rmtree(training.folder)
    training.wait_for_ticks()
    assert training.sidecar.is_running()
    assert training.leave() == 1


def test_what_fails_in_a_tick_becomes_a_note_of_the_run(begin: Begin) -> None:
    training = begin()
    training.wait_for_samples()
    capture = training.capture()
    hidden = capture.rename(capture.with_suffix(".hidden"))
    training.wait_until(lambda: bool(read_capture(training.folder / "capture").notes))
    hidden.rename(capture)
    training.leave()
    assert any("FileNotFoundError" in note for note in training.info().notes)
    assert training.info().ended == "finished"


def test_a_tick_under_way_when_the_run_ends_is_hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    hurried = threading.Event()
    monkeypatch.setattr(sidecar, "be_quick", hurried.set)
    read, write = os.pipe()

    class Busy:
        training_is_gone = False

        def tick(self) -> None:
            os.close(write)  # the run ends now
            assert hurried.wait(LIMIT_S)

    sidecar.follow(Busy(), [read])  # type: ignore[arg-type]  # all that is asked of it is to tick
    os.close(read)


class RecordingSink:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.opened: tuple[Path, int] | None = None
        self.scalars: list[tuple[str, float, int, int]] = []
        self.flushed = self.closed = 0

    def open(self, folder: Path, rank: int) -> None:
        self.opened = (folder, rank)

    def scalar(self, name: str, value: float, step: int, time_ns: int) -> None:
        self.scalars.append((name, value, step, time_ns))

    def report(self, run: Run, report: Report) -> None:
        self.reported = report

    def flush(self) -> None:
        self.flushed += 1

    def close(self) -> None:
        self.closed += 1


@pytest.fixture
def sink(monkeypatch: pytest.MonkeyPatch) -> RecordingSink:
    sink = RecordingSink()
    monkeypatch.setattr(plugins, "load_all", lambda group: {"recording": sink} if group == plugins.SINKS else {})
    return sink


def test_each_step_is_drawn_with_its_time_its_wait_and_their_ratio(sink: RecordingSink, tmp_path: Path) -> None:
    live = Live(tmp_path, rank=3)
    live.steps([Wait(0, 0, 9_000_000, True), Wait(0, 0, 2_000_000, False)])
    live.steps([Wait(0, 0, 3_000_000, False), Step(4, 0, 20_000_000, "marker"), Step(5, 20_000_000, 30_000_000, "x")])
    live.steps([Step(6, 30_000_000, 40_000_000 + WAITS_COME_LATE_NS, "x")])
    assert sink.scalars[:2] == [("profkit/step_time_ms", 20, 4, 20_000_000), ("profkit/data_wait_ms", 5, 4, 20_000_000)]
    live.flush()
    live.close()
    assert sink.scalars[:6] == [
        ("profkit/step_time_ms", 20, 4, 20_000_000),
        ("profkit/data_wait_ms", 5, 4, 20_000_000),
        ("profkit/stall_percent", 25, 4, 20_000_000),
        ("profkit/step_time_ms", 10, 5, 30_000_000),
        ("profkit/data_wait_ms", 0, 5, 30_000_000),
        ("profkit/stall_percent", 0, 5, 30_000_000),
    ]
    assert (sink.opened, sink.flushed, sink.closed) == ((tmp_path, 3), 1, 1)


def test_waits_that_are_read_after_their_steps_are_drawn_with_them(sink: RecordingSink, tmp_path: Path) -> None:
    live = Live(tmp_path, rank=0)
    live.steps([Step(0, 0, 10, "callback"), Step(1, 10, 20, "callback")])
    live.steps([Wait(0, 1, 4, False), Wait(0, 11, 3, False), Step(2, 20, 30, "callback")])
    live.close()
    waits = [(step, value * 1e6) for name, value, step, _ in sink.scalars if name == "profkit/data_wait_ms"]
    assert waits == [(0, 4), (1, 3), (2, 0)]


def test_system_counters_are_drawn_at_the_step_the_training_is_at(sink: RecordingSink, tmp_path: Path) -> None:
    live = Live(tmp_path, rank=0)
    live.steps([Step(41, 0, 1, "marker")])
    live.system(Sample(7, {"cpu_percent": 80.0, "resident_memory_bytes": 3e6, "something_else": 1.0}))
    assert sink.scalars == [
        ("profkit/system/cpu_percent", 80, 41, 7),
        ("profkit/system/resident_memory_mb", 3, 41, 7),
    ]


def test_every_curve_is_fed_by_a_counter_that_exists() -> None:
    sampler = Sampler(os.getpid())
    assert set(CURVES) <= set(sampler.sample()) | set(sampler.sample())


@pytest.mark.parametrize("count", [STEPS_PER_TICK, STEPS_PER_TICK + 1, 5 * STEPS_PER_TICK])
def test_a_tick_draws_a_bounded_number_of_steps(sink: RecordingSink, tmp_path: Path, count: int) -> None:
    live = Live(tmp_path, rank=0)
    live.steps([Step(number, number, number + 1, "marker") for number in range(count)])
    live.close()
    drawn = sorted({step for _, _, step, _ in sink.scalars})
    assert STEPS_PER_TICK / 2 <= len(drawn) <= STEPS_PER_TICK
    assert drawn[0] == 0
    assert count - drawn[-1] <= 5


def test_nothing_is_opened_before_there_is_something_to_draw(sink: RecordingSink, tmp_path: Path) -> None:
    live = Live(tmp_path, rank=0)
    live.steps([Note("nothing to draw", 0)])
    live.flush()
    live.close()
    assert (sink.opened, sink.flushed, sink.closed) == (None, 0, 0)
