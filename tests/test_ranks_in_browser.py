"""The page's ranks as people see them: one, two, 16 and 1,024 of them, and the timelines of several in one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from profkit.analysis.report import RankRow, Ranks, Report
from profkit.analysis.summary import report
from profkit.cli.report import judged
from profkit.exporters.html import HtmlExporter
from profkit.exporters.tensorboard import TensorBoardExporter
from profkit.trace.load import load
from profkit.units import duration, percent, size
from tests import page_ranks, runs
from tests.browser import Visit, chromium, drawn, inner, needs_browser, time_to, visiting
from tests.corpus import CORPUS, needs_corpus
from tests.live_tensorboard import Asked, tensorboard, until

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Locator

pytestmark = needs_browser

ROUTE = "data/plugin/profkit"
AXE = Path(__file__).parents[1] / "web" / "node_modules" / "axe-core" / "axe.min.js"
DLRM = "facebookresearch+param/dlrm_kineto_unpacked"
RANKS = 1_024
FIRST_PAINT_MS = 1_000
CLASSES = ("data_wait", "compute", "communication", "copy", "runtime", "host", "unattributed")


@dataclass(frozen=True, slots=True)
class Served:
    """A TensorBoard over trainings of many ranks, and what is known of two of them."""

    ask: Asked
    cluster: Ranks
    pair: Ranks


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Report]:
    """Eight recorded ranks in a log folder, and what is said of them."""
    folder = tmp_path_factory.mktemp("recorded")
    known, _ = judged(CORPUS / DLRM)
    (folder / "dlrm").mkdir()
    TensorBoardExporter().export(load(CORPUS / DLRM), known, folder / "dlrm")
    return folder, known


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("ranks") / "logs"
    cluster, pair = page_ranks.cluster(folder, RANKS), page_ranks.pair(folder)
    page_ranks.others(folder)
    with tensorboard(folder) as ask:
        until(lambda: ask(f"{ROUTE}/runs"), lambda runs: len(runs) == 8)
        yield Served(ask, cluster, pair)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    with visiting(browser) as visit:
        yield visit


def view(visit: Visit, served: Served, run: str, **state: str | int) -> Locator:
    """The view of a run's ranks."""
    tab = visit.tab(served.ask.base, run=run, view="ranks", **state)
    drawn(tab, "ranks", run)
    return tab.locator("main")


def cells(table: Locator, first: str) -> list[str]:
    """The words of the row that begins with this cell."""
    texts = [row.inner_text().split("\t") for row in table.get_by_role("row").all()]
    (row,) = [text for text in texts if text[0].strip() == first]
    return [text.strip() for text in row]


def test_the_server_sends_the_ranks_whichever_of_them_is_asked_about(served: Served) -> None:
    first, other = (served.ask(f"{ROUTE}/ranks?run={run}") for run in ("cluster", "cluster%2Frank%3D517"))
    assert first == other
    assert [row["rank"] for row in first["rows"]] == [row.rank for row in served.cluster.rows]


def test_the_verdict_names_the_late_rank_its_cause_its_cost_and_who_is_missing(visit: Visit, served: Served) -> None:
    main = view(visit, served, "cluster")
    verdict = main.get_by_role("region", name="Ranks' verdict")
    finding = page_ranks.STRAGGLER_FINDING
    verdict.get_by_role("heading", name=finding.message).wait_for()
    text = verdict.inner_text()
    assert finding.remedy in text
    assert "4 recorded nothing (3, 5–7)" in text
    rows = served.cluster.rows
    step = sum(row.step_ns for row in rows) / len(rows)
    for late in served.cluster.stragglers:
        row = cells(verdict, f"rank {late.rank}")
        assert row[1] == late.cause
        assert row[3:] == [
            duration(late.costs_ns),
            percent(late.costs_ns / step),
            percent(late.last_share),
        ]
        assert duration(max(late.excess_ns.values())) in row[2]
    visit.shoot("cluster-ranks")


def test_ranks_that_keep_step_are_said_to(visit: Visit, served: Served) -> None:
    main = view(visit, served, "keeping")
    main.get_by_role("heading", name="The ranks keep step: none holds up the others.").wait_for()
    assert main.locator(".verdict.fine").count() == 1
    assert main.locator("#rank").count() == 0
    visit.shoot("keeping-ranks")


