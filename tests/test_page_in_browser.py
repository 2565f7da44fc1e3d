"""The page as people see it: every view of every sort of run, in a real browser, in TensorBoard and as a file."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec
import numpy as np
import polars as pl
import pytest

from profkit.analysis.report import Report
from profkit.analysis.summary import report
from profkit.exporters.html import HtmlExporter
from profkit.exporters.tensorboard import TensorBoardExporter
from profkit.exporters.tensorboard_live import TensorBoardSink
from profkit.trace.load import load
from profkit.units import duration, percent, size
from tests import page_logs
from tests.browser import Visit, chromium, drawn, frames_while_moving, inner, needs_browser, time_to, visiting
from tests.corpus import CORPUS, RESNET_0, needs_corpus
from tests.live_tensorboard import Asked, tensorboard, until
from tests.test_tensorboard_exporter import made_run

if TYPE_CHECKING:
    from playwright.sync_api import Browser, FrameLocator, Locator

pytestmark = needs_browser

ROUTE = "data/plugin/profkit"
VIEWS = ("overview", "timeline", "operators", "flame", "memory", "data", "ranks")
AXE = Path(__file__).parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"
FIRST_CONTENT_MS, TIMELINE_MS, FRAME_MS = 1_000, 2_000, 12.0


@dataclass
class Logs:
    """A log folder, and the runs in it by what they are."""

    folder: Path
    corpus: list[str] = field(default_factory=list)
    made: list[str] = field(default_factory=list)
    samples: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Logs:
    folder = tmp_path_factory.mktemp("page") / "logs"
    logs = Logs(folder, page_logs.corpus_runs(folder), page_logs.made_runs(folder))
    page_logs.ranks(folder)
    page_logs.million(folder)
    return logs


@pytest.fixture(scope="module")
def server(logs: Logs) -> Iterator[Asked]:
    with tensorboard(logs.folder) as ask:
        until(lambda: ask(f"{ROUTE}/runs"), lambda runs: len(runs) >= page_logs.RANKS + 4)
        yield ask


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    with visiting(browser) as visit:
        yield visit


def runs_of(logs: Logs) -> list[str]:
    return [*logs.corpus, *logs.made, "million", "ranks/rank=255"]


def test_every_view_of_every_run_is_drawn_without_an_error(visit: Visit, server: Asked, logs: Logs) -> None:
    for run in runs_of(logs):
        for view in VIEWS:
            drawn(visit.tab(server.base, run=run, view=view), view, run)
            visit.shoot(f"{run.replace('/', '_')}-{view}")
            visit.was_clean()


def test_it_follows_tensorboards_theme_while_it_runs(visit: Visit, server: Asked) -> None:
    background = "getComputedStyle(document.documentElement).backgroundColor"
    for view in VIEWS:
        drawn(visit.tab(f"{server.base}?darkMode=true", run="million", view=view), view)
        assert brightness(inner(visit).evaluate(background)) < 200
        visit.shoot(f"million-{view}-dark")
    visit.page.evaluate("document.body.classList.remove('dark-mode')")
    visit.page.wait_for_timeout(200)
    assert brightness(inner(visit).evaluate(background)) > 600


def brightness(colour: str) -> int:
    """Sum of red, green and blue in `rgb(…)`."""
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


@pytest.mark.parametrize("fast", ["--load_fast=true", "--load_fast=false"])
def test_it_works_behind_a_prefix_with_either_loader(browser: Browser, tmp_path: Path, fast: str) -> None:
    run = made_run(tmp_path)
    TensorBoardExporter().export(run, report(run), tmp_path / "run")
    with tensorboard(tmp_path, fast, "--path_prefix", "/some/where") as ask, visiting(browser) as visit:
        until(lambda: ask(f"some/where/{ROUTE}/runs"), bool)
        for view in VIEWS:
            drawn(visit.tab(f"{ask.base}some/where/", run="run", view=view), view)


@needs_corpus
@pytest.mark.parametrize("run", ["resnet50_nw0", "owlv2_h100", "tf_stall"])
def test_the_numbers_are_those_of_the_report(visit: Visit, server: Asked, run: str) -> None:
    known = json.loads(msgspec.json.encode(report(load(CORPUS / page_logs.RECORDED[run]))))
    tab = visit.tab(server.base, run=run, view="overview")
    drawn(tab, "overview")
    text = tab.locator("main").inner_text()
    assert known["headline"] in text
    for finding in known["findings"]:
        assert finding["remedy"] in text
    assert duration(known["step_time_ns"]["mean"]) in text
    assert duration(known["step_time_ns"]["p95"]) in text
    total = sum(known["breakdown_ns"].values())
    for time_ns in filter(None, known["breakdown_ns"].values()):
        assert duration(time_ns) in text
        assert percent(time_ns / total) in text
    tab = visit.tab(server.base, run=run, view="operators")
    drawn(tab, "operators")
    shown = tab.locator("main").inner_text()
    for operator in known["operators"][:5]:
        row = tab.get_by_role("row").filter(has_text=operator["name"]).first.inner_text()
        assert f"{operator['calls']:,}" in row
        assert duration(operator["self_ns"]) in row, (row, operator)
        assert duration(operator["total_ns"]) in row
    assert known["operators"][0]["name"] in shown
    if known["memory"]["devices"]:
        tab = visit.tab(server.base, run=run, view="memory")
        drawn(tab, "memory")
        text = tab.locator("main").inner_text()
        for device in known["memory"]["devices"]:
            assert size(device["peak_bytes"]) in text


def test_names_are_text_and_nothing_is_executed(visit: Visit, server: Asked) -> None:
    for view in VIEWS:
        tab = visit.tab(server.base, run="hostile", view=view)
        drawn(tab, view)
        frame = inner(visit)
        assert frame.evaluate("document.querySelectorAll('img, main script').length") == 0
        assert frame.evaluate("document.title") != "executed"
        assert visit.page.title() != "executed"
    tab = visit.tab(server.base, run="hostile", view="operators")
    drawn(tab, "operators")
    assert "<img src=x onerror=" in tab.locator("main").inner_text()
    assert "🦥" in tab.locator("main").inner_text()


def test_a_run_that_is_not_there_is_said(visit: Visit, server: Asked) -> None:
    tab = visit.tab(server.base, run="nobody", view="overview")
    tab.get_by_text("nobody").first.wait_for()
    visit.errors.clear()  # the browser itself reports the 404


def opened(visit: Visit, base: str, run: str) -> tuple[FrameLocator, Any]:
    """The timeline of a run, and the canvas of its rows."""
    tab = visit.tab(base, run=run, view="timeline")
    rows = tab.get_by_role("application")
    rows.wait_for()
    drawn(tab)
    return tab, rows


def span_of_time(visit: Visit) -> tuple[float, float]:
    """What part of the trace is seen, by the address."""
    found = dict(re.findall(r"p\.profkit\.(start|end)=(-?[\d.]+)", settled_url(visit)))
    return float(found["start"]), float(found["end"])


def test_wheel_and_keys_move_through_the_timeline(visit: Visit, server: Asked) -> None:
    _, rows = opened(visit, server.base, "million")
    rows.focus()
    visit.page.keyboard.press("w")
    start, end = span_of_time(visit)
    assert 0 < end - start < 1.9e9
    visit.page.keyboard.press("d")
    moved, _ = span_of_time(visit)
    assert moved > start
    box = rows.bounding_box()
    assert box is not None
    visit.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 40)
    visit.page.keyboard.down("Control")
    visit.page.mouse.wheel(0, -300)
    visit.page.keyboard.up("Control")
    closer = span_of_time(visit)
    assert closer[1] - closer[0] < end - start
    visit.page.keyboard.press("0")
    visit.page.wait_for_timeout(600)
    assert "p.profkit.start=" not in visit.page.url or span_of_time(visit)[1] - span_of_time(visit)[0] > 1.9e9


@needs_corpus
def test_a_search_counts_its_hits_and_says_what_is_wrong_with_a_pattern(visit: Visit, server: Asked) -> None:
    tab, _ = opened(visit, server.base, "resnet50_nw0")
    calls = sum(op.calls for op in report(load(CORPUS / RESNET_0)).operators if op.name == "aten::conv2d")
    field = tab.get_by_role("searchbox")
    field.fill("^aten::conv2d$")
    tab.get_by_text(re.compile(rf"\b{calls}\b")).first.wait_for()
    field.fill("(")
    tab.get_by_text(re.compile("regular expression|pattern", re.IGNORECASE)).first.wait_for()
    assert field.get_attribute("aria-invalid") == "true"


@needs_corpus
def test_a_link_brings_back_the_selected_span_and_its_links(visit: Visit, server: Asked) -> None:
    tab, _ = opened(visit, server.base, "owlv2_h100")
    field = tab.get_by_role("searchbox")
    field.fill("^cudaLaunchKernel$")
    field.press("Enter")
    details = tab.get_by_role("region", name="Selected span")
    details.get_by_text("cudaLaunchKernel").first.wait_for()
    visit.page.wait_for_timeout(600)
    assert "p.profkit.span=" in visit.page.url
    visit.shoot("owlv2_h100-timeline-selected")
    visit.page.reload()
    tab.get_by_role("region", name="Selected span").get_by_text("cudaLaunchKernel").first.wait_for()


@needs_corpus
def test_the_totals_of_a_steps_time_are_those_of_the_trace(visit: Visit, server: Asked) -> None:
    """Known from the tables: calls and self time of the largest within the time of one step."""
    trace = load(CORPUS / RESNET_0).traces[0]
    step = trace.spans.filter((pl.col("kind") == "step") & (pl.col("step") == 6)).row(0, named=True)
    end = pl.col("start_ns") + pl.col("duration_ns")
    step_end = step["start_ns"] + step["duration_ns"]
    inside = trace.spans.filter((pl.col("start_ns") >= step["start_ns"]) & (end <= step_end))
    largest = (
        inside.filter(pl.col("kind") != "step")
        .group_by(pl.col("name").cast(pl.String))
        .agg(pl.len().alias("calls"), pl.sum("self_ns"))
        .sort("self_ns", descending=True)
        .row(0, named=True)
    )
    tab, _ = opened(visit, server.base, "resnet50_nw0")
    field = tab.get_by_role("searchbox")
    field.fill(f"^{step['name']}$")
    field.press("Enter")
    tab.get_by_role("button", name="Sum up its time").click()
    row = tab.get_by_role("row").filter(has_text=largest["name"][:60]).first
    row.wait_for()
    assert f"{largest['calls']:,}" in row.inner_text()
    assert duration(largest["self_ns"]) in row.inner_text()
    assert f"p.profkit.range={step['start_ns'] - trace.info.start_ns}" in unquote(settled_url(visit))


@needs_corpus
def test_an_operators_row_filters_the_timeline(visit: Visit, server: Asked) -> None:
    tab = visit.tab(server.base, run="resnet50_nw0", view="operators")
    drawn(tab, "operators")
    tab.get_by_role("row").filter(has_text="aten::convolution").first.get_by_role("button").first.click()
    drawn(tab, "timeline")
    assert "aten::convolution" in tab.get_by_role("searchbox").input_value()


def settled_url(visit: Visit) -> str:
    """The address, which follows the timeline within half a second."""
    visit.page.wait_for_timeout(600)
    return visit.page.url


def test_the_back_button_moves_between_views(visit: Visit, server: Asked) -> None:
    tab = visit.tab(server.base, run="million", view="overview")
    drawn(tab, "overview")
    tab.get_by_role("link", name="Operators").click()
    tab.get_by_role("heading", level=1, name="Operators").wait_for()
    visit.page.go_back()
    tab.get_by_role("heading", name=re.compile("of each step waits for data")).first.wait_for()


def test_ranks_are_chosen_among_many(visit: Visit, server: Asked) -> None:
    tab = visit.tab(server.base, run="ranks", view="overview")
    drawn(tab, "overview")
    tab.get_by_role("button", name=re.compile("^Rank")).click()
    visit.page.keyboard.type("200")
    visit.page.keyboard.press("Enter")
    visit.page.wait_for_timeout(300)
    assert "rank%3D200" in visit.page.url
    drawn(tab)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_is_accessible(visit: Visit, server: Asked, theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in web/")
    run = "resnet50_nw0" if CORPUS.is_dir() else "million"
    for view in VIEWS:
        drawn(visit.tab(f"{server.base}?darkMode={str(theme == 'dark').lower()}", run=run, view=view), view)
        frame = inner(visit)
        frame.evaluate(AXE.read_text())
        found = frame.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert found["passes"]
        assert not [(view, v["id"], v["help"], v["nodes"][0]["html"][:200]) for v in found["violations"]]


def test_a_million_spans_are_there_soon_and_move_smoothly(visit: Visit, server: Asked) -> None:
    """First content and the timeline are timed from choosing the run, in the page's own clock."""
    drawn(visit.tab(server.base, run="no_window", view="overview"), "overview")
    first = time_to(visit, "million", "overview", "h1")
    timeline = time_to(visit, "million", "timeline", "canvas.tl-rows")
    frames = frames_while_moving(visit)
    assert first < FIRST_CONTENT_MS
    assert timeline < TIMELINE_MS
    assert len(frames) > 60
    assert np.percentile(frames, 95) <= FRAME_MS


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """What is known of the run `loading`."""
    return page_logs.planted_loading(tmp_path_factory.mktemp("planted"))[1]


