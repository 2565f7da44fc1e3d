"""From capture to tables, once, whoever calls it: the sidecar, the run itself, or who opens the folder next.

Everything is written beside its place and renamed; a lock keeps two callers apart; who is killed on the way
leaves the work to the next one.
"""

from __future__ import annotations

import fcntl
import gzip
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from profkit import plugins, staging
from profkit.errors import UploadError
from profkit.records import RUNNING, SUFFIX, Start, Window
from profkit.runfolder import RankFolder, rank_of_capture, recorded_ranks

if TYPE_CHECKING:
    from profkit.analysis.report import Report
    from profkit.capture import Capture
    from profkit.trace.model import Run, RunInfo, TraceInfo

EXPORTER = "tensorboard"  # runs unasked at the end of every run
BIRTH_TOLERANCE_S = 5.0  # how far the kernel's time of a process's birth may be off the wall clock
FRESH_S = 60.0  # on another host a run lives as long as its files grow; its sidecar samples every second
RANKS_S, LOOK_S = 10.0, 0.05  # how long the first rank waits for the others at its end
GZIP_LEVEL = 3  # the training waits for this; level 6 takes twice as long and saves a fifth

S = TypeVar("S", bound=msgspec.Struct)


class State(msgspec.Struct, frozen=True):
    """What has been finalised: the sizes of the capture files then, and that the exporter has run."""

    capture_bytes: dict[str, int] = {}
    exported: bool = False


class RanksState(msgspec.Struct, frozen=True):
    """Which ranks have been compared."""

    ranks: list[int] = []


def finalise(profkit_folder: Path, rank: int | None = None, *, over: bool = False) -> RunInfo:
    """Turn what one rank of a run that has ended captured into tables, summaries and TensorBoard's files.

    `rank`: the lowest that was recorded, where none is named. `over`: the caller knows that the run has ended,
    though its process lives on and no record says so. A run that goes on is left alone; `ended` is "running" then.
    The last of a job's ranks to be finalised brings all of them together. What fails in part becomes a note of the
    run. A second call changes nothing. Raises OSError where the folder cannot be read or written.
    """
    own = RankFolder(profkit_folder, _lowest(profkit_folder) if rank is None else rank)
    if _is_done(own):
        return _read_info(own)
    with locked(own):
        info = _read_info(own) if _is_done(own) else _finalise_unless_running(own, over)
    if info.world_size > 1 and info.ended != RUNNING:
        compare_ranks(profkit_folder, info.world_size)
    return info


def finalise_and_upload(own: RankFolder) -> RunInfo:
    """Finalise a rank whose run is over; where the log folder is a URL, send there what is whole by now.

    An upload that fails is said in the run's upload manifest alone: the run is whole where it is. Raises OSError.
    """
    info = finalise(own.folder, own.rank, over=True)
    if staging.manifest(own.run_folder) is not None:
        from profkit.remote import upload

        with suppress(UploadError):
            upload(own.run_folder)
    return info


def finalise_ranks(profkit_folder: Path) -> tuple[int, ...]:
    """Finalise every rank of a run that has ended. Returns the ranks. Raises OSError.

    A copy without captures, as it is fetched from an object store, is taken as it is.
    """
    ranks = recorded_ranks(profkit_folder)
    if not (profkit_folder / "capture").is_dir():
        return ranks
    captured = _captured_bytes(profkit_folder)
    infos = [
        _read_info(own) if _is_done(own, captured.get(own.rank, {})) else finalise(profkit_folder, own.rank)
        for own in (RankFolder(profkit_folder, rank) for rank in ranks)
    ]
    if len(ranks) > 1 and all(info.ended != RUNNING for info in infos):
        compare_ranks(profkit_folder, len(ranks))
    return ranks


def compare_ranks(profkit_folder: Path, expected: int) -> None:
    """Once so many ranks are finalised: put what their comparison says into the report of the first one."""
    ranks = _finalised_ranks(profkit_folder)
    if len(ranks) < expected:
        return
    first = RankFolder(profkit_folder, ranks[0])
    with locked(first):
        state = RanksState(list(ranks))
        if _read(first.ranks_state, RanksState) != state:
            _compare(first, ranks)
            _write(state, first.ranks_state)


def wait_for_ranks(profkit_folder: Path, world_size: int) -> None:
    """Until all ranks are compared, for at most RANKS_S: of one that died nobody may ever say so.

    Where not all ranks record there is nothing to wait for.
    """
    if world_size == 1 or len(recorded_ranks(profkit_folder)) < world_size:
        return
    state = RankFolder(profkit_folder, 0).ranks_state
    deadline = time.monotonic() + RANKS_S
    while not state.exists() and time.monotonic() < deadline:
        time.sleep(LOOK_S)


