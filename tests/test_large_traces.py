"""A file too large for memory is read as several traces, which say the same as one would."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl
import pytest

from profkit.analysis.report import Report
from profkit.analysis.summary import report
from profkit.readers.kineto import KinetoReader
from profkit.trace.batch import Batch, ReadContext
from profkit.trace.load import load, run_of
from profkit.trace.model import Run, Trace
from profkit.trace.sections import sections
from tests.corpus import CORPUS, TRACE_DIFF, needs_corpus
from tests.repeated import write_repeated
from tests.traces import Event, allocation, kernel, launch, op, span, step, wait, written

STEPS, STEP_US = 12, 100


def events() -> list[Event]:
    """Steps that wait, compute, launch and allocate, inside a function that runs all the time."""
    found: list[Event] = [span("train.py(1): main", "python_function", -5, STEPS * STEP_US + 10)]
    for number in range(STEPS):
        at = number * STEP_US
        found += [
            step(number, at, STEP_US - 1),
            wait(at + 1, 10 + number),
            op("aten::linear", at + 40, 20, args={"Input Dims": [[number % 3, 2]], "Input type": ["float"]}),
            op("aten::addmm", at + 42, 10),
            launch(number + 1, at + 43, 4),
            kernel("gemm", number + 1, at + 50, 30),
            allocation(at + 45, 1_000 * (number + 1), 64 * (number + 1), 1_000 * (number + 1)),
        ]
    return found


def opened(path: Path, most_spans: int, pieces: int = 1) -> list[Trace]:
    """The traces of a file whose events come in this many batches, each with some of every time."""
    read = KinetoReader().read(path, ReadContext())
    batches = [part for batch in read for part in dealt(batch, pieces)]
    return [open_trace() for open_trace in sections(batches, ReadContext(), "kineto", "0", most_spans)]


def dealt(batch: Batch, pieces: int) -> list[Batch]:
    """A batch as several; the last one of them has no event, as a file's may."""
    tables = [(batch.spans[n::pieces], batch.memory[n::pieces], batch.flows[n::pieces]) for n in range(pieces)]
    nothing = replace(batch, spans=batch.spans[:0], memory=batch.memory[:0], flows=batch.flows[:0])
    return [*(Batch(*each, counts={}, dropped={}) for each in tables), nothing]


def run_in_sections(traces_: list[Trace]) -> Run:
    return replace(run_of(traces_[0], "made"), open_traces=[partial(_itself, trace) for trace in traces_])


def _itself(trace: Trace) -> Trace:
    return trace


def per_name(found: Report) -> dict[str, tuple[int, int, int]]:
    return {row.name: (row.calls, row.self_ns, row.device_ns) for row in found.operators}


def test_a_file_that_fits_is_one_trace(tmp_path: Path) -> None:
    path = written(tmp_path, events())
    (only,) = opened(path, most_spans=1_000, pieces=3)
    assert only.spans.height == load(path).traces[0].spans.height


@pytest.mark.parametrize("pieces", [1, 4, 40])
@pytest.mark.parametrize("most_spans", [7, 20, 40])
def test_sections_say_of_every_step_what_the_whole_says(most_spans: int, pieces: int, tmp_path: Path) -> None:
    path = written(tmp_path, events())
    whole, parts = report(load(path)), opened(path, most_spans, pieces)
    found = report(run_in_sections(parts))
    assert len(parts) > 1
    assert max(part.spans.height for part in parts) <= most_spans + 1  # what goes on from the section before
    assert found.window_steps == whole.window_steps
    assert per_name(found) == per_name(whole)
    assert [(row.name, row.calls, row.total_ns) for row in found.kernels] == [("gemm", STEPS, STEPS * 30_000)]
    assert found.operator_classes == whole.operator_classes
    assert (found.stall_share, found.wait, found.step_time_ns) == (whole.stall_share, whole.wait, whole.step_time_ns)
    assert found.memory.peak_bytes == whole.memory.peak_bytes == 1_000 * STEPS
    assert found.memory.devices[0].steps == whole.memory.devices[0].steps
    assert found.memory.devices[0].curve == whole.memory.devices[0].curve
    counts = ("events", "kernels", "memory", "steps")
    assert [found.counts[name] for name in counts] == [whole.counts[name] for name in counts]


