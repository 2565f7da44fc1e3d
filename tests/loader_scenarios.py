"""Trainings whose DataLoader is slow for a planted reason, and as many that are well: the program tests run.

python -m tests.loader_scenarios <folder> <set> <scenario> ...

Each scenario is a loader and a step; a step of which nothing is said sleeps, as it does for a device. `planted` and
`healthy` differ in the planted fault alone or in how much of it there is. Two sets of figures: `chosen` is what
thresholds were chosen with, `judged` is what they are judged by. A line of JSON comes out for each training.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Sampler

STEPS = 60


@dataclass
class Plan:
    """One training: its loader, what a step takes, how often it goes through the loader."""

    loader: Callable[[], Any]
    step_ms: float = 10.0
    steps: int = STEPS  # at most, in each pass
    passes: int = 1
    burners: int = 0  # other processes that compute meanwhile
    sidecar: bool = False


@dataclass
class Scenario:
    """`plan(figures, fault)`: the training with the fault or without."""

    cause: str
    plan: Callable[[Figures, bool], Plan]
    name: str = field(default="")


@dataclass(frozen=True)
class Figures:
    """What the two sets differ in. Milliseconds are of one batch."""

    work_ms: float
    batch_size: int
    extra: float  # how strong the fault is, 1 for as strong as the scenario says


SETS = {"chosen": Figures(12.0, 8, 1.0), "judged": Figures(17.0, 4, 1.35)}
SCENARIOS: dict[str, Scenario] = {}


def scenario(cause: str) -> Callable[[Callable[[Figures, bool], Plan]], Callable[[Figures, bool], Plan]]:
    """Make a function a scenario by its name; several may have one cause."""

    def registered(plan: Callable[[Figures, bool], Plan]) -> Callable[[Figures, bool], Plan]:
        SCENARIOS[plan.__name__] = Scenario(cause, plan, plan.__name__)
        return plan

    return registered


# --- what samples are made of ------------------------------------------------------------------------------------


def burn(ms: float) -> None:
    """Compute for so long: time on a core, whatever the clock on the wall says."""
    until = time.thread_time() + ms / 1e3
    while time.thread_time() < until:
        sum(range(200))


def sleep(ms: float) -> None:
    """Wait for something that is no core."""
    time.sleep(ms / 1e3)


class Items(Dataset[Any]):
    """Samples that take what `work(index)` takes."""

    def __init__(self, work: Callable[[int], object], make: Callable[[int], Any] | None = None) -> None:
        self.work = work
        self.make = make or (lambda index: torch.full((16,), float(index)))

    def __len__(self) -> int:
        return 100_000

    def __getitem__(self, index: int) -> Any:
        self.work(index)
        return self.make(index)


class Stream(IterableDataset[Any]):
    """Samples that come one after the other; `begin` is called when a pass begins, `fill` before its first sample."""

    def __init__(self, count: int, begin_ms: float, fill_ms: float, sample_ms: float) -> None:
        self.count, self.begin_ms, self.fill_ms, self.sample_ms = count, begin_ms, fill_ms, sample_ms

    def __iter__(self) -> Iterator[torch.Tensor]:
        sleep(self.begin_ms)
        return self._samples()

    def _samples(self) -> Iterator[torch.Tensor]:
        sleep(self.fill_ms)
        for index in range(self.count):
            sleep(self.sample_ms)
            yield torch.full((16,), float(index))


def items(f: Figures, work: Callable[[int], object], workers: int, **settings: Any) -> Callable[[], Any]:
    """A loader over samples that take this."""
    settings.setdefault("batch_size", f.batch_size)
    return lambda: DataLoader(Items(work), num_workers=workers, **settings)


# --- planted and healthy -----------------------------------------------------------------------------------------


@scenario("no_workers")
def no_workers(f: Figures, fault: bool) -> Plan:
    """The training process decodes itself; healthy: one worker does, beside a longer step."""
    work = f.work_ms / f.batch_size
    return Plan(items(f, lambda _: burn(work), 0 if fault else 1), step_ms=f.work_ms * (1.6 if fault else 3.0))


@scenario("too_few_workers")
def too_few_workers(f: Figures, fault: bool) -> Plan:
    """One worker where two cores are free; healthy: the step is longer than the fetch."""
    work = f.work_ms / f.batch_size
    return Plan(items(f, lambda _: burn(work), 1), step_ms=f.work_ms * (0.3 if fault else 3.0))


@scenario("cpu_bound_workers")
def cpu_bound_workers(f: Figures, fault: bool) -> Plan:
    """Two workers on two cores, and samples that need more; healthy: the step is long enough."""
    work = 2 * f.work_ms / f.batch_size
    return Plan(items(f, lambda _: burn(work), os.cpu_count() or 2), step_ms=f.work_ms * (0.2 if fault else 3.0))


@scenario("blocked_workers")
def blocked_workers(f: Figures, fault: bool) -> Plan:
    """Samples come over a network; healthy: enough workers wait side by side."""
    work = 2 * f.work_ms / f.batch_size
    return Plan(items(f, lambda _: sleep(work), 1 if fault else 4), step_ms=f.work_ms * (1 if fault else 3))


@scenario("slow_storage")
def slow_storage(f: Figures, fault: bool) -> Plan:
    """Every sample is read anew from storage; healthy: it is in memory after the first time."""
    folder = Path(tempfile.mkdtemp(dir=os.environ.get("PROFKIT_TEST_DISK", "/var/tmp")))
    size, count = int((48 << 20) * f.extra / f.batch_size), f.batch_size
    for number in range(count):
        with (folder / f"{number}.bin").open("wb") as file:
            file.write(os.urandom(1 << 20) * (size >> 20))
            file.flush()
            os.fsync(file.fileno())

    def read(index: int) -> None:
        with (folder / f"{index % count}.bin").open("rb", buffering=0) as file:
            if fault:
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            file.read(size if fault else 1 << 16)

    return Plan(items(f, read, 1), step_ms=8.0 if fault else 36.0, steps=40)


@scenario("slow_collate")
def slow_collate(f: Figures, fault: bool) -> Plan:
    """Collating loops over elements in Python; healthy: PyTorch's own."""
    work = 0.15 * f.work_ms / f.batch_size

    def collate(samples: list[torch.Tensor]) -> torch.Tensor:
        burn(1.2 * f.work_ms)
        return torch.stack(samples)

    settings = {"collate_fn": collate} if fault else {}
    return Plan(items(f, lambda _: burn(work), 1, **settings), step_ms=f.work_ms * (0.7 if fault else 3.0))