def convert_window(own: RankFolder, files: Sequence[Window], start: Start | None) -> None:
    """Turn a window's native files, one from each profiler, into a trace. The caller holds the lock.

    Raises ProfkitError where the file is no such trace, OSError where it cannot be read or nothing written.
    """
    from profkit.trace.batch import ReadContext
    from profkit.trace.load import read_window
    from profkit.trace.store import write_trace

    window = files[0].window
    context = ReadContext(rank=own.rank, window=window, host=start.host if start else "")
    trace = read_window([(_native_file(own, file), file.reader) for file in files], context)
    known: dict[str, Any] = {"notes": [*trace.info.notes, *_ignored_options(files, trace.info)]}
    if start:
        known |= {"python": start.python, "schedule": list(start.schedule), "world_size": start.world_size}
    trace = replace(trace, info=msgspec.structs.replace(trace.info, **known))
    write_trace(trace, own.trace(window))


def _ignored_options(files: Sequence[Window], info: TraceInfo) -> list[str]:
    """One sentence for each option that a profiler was given and, by what its file says, did not use."""
    return [
        f"{file.hook}'s profiler was asked for {name}={asked} and recorded with {info.native[name]}"
        for file in files
        for name, asked in file.asked.items()
        if info.native.get(name, asked) != asked
    ]


def closing_text(profkit_folder: Path) -> str:
    """What the terminal shows when a run has been left: the verdict, or one line where there is none."""
    from profkit.analysis.report import Report
    from profkit.cli.terminal import Terminal
    from profkit.cli.text import verdict

    own = RankFolder(profkit_folder, _lowest(profkit_folder))
    run_folder, sent = own.run_folder, staging.manifest(own.run_folder)
    place = run_folder if sent is None or staging.is_unsent(own) else sent.url
    if not own.summary.exists():
        return f"profkit: recorded; see profkit report {place}"
    result = msgspec.json.decode(own.summary.read_bytes(), type=Report)
    if result.state != "finished":
        return f"profkit: {result.state} after step {result.last_step}; see profkit report {place}"
    terminal = Terminal.of(sys.stderr)
    return verdict(result, place, terminal.width, terminal.colour, unicode=terminal.unicode)


