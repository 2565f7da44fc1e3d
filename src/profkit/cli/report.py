"""`profkit report PATH`: the verdict on a run, a trace, or anybody's Kineto file."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from profkit.cli.terminal import Terminal, busy, show
from profkit.engines import ENGINES
from profkit.urls import location

if TYPE_CHECKING:
    from profkit.analysis.report import Report


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "report",
        help="say why the step is slow and what to change",
        description="The verdict on a recorded run, or on a trace file.",
        allow_abbrev=False,
    )
    parser.add_argument("path", type=location, metavar="PATH", help="a run, its log folder, or a trace file; or a URL")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object (docs/report.md)")
    parser.add_argument("--top", type=positive, default=5, metavar="N", help="rows of each table; default 5")
    parser.add_argument("--by-shape", action="store_true", help="tell operators apart by their input shapes")
    parser.add_argument("--width", type=positive, metavar="N", help="cells per line; default the terminal's")
    parser.add_argument("--fail-on-finding", action="store_true", help="exit with 1 where there is a finding")
    parser.add_argument("--engine", choices=ENGINES, default="auto", help="what reads the ranks of a run of several")
    parser.add_argument("--scheduler", metavar="ADDRESS", help="of the cluster, for --engine dask: tcp://host:8786")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the report. Returns 1 where a finding was to fail, else 0. Raises ProfkitError, OSError."""
    with busy(f"reading {PurePath(arguments.path).name}"):
        result, folder = judged(arguments.path, arguments.engine, arguments.scheduler)
    if arguments.json:
        show(as_json(result))
    else:
        show(_as_text(result, folder, arguments))
    return int(arguments.fail_on_finding and bool(result.findings))


def judged(path: str | Path, engine: str = "auto", scheduler: str | None = None) -> tuple[Report, Path | None]:
    """The report on what lies at `path`, and its run folder if it is a run."""
    from profkit.analysis.summary import report
    from profkit.engines.fanout import ranks_of
    from profkit.trace.load import load, local

    path = local(path)
    loaded = load(path)
    return report(loaded, ranks_of(path, loaded, engine, scheduler)), loaded.folder


def as_json(result: Report) -> str:
    """The report as one JSON object on one line."""
    import msgspec

    return msgspec.json.encode(result).decode()


def positive(text: str) -> int:
    """A whole number, 1 or more. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on")
    return int(text)


def _as_text(result: Report, folder: Path | None, arguments: argparse.Namespace) -> str:
    from profkit.cli.text import verdict

    terminal = Terminal.of(sys.stdout, arguments.width)
    return verdict(
        result,
        folder,
        terminal.width,
        terminal.colour,
        unicode=terminal.unicode,
        top=arguments.top,
        by_shape=arguments.by_shape,
    )
