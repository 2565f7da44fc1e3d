"""How a run begins: its capture file, and what it says about itself."""

from __future__ import annotations

import numbers
import os
import platform
import secrets
import shutil
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

from profkit import __version__
from profkit.errors import UsageError
from profkit.recorder import Recorder
from profkit.records import SUFFIX, Start
from profkit.runfolder import PROFKIT_FOLDER, RankFolder
from profkit.schedule import Schedule

Parameters = dict[str, str | int | float | bool]


def new_recorder(capture: Path, rank: int, world_size: int, strict: bool) -> Recorder:
    """A recorder with a file of its own in the folder `capture`. Raises UsageError where that is not possible."""
    name = f"{socket.gethostname()}-{rank}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
    try:
        return Recorder(capture / name, rank=rank, world_size=world_size, strict=strict)
    except OSError as error:
        raise _unwritable(capture, error) from error


def discard(folder: Path, rank: int) -> None:
    """Undo the beginning of a run: this rank's files go, and the folder with the last of all ranks'."""
    own = RankFolder(folder / PROFKIT_FOLDER, rank)
    log = own.capture / f"sidecar-{rank}.log"
    for path in (*own.capture_files(), log):
        path.unlink(missing_ok=True)
    if not any(own.capture.iterdir()):
        shutil.rmtree(folder, ignore_errors=True)


def append_start(recorder: Recorder, schedule: Schedule, parameters: Parameters, keep_capture: bool) -> None:
    """The first record. Raises UsageError where it cannot be written."""
    recorder.append(
        Start(
            pid=os.getpid(),
            rank=recorder.rank,
            world_size=recorder.world_size,
            host=socket.gethostname(),
            time_ns=recorder.clock(),
            script=_script(),
            python=platform.python_version(),
            profkit=__version__,
            schedule=(schedule.skip_first, schedule.wait, schedule.warmup, schedule.active, schedule.repeat),
            hparams=parameters,
            native_thread=threading.get_native_id(),
            keep_capture=keep_capture,
        )
    )
    if recorder.failure is not None:
        raise _unwritable(recorder.capture, recorder.failure)


def plain(parameters: Mapping[str, object]) -> Parameters:
    """Hyper-parameters as a record can hold them: what is no number and no truth value becomes text."""
    return {name: _plain(value) for name, value in parameters.items()}


def _plain(value: object) -> str | int | float | bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else str(value)


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"cannot write {folder}: {error.strerror}; choose another log folder")


def _script() -> str:
    """What people call the program: the module's name after -m, else the file's."""
    spec = getattr(sys.modules.get("__main__"), "__spec__", None)
    if spec is not None:
        return str(spec.name).removesuffix(".__main__")
    return Path(sys.argv[0]).name if sys.argv else ""
