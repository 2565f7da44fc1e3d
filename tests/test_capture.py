"""From capture records to tables: which step a wait belongs to, what is start-up, what is excluded."""

import zlib
from pathlib import Path

import msgspec
import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profkit.capture import Capture, capture_trace, counters_table, read_capture, run_info, steps_table
from profkit.records import (
    FRAME,
    End,
    Framework,
    LoaderOpened,
    Note,
    Record,
    Sample,
    Start,
    Step,
    Wait,
    Window,
    WindowOpened,
)
from profkit.trace.schema import COUNTERS, SPANS, STEPS, TRACKS, empty
from tests.captured import append, framed

MAIN, SIDECAR = "here-0-7-00000000.pkrec", "here-0-7-11111111-sidecar.pkrec"
START = Start(7, 0, 1, "here", 1_000, "train.py", "3.11", "0.1.0", (5, 0, 2, 5, 1), {"lr": 0.1}, 77)


def captured(tmp_path: Path, *records: Record) -> Capture:
    append(tmp_path / "capture" / MAIN, START, *records)
    return read_capture(tmp_path / "capture")


def step(number: int, start_ns: int, end_ns: int, source: str = "marker") -> Step:
    return Step(number, start_ns, end_ns, source, own_ns=3)


def wait(start_ns: int, duration_ns: int, first: bool = False) -> Wait:
    return Wait(0, start_ns, duration_ns, first)


def opened(start_ns: int, duration_ns: int, name: str = "DataLoader") -> LoaderOpened:
    return LoaderOpened(0, name, start_ns, duration_ns, {"num_workers": 2})


def rows(capture: Capture, *columns: str) -> list[tuple[object, ...]]:
    return steps_table(capture).select(columns).rows()


def test_a_wait_belongs_to_the_step_in_which_it_ended(tmp_path: Path) -> None:
    capture = captured(
        tmp_path,
        *(step(0, 0, 100), step(1, 100, 200), step(2, 200, 300)),
        *(wait(10, 20), wait(90, 10), wait(100, 40), wait(230, 5), wait(290, 20)),
    )
    assert rows(capture, "wait_ns", "batches") == [(30, 2), (40, 1), (5, 1)]


def test_making_an_iterator_and_its_first_batch_are_start_up_and_no_wait(tmp_path: Path) -> None:
    capture = captured(tmp_path, opened(0, 7), wait(7, 30, first=True), step(0, 0, 100), wait(100, 9))
    assert rows(capture, "startup_ns", "wait_ns", "batches") == [(37, 0, 1)]


def test_what_lies_before_a_pass_begins_is_excluded_with_its_waits(tmp_path: Path) -> None:
    capture = captured(
        tmp_path,
        *(step(0, 0, 100), step(1, 100, 200)),
        *(opened(210, 5), wait(215, 10, first=True), wait(230, 10), wait(250, 10)),  # an evaluation
        *(opened(300, 4), wait(304, 16, first=True), step(2, 200, 400)),
    )
    (last,) = rows(capture, "excluded_ns", "wait_ns", "startup_ns", "batches")[2:]
    assert last == (100, 0, 5 + 10 + 4 + 16, 1)


def test_the_first_step_begins_with_the_request_for_its_batch(tmp_path: Path) -> None:
    capture = captured(tmp_path, opened(40, 5), wait(45, 5, first=True), step(0, 0, 100), step(1, 100, 150))
    assert rows(capture, "excluded_ns") == [(40,), (0,)]


def test_a_first_step_without_any_request_excludes_nothing(tmp_path: Path) -> None:
    assert rows(captured(tmp_path, step(0, 50, 100)), "excluded_ns", "steady") == [(0, False)]


def test_steady_steps_are_all_but_the_first_of_each_pass(tmp_path: Path) -> None:
    steps = [step(n, 100 * n, 100 * n + 100) for n in range(6)]
    capture = captured(
        tmp_path,
        *(opened(0, 5), wait(5, 5, first=True)),
        *steps,
        *(opened(310, 5), wait(315, 5, first=True)),  # an epoch begins in step 3
        wait(405, 5, first=True),  # a pass over an iterator made before, in step 4
    )
    assert rows(capture, "steady") == [(False,), (True,), (True,), (False,), (False,), (True,)]


def test_an_iterator_made_on_a_boundary_belongs_to_the_step_that_begins(tmp_path: Path) -> None:
    capture = captured(tmp_path, step(0, 0, 100), opened(100, 5), step(1, 100, 200), step(2, 200, 300))
    assert rows(capture, "startup_ns", "steady") == [(0, False), (5, False), (0, True)]


def test_what_is_captured_after_the_last_step_belongs_to_none(tmp_path: Path) -> None:
    capture = captured(tmp_path, step(0, 0, 100), opened(120, 9), wait(130, 9, first=True), wait(150, 9))
    assert rows(capture, "wait_ns", "startup_ns", "batches") == [(0, 0, 0)]


