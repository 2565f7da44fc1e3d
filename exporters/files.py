"""What every exporter of files shares: a name for the file, a whole file or none, and the traces to write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from profkit.errors import ExportError
from profkit.trace.model import Run, Trace

_ENDINGS = re.compile(r"(\.pt)?(\.trace|\.xplane)?\.(json|py|pb)(\.gz)?$")
_UNSAFE = re.compile(r"[^\w.-]+")


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write that becomes `path` in one rename, or vanishes when the block raises. Raises OSError."""
    part = path.with_name(f"{path.name}.part")
    try:
        with part.open("wb") as file:
            yield file
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def safe_name(text: str) -> str:
    """`text` as a part of a file's name: no separators, no spaces, never empty."""
    return _UNSAFE.sub("-", text).strip("-.") or "run"


def stem(run: Run) -> str:
    """The run's name as a part of a file's name, without the ending of a trace or a script."""
    return safe_name(_ENDINGS.sub("", Path(run.name).name))


def every_rank(run: Run) -> Iterator[Run]:
    """The run as each of its ranks saw it, one after the other, so that only one is in memory."""
    return (run.of_rank(rank) for rank in run.ranks)


def traces_of(run: Run) -> Iterator[Trace]:
    """The recorded windows of `run`, of several one in memory at a time. Raises ExportError where there is none."""
    if not run.open_traces:
        raise ExportError(f"{run.name} has no trace to export: none of its steps was recorded in a window")
    return run.each_trace()