def test_without_a_collective_nobody_is_called_late(visit: Visit, served: Served) -> None:
    main = view(visit, served, "apart")
    main.get_by_role("heading", name="nobody can say which of them is late").wait_for()
    assert "No collective was found on two ranks of the recorded windows." in main.inner_text()
    assert "Of some ranks nobody knows how far their clocks are off" in main.inner_text()
    visit.shoot("apart-ranks")


def test_a_single_process_has_no_others(visit: Visit, served: Served) -> None:
    main = view(visit, served, "alone")
    main.get_by_role("heading", name="One process").wait_for()
    assert "there are no other ranks to compare it with" in main.inner_text()
    assert main.get_by_role("button").count() == 0
    visit.shoot("alone-ranks")


def test_ranks_that_are_not_compared_yet_can_be_asked_for_again(visit: Visit, served: Served) -> None:
    main = view(visit, served, "early")
    main.get_by_role("heading", name="The ranks are not compared yet").wait_for()
    assert "of 4 ranks" in main.inner_text()
    main.get_by_role("button", name="Try again").wait_for()
    visit.errors.clear()  # the browser itself reports the 404


def test_the_numbers_of_the_table_are_those_of_the_ranks(visit: Visit, served: Served) -> None:
    main = view(visit, served, "pair")
    main.get_by_role("button", name="Table of Ranks beside each other").click()
    for row in served.pair.rows:
        assert cells(main.locator("#ranks"), f"{row.rank}") == expected(row)
    collectives = main.locator("#collectives")
    for one in served.pair.collectives:
        found = cells(collectives, one.name)
        assert found[1:3] == [one.group, one.dtype or "–"]
        assert found[3:5] == [f"{one.ranks}", f"{one.calls:,}"]
        assert found[6:9] == [duration(one.waiting_ns), duration(one.transfer_ns), duration(one.skew_ns)]
        known = ["–", "–"] if one.bytes is None else [size(one.bytes), f"{size(one.bytes / one.transfer_ns * 1e9)}/s"]
        assert [found[5], found[9]] == known
    visit.shoot("pair-ranks-table")


def expected(row: RankRow) -> list[str]:
    assert row.overlap is not None
    assert row.idle_ns is not None
    assert row.peak_bytes is not None
    assert row.clock_uncertainty_ns is not None
    return [
        f"{row.rank}", row.host, f"{row.steps}", duration(row.step_ns),
        *(duration(row.breakdown_ns[name]) for name in CLASSES),
        *map(duration, (row.wait_ns, row.communication_ns, row.exposed_communication_ns)),
        percent(row.overlap), duration(row.idle_ns), *map(duration, (row.transfer_ns, row.waiting_ns, row.late_ns)),
        percent(row.last_share), f"{row.collectives}", size(row.peak_bytes), duration(row.clock_offset_ns),
        duration(row.clock_uncertainty_ns),
    ]  # fmt: skip


def test_every_rank_is_reached_with_the_keys_and_read_out(visit: Visit, served: Served) -> None:
    main = view(visit, served, "cluster", among="512-519")
    assert main.get_by_role("status").first.inner_text() == "8 of 1,020 ranks"
    chart = main.get_by_role("application")
    chart.focus()
    rows = {row.rank: row for row in served.cluster.rows}
    for rank in range(512, 520):
        visit.page.keyboard.press("ArrowDown")
        row, words = rows[rank], chart.locator(".readout").inner_text()
        assert words.startswith(f"Rank {rank} on {row.host}: step {duration(row.step_ns)}")
        assert f"waits {duration(row.waiting_ns)} for others" in words
        assert f"arrives {duration(row.late_ns)} late, last at {percent(row.last_share)}" in words
        assert words in (chart.get_attribute("aria-label") or "")
    visit.page.keyboard.press("Home")
    visit.page.keyboard.press("Enter")
    main.get_by_role("heading", name=f"Rank 512 on {rows[512].host}").wait_for()
    assert "p.profkit.rank=512" in visit.page.url
    assert "p.profkit.among=512-519" in visit.page.url


def test_the_latest_come_first_and_a_click_looks_at_one(visit: Visit, served: Served) -> None:
    main = view(visit, served, "cluster", order="late", rank=0)
    main.get_by_role("heading", name="Rank 0 on node000").wait_for()
    chart = main.get_by_role("application")
    chart.focus()
    visit.page.keyboard.press("ArrowDown")
    assert re.match("Rank (80|517) on", chart.locator(".readout").inner_text())
    box = chart.locator("canvas").bounding_box()
    assert box is not None
    visit.page.mouse.click(box["x"] + 300, box["y"] + 42)
    main.get_by_role("heading", name=re.compile("^Rank (80|517) on")).wait_for()


