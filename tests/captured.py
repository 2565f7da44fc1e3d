"""Capture files written by hand, for what only needs to be read."""

import zlib
from pathlib import Path

import msgspec

from profkit.records import FRAME, Record


def framed(record: Record) -> bytes:
    """One record as it lies in a capture file."""
    body = msgspec.msgpack.encode(record)
    return FRAME.pack(len(body), zlib.crc32(body)) + body


def append(path: Path, *records: Record) -> None:
    """Append `records` to the capture file `path`, making it and its folder where they are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.writelines(map(framed, records))
