"""What a notebook shows of a run: a summary without a script, and the page in a frame."""

from __future__ import annotations

import html
import re
from pathlib import Path

from profkit import notebook
from profkit.analysis.breakdown import CLASSES
from profkit.analysis.summary import report
from profkit.trace.load import load
from profkit.trace.model import Run, RunInfo
from profkit.trace.schema import COUNTERS, empty
from tests import runs, traces
from tests.test_html_exporter import HOSTILE, Elements
from tests.test_tensorboard_exporter import made_run


def test_a_run_shows_its_verdict_its_remedy_and_where_the_time_went(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    shown = run._repr_html_()
    known = report(run)
    assert html.escape(known.headline) in shown
    assert html.escape(known.findings[0].remedy) in shown
    assert "data wait 40 ms, 40 %" in shown
    assert "aten::conv2d" in shown


def test_a_trace_shows_the_same_way(tmp_path: Path) -> None:
    shown = traces.traced(tmp_path, [traces.step(1, 0, 100), traces.wait(0, 60)])._repr_html_()
    assert "60 % of each step waits for data" in shown


def test_the_summary_has_no_script_and_no_style_sheet(tmp_path: Path) -> None:
    trace = traces.traced(tmp_path, [traces.op(HOSTILE, 0, 10)])
    run = Run(RunInfo(script=HOSTILE), runs.steps_table([{}]), empty(COUNTERS), None, (lambda: trace,))
    tags = set(Elements(run._repr_html_()).tags)
    assert not tags & {"script", "style", "link", "img", "iframe"}
    assert HOSTILE not in run._repr_html_()


def test_a_run_of_nothing_is_shown(tmp_path: Path) -> None:
    assert "No step was recorded" in Run(RunInfo(), runs.steps_table([]), empty(COUNTERS))._repr_html_()


def test_the_page_is_shown_in_a_frame_of_its_own(tmp_path: Path) -> None:
    run = made_run(tmp_path)
    shown = run.show()._repr_html_()
    assert 'sandbox="allow-scripts allow-downloads allow-popups"' in shown
    assert "allow-same-origin" not in shown
    (frame,) = [part for part in Elements(shown).tags if part == "iframe"]
    assert frame
    assert "profkit-page" in html.unescape(shown)


def test_a_folder_is_shown_as_the_run_in_it(tmp_path: Path) -> None:
    trace = traces.written(tmp_path, [traces.step(1, 0, 100), traces.wait(0, 60)])
    assert notebook.summary(trace) == load(trace)._repr_html_()


def test_a_class_has_the_pages_colour() -> None:
    palette = (Path(__file__).parents[1] / "web" / "src" / "palette.ts").read_text()
    tones = dict(
        re.findall(r'(\w+): "(#[0-9a-f]{6})"', palette.partition("export const dark")[0].partition("tones: {")[2])
    )
    assert {name: tones[name] for name in CLASSES} == notebook.COLOURS
