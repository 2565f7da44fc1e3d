"""`profkit run train.py …`: profile a program that nobody changed."""

from __future__ import annotations

import argparse
import os
import sys
import traceback
from dataclasses import fields
from pathlib import Path

from profkit.cli.terminal import show
from profkit.errors import UsageError
from profkit.schedule import Schedule
from profkit.urls import is_url

COUNTS = tuple(field.name for field in fields(Schedule))


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options. Everything behind the program's name belongs to the program."""
    parser = commands.add_parser(
        "run",
        help="profile a program as it is",
        usage="profkit run [options] (train.py | -m module) [arguments of the program ...]",
        description="Run a program and record it: hooks attach when it imports a framework, steps come from its "
        "optimizer. Arguments, exit code and tracebacks are the program's own.",
        allow_abbrev=False,
    )
    parser.add_argument("--logdir", default="runs", metavar="FOLDER", help="where the run goes; default runs")
    parser.add_argument(
        "--schedule",
        type=schedule,
        default=Schedule(),
        metavar="COUNTS",
        help=f"which steps to record, some of: {as_text(Schedule())} (the default)",
    )
    parser.add_argument("--no-sidecar", action="store_true", help="no second process; convert at the end")
    parser.add_argument("--strict", action="store_true", help="raise profkit's own failures")
    parser.add_argument("--quiet", action="store_true", help="no verdict at the end")
    parser.add_argument("--json", action="store_true", help="the report on stdout at the end, as one JSON object")
    add_program(parser)
    parser.set_defaults(run=run)


def add_program(parser: argparse.ArgumentParser) -> None:
    """Declare the program a command runs, as the last of its arguments."""
    parser.add_argument(
        "-m", dest="module", nargs=argparse.REMAINDER, metavar="module ...", help="run a module, as python -m"
    )
    parser.add_argument("script", nargs=argparse.REMAINDER, metavar="train.py ...", help="run a script")


def run(arguments: argparse.Namespace) -> int:
    """Run the program in this process. Raises what it raises, and ProfkitError where it cannot be started."""
    from profkit.launch import launch
    from profkit.staging import copies

    target, *rest = program(arguments, "run")
    remote = is_url(arguments.logdir)
    # Absolute, since the program may change its folder.
    logdir = copies(arguments.logdir) if remote else Path(arguments.logdir).absolute()
    try:
        launch(
            target,
            rest,
            module=arguments.module is not None,
            logdir=arguments.logdir,
            schedule=arguments.schedule,
            sidecar=not arguments.no_sidecar,
            strict=arguments.strict,
            quiet=arguments.quiet,
            keep_local=arguments.json,  # which reads it
        )
    finally:
        if arguments.json:
            _show_report(logdir, remote)
    return 0


def program(arguments: argparse.Namespace, command: str) -> list[str]:
    """Name of the script or module, then its arguments. Raises UsageError."""
    words: list[str] = arguments.script if arguments.module is None else arguments.module
    words = words[1:] if words[:1] == ["--"] else words
    if not words:
        raise UsageError(f"name a script or -m module to {command} (see profkit {command} --help)")
    return words


def is_raised_by_program(error: BaseException) -> bool:
    """Whether the error came out of the program, which is `__main__` while it runs, and not out of profkit."""
    program = vars(sys.modules["__main__"])
    return any(frame.f_globals is program for frame, _ in traceback.walk_tb(error.__traceback__))


def schedule(text: str) -> Schedule:
    """`active=10,repeat=2` -> a Schedule; counts that are not named keep their default.

    Raises ArgumentTypeError.
    """
    counts = dict(_count(part) for part in text.split(","))
    try:
        return Schedule(**counts)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def as_text(of: Schedule) -> str:
    """A schedule as the option takes it."""
    return ",".join(f"{name}={getattr(of, name)}" for name in COUNTS)


def _count(part: str) -> tuple[str, int]:
    name, _, value = part.partition("=")
    if name.strip() not in COUNTS or not value.strip().isdecimal():
        raise argparse.ArgumentTypeError(f"{part!r} is none of {', '.join(COUNTS)} with a number of steps")
    return name.strip(), int(value)


def _show_report(logdir: Path, remote: bool) -> None:
    """Print this process's run; of several ranks, the first one's. A copy of a remote run has served then."""
    from profkit.cli.report import as_json, judged
    from profkit.jobs import place
    from profkit.staging import clear

    own = sorted(logdir.glob(f"*/plugins/profkit/capture/*-{os.getpid()}-????????.pkrec"))
    if own and place().rank == 0:
        run_folder = own[-1].parents[3]
        show(as_json(judged(run_folder)[0]))
        if remote:
            clear(run_folder, even_kept=True)
