"""The streams a command writes to: how wide, in colour or not, and what happens when nobody reads on."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

NARROWEST, WIDEST = 40, 200


@dataclass(frozen=True, slots=True)
class Terminal:
    """What a stream can show. `unicode`: whether its encoding has bars, arrows and the multiplication sign."""

    width: int
    colour: bool
    unicode: bool

    @classmethod
    def of(cls, stream: TextIO, width: int | None = None) -> Terminal:
        """The terminal behind `stream`; `width` overrides its own."""
        cells = width or shutil.get_terminal_size((100, 24)).columns
        colour = stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        encoding = (stream.encoding or "").lower().replace("-", "")
        return cls(min(max(cells, NARROWEST), WIDEST), colour, encoding.startswith("utf"))


def show(text: str) -> None:
    """Write a line or many to stdout. Silent where the reader has gone, as `head` does."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        # Python flushes stdout once more at its exit, which would complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def busy(what: str) -> Iterator[None]:
    """A moving bar on stderr with the time passed, while the block works; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    layout = (TextColumn("{task.description}", markup=False), BarColumn(), TimeElapsedColumn())
    with Progress(*layout, console=Console(stderr=True), transient=True) as progress:
        progress.add_task(what, total=None)
        yield
