"""What a sidecar that converts windows takes from a training with a thread on every core.

    python -m benchmarks.sidecar_share [--quick]

The worst case, without end: a process with the sidecar's priority turns the same window into a trace over and over.
Blocks of steps come in threes, in random order: without it, beside it, and without it again, for control.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import nn

from benchmarks.measuring import ONE_THREAD, ROOT, in_fresh_process
from benchmarks.outcome import Outcome, Table, Target, outcome_text
from benchmarks.recording import Paired
from profkit.finalise import convert_window
from profkit.records import Window
from profkit.runfolder import RankFolder
from profkit.sidecar import be_modest

ROUNDS, QUICK_ROUNDS = 40, 4
BLOCK_S = 0.7
WINDOW_STEPS = 60
LIMIT = 0.05
NATIVE = Window("pytorch", 0, 0, WINDOW_STEPS - 1, "window-0-rank-0.pt.trace.json", "kineto", 0)

Step = Callable[[], None]


def run(quick: bool) -> Outcome:
    """Slowdown of the steps beside a converting sidecar, and of the control."""
    rounds = QUICK_ROUNDS if quick else ROUNDS
    seen = in_fresh_process("sidecar_share", "measure", str(rounds), one_thread=False)
    without, beside, again = (seen[name] for name in BLOCKS)
    paired = Paired.of(
        [b / a for a, b in zip(without, beside, strict=True)], [b / a for a, b in zip(without, again, strict=True)]
    )
    rows = [["", "step ms", "beside / without (95 %)", "without / without (95 %)"]]
    rows.append(["mean step of a block", f"{min(without) * 1e3:.2f}", *paired.cells(3)])
    title = f"a training with {seen['threads']} threads on {os.cpu_count()} cores beside a sidecar that converts"
    notes = [f"{rounds} rounds of {BLOCK_S} s each; conversions in the meantime: {seen['conversions']}"]
    return Outcome("sidecar", [Table(title, rows, notes)], [_target(paired)], seen)


def _target(paired: Paired) -> Target:
    low, middle, high = (bound - paired.control for bound in (paired.low, paired.median, paired.high))
    met = True if high <= LIMIT else False if low > LIMIT else None
    seen = f"{middle:+.3f} (95 % {low:+.3f} to {high:+.3f})"
    return Target(f"slowdown beside a converting sidecar, less the control's, at most {LIMIT}", seen, met)


BLOCKS = ("without", "beside", "without again")


def measure(rounds: int) -> dict[str, object]:
    """Mean step of each block, in seconds, by kind of block; the first round only warms up."""
    step = training()
    shuffled = random.Random(0)
    blocks: dict[str, list[float]] = {name: [] for name in BLOCKS}
    with TemporaryDirectory() as folder, converting(Path(folder), step) as converter:
        for _ in range(rounds + 1):
            for name in shuffled.sample(BLOCKS, len(BLOCKS)):
                converter.send_signal(signal.SIGCONT if name == "beside" else signal.SIGSTOP)
                blocks[name].append(mean_step_s(step))
        conversions = (Path(folder) / "conversions").stat().st_size
    measured = {name: values[1:] for name, values in blocks.items()}
    return {**measured, "conversions": conversions, "threads": torch.get_num_threads()}


def training() -> Step:
    """A step whose operators use all threads."""
    torch.set_num_threads(os.cpu_count() or 1)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 512))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4)
    rows = torch.randn(128, 512)

    def step() -> None:
        optimizer.zero_grad()
        model(rows).pow(2).mean().backward()
        optimizer.step()

    return step


def mean_step_s(step: Step) -> float:
    """Mean duration of the steps of one block."""
    begin, count = time.perf_counter(), 0
    while (passed := time.perf_counter() - begin) < BLOCK_S:
        step()
        count += 1
    return passed / count


@contextmanager
def converting(folder: Path, step: Step) -> Iterator[subprocess.Popen[bytes]]:
    """A process that converts a window of this training for ever; it has done so once when the block begins."""
    (folder / "capture").mkdir()
    with torch.profiler.profile(record_shapes=True, profile_memory=True) as profiler:
        for _ in range(WINDOW_STEPS):
            step()
    profiler.export_chrome_trace(str(folder / "capture" / NATIVE.path))
    converter = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.sidecar_share", "convert", str(folder)],
        cwd=ROOT,
        env=os.environ | ONE_THREAD,
        start_new_session=True,
    )
    try:
        while not (folder / "conversions").exists():
            assert converter.poll() is None, "the converter ended"
            time.sleep(0.1)
        yield converter
    finally:
        converter.kill()
        converter.wait()


def convert(folder: Path) -> None:
    """What a sidecar does with a window, for ever; a byte is written for each time."""
    be_modest()
    while True:
        convert_window(RankFolder(folder, 0), [NATIVE], None)
        with (folder / "conversions").open("ab") as done:
            done.write(b".")


def main(arguments: list[str]) -> None:
    """Measure and print; the other two are what it runs in processes of their own."""
    match arguments:
        case ["measure", rounds]:
            print(json.dumps(measure(int(rounds))))
        case ["convert", folder]:
            convert(Path(folder))
        case _:
            print(outcome_text(run("--quick" in arguments)))


if __name__ == "__main__":
    main(sys.argv[1:])
