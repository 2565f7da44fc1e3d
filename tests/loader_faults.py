"""DataLoaders whose k-th call within profkit fails: `python -m tests.loader_faults FOLDER WHERE KIND FIRST STEP LAST`.

One loader after the other, for k = FIRST, FIRST + STEP, ... LAST, until there is no k-th call any more. WHERE says in
which process the calls are counted. Prints a line of JSON for each k: what failed, and how the training ended.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import random
import re
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import torch
import torch.multiprocessing
from torch.utils.data import DataLoader, Dataset, _utils

from profkit.hooks.dataloader import DataLoaderHook
from profkit.recorder import Recorder
from profkit.records import Wait, frames

PACKAGE = Path(inspect.getfile(Recorder)).parent
BATCHES, LAST = 3, 2_000
HANG_S, IMPORT_S = 5.0, 25.0
KINDS: dict[str, dict[str, Any]] = {
    "no workers": {},
    "1 forked": {"num_workers": 1},
    "2 forked": {"num_workers": 2},
    "1 spawned": {"num_workers": 1, "multiprocessing_context": "spawn"},
    "2 spawned": {"num_workers": 2, "multiprocessing_context": "spawn"},
    "1 forked, pinned": {"num_workers": 1, "pin_memory": True},
}

# Functions through which the user's code or PyTorch is called, or which call nothing that can fail. Neither they nor
# what they call directly in C is made to fail; what they call of profkit's own is.
EDGES = {
    r"dataloader:DataLoaderHook\._(timed|noted|started)\w*\.<locals>\.\w+": "the replaced methods",
    r"dataloader:_LoaderView\.__[gs]etattr__": "reads and writes the user's loader",
    r"dataloader_fetchers:TimedFetcher\.(fetch|collate)": "calls the user's dataset and collate function",
    r"dataloader_fetchers:_(Items|Stream)\.__\w+__": "calls the user's dataset",
    r"dataloader_parcels:Parcel\.__reduce__": "puts names into a tuple",
    r"dataloader_pinning:Threads\.timed\.<locals>\._pin_memory_loop": "the replaced function",
    r"dataloader_pinning:_(Source\.get|Target\.put|\w+\.__getattr__)": "calls the queue",
    r"dataloader_transforms:TransformClocks\._put_on\.<locals>\.__call__": "calls the user's transform",
    r"dataloader_workers:WorkerStart\.__(init|reduce|call)__": "calls the user's worker_init_fn",
    r"dataloader_workers:InsideWorker\._create_fetcher": "calls the user's iter(dataset)",
    r"recorder:Recorder\.guard": "is the try itself",
    r"recorder:Recorder\.(timed|wait|begin_wait)": "compares numbers of threads; the clock is read within a try",
    r"recorder:Timed\.__(init|enter|exit)__": "holds what Recorder.begin_wait and end_wait do",
}
# Functions whose whole body is one `try`: what happens within them may fail, and being called may not.
WHOLE = {
    r"dataloader_fetchers:TimedFetcher\._(before|after)",
    r"dataloader_fetchers:Samples\.add",
    r"dataloader_fetchers:moment",
    r"dataloader_parcels:(_Stamp\.__reduce__|_stamped|_open)",
    r"dataloader_pinning:Threads\._noting",
    r"dataloader_transforms:TransformClocks\._(begin|end)",
    r"dataloader_workers:_inside",
    r"dataloader_workers:InsideWorker\.(_put_clocks_on|_failed|_flush)",
    r"recorder:Recorder\.end_wait",
}
_EDGES, _WHOLE = (re.compile("|".join(patterns)) for patterns in (EDGES, WHOLE))


class Planted(Exception):
    """What the k-th call raises."""


class Hang(BaseException):
    """The training took longer than it may."""


class Fault:
    """Lets the k-th call fail: of profkit's functions, or from one of them of a function in C."""

    def __init__(self, failing: int, within_workers: bool, log: Path, home: int) -> None:
        self.failing = failing
        self.within_workers = within_workers
        self.log = log
        self.home = home  # the training process

    def __reduce__(self) -> tuple[Any, ...]:
        return Fault, (self.failing, self.within_workers, self.log, self.home)

    def install(self) -> None:
        """In this thread, the threads it starts, and the processes it forks."""
        self._calls = 0
        self._process = os.getpid()
        self._known: dict[CodeType, str] = {}
        threading.setprofile(self._called)
        sys.setprofile(self._called)

    def _called(self, frame: FrameType, event: str, argument: Any) -> None:
        if event not in ("call", "c_call") or (os.getpid() == self.home) == self.within_workers:
            return
        code = frame.f_code
        place = self._known.get(code)
        if place is None:
            place = self._known[code] = _place(code)
        if not place or _EDGES.fullmatch(place) or (event == "call" and _WHOLE.fullmatch(place)):
            return
        if os.getpid() != self._process:
            self._process, self._calls = os.getpid(), 0
        self._calls += 1
        if self._calls == self.failing:
            what = f"{place}:{frame.f_lineno}" if event == "call" else f"{place}:{frame.f_lineno}, {argument.__name__}"
            with self.log.open("a") as log:
                log.write(f"{what}\n")
            raise Planted


