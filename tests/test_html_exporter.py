"""The page as one file: it holds the run, lets no name break out, and forbids itself every request."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import msgspec

from profkit.analysis.summary import report
from profkit.exporters import timeline
from profkit.exporters.html import HtmlExporter
from profkit.tensorboard import ON_DEMAND, SCRIPT
from profkit.trace.model import Run, RunInfo
from profkit.trace.schema import COUNTERS, empty
from tests import runs, traces
from tests.test_tensorboard_exporter import made_run

HOSTILE = '</script><img src=x onerror="alert(1)">'


class Elements(HTMLParser):
    """Scripts and policy of a document, as a browser finds them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.tags: list[str] = []
        self.policy = self.title = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        known = dict(attributes)
        if tag == "script":
            self.scripts.append((known, ""))
        if tag == "meta" and known.get("http-equiv") == "Content-Security-Policy":
            self.policy = known["content"] or ""

    def handle_data(self, data: str) -> None:
        if self.tags[-1:] == ["script"] and self.scripts and data.strip():
            attributes, text = self.scripts.pop()
            self.scripts.append((attributes, text + data))
        elif self.tags[-1:] == ["title"]:
            self.title += data

    def handle_endtag(self, tag: str) -> None:
        self.tags.append(f"/{tag}")

    def block(self, name: str) -> bytes:
        """The decompressed data of this name."""
        (text,) = [text for attributes, text in self.scripts if attributes.get("id") == f"profkit-{name}"]
        return gzip.decompress(base64.b64decode(text))


def written(run: Run, folder: Path) -> Elements:
    (path,) = HtmlExporter().export(run, report(run), folder)
    return Elements(Path(path).read_text())


def test_the_file_holds_what_the_server_would_send(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    found = written(run, tmp_path)
    assert json.loads(found.block("runs")) == [{"run": "run", "version": ""}]
    assert json.loads(found.block("page"))["report"]["headline"] == report(run).headline
    assert json.loads(found.block("report-0")) == json.loads(msgspec.json.encode(report(run)))
    assert found.block("timeline-0") == timeline.encoded(run.traces[0], run.counters)


def test_the_policy_allows_the_pages_scripts_and_no_request(tmp_path: Path) -> None:
    found = written(made_run(tmp_path), tmp_path)
    scripts = [text for attributes, text in found.scripts if attributes.get("type") == "module"]
    digests = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert "script-src " + " ".join(f"'sha256-{digest}'" for digest in digests) + ";" in found.policy
    assert "default-src 'none'" in found.policy
    assert "connect-src" not in found.policy
    for script, path in zip(scripts, (SCRIPT, *ON_DEMAND), strict=True):
        assert len(script) >= len(path.read_text())


def test_a_name_cannot_break_out(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [traces.op(HOSTILE, 0, 10)])
    run = Run(RunInfo(script=HOSTILE), runs.steps_table([{}]), empty(COUNTERS), None, (lambda: trace,))
    found = written(run, tmp_path)
    assert "img" not in found.tags
    assert found.title.startswith(HOSTILE)
    assert HOSTILE in json.loads(found.block("report-0"))["operators"][0]["name"]


def test_the_built_scripts_hold_no_address_but_perfettos_and_standards() -> None:
    text = "".join(path.read_text() for path in (SCRIPT, *ON_DEMAND))
    addresses = set(re.findall(r"https?://[^\s\"'`)\\]+", text))
    assert {address.split("/")[2] for address in addresses} <= {"ui.perfetto.dev", "www.w3.org"}
