"""A Chrome-format JSON file of any size, as bounded pieces of whole events, plain or gzip.

The format: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU ("Trace Event Format").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from isal import isal_zlib
from isal.isal_zlib import error as IsalError

from profkit.errors import UnreadableTrace

PIECE_BYTES = 4 << 20
BLOCK_BYTES = 2 << 20
GZIP_MAGIC = b"\x1f\x8b"

_EVENTS_KEY = re.compile(rb'"traceEvents"\s*:\s*\[')
# Where one event ends and the next begins. It cannot match inside a string: there the quote would be escaped.
_BETWEEN = re.compile(rb'\}(\s*,\s*)(?=\{\s*"(?:ph|name|cat|pid|ts)")')
_LOOK_BACK = (1 << 16, 1 << 22)


@dataclass(frozen=True, slots=True)
class Piece:
    """`events` is a JSON array of whole events; in the last piece the text behind the header, up to the file's end.

    `document` is set in the last piece: the file without the earlier events, header and footer included.
    """

    events: bytes
    document: bytes | None = None


def raw_bytes(path: Path) -> Iterator[bytes]:
    """The file's content in blocks, decompressed if it is gzip; a gzip file cut short yields what it holds."""
    with path.open("rb") as file:
        block = file.read(BLOCK_BYTES)
        if block[:2] != GZIP_MAGIC:
            while block:
                yield block
                block = file.read(BLOCK_BYTES)
            return
        yield from _gunzip(block, file, path)


def head(path: Path, size: int = 4096) -> bytes:
    """The first bytes of the content. Raises UnreadableTrace where the file cannot be opened."""
    try:
        with path.open("rb") as file:
            block = file.read(size)
    except OSError as error:
        raise UnreadableTrace(f"cannot read {path}: {error.strerror or error}") from error
    if block[:2] != GZIP_MAGIC:
        return block
    try:
        return isal_zlib.decompressobj(31).decompress(block, size)
    except IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance
        raise UnreadableTrace(f"{path} is a damaged gzip file: {error}") from error


def pieces(path: Path, size: int = PIECE_BYTES) -> Iterator[Piece]:
    """Cut the file's events into pieces of about `size` bytes. The last one carries header and footer."""
    buffer, header = bytearray(), b""
    for block in raw_bytes(path):
        buffer += block
        if len(buffer) < size:
            continue
        if not header and not (header := _take_header(buffer)):
            continue  # a header longer than a piece
        cut = _last_boundary(buffer)
        if cut:
            with memoryview(buffer) as view:
                array = b"".join((b"[", view[: cut[0]], b"]"))
            yield Piece(array)
            del buffer[: cut[1]]
    if not header:
        header = _take_header(buffer)
    yield Piece(bytes(buffer), header + bytes(buffer))


def _take_header(buffer: bytearray) -> bytes:
    """Remove and return what comes before the first event; empty where no array of events has begun."""
    if buffer[:1024].lstrip()[:1] == b"[":
        end = buffer.index(b"[") + 1
    elif found := _EVENTS_KEY.search(buffer):
        end = found.end()
    else:
        return b""
    header = bytes(buffer[:end])
    del buffer[:end]
    return header


def _last_boundary(buffer: bytearray) -> tuple[int, int] | None:
    """End of the last event that another one follows, and the beginning of that one."""
    for reach in _LOOK_BACK:
        tail_start = max(0, len(buffer) - reach)
        found = None
        for found in _BETWEEN.finditer(buffer[tail_start:]):  # noqa: B007 - the last one is wanted
            pass
        if found:
            return tail_start + found.start(1), tail_start + found.end(1)
    return None


def _gunzip(block: bytes, file: BinaryIO, path: Path) -> Iterator[bytes]:
    inflater = isal_zlib.decompressobj(31)
    while block:
        try:
            data = inflater.decompress(block, BLOCK_BYTES)
        except IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance
            raise UnreadableTrace(f"{path} is a damaged gzip file: {error}") from error
        if data:
            yield data
        block = inflater.unconsumed_tail
        if inflater.eof and inflater.unused_data:  # gzip members may follow one another
            block, inflater = inflater.unused_data, isal_zlib.decompressobj(31)
        if not block:
            block = file.read(BLOCK_BYTES)