def test_a_rank_is_compared_with_the_median_of_the_others(visit: Visit, served: Served) -> None:
    main = view(visit, served, "pair")
    mine, other = served.pair.rows[1], served.pair.rows[0]
    table = main.get_by_role("table", name="Rank 1 against the median of the others")
    for name, of in (("Data wait", "data_wait"), ("Host", "host")):
        own, others = mine.breakdown_ns[of], other.breakdown_ns[of]
        row = cells(table, name)
        assert row[1:3] == [duration(own), duration(others)]
        assert row[3] == f"{'+' if own > others else ''}{duration(own - others)}"
    assert cells(table, "Arriving late")[1:3] == [duration(mine.late_ns), duration(other.late_ns)]


def test_a_rank_opens_its_own_page_and_its_timeline(visit: Visit, served: Served) -> None:
    main = view(visit, served, "cluster")
    main.get_by_role("button", name="Its data loading").click()
    main.get_by_role("heading", level=1, name="Data loading").wait_for()
    assert "p.profkit.run=cluster%2Frank%3D517" in visit.page.url
    main = view(visit, served, "pair", rank=1)
    main.get_by_role("button", name="Its timeline").click()
    main.get_by_role("application").wait_for()
    assert "p.profkit.run=pair%2Frank%3D1" in visit.page.url
    main = view(visit, served, "cluster", rank=9)
    main.get_by_text("Its own page is not here.").wait_for()


def test_a_finding_about_a_late_rank_leads_here_and_not_into_data_loading(visit: Visit, served: Served) -> None:
    tab = visit.tab(served.ask.base, run="cluster", view="data")
    drawn(tab, "data", "cluster")
    assert page_ranks.STRAGGLER_FINDING.remedy not in tab.locator("main").inner_text()
    tab = visit.tab(served.ask.base, run="cluster", view="overview")
    drawn(tab, "overview")
    tab.get_by_role("button", name="Look into it: Ranks").click()
    tab.get_by_role("heading", level=1, name="Ranks").wait_for()
    assert "p.profkit.part=straggler_input" in visit.page.url
    from playwright.sync_api import expect

    expect(tab.locator("#rank").get_by_role("heading", name="Rank 517 on node064")).to_be_in_viewport()


def shown_span(visit: Visit, served: Served, rank: int, name: str) -> dict[str, str]:
    """What the timeline of both ranks says of the first span of this name on one of them; rank 0 is the first one's."""
    main = view(visit, served, "pair", tab="one", ranks=f"{rank},{1 - rank}")
    field = main.get_by_role("searchbox")
    field.fill(f"^{name}$")
    for _ in range(rank + 1):
        field.press("Enter")
    details = main.get_by_role("region", name="Selected span")
    details.wait_for()
    return {row.locator("dt").inner_text(): row.locator("dd").inner_text() for row in details.locator("dl > div").all()}


def test_several_ranks_are_on_one_timeline_with_their_clocks_aligned(visit: Visit, served: Served) -> None:
    """Both ranks' collectives end together by planting; on unaligned clocks 250 ms would lie between."""
    main = view(visit, served, "pair", tab="one")
    heads = main.locator(".tl-head").all_inner_texts()
    assert [head for head in heads if head.startswith("Rank ")] == ["Rank 0 · 3", "Rank 1 · 3"]
    length = duration(page_ranks.PAIR_STEPS * page_ranks.PAIR_STEP_US * 1_000 - 10_000)
    assert main.locator(".tl-corner b").inner_text() == length
    assert f"Rank 1: {duration(page_ranks.PAIR_OFFSET_NS)}" in main.inner_text()
    visit.shoot("pair-ranks-one")
    first, other = (shown_span(visit, served, rank, "gloo:all_reduce") for rank in (0, 1))
    assert (first["Track"], other["Track"]) == ("Rank 0 · training: thread 100", "Rank 1 · training: thread 100")
    begins, took = (milliseconds(first[name]) for name in ("Start", "Duration"))
    later, short = (milliseconds(other[name]) for name in ("Start", "Duration"))
    assert later - begins == pytest.approx(page_ranks.LATE_US / 1_000, abs=0.05)
    assert later + short == pytest.approx(begins + took, abs=0.05)


