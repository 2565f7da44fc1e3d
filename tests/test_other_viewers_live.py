"""In one TensorBoard: a PyTorch run in XProf, and a TensorFlow run in torch-tb-profiler."""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from profkit.analysis.breakdown import breakdown
from profkit.analysis.summary import report
from profkit.exporters.torch_tb import TorchTbExporter
from profkit.exporters.xprof import XProfExporter
from profkit.trace.load import load
from profkit.trace.model import Run
from tests import corpus, xprof_viewer
from tests.corpus import CORPUS, needs_corpus
from tests.live_tensorboard import tensorboard, until

TENSORFLOW = CORPUS.parent / "tensorflow" / "generated_here_tf221" / "python_loader_marked_ipl" / "vm.xplane.pb"

Ask = Callable[[str], Any]


@needs_corpus
def test_each_viewer_shows_the_other_frameworks_run(tmp_path: Path) -> None:
    pytest.importorskip("xprof", reason="xprof is not installed: pip install 'profkit[peers]'")
    pytest.importorskip("torch_tb_profiler", reason="torch-tb-profiler is not installed: pip install 'profkit[peers]'")
    of_torch, of_tensorflow = load(CORPUS / corpus.RESNET_0), load(TENSORFLOW)
    for run, exporter, folder in (
        (of_torch, XProfExporter(), tmp_path / "torch"),
        (of_tensorflow, TorchTbExporter(), tmp_path / "tensorflow"),
    ):
        folder.mkdir()
        exporter.export(run, report(run), folder)
    with tensorboard(tmp_path, "--load_fast=false") as ask:
        assert_xprof_shows_pytorch(ask, of_torch)
        assert_torch_tb_shows_tensorflow(ask, of_tensorflow)


def assert_xprof_shows_pytorch(ask: Ask, run: Run) -> None:
    route = "data/plugin/profile"
    (name,) = until(lambda: ask(f"{route}/runs"), bool)
    assert name == "torch/worker0.1623143089861-window0"
    query = urllib.parse.urlencode({"run": name})
    assert {"overview_page", "trace_viewer@", "kernel_stats", "memory_profile"} <= set(
        ask(f"{route}/run_tools?{query}")
    )
    (host,) = ask(f"{route}/hosts?{query}&tag=overview_page")
    page = ask(f"{route}/data?{query}&tag=overview_page&host={host['hostname']}")
    ours = breakdown(run.traces[0])
    shown = [row["stepTimeMs"] for row in xprof_viewer.rows(page[1])]
    assert shown == pytest.approx(ours.duration[1:-1] / 1e6)
    assert "HIGHLY input-bound" in page[3]["p"]["statement"]


def assert_torch_tb_shows_tensorflow(ask: Ask, run: Run) -> None:
    route = "data/plugin/pytorch_profiler"
    until(lambda: ask(f"{route}/runs"), lambda runs: runs["runs"] == ["tensorflow"] and not runs["loading"])
    assert {"Overview", "Operator", "Trace", "Memory"} <= set(ask(f"{route}/views?run=tensorflow"))
    (worker,) = ask(f"{route}/workers?run=tensorflow&view=Overview")
    query = urllib.parse.urlencode({"run": "tensorflow", "worker": worker, "span": "1"})
    overview = ask(f"{route}/overview?{query}&view=Overview")
    (step,) = overview["performance"]  # its mean step, in µs, and percentages of it
    shares = {row["name"]: row["extra"] for row in step["children"]}
    ours, times = report(run), breakdown(run.traces[0])
    waited = 100 * ours.breakdown_ns["data_wait"] / sum(ours.breakdown_ns.values())
    assert shares["DataLoader"] == pytest.approx(waited, abs=1)
    assert step["value"] == pytest.approx(float(np.mean(times.duration)) / 1e3, rel=1e-3)
    assert len(overview["steps"]["rows"]) == len(times.number) == 8
    table = ask(f"{route}/operation/table?{query}&view=Operator&group_by=Operation")
    called = {row["name"]: row["calls"] for row in table["data"]}
    assert {"_MklMatMul", "Mul"} <= called.keys()
    assert called["_MklMatMul"] == next(op.calls for op in ours.operators if op.name == "_MklMatMul")