@scenario("slow_samples")
def slow_samples(f: Figures, fault: bool) -> Plan:
    """One sample in forty takes as long as ten batches."""
    every, usual = 40 if f.extra == 1 else 28, 0.4 * f.work_ms / f.batch_size

    def work(index: int) -> None:
        sleep(8 * f.work_ms if fault and index % every == every - 1 else usual)

    return Plan(items(f, work, 1), step_ms=f.work_ms * (1.0 if fault else 3.0), steps=80)


class Choosing(Sampler[int]):
    """Indices one by one, each computed."""

    def __init__(self, ms: float) -> None:
        self.ms = ms

    def __iter__(self) -> Iterator[int]:
        for index in range(100_000):
            if self.ms:
                burn(self.ms)
            yield index


@scenario("slow_sampler")
def slow_sampler(f: Figures, fault: bool) -> Plan:
    """Every index costs the training process a computation."""
    sampler = Choosing(0.7 * f.work_ms / f.batch_size if fault else 0.0)
    return Plan(items(f, lambda _: sleep(0.3), 2, sampler=sampler), step_ms=f.work_ms * (1 if fault else 3))


@scenario("cpu_oversubscribed")
def cpu_oversubscribed(f: Figures, fault: bool) -> Plan:
    """Three workers for every core; healthy: the step leaves them time."""
    cores = os.cpu_count() or 2
    work = f.work_ms / f.batch_size
    return Plan(
        items(f, lambda _: burn(work), 3 * cores if fault else cores),
        step_ms=1.0 if fault else 3.0 * f.work_ms,
        steps=120 if fault else STEPS,
    )