@contextmanager
def locked(own: RankFolder) -> Iterator[None]:
    """Keep every other finaliser of this rank out, as long as this process lives. Waits for its turn."""
    with own.lock.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def is_alive(start: Start) -> bool:
    """Whether the training process that wrote `start` still exists on this host. A zombie does not."""
    import psutil

    with suppress(psutil.NoSuchProcess):
        process = psutil.Process(start.pid)
        born_before = process.create_time() < start.time_ns / 1e9 + BIRTH_TOLERANCE_S  # else the pid was reused
        return bool(born_before and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _finalise_unless_running(own: RankFolder, over: bool) -> RunInfo:
    from profkit.capture import read_capture, run_info

    sizes = _capture_bytes(own)
    capture = read_capture(own.capture, own.rank)
    info = run_info(capture, alive=not over and is_running(own, capture.start))
    if info.ended != RUNNING:
        own.ranks_state.unlink(missing_ok=True)
        info = _write_everything(own, capture, info)
        _write(State(sizes, exported=True), own.state)
        _put_natives_away(own, capture)
    return info


def is_running(own: RankFolder, start: Start | None) -> bool:
    """Whether the run may still write. Of another host's processes only the files tell."""
    if start is None:
        return False
    if start.host == socket.gethostname():
        return is_alive(start)
    newest = max(path.stat().st_mtime for path in own.capture_files())
    return time.time() - newest < FRESH_S


def _write_everything(own: RankFolder, capture: Capture, info: RunInfo) -> RunInfo:
    """Traces, tables, summaries, exports; returns `info` with a note of each part that failed."""
    info = _with_notes(info, _convert_missing(own, capture))
    run = _write_tables(own, capture, info)
    failures = _summarise_and_export(own, run)
    info = _with_notes(info, failures)
    _write(info, own.info)
    return info


def _convert_missing(own: RankFolder, capture: Capture) -> list[str]:
    """Make the traces that are not there yet; where no window was recorded, one of the capture itself."""
    from profkit.capture import capture_trace
    from profkit.trace.store import write_trace

    lost = []
    for number, files in by_window(capture.windows).items():
        if not _is_converted(own.trace(number), files):
            try:
                convert_window(own, files, capture.start)
            except Exception as error:  # one damaged file must not cost the rest of the run
                lost.append(f"window {number} could not be turned into a trace: {_told(error)}")
    if not own.windows():
        write_trace(capture_trace(capture), own.trace(0))
    return lost


def by_window(files: Sequence[Window]) -> dict[int, list[Window]]:
    """The profilers' files of each window, in the order they were written."""
    windows: dict[int, list[Window]] = {}
    for file in files:
        windows.setdefault(file.window, []).append(file)
    return windows


def _is_converted(trace_folder: Path, files: Sequence[Window]) -> bool:
    """Whether there is a trace of all these files; one of the capture only stands in for it."""
    from profkit.trace.model import TraceInfo
    from profkit.trace.store import META, read_json

    meta = trace_folder / META
    return meta.exists() and read_json(meta, TraceInfo).source == "+".join(file.reader for file in files)


def _write_tables(own: RankFolder, capture: Capture, info: RunInfo) -> Run:
    from profkit.capture import counters_table, steps_table
    from profkit.loadercapture import batches_table, samples_table
    from profkit.trace.load import traces_in
    from profkit.trace.model import Run
    from profkit.trace.store import write_table

    tables: dict[str, Any] = {
        "steps": steps_table(capture),
        "counters": counters_table(capture),
        "batches": batches_table(capture),
        "samples": samples_table(capture),
    }
    for name, table in tables.items():
        write_table(table, own.table(name))
    _write(info, own.info)
    return Run(info, **tables, folder=own.run_folder, open_traces=traces_in(own, info, tables["batches"]))


def _summarise_and_export(own: RankFolder, run: Run) -> list[str]:
    """Write the run's report and the unasked export. Returns a note for each that failed."""
    try:
        result = _summarise(own, run)
    except Exception as error:  # the tables are whole: they can be analysed later
        return [f"the analysis failed: {_told(error)}"]
    return [] if _read(own.state, State).exported else _export(run, result)


def _export(run: Run, result: Report) -> list[str]:
    try:
        plugins.load(plugins.EXPORTERS, EXPORTER).export(run, result, run.folder)
    except Exception as error:  # a plugin's failure is not the run's
        return [f"the {EXPORTER} export failed: {_told(error)}"]
    return []


def _summarise(own: RankFolder, run: Run) -> Report:
    """Write the report of the whole run and of each window; where there is one window, they are the same."""
    from profkit.analysis.summary import report, report_of_window

    whole = report(run)
    for place, window in enumerate(own.windows()):
        _write(report_of_window(run, whole, place), own.window_summary(window))
    _write(whole, own.summary)
    return whole


def _compare(first: RankFolder, ranks: Sequence[int]) -> None:
    """Judge the first rank's run once more, beside all others, and show that."""
    from profkit.analysis.summary import report
    from profkit.engines.fanout import ranks_of
    from profkit.trace.load import open_rank, rank_openers

    openers = rank_openers(first.run_folder)
    run = replace(open_rank(first), open_ranks={rank: openers[rank] for rank in ranks})
    try:
        whole = report(run, ranks_of(first.run_folder, run, "serial"))
    except Exception as error:  # each rank's own report stands
        notes = [f"the ranks could not be compared: {_told(error)}"]
    else:
        _write(whole, first.summary)
        notes = _export(run, whole)
    if notes:
        _write(_with_notes(run.info, notes), first.info)


def _put_natives_away(own: RankFolder, capture: Capture) -> None:
    """Compress the native files that have become traces, or delete them where the run was told to."""
    keep = capture.start.keep_capture if capture.start else True
    for number, files in by_window(capture.windows).items():
        natives = [native for file in files if (native := own.capture / file.path).exists()]
        if natives and _is_converted(own.trace(number), files):
            for native in natives:
                if keep:
                    _compress(native)
                native.unlink()


def _compress(path: Path) -> None:
    """Write `path` as `path.gz`, in one rename."""
    part = path.with_name(f"{path.name}.gz.part")
    with path.open("rb") as source, gzip.open(part, "wb", GZIP_LEVEL) as target:
        shutil.copyfileobj(source, target, 1 << 20)
    part.replace(path.with_name(f"{path.name}.gz"))


def _native_file(own: RankFolder, window: Window) -> Path:
    plain = own.capture / window.path
    return plain if plain.exists() else plain.with_name(f"{plain.name}.gz")


def _lowest(profkit_folder: Path) -> int:
    return min(recorded_ranks(profkit_folder), default=0)


def _finalised_ranks(profkit_folder: Path) -> tuple[int, ...]:
    return tuple(rank for rank in recorded_ranks(profkit_folder) if RankFolder(profkit_folder, rank).state.exists())


def _is_done(own: RankFolder, captured: dict[str, int] | None = None) -> bool:
    """Whether everything was written, and nothing was captured since. `captured`: its files' sizes, where known."""
    state = _read(own.state, State)
    sizes = _capture_bytes(own) if captured is None else captured
    return state.exported and state.capture_bytes == sizes and own.info.exists()


def _captured_bytes(profkit_folder: Path) -> dict[int, dict[str, int]]:
    """The sizes of all ranks' capture files: looking through the folder once for each would take the square."""
    sizes: dict[int, dict[str, int]] = {}
    for path in (profkit_folder / "capture").glob(f"*{SUFFIX}"):
        sizes.setdefault(rank_of_capture(path.name), {})[path.name] = path.stat().st_size
    return sizes


def _capture_bytes(own: RankFolder) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in own.capture_files()}


def _read(path: Path, kind: type[S]) -> S:
    """What was said there, or the beginning of it where nothing was."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode(path.read_bytes(), type=kind)
    return kind()


def _write(value: msgspec.Struct, path: Path) -> None:
    from profkit.trace.store import write_json

    write_json(value, path)


def _read_info(own: RankFolder) -> RunInfo:
    from profkit.trace.model import RunInfo
    from profkit.trace.store import read_json

    return read_json(own.info, RunInfo)


def _with_notes(info: RunInfo, notes: Sequence[str]) -> RunInfo:
    return msgspec.structs.replace(info, notes=list(dict.fromkeys((*info.notes, *notes))))


def _told(error: Exception) -> str:
    """An error in one sentence."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
