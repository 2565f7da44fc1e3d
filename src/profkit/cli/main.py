"""`profkit`: the commands, and what their exit codes mean.

0 done; 1 `report --fail-on-finding` found something; 2 bad input or usage, in one sentence on stderr; 130 Ctrl-C.
`profkit run` exits as its program does.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from profkit import __version__
from profkit.cli import cells, doctor, export, report, run, sql, tune, upload, whatif
from profkit.errors import ProfkitError, UsageError

BAD_INPUT, INTERRUPTED = 2, 130


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, as every other error is said."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in `argv` (default: the process's own arguments) and return its exit code.

    What a program under `profkit run` raises is raised here, for Python to report as it would without profkit.
    """
    try:
        arguments = parser().parse_args(argv)
        return int(arguments.run(arguments))
    except (ProfkitError, OSError, KeyboardInterrupt) as error:
        if run.is_raised_by_program(error):
            raise
        return _exit_code(error)


def parser() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="profkit",
        description="Why is my training step slow, and what do I change?",
        epilog="exit codes: 0 done, 1 a finding (report --fail-on-finding), 2 bad input or usage, "
        "130 interrupted; profkit run exits as its program does",
        allow_abbrev=False,
    )
    top.add_argument("--version", action="version", version=f"profkit {__version__}")
    commands = top.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (run, report, sql, whatif, tune, export, upload, doctor):
        command.add_parser(commands)
    return top


def _exit_code(error: BaseException) -> int:
    """Say what went wrong, in one sentence, and return the code to exit with."""
    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    sentence = _told(error) if isinstance(error, OSError) else str(error)
    print(f"profkit: {cells.clean(sentence)}", file=sys.stderr)
    return BAD_INPUT


def _told(error: OSError) -> str:
    """`cannot use runs/x: Permission denied`."""
    reason = error.strerror or str(error) or type(error).__name__
    return f"cannot use {error.filename}: {reason}" if error.filename else reason
