"""Open what profkit recorded, or anybody's trace file."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

import polars as pl

import profkit
from profkit import plugins, urls
from profkit.errors import UnreadableTrace
from profkit.readers import jsonpieces
from profkit.records import RUNNING
from profkit.runfolder import PROFKIT_FOLDER, RankFolder, recorded_ranks
from profkit.trace.assemble import assemble
from profkit.trace.batch import ReadContext
from profkit.trace.merge import merged
from profkit.trace.model import Run, RunInfo, Trace
from profkit.trace.schema import BATCHES, COUNTERS, SAMPLES, STEPS, empty
from profkit.trace.sections import sections

HEAD_BYTES = 65_536  # in which Kineto says the rank
_RANK_IN_NAME = re.compile(r"(?:^|[^a-z])rank[-_=]?(\d+)", re.IGNORECASE)
_RANK_IN_HEAD = re.compile(rb'"distributedInfo"\s*:\s*\{[^{}]*?"rank"\s*:\s*(\d+)')


def load(path: str | Path) -> Run:
    """The run recorded under `path`, or a native trace file as a run with one trace.

    `path` may be a run folder, a log folder (its newest run is taken), the folder of one trace, a file, or a folder
    of native files, one of each rank; or the URL of any of these, of which a copy is fetched. Of several ranks the
    lowest is given; `of_rank` gives the others. Raises UnreadableTrace with one sentence saying what the path is
    instead, MissingDependency where a URL needs a library.
    """
    path = local(path)
    if path.is_dir():
        return _load_folder(path)
    if not path.exists():
        raise UnreadableTrace(f"{path} does not exist")
    return _load_file(path)


def local(path: str | Path) -> Path:
    """The path itself; of a URL, a copy of what a reader needs of it. Raises UnreadableTrace, MissingDependency."""
    if isinstance(path, Path) or not urls.is_url(path):
        return Path(path)
    from profkit.remote import fetched

    return fetched(path)


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


def _load_file(path: Path, rank: int | None = None) -> Run:
    reader = _reader_of(path)
    batches = plugins.load(plugins.READERS, reader).read(path, ReadContext(rank=rank))
    opened = sections(batches, ReadContext(rank=rank), reader, profkit.__version__)
    return replace(run_of(opened[0](), path.name), open_traces=opened)


def _reader_of(path: Path) -> str:
    """The name of the reader that knows this file. Raises UnreadableTrace."""
    head = jsonpieces.head(path)
    if not head:
        raise UnreadableTrace(f"{path} is empty")
    for name, reader in plugins.load_all(plugins.READERS).items():
        if reader.recognises(path, head):
            return name
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
    from profkit.finalise import finalise_ranks
    from profkit.trace.store import META, read_trace

    if (folder / META).exists():
        return run_of(read_trace(folder), folder.name)
    run_folder = _run_folder(folder)
    if run_folder is not None:
        with suppress(OSError):  # a folder that can be read and not written
            finalise_ranks(run_folder / PROFKIT_FOLDER)
    return _of_lowest(rank_openers(run_folder or folder))


def rank_openers(folder: Path) -> dict[int, Callable[[], Run]]:
    """How to open each rank of a run folder, or of a folder of native files, as it stands: nothing is finalised.

    In order; they can be pickled. Raises UnreadableTrace where there is neither.
    """
    run_folder = _run_folder(folder)
    if run_folder is None:
        return {rank: partial(_load_file, path, rank) for rank, path in sorted(_rank_files(folder).items())}
    own = run_folder / PROFKIT_FOLDER
    return {rank: partial(open_rank, RankFolder(own, rank)) for rank in recorded_ranks(own)}


def open_rank(own: RankFolder) -> Run:
    """A run as one of its ranks saw it: from its tables, or from its capture files where it goes on."""
    from profkit.trace.store import read_json

    info = read_json(own.info, RunInfo) if own.state.exists() else None
    if info is None or info.ended == RUNNING:
        return running(own)
    batches = _read_table(own, "batches", BATCHES)
    return Run(
        info,
        _read_table(own, "steps", STEPS),
        _read_table(own, "counters", COUNTERS),
        folder=own.run_folder,
        open_traces=traces_in(own, info, batches),
        batches=batches,
        samples=_read_table(own, "samples", SAMPLES),
    )


def running(own: RankFolder) -> Run:
    """A run without tables: what its capture files hold, and the windows that have become traces."""
    from profkit.capture import counters_table, read_capture, run_info, steps_table
    from profkit.finalise import is_running
    from profkit.loadercapture import batches_table, samples_table

    capture = read_capture(own.capture, own.rank)
    info, batches = run_info(capture, alive=is_running(own, capture.start)), batches_table(capture)
    return Run(
        info,
        steps_table(capture),
        counters_table(capture),
        folder=own.run_folder,
        open_traces=traces_in(own, info, batches),
        batches=batches,
        samples=samples_table(capture),
    )


def traces_in(own: RankFolder, info: RunInfo, batches: pl.DataFrame) -> tuple[Callable[[], Trace], ...]:
    """The traces of a run in the order of their windows, each with the workers that fetched meanwhile; read later."""
    return tuple(partial(_read_with_workers, own.trace(window), info, batches) for window in own.windows())


def _read_with_workers(folder: Path, info: RunInfo, batches: pl.DataFrame) -> Trace:
    from profkit.trace.store import read_trace
    from profkit.trace.workers import with_workers

    return with_workers(read_trace(folder), batches, info.loaders)


def _run_folder(folder: Path) -> Path | None:
    """The folder itself if it is a run's, else the newest run below it; None where there is none."""
    for candidate in (folder, *folder.parents[:2]):
        if (candidate / PROFKIT_FOLDER / "capture").is_dir() or (candidate / PROFKIT_FOLDER / "run").is_dir():
            return candidate
    runs = sorted((p.parents[2] for p in folder.glob(f"*/{PROFKIT_FOLDER}/capture")), key=lambda run: run.name)
    return runs[-1] if runs else None


