"""The exclusive breakdown gives each instant to one class and adds up; the wait is exposed where no device works."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from profkit.analysis.breakdown import Breakdown, breakdown
from profkit.trace.batch import ReadContext
from profkit.trace.load import read_native
from profkit.trace.model import Trace
from tests.spaces import Space
from tests.traces import MAIN, Event, kernel, launch, op, span, step, traced, wait

US = 1_000_000  # picoseconds


def parts(found: Breakdown, row: int = 0) -> dict[str, int]:
    """Microseconds of each class that holds any, of one step."""
    return {name: int(times[row]) // 1_000 for name, times in found.time_ns.items() if times[row]}


def test_without_a_device_operators_compute_and_the_whole_wait_is_exposed(tmp_path: Path) -> None:
    events = [
        step(0, 0, 100),
        wait(0, 30),
        op("aten::randn", 5, 10),
        op("aten::mm", 40, 20),
        span("forward", "user_annotation", 35, 50),
    ]
    found = breakdown(traced(tmp_path, events))
    assert parts(found) == {"data_wait": 30, "compute": 20, "host": 30, "unattributed": 20}
    assert found.exposed_ns is not None and found.exposed_ns.tolist() == found.wait_ns.tolist() == [30_000]


def test_with_a_device_its_work_comes_first_and_hides_the_wait_beneath(tmp_path: Path) -> None:
    events = [
        step(0, 0, 100),
        launch(1, 1, 4),
        kernel("gemm", 1, 10, 40),
        wait(30, 40),
        op("aten::mm", 0, 8),
        kernel("ncclDevKernel_AllReduce", 2, 45, 20, stream=9),
        launch(2, 6, 1),
        {**kernel("Memcpy HtoD", 3, 80, 5), "cat": "gpu_memcpy"},
    ]
    found = breakdown(traced(tmp_path, events))
    assert parts(found) == {
        "compute": 40,
        "communication": 15,
        "copy": 5,
        "data_wait": 5,
        "runtime": 5,
        "host": 3,
        "unattributed": 27,
    }
    assert found.wait_ns.tolist() == [40_000]
    assert found.exposed_ns is not None and found.exposed_ns.tolist() == [5_000]


def test_a_device_that_was_used_but_not_recorded_leaves_the_exposed_wait_unknown(tmp_path: Path) -> None:
    assert breakdown(traced(tmp_path, [step(0, 0, 100), wait(0, 50), launch(1, 60, 4)])).exposed_ns is None


def test_collectives_of_the_host_are_communication_where_nothing_computes(tmp_path: Path) -> None:
    events = [step(0, 0, 100), op("aten::mm", 0, 40), span("gloo:all_reduce", "user_annotation", 30, 50, tid=101)]
    assert parts(breakdown(traced(tmp_path, events))) == {"compute": 40, "communication": 40, "unattributed": 20}


def test_a_trace_without_steps_is_broken_down_as_a_whole(tmp_path: Path) -> None:
    found = breakdown(traced(tmp_path, [op("aten::mm", 0, 40), op("aten::mm", 60, 40)]))
    assert found.whole_trace
    assert parts(found) == {"compute": 80, "unattributed": 20}


def test_waits_of_other_threads_do_not_stall_the_step(tmp_path: Path) -> None:
    other = {**wait(0, 90), "tid": 555}
    events = [step(0, 0, 100), op("aten::mm", 10, 80), wait(0, 5), other, op("aten::add", 92, 1)]
    found = breakdown(traced(tmp_path, events))
    assert sum(parts(found).values()) == 100
    assert found.wait_ns.tolist() == [5_000]


starts, durations = st.integers(0, 200), st.integers(0, 80)


def host_event(kind: str, start: int, duration: int, tid: int) -> Event:
    match kind:
        case "op":
            return op("aten::mm", start, duration, tid)
        case "wait":
            return {**wait(start, duration), "tid": tid}
        case "launch":
            return launch(start % 5, start, duration, tid)
        case "python":
            return span("train.py(1): step", "python_function", start, duration, tid)
        case _:
            return span("forward", "user_annotation", start, duration, tid)


host_events = st.builds(
    host_event,
    st.sampled_from(["op", "wait", "python", "launch", "annotation"]),
    starts,
    durations,
    st.sampled_from([MAIN, 101]),
)
device_events = st.builds(
    lambda name, start, duration, stream: kernel(name, start % 5, start, duration, stream),
    st.sampled_from(["gemm", "ncclDevKernel_AllReduce"]),
    starts,
    durations,
    st.sampled_from([7, 9]),
)


@settings(max_examples=80, deadline=None)
@given(st.lists(host_events, max_size=25), st.lists(device_events, max_size=15))
def test_for_any_events_the_classes_add_up_to_the_step_and_shares_stay_within_it(
    host: list[Event], device: list[Event]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        trace = traced(Path(folder), [step(0, 0, 120), step(1, 120, 100), *host, *device])
    found = breakdown(trace)
    assert sum(found.time_ns.values(), np.zeros_like(found.duration)).tolist() == found.duration.tolist()
    assert all((times >= 0).all() for times in found.time_ns.values())
    assert (found.wait_ns <= found.duration).all()
    if found.exposed_ns is not None:
        assert (found.exposed_ns <= found.wait_ns).all() and (found.exposed_ns >= 0).all()
    if found.exposed_ns is not None and trace.info.device_recorded:
        assert (found.exposed_ns == found.time_ns["data_wait"]).all()


def test_operators_that_an_executor_runs_beside_the_wait_hide_it(tmp_path: Path) -> None:
    """As in a graph whose other operators do not need the batch."""
    space = Space()
    space.event("train", 0, 100 * US, step_num=0, _r=1)
    space.event("IteratorGetNextOp::DoCompute", 0, 40 * US, "tf_data_iterator_get_next/1")
    space.event("decode:DecodeJpeg", 5 * US, 30 * US, "tf_data_private_threadpool/2")
    space.event("step/EagerPyFunc:EagerPyFunc", 10 * US, 20 * US, "tf_Compute/3")
    found = breakdown(made(tmp_path, space))
    assert parts(found) == {"compute": 20, "data_wait": 20, "unattributed": 60}
    assert found.exposed_ns is not None
    assert (found.wait_ns.tolist(), found.exposed_ns.tolist()) == ([40_000], [20_000])


def test_the_step_in_which_a_pipeline_is_made_is_not_steady(tmp_path: Path) -> None:
    space = Space()
    for number in range(3):
        space.event("train", number * 100 * US, 100 * US, step_num=number, _r=1)
    space.event("MakeIterator::Prefetch", 120 * US, 5 * US, "tf_data_iterator_resource/1")
    assert breakdown(made(tmp_path, space)).steady.tolist() == [True, False, True]


def made(folder: Path, space: Space) -> Trace:
    path = folder / "made.xplane.pb"
    path.write_bytes(space.message.SerializeToString())
    return read_native(path, "xplane", ReadContext())
