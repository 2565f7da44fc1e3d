"""SQL over the tables of a run: every rank and window, of foreign files too, and what is said of a wrong query."""

from __future__ import annotations

import json
import re
from pathlib import Path

import polars as pl
import pytest

import profkit
from profkit.cli.main import main
from profkit.errors import UsageError
from profkit.runfolder import PROFKIT_FOLDER, RankFolder
from profkit.trace import sql
from profkit.trace.batch import ReadContext
from profkit.trace.load import read_native
from profkit.trace.model import Run, RunInfo, Trace
from profkit.trace.schema import BATCHES, COUNTERS, SAMPLES, STEPS, empty
from profkit.trace.store import write_json, write_table, write_trace
from tests import traces
from tests.runs import MS, steps_table

DOCS = Path(__file__).resolve().parents[1] / "docs"
RANKS, WINDOWS, STEPS_EACH = (0, 1, 2), (0, 1), 6


def trace_of(folder: Path, rank: int, window: int) -> Trace:
    """Two steps: rank 2 multiplies matrices for longer."""
    folder.mkdir(parents=True)
    took = 300 if rank == 2 else 100
    events = [
        event
        for number in (3, 4)
        for event in (traces.step(number, number * 1_000, 900), traces.op("aten::mm", number * 1_000 + 10, took))
    ]
    return read_native(traces.written(folder, events), "kineto", ReadContext(rank=rank, window=window))


def finalised(logdir: Path) -> Path:
    """A run of three ranks as it is read from an object store: two windows each, six steps, and no capture."""
    run_folder = logdir / "20260101T000000Z-abc123"
    for rank in RANKS:
        own = RankFolder(run_folder / PROFKIT_FOLDER, rank)
        rows = [{"wait_ns": (rank + 1) * MS, "window": 0 if number in (3, 4) else None} for number in range(STEPS_EACH)]
        write_table(steps_table(rows), own.table("steps"))
        for name, schema in (("counters", COUNTERS), ("batches", BATCHES), ("samples", SAMPLES)):
            write_table(empty(schema), own.table(name))
        write_json(RunInfo(script="train.py", ended="finished", rank=rank, world_size=len(RANKS)), own.info)
        own.state.parent.mkdir(exist_ok=True)
        own.state.write_text('{"exported": true}')
        for window in WINDOWS:
            trace = trace_of(logdir / "native" / f"{rank}-{window}", rank, window)
            own.trace(window).parent.mkdir(parents=True, exist_ok=True)
            write_trace(trace, own.trace(window))
    return run_folder


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return finalised(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="module")
def run(run_folder: Path) -> Run:
    return profkit.load(run_folder)


@pytest.fixture
def native(tmp_path: Path) -> Path:
    trace_of(tmp_path / "one", 0, 0)
    return next((tmp_path / "one").iterdir())