def _rank_files(folder: Path) -> dict[int, Path]:
    """The native files of a folder, one of each rank. Raises UnreadableTrace."""
    files: dict[int, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        if _is_trace(path):
            rank = _rank_of(path, len(files))
            if rank in files:
                both = f"{files[rank].name} and {path.name}"
                raise UnreadableTrace(f"{folder} holds several traces of rank {rank}, {both}: name one of them")
            files[rank] = path
    if not files:
        raise UnreadableTrace(f"{folder} holds no profkit run; name a run folder, its log folder, or a trace file")
    return files


def _is_trace(path: Path) -> bool:
    with suppress(UnreadableTrace):
        return bool(_reader_of(path))
    return False


def _rank_of(path: Path, place: int) -> int:
    """As the file's head says, else its name; else its place among the folder's files."""
    found = _RANK_IN_HEAD.search(jsonpieces.head(path, HEAD_BYTES)) or _RANK_IN_NAME.search(path.name)
    return int(found[1]) if found else place


def _of_lowest(ranks: dict[int, Callable[[], Run]]) -> Run:
    """The run of the lowest rank that can be read, which knows how to open the others."""
    failure = UnreadableTrace("nothing was recorded there")
    for open_one in ranks.values():
        try:
            run = open_one()
        except UnreadableTrace as error:
            failure = error
        else:
            return replace(run, open_ranks=ranks) if len(ranks) > 1 else run
    raise failure


def _read_table(own: RankFolder, name: str, columns: dict[str, pl.DataType | type[pl.DataType]]) -> pl.DataFrame:
    path = own.table(name)
    return pl.read_parquet(path) if path.exists() else empty(columns)


def _itself(trace: Trace) -> Trace:
    return trace
