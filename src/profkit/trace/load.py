"""Open what profkit recorded, or anybody's trace file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import polars as pl

import profkit
from profkit import plugins
from profkit.errors import UnreadableTrace
from profkit.readers import jsonpieces
from profkit.trace.assemble import assemble
from profkit.trace.batch import ReadContext
from profkit.trace.merge import merged
from profkit.trace.model import Run, RunInfo, Trace
from profkit.trace.schema import BATCHES, COUNTERS, SAMPLES, STEPS, empty

PROFKIT_FOLDER = Path("plugins", "profkit")


def load(path: str | Path) -> Run:
    """The run recorded under `path`, or a native trace file as a run with one trace.

    `path` may be a run folder, a log folder (its newest run is taken), the folder of one trace, or a file. Raises
    UnreadableTrace with one sentence saying what the path is instead.
    """
    path = Path(path)
    if path.is_dir():
        return _load_folder(path)
    if not path.exists():
        raise UnreadableTrace(f"{path} does not exist")
    return _load_file(path)


def read_native(path: Path, reader: str, context: ReadContext) -> Trace:
    """The trace in one native file, by the reader of that name."""
    batches = plugins.load(plugins.READERS, reader).read(path, context)
    return assemble(batches, context, source=reader, profkit=profkit.__version__)


def read_window(files: Sequence[tuple[Path, str]], context: ReadContext) -> Trace:
    """The trace of one window from its profilers' files, each with the name of its reader."""
    if len(files) == 1:
        return read_native(*files[0], context)
    parts = [plugins.load(plugins.READERS, reader).read(path, context) for path, reader in files]
    source = "+".join(reader for _, reader in files)
    return assemble(merged(parts), context, source=source, profkit=profkit.__version__)


def _load_file(path: Path) -> Run:
    head = jsonpieces.head(path)
    if not head:
        raise UnreadableTrace(f"{path} is empty")
    for name, reader in plugins.load_all(plugins.READERS).items():
        if reader.recognises(path, head):
            return run_of(read_native(path, name, ReadContext()), path.name)
    installed = ", ".join(plugins.names(plugins.READERS))
    raise UnreadableTrace(f"{path} is no trace: no reader knows its format (installed: {installed})")


def run_of(trace: Trace, name: str) -> Run:
    """A trace of which nothing else is known, as a run."""
    info = RunInfo(
        profkit=profkit.__version__,
        script=name,
        host=trace.info.host,
        rank=trace.info.rank,
        world_size=trace.info.world_size,
        ended="trace",
        frameworks=trace.info.frameworks,
    )
    return Run(info, empty(STEPS), empty(COUNTERS), open_traces=(partial(_itself, trace),))


def _load_folder(folder: Path) -> Run:
    from profkit.finalise import finalise
    from profkit.trace.store import META, read_trace

    if (folder / META).exists():
        return run_of(read_trace(folder), folder.name)
    run_folder = _run_folder(folder)
    profkit_folder = run_folder / PROFKIT_FOLDER
    try:
        info = finalise(profkit_folder)
    except OSError:  # a folder that can be read and not written
        return _from_capture(run_folder)
    if info.ended == "running":
        return _from_capture(run_folder, info)
    batches = _read_table(profkit_folder / "batches", info.rank, BATCHES)
    return Run(
        info,
        _read_table(profkit_folder / "steps", info.rank, STEPS),
        _read_table(profkit_folder / "counters", info.rank, COUNTERS),
        folder=run_folder,
        open_traces=traces_in(profkit_folder, info, batches),
        batches=batches,
        samples=_read_table(profkit_folder / "samples", info.rank, SAMPLES),
    )


def _from_capture(run_folder: Path, info: RunInfo | None = None) -> Run:
    """A run without tables, as one that goes on: what its capture files hold, and the windows that became traces."""
    from profkit.capture import counters_table, read_capture, run_info, steps_table
    from profkit.loadercapture import batches_table, samples_table

    profkit_folder = run_folder / PROFKIT_FOLDER
    capture = read_capture(profkit_folder / "capture")
    info, batches = info or run_info(capture, alive=False), batches_table(capture)
    return Run(
        info,
        steps_table(capture),
        counters_table(capture),
        folder=run_folder,
        open_traces=traces_in(profkit_folder, info, batches),
        batches=batches,
        samples=samples_table(capture),
    )


def traces_in(profkit_folder: Path, info: RunInfo, batches: pl.DataFrame) -> tuple[Callable[[], Trace], ...]:
    """The traces of a run in the order of their windows, each with the workers that fetched meanwhile; read later."""
    folders = sorted((profkit_folder / "trace").glob("window=*/rank=*"), key=_window_and_rank)
    return tuple(partial(_read_with_workers, folder, info, batches) for folder in folders)


def _read_with_workers(folder: Path, info: RunInfo, batches: pl.DataFrame) -> Trace:
    from profkit.trace.store import read_trace
    from profkit.trace.workers import with_workers

    return with_workers(read_trace(folder), batches, info.loaders)


def _run_folder(folder: Path) -> Path:
    """The folder itself if it is a run's, else the newest run below it."""
    for candidate in (folder, *folder.parents[:2]):
        if (candidate / PROFKIT_FOLDER / "capture").is_dir():
            return candidate
    runs = sorted((p.parents[2] for p in folder.glob(f"*/{PROFKIT_FOLDER}/capture")), key=lambda run: run.name)
    if not runs:
        raise UnreadableTrace(f"{folder} holds no profkit run; name a run folder, its log folder, or a trace file")
    return runs[-1]


def _window_and_rank(path: Path) -> tuple[int, int]:
    return int(path.parent.name.removeprefix("window=")), int(path.name.removeprefix("rank="))


def _read_table(folder: Path, rank: int, columns: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    path = folder / f"rank={rank}.parquet"
    return pl.read_parquet(path) if path.exists() else empty(columns)


def _itself(trace: Trace) -> Trace:
    return trace
