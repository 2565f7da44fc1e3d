"""The page's data: what the event file carries, and the files beside it. docs/format.md, "The page"."""

from __future__ import annotations

import gzip
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from profkit.analysis.page import page
from profkit.analysis.report import Ranks, Report
from profkit.analysis.summary import report_of_window
from profkit.tensorboard import FILES, RANKS
from profkit.trace.model import Run

from . import timeline
from .files import replacing

GZIP_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Window:
    """What the page shows of one window, compressed."""

    number: int
    report: bytes
    timeline: bytes


def windows(run: Run, report: Report, known: Container[int] = ()) -> list[Window]:
    """The windows of `run` as the page wants them, but for those `known`. `report` is that of the whole run."""
    return [
        Window(trace.info.window, packed(_of_one_rank(run, report, place)), timeline.packed(trace, run.counters))
        for place, trace in enumerate(run.traces)
        if trace.info.window not in known
    ]


def _of_one_rank(run: Run, report: Report, place: int) -> Report:
    """The report of a window. All ranks beside each other are a file of their own, which thousands make large."""
    return msgspec.structs.replace(report_of_window(run, report, place), ranks=None)


def first_screen(run: Run, report: Report, sizes: Mapping[int, int]) -> bytes:
    """The page of `run` without what is fetched on demand, compressed. `sizes`: bytes of each window's timeline."""
    return packed(page(run, report, sizes))


def sizes(of: Sequence[Window]) -> dict[int, int]:
    """Window -> bytes of its timeline."""
    return {window.number: len(window.timeline) for window in of}


def packed(value: msgspec.Struct) -> bytes:
    """JSON, compressed, the same bytes for the same value."""
    return gzip.compress(msgspec.json.encode(value), GZIP_LEVEL, mtime=0)


def write(of: Sequence[Window], place: Path) -> list[Path]:
    """Write the windows' files below the folder of TensorBoard's run. Raises OSError."""
    return [
        _written(content, place / FILES / f"window={window.number}.{ending}")
        for window in of
        for ending, content in (("report.json.gz", window.report), ("timeline.gz", window.timeline))
    ]


def write_ranks(ranks: Ranks, folder: Path) -> Path:
    """Write the comparison of all ranks below the run's folder, which is that of rank 0 too. Raises OSError."""
    return _written(packed(ranks), folder / FILES / RANKS)


def _written(content: bytes, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as file:
        file.write(content)
    return path
