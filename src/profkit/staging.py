"""A log folder at a URL: its runs are recorded here first, in a local copy, and uploaded when they have ended.

The training knows this much and no more: where the copy is, and what of it has been sent. `profkit.remote` does the
sending, in the sidecar or after the training.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from profkit.runfolder import PROFKIT_FOLDER, RankFolder, rank_of_file, recorded_ranks

CACHE_VARIABLE = "PROFKIT_CACHE"
FOLDER, CAPTURE = PROFKIT_FOLDER / "upload", PROFKIT_FOLDER / "capture"
EVENT_FILE = "events.out.tfevents."


class Sent(msgspec.Struct, frozen=True, array_like=True):
    """A local file as it was when it was sent."""

    size: int
    mtime_ns: int


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """Where a run goes and what of it is there already. `failure`: why the last attempt went no further."""

    url: str
    keep: bool = False
    sent: dict[str, Sent] = {}
    failure: str = ""


def copies(url: str) -> Path:
    """The local log folder in which runs for `url` are recorded."""
    return cache("runs", url)


def cache(purpose: str, url: str) -> Path:
    """A local folder that stands for `url`, below $PROFKIT_CACHE or the user's cache folder."""
    home = os.environ.get(CACHE_VARIABLE) or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "profkit")
    scheme, _, rest = url.partition("://")
    parts = [part for part in rest.split("/") if part not in ("", ".", "..")]
    return Path(home, purpose, scheme, *parts).expanduser().absolute()


def announce(own: RankFolder, url: str, keep: bool) -> str:
    """The run of this rank is to be uploaded below `url`, and its copy is needed until `leave`. Returns the run's URL.

    Raises OSError.
    """
    folder = own.run_folder
    (folder / FOLDER).mkdir(exist_ok=True)
    _user(own).touch()
    with locked(folder / FOLDER):
        known = manifest(folder) or Manifest(url=f"{url}/{folder.name}", keep=keep)
        write(folder, known)
    return known.url


def withdraw(own: RankFolder) -> None:
    """Undo `announce`."""
    _user(own).unlink(missing_ok=True)


def leave(own: RankFolder) -> None:
    """This rank's process needs the copy no more. Whoever leaves last removes it, once everything of it is there."""
    _user(own).unlink(missing_ok=True)
    clear(own.run_folder)


def clear(folder: Path, *, even_kept: bool = False) -> bool:
    """Remove a copy that is sent, unless somebody needs it or it is to be kept. Returns whether it is gone."""
    if not (folder / FOLDER).exists():
        return True
    with locked(folder / FOLDER):
        known = manifest(folder)
        needed = known is None or (known.keep and not even_kept) or any((folder / FOLDER).glob("rank=*"))
        if needed or unsent(folder) or not all(own.state.exists() for own in recorded(folder)):
            return False
        shutil.rmtree(folder, ignore_errors=True)
    return True


def is_unsent(own: RankFolder) -> bool:
    """Whether something of this rank, or of those finalised before, is to be sent and here alone."""
    here = manifest(own.run_folder) is not None
    return here and (not own.state.exists() or bool(unsent(own.run_folder)))


def told(own: RankFolder) -> str:
    """One sentence on how the upload of this rank ended."""
    folder = own.run_folder
    known = manifest(folder)
    if known is None:
        return "uploaded"
    if not is_unsent(own):
        return f"uploaded to {known.url}"
    reason = known.failure or "the upload did not end"
    return f"not uploaded to {known.url} ({reason}); the run is in {folder}; to go on, run: profkit upload {folder}"


def recorded(folder: Path) -> list[RankFolder]:
    """The ranks of a run that have anything here."""
    own = folder / PROFKIT_FOLDER
    return [RankFolder(own, rank) for rank in recorded_ranks(own)]


def manifest(folder: Path) -> Manifest | None:
    """What is known of the upload of the run in `folder`; None where it stays where it is."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((folder / FOLDER / "manifest.json").read_bytes(), type=Manifest)
    return None


def write(folder: Path, known: Manifest) -> None:
    """Replace the manifest in one rename. Raises OSError."""
    (folder / FOLDER).mkdir(exist_ok=True)
    part = folder / FOLDER / "manifest.part"
    part.write_bytes(msgspec.json.encode(known))
    part.replace(folder / FOLDER / "manifest.json")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from what `folder` stands for meanwhile. Waits for its turn."""
    with (folder / ".lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def unsent(folder: Path) -> dict[str, Sent]:
    """What is to be uploaded still, in that order: files that are whole and not there as they are now.

    Event files come last, since TensorBoard reads a run as soon as it sees them.
    """
    known = manifest(folder)
    there = {} if known is None else known.sent
    found = {name: state for name, state in _whole_files(folder) if there.get(name) != state}
    return dict(sorted(found.items(), key=lambda item: (EVENT_FILE in item[0], item[0])))


def _whole_files(folder: Path) -> Iterator[tuple[str, Sent]]:
    """The files of the ranks that have been finalised, and what belongs to no rank."""
    own = folder / PROFKIT_FOLDER
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if _is_passing(name) or not path.is_file():
            continue
        rank = rank_of_file(name)
        if rank is None or RankFolder(own, rank).state.exists():
            with suppress(FileNotFoundError):  # replaced right now
                status = path.stat()
                yield name.as_posix(), Sent(status.st_size, status.st_mtime_ns)


def _is_passing(name: Path) -> bool:
    """Whether a file of a run folder is half written, or this machine's own affair."""
    hidden = any(part.startswith(".") for part in name.parts)
    passing = name.suffix in (".part", ".log") and CAPTURE in name.parents
    return hidden or passing or FOLDER in name.parents


def _user(own: RankFolder) -> Path:
    """Is there as long as this rank's process needs the copy."""
    return own.run_folder / FOLDER / f"rank={own.rank}"