def milliseconds(words: str) -> float:
    number, unit = words.split()
    return float(number) * {"ms": 1.0, "µs": 1e-3}[unit]


def test_a_link_brings_back_the_ranks_and_the_span_of_one_timeline(visit: Visit, served: Served) -> None:
    shown_span(visit, served, 1, "gloo:all_reduce")
    visit.page.wait_for_timeout(600)
    assert "p.profkit.ranks=1%2C0" in visit.page.url
    assert "p.profkit.seen=" in visit.page.url
    assert "p.profkit.span=" not in visit.page.url, "a span of the window's own timeline is another one"
    visit.page.reload()
    tab = visit.page.frame_locator("iframe[src*='plugin_entry.html?name=profkit']")
    details = tab.get_by_role("region", name="Selected span")
    details.get_by_text("Rank 1 · training").wait_for()


def test_ranks_are_put_on_the_timeline_and_taken_off(visit: Visit, served: Served) -> None:
    main = view(visit, served, "cluster", rank=517)
    button = main.get_by_role("button", name="On one timeline with others")
    assert button.get_attribute("aria-pressed") == "true"
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    main.get_by_role("button", name="On one timeline", exact=True).click()
    field = main.get_by_role("textbox", name="Ranks on one timeline")
    assert field.input_value() == "0"
    field.fill("517, 0, 44")
    field.press("Enter")
    main.get_by_text("Shown: rank 517, 0").wait_for()
    main.get_by_text("No window was recorded").first.wait_for()


def test_a_rank_whose_timeline_is_not_there_is_said_beside_the_others(visit: Visit, served: Served) -> None:
    visit.page.route(
        "**/timeline?run=pair%2Frank%3D1*", lambda route: route.fulfill(status=404, json={"error": "gone"})
    )
    main = view(visit, served, "pair", tab="one")
    assert "Rank 1: TensorBoard answered 404: gone." in main.get_by_role("alert").inner_text()
    assert [head for head in main.locator(".tl-head").all_inner_texts() if head.startswith("Rank ")] == ["Rank 0 · 3"]
    visit.errors.clear()  # the browser itself reports the 404


def test_hosts_and_collectives_are_text(visit: Visit, served: Served) -> None:
    main = view(visit, served, "pair", rank=1)
    assert page_ranks.HOSTILE_HOST in main.inner_text()
    assert "reduce_scatter <b>" in main.inner_text()
    assert main.locator("img, b:has-text('>')").count() == 0
    assert inner(visit).evaluate("document.title") != "executed"


def test_a_thousand_ranks_are_painted_within_a_second(
    visit: Visit, served: Served, record_property: Callable[[str, object], None], capsys: pytest.CaptureFixture[str]
) -> None:
    """From choosing the run to the drawing, with the view's module not loaded yet, in the page's own clock."""
    drawn(visit.tab(served.ask.base, run="alone", view="overview"), "overview")
    first = time_to(visit, "cluster", "ranks", ".drawn canvas")
    assert painted(visit), "nothing was drawn"
    with capsys.disabled():
        print(f"\n{RANKS} ranks: first paint of the view after {first:.0f} ms")
    record_property("first_paint_ms", first)
    assert first < FIRST_PAINT_MS


def painted(visit: Visit) -> bool:
    """Whether the drawing has the colours of more than one class."""
    colours: Any = inner(visit).evaluate(
        """() => {
            const canvas = document.querySelector('.drawn canvas');
            const { data } = canvas.getContext('2d').getImageData(0, canvas.height / 2, canvas.width, 1);
            return new Set(new Uint32Array(data.buffer)).size;
        }"""
    )
    return int(colours) > 5


