"""The report of a run of many ranks, in a process of its own: `python -m benchmarks.ranked RUN ENGINE [SCHEDULER]`.

`python -m benchmarks.ranked write RUN RANKS SPANS PLACE OF` writes such a run: of every OF ranks the one at PLACE.
Prints one line of JSON.
"""

from __future__ import annotations

import hashlib
import json
import sys
import threading
import time
from pathlib import Path

import msgspec
import psutil

from profkit.cli.report import judged
from tests.synthetic_ranks import write_run

SAMPLE_S = 0.02


class TreeMemory(threading.Thread):
    """The most memory that this process and its children had resident at one time; what they share counts in each."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_bytes = 0

    def run(self) -> None:
        own = psutil.Process()
        while True:
            total = 0
            for process in (own, *own.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.peak_bytes = max(self.peak_bytes, total)
            time.sleep(SAMPLE_S)


def report(run: str, engine: str, scheduler: str | None = None) -> dict[str, object]:
    """Wall seconds and peak memory of the whole report, who it says is late, and a digest of all it says of ranks."""
    memory = TreeMemory()
    memory.start()
    begun = time.perf_counter()
    ranks = judged(Path(run), engine, scheduler)[0].ranks
    wall_s = time.perf_counter() - begun
    assert ranks is not None
    return {
        "wall_s": wall_s,
        "peak_bytes": memory.peak_bytes,
        "ranks": len(ranks.rows),
        "late": [[late.rank, late.cause] for late in ranks.stragglers],
        "digest": hashlib.sha256(msgspec.msgpack.encode(ranks)).hexdigest(),
    }


def write(run: str, ranks: str, spans: str, place: str, of: str) -> None:
    """Write the ranks of one of several writers."""
    count = int(ranks)
    write_run(Path(run), count, int(spans), range(int(place), count, int(of)))


if __name__ == "__main__":
    if sys.argv[1] == "write":
        write(*sys.argv[2:])
        print("{}")
    else:
        print(json.dumps(report(*sys.argv[1:])))
