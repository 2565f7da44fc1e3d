"""`profkit export PATH --to NAME`: the same run in the format another tool opens."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from profkit import plugins
from profkit.cli.terminal import busy, show
from profkit.urls import location

if TYPE_CHECKING:
    from profkit.plugins import Exporter


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "export",
        help="write a run in another tool's format",
        description="Write a recorded run, or a trace file, in the format of another tool.",
        allow_abbrev=False,
    )
    parser.add_argument("path", type=location, metavar="PATH", help="a run, its log folder, or a trace file; or a URL")
    parser.add_argument(
        "--to",
        action="append",
        required=True,
        metavar="NAME",
        help=f"the format, may be given several times: {', '.join(plugins.names(plugins.EXPORTERS))}",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FOLDER",
        help="where to write; default the run's own folder, for a trace file or a URL the current one",
    )
    parser.add_argument("--json", action="store_true", help="the files written, as one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the files and print their paths. Raises ProfkitError, OSError."""
    exporters = {name: plugins.load(plugins.EXPORTERS, name) for name in arguments.to}
    with busy(f"exporting {PurePath(arguments.path).name}"):
        written = _exported(arguments.path, exporters, arguments.output)
    show(_as_json(written) if arguments.json else _as_text(written))
    return 0


def _exported(path: str | Path, exporters: dict[str, Exporter], output: Path | None) -> dict[str, list[Path]]:
    """Files written, by exporter."""
    from profkit.analysis.summary import report
    from profkit.engines.fanout import ranks_of
    from profkit.trace.load import load, local

    place = local(path)
    loaded = load(place)
    result = report(loaded, ranks_of(place, loaded))
    folder = _prepared(output, loaded.folder if isinstance(path, Path) else None)
    return {name: list(exporter.export(loaded, result, folder)) for name, exporter in exporters.items()}


def _prepared(output: Path | None, run_folder: Path | None) -> Path:
    """The folder to write to, which exists."""
    folder = output or run_folder or Path.cwd()
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _as_text(written: Mapping[str, Sequence[Path]]) -> str:
    return "\n".join(str(path) for paths in written.values() for path in paths)


def _as_json(written: Mapping[str, Sequence[Path]]) -> str:
    import json

    return json.dumps({"files": {name: [str(path) for path in paths] for name, paths in written.items()}})
