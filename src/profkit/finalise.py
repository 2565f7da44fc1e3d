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
from typing import TYPE_CHECKING, Any

import msgspec

from profkit import plugins
from profkit.records import SUFFIX, Start, Window

if TYPE_CHECKING:
    from profkit.analysis.report import Report
    from profkit.capture import Capture
    from profkit.trace.model import Run, RunInfo, TraceInfo

EXPORTER = "tensorboard"  # runs unasked at the end of every run
BIRTH_TOLERANCE_S = 5.0  # how far the kernel's time of a process's birth may be off the wall clock
FRESH_S = 60.0  # on another host a run lives as long as its files grow; its sidecar samples every second
GZIP_LEVEL = 3  # the training waits for this; level 6 takes twice as long and saves a fifth


class State(msgspec.Struct, frozen=True):
    """What has been finalised: the sizes of the capture files then, and that the exporter has run."""

    capture_bytes: dict[str, int] = {}
    exported: bool = False


def finalise(profkit_folder: Path, *, over: bool = False) -> RunInfo:
    """Turn the capture of a run that has ended into tables, summaries and TensorBoard's files.

    `over`: the caller knows that the run has ended, though its process lives on and no record says so. A run
    that goes on is left alone; `ended` is "running" then. What fails in part becomes a note of the run. A
    second call changes nothing. Raises OSError where the folder cannot be read or written.
    """
    if _is_done(profkit_folder):
        return _read_info(profkit_folder)
    with locked(profkit_folder):
        if _is_done(profkit_folder):
            return _read_info(profkit_folder)
        return _finalise_unless_running(profkit_folder, over)


def convert_window(profkit_folder: Path, files: Sequence[Window], start: Start | None) -> None:
    """Turn a window's native files, one from each profiler, into a trace. The caller holds the lock.

    Raises ProfkitError where the file is no such trace, OSError where it cannot be read or nothing written.
    """
    from profkit.trace.batch import ReadContext
    from profkit.trace.load import read_window
    from profkit.trace.store import write_trace

    rank, host = (start.rank, start.host) if start else (0, "")
    window = files[0].window
    context = ReadContext(rank=rank, window=window, host=host)
    trace = read_window([(_native_file(profkit_folder, file), file.reader) for file in files], context)
    known: dict[str, Any] = {"notes": [*trace.info.notes, *_ignored_options(files, trace.info)]}
    if start:
        known |= {"python": start.python, "schedule": list(start.schedule), "world_size": start.world_size}
    trace = replace(trace, info=msgspec.structs.replace(trace.info, **known))
    write_trace(trace, _trace_folder(profkit_folder, window, rank))


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

    run_folder = profkit_folder.parents[1]
    summary = next(iter(sorted((profkit_folder / "summary").glob("rank=*.json"))), None)
    if summary is None:
        return f"profkit: recorded; see profkit report {run_folder}"
    result = msgspec.json.decode(summary.read_bytes(), type=Report)
    if result.state != "finished":
        return f"profkit: {result.state} after step {result.last_step}; see profkit report {run_folder}"
    terminal = Terminal.of(sys.stderr)
    return verdict(result, run_folder, terminal.width, terminal.colour, unicode=terminal.unicode)


@contextmanager
def locked(profkit_folder: Path) -> Iterator[None]:
    """Keep every other finaliser of this run out, as long as this process lives. Waits for its turn."""
    with (profkit_folder / ".lock").open("a") as lock:
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


def _finalise_unless_running(folder: Path, over: bool) -> RunInfo:
    from profkit.capture import RUNNING, read_capture, run_info

    sizes = _capture_bytes(folder)
    capture = read_capture(folder / "capture")
    info = run_info(capture, alive=not over and _goes_on(folder, capture.start))
    if info.ended != RUNNING:
        info = _write_everything(folder, capture, info)
        _write_state(folder, State(sizes, exported=True))
        _put_natives_away(folder, capture)
    return info


def _goes_on(folder: Path, start: Start | None) -> bool:
    """Whether the run may still write. Of another host's processes only the files tell."""
    if start is None:
        return False
    if start.host == socket.gethostname():
        return is_alive(start)
    newest = max(path.stat().st_mtime for path in (folder / "capture").glob(f"*{SUFFIX}"))
    return time.time() - newest < FRESH_S


def _write_everything(folder: Path, capture: Capture, info: RunInfo) -> RunInfo:
    """Traces, tables, summaries, exports; returns `info` with a note of each part that failed."""
    from profkit.trace.store import write_json

    info = _with_notes(info, _convert_missing(folder, capture))
    run = _write_tables(folder, capture, info)
    failures = _summarise_and_export(folder, run)
    info = _with_notes(info, failures)
    write_json(info, folder / "run.json")
    return info