def test_the_order_of_the_file_does_not_matter(tmp_path: Path) -> None:
    shuffled = events()
    random.Random(3).shuffle(shuffled)
    first = report(run_in_sections(opened(written(tmp_path, events()), 20, 5)))
    second = report(run_in_sections(opened(written(tmp_path, shuffled), 20, 5)))
    assert first.window_steps == second.window_steps
    assert per_name(first) == per_name(second)


def test_what_is_open_where_a_section_ends_is_continued_in_the_next(tmp_path: Path) -> None:
    parts = opened(written(tmp_path, events()), 20)
    mains = [part.spans.filter(pl.col("category") == "python_function") for part in parts]
    assert all(main.height == 1 for main in mains)
    assert sum(int(main["duration_ns"].sum()) for main in mains) == (STEPS * STEP_US + 10) * 1_000
    ends = [int((main["start_ns"] + main["duration_ns"])[0]) for main in mains]
    assert ends[:-1] == [int(main["start_ns"][0]) for main in mains[1:]]
    assert [part.info.window for part in parts] == list(range(len(parts)))


def test_without_steps_sections_end_anywhere_and_no_time_is_lost(tmp_path: Path) -> None:
    made = [op("aten::mm", n * 10, 10) for n in range(200)]
    parts = opened(written(tmp_path, made), 50, 4)
    assert len(parts) >= 4
    assert max(part.spans.height for part in parts) <= 51
    assert sum(int(part.spans["duration_ns"].sum()) for part in parts) == 200 * 10_000


def test_one_step_is_never_divided(tmp_path: Path) -> None:
    made = [step(0, 0, 5_000), *(op("aten::mm", n * 10, 5) for n in range(400)), step(1, 5_000, 50)]
    parts = opened(written(tmp_path, made), 50)
    assert [part.info.counts["steps"] for part in parts] == [1, 1]


def test_a_section_can_be_opened_again_and_the_folder_goes_with_the_last_one(tmp_path: Path) -> None:
    batches = list(KinetoReader().read(written(tmp_path, events()), ReadContext()))
    openers = sections(batches, ReadContext(), "kineto", "0", 20)
    assert openers[1]().spans.equals(openers[1]().spans)
    home = openers[0].func.__self__._home  # type: ignore[attr-defined]
    assert home.is_dir()
    del openers
    assert not home.exists()


PEAK = """
import sys
from pathlib import Path
from profkit.analysis.summary import report
from profkit.trace.load import load
from profkit.trace.store import write_trace
run = load(sys.argv[1])
assert len(run.open_traces) == int(sys.argv[2]), len(run.open_traces)
found = report(run)
for number, trace in enumerate(run.each_trace()):
    write_trace(trace, Path(sys.argv[3], str(number)))
status = Path("/proc/self/status").read_text()
print(int(status.split("VmHWM:")[1].split()[0]) * 1024, found.counts["events"], found.steps)
"""


@needs_corpus
def test_a_larger_file_takes_no_more_memory(tmp_path: Path) -> None:
    peaks = {}
    for megabytes, traces_ in ((330, 2), (660, 4)):
        path = tmp_path / f"{megabytes}.json"
        repeats = write_repeated(CORPUS / TRACE_DIFF, path, megabytes * 1_000_000)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, str(path), str(traces_), str(tmp_path / "tables")],
            capture_output=True,
            text=True,
            check=True,
        )
        path.unlink()
        peak, seen, steps = map(int, done.stdout.split())
        peaks[megabytes] = peak
        assert (seen, steps) == (repeats * 105_167, repeats * 6)
    assert peaks[660] < peaks[330] * 1.2
    assert peaks[660] < 500e6