def test_sorting_a_thousand_ranks_takes_less_than_a_fifth_of_a_second(visit: Visit, served: Served) -> None:
    view(visit, served, "cluster")
    took = inner(visit).evaluate(
        """async () => {
            const button = [...document.querySelectorAll('main .tabs button')].find((b) => b.textContent === 'Latest');
            const begun = performance.now();
            button.click();
            await new Promise(requestAnimationFrame);
            await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
            return performance.now() - begun;
        }"""
    )
    assert took < 200


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize(("run", "tab"), [("cluster", ""), ("pair", "one"), ("apart", ""), ("alone", "")])
def test_it_is_accessible(visit: Visit, served: Served, theme: str, run: str, tab: str) -> None:
    if not AXE.exists():
        pytest.skip("axe-core is not installed: npm ci in web/")
    place = visit.tab(f"{served.ask.base}?darkMode={str(theme == 'dark').lower()}", run=run, view="ranks", tab=tab)
    drawn(place, "ranks", run)
    frame = inner(visit)
    frame.evaluate(AXE.read_text())
    assert violations(visit) == []
    visit.shoot(f"{run}-ranks-{theme}")
    for table in place.get_by_role("button", name=re.compile("^Table of")).all():
        table.click()
    assert violations(visit) == []


def violations(visit: Visit) -> list[tuple[str, str, str]]:
    found = inner(visit).evaluate("axe.run(document, {resultTypes: ['violations']})")
    assert found["passes"]
    return [(one["id"], one["help"], one["nodes"][0]["html"][:200]) for one in found["violations"]]


@needs_corpus
def test_eight_recorded_ranks_are_compared_and_the_late_ones_lie_on_one_timeline(
    visit: Visit, recorded: tuple[Path, Report]
) -> None:
    folder, known = recorded
    assert known.ranks is not None
    late = [one.rank for one in known.ranks.stragglers]
    assert {2, 7} <= set(late), "as HTA finds"
    with tensorboard(folder) as ask:
        until(lambda: ask(f"{ROUTE}/runs"), lambda runs: len(runs) == 8)
        tab = visit.tab(ask.base, run="dlrm", view="ranks")
        drawn(tab, "ranks", "dlrm")
        main = tab.locator("main")
        main.get_by_role("heading", name=known.findings[0].message).wait_for()
        main.get_by_role("button", name="Table of Ranks beside each other").click()
        for row in known.ranks.rows:
            shown = cells(main.locator("#ranks"), f"{row.rank}")
            assert shown[3:11] == [duration(row.step_ns), *(duration(row.breakdown_ns[name]) for name in CLASSES)]
            assert shown[17:19] == [duration(row.waiting_ns), duration(row.late_ns)]
        visit.shoot("dlrm-ranks")
        main.get_by_role("button", name="On one timeline", exact=True).click()
        main.get_by_role("application").wait_for()
        heads = [head for head in main.locator(".tl-head").all_inner_texts() if head.startswith("Rank ")]
        assert [int(head.split()[1]) for head in heads] == [0, *late]
        visit.shoot("dlrm-ranks-one")


@needs_corpus
def test_a_file_holds_the_timelines_of_the_late_ranks_too(
    browser: Browser, recorded: tuple[Path, Report], tmp_path: Path
) -> None:
    _, known = recorded
    assert known.ranks is not None
    (path,) = HtmlExporter().export(load(CORPUS / DLRM), known, tmp_path)
    assert Path(path).stat().st_size < 600_000
    late = [one.rank for one in known.ranks.stragglers][:3]
    with visiting(browser) as visit:
        visit.page.goto(f"file://{path}#p.profkit.view=ranks&p.profkit.tab=one")
        visit.page.get_by_role("application").wait_for()
        heads = [head for head in visit.page.locator(".tl-head").all_inner_texts() if head.startswith("Rank ")]
        assert [int(head.split()[1]) for head in heads] == [0, *late]
        visit.page.get_by_text(f"{7 - len(late)} ranks without a timeline here").wait_for()


def test_a_file_brings_the_ranks_along(browser: Browser, tmp_path: Path) -> None:
    ranks = page_ranks.planted(64, {9: "compute"})
    run = runs.run([{} for _ in range(20)], start_ns=0, world_size=64)
    (path,) = HtmlExporter().export(run, page_ranks.with_ranks(report(run), ranks), tmp_path)
    with visiting(browser) as visit:
        requests: list[str] = []
        visit.page.on("request", lambda request: requests.append(request.url))
        visit.page.goto(f"file://{path}#p.profkit.view=ranks")
        visit.page.get_by_role("heading", name=re.compile("^Rank 9 is late: the others wait 21 ms")).wait_for()
        visit.page.get_by_role("button", name="On one timeline", exact=True).click()
        visit.page.get_by_text("63 ranks without a timeline here").wait_for()
        assert {request.partition("#")[0] for request in requests} == {f"file://{path}"}
