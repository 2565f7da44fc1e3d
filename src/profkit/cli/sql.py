"""`profkit sql RUN "select …"`: any question to the tables of a run."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from profkit.cli import cells
from profkit.cli.report import positive
from profkit.cli.terminal import Terminal, busy, show
from profkit.errors import UsageError
from profkit.urls import location

if TYPE_CHECKING:
    import polars as pl

LONGEST_LINE = 100_000  # cells, in a pipe, where nothing is folded
MOST_ROWS = 1_000  # of a table in the text; --csv and --json give all


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "sql",
        help="ask the tables of a run anything",
        description="Answer a query over the tables of a recorded run, or of a trace file; without a query, list them.",
        allow_abbrev=False,
    )
    parser.add_argument("path", type=location, metavar="PATH", help="a run, its log folder, or a trace file; or a URL")
    parser.add_argument("query", nargs="?", metavar="QUERY", help='such as "select count(*) from steps"')
    forms = parser.add_mutually_exclusive_group()
    forms.add_argument("--csv", action="store_true", help="comma-separated, with the columns' names first")
    forms.add_argument("--json", action="store_true", help="one JSON array of an object per row, on one line")
    forms.add_argument("--parquet", type=Path, metavar="FILE", help="written to a file, however large it is")
    parser.add_argument("--width", type=positive, metavar="N", help="cells per line; default the terminal's")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the answer, or write it. Raises ProfkitError, OSError."""
    if arguments.parquet and not arguments.query:
        raise UsageError("--parquet writes the answer to a query: name one")
    with busy(f"reading {arguments.path}"):
        answer = _answer(arguments.path, arguments.query, arguments.parquet)
    if answer is None:
        show(str(arguments.parquet))
    elif arguments.csv:
        show(as_csv(answer))
    elif arguments.json:
        show(answer.write_json())
    else:
        show(as_text(answer, arguments.width))
    return 0


def _answer(path: str | Path, query: str | None, target: Path | None) -> pl.DataFrame | None:
    """The rows to print; None where they were written to `target`."""
    from profkit.remote import fetched
    from profkit.trace.load import load
    from profkit.trace.sql import asked, listed, named_in, tables_of_run, written

    if isinstance(path, str):
        path = fetched(path, None if query is None else named_in(query))
    tables = tables_of_run(load(path))
    if query is None:
        return listed(tables)
    if target is None:
        return asked(query, tables)
    written(query, tables, target)
    return None


def as_csv(answer: pl.DataFrame) -> str:
    """The rows with a header. Raises UsageError where a column holds lists or structs."""
    nested = [name for name, kind in answer.schema.items() if kind.is_nested()]
    if nested:
        raise UsageError(f"column {nested[0]!r} holds {answer.schema[nested[0]]}, which CSV cannot: use --json")
    return answer.write_csv().rstrip("\n")


def as_text(answer: pl.DataFrame, width: int | None) -> str:
    """An aligned table. In a pipe lines are as long as they need to be, unless `width` says how long."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name, kind in answer.schema.items():
        table.add_column(Text(cells.clean(name)), justify="right" if kind.is_numeric() else "left", overflow="fold")
    for row in answer.head(MOST_ROWS).iter_rows():
        table.add_row(*(Text(_cell(value)) for value in row))
    terminal = Terminal.of(sys.stdout, width)
    console = Console(width=terminal.width if width or sys.stdout.isatty() else LONGEST_LINE)
    with console.capture() as captured:
        console.print(table)
    text = "\n".join(line.rstrip() for line in captured.get().strip("\n").splitlines())
    beyond = f"\n{MOST_ROWS:,} of {answer.height:,} rows; --csv gives all" if answer.height > MOST_ROWS else ""
    return (text if terminal.unicode else cells.ascii_only(text)) + beyond


def _cell(value: object) -> str:
    """A value as a terminal may show it; names come from traces anybody may have written."""
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else cells.clean(str(value))
