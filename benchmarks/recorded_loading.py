"""A DataLoader that does nothing, followed and not: `python -m benchmarks.recorded_loading FOLDER WORKERS PASSES`.

Prints one line of JSON: wall microseconds per batch of each pass.
"""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from profkit.hooks.dataloader import DataLoaderHook
from profkit.recorder import Recorder

BATCHES = {0: 1_000, 1: 400, 2: 400}
BATCH_SIZE, LEFT_OUT = 4, 20  # the first batches wait for the workers' start


class Nothing(Dataset[int]):
    """Samples that cost nothing."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> int:
        return index


def passed(loader: DataLoader[Any]) -> float:
    """Wall microseconds per batch of one pass, start left out."""
    iterator = iter(loader)
    for _ in range(LEFT_OUT):
        next(iterator)
    begun, count = time.perf_counter(), 0
    for _ in iterator:
        count += 1
    return (time.perf_counter() - begun) / count * 1e6


def main(folder: Path, workers: int, passes: int) -> dict[str, list[float]]:
    torch.set_num_threads(1)
    loader: DataLoader[Any] = DataLoader(Nothing(BATCHES[workers] * BATCH_SIZE), BATCH_SIZE, num_workers=workers)

    def followed(number: int) -> float:
        recorder, hook = Recorder(folder / f"{number}.pkrec"), DataLoaderHook()
        hook.start(recorder)
        try:
            return passed(loader)
        finally:
            hook.stop()
            recorder.close()

    never = [passed(loader) for _ in range(passes // 2)]  # no run has been there yet
    seen: dict[str, list[float]] = {name: [] for name in ("bare", "followed", "bare again", "after")}
    order = list(seen)
    for number in range(passes):
        random.shuffle(order)
        for name in order:
            if name == "after":  # at once after a run
                followed(passes + number)
            seen[name].append(followed(number) if name == "followed" else passed(loader))
    return {**seen, "never": never}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), *map(int, sys.argv[2:4]))))
