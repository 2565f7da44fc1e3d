"""The tab's server: it sends what was written, for runs TensorBoard knows, and nothing else."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import msgspec
import pytest

from profkit.analysis.report import Ranks
from profkit.analysis.summary import report
from profkit.exporters import timeline
from profkit.exporters.page import write_ranks
from profkit.exporters.tensorboard import TensorBoardExporter
from profkit.exporters.tensorboard_live import TensorBoardSink
from profkit.tensorboard import SCRIPT
from profkit.trace.model import Run
from tests import page_ranks
from tests.live_tensorboard import Asked, tensorboard, until
from tests.test_tensorboard_exporter import LOADERS, made_run

ROOT = "data/plugin/profkit"
RANKS = page_ranks.planted(3, {1: "input"})


@dataclass(frozen=True, slots=True)
class Server:
    """A TensorBoard over one exported run."""

    ask: Asked
    run: Run

    def raw(self, path: str) -> tuple[int, Any, bytes]:
        return raw(self.ask, path)


def raw(ask: Asked, path: str) -> tuple[int, Any, bytes]:
    """Status, headers and decompressed body of an answer of the tab."""
    request = urllib.request.Request(f"{ask.base}{ROOT}/{path}", headers={"Accept-Encoding": "gzip"})
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            status, headers, body = response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            status, headers, body = error.code, error.headers, error.read()
    return status, headers, gzip.decompress(body) if headers["Content-Encoding"] == "gzip" else body


def raw_status(ask: Asked, path: str) -> int:
    """What an answer begins with."""
    try:
        with urllib.request.urlopen(f"{ask.base}{path}", timeout=30) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.fixture(scope="module", params=["--load_fast=true", "--load_fast=false"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("logs")
    run = made_run(folder)
    assert run.folder is not None
    TensorBoardExporter().export(run, report(run), run.folder)
    write_ranks(RANKS, run.folder)
    (folder / "made.pt.trace.json").unlink()
    (folder / "plugins/profkit/page").mkdir(parents=True)
    (folder / "plugins/profkit/page/ranks.json.gz").write_bytes(gzip.compress(b"{}"))
    (folder / "secret.report.json.gz").write_bytes(gzip.compress(b"{}"))
    with tensorboard(folder, request.param) as ask:
        until(lambda: ask(f"{ROOT}/runs"), bool)
        yield Server(ask, run)


def test_the_tab_is_active_and_named(server: Server) -> None:
    listed = server.ask("data/plugins_listing")["profkit"]
    assert listed["enabled"]
    assert listed["tab_name"] == "profkit"


def test_every_run_with_a_page_is_listed(server: Server) -> None:
    (entry,) = server.ask(f"{ROOT}/runs")
    assert entry["run"] == "run"
    assert float(entry["version"]) > 0


def test_the_page_holds_the_report_of_the_run(server: Server) -> None:
    page = server.ask(f"{ROOT}/page?run=run")
    expected = json.loads(msgspec.json.encode(report(server.run)))
    long_tables = ("operators", "operators_by_shape", "operators_by_module", "kernels", "memory")
    assert {k: v for k, v in page["report"].items() if k not in long_tables} == {
        k: v for k, v in expected.items() if k not in long_tables
    }
    assert page["steps"]["number"] == list(range(20))
    assert page["windows"][0]["steps"] == 3


def test_the_report_of_a_window_is_whole(server: Server) -> None:
    assert server.ask(f"{ROOT}/report?run=run&window=0") == json.loads(msgspec.json.encode(report(server.run)))


def test_the_timeline_is_sent_as_it_was_written(server: Server) -> None:
    status, headers, body = server.raw("timeline?run=run&window=0")
    assert (status, headers["Content-Type"]) == (200, "application/octet-stream")
    assert headers["Content-Encoding"] == "gzip"
    assert body == timeline.encoded(server.run.traces[0], server.run.counters)


def test_the_ranks_are_sent_as_they_were_written(server: Server) -> None:
    status, headers, body = server.raw("ranks?run=run")
    assert (status, headers["Content-Type"], headers["Content-Encoding"]) == (200, "application/json", "gzip")
    assert msgspec.json.decode(body, type=Ranks) == RANKS


def test_the_script_is_sent_and_nothing_beside_it(server: Server) -> None:
    status, headers, body = server.raw("static/index.js")
    assert (status, body) == (200, SCRIPT.read_bytes())
    assert headers["Content-Type"].startswith("text/javascript")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert server.raw("static/plugin.py")[0] == 404
    assert server.raw("static/..%2fplugin.py")[0] == 404


@pytest.mark.parametrize(
    "path",
    [
        *("page?run=nobody", "page", "report?run=nobody&window=0", "report?run=run&window=7", "report?run=run"),
        *("timeline?run=run&window=-1", "timeline?run=run&window=%D9%A1", "timeline?run=run&window=0%00"),
        *(f"report?run={quote(run, safe='')}&window=0" for run in ("..", "../..", "/etc", "run/..", "run/../run", "")),
        f"report?run=run&window={quote('0/../../../../../secret', safe='')}",
        f"report?run=run&window={'9' * 5_000}",
        *(
            f"ranks?run={quote(run, safe='')}"
            for run in ("nobody", "", "..", "run/..", "run/rank=1", "rank=1", "../run")
        ),
    ],
)
def test_what_is_not_there_is_a_sentence_and_404(server: Server, path: str) -> None:
    status, _, body = server.raw(path)
    assert status == 404
    assert set(json.loads(body)) == {"error"}


@LOADERS
def test_it_works_behind_a_prefix_and_over_several_runs_and_ranks(tmp_path: Path, fast: str) -> None:
    for name in ("first", "second"):
        run = made_run(tmp_path, name)
        TensorBoardExporter().export(run, report(run), tmp_path / name)
    run = made_run(tmp_path, "second/rank=5")
    TensorBoardExporter().export(run, report(run), tmp_path / "second" / "rank=5")
    with tensorboard(tmp_path, fast, "--path_prefix", "/some/where") as ask:
        prefix = f"some/where/{ROOT}"
        runs = until(lambda: ask(f"{prefix}/runs"), lambda runs: len(runs) == 3)
        assert sorted(entry["run"] for entry in runs) == ["first", "second", "second/rank=5"]
        assert ask(f"{prefix}/report?run=second%2Frank%3D5&window=0")["steps"] == 20
        write_ranks(RANKS, tmp_path / "second")
        assert ask(f"{prefix}/ranks?run=second%2Frank%3D5")["world_size"] == 3
        assert raw_status(ask, f"{prefix}/ranks?run=first") == 404


@LOADERS
def test_a_running_training_shows_its_newest_page(tmp_path: Path, fast: str) -> None:
    sink = TensorBoardSink()
    run = made_run(tmp_path)
    assert run.folder is not None
    sink.open(run.folder, 0)
    with tensorboard(tmp_path, fast) as ask:
        sink.report(run, msgspec.structs.replace(report(run), state="running", steps=7))
        sink.flush()
        page = until(lambda: ask(f"{ROOT}/page?run=run"), bool)
        assert (page["report"]["state"], page["report"]["steps"]) == ("running", 7)
        assert ask(f"{ROOT}/report?run=run&window=0")["operators"]
        (before,) = ask(f"{ROOT}/runs")
        sink.report(run, msgspec.structs.replace(report(run), state="running", steps=9))
        sink.flush()
        page = until(lambda: ask(f"{ROOT}/page?run=run"), lambda page: page["report"]["steps"] == 9)
        assert ask(f"{ROOT}/runs")[0]["version"] > before["version"]
    sink.close()


def test_the_module_needs_nothing_but_tensorboard() -> None:
    """Whoever has TensorBoard and a broken environment still gets TensorBoard."""
    program = (
        "import sys;"
        "sys.modules |= dict.fromkeys(('polars', 'msgspec', 'psutil', 'rich', 'isal', 'torch', 'tensorflow'));"
        "import profkit.tensorboard.plugin"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