def test_steps_name_the_window_that_was_open_also_if_it_was_never_closed(tmp_path: Path) -> None:
    capture = captured(
        tmp_path,
        *(step(n, 10 * n, 10 * n + 10) for n in range(16)),
        WindowOpened("pytorch", 0, 2, 20),
        Window("pytorch", 0, 2, 4, "window-0-rank-0.pt.trace.json", "kineto", 99),
        WindowOpened("pytorch", 1, 9, 90),  # of 5 steps, says the schedule
    )
    windows = [None] * 2 + [0] * 3 + [None] * 4 + [1] * 5 + [None] * 2
    assert steps_table(capture)["window"].to_list() == windows


def test_a_run_without_records_gives_empty_tables(tmp_path: Path) -> None:
    append(tmp_path / "capture" / MAIN)
    capture = read_capture(tmp_path / "capture")
    assert steps_table(capture).equals(empty(STEPS))
    assert counters_table(capture).equals(empty(COUNTERS))
    assert run_info(capture, alive=False).ended == "without notice"
    assert capture_trace(capture).spans.equals(empty(SPANS))


def test_counters_carry_the_unit_of_their_name_and_whose_they_are(tmp_path: Path) -> None:
    append(tmp_path / "capture" / MAIN, START)
    values = {"cpu_percent": 150.0, "processes": 3.0, "disk_read_bytes_per_s": 8.0, "host_cpu_percent": 50.0}
    append(tmp_path / "capture" / SIDECAR, Sample(5, values))
    table = counters_table(read_capture(tmp_path / "capture"))
    assert table.schema == empty(COUNTERS).schema
    assert table.rows() == [
        (5, "training", "cpu_percent", "percent", 150.0),
        (5, "training", "processes", "count", 3.0),
        (5, "training", "disk_read_bytes_per_s", "bytes_per_s", 8.0),
        (5, "host", "host_cpu_percent", "percent", 50.0),
    ]


def test_the_run_says_what_it_was(tmp_path: Path) -> None:
    capture = captured(
        tmp_path,
        Framework("torch", "2.13.0", ("cuda:0",)),
        opened(0, 5),
        step(0, 0, 100, "optimizer"),
        step(1, 100, 200, "optimizer"),
        Window("pytorch", 0, 0, 1, "w.json", "kineto", 55),
        Note("one thing", 5),
        Note("one thing", 6),
        End("finished", 300),
    )
    info = run_info(capture, alive=True)
    assert (info.ended, info.start_ns, info.end_ns) == ("finished", 1_000, 300)
    assert (info.script, info.host, info.pid, info.hparams) == ("train.py", "here", 7, {"lr": 0.1})
    assert (info.frameworks, info.devices) == ({"torch": "2.13.0"}, ["cuda:0"])
    assert info.loaders["0"].settings == {"num_workers": 2}
    assert (info.step_source, info.notes, info.window_close_ns) == ("optimizer", ["one thing"], [55])
    assert (info.records, info.torn_bytes) == (9, 0)


def test_a_run_without_an_end_record_is_running_or_ended_without_notice(tmp_path: Path) -> None:
    capture = captured(tmp_path, step(0, 0, 100), wait(100, 20))
    assert (run_info(capture, alive=True).ended, run_info(capture, alive=True).end_ns) == ("running", None)
    assert run_info(capture, alive=False).ended == "without notice"
    assert run_info(capture, alive=False).end_ns == 120


def test_a_window_lost_with_its_training_is_said(tmp_path: Path) -> None:
    capture = captured(tmp_path, WindowOpened("pytorch", 0, 2, 20))
    (note,) = run_info(capture, alive=False).notes
    assert "a window was open when the training ended without notice" in note
    assert run_info(capture, alive=True).notes == []


def test_damage_in_the_middle_keeps_what_lies_before_and_counts_the_rest(tmp_path: Path) -> None:
    append(path := tmp_path / "capture" / MAIN, START, *(step(n, n, n + 1) for n in range(9)))
    whole = bytearray(path.read_bytes())
    at = len(framed(START)) + 3 * len(framed(step(0, 0, 1)))
    whole[at + FRAME.size] ^= 0xFF
    path.write_bytes(whole)
    capture = read_capture(tmp_path / "capture")
    assert [record.number for record in capture.steps] == [0, 1, 2]
    assert capture.torn_bytes == len(whole) - at
    assert f"{capture.torn_bytes:,} bytes are lost" in run_info(capture, alive=False).notes[0]


@pytest.mark.parametrize("tail", [bytes(64), framed(START).replace(b"train.py", b"train.xx"), b"\xff" * 20])
def test_zeros_and_noise_behind_the_records_are_torn_bytes(tmp_path: Path, tail: bytes) -> None:
    append(path := tmp_path / "capture" / MAIN, START, step(0, 0, 1))
    path.write_bytes(path.read_bytes() + tail)
    capture = read_capture(tmp_path / "capture")
    assert (len(capture.steps), capture.torn_bytes) == (1, len(tail))


