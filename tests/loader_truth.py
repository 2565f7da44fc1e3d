"""DataLoaders whose stages clock themselves: `python -m tests.loader_truth FOLDER KIND ...`.

Every stage that the user's code can delay sleeps a known while, clocks itself, and the batch carries what it took.
Prints a line of JSON for each kind: what the stages took, and what profkit says they took.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter_ns as now
from typing import Any
from unittest.mock import patch

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, _utils

from profkit.analysis.loading import stage_times, stage_waits
from profkit.capture import read_capture, run_info
from profkit.hooks.dataloader import DataLoaderHook
from profkit.loadercapture import batches_table
from profkit.recorder import Recorder
from profkit.records import SUFFIX

BATCHES, SAMPLES = 24, 4
SAMPLER_MS, ITEM_MS, COLLATE_MS, PICKLE_MS, UNPICKLE_MS, PIN_MS = 1.0, 3.0, 2.0, 1.5, 1.0, 2.5
SLOW_INDEX, SLOW_MS = 35, 12.0
BURNT_MS = 8.0
INIT_MS, ITER_MS, IMPORT_MS = 60.0, 40.0, 80.0
TRANSFORMS_MS = {"Crop": 0.5, "Blur": 1.5}

sampled: list[int] = []  # nanoseconds of every batch of indices, in the training process
started: dict[str, int] = {}  # nanoseconds of the worker's start


def slept(ms: float) -> int:
    """Sleeps, and says how many nanoseconds it took."""
    begun = now()
    time.sleep(ms / 1e3)
    return now() - begun


def burnt(ms: float) -> None:
    """Keeps a core busy for so long."""
    end = time.thread_time_ns() + int(ms * 1e6)
    while time.thread_time_ns() < end:
        pass


class Numbers(Dataset[int]):
    """Every last sample of a batch takes a while, one of them longer. Each clocks all it does.

    The last one, because what runs after a sleep finds cold caches: that is the machine's time and nobody's stage.
    """

    def __len__(self) -> int:
        return BATCHES * SAMPLES

    def __getitem__(self, index: int) -> int:
        begun = now()
        if index % SAMPLES == SAMPLES - 1:
            time.sleep((ITEM_MS + SLOW_MS * (index == SLOW_INDEX)) / 1e3)
        return now() - begun


class Whole(Numbers):
    """All samples of a batch at once."""

    def __getitems__(self, indices: list[int]) -> list[int]:
        return [slept(ITEM_MS), *[0] * (len(indices) - 1)]


class Stream(IterableDataset[int]):
    """The same, one after the other; beginning takes a while, too."""

    def __iter__(self) -> Iterator[int]:
        started["dataset"] = slept(ITER_MS)
        return (0 if (index + 1) % SAMPLES else slept(ITEM_MS) for index in range(BATCHES * SAMPLES))


class Burning(Numbers):
    """Samples that compute."""

    def __getitem__(self, index: int) -> int:
        begun = now()
        if index % SAMPLES == 0:
            burnt(BURNT_MS)
        return now() - begun


class Heavy(Numbers):
    """A dataset that is slow to arrive in a spawned worker: importing what it needs takes a while."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _imported, ()


def _imported() -> Heavy:
    started["import"] = slept(IMPORT_MS)
    return Heavy()


class Crop:
    """A transform."""

    def __call__(self, _: Any) -> int:
        return slept(TRANSFORMS_MS["Crop"])


class Blur:
    """A slower one."""

    def __call__(self, _: Any) -> int:
        return slept(TRANSFORMS_MS["Blur"])


class Compose:
    """Clocks each transform itself."""

    def __init__(self) -> None:
        self.transforms: list[Callable[[Any], int]] = [Crop(), Blur()]
        self.took = dict.fromkeys(TRANSFORMS_MS, 0)

    def __call__(self, sample: Any) -> int:
        took = [transform(sample) for transform in self.transforms]
        for name, ns in zip(TRANSFORMS_MS, took, strict=True):
            self.took[name] += ns
        return sum(took)


class Transformed(Numbers):
    """Samples that go through a pipeline."""

    def __init__(self) -> None:
        self.transform = Compose()

    def __getitem__(self, index: int) -> int:
        begun = now()
        if index % SAMPLES == SAMPLES - 1:
            self.transform(index)
        return now() - begun


class Batch:
    """Carries what its stages took; pickling and unpickling it take a while, too.

    What is pickled and unpickled beside the sleeps is clocked with them: with cold caches it takes as long as the
    bound of the test.
    """

    def __init__(self, truth: dict[str, int]) -> None:
        self.truth = truth

    def __reduce__(self) -> tuple[Any, ...]:
        begun = now()
        time.sleep(PICKLE_MS / 1e3)
        return _unpickled, (Arrival(), self.truth, begun, Departure())


class Departure:
    """Arrives as the moment at which it was pickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return int, (now(),)


class Arrival:
    """Arrives as the moment at which it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return now, ()


def _unpickled(arrived: int, truth: dict[str, int], begun: int, pickled: int) -> Batch:
    time.sleep(UNPICKLE_MS / 1e3)
    return Batch({**truth, "pickle": pickled - begun, "unpickle": now() - arrived})


def collated(samples: list[int] | int) -> Batch:
    took = slept(COLLATE_MS)
    return Batch({"item": sum(samples) if isinstance(samples, list) else samples, "collate": took, **started})


