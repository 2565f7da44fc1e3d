"""Standard summaries, read back by TensorBoard's own loaders and by a TensorBoard that runs."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from profkit.analysis.summary import report
from profkit.exporters import tensorboard as exporter
from profkit.exporters.eventfile import LIVE, MEAN_STALL, MEAN_STEP_TIME, event_file
from profkit.exporters.tensorboard import TensorBoardExporter
from profkit.exporters.tensorboard_live import TensorBoardSink
from profkit.trace.model import Run, RunInfo
from profkit.trace.schema import COUNTERS
from tests import traces
from tests.live_tensorboard import tensorboard, until
from tests.runs import MS, loader, steps_table

ZERO_NS = 1_700_000_000_000_000_000
LOADERS = pytest.mark.parametrize("fast", ["--load_fast=true", "--load_fast=false"])


def made_run(folder: Path, name: str = "run", workers: int = 2, hparams: dict[str, Any] | None = None) -> Run:
    """Twenty steps with a wait of 40 of 100 ms, a window around three of them, and a counter."""
    rows = [{"wait_ns": 40 * MS, "window": 0 if number in (10, 11, 12) else None} for number in range(20)]
    steps = steps_table(rows).with_columns(pl.col("start_ns", "end_ns") + ZERO_NS)
    events = [
        event
        for number in (10, 11, 12)
        for event in (
            traces.step(number, number * 100_000, 100_000),
            traces.wait(number * 100_000, 40_000),
            traces.op("aten::conv2d", number * 100_000 + 50_000, 30_000),
            traces.allocation(number * 100_000 + 60_000, 5_000_000, 64, 5_000_000),
        )
    ]
    trace = traces.traced(folder, events)
    counters = pl.DataFrame(
        {"time_ns": [ZERO_NS + 250 * MS], "name": ["cpu_percent"], "unit": ["percent"], "value": [180.0]},
        schema_overrides=COUNTERS,
    )
    info = RunInfo(
        script="train.py", ended="finished", start_ns=ZERO_NS, end_ns=ZERO_NS + 2_000 * MS,
        frameworks={"torch": "2.13.0"}, loaders=loader(num_workers=workers, batch_size=64), hparams=hparams or {},
    )  # fmt: skip
    (folder / name).mkdir()
    return Run(info, steps, counters, folder=folder / name, open_traces=(lambda: trace,))


def exported(run: Run) -> Path:
    assert run.folder is not None
    path, *_ = TensorBoardExporter().export(run, report(run), run.folder)
    return Path(path)


def read(folder: Path) -> Any:
    accumulator: Any = EventAccumulator  # tensorboard ships no types
    return accumulator(str(folder), size_guidance={"tensors": 0}).Reload()


def values(events: Any, tag: str) -> list[tuple[int, float]]:
    return [(e.step, e.tensor_proto.float_val[0]) for e in events.Tensors(tag)]


def records(path: Path) -> list[bytes]:
    """The raw records of an event file."""
    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        found.append(data[at + 12 : at + 12 + length])
        at += 16 + length
    return found


def test_curves_of_every_step_equal_the_run(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    events = read(exported(run).parent)
    assert values(events, "profkit/step_time_ms") == [(number, 100.0) for number in range(20)]
    assert values(events, "profkit/data_wait_ms") == [(number, 40.0) for number in range(20)]
    assert values(events, "profkit/stall_percent") == [(number, 40.0) for number in range(20)]
    assert values(events, "profkit/system/cpu_percent") == [(1, 180.0)]


def test_curves_of_recorded_steps_equal_the_report(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    result, events = report(run), read(exported(run).parent)
    for name in (name for name, time_ns in result.breakdown_ns.items() if time_ns):
        drawn = dict(values(events, f"profkit/breakdown_ms/{name}"))
        assert drawn == pytest.approx({s.number: s.breakdown_ns[name] / 1e6 for s in result.window_steps})
    assert values(events, "profkit/memory_mb/cpu") == [(10, 5.0), (11, 5.0), (12, 5.0)]


def test_a_run_with_live_curves_gets_no_second_ones(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    assert run.folder is not None
    sink = TensorBoardSink()
    sink.open(run.folder, 0)
    sink.scalar("profkit/step_time_ms", 7.0, 3, ZERO_NS)
    sink.close()
    events = read(exported(run).parent)
    assert values(events, "profkit/step_time_ms") == [(3, 7.0)]
    assert "profkit/system/cpu_percent" not in events.Tags()["tensors"]
    assert "profkit/breakdown_ms/data_wait" in events.Tags()["tensors"]


def test_the_summary_file_is_read_after_the_live_one(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    assert run.folder is not None
    live = event_file(run.folder, 2_000 * MS / 1e9 + ZERO_NS / 1e9, 0, LIVE)
    assert live.name < exported(run).name


def test_the_text_names_the_verdict_the_remedy_the_operators_and_the_memory(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    result, events = report(run), read(exported(run).parent)
    (event,) = events.Tensors("profkit/summary")
    markdown = event.tensor_proto.string_val[0].decode()
    assert "Input-bound: 40 % of each step" in markdown
    assert "num\\_workers=" in markdown
    assert "| data wait | 40 ms | 40 % |" in markdown
    assert "Without a class: 0 % of self time." in markdown
    assert "| conv | 3 | 90 ms |" in markdown
    assert "| `aten::conv2d` | 3 | 90 ms | 90 ms | 0 ms |" in markdown
    assert "4.77 MiB" in markdown
    assert result.headline.split(":")[0] in markdown


def test_names_cannot_break_out_of_the_text(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    events = [traces.op("a|b`c\n<script>", 0, 10)]
    trace = traces.traced(tmp_path, events)
    run = Run(run.info, run.steps, run.counters, run.folder, (lambda: trace,))
    (event,) = read(exported(run).parent).Tensors("profkit/summary")
    assert "| `a/b'c <script>` |" in event.tensor_proto.string_val[0].decode()


def test_metadata_stands_in_the_first_event_of_a_tag_only(tmp_path: Path) -> None:
    from tensorboard.compat.proto import event_pb2

    seen: dict[str, list[bool]] = {}
    for record in records(exported(made_run(tmp_path))):
        for value in event_pb2.Event.FromString(record).summary.value:  # type: ignore[attr-defined]
            seen.setdefault(value.tag, []).append(value.HasField("metadata"))
            assert not value.HasField("metadata") or value.metadata.plugin_data.plugin_name
    assert len(seen["profkit/step_time_ms"]) == 20
    assert all(flags[0] and not any(flags[1:]) for flags in seen.values())


def test_more_than_twenty_thousand_points_are_thinned_and_keep_their_peak() -> None:
    points = pl.DataFrame({"step": range(50_001), "time_ns": range(50_001), "value": [0.0] * 50_001})
    points = points.with_columns(pl.when(pl.col("step") == 33_334).then(9.0).otherwise(1.0).alias("value"))
    thin = exporter.thinned(points, pl.max("value"))
    assert thin.height <= exporter.LARGEST_CURVE
    assert thin["value"].max() == 9.0
    assert thin["step"].item(0) == 0
    assert exporter.thinned(points[:100], pl.max("value")).height == 100


def test_a_value_is_on_disk_once_it_was_flushed_and_not_before(tmp_path: Path) -> None:
    sink = TensorBoardSink()
    sink.open(tmp_path, 0)
    (path,) = tmp_path.iterdir()
    assert path.name.endswith("profkit-live")
    begun = path.stat().st_size
    sink.scalar("profkit/step_time_ms", 1.0, 0, ZERO_NS)
    assert path.stat().st_size == begun
    sink.flush()
    assert path.stat().st_size > begun
    assert values(read(tmp_path), "profkit/step_time_ms") == [(0, 1.0)]
    sink.close()
    sink.close()


def test_other_ranks_draw_in_a_run_of_their_own(tmp_path: Path) -> None:
    sink = TensorBoardSink()
    sink.open(tmp_path, 3)
    sink.close()
    assert [path.name for path in tmp_path.iterdir()] == ["rank=3"]


def test_tensorflow_is_never_imported_even_where_it_is_installed(tmp_path: Path) -> None:
    package = tmp_path / "tensorflow"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('tensorflow was imported')")
    program = (
        "import sys; from pathlib import Path; from profkit.exporters.tensorboard import *;"
        "from profkit.exporters.tensorboard_live import TensorBoardSink;"
        "from profkit.trace.model import Run, RunInfo;"
        "from profkit.trace.schema import *; from profkit.analysis.summary import report;"
        "run = Run(RunInfo(script='a.py'), empty(STEPS), empty(COUNTERS));"
        "folder = Path(sys.argv[1]); TensorBoardExporter().export(run, report(run), folder);"
        "s = TensorBoardSink(); s.open(folder, 0); s.scalar('a', 1.0, 0, 0); s.close();"
        "assert 'tensorflow' not in sys.modules"
    )
    environment = {"PYTHONPATH": str(tmp_path), "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stdout + done.stderr


@LOADERS
def test_a_running_tensorboard_shows_curves_text_layout_and_hparams(tmp_path: Path, fast: str) -> None:
    first = made_run(tmp_path, "first", workers=0, hparams={"learning_rate": 0.1})
    second = made_run(tmp_path, "second", workers=4, hparams={"momentum": 0.9})
    result = report(first)
    for run in (first, second):
        exported(run)
    with tensorboard(tmp_path, fast) as ask:
        tags = until(lambda: ask("data/plugin/scalars/tags"), lambda tags: _complete(tags, ("first", "second")))
        assert "profkit/system/cpu_percent" in tags["first"]
        points = ask("data/plugin/scalars/scalars?run=first&tag=profkit%2Fstep_time_ms")
        assert [(step, value) for _, step, value in points] == [(number, 100.0) for number in range(20)]
        mean = ask("data/plugin/scalars/scalars?run=first&tag=profkit%2Fmean_stall_percent")
        assert result.stall_share is not None
        assert mean[0][2] == pytest.approx(100 * result.stall_share)
        (text,) = ask("data/plugin/text/text?run=first&tag=profkit%2Fsummary")
        assert "<table>" in text["text"]
        assert "Input-bound" in text["text"]
        layout = ask("data/plugin/custom_scalars/layout")
        assert [category["title"] for category in layout["category"]] == list(exporter.LAYOUT)
        assert _sessions(ask) == {
            "first": {"num_workers": 0, "batch_size": 64, "learning_rate": 0.1, "momentum": None},
            "second": {"num_workers": 4, "batch_size": 64, "learning_rate": None, "momentum": 0.9},
        }


@LOADERS
def test_a_running_tensorboard_sees_each_flush_of_a_live_run(tmp_path: Path, fast: str) -> None:
    sink = TensorBoardSink()
    sink.open(tmp_path / "live", 0)
    ask_points = "data/plugin/scalars/scalars?run=live&tag=profkit%2Fstep_time_ms"
    with tensorboard(tmp_path, fast) as ask:
        sink.scalar("profkit/step_time_ms", 10.0, 1, ZERO_NS)
        sink.flush()
        until(lambda: ask(ask_points), lambda points: len(points) == 1)
        sink.scalar("profkit/step_time_ms", 20.0, 2, ZERO_NS + 1)
        sink.flush()
        points = until(lambda: ask(ask_points), lambda points: len(points) == 2)
        assert [point[1:] for point in points] == [[1, 10.0], [2, 20.0]]
    sink.close()


def _complete(tags: dict[str, Any], runs: Sequence[str]) -> bool:
    return all("profkit/breakdown_ms/unattributed" in tags.get(run, ()) for run in runs)


def _sessions(ask: Any) -> dict[str, dict[str, Any]]:
    """Hyper-parameters of each session as the HParams tab lists them."""
    import json
    import urllib.parse

    experiment = ask("data/plugin/hparams/experiment?request=" + urllib.parse.quote("{}"))
    columns = [{"hparam": info["name"]} for info in experiment["hparamInfos"]]
    metrics = {info["name"]["tag"] for info in experiment["metricInfos"]}
    assert {MEAN_STEP_TIME, MEAN_STALL} <= metrics
    request = {"colParams": columns, "allowedStatuses": ["STATUS_SUCCESS"], "startIndex": 0, "sliceSize": 10}
    groups = ask("data/plugin/hparams/session_groups?request=" + urllib.parse.quote(json.dumps(request)))
    wanted = ("num_workers", "batch_size", "learning_rate", "momentum")
    return {g["sessions"][0]["name"]: {k: g["hparams"].get(k) for k in wanted} for g in groups["sessionGroups"]}
