"""Runs in an object store, or wherever else fsspec reaches: uploading those recorded here, fetching those to read.

Everything that fsspec or a store raises becomes one sentence. Credentials and endpoints are the store's own affair:
its environment variables and files, and fsspec's configuration.
"""

from __future__ import annotations

import hashlib
import posixpath
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from profkit import staging, urls
from profkit.errors import MissingDependency, UnreadableTrace, UploadError
from profkit.jobs import JOB_FILE, begun_together
from profkit.recorder import say
from profkit.runfolder import PROFKIT_FOLDER, RankFolder
from profkit.staging import EVENT_FILE, Manifest, Sent
from profkit.units import size

TOGETHER = 32  # files on their way at the same time; what is there is written down after each lot
SAY_EVERY_S = 5.0
CLAIM_S = 2.0  # in which machines that begin to upload a job's run at the same moment see each other
LOCAL = ("file", "local")
VERSIONS = "versions.json"  # of the files in a local copy: name -> what the store said of it


def upload(folder: Path) -> int:
    """Send what is not there yet of the run in `folder` to where its manifest says. Returns how many files went.

    A second call sends what is missing or has changed; so does one after an upload that was killed. Raises
    UploadError with one sentence, which the manifest keeps too, and OSError.
    """
    with staging.locked(folder / staging.FOLDER):
        known = staging.manifest(folder)
        if known is None:
            return 0
        try:
            count = _send(folder, known)
        except Exception as error:  # of whatever library reaches the store
            reason = _reason(error)
            known = msgspec.structs.replace(staging.manifest(folder) or known, failure=reason)
            staging.write(folder, known)
            raise UploadError(f"{folder} could not be sent to {known.url}: {reason}") from error
    return count


def fetched(url: str, tables: Collection[str] | None = None) -> Path:
    """A local copy of what lies at `url`: a run, the newest run of a log folder, a trace file, or a folder of those.

    Of a run come its tables and what says what they are, neither captures nor the page; with `tables` only these. What
    is here already, as the store has it, is not fetched again. Raises UnreadableTrace, MissingDependency, OSError.
    """
    try:
        store, root = _store(url)
        place = _run(store, root)
        listing = {path: info for path, info in store.find(place, detail=True).items() if _is_wanted(path, tables)}
        address = f"{url.partition('://')[0]}://{place}"
        folder, versions = staging.cache("fetched", address), staging.cache("versions", address)
        if store.isfile(place):
            _fetch(store, posixpath.dirname(place), listing, folder.parent, versions)
        else:
            _fetch(store, place, listing, folder, versions)
    except (MissingDependency, UnreadableTrace):
        raise
    except Exception as error:  # of whatever library reaches the store
        raise UnreadableTrace(f"{url} cannot be read: {_reason(error)}") from error
    return folder


def _send(folder: Path, known: Manifest) -> int:
    """Send lot by lot, and write down after each what is there."""
    store, root = _store(known.url)
    there = _sizes(store, root)
    sent = {name: state for name, state in known.sent.items() if there.get(name) == state.size}
    if not sent:
        root = _shared(store, root, folder)
        known = msgspec.structs.replace(
            known, url=posixpath.join(posixpath.dirname(known.url), posixpath.basename(root))
        )
    known = msgspec.structs.replace(known, sent=sent, failure="")
    staging.write(folder, known)
    pending = staging.unsent(folder)
    progress = Progress(f"uploading to {known.url}", sum(state.size for state in pending.values()))
    for lot in _lots(pending):
        store.put([str(folder / name) for name in lot], [posixpath.join(root, name) for name in lot])
        known = msgspec.structs.replace(known, sent={**known.sent, **lot})
        staging.write(folder, known)
        progress.add(sum(state.size for state in lot.values()))
    return len(pending)


def _shared(store: Any, root: str, folder: Path) -> str:
    """Where the run goes: `root`, or where another machine of the same job has begun to put it.

    Object stores have no locks. A machine that finds nobody puts the job's key into a folder of its own, waits for
    those that did so at the same moment, and all of them take the first of these folders.
    """
    job = folder / PROFKIT_FOLDER / JOB_FILE
    ranks = staging.recorded(folder)
    if not job.exists() or len(ranks) >= _world_size(ranks):
        return root
    key, claim = job.read_bytes(), posixpath.join(root, PROFKIT_FOLDER.as_posix(), JOB_FILE)
    found = _of_job(store, root, key, ranks)
    if not found:
        store.pipe_file(claim, key)
        time.sleep(CLAIM_S)
        store.invalidate_cache()
        found = _of_job(store, root, key, ranks)
        if found[0] != root:
            store.rm_file(claim)
    return found[0]


def _of_job(store: Any, root: str, key: bytes, ranks: Sequence[RankFolder]) -> list[str]:
    """The job's runs beside `root`, itself included, that hold none of these ranks; in order."""
    logdir, own = posixpath.split(root)
    try:
        names = [posixpath.basename(info["name"].rstrip("/")) for info in store.ls(logdir, detail=True)]
    except FileNotFoundError:  # the first run there, or no such store: sending will tell
        return []
    near = [posixpath.join(logdir, name) for name in sorted(names) if begun_together(name, own)]
    return [run for run in near if _is_of_job(store, posixpath.join(run, PROFKIT_FOLDER.as_posix()), key, ranks)]


