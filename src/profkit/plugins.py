"""The plug points, and how a name becomes a plugin. Ours come through the same door as everybody's."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from profkit.errors import MissingDependency, UnknownPlugin

if TYPE_CHECKING:
    from profkit.analysis.report import Report
    from profkit.recorder import Recorder
    from profkit.trace.batch import Batch, ReadContext
    from profkit.trace.model import Run


@runtime_checkable
class Hook(Protocol):
    """Captures from one source, in the training process. Failing to start raises and leaves nothing running."""

    def start(self, recorder: Recorder) -> None:
        """Attach. From here on nothing raises into the training."""

    def boundary(self, number: int) -> None:
        """Step `number` of an open window begins here; the one before has ended."""

    def prepare_window(self) -> bool:
        """A window will open soon; asked before each step until it does. False: somebody else profiles, ask again."""

    def open_window(self, window: int, first: int) -> None:
        """Record from here; `first` is the number of the step that begins."""

    def close_window(self, last: int) -> None:
        """Stop recording; write the native file and announce it. Step `last` was the last one recorded."""

    def stop(self) -> None:
        """Detach, undoing every patch. Runs on errors too; an open window is dropped."""


@runtime_checkable
class Reader(Protocol):
    """Turns one native file into batches of columns; the core merges, nests, assigns steps and writes."""

    def recognises(self, path: Path, head: bytes) -> bool:
        """Whether `path` looks like this format; `head` is its first 4 KiB, decompressed if it was gzip."""

    def read(self, path: Path, context: ReadContext) -> Iterator[Batch]:
        """Yield the file in bounded pieces. Raises UnreadableTrace with one sentence."""


@runtime_checkable
class Exporter(Protocol):
    """Writes one format from a run and what the analyses found. Formats, never computes."""

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        """Write below `folder`, which exists, and return the files written."""


@runtime_checkable
class Sink(Protocol):
    """Receives scalars while the training runs, in the sidecar."""

    def open(self, folder: Path, rank: int) -> None:
        """Begin writing below the run folder."""

    def scalar(self, name: str, value: float, step: int, time_ns: int) -> None:
        """One value; `name` carries its unit."""

    def report(self, run: Run, report: Report) -> None:
        """What is known of the run so far; called now and then, and never the last word."""

    def flush(self) -> None:
        """Make everything written visible to readers. Called once per tick."""

    def close(self) -> None:
        """End. Nothing follows."""


HOOKS, READERS, EXPORTERS, SINKS, AUTO = (
    f"profkit.{group}" for group in ("hooks", "readers", "exporters", "sinks", "auto")
)


@cache
def _installed(group: str) -> tuple[EntryPoint, ...]:
    """The entry points of `group`. Looked up once: it opens a file of every installed distribution, 20 ms each time."""
    return tuple(entry_points(group=group))


def names(group: str) -> list[str]:
    """Names of the installed plugins of `group`, sorted."""
    return sorted({entry.name for entry in _installed(group)})


def load(group: str, name: str) -> Any:
    """The plugin called `name`, as a new object. Raises UnknownPlugin or MissingDependency."""
    found = [entry for entry in _installed(group) if entry.name == name]
    if not found:
        what = group.removeprefix("profkit.").removesuffix("s")
        raise UnknownPlugin(f"no {what} {name!r}; installed: {', '.join(names(group)) or 'none'}")
    return _make(found[0])


def load_all(group: str) -> dict[str, Any]:
    """Every installed plugin of `group` by name; those whose library is missing are left out."""
    loaded = {}
    for name in names(group):
        try:
            loaded[name] = load(group, name)
        except MissingDependency:
            continue
    return loaded


def auto_hooks() -> dict[str, EntryPoint]:
    """Module name -> the hook to attach once that module is in sys.modules."""
    return {entry.name: entry for entry in _installed(AUTO)}


def imported_hooks() -> tuple[list[Any], list[str]]:
    """New hooks for the modules the program has imported already, and a sentence for each that cannot be loaded.

    Imports no framework.
    """
    hooks, failures = [], []
    for module, entry in auto_hooks().items():
        if module in sys.modules:
            try:
                hooks.append(entry.load()())
            except Exception as error:  # of a version that looks otherwise than expected
                failures.append(f"{module} was imported, but its hook cannot be loaded: {error}")
    return hooks, failures


def _make(entry: EntryPoint) -> Any:
    try:
        return entry.load()()
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"{entry.name!r} needs the module {error.name!r}; run: pip install {_requirement(entry, error.name)}"
        ) from error


def _requirement(entry: EntryPoint, module: str | None) -> str:
    """What to install: the extra of the plugin's name where its distribution has one, else the module itself."""
    distribution = entry.dist
    if distribution is not None and entry.name in (distribution.metadata.get_all("Provides-Extra") or ()):
        return f"'{distribution.name}[{entry.name}]'"
    return str(module)
