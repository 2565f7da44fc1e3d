"""What to change about an input that holds up the training, in the words of its library, and what it gains.

docs/definitions.md has the arithmetic. With w workers (0: the training process itself) a batch costs the loader
`produce`; n of them deliver one every produce / n. The step cannot get shorter than what it does besides waiting, nor
than all of the work divided among the cores.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from profkit.trace.model import Loader

MOST_WORKERS_UNASKED = 8  # advised where the number of cores is not known


@dataclass(frozen=True, slots=True)
class Remedy:
    """What to change, old step time over new, and what the advice rests on besides the wait."""

    text: str
    speedup: float
    evidence: dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class _Case:
    """A step and its wait, in nanoseconds, and the cores there are."""

    step_ns: float
    wait_ns: float
    cores: int | None

    @property
    def busy_ns(self) -> float:
        return max(self.step_ns - self.wait_ns, 1.0)

    @property
    def best(self) -> float:
        """The gain if nothing waited."""
        return self.step_ns / self.busy_ns

    def workers(self, produce_ns: float) -> tuple[int, int]:
        """How many would hide the wait for batches that cost `produce_ns`, and how many the cores allow of them."""
        wanted = math.ceil(produce_ns / self.busy_ns)
        return wanted, max(1, min(wanted, self.cores or MOST_WORKERS_UNASKED))

    def speedup(self, produce_ns: float, workers: int) -> float:
        shared_ns = (produce_ns + self.busy_ns) / self.cores if self.cores else 0.0
        return max(1.0, self.step_ns / max(self.busy_ns, produce_ns / workers, shared_ns))


def remedy(step_ns: float, wait_ns: float, loader: Loader | None) -> Remedy:
    """The advice for an input of which `wait_ns` of `step_ns` is waited for."""
    settings = loader.settings if loader else {}
    cores = settings.get("cpus")
    case = _Case(step_ns, wait_ns, cores if isinstance(cores, int) and cores > 0 else None)
    if loader is not None and loader.stages and loader.stages[0].elements and "workers" not in settings:
        return Remedy("What tf.data's stages take does not explain the wait.", case.best, {})
    for setting, advice in (("num_workers", _DATALOADER), ("workers", _PYDATASET)):
        workers = settings.get(setting)
        if isinstance(workers, int):
            return _of_workers(case, workers, advice)
    return Remedy("Load the data in parallel with the step, or prefetch it.", case.best, {})


_DATALOADER: Callable[[int], str] = "DataLoader(…, num_workers={}, persistent_workers=True)".format
_PYDATASET: Callable[[int], str] = "PyDataset(workers={}, use_multiprocessing=True, max_queue_size=10)".format


def _of_workers(case: _Case, workers: int, advice: Callable[[int], str]) -> Remedy:
    produce_ns = case.wait_ns if workers == 0 else workers * case.step_ns
    wanted, target = case.workers(produce_ns)
    if target <= workers:
        place = f" on {case.cores} cores" if case.cores else ""
        return Remedy(
            f"{workers} workers cannot keep up{place}: make a sample cheaper "
            "(smaller images, a faster decoder, cached or batched transforms).",
            case.best,
            {},
        )
    text = advice(target)
    if target < wanted:
        limit = f"there are {case.cores} cores" if case.cores else "the number of cores is not known"
        text += f"; {wanted} would hide the wait, but {limit}: make a sample cheaper too"
    return Remedy(f"{text}.", case.speedup(produce_ns, target), {})
