"""SQL over the tables of a run. Parquet files are scanned and not loaded: a query reads the columns, ranks and windows
it names, also of a run of a thousand ranks. docs/sql.md tells users what there is to ask.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import polars as pl

from profkit.errors import UsageError
from profkit.runfolder import PROFKIT_FOLDER
from profkit.trace.model import Run, Trace
from profkit.trace.schema import BATCHES, COUNTERS, LINKS, MEMORY, SAMPLES, SPANS, STEPS, TRACKS, WORD

Tables = dict[str, pl.LazyFrame]
Schema = Mapping[str, pl.DataType | type[pl.DataType]]

TRACE_TABLES: dict[str, Schema] = {"spans": SPANS, "tracks": TRACKS, "links": LINKS, "memory": MEMORY}
RUN_TABLES: dict[str, Schema] = {"steps": STEPS, "counters": COUNTERS, "batches": BATCHES, "samples": SAMPLES}
NAMES = (*TRACE_TABLES, *RUN_TABLES)
PLACE = {"window": pl.Int32, "rank": pl.Int32}  # which window of which rank a row of a trace's table belongs to

_MISSING_TABLE = re.compile(r"relation ['\"](?P<name>[^'\"]+)['\"] was not found")
_MISSING_COLUMN = re.compile(r"column (?:named )?['\"](?P<name>[^'\"]+)['\"]")
# What a query may raise: polars' own errors, and panics, which are no Exception.
_FAILURES = (pl.exceptions.PolarsError, pl.exceptions.PanicException)


def asked(query: str, tables: Tables) -> pl.DataFrame:
    """The answer to `query`. Raises UsageError with one sentence where it cannot be answered."""
    with pl.SQLContext(frames=tables) as context:
        try:
            return context.execute(query).collect(engine="streaming")
        except _FAILURES as error:
            raise UsageError(_reason(error, query, tables)) from error


def written(query: str, tables: Tables, path: Path) -> None:
    """Write the answer to `query` into the Parquet file `path`, without ever holding all of it.

    Raises UsageError as `asked` does, OSError.
    """
    part = path.with_name(f".{path.name}.part")
    with pl.SQLContext(frames=tables) as context:
        try:
            context.execute(query).sink_parquet(part)
            part.replace(path)
        except _FAILURES as error:
            raise UsageError(_reason(error, query, tables)) from error
        finally:
            part.unlink(missing_ok=True)


def tables_of_run(run: Run) -> Tables:
    """The tables of every rank; of native files those of their traces.

    `rank` is a column of each, `window` of a trace's. Of what has no files yet, because the run goes on, the rank
    that was opened is there.
    """
    if run.folder is None:
        traces = [trace for rank in run.ranks for trace in run.of_rank(rank).traces]
        return {name: pl.concat(_of_trace(trace, name) for trace in traces) for name in TRACE_TABLES}
    folder = run.folder / PROFKIT_FOLDER
    windows = {name: _scanned_traces(folder, name, schema) for name, schema in TRACE_TABLES.items()}
    whole = {name: _scanned(folder / name, schema, _of_run(run, name)) for name, schema in RUN_TABLES.items()}
    return {name: _readable(frame) for name, frame in (windows | whole).items()}


def tables_of_trace(trace: Trace) -> Tables:
    """The tables of one trace, with its rank and its window."""
    return {name: _of_trace(trace, name) for name in TRACE_TABLES}


def listed(tables: Tables) -> pl.DataFrame:
    """Each table with its number of rows and its columns."""
    counts = pl.collect_all([frame.select(pl.len()) for frame in tables.values()], engine="streaming")
    columns = [", ".join(frame.collect_schema().names()) for frame in tables.values()]
    return pl.DataFrame({"table": list(tables), "rows": [count.item() for count in counts], "columns": columns})


def named_in(query: str) -> set[str]:
    """The tables whose names stand in `query`: all it can read, and perhaps more."""
    return set(NAMES) & set(_words(query))


def _scanned_traces(folder: Path, name: str, schema: Schema) -> pl.LazyFrame:
    """A table of which every window of every rank has a file; without rows before the first window."""
    if not any(folder.glob(f"trace/window=*/rank=*/{name}.parquet")):
        return _placed_last(pl.LazyFrame(schema={**schema, **PLACE}))
    frame = pl.scan_parquet(
        folder / f"trace/window=*/rank=*/{name}.parquet",
        schema=dict(schema),
        hive_partitioning=True,
        hive_schema=PLACE,
        missing_columns="insert",
        extra_columns="ignore",
    )
    return _placed_last(frame)


def _scanned(folder: Path, schema: Schema, otherwise: pl.LazyFrame) -> pl.LazyFrame:
    """A table that has one file of each rank. Hive's readers look for values in folders' names only."""
    if not any(folder.glob("rank=*.parquet")):
        return otherwise
    frame = pl.scan_parquet(
        folder / "rank=*.parquet",
        schema=dict(schema),
        hive_partitioning=False,
        include_file_paths="file",
        missing_columns="insert",
        extra_columns="ignore",
    )
    rank = pl.col("file").str.extract(r"rank=(\d+)\.parquet$").cast(PLACE["rank"])
    return frame.with_columns(rank=rank).drop("file")


def _of_run(run: Run, name: str) -> pl.LazyFrame:
    table: pl.DataFrame = getattr(run, name)
    return table.lazy().with_columns(rank=pl.lit(run.info.rank, PLACE["rank"]))


def _of_trace(trace: Trace, name: str) -> pl.LazyFrame:
    table: pl.DataFrame = getattr(trace, name)
    window, rank = (pl.lit(value, pl.Int32) for value in (trace.info.window, trace.info.rank))
    return _readable(_placed_last(table.lazy().with_columns(window=window, rank=rank)))


def _placed_last(frame: pl.LazyFrame) -> pl.LazyFrame:
    """`window` and `rank` behind the other columns; tracks have a rank of their own, which is the same."""
    return frame.select(pl.exclude(*PLACE), *PLACE)


def _readable(frame: pl.LazyFrame) -> pl.LazyFrame:
    """Words as strings, which SQL's functions and LIKE want. The columns nobody asks for are not converted."""
    return frame.with_columns(pl.col(WORD).cast(pl.String))


def _reason(error: BaseException, query: str, tables: Tables) -> str:
    """One sentence: the table or the column that is not there, with those that are; else what polars says."""
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if table := _MISSING_TABLE.search(text):
        return f"no table {table['name']!r}; there are {', '.join(tables)}"
    if column := _MISSING_COLUMN.search(text):
        return f"no column {column['name']!r}; {_columns(named_in(query) & set(tables), tables)}"
    return f"the query cannot be answered: {text}"


def _columns(names: Iterable[str], tables: Tables) -> str:
    """`steps has number, start_ns, …; spans has …`."""
    return "; ".join(f"{name} has {', '.join(tables[name].collect_schema().names())}" for name in sorted(names))


def _words(query: str) -> list[str]:
    return re.findall(r"\w+", query.lower())