def said(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a command prints, which ends well."""
    assert main(["sql", *map(str, arguments)]) == 0
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """What a refused command says: one sentence, exit code 2, nothing on stdout."""
    assert main(["sql", *map(str, arguments)]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"profkit: [^\n]+\n", told.err)
    return told.err


def test_rank_and_window_are_columns(run: Run) -> None:
    rows = run.sql("select rank, window, count(*) as n from spans where kind = 'step' group by rank, window").rows()
    assert sorted(rows) == [(rank, window, 2) for rank in RANKS for window in WINDOWS]
    waits = run.sql("select rank, sum(wait_ns) as ns from steps group by rank order by rank").rows()
    assert waits == [(rank, STEPS_EACH * (rank + 1) * MS) for rank in RANKS]


def test_the_answer_equals_the_tables(run: Run) -> None:
    expected = run.traces[0].spans.filter(pl.col("name") == "aten::mm")["duration_ns"].sum()
    (answer,) = run.sql("select sum(duration_ns) as ns from spans where name = 'aten::mm' and rank = 0 and window = 0")
    assert answer.to_list() == [expected]
    assert run.sql("select sum(duration_ns) as ns from spans where name like 'aten::%' and rank = 2").item() == (
        2 * 3 * expected
    )


@pytest.mark.parametrize("name", sql.NAMES)
def test_every_table_has_the_documented_columns_and_where_they_are_from(run: Run, name: str) -> None:
    schema = sql.TRACE_TABLES.get(name) or sql.RUN_TABLES[name]
    place = {"rank", "window"} if name in sql.TRACE_TABLES else {"rank"}
    assert set(run.sql(f"select * from {name}").columns) == {*schema, *place}


def test_every_column_can_be_named_without_quotes(run: Run) -> None:
    for name, frame in sql.tables_of_run(run).items():
        columns = frame.collect_schema().names()
        assert run.sql(f"select {', '.join(columns)} from {name}").columns == columns


def test_only_the_files_of_the_ranks_asked_for_are_read(run: Run, run_folder: Path) -> None:
    """The plan lists the files; and a damaged one of another rank is not met."""
    tables = sql.tables_of_run(run)
    with pl.SQLContext(frames=tables) as context:
        plan = context.execute("select sum(duration_ns) from spans where rank = 1 and window = 0").explain()
    assert "rank=1" in plan
    assert not any(other in plan for other in ("rank=0", "rank=2", "window=1", "other sources"))


def test_a_file_from_before_a_column_was_added_has_it_empty(run: Run, tmp_path: Path) -> None:
    folder = finalised(tmp_path)
    path = RankFolder(folder / PROFKIT_FOLDER, 1).trace(0) / "spans.parquet"
    write_table(pl.read_parquet(path, hive_partitioning=False).drop("args").with_columns(later=pl.lit(1)), path)
    loaded = profkit.load(folder)
    assert loaded.sql("select count(*) as n from spans").item() == run.sql("select count(*) as n from spans").item()
    assert loaded.sql("select args from spans where rank = 1 and window = 0")["args"].null_count() > 0


def test_one_trace_is_asked_alone(run: Run) -> None:
    trace = run.of_rank(2).traces[1]
    assert trace.sql("select distinct rank, window from spans").rows() == [(2, 1)]
    assert trace.sql("select count(*) as n from spans").item() == trace.spans.height
    with pytest.raises(UsageError, match="no table 'steps'; there are spans, tracks, links, memory"):
        trace.sql("select * from steps")


def test_of_a_foreign_file_its_trace_is_asked(native: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = said(capsys, native, "select name, count(*) as n from spans where kind = 'op' group by name", "--json")
    assert json.loads(out) == [{"name": "aten::mm", "n": 2}]


def test_a_folder_of_foreign_files_is_all_its_ranks(tmp_path: Path) -> None:
    for rank in (0, 1):
        trace_of(tmp_path / f"made{rank}", rank, 0)
        next((tmp_path / f"made{rank}").iterdir()).rename(tmp_path / f"rank{rank}.pt.trace.json")
    run = profkit.load(tmp_path)
    assert sorted(run.sql("select distinct rank from spans").rows()) == [(0,), (1,)]


def test_a_run_that_goes_on_is_asked_as_far_as_it_is() -> None:
    run = Run(RunInfo(ended="running", rank=3), steps_table([{}] * 4), empty(COUNTERS), folder=Path("nowhere"))
    assert run.sql("select rank, count(*) as n from steps group by rank").rows() == [(3, 4)]
    assert run.sql("select * from spans").height == 0


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("select * from stepz", "no table 'stepz'; there are spans, tracks, links, memory, steps, counters"),
        ("select nam from spans", "no column 'nam'; spans has id, start_ns, duration_ns, name"),
        ("select s.nam from spans s", "no column 'nam'; spans has id"),
        ("select number frm steps", "the query cannot be answered: sql parser error"),
        ("select 1; select 2", "the query cannot be answered"),
        ("", "the query cannot be answered"),
        ("select sum(name) from spans", "the query cannot be answered"),
    ],
)
def test_a_wrong_query_gets_one_sentence(
    run_folder: Path, query: str, expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert expected in refused(capsys, run_folder, query)


def test_without_a_query_the_tables_are_listed(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = {row["table"]: row for row in json.loads(said(capsys, run_folder, "--json"))}
    assert tuple(listed) == sql.NAMES
    assert listed["steps"]["rows"] == STEPS_EACH * len(RANKS)
    assert listed["steps"]["columns"].split(", ") == [*STEPS, "rank"]
    assert "steps" in said(capsys, run_folder, "--width", "80")


def test_the_text_is_aligned_and_no_line_is_too_wide(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select rank, name, duration_ns / 1e3 as us from spans where kind = 'op' order by rank"
    lines = said(capsys, run_folder, query, "--width", "60").splitlines()
    assert lines[0].split() == ["rank", "name", "us"]
    assert [line.split() for line in lines[1:]] == [
        [str(rank), "aten::mm", "300" if rank == 2 else "100"] for rank in RANKS for _ in range(4)
    ]
    assert len({len(line) for line in lines}) == 1
    assert max(map(len, said(capsys, run_folder, "--width", "60").splitlines())) <= 60


def test_names_cannot_command_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    native = traces.written(tmp_path, [traces.op("[bold]a\x1b[31mb\n\u202ec", 0, 10)])
    out = said(capsys, native, "select name from spans where kind = 'op'")
    assert out.splitlines()[1] == "[bold]a[31mb c"


def test_rows_beyond_a_thousand_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    native = traces.written(tmp_path, [traces.op("a", i * 10, 5) for i in range(1_100)])
    assert said(capsys, native, "select id from spans").splitlines()[-1].startswith("1,000 of 1,1")
    assert len(said(capsys, native, "select id from spans where kind = 'op'", "--csv").splitlines()) == 1_101


def test_csv_parquet_and_json_hold_the_same(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    query = "select number, rank, source from steps order by rank, number"
    as_json = json.loads(said(capsys, run_folder, query, "--json"))
    header, *rows = said(capsys, run_folder, query, "--csv").splitlines()
    assert (header, len(rows)) == ("number,rank,source", STEPS_EACH * len(RANKS))
    target = tmp_path / "answer.parquet"
    assert said(capsys, run_folder, query, "--parquet", target).strip() == str(target)
    assert pl.read_parquet(target).to_dicts() == as_json
    assert list(tmp_path.iterdir()) == [target]


def test_a_wrong_query_leaves_no_file(run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "answer.parquet"
    assert "no column" in refused(capsys, run_folder, "select nothing from steps", "--parquet", target)
    assert not list(tmp_path.iterdir())
    assert "name one" in refused(capsys, run_folder, "--parquet", target)


def test_lists_are_not_written_as_csv(run_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    query = "select rank, array_agg(number) as numbers from steps group by rank"
    assert "use --json" in refused(capsys, run_folder, query, "--csv")
    assert len(json.loads(said(capsys, run_folder, query, "--json"))) == len(RANKS)


def examples() -> list[str]:
    """Every query of docs/sql.md, as it stands there."""
    return re.findall(r"^```sql\n(.*?)^```", (DOCS / "sql.md").read_text(), re.M | re.S)


@pytest.mark.parametrize("query", examples())
def test_every_documented_query_is_answered(run: Run, query: str) -> None:
    assert run.sql(query).columns


def test_there_are_documented_queries_of_every_kind() -> None:
    assert len(examples()) >= 6
    assert {"spans", "steps", "counters", "batches", "tracks"} <= {
        t for query in examples() for t in sql.named_in(query)
    }