def _convert_missing(folder: Path, capture: Capture) -> list[str]:
    """Make the traces that are not there yet; where no window was recorded, one of the capture itself."""
    from profkit.capture import capture_trace
    from profkit.trace.store import write_trace

    lost = []
    rank = capture.start.rank if capture.start else 0
    for number, files in by_window(capture.windows).items():
        if not _is_converted(_trace_folder(folder, number, rank), files):
            try:
                convert_window(folder, files, capture.start)
            except Exception as error:  # one damaged file must not cost the rest of the run
                lost.append(f"window {number} could not be turned into a trace: {_told(error)}")
    if not _trace_folders(folder):
        write_trace(capture_trace(capture), _trace_folder(folder, 0, rank))
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


def _write_tables(folder: Path, capture: Capture, info: RunInfo) -> Run:
    from profkit.capture import counters_table, steps_table
    from profkit.loadercapture import batches_table, samples_table
    from profkit.trace.load import traces_in
    from profkit.trace.model import Run
    from profkit.trace.store import write_json, write_table

    tables = {
        "steps": steps_table(capture),
        "counters": counters_table(capture),
        "batches": batches_table(capture),
        "samples": samples_table(capture),
    }
    for name, table in tables.items():
        write_table(table, folder / name / f"rank={info.rank}.parquet")
    write_json(info, folder / "run.json")
    traces = traces_in(folder, info, tables["batches"])
    return Run(info, **tables, folder=folder.parents[1], open_traces=traces)


def _summarise_and_export(folder: Path, run: Run) -> list[str]:
    """Write the run's report and the unasked export. Returns a note for each that failed."""
    try:
        result = _summarise(folder, run)
    except Exception as error:  # the tables are whole: they can be analysed later
        return [f"the analysis failed: {_told(error)}"]
    if _read_state(folder).exported:
        return []
    try:
        plugins.load(plugins.EXPORTERS, EXPORTER).export(run, result, run.folder)
    except Exception as error:  # a plugin's failure is not the run's
        return [f"the {EXPORTER} export failed: {_told(error)}"]
    return []


def _summarise(folder: Path, run: Run) -> Report:
    """Write the report of the whole run and of each window; where there is one window, they are the same."""
    from profkit.analysis.summary import report, report_of_window
    from profkit.trace.store import write_json

    whole = report(run)
    for place, trace_folder in enumerate(_trace_folders(folder)):
        write_json(
            report_of_window(run, whole, place),
            folder / "summary" / trace_folder.parent.name / f"{trace_folder.name}.json",
        )
    write_json(whole, folder / "summary" / f"rank={run.info.rank}.json")
    return whole


def _put_natives_away(folder: Path, capture: Capture) -> None:
    """Compress the native files that have become traces, or delete them where the run was told to."""
    rank, keep = (capture.start.rank, capture.start.keep_capture) if capture.start else (0, True)
    for number, files in by_window(capture.windows).items():
        natives = [native for file in files if (native := folder / "capture" / file.path).exists()]
        if natives and _is_converted(_trace_folder(folder, number, rank), files):
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


def _native_file(folder: Path, window: Window) -> Path:
    plain = folder / "capture" / window.path
    return plain if plain.exists() else plain.with_name(f"{plain.name}.gz")


def _trace_folder(folder: Path, window: int, rank: int) -> Path:
    return folder / "trace" / f"window={window}" / f"rank={rank}"


def _trace_folders(folder: Path) -> list[Path]:
    """The traces of a run in the order of their windows."""
    found = (folder / "trace").glob("window=*/rank=*")
    return sorted(found, key=lambda path: [int(part.split("=")[1]) for part in path.parts[-2:]])


def _is_done(folder: Path) -> bool:
    """Whether everything was written, and nothing was captured since."""
    state = _read_state(folder)
    return state.exported and state.capture_bytes == _capture_bytes(folder) and (folder / "run.json").exists()


def _capture_bytes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in sorted((folder / "capture").glob(f"*{SUFFIX}"))}


def _read_state(folder: Path) -> State:
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / "finalised.json").read_bytes(), type=State)
    return State()


def _write_state(folder: Path, state: State) -> None:
    from profkit.trace.store import write_json

    write_json(state, folder / "finalised.json")


def _read_info(folder: Path) -> RunInfo:
    from profkit.trace.model import RunInfo
    from profkit.trace.store import read_json

    return read_json(folder / "run.json", RunInfo)


def _with_notes(info: RunInfo, notes: Sequence[str]) -> RunInfo:
    return msgspec.structs.replace(info, notes=list(dict.fromkeys((*info.notes, *notes))))


def _told(error: Exception) -> str:
    """An error in one sentence."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