def _is_of_job(store: Any, place: str, key: bytes, ranks: Sequence[RankFolder]) -> bool:
    try:
        same = store.cat_file(posixpath.join(place, JOB_FILE)) == key
    except FileNotFoundError:
        return False
    return same and not any(store.exists(posixpath.join(place, *own.info.parts[-2:])) for own in ranks)


def _world_size(ranks: Sequence[RankFolder]) -> int:
    infos = [own.info.read_bytes() for own in ranks if own.info.exists()]
    return max((msgspec.json.decode(info, type=_Job).world_size for info in infos), default=1)


class _Job(msgspec.Struct):
    """Of what a run says about itself, how many ranks there are."""

    world_size: int = 1


def _lots(pending: Mapping[str, Sent]) -> Iterator[dict[str, Sent]]:
    """In the order given; event files in lots of their own, after everything else is there."""
    for last in (False, True):
        for names in _chunks([name for name in pending if (EVENT_FILE in name) is last]):
            yield {name: pending[name] for name in names}


def _fetch(store: Any, root: str, listing: Mapping[str, Any], folder: Path, versions: Path) -> None:
    """Make `folder` hold the files of `listing` by their names below `root`. Raises UnreadableTrace without any.

    What it was made of is written down in the folder `versions`, since a reader looks at every file of `folder`.
    """
    if not listing:
        raise UnreadableTrace(f"{root} holds no profkit run and no file; name a run, its log folder, or a trace file")
    versions.mkdir(parents=True, exist_ok=True)
    with staging.locked(versions):
        known = _known(versions)
        news = {path: info for path, info in listing.items() if not _is_here(folder, root, path, info, known)}
        progress = Progress(f"fetching {root}", sum(info["size"] or 0 for info in news.values()))
        for lot in _chunks(list(news)):
            targets = [folder / posixpath.relpath(path, root) for path in lot]
            for target in targets:
                target.parent.mkdir(parents=True, exist_ok=True)
            store.get(lot, [str(target) for target in targets])
            known |= {posixpath.relpath(path, root): _version(news[path]) for path in lot}
            (versions / VERSIONS).write_bytes(msgspec.json.encode(known))
            progress.add(sum(news[path]["size"] or 0 for path in lot))


def _known(versions: Path) -> dict[str, str]:
    """The files fetched before, and what the store said of each then."""
    with suppress(OSError, msgspec.DecodeError):
        return msgspec.json.decode((versions / VERSIONS).read_bytes(), type=dict[str, str])
    return {}


def _is_here(folder: Path, root: str, path: str, info: Mapping[str, Any], known: Mapping[str, str]) -> bool:
    name = posixpath.relpath(path, root)
    return known.get(name) == _version(info) and (folder / name).exists()


def _version(info: Mapping[str, Any]) -> str:
    """What changes when a file does: stores have different words for it, so all they say counts."""
    return hashlib.sha256(repr(sorted(info.items(), key=str)).encode()).hexdigest()


def _run(store: Any, root: str) -> str:
    """`root` itself if it is a run, else its newest run; `root` where there is none: it may hold trace files."""
    if not store.exists(posixpath.join(root, PROFKIT_FOLDER.as_posix())):
        folders = [info["name"].rstrip("/") for info in store.ls(root, detail=True) if info["type"] == "directory"]
        for folder in sorted(folders, reverse=True):
            if store.exists(posixpath.join(folder, PROFKIT_FOLDER.as_posix())):
                return str(folder)
    return root


def _is_wanted(path: str, tables: Collection[str] | None) -> bool:
    """Whether a reader needs the file; of a run all tables, or `tables` alone."""
    _, inside, name = path.rpartition(f"/{PROFKIT_FOLDER.as_posix()}/")
    if not inside:
        return EVENT_FILE not in path
    if name.startswith(("capture/", "page/")):
        return False
    table = name.partition("/")[0] if not name.startswith("trace/") else posixpath.basename(name).partition(".")[0]
    return tables is None or not name.endswith(".parquet") or table in tables


def _store(url: str) -> tuple[Any, str]:
    """fsspec's file system for `url`, made anew, and the path in it. Raises MissingDependency, UsageError."""
    urls.checked(url, sidecar=False)
    from fsspec.core import url_to_fs  # not before it is needed: the training has ended, or somebody reads

    options = {"auto_mkdir": True} if url.partition("://")[0] in LOCAL else {}
    store, root = url_to_fs(url, skip_instance_cache=True, **options)
    return store, root.rstrip("/")


def _sizes(store: Any, root: str) -> dict[str, int]:
    """The files below `root` by their names there, and their sizes; none where there is no such folder."""
    try:
        found = store.find(root, detail=True)
    except FileNotFoundError:
        return {}
    return {posixpath.relpath(path, root): info["size"] for path, info in found.items()}


def _chunks(paths: Sequence[str]) -> Iterator[list[str]]:
    for at in range(0, len(paths), TOGETHER):
        yield list(paths[at : at + TOGETHER])


def _reason(error: Exception) -> str:
    """What a store's library raised, in one line."""
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__


class Progress:
    """Says on stderr how far a transfer is, now and then; nothing of one that is soon over."""

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._said_s = time.monotonic()

    def add(self, count: int) -> None:
        """So many bytes more are through."""
        self._done += count
        now_s = time.monotonic()
        if now_s - self._said_s >= SAY_EVERY_S:
            self._said_s = now_s
            say(f"{self._what}: {size(self._done)} of {size(self._total)}")
