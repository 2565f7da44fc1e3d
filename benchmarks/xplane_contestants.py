"""What is compared on an XPlane file, in turns of one process: `python -m benchmarks.xplane_contestants FILE TURNS`.

Prints one line of JSON: CPU seconds of each turn. The first turn comes right behind the imports and finds caches cold.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from time import process_time
from typing import Any


def compare(path: Path, turns: int) -> dict[str, Any]:
    """Bare parse, profkit's load and its report, and where JAX is installed its reader's walk over all events."""
    from profkit import plugins
    from profkit.analysis.summary import report
    from profkit.readers.xplane_messages import XSpace
    from profkit.trace.load import load

    plugins.load_all(plugins.READERS)  # imports them, as every load does
    data, walk = path.read_bytes(), _walk(path)
    seconds: dict[str, list[float]] = defaultdict(list)
    counts: dict[str, int] = {}
    for _ in range(turns):
        with _Clocked(seconds["parse"]):
            space = XSpace.FromString(data)
        del space
        with _Clocked(seconds["load"]):
            run = load(path)
        with _Clocked(seconds["report"]):
            report(run)
        counts = run.traces[0].info.counts
        if walk:
            with _Clocked(seconds["profile_data"]):
                walk()
    return {"seconds": seconds, "counts": counts, "bytes": len(data)}


class _Clocked:
    """Adds the CPU seconds of its block to a list."""

    def __init__(self, seconds: list[float]) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._begun = process_time()

    def __exit__(self, *_: object) -> None:
        self._seconds.append(process_time() - self._begun)


def _walk(path: Path) -> Callable[[], object] | None:
    """Name, start and duration of every event by jax.profiler.ProfileData, without statistics and without analysis."""
    try:
        from jax.profiler import ProfileData
    except ImportError:
        return None

    def events() -> Iterator[tuple[str, float, float]]:
        for plane in ProfileData.from_file(str(path)).planes:
            for line in plane.lines:
                yield from ((event.name, event.start_ns, event.duration_ns) for event in line.events)

    return lambda: sum(1 for _ in events())


if __name__ == "__main__":
    print(json.dumps(compare(Path(sys.argv[1]), int(sys.argv[2]))))