@scenario("worker_threads")
def worker_threads(f: Figures, fault: bool) -> Plan:
    """Each of two workers computes in four threads; healthy: in one, with time to spare."""
    cores = os.cpu_count() or 2
    size = 320

    def start(_: int) -> None:
        torch.set_num_threads(4 if fault else 1)

    rounds = max(1, round((40 if fault else 6) / f.batch_size * f.extra))

    def work(_: int) -> None:
        a = torch.ones(size, size)
        for _round in range(rounds):
            a = a @ a * 1e-3

    return Plan(items(f, work, cores, worker_init_fn=start), step_ms=2.0 if fault else 50.0)


@scenario("other_processes")
def other_processes(f: Figures, fault: bool) -> Plan:
    """Somebody else computes on every core; healthy: nobody does."""
    work = f.work_ms / f.batch_size
    plan = Plan(items(f, lambda _: burn(work), 1), step_ms=f.work_ms * (0.9 if fault else 3.0))
    plan.burners = 2 * (os.cpu_count() or 2) if fault else 0
    plan.sidecar, plan.steps = True, 150
    return plan


@scenario("many_objects")
def many_objects(f: Figures, fault: bool) -> Plan:
    """A batch of hundreds of small tensors; healthy: the same numbers in one."""
    count = int(350 * f.extra) if fault else 1

    def collate(samples: list[Any]) -> Any:
        return [torch.zeros(8) for _ in range(count)]

    return Plan(items(f, lambda _: None, 2, collate_fn=collate), step_ms=5.0 if fault else 36.0)


@scenario("large_payload")
def large_payload(f: Figures, fault: bool) -> Plan:
    """A batch is one large piece of bytes; healthy: a tensor of that size, which is shared."""
    size = int((24 << 20) * f.extra)

    def collate(samples: list[Any]) -> Any:
        return memory if fault else torch.zeros(4)

    memory = bytes(size)
    return Plan(items(f, lambda _: None, 2, collate_fn=collate), step_ms=4.0 if fault else 36.0)


@scenario("slow_handover")
def slow_handover(f: Figures, fault: bool) -> Plan:
    """Six tensors a batch from a worker that computes in Python, and has time left; healthy: one, and a longer step."""

    def collate(samples: list[Any]) -> Any:
        return [torch.zeros(16) for _ in range(6)] if fault else torch.zeros(96)

    work = 0.5 * f.work_ms / f.batch_size
    return Plan(items(f, lambda _: burn(work), 1, collate_fn=collate), step_ms=f.work_ms * (0.4 if fault else 3.0))


@scenario("small_prefetch")
def small_prefetch(f: Figures, fault: bool) -> Plan:
    """Every few batches take long, and one is made ahead; healthy: eight are."""
    every = 6 if f.extra == 1 else 5

    def work(index: int) -> None:
        batch = index // f.batch_size
        sleep((5.0 * f.work_ms if batch % every == 0 else 0.4 * f.work_ms) / f.batch_size)

    return Plan(
        items(f, work, 2, prefetch_factor=1 if fault else 8), step_ms=f.work_ms * (0.95 if fault else 3.0), steps=90
    )


@scenario("small_batches")
def small_batches(f: Figures, fault: bool) -> Plan:
    """One small sample at a time; healthy: no worker, nothing to hand over, and a step that takes its time."""
    return Plan(
        lambda: DataLoader(Items(lambda _: None), batch_size=1, num_workers=2 if fault else 0),
        step_ms=0.0 if fault else 8.0,
        steps=400 if fault else STEPS,
    )


@scenario("loader_restarts")
def loader_restarts(f: Figures, fault: bool) -> Plan:
    """Every short pass starts its workers, which take a while; healthy: they stay."""

    def start(_: int) -> None:
        sleep(500 * f.extra)

    loader = items(f, lambda _: sleep(0.2), 2, worker_init_fn=start, persistent_workers=not fault)
    return Plan(loader, step_ms=36.0, steps=14, passes=9)


@scenario("slow_dataset_setup")
def slow_dataset_setup(f: Figures, fault: bool) -> Plan:
    """A stream prepares itself anew for each pass; healthy: it does not."""
    stream = Stream(14 * f.batch_size, 620 * f.extra if fault else 0.0, 0.0, 0.1)
    return Plan(
        lambda: DataLoader(stream, batch_size=f.batch_size, num_workers=1, persistent_workers=True),
        step_ms=36.0,
        passes=8,
    )


