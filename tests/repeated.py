"""A Kineto file as large as one likes: a recorded one again and again, each time later, streamed to disk."""

from __future__ import annotations

import gzip
import re
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

# What has to differ from one time to the next: times, and the numbers that tie events together.
_NUMBER = re.compile(rb'("ts": |"correlation": |"External id": |"id": )(\d+)(\.\d+)?')
_PAUSE_US = 200_000
_IDS = 10_000_000


def write_repeated(source: Path, target: Path, size: int) -> int:
    """Write about `size` bytes of JSON to `target`, gzip if it is named so; returns how often `source` is in it."""
    text = gzip.decompress(source.read_bytes())
    begin = text.index(b"[", text.index(b'"traceEvents"')) + 1
    end = text.rindex(b"]", 0, text.rindex(b'"traceName"')) if b'"traceName"' in text[-5_000:] else text.rindex(b"]")
    body = text[begin:end].strip()
    found = list(_NUMBER.finditer(body))
    edges = [0, *(match.end(1) for match in found)]
    between = [body[low:high] for low, high in zip([0, *(match.end(2) for match in found)], edges[1:], strict=False)]
    tail = body[found[-1].end(2) :]
    is_time = np.array([match[1] == b'"ts": ' for match in found])
    numbers = np.array([int(match[2]) for match in found])
    times = numbers[is_time & (numbers > np.median(numbers[is_time]) / 2)]  # those of tracks' names are 0
    added = np.where(is_time, int(times.max() - times.min()) + _PAUSE_US, _IDS)
    written = repeats = 0
    with _opened(target) as file:
        file.write(text[:begin])
        while written < size:
            shifted = (numbers + added * repeats).tolist()
            pieces = (part for pair in zip(between, (b"%d" % n for n in shifted), strict=True) for part in pair)
            written += file.write(b"".join((b",\n" if repeats else b"", *pieces, tail)))
            repeats += 1
        file.write(text[end:])
    return repeats


def _opened(target: Path) -> BinaryIO:
    return cast(BinaryIO, gzip.open(target, "wb", 1)) if target.suffix == ".gz" else target.open("wb")
