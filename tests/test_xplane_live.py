"""Files that TensorFlow's profiler writes today, at every level, are read right, without TensorFlow."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path

import polars as pl
import pytest

from profkit.readers.xplane_messages import XSpace
from profkit.trace.load import load
from profkit.trace.model import Trace
from tests.tensorflow_files import KERAS_STEPS, RECORDINGS, STEPS

ROOT = Path(__file__).parents[1]
WITH_OPERATORS = ("level2", "level3", "python")


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The file of each recording."""
    folder = tmp_path_factory.mktemp("tensorflow")
    done = subprocess.run(
        [sys.executable, "-m", "tests.tensorflow_files", str(folder)], cwd=ROOT, capture_output=True, text=True
    )
    assert not done.returncode, done.stderr
    return lambda name: next((folder / name).rglob("*.xplane.pb"))


@pytest.fixture(scope="module")
def traced(recorded: Callable[[str], Path]) -> Callable[[str], Trace]:
    """The trace of each recording."""
    return cache(lambda name: load(recorded(name)).traces[0])


def names(trace: Trace, category: str) -> Counter[str]:
    return Counter(trace.spans.filter(pl.col("category") == category)["name"].to_list())


def steps(trace: Trace) -> list[str]:
    return trace.spans.filter(pl.col("kind") == "step")["name"].to_list()


@pytest.mark.parametrize("name", [*RECORDINGS, "keras"])
def test_every_event_is_a_row_or_counted_as_bookkeeping(
    name: str, recorded: Callable[[str], Path], traced: Callable[[str], Trace]
) -> None:
    space = XSpace.FromString(recorded(name).read_bytes())
    trace, counts = traced(name), traced(name).info.counts
    assert counts["events"] == sum(len(line.events) for plane in space.planes for line in plane.lines)
    assert counts["events"] == counts["bookkeeping"] + trace.spans.height + trace.memory.height
    assert counts["bookkeeping"] > 0
    assert trace.info.frameworks == {"tensorflow": ""}


@pytest.mark.parametrize("name", RECORDINGS)
def test_marked_steps_are_read_at_every_level(name: str, traced: Callable[[str], Trace]) -> None:
    host, python = RECORDINGS[name]
    assert steps(traced(name)) == [f"ProfilerStep#{number}" for number in range(STEPS)]
    native = traced(name).info.native
    assert (native["host_tracer_level"], native["python_tracer_level"]) == (host, python)


def test_steps_of_keras_own_callback_are_read(traced: Callable[[str], Trace]) -> None:
    first, last = KERAS_STEPS  # which count from 1, and the markers from 0
    assert steps(traced("keras")) == [f"ProfilerStep#{number - 1}" for number in range(first, last + 1)]


@pytest.mark.parametrize("name", WITH_OPERATORS)
def test_operators_are_named_by_their_types(name: str, traced: Callable[[str], Trace]) -> None:
    operators = traced(name).spans.filter(pl.col("category") == "tf_op")
    convolutions = operators.filter(pl.col("name").cast(pl.String).str.contains("FusedConv2D"))
    assert convolutions.height == STEPS  # oneDNN has names of its own
    assert all("conv2d" in scope for scope in convolutions["module"])
    assert operators["module"].null_count() == 0


@pytest.mark.parametrize("name", [*WITH_OPERATORS, "keras"])
def test_each_step_has_its_wait_and_the_input_its_stages(name: str, traced: Callable[[str], Trace]) -> None:
    trace = traced(name)
    assert names(trace, "tf_data_wait") == {"IteratorGetNextOp::DoCompute": STEPS}
    stages = trace.spans.filter(pl.col("name").cast(pl.String).str.starts_with("Iterator::"))
    args = [json.loads(text) for text in stages["args"]]
    ids = {own["id"] for own in args}
    assert ids
    assert all(own["parent_id"] in ids for own in args if "parent_id" in own)
    assert "TensorSliceDataset:0" in {own["name"] for own in args}


def test_python_frames_are_read_where_they_were_traced(traced: Callable[[str], Trace]) -> None:
    frames = names(traced("python"), "python")
    assert any(re.fullmatch(r"polymorphic_function\.py:\d+ __call__", frame) for frame in frames)
    assert not names(traced("level2"), "python")


@pytest.mark.parametrize("name", WITH_OPERATORS)
def test_allocations_are_memory(name: str, recorded: Callable[[str], Path], traced: Callable[[str], Trace]) -> None:
    [plane] = [p for p in XSpace.FromString(recorded(name).read_bytes()).planes if p.name == "/host:CPU"]
    key = {metadata.name: key for key, metadata in plane.event_metadata.items()}
    events = Counter(event.metadata_id for line in plane.lines for event in line.events)
    memory = traced(name).memory
    signs = Counter((memory["bytes"] > 0).to_list())
    assert signs == {True: events[key["MemoryAllocation"]], False: events[key["MemoryDeallocation"]]}
    assert signs[True] > 0
    assert memory["device"].unique().to_list() == ["cpu"]
    native = traced(name).info.native
    assert native["cpu allocator"] == "mklcpu"
    assert int(str(native["cpu peak_bytes_in_use"])) >= int(str(memory["allocated_bytes"].max()))


def test_reading_needs_no_tensorflow(
    recorded: Callable[[str], Path], run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    code = (
        "import sys; sys.modules |= dict.fromkeys(('tensorflow', 'keras', 'jax', 'xprof'))\n"  # importing them raises
        "from profkit.analysis.summary import report; from profkit.trace.load import load\n"
        "print(report(load(sys.argv[1])).steps)"
    )
    done = run_python(code, str(recorded("level3")))
    assert (done.stdout, done.stderr) == (f"{STEPS}\n", "")
