"""What travels between a worker and who asked it: how to open a rank, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from profkit.trace.model import Run

Opener = Callable[[], "Run"]
Tasks = Mapping[int, Opener]  # rank -> how to open it


class Outcome(msgspec.Struct, frozen=True):
    """Of one rank: its part, encoded, or the reason why there is none."""

    rank: int
    part: bytes = b""
    lost: str = ""


def answer(rank: int, open_rank: Opener) -> bytes:
    """The Outcome of one rank, encoded: the one function that every engine runs."""
    from profkit.analysis.rankpart import rank_part

    try:
        part = msgspec.msgpack.encode(rank_part(open_rank()))
    except Exception as error:  # one damaged rank must not cost the others
        return lost(rank, f"{type(error).__name__}: {error}")
    return msgspec.msgpack.encode(Outcome(rank, part))


def serially(tasks: Tasks) -> Generator[bytes]:
    """The Outcome of each task, one after the other in this process."""
    for rank, open_rank in tasks.items():
        yield answer(rank, open_rank)


def lost(rank: int, reason: str) -> bytes:
    """The Outcome of a rank that has no part, encoded."""
    return msgspec.msgpack.encode(Outcome(rank, lost=reason))