def _place(code: CodeType) -> str:
    """`file:function` of profkit's own code; empty for any other, and for what runs when a module is imported."""
    path = Path(code.co_filename)
    ours = PACKAGE in path.parents or path.parent.name == "hooks"
    return f"{path.stem}:{code.co_qualname}" if ours and code.co_flags & inspect.CO_OPTIMIZED else ""


class Numbers(Dataset[torch.Tensor]):
    """Takes the fault along into spawned workers."""

    def __init__(self, fault: Fault | None = None) -> None:
        self.fault = fault

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (self.fault,)

    def __len__(self) -> int:
        return 4 * BATCHES

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.rand(2) + random.random() + index


def _unpickled(fault: Fault | None) -> Numbers:
    if fault is not None:
        fault.install()
    return Numbers(fault)


def trained(kind: str, fault: Fault | None = None) -> str:
    """The digest of all batches and the random states after them."""
    torch.manual_seed(0)
    random.seed(0)
    digest = hashlib.sha256()
    loader = DataLoader(Numbers(fault), 4, shuffle=True, **KINDS[kind])
    if fault is not None:
        fault.install()
    try:
        for batch in loader:
            digest.update(batch.numpy().tobytes())
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    digest.update(torch.get_rng_state().numpy().tobytes() + repr(random.getstate()).encode())
    return digest.hexdigest()


def outcome(folder: Path, kind: str, fault: Fault, expected: str) -> dict[str, Any]:
    """How a training ends whose k-th call fails."""
    path = folder / f"{fault.failing}.pkrec"
    recorder, hook = Recorder(path), DataLoaderHook()
    hook.start(recorder)
    try:
        with no_hang(HANG_S + IMPORT_S * ("spawned" in kind)):
            ended = "same" if trained(kind, fault) == expected else "different"
    except (Exception, Hang) as error:
        ended = f"{type(error).__name__}: {error}"
    finally:
        hook.stop()
        recorder.flush()
        recorder.close()
    waits = sum(isinstance(record, Wait) for record, _ in frames(path.read_bytes()))
    failed = fault.log.read_text().splitlines() if fault.log.exists() else []
    return {"k": fault.failing, "failed": failed, "ended": ended, "waits": waits}


@contextmanager
def no_hang(seconds: float) -> Iterator[None]:
    """Raises Hang after so long."""

    def over(number: int, frame: FrameType | None) -> None:
        raise Hang

    signal.signal(signal.SIGALRM, over)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)


def emulate_accelerator() -> None:
    """There is none here: with this much of one, PyTorch runs its pin thread."""

    class Device:
        type = "cuda"

    torch.accelerator.is_available = lambda: True
    torch.accelerator.current_accelerator = lambda *_, **__: Device()  # type: ignore[assignment]
    torch.accelerator.current_device_index = lambda: 0
    torch.accelerator.set_device_index = lambda index: None
    _utils.pin_memory.pin_memory = _as_it_is


def _as_it_is(data: Any, device: Any = None) -> Any:
    return data


def main(folder: Path, where: str, kind: str, first: int, step: int, last: int) -> None:
    if "pinned" in kind:
        emulate_accelerator()
    expected = trained(kind)
    for failing in range(first, last + 1, step):
        fault = Fault(failing, where == "workers", folder / f"{failing}.log", os.getpid())
        seen = outcome(folder, kind, fault, expected)
        print(json.dumps(seen), flush=True)
        if not seen["failed"]:
            break


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], *map(int, sys.argv[4:7]))