@scenario("slow_first_batch")
def slow_first_batch(f: Figures, fault: bool) -> Plan:
    """A shuffle buffer is filled at the beginning of each pass; healthy: there is none."""
    stream = Stream(14 * f.batch_size, 0.0, 620 * f.extra if fault else 0.0, 0.1)
    return Plan(lambda: DataLoader(stream, batch_size=f.batch_size, num_workers=0), step_ms=36.0, passes=8)


@scenario("slow_worker_init")
def slow_worker_init(f: Figures, fault: bool) -> Plan:
    """worker_init_fn takes seconds, once."""

    def start(_: int) -> None:
        sleep(5_500 * f.extra if fault else 20)

    return Plan(items(f, lambda _: sleep(0.2), 1, worker_init_fn=start), step_ms=36.0)


# --- the program -------------------------------------------------------------------------------------------------


def _burn_on() -> None:
    until = time.monotonic() + 60  # whatever becomes of the one who started it
    while time.monotonic() < until:
        burn(100)


def _burner() -> int:
    """The id of a process that computes and is no child of this one: its figures are somebody else's."""
    code = "from tests.loader_scenarios import _burn_on; _burn_on()"
    started = subprocess.run(
        ["sh", "-c", '"$0" -c "$1" >/dev/null 2>&1 & echo $!', sys.executable, code], stdout=subprocess.PIPE, check=True
    )
    return int(started.stdout)


def train(plan: Plan, folder: Path) -> Any:
    """The run of this training."""
    import profkit

    with ExitStack() as after:
        for _ in range(plan.burners):
            after.callback(os.kill, _burner(), signal.SIGKILL)
        if plan.burners:
            time.sleep(4.0)  # they import first
        loader = plan.loader()
        with profkit.profile(folder, hooks=["dataloader"], quiet=True, strict=True, sidecar=plan.sidecar) as run:
            for _ in range(plan.passes):
                for number, _batch in enumerate(loader):
                    sleep(plan.step_ms)
                    run.step()
                    if number + 1 == plan.steps:
                        break
    return run


def outcome(name: str, fault: bool, figures: Figures, folder: Path) -> dict[str, Any]:
    """What profkit finds in one training."""
    import profkit
    from profkit.analysis.summary import report

    run = profkit.load(train(SCENARIOS[name].plan(figures, fault), folder).folder)
    found = report(run)
    return {
        "scenario": name,
        "fault": fault,
        "planted": SCENARIOS[name].cause if fault else None,
        "found": [finding.cause for finding in found.findings],
        "headline": found.headline,
        "remedies": [finding.remedy for finding in found.findings],
        "notes": found.notes,
        "followed": run.batches["fetch_start_ns"].is_not_null().sum(),
        "stages": {s.name: round(s.wait_ns / 1e3) for s in found.loading.stages} if found.loading else {},
        "took": {s.name: round((s.mean_ns or 0) / 1e3) for s in found.loading.stages} if found.loading else {},
        "fetch": found.loading
        and found.loading.fetch
        and {
            k: round((getattr(found.loading.fetch, k) or 0) / 1e3)
            for k in ("mean_ns", "p50_ns", "cpu_ns", "run_queue_ns", "blocked_ns", "read_bytes", "read_chars")
        },
        "utilisation": found.loading and found.loading.utilisation,
        "interval_us": found.loading and round(found.loading.interval_ns / 1e3),
        "predictions": [(p.settings, round(p.step_ns / 1e3), round(p.speedup, 2)) for p in found.loading.predictions]
        if found.loading
        else [],
    }


def main() -> None:
    """Print a line of JSON for each scenario with its fault, and one without."""
    folder, which, *names = sys.argv[1:]
    multiprocessing.set_start_method("fork")
    for name in names or SCENARIOS:
        for fault in (True, False):
            print(json.dumps(outcome(name, fault, SETS[which], Path(folder))), flush=True)


if __name__ == "__main__":
    main()