def loading_view(visit: Visit, server: Asked, run: str = "loading", **state: str | int) -> Locator:
    tab = visit.tab(server.base, run=run, view="data", **state)
    drawn(tab, "data", run)
    return tab.locator("main")


def cells(card: Locator, first: str) -> list[str]:
    """The words of the row that begins with this cell."""
    texts = [row.inner_text() for row in card.get_by_role("row").all()]
    (row,) = [text.split("\t") for text in texts if text.split("\t")[0].strip() == first]
    return [text.strip() for text in row]


def test_the_data_loading_views_numbers_are_those_of_the_report(visit: Visit, server: Asked, planted: Report) -> None:
    known = planted.loading
    assert known is not None
    main = loading_view(visit, server)
    for stage in known.stages:
        row = cells(main.locator("#stages"), "Items" if stage.name == "item" else stage.name.capitalize())
        share = stage.wait_ns / known.wait_ns
        own = "–" if stage.mean_ns is None else duration(stage.mean_ns)
        assert row[1:4] == [duration(stage.wait_ns), percent(share), own]
    for worker in known.workers:
        row = cells(main.locator("#workers"), f"worker {worker.worker}")
        assert row[1:3] == [f"{worker.pid}", f"{worker.batches}"]
        assert row[3:] == [percent(worker.busy_share), duration(worker.fetch_ns)]
    for place, sample in enumerate(known.slowest_samples):
        row = main.locator("#samples").get_by_role("row").nth(place + 1).inner_text().split()
        assert row[0] == f"{sample.index}"
        assert f"{row[1]} {row[2]}" == duration(sample.duration_ns)
        assert row[-3:] == [f"{sample.worker}", f"{sample.batch}", f"{sample.step}"]
    text = main.inner_text()
    assert known.fetch is not None
    assert known.startup is not None
    fetch, startup = known.fetch, known.startup
    times = [
        *(known.wait_ns, known.interval_ns, known.median_sample_ns),
        *(fetch.mean_ns, fetch.p50_ns, fetch.p95_ns, fetch.max_ns, fetch.cpu_ns, fetch.run_queue_ns, fetch.blocked_ns),
        *(startup.first_wait_ns, startup.process_ns, startup.init_ns, startup.dataset_ns, startup.first_fetch_ns),
        *(transform.mean_ns for transform in known.transforms),
        *(time for one in known.predictions if one.kind != "workers" for time in (one.step_ns, one.wait_ns)),
    ]
    assert [time for time in times if time is None or duration(time) not in text] == []
    assert f"In {percent(known.queue_depth[0] / sum(known.queue_depth))} of the requests nothing was ready." in text
    assert f"busy {percent(known.utilisation or 0)} of the time" in text
    assert size(fetch.read_bytes or 0) in text
    assert "serial map" in text
    visit.shoot("loading-data-top")
    main.locator("#whatif").scroll_into_view_if_needed()
    visit.shoot("loading-data-bottom")


