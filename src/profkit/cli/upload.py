"""`profkit upload RUN`: send a run to its log folder, where that did not succeed, or to any other."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from profkit.cli.terminal import busy, show
from profkit.errors import UnreadableTrace, UsageError
from profkit.urls import checked

if TYPE_CHECKING:
    from profkit.staging import Manifest


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "upload",
        help="send a run to an object store, or go on with that",
        description="Send what is not there yet of a run to the URL it was recorded for, or to another log folder.",
        allow_abbrev=False,
    )
    parser.add_argument("path", type=Path, metavar="RUN", help="a run on this machine")
    parser.add_argument("--to", metavar="URL", help="the log folder; default the one the run was recorded for")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send the run and print where it is. Raises ProfkitError, OSError."""
    with busy(f"uploading {arguments.path.name}"):
        url = uploaded(arguments.path, arguments.to)
    show(url)
    return 0


def uploaded(folder: Path, to: str | None) -> str:
    """The URL of the run, once everything is there; a copy that was made for the upload is removed then.

    Raises UsageError, UnreadableTrace, UploadError, OSError.
    """
    from profkit import staging
    from profkit.finalise import finalise_ranks
    from profkit.remote import upload
    from profkit.runfolder import PROFKIT_FOLDER

    if not (folder / PROFKIT_FOLDER).is_dir():
        raise UnreadableTrace(f"{folder} is no run on this machine; name the folder of one run")
    known = _addressed(folder, to)
    finalise_ranks(folder / PROFKIT_FOLDER)
    ranks = staging.recorded(folder)
    if not all(own.state.exists() for own in ranks):
        raise UsageError(f"{folder} goes on: it is uploaded when it has ended")
    staging.write(folder, known)
    for own in ranks:
        staging.withdraw(own)  # of processes that are gone
    upload(folder)
    staging.clear(folder)
    return known.url


def _addressed(folder: Path, to: str | None) -> Manifest:
    """What is known of the upload, with the address that counts. Raises UsageError, MissingDependency."""
    from profkit.staging import Manifest, manifest

    known = manifest(folder)
    if to is None:
        if known is None:
            raise UsageError(f"{folder} was not recorded for a URL: name a log folder with --to")
        return known
    url = f"{checked(to, sidecar=False)}/{folder.resolve().name}"
    if known is not None and known.url == url:
        return known
    return Manifest(url=url, keep=known is None or known.keep)
