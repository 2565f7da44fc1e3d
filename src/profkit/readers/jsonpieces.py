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


def raw_bytes(path: Path, size: int = PIECE_BYTES) -> Iterator[bytes]:
    """The file's content in blocks, decompressed if it is gzip; a gzip file cut short yields what it holds."""
    with path.open("rb") as file:
        block = file.read(size)
        if block[:2] != GZIP_MAGIC:
            while block:
                yield block
                block = file.read(size)
            return
        yield from _gunzip(block, file, path, size)


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
    header = rest = b""
    for block in raw_bytes(path, size):
        if not header:
            header, block = _divided(rest + block)
            rest = b""
        cut = _last_boundary(block) if header else None
        if cut is None:
            rest += block  # a header, or one event, longer than a block
            continue
        with memoryview(block) as view:
            yield Piece(b"".join((b"[", rest, view[: cut[0]], b"]")))
        rest = block[cut[1] :]
    if not header:
        header, rest = _divided(rest)
    yield Piece(rest, header + rest)


def _divided(text: bytes) -> tuple[bytes, bytes]:
    """What comes before the first event, and the rest; all is rest where no array of events has begun."""
    end = 0
    if text[:1024].lstrip()[:1] == b"[":
        end = text.index(b"[") + 1
    elif found := _EVENTS_KEY.search(text):
        end = found.end()
    return text[:end], text[end:]


def _last_boundary(text: bytes) -> tuple[int, int] | None:
    """End of the last event that another one follows, and the beginning of that one."""
    for reach in _LOOK_BACK:
        tail_start = max(0, len(text) - reach)
        found = None
        for found in _BETWEEN.finditer(text[tail_start:]):  # noqa: B007 - the last one is wanted
            pass
        if found:
            return tail_start + found.start(1), tail_start + found.end(1)
    return None


def _gunzip(block: bytes, file: BinaryIO, path: Path, size: int) -> Iterator[bytes]:
    inflater = isal_zlib.decompressobj(31)
    while block:
        try:
            data = inflater.decompress(block, size)
        except IsalError as error:  # type: ignore[misc]  # its stub calls the class an instance
            raise UnreadableTrace(f"{path} is a damaged gzip file: {error}") from error
        if data:
            yield data
        block = inflater.unconsumed_tail
        if inflater.eof and inflater.unused_data:  # gzip members may follow one another
            block, inflater = inflater.unused_data, isal_zlib.decompressobj(31)
        if not block:
            block = file.read(size)