def test_the_what_if_curve_says_each_prediction_and_offers_the_best_to_paste(
    visit: Visit, server: Asked, planted: Report
) -> None:
    assert planted.loading is not None
    card = loading_view(visit, server).locator("#whatif")
    assert card.locator("code").inner_text() == "DataLoader(…, num_workers=6)"
    chart = card.get_by_role("application")
    chart.focus()
    curve = [one for one in planted.loading.predictions if one.kind == "workers"]
    for one in curve:
        visit.page.keyboard.press("ArrowRight")
        words = chart.locator(".readout").inner_text()
        assert words.startswith(f"{one.settings['num_workers']} worker")
        assert f"step {duration(one.step_ns)}, wait {duration(one.wait_ns)}" in words
        assert f"confidence {one.confidence}" in words
    assert card.locator("circle").count() == len(curve)
    assert card.locator(".marked").all_text_contents() == ["now", "best"]


def test_a_batch_says_what_it_waited_for_and_leads_to_its_step(visit: Visit, server: Asked) -> None:
    batches = page_logs.planted_batches(2_000)
    waits = (batches["came_ns"] - batches["asked_ns"]).to_list()
    bar = 3  # of four batches, 12 to 15, which are all within the window
    step = max(range(4 * bar, 4 * bar + 4), key=waits.__getitem__)
    tab = visit.tab(server.base, run="loading", view="data")
    drawn(tab, "data")
    chart = tab.locator("#batches").get_by_role("application")
    chart.focus()
    for _ in range(bar + 1):
        visit.page.keyboard.press("ArrowRight")
    words = chart.locator(".readout").inner_text()
    assert words.startswith(f"Batch of step {step}: {duration(waits[step])}, ")
    assert f"collate {duration(6_000_000)}" in words
    visit.page.keyboard.press("Enter")
    drawn(tab, "timeline")
    assert f"p.profkit.step={step}" in visit.page.url


