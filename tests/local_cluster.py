"""A dask cluster on this machine: `python -m tests.local_cluster WORKERS FOLDER` prints its address until stdin ends.

`LocalCluster` alone starts its workers, as processes; everybody else connects by the address, as to any cluster.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from profkit.companion import ONE_THREAD

ROOT = Path(__file__).parents[1]
LIMIT_S = 60.0


@contextmanager
def local_cluster(workers: int, folder: Path, *python_path: Path) -> Iterator[str]:
    """The address of a cluster whose workers keep their files in `folder` and find modules in `python_path` first."""
    path = os.pathsep.join([*map(str, python_path), *filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
    with (folder / "cluster.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.local_cluster", str(workers), str(folder)],
            env={**os.environ, **ONE_THREAD, "PYTHONPATH": path},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        assert process.stdin and process.stdout
        with process:
            address = process.stdout.readline().strip()
            assert address, (folder / "cluster.log").read_text()
            try:
                yield address
            finally:
                process.stdin.close()
                process.wait(LIMIT_S)


def main(workers: int, folder: str) -> None:
    """Serve until standard input ends."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=folder
    ) as cluster:
        print(cluster.scheduler_address, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
