"""Two profilers' files of a window become one trace: one timeline, steps once, nothing of one taken for the other's."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from profkit.analysis.breakdown import breakdown
from profkit.errors import UnreadableTrace
from profkit.trace.batch import ReadContext
from profkit.trace.load import read_native, read_window
from profkit.trace.model import Trace
from tests import traces
from tests.spaces import Space

START_NS = 1_700_000_000_000_000_000  # of both files
US = 1_000_000  # picoseconds
US_NS = 1_000


@pytest.fixture
def torchs(tmp_path: Path) -> Path:
    """A step of 100 µs that waits 20 µs, with a launch numbered 7 and its kernel."""
    events = [
        traces.step(3, 0, 100), traces.wait(0, 20), traces.op("aten::mm", 30, 10),
        traces.launch(7, 31, 2), traces.kernel("gemm", 7, 40, 20),
    ]  # fmt: skip
    return traces.written(tmp_path, events, baseTimeNanoseconds=START_NS)


@pytest.fixture
def tensorflows(tmp_path: Path) -> Path:
    """The same step in a file that counts from 10 µs later: an operator, and a launch that has the same number."""
    space = Space(START_NS + 10_000)
    space.event("train", -10 * US, 100 * US, step_num=3, _r=1)
    space.event("model/dense:MatMul", 50 * US, 10 * US, "tf_Compute/1")
    space.event("cudaLaunchKernel", 70 * US, US, correlation_id=7)
    space.event("gemm_of_tensorflow", 75 * US, 5 * US, "Stream #1", "/device:GPU:0", correlation_id=7)
    path = tmp_path / "made.xplane.pb"
    path.write_bytes(space.message.SerializeToString())
    return path


@pytest.fixture
def both(torchs: Path, tensorflows: Path) -> Trace:
    return read_window([(torchs, "kineto"), (tensorflows, "xplane")], ReadContext(window=2))


def begins(trace: Trace, name: str) -> int:
    """Microseconds since the step's beginning."""
    return (int(trace.spans.filter(pl.col("name") == name)["start_ns"].item()) - START_NS) // US_NS


def test_times_of_both_files_lie_on_one_timeline(both: Trace) -> None:
    assert [begins(both, name) for name in ("aten::mm", "MatMul", "gemm", "gemm_of_tensorflow")] == [30, 60, 40, 85]


def test_steps_that_both_marked_are_taken_once(both: Trace) -> None:
    steps = both.spans.filter(pl.col("kind") == "step")
    assert steps.select("step", "duration_ns").rows() == [(3, 100_000)]
    assert both.spans["step"].unique().to_list() == [3]


def test_steps_come_from_the_second_file_where_the_first_has_none(tmp_path: Path, tensorflows: Path) -> None:
    bare = traces.written(tmp_path, [traces.op("aten::mm", 30, 10)], baseTimeNanoseconds=START_NS)
    trace = read_window([(bare, "kineto"), (tensorflows, "xplane")], ReadContext())
    assert trace.info.counts["steps"] == 1


def test_launches_of_the_same_number_lead_to_their_own_work(both: Trace) -> None:
    names = both.spans["name"].cast(pl.String)
    links = both.links.filter(pl.col("kind") == "launch")
    pairs = zip(names.gather(links["from_id"]), names.gather(links["to_id"]), strict=True)
    tracks = both.spans["track"]
    assert sorted(pairs) == [("cudaLaunchKernel", "gemm"), ("cudaLaunchKernel", "gemm_of_tensorflow")]
    assert len(set(tracks.gather(links["from_id"]).to_list())) == 2


def test_all_work_counts_and_the_wait_is_the_first_files(both: Trace) -> None:
    found = breakdown(both)
    assert {name: int(time[0]) // US_NS for name, time in found.time_ns.items() if time[0]} == {
        "compute": 25, "data_wait": 20, "runtime": 2, "host": 8, "unattributed": 45,
    }  # fmt: skip


def test_the_trace_says_what_it_is_made_of(both: Trace, torchs: Path, tensorflows: Path) -> None:
    alone = [read_native(torchs, "kineto", ReadContext()), read_native(tensorflows, "xplane", ReadContext())]
    assert (both.info.source, both.info.window) == ("kineto+xplane", 2)
    assert both.info.counts["events"] == sum(trace.info.counts["events"] for trace in alone)
    assert both.info.native["host_tracer_level"] == 2
    assert both.spans.height == sum(trace.spans.height for trace in alone) - 1


def test_a_single_file_is_read_as_ever(torchs: Path) -> None:
    trace = read_window([(torchs, "kineto")], ReadContext())
    assert trace.spans.equals(read_native(torchs, "kineto", ReadContext()).spans)


def test_a_damaged_file_is_refused(torchs: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.xplane.pb"
    damaged.write_bytes(b"\x0a\xff\xff")
    with pytest.raises(UnreadableTrace):
        read_window([(torchs, "kineto"), (damaged, "xplane")], ReadContext())