def test_the_lanes_show_every_fetch_of_the_last_batches(visit: Visit, server: Asked) -> None:
    card = loading_view(visit, server).locator("#workers")
    card.get_by_role("button", name="Last 200 batches").click()
    bars = card.locator("svg g").nth(1).locator("rect")
    assert 48 <= bars.count() <= 50, "every fourth batch of the last 200 is of worker 0"
    card.get_by_role("button", name="Last 20 batches").click()
    assert 4 <= bars.count() <= 7
    bars.first.hover()
    assert re.match("Fetched in [0-9.]+ ms[.] Batch of step", card.locator(".readout").inner_text())


def test_a_finding_leads_to_the_card_it_rests_on(visit: Visit, server: Asked, planted: Report) -> None:
    tab = visit.tab(server.base, run="loading", view="overview")
    drawn(tab, "overview")
    finding = tab.locator(".finding").filter(has_text=planted.findings[-1].remedy)
    finding.get_by_role("button", name="Look into it: Data loading").click()
    drawn(tab, "data")
    assert "p.profkit.part=slow_samples" in visit.page.url
    from playwright.sync_api import expect

    expect(tab.locator("#samples")).to_be_in_viewport(ratio=0.9)
    expect(tab.locator("#stages")).not_to_be_in_viewport()
    visit.shoot("loading-data-samples")
    tab.locator(".finding").first.get_by_role("button", name="Look into it").click()
    expect(tab.locator("#stages")).to_be_in_viewport(ratio=0.9)


