"""Traces on disk: what is written comes back, atomically, and what cannot be read says why."""

from pathlib import Path

import msgspec
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from profkit.errors import UnreadableTrace
from profkit.trace.model import RunInfo, Trace, TraceInfo
from profkit.trace.schema import FORMAT_VERSION, LINKS, MEMORY, SPANS, TRACKS, empty
from profkit.trace.store import TABLES, conform, read_json, read_table, read_trace, write_table, write_trace


def a_trace(*names: str) -> Trace:
    spans = pl.DataFrame({"id": range(len(names)), "name": names, "start_ns": [7] * len(names)})
    tracks = pl.DataFrame({"id": [0], "name": ["steps"], "kind": ["steps"]})
    info = TraceInfo(source="kineto", counts={"events": 3}, notes=["one note"])
    return Trace(info, conform(spans, SPANS), conform(tracks, TRACKS), empty(LINKS), empty(MEMORY))


def assert_same(one: Trace, other: Trace) -> None:
    assert one.info == other.info
    for name in TABLES:
        assert_frame_equal(getattr(one, name), getattr(other, name))


def test_a_trace_comes_back_as_it_was_written(tmp_path: Path) -> None:
    folder = tmp_path / "window=0" / "rank=0"
    write_trace(a_trace("conv", "relu"), folder)
    assert_same(read_trace(folder), a_trace("conv", "relu"))


def test_writing_again_replaces_the_trace_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "window=0" / "rank=0"
    write_trace(a_trace("old"), folder)
    write_trace(a_trace("new"), folder)
    assert_same(read_trace(folder), a_trace("new"))
    assert [path.name for path in folder.parent.iterdir()] == ["rank=0"]


def test_what_a_killed_writer_left_is_no_trace_and_in_no_ones_way(tmp_path: Path) -> None:
    folder = tmp_path / "window=0" / "rank=0"
    leftover = tmp_path / "window=0" / ".rank=0.part"
    leftover.mkdir(parents=True)
    (leftover / "spans.parquet").write_bytes(b"half a tab")
    assert list(tmp_path.glob("window=*/rank=*")) == []
    write_trace(a_trace("conv"), folder)
    assert_same(read_trace(folder), a_trace("conv"))
    assert not leftover.exists()


def test_a_failing_write_leaves_the_old_trace(tmp_path: Path) -> None:
    folder = tmp_path / "rank=0"
    write_trace(a_trace("old"), folder)
    broken = Trace(TraceInfo(), empty(SPANS), empty(TRACKS), empty(LINKS), memory=None)  # type: ignore[arg-type]  # the fault
    with pytest.raises(AttributeError):
        write_trace(broken, folder)
    assert_same(read_trace(folder), a_trace("old"))
    assert [path.name for path in tmp_path.iterdir()] == ["rank=0"]


def test_columns_an_older_file_lacks_are_null_and_those_it_has_keep_their_type(tmp_path: Path) -> None:
    folder = tmp_path / "rank=0"
    write_trace(a_trace("conv"), folder)
    old = pl.DataFrame({"id": pl.Series([0], dtype=pl.UInt32), "name": ["conv"], "forgotten": [1]})
    write_table(old, folder / "spans.parquet")
    spans = read_trace(folder).spans
    assert spans.schema == empty(SPANS).schema
    assert spans["name"].to_list() == ["conv"]
    assert spans["op_class"].to_list() == [None]


def test_a_newer_format_is_refused_with_one_sentence_that_says_what_to_do(tmp_path: Path) -> None:
    folder = tmp_path / "rank=0"
    write_trace(a_trace("conv"), folder)
    newer = msgspec.json.encode({"format_version": FORMAT_VERSION + 1, "source": ["no longer a string"]})
    (folder / "meta.json").write_bytes(newer)
    with pytest.raises(UnreadableTrace, match=rf"version {FORMAT_VERSION + 1}.*pip install -U profkit"):
        read_trace(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b'{"format_version": "x"}', b"\xff\xfe"])
def test_a_damaged_description_is_no_trace(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "meta.json").write_bytes(content)
    with pytest.raises(UnreadableTrace, match=r"meta\.json"):
        read_trace(tmp_path)


def test_a_missing_file_is_no_trace(tmp_path: Path) -> None:
    with pytest.raises(UnreadableTrace, match=r"run\.json"):
        read_json(tmp_path / "run.json", RunInfo)
    with pytest.raises(UnreadableTrace, match=r"spans\.parquet"):
        read_table(tmp_path / "spans.parquet", SPANS)


@given(cut=st.floats(0, 1, exclude_max=True))
def test_a_table_cut_anywhere_is_unreadable_and_never_half_a_table(
    tmp_path_factory: pytest.TempPathFactory, cut: float
) -> None:
    path = tmp_path_factory.mktemp("cut") / "spans.parquet"
    write_table(a_trace("conv", "relu").spans, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * cut)])
    with pytest.raises(UnreadableTrace):
        read_table(path, SPANS)