def test_a_record_of_a_newer_profkit_costs_only_what_lies_behind_it(tmp_path: Path) -> None:
    body = msgspec.msgpack.encode([99, "a record nobody knows yet"])
    unknown = FRAME.pack(len(body), zlib.crc32(body)) + body
    append(path := tmp_path / "capture" / MAIN, START, step(0, 0, 1))
    path.write_bytes(path.read_bytes() + unknown)
    capture = read_capture(tmp_path / "capture")
    assert (len(capture.steps), capture.torn_bytes) == (1, len(unknown))


@given(cut=st.integers(0, 10_000), seed=st.integers(0, 9))
def test_any_truncation_yields_a_prefix_of_the_records(
    tmp_path_factory: pytest.TempPathFactory, cut: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("cut") / "capture"
    steps = [step(n, 10**seed * n, 10**seed * (n + 1)) for n in range(20)]
    append(path := folder / MAIN, START, *steps)
    whole = path.read_bytes()
    path.write_bytes(whole[:cut])
    capture = read_capture(folder)
    assert list(capture.steps) == steps[: len(capture.steps)]
    sizes = [len(framed(START)), *(len(framed(one)) for one in steps)]
    used = sum(sizes[: capture.records])
    assert used + capture.torn_bytes == min(cut, len(whole))
    assert capture.records == len(sizes) or used + sizes[capture.records] > cut


@st.composite
def trainings(draw: st.DrawFn) -> list[Record]:
    """One thread's life: it evaluates, opens iterators, waits, computes, step after step."""
    now = 1_000
    records: list[Record] = [START]
    for number in range(draw(st.integers(0, 12))):
        begin = now
        for kind in draw(st.lists(st.sampled_from(("open", "wait", "compute")), max_size=6)):
            took = draw(st.integers(0, 50))
            if kind == "open":
                records.append(opened(now, took))
            if kind == "wait":
                records.append(wait(now, took, first=isinstance(records[-1], LoaderOpened)))
            now += took
        now += draw(st.integers(1, 9))
        records.append(step(number, begin, now))
    return records


@given(records=trainings())
def test_the_parts_of_a_step_never_exceed_it(tmp_path_factory: pytest.TempPathFactory, records: list[Record]) -> None:
    append((folder := tmp_path_factory.mktemp("run") / "capture") / MAIN, *records)
    table = steps_table(read_capture(folder)).with_columns(took=pl.col("end_ns") - pl.col("start_ns"))
    assert (table["excluded_ns"] >= 0).all()
    assert (table["wait_ns"] + table["excluded_ns"] <= table["took"]).all()
    assert (table["wait_ns"] + table["startup_ns"] <= table["took"]).all()
    assert table.filter("steady").select((pl.col("excluded_ns") + pl.col("startup_ns")).sum()).item() in (
        0,
        None,
    )


@settings(max_examples=40)
@given(records=trainings())
def test_the_trace_of_a_capture_is_sorted_nested_and_complete(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    append((folder := tmp_path_factory.mktemp("run") / "capture") / MAIN, *records)
    trace = capture_trace(read_capture(folder))
    spans = trace.spans
    assert spans.schema == empty(SPANS).schema
    assert trace.tracks.schema == empty(TRACKS).schema
    assert spans["id"].to_list() == list(range(spans.height))
    order = np.lexsort((-spans["duration_ns"].to_numpy(), spans["start_ns"], spans["track"]))
    assert order.tolist() == list(range(spans.height))
    for _, track in spans.group_by("track"):
        ends = (track["start_ns"] + track["duration_ns"]).to_list()
        assert all(end <= start for end, start in zip(ends, track["start_ns"].to_list()[1:], strict=False))
    assert trace.info.counts["steps"] == sum(isinstance(record, Step) for record in records)


def test_the_trace_of_a_long_capture_holds_its_last_steps_and_says_so(tmp_path: Path) -> None:
    records = [r for n in range(1_200) for r in (wait(10 * n, 4), step(n, 10 * n, 10 * n + 10))]
    trace = capture_trace(captured(tmp_path, opened(0, 0, "loader of digits"), *records))
    assert (trace.info.first_step, trace.info.dropped) == (200, {"steps before the last ones": 200})
    waits = trace.spans.filter(pl.col("kind") == "data_wait")
    assert waits["step"].to_list() == list(range(200, 1_200))
    assert waits["name"].unique().to_list() == ["wait for loader of digits"]
    assert trace.tracks.filter(id=trace.info.training_thread)["tid"].to_list() == [77]


def test_of_waits_that_overlap_only_the_first_is_in_the_trace(tmp_path: Path) -> None:
    capture = captured(tmp_path, wait(10, 50), wait(20, 10), wait(30, 60), wait(90, 5), step(0, 0, 100))
    waits = capture_trace(capture).spans.filter(pl.col("kind") == "data_wait")
    assert waits["start_ns"].to_list() == [10, 90]