def test_its_script_is_loaded_when_it_is_looked_at_and_a_failure_can_be_tried_again(
    visit: Visit, server: Asked
) -> None:
    asked: list[str] = []
    visit.page.on("request", lambda request: asked.append(request.url))
    tab = visit.tab(server.base, run="loading", view="overview")
    drawn(tab, "overview")
    assert not [url for url in asked if url.endswith("loading.js")]
    visit.page.route("**/loading.js", lambda route: route.abort(), times=1)
    tab.get_by_role("link", name="Data loading").click()
    tab.get_by_text("TensorBoard does not answer.").wait_for()
    visit.errors.clear()  # the browser itself reports the request that failed
    tab.get_by_role("button", name="Try again").click()
    tab.get_by_role("heading", level=1, name="Data loading").wait_for()


@pytest.mark.parametrize(
    ("run", "sentence"),
    [
        ("no_window", "profkit looks inside PyTorch's DataLoader"),
        ("million", "A trace file has only what the framework's profiler recorded"),
        ("empty", "Not even waits are known"),
    ],
)
def test_where_nobody_looked_inside_the_view_says_so(visit: Visit, server: Asked, run: str, sentence: str) -> None:
    main = loading_view(visit, server, run)
    main.get_by_role("heading", name="Nobody looked inside the loader").wait_for()
    assert sentence in main.inner_text()
    assert main.locator("#stages, #workers, #whatif").count() == 0


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_the_data_loading_view_is_accessible(visit: Visit, server: Asked, theme: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in web/")
    tab = visit.tab(f"{server.base}?darkMode={str(theme == 'dark').lower()}", run="loading", view="data")
    drawn(tab, "data")
    for table in tab.get_by_role("button", name=re.compile("^Table of")).all():
        table.click()
    frame = inner(visit)
    frame.evaluate(AXE.read_text())
    for _ in ("tables", "charts"):
        found = frame.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert found["passes"]
        assert not [(v["id"], v["help"], v["nodes"][0]["html"][:200]) for v in found["violations"]]
        for table in tab.get_by_role("button", name=re.compile("^Table of")).all():
            table.click()
    visit.shoot(f"loading-data-{theme}")


def test_a_file_brings_the_data_loading_view_along(browser: Browser, tmp_path: Path) -> None:
    run, known = page_logs.planted_loading(tmp_path / "traces")
    (path,) = HtmlExporter().export(run, known, tmp_path)
    assert Path(path).stat().st_size < 400_000
    with visiting(browser) as visit:
        requests: list[str] = []
        visit.page.on("request", lambda request: requests.append(request.url))
        visit.page.goto(f"file://{path}#p.profkit.view=data&p.profkit.part=whatif")
        visit.page.locator("#whatif svg circle").first.wait_for()
        assert visit.page.title() != "executed"
        assert {request.partition("#")[0] for request in requests} == {f"file://{path}"}


def test_a_running_training_is_shown_as_it_goes(browser: Browser, tmp_path: Path) -> None:
    run = made_run(tmp_path)
    assert run.folder is not None
    sink = TensorBoardSink()
    sink.open(run.folder, 0)
    known = msgspec.structs.replace(report(run), state="running")
    with tensorboard(tmp_path) as ask, visiting(browser) as visit:
        sink.report(run, msgspec.structs.replace(known, headline="So far nothing."))
        sink.flush()
        until(lambda: ask(f"{ROUTE}/runs"), bool)
        tab = visit.tab(ask.base, run="run", view="overview")
        tab.get_by_role("heading", name="So far nothing.").wait_for()
        sink.report(run, msgspec.structs.replace(known, headline="Now something."))
        sink.flush()
        tab.get_by_role("heading", name="Now something.").wait_for(timeout=45_000)
    sink.close()


@pytest.mark.parametrize("sample", ["pytorch_digits.py", "keras_digits.py"])
def test_the_report_of_a_sample_is_small_whole_and_opens_from_disk(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory, sample: str
) -> None:
    run = load(page_logs.trained(tmp_path_factory.getbasetemp() / "samples", sample))
    (path,) = HtmlExporter().export(run, report(run), tmp_path_factory.mktemp("html"))
    assert Path(path).stat().st_size < 400_000
    with visiting(browser) as visit:
        requests: list[str] = []
        visit.page.on("request", lambda request: requests.append(request.url))
        visit.page.goto(f"file://{path}")
        visit.page.get_by_role("heading", name=report(run).headline).wait_for()
        for view in VIEWS:
            visit.page.goto(f"file://{path}#p.profkit.view={view}")
            drawn(visit.page.main_frame, view)  # type: ignore[arg-type]  # it is asked the same way
            visit.shoot(f"file-{sample.partition('.')[0]}-{view}")
        assert {request.partition("#")[0] for request in requests} == {f"file://{path}"}


def test_a_trace_is_handed_to_perfetto_on_request(visit: Visit, server: Asked) -> None:
    """Perfetto's page cannot be had here: one that speaks its protocol stands in for it."""
    visit.page.context.route(
        "https://ui.perfetto.dev/**",
        lambda route: route.fulfill(
            content_type="text/html",
            body="<script>onmessage = (event) => { if (event.data === 'PING') event.source.postMessage('PONG', '*');"
            " else document.title = new TextDecoder().decode(event.data.perfetto.buffer).slice(0, 40); }</script>",
        ),
    )
    tab, _ = opened(visit, server.base, "hostile")
    with visit.page.context.expect_page() as waiting:
        tab.get_by_role("button", name="Open in Perfetto").click()
    waiting.value.wait_for_function("document.title.includes('traceEvents')")


def test_a_download_is_a_chrome_trace_of_every_span(visit: Visit, server: Asked, tmp_path: Path) -> None:
    tab, _ = opened(visit, server.base, "hostile")
    with visit.page.expect_download() as waiting:
        tab.get_by_role("button", name=re.compile("^Download")).click()
    path = tmp_path / "trace.json"
    waiting.value.save_as(path)
    events = json.loads(path.read_text())["traceEvents"]
    named = {event["name"] for event in events if event["ph"] == "X"}
    assert {name.replace("\0", "") for name in page_logs.HOSTILE} <= named
    assert load(path).traces[0].spans.height >= len(page_logs.HOSTILE)
