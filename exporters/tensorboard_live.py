"""Scalars, the verdict so far and the page in TensorBoard while the training runs."""

# mypy: disable-error-code="attr-defined,name-defined"
# tensorboard's messages get their fields at run time.

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from tensorboard.compat.proto import event_pb2

from .eventfile import LIVE, event_file, home, records, scalar, verdict, version
from .eventfile import page as page_event

if TYPE_CHECKING:
    from profkit.analysis.report import Report
    from profkit.trace.model import Run


class TensorBoardSink:
    """Appends curves, the verdict so far and the page to an event file while the training runs; a flush shows them."""

    def __init__(self) -> None:
        self._file: BinaryIO | None = None
        self._known: set[str] = set()
        self._events: list[event_pb2.Event] = []
        self._shown: dict[int, int] = {}  # windows the page has, and the size of their timelines

    def open(self, folder: Path, rank: int) -> None:
        """Begin an event file. Raises OSError."""
        self._place = home(folder, rank)
        self._place.mkdir(parents=True, exist_ok=True)
        now = time.time()
        self._file = event_file(self._place, now, rank, LIVE).open("ab", buffering=0)
        self._events.append(version(now))
        self.flush()

    def scalar(self, name: str, value: float, step: int, time_ns: int) -> None:
        """Keep one value until the next flush; `name` is the whole tag."""
        self._events.append(scalar(name, value, step, time_ns, first=name not in self._known))
        self._known.add(name)

    def report(self, run: Run, report: Report) -> None:
        """Keep the page and the verdict until the next flush; write the windows the page has not had yet."""
        from . import page  # not before there is something to say: it imports polars
        from .summarytext import summary_markdown

        windows = page.windows(run, report, known=self._shown)
        page.write(windows, self._place)
        self._shown |= page.sizes(windows)
        now, step = time.time(), report.last_step or 0
        content = page.first_screen(run, report, self._shown)
        self._events += [page_event(content, step, now), verdict(summary_markdown(report), step, now)]

    def flush(self) -> None:
        """Append everything kept, in one write. Raises OSError."""
        if self._file is not None and self._events:
            self._file.write(records(self._events))
        self._events.clear()

    def close(self) -> None:
        """Flush and close the file."""
        self.flush()
        if self._file is not None:
            self._file.close()
            self._file = None
