"""One engine on one run: `python -m tests.rank_digests RUN RANKS ENGINE [SCHEDULER]`.

Prints a digest of each rank's part, in order of ranks, and one of their comparison, made in the order they came.
"""

from __future__ import annotations

import hashlib
import sys

import msgspec

from profkit.analysis.ranks import compare
from profkit.engines.fanout import rank_parts


def main(place: str, ranks: str, engine: str, scheduler: str | None = None) -> None:
    parts = list(rank_parts(place, range(int(ranks)), engine, scheduler))
    for each in (*sorted(parts, key=lambda part: part.rank), compare(parts)):
        print(hashlib.sha256(msgspec.msgpack.encode(each)).hexdigest())


if __name__ == "__main__":
    main(*sys.argv[1:])
