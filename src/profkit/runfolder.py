"""Where a run keeps what. All ranks of a job share one run folder; each writes files of its own in it.

```
<run>/plugins/profkit/
    capture/<host>-<rank>-<pid>-<random>.pkrec       what each process recorded, and the profilers' native files
    run/rank=0.json  finalised/rank=0.json           what the run says of itself; what has become tables
    steps/rank=0.parquet  counters/  batches/  samples/
    trace/window=0/rank=0/                           a recorded window
    summary/rank=0.json  summary/window=0/rank=0.json
```
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from profkit.records import SUFFIX

PROFKIT_FOLDER = Path("plugins", "profkit")

# `host-rank-pid-random`, and behind it what kind of process wrote it: a loader's worker, the sidecar, none for the
# training itself. A host's name may hold anything.
_CAPTURE_NAME = re.compile(rf"-(\d+)-\d+-[0-9a-f]{{8}}(?:-[a-z]+)?{re.escape(SUFFIX)}$")
_RANK = re.compile(r"^rank=(\d+)(?:\.\w+)?$")
# A profiler's native file, and TensorBoard's.
_NATIVE_NAME = re.compile(r"^window-\d+-rank-(\d+)\.")
_EVENTS_NAME = re.compile(r"^events\.out\.tfevents\.\d+\.(\d+)\.")


def rank_of_capture(name: str) -> int:
    """The rank of a capture file; of one without a rank in its name 0."""
    found = _CAPTURE_NAME.search(name)
    return int(found[1]) if found else 0


def rank_of_file(path: Path) -> int | None:
    """The rank whose file this is, by its path within the run folder; None where it is nobody's."""
    if path.suffix == SUFFIX:
        return rank_of_capture(path.name)
    for pattern in (_NATIVE_NAME, _EVENTS_NAME):
        if found := pattern.match(path.name):
            return int(found[1])
    return next((int(found[1]) for part in path.parts if (found := _RANK.match(part))), None)


def capture_files(capture: Path, rank: int) -> list[Path]:
    """The files of one rank in a capture folder, sorted by name."""
    return sorted(path for path in capture.glob(f"*{SUFFIX}") if rank_of_capture(path.name) == rank)


def recorded_ranks(profkit_folder: Path) -> tuple[int, ...]:
    """The ranks of which the run holds anything, in order; empty where there is nothing."""
    captured = {rank_of_capture(path.name) for path in (profkit_folder / "capture").glob(f"*{SUFFIX}")}
    return tuple(sorted(captured | _ranks_among((profkit_folder / "run").glob("rank=*.json"))))


def _ranks_among(paths: Iterable[Path]) -> set[int]:
    return {int(found[1]) for path in paths if (found := _RANK.match(path.name))}


@dataclass(frozen=True, slots=True)
class RankFolder:
    """The places of one rank in a run's profkit folder."""

    folder: Path
    rank: int

    @property
    def run_folder(self) -> Path:
        """The folder TensorBoard shows as the run."""
        return self.folder.parents[1]

    @property
    def capture(self) -> Path:
        """The folder of all ranks' capture files."""
        return self.folder / "capture"

    def capture_files(self) -> list[Path]:
        """This rank's capture files, sorted by name."""
        return capture_files(self.capture, self.rank)

    @property
    def info(self) -> Path:
        """What the run says about itself, a RunInfo."""
        return self.folder / "run" / f"rank={self.rank}.json"

    @property
    def state(self) -> Path:
        """What has been finalised."""
        return self.folder / "finalised" / f"rank={self.rank}.json"

    @property
    def lock(self) -> Path:
        """Keeps finalisers of this rank apart."""
        return self.folder / f".lock-{self.rank}"

    @property
    def summary(self) -> Path:
        """The report of the whole run."""
        return self.folder / "summary" / f"rank={self.rank}.json"

    @property
    def ranks_state(self) -> Path:
        """Which ranks of the run have been compared; one file for all."""
        return self.folder / "finalised" / "ranks.json"

    def window_summary(self, window: int) -> Path:
        """The report of one window."""
        return self.folder / "summary" / f"window={window}" / f"rank={self.rank}.json"

    def table(self, name: str) -> Path:
        """One of the run's tables: steps, counters, batches, samples."""
        return self.folder / name / f"rank={self.rank}.parquet"

    def trace(self, window: int) -> Path:
        """The folder of a window's trace."""
        return self.folder / "trace" / f"window={window}" / f"rank={self.rank}"

    def windows(self) -> list[int]:
        """The windows that have become traces, in order."""
        found = (self.folder / "trace").glob(f"window=*/rank={self.rank}")
        return sorted(int(path.parent.name.removeprefix("window=")) for path in found)