def pinned(batch: Batch, device: Any = None) -> Batch:
    batch.truth["pin"] = slept(PIN_MS)
    return batch


class Sampler:
    """Batches of indices that take a while to choose."""

    def __len__(self) -> int:
        return BATCHES

    def __iter__(self) -> Iterator[list[int]]:
        for first in range(0, BATCHES * SAMPLES, SAMPLES):
            sampled.append(slept(SAMPLER_MS))
            yield list(range(first, first + SAMPLES))


def initialised(worker: int) -> None:
    started["init"] = slept(INIT_MS)


def stateful(dataset: Any, **options: Any) -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(dataset, collate_fn=collated, **options)


def of(dataset: type[Any], *, choose: bool = True, **options: Any) -> Callable[[], Any]:
    if choose:
        options["batch_sampler"] = Sampler()
    return lambda: DataLoader(dataset(), collate_fn=collated, **options)


KINDS: dict[str, Callable[[], Any]] = {
    "no workers": of(Numbers),
    "no workers, pinned": of(Numbers, pin_memory=True),
    "2 forked": of(Numbers, num_workers=2, worker_init_fn=initialised),
    "1 spawned": of(Heavy, num_workers=1, multiprocessing_context="spawn", worker_init_fn=initialised),
    "1 from a fork server": of(Numbers, num_workers=1, multiprocessing_context="forkserver"),
    "2 that stay": of(Numbers, num_workers=2, persistent_workers=True),
    "2, any order": of(Numbers, num_workers=2, in_order=False),
    "1, pinned": of(Numbers, num_workers=1, pin_memory=True),
    "single samples": of(Numbers, choose=False, batch_size=None, num_workers=1),
    "whole batches": of(Whole, num_workers=1),
    "stream": of(Stream, choose=False, batch_size=SAMPLES),
    "stream, 1 worker": of(Stream, choose=False, batch_size=SAMPLES, num_workers=1),
    "computing": of(Burning),
    "computing, 1 worker": of(Burning, num_workers=1),
    "transforms": of(Transformed),
    "transforms, 1 worker": of(Transformed, num_workers=1),
    "stateful": lambda: stateful(Numbers(), batch_sampler=Sampler()),
    "stateful, 2 workers": lambda: stateful(Numbers(), batch_sampler=Sampler(), num_workers=2),
}
TWO_PASSES = ("2 that stay",)


class Accelerator:
    """As much of one as PyTorch needs to run its pin thread; there is none here."""

    type = "cuda"


def emulated_accelerator() -> ExitStack:
    stack = ExitStack()
    for owner, name, replacement in (
        (torch.accelerator, "is_available", lambda: True),
        (torch.accelerator, "current_accelerator", lambda *_, **__: Accelerator()),
        (torch.accelerator, "current_device_index", lambda: 0),
        (torch.accelerator, "set_device_index", lambda index: None),
        (_utils.pin_memory, "pin_memory", pinned),
    ):
        stack.enter_context(patch.object(owner, name, replacement))
    return stack


def planted(kind: str) -> tuple[list[dict[str, int]], dict[str, int]]:
    """What the stages of each batch took, in the order the loop got them, and the transforms in this process."""
    truths = []
    loader = KINDS[kind]()
    for _ in range(1 + (kind in TWO_PASSES)):
        iterator = iter(loader)
        before = len(sampled)
        for batch in iterator:
            truths.append({**batch.truth, "sampler": sum(sampled[before:])})
            before = len(sampled)
    transform = getattr(loader.dataset, "transform", None)
    return truths, getattr(transform, "took", {})


def compared(folder: Path, kind: str) -> dict[str, Any]:
    """What was planted, and what was recorded of it."""
    folder.mkdir()
    recorder, hook = Recorder(folder / f"main-{os.getpid()}{SUFFIX}"), DataLoaderHook()
    hook.start(recorder)
    try:
        with emulated_accelerator() if "pinned" in kind else ExitStack():
            truths, transforms = planted(kind)
    finally:
        hook.stop()
        recorder.flush()
        recorder.close()
    capture = read_capture(folder)
    batches = batches_table(capture)
    [loader] = run_info(capture, alive=False).loaders.values()
    return {
        "truths": truths,
        "transforms": transforms,
        "times": stage_times(batches).to_dicts(),
        "left": (stage_waits(batches).sum_horizontal() - (batches["came_ns"] - batches["asked_ns"])).to_list(),
        "fetches": batches.select(
            *("cpu_ns", "run_queue_ns", "slowest_index", "slowest_ns", "index", "loop"),
            (batches["fetch_end_ns"] - batches["fetch_start_ns"]).alias("fetch_ns"),
        ).to_dicts(),
        "workers": [[w.process_ns, w.init_ns, w.dataset_ns] for w in loader.workers],
        "clocked_transforms": {t.name: [t.calls, t.total_ns] for t in loader.transforms},
    }


def main() -> None:
    torch.set_num_threads(1)
    if any("stateful" in kind for kind in sys.argv[2:]):
        import torchdata.stateful_dataloader  # noqa: F401  # profkit follows it where it is imported before
    for number, kind in enumerate(sys.argv[2:]):
        print(json.dumps(compared(Path(sys.argv[1]) / str(number), kind)), flush=True)


if __name__ == "__main__":
    main()
