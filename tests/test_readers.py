"""The contract of every reader: the same recording in every format becomes the same trace, and damage one sentence."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from profkit import plugins
from profkit.analysis.summary import report
from profkit.errors import ProfkitError, UnreadableTrace
from profkit.plugins import Reader
from profkit.trace.batch import ReadContext
from profkit.trace.load import load
from tests import traces
from tests.spaces import Space

NAMES = plugins.names(plugins.READERS)
each_reader = pytest.mark.parametrize("name", NAMES)
US = 1_000_000  # picoseconds


def kineto(folder: Path) -> Path:
    """Two steps of 100 µs: 20 µs of waiting, 30 µs of a convolution, and an allocation inside it."""
    events = []
    for number, at in enumerate((0, 100)):
        events += [
            traces.step(number, at, 100), traces.wait(at + 5, 20), traces.op("aten::conv2d", at + 40, 30),
            traces.allocation(at + 50, 4096, 64 + number, 4096 * (number + 1)),
        ]  # fmt: skip
    return traces.written(folder, events)


def xplane(folder: Path) -> Path:
    """The same."""
    space = Space()
    for number, at in enumerate((0, 100)):
        space.event("train", at * US, 100 * US, step_num=number, _r=1)
        space.event("IteratorGetNextOp::DoCompute", (at + 5) * US, 20 * US, "tf_data_iterator_get_next/1")
        space.event("model/conv:Conv2D", (at + 40) * US, 30 * US, "tf_Compute/2")
        space.event(
            "MemoryAllocation", (at + 50) * US, 0, "tf_Compute/2",
            allocator_name="cpu", allocation_bytes=4096, addr=64 + number, bytes_allocated=4096 * (number + 1),
        )  # fmt: skip
    path = folder / "made.xplane.pb"
    path.write_bytes(space.message.SerializeToString())
    return path


MADE: dict[str, Callable[[Path], Path]] = {"kineto": kineto, "xplane": xplane}


def reader(name: str) -> Reader:
    loaded: Reader = plugins.load(plugins.READERS, name)
    return loaded


@pytest.fixture
def file(name: str, tmp_path: Path) -> Path:
    return MADE[name](tmp_path)


def test_every_reader_has_a_recording_here() -> None:
    assert sorted(MADE) == NAMES


@each_reader
def test_a_reader_keeps_to_the_protocol(name: str) -> None:
    assert isinstance(reader(name), Reader)


@each_reader
def test_it_recognises_its_own_files_and_no_others(name: str, file: Path) -> None:
    head = file.read_bytes()[:4096]
    claims = {other: reader(other).recognises(Path("download"), head) for other in NAMES}
    assert claims == {other: other == name for other in NAMES}


@each_reader
def test_batches_come_with_tracks_and_header_in_the_last_one(name: str, file: Path) -> None:
    *earlier, last = reader(name).read(file, ReadContext())
    assert last.header is not None
    assert all(batch.header is None and not batch.tracks for batch in earlier)
    tables = [batch.spans for batch in (*earlier, last) if batch.spans.height]
    assert max(int(table["track"].max()) for table in tables) < len(last.tracks)  # type: ignore[arg-type]
    assert {table["start_ns"].dtype for table in tables} == {pl.Int64}


@each_reader
@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
def test_the_same_recording_becomes_the_same_report(name: str, packed: bool, file: Path) -> None:
    if packed:
        file.write_bytes(gzip.compress(file.read_bytes()))
    found = report(load(file))
    assert [step.number for step in found.window_steps] == [0, 1]
    assert [step.duration_ns for step in found.window_steps] == [100_000, 100_000]
    assert [step.wait_ns for step in found.window_steps] == [20_000, 20_000]
    assert found.breakdown_ns["compute"] == 30_000
    assert found.breakdown_ns["data_wait"] == 20_000
    [operator] = [o for o in found.operators if o.kind == "op"]
    assert (operator.op_class, operator.calls, operator.total_ns) == ("conv", 2, 60_000)
    assert found.memory.peak_bytes == 8192
    assert found.findings[0].cause == "input_bound"


@each_reader
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60, deadline=None)
@given(data=st.data())
def test_damage_is_read_as_far_as_it_goes_or_refused_in_one_sentence(
    name: str, tmp_path: Path, data: st.DataObject
) -> None:
    content = bytearray(MADE[name](tmp_path).read_bytes())
    for place in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=3)):
        content[place] = data.draw(st.integers(0, 255))
    damaged = tmp_path / f"damaged{''.join(MADE[name](tmp_path).suffixes)}"
    damaged.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        report(load(damaged))
    except ProfkitError as refused:
        assert isinstance(refused, UnreadableTrace)
        assert len(str(refused).splitlines()) == 1
