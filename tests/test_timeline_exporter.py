"""The page's binary holds every span where it was, whatever its times, names and links."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from profkit.exporters import timeline
from profkit.trace.load import load
from profkit.trace.model import Trace
from profkit.trace.schema import COUNTERS
from tests import traces
from tests.binary_timeline import Decoded, decoded
from tests.corpus import CORPUS, OWLV2, RESNET_0, SLOW, needs_corpus

LONG_US = 10_000_000.0  # ten seconds: beyond what 32 bits of nanoseconds hold


def of(trace: Trace, counters: pl.DataFrame | None = None) -> Decoded:
    return decoded(timeline.encoded(trace, counters))


def spans(found: Decoded) -> list[tuple[object, ...]]:
    """(track's name, depth, start, duration, name, kind, phase, step) of every span, sorted."""
    start, duration = found.times()
    header, rows = found.header, []
    first_step = header["first_step"] or 0
    names, kinds, phases = (found.label(word) for word in ("name", "kind", "phase"))
    for track, depth, first, count in header["rows"]:
        for i in range(first, first + count):
            number = int(found.arrays["step"][i])
            step = number - 1 + first_step if number else None
            name = header["tracks"][track]["name"]
            rows.append((name, depth, int(start[i]), int(duration[i]), names[i], kinds[i], phases[i], step))
    return sorted(rows, key=repr)


def expected(trace: Trace) -> list[tuple[object, ...]]:
    tracks = dict(zip(trace.tracks["id"], trace.tracks["name"], strict=True))
    columns = ("track", "depth", "start_ns", "duration_ns", "name", "kind", "phase", "step")
    rows = trace.spans.select(columns).iter_rows()
    zero = trace.info.start_ns
    return sorted(((tracks[t], d, s - zero, *rest) for t, d, s, *rest in rows), key=repr)


def test_every_span_lies_where_it_was(tmp_path: Path) -> None:
    events = [
        traces.step(1, 100, 500), traces.op("aten::outer", 110, 200), traces.op("aten::inner", 120, 50),
        traces.wait(320, 80), traces.launch(7, 130, 5), traces.kernel("gemm", 7, 150, 90),
        traces.op("aten::late", LONG_US, 2 * LONG_US), traces.op("aten::later", 4 * LONG_US, 1),
    ]  # fmt: skip
    trace = traces.traced(tmp_path, events)
    found = of(trace)
    assert spans(found) == expected(trace)
    assert len(found.arrays["gap_at"]) >= 1
    assert found.arrays["duration_ns"].tolist() == [2 * LONG_US * 1_000]


def test_a_link_ties_the_same_two_spans(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [traces.launch(7, 130, 5), traces.kernel("gemm", 7, 150, 90)])
    found = of(trace)
    names = found.label("name")
    ends = [(names[a], names[b]) for a, b in zip(found.arrays["link_from"], found.arrays["link_to"], strict=True)]
    assert ends == [("cudaLaunchKernel", "gemm")]
    assert [found.header["link_kinds"][kind] for kind in found.arrays["link_kind"]] == ["launch"]


def test_what_is_known_of_a_span_beyond_its_name_is_kept_once(tmp_path: Path) -> None:
    shaped = {"Input Dims": [[2, 3]], "Input type": ["float"]}
    events = [traces.op("aten::mm", 10 * i, 5, args=shaped) for i in range(4)] + [traces.op("aten::relu", 90, 5)]
    found = of(traces.traced(tmp_path, events))
    assert found.header["details"][0] == {}
    details = [found.header["details"][place] for place in found.arrays["detail"]]
    assert [detail.get("shapes") for detail in details] == ["[[2, 3]]"] * 4 + [None]
    assert len(found.header["details"]) <= 3


def test_memory_and_counters_inside_the_window_are_there(tmp_path: Path) -> None:
    events = [traces.op("aten::mm", 0, 100), traces.allocation(10, 700, 1, 700), traces.allocation(20, -700, 1, 0)]
    trace = traces.traced(tmp_path, events)
    times = [trace.info.start_ns + 50_000, trace.info.start_ns - 1]
    counters = pl.DataFrame(
        {"time_ns": times, "name": ["cpu_percent"] * 2, "unit": ["percent"] * 2, "value": [7.0, 8.0]},
        schema_overrides=COUNTERS,
    )
    found = of(trace, counters)
    assert found.header["memory"] == [["cpu", 0, 2]]
    assert found.arrays["memory_allocated"].tolist() == [700.0, 0.0]
    assert found.header["counters"] == [{"name": "cpu_percent", "unit": "percent", "time_ns": [50_000], "value": [7.0]}]


def test_memory_is_thinned_and_keeps_its_peak(tmp_path: Path) -> None:
    events = [traces.op("aten::mm", 0, 30_000)]
    events += [traces.allocation(1.0 + i, 1, i + 1, 5_000 if i == 7_777 else i % 100) for i in range(20_000)]
    found = of(traces.traced(tmp_path, events))
    assert len(found.arrays["memory_time"]) <= timeline.MEMORY_POINTS
    assert found.arrays["memory_allocated"].max() == 5_000


@given(
    st.lists(
        st.tuples(st.integers(0, 10_000), st.integers(0, 3_000), st.sampled_from("abc"), st.integers(100, 102)),
        min_size=1,
        max_size=40,
    )
)
def test_rows_never_overlap_and_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, made: list[tuple[int, int, str, int]]
) -> None:
    folder = tmp_path_factory.mktemp("made")
    trace = traces.traced(folder, [traces.op(name, start, took, tid) for start, took, name, tid in made])
    found = of(trace)
    assert spans(found) == expected(trace)
    assert len(found.arrays["gap_at"]) == 0  # nothing begins before the span before it has ended


def test_the_same_trace_makes_the_same_bytes(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [traces.op("aten::mm", 0, 100)])
    assert timeline.packed(trace) == timeline.packed(trace)
    assert gzip.decompress(timeline.packed(trace)) == timeline.encoded(trace)


@needs_corpus
@pytest.mark.parametrize("path", [SLOW, RESNET_0, OWLV2])
def test_recorded_traces_come_back_whole(path: str) -> None:
    trace = load(CORPUS / path).traces[0]
    found = of(trace)
    start, duration = found.times()
    assert sorted(start.tolist()) == sorted((trace.spans["start_ns"] - trace.info.start_ns).to_list())
    assert int(duration.sum()) == trace.spans["duration_ns"].sum()
    names = np.array(found.header["words"])[np.array(found.header["labels"]["name"])[found.arrays["label"]]]
    assert sorted(names.tolist()) == sorted(trace.spans["name"].to_list())
    assert len(found.arrays["link_from"]) == trace.links.height
