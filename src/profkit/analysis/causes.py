"""Why the training loop waits for a DataLoader whose inside is known: causes, decided by evidence.

The order of decision is that of docs/definitions.md: first who is saturated, by the utilisation of the workers, for
a worker that is short of a core makes every later stage look slow; then what lies on the critical path, by the parts
of the wait. Thresholds, all of them here:
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from profkit.analysis.report import WORTH_A_CHANGE, Fetch, Loading, Prediction
from profkit.analysis.whatif import knee
from profkit.units import duration, percent

Evidence = dict[str, str | int | float | bool | None]

INPUT_BOUND = 0.10  # of the step, exposed: a smaller wait has no cause worth a finding
SATURATED = 0.85  # utilisation from which the workers are what limits the loader
DOMINANT = 0.30  # of the wait: a stage that is on the critical path
RELEVANT = 0.05  # of the time from batch to batch: below that a stage is not worth a word
SLOW_COLLATE = 0.50  # of the fetch
BLOCKED = 0.50  # of the fetch
FROM_STORAGE, LEAST_READ_BYTES = 0.20, 65_536  # of what was read, and bytes a batch
STARVED = 0.35  # of the fetch, runnable without a core
FOREIGN_CORES = 0.5  # that other processes use
OWN_THREADS = 1.5  # CPU time of a worker process over that of its fetching thread
SLOW_SAMPLE, OF_ITS_BATCH = 3.0, 0.5  # times the median fetch; of the fetch
SLOW_SAMPLES = 0.25  # of all fetching, beyond the median; or half of all waiting
UNPICKLE_LONGER = 3.0  # times the pickling: what takes long is no copying
BUSY_WORKER = 0.60  # of the fetch on a core
SMALL_BATCH_NS = 3_000_000  # from batch to batch, where handing one over costs half of that

CAUSES = {
    "no_workers": "the training process makes every batch itself, between its steps",
    "too_few_workers": "the workers are busy all the time, and there are cores or waits that more could use",
    "cpu_bound_workers": "the workers are busy computing, on all the cores there are",
    "slow_storage": "the workers wait for storage",
    "blocked_workers": "the workers wait for something that is neither a core nor local storage",
    "slow_collate": "most of making a batch goes into collating its samples",
    "slow_samples": "few samples take much longer than the others, and hold up their batches",
    "slow_sampler": "choosing the next indices, in the training process, takes long",
    "cpu_oversubscribed": "the workers and the training process want more cores than there are",
    "worker_threads": "a worker computes in several threads at once, and they want more cores than there are",
    "other_processes": "other processes hold the cores the workers need",
    "many_objects": "sending a batch to the training process takes long: it has many objects",
    "large_payload": "sending a batch to the training process takes long: it is pickled as a whole",
    "slow_handover": "each tensor is handed over by a thread of the worker, which is slow if the worker is busy",
    "slow_pinning": "copying batches into pinned memory takes long",
    "small_prefetch": "batches differ in what they take, and too few are made ahead",
    "small_batches": "a batch is so small that handing it over costs more than making it",
}


@dataclass(frozen=True, slots=True)
class LoaderCause:
    """One reason for the wait: what it explains of it, in words and numbers, and what to do."""

    cause: str
    explained_ns: float  # of the mean wait for a batch
    because: str  # completes "… of each step waits for data: …"
    remedy: str
    speedup: float
    evidence: Evidence = field(default_factory=dict)
    sure: bool = True


def loader_causes(inside: Loading, judged: pl.DataFrame, foreign_cores: float | None = None) -> list[LoaderCause]:
    """The reasons for the wait, the one that explains most first; empty where the evidence explains nothing.

    `judged`: the batches `inside` is about. `foreign_cores`: how many cores other processes used meanwhile.
    """
    if inside.fetch is None or inside.wait_ns <= 0:
        return []
    case = _Case(inside, judged, foreign_cores, inside.fetch)
    found = list(_alone(case) if inside.num_workers == 0 else _with_workers(case))
    return sorted(found, key=lambda cause: -cause.explained_ns)


class _Case:
    """One loader, and the figures the rules ask for."""

    def __init__(self, inside: Loading, judged: pl.DataFrame, foreign_cores: float | None, fetch: Fetch) -> None:
        self.inside, self.judged, self.foreign_cores, self.fetch = inside, judged, foreign_cores, fetch
        self.wait = {stage.name: stage.wait_ns for stage in inside.stages}
        self.took = {stage.name: stage.mean_ns or 0.0 for stage in inside.stages}
        cores = inside.settings.get("cpus")
        self.cores = cores if isinstance(cores, int) and cores > 0 else None
        self.making_ns = self.wait["backlog"] + self.wait["item"] + self.wait["collate"]
        self.sending_ns = sum(self.wait[name] for name in ("feeder", "pickle", "pipe", "unpickle"))

    def dominates(self, waited_ns: float) -> bool:
        """Whether this part of the wait lies on the critical path, and matters."""
        inside = self.inside
        return waited_ns >= DOMINANT * inside.wait_ns and waited_ns >= RELEVANT * inside.interval_ns

    def without(self, waited_ns: float) -> float:
        """Old step over new if this part of the wait were gone."""
        interval = max(self.inside.interval_ns, 1.0)
        return interval / max(interval - waited_ns, interval / 100)

    def best(self, kind: str) -> Prediction | None:
        """The prediction of this kind that is nearly as fast as the fastest, and asks for least.

        Prefetch factors: only for the run's own number of workers.
        """
        inside = self.inside
        found = [
            prediction
            for prediction in inside.predictions
            if prediction.kind == kind
            and (kind != "prefetch" or prediction.settings.get("num_workers") == inside.num_workers)
        ]
        return knee(found) if found else None

    def predicted(self, stage: str, waited_ns: float) -> float:
        """What removing a stage gains, by simulation where there is one."""
        found = (p for p in self.inside.predictions if p.kind == "without" and p.settings.get("stage") == stage)
        simulated = next(found, None)
        return self.without(waited_ns) if simulated is None else max(1.0, simulated.speedup)

    @property
    def starved(self) -> bool:
        """Whether the workers want cores they do not get."""
        return (self.fetch.run_queue_ns or 0.0) > STARVED * self.fetch.mean_ns

    @property
    def saturated(self) -> bool:
        """Whether the workers, or the cores they run on, have no time left."""
        return self.inside.num_workers > 0 and ((self.inside.utilisation or 0.0) >= SATURATED or self.starved)

    @property
    def cpu_share(self) -> float:
        """Of the fetch, on a core; 0 where the system does not say."""
        return (self.fetch.cpu_ns or 0.0) / self.fetch.mean_ns if self.fetch.mean_ns else 0.0

    @property
    def fetch_evidence(self) -> Evidence:
        """What the fetch consists of."""
        fetch = self.fetch
        return {
            "fetch_ns": round(fetch.mean_ns),
            "fetch_cpu_share": _share(fetch.cpu_ns, fetch.mean_ns),
            "fetch_run_queue_share": _share(fetch.run_queue_ns, fetch.mean_ns),
            "fetch_blocked_share": _share(fetch.blocked_ns, fetch.mean_ns),
            "read_bytes_per_batch": None if fetch.read_bytes is None else round(fetch.read_bytes),
            "utilisation": None if self.inside.utilisation is None else round(self.inside.utilisation, 3),
        }


def _alone(case: _Case) -> Iterator[LoaderCause]:
    """The training process makes the batches itself. Workers hide all of it, and what is wrong besides is said too."""
    inside = case.inside
    sampler, slow, collate = _slow_sampler(case), _slow_samples(case), _slow_collate(case)
    special = [cause for cause in (sampler, slow, collate) if cause is not None]
    yield from special
    making_ns = case.wait["item"] + case.wait["collate"]
    best = case.best("workers")
    count = int(best.settings.get("num_workers", 0)) if best is not None else 0
    if making_ns < DOMINANT * inside.wait_ns or (special and count == 0):
        return
    yield LoaderCause(
        "no_workers",
        making_ns - sum(cause.explained_ns for cause in special),
        "the training process makes every batch itself",
        f"DataLoader(…, num_workers={count or 1}, persistent_workers=True)"
        + (
            "."
            if best is None or best.speedup >= WORTH_A_CHANGE
            else "; and make a sample cheaper: the cores are full."
        ),
        case.without(making_ns) if best is None else max(1.0, best.speedup),
        case.fetch_evidence,
        sure=best is not None and best.confidence != "low",
    )


def _with_workers(case: _Case) -> Iterator[LoaderCause]:
    saturated = case.saturated
    beside = [cause for cause in (_slow_sampler(case), _slow_pinning(case)) if cause is not None]
    yield from beside
    if not saturated and case.dominates(case.sending_ns):
        yield _slow_sending(case)
    elif saturated or case.dominates(case.making_ns):
        yield from _slow_making(case, saturated, sum(cause.explained_ns for cause in beside))


def _slow_making(case: _Case, saturated: bool, explained_ns: float) -> Iterator[LoaderCause]:
    """The workers do not keep up. Where they are saturated, that is all of the wait but what is explained already."""
    inside = case.inside
    special = [cause for cause in (_slow_samples(case), _slow_collate(case)) if cause is not None]
    yield from special
    explained = inside.wait_ns - explained_ns if saturated else case.making_ns
    explained = max(0.0, explained - sum(cause.explained_ns for cause in special))
    if not saturated:
        prefetch = case.best("prefetch")
        if prefetch is not None and prefetch.speedup >= WORTH_A_CHANGE and not special:
            factor = int(prefetch.settings.get("prefetch_factor", 0))
            yield LoaderCause(
                "small_prefetch",
                explained,
                f"a fetch takes {duration(case.fetch.p50_ns)} or {duration(case.fetch.p95_ns)}, and too few "
                "batches are made ahead",
                f"DataLoader(…, prefetch_factor={factor}).",
                prefetch.speedup,
                {"fetch_p50_ns": round(case.fetch.p50_ns), "fetch_p95_ns": round(case.fetch.p95_ns)},
            )
            return
    yield _short_of(case, explained)


def _short_of(case: _Case, explained_ns: float) -> LoaderCause:
    """What a saturated worker is short of: a core, storage, something else, or company."""
    fetch, inside = case.fetch, case.inside
    workers = inside.num_workers
    blocked = fetch.blocked_ns or 0.0
    if case.starved:
        return _without_a_core(case, explained_ns)
    more = case.best("workers")
    count = int(more.settings.get("num_workers", workers)) if more is not None else workers
    helps = more is not None and count > workers and more.speedup >= WORTH_A_CHANGE
    if blocked > BLOCKED * fetch.mean_ns:
        read, bytes_ = fetch.read_chars or 0.0, fetch.read_bytes or 0.0
        stored = bytes_ >= max(LEAST_READ_BYTES, FROM_STORAGE * read)
        several = f"DataLoader(…, num_workers={count}): they wait side by side" if helps else ""
        other = (
            "bigger files read from front to back, or a copy on a faster disk"
            if stored
            else ("several requests at once within a sample, or a local copy")
        )
        return LoaderCause(
            "slow_storage" if stored else "blocked_workers",
            explained_ns,
            f"{_who(workers)} {percent(blocked / fetch.mean_ns)} of {duration(fetch.mean_ns)} a batch blocked"
            + (
                f" on storage, {bytes_ / 1e6:.1f} MB a batch"
                if stored
                else ", not on local storage: network, lock, sleep"
            ),
            f"{several}; or {other}." if several else f"{other[0].upper()}{other[1:]}.",
            more.speedup if helps and more is not None else case.predicted("item", explained_ns),
            case.fetch_evidence,
        )
    if helps and more is not None:
        return LoaderCause(
            "too_few_workers",
            explained_ns,
            f"{_who(workers)} busy {percent(inside.utilisation or 0.0)} of the time, {duration(fetch.mean_ns)} a batch",
            f"DataLoader(…, num_workers={count}).",
            more.speedup,
            case.fetch_evidence,
            sure=more.confidence != "low",
        )
    costly = max(inside.transforms, key=lambda t: t.share, default=None)
    named = f" ({costly.name} is {percent(costly.share)} of its transforms)" if costly is not None else ""
    place = f" on {case.cores} cores" if case.cores else ""
    return LoaderCause(
        "cpu_bound_workers",
        explained_ns,
        f"{_who(workers)} computing {percent(case.cpu_share)} of {duration(fetch.mean_ns)} a batch{place}",
        f"Make a sample cheaper{named}: decode smaller images, cache what is always the same, transform whole batches "
        "on the device.",
        case.predicted("item", explained_ns),
        case.fetch_evidence,
    )


def _without_a_core(case: _Case, explained_ns: float) -> LoaderCause:
    fetch, workers = case.fetch, case.inside.num_workers
    starved = f"{percent((fetch.run_queue_ns or 0.0) / fetch.mean_ns)} of {duration(fetch.mean_ns)} a batch"
    evidence = {**case.fetch_evidence, "cores": case.cores, "foreign_cores": case.foreign_cores}
    threads = _threads(case.judged)
    if threads >= OWN_THREADS:
        return LoaderCause(
            "worker_threads",
            explained_ns,
            f"{_who(workers)} waiting for a core {starved}, and each computes in {threads:.1f} threads",
            "One thread in each worker: OMP_NUM_THREADS=1, cv2.setNumThreads(0) in worker_init_fn.",
            case.without(min(explained_ns, fetch.run_queue_ns or 0.0)),
            {**evidence, "threads": round(threads, 2)},
        )
    known = case.foreign_cores
    fits = case.cores is not None and workers + 1 <= case.cores
    if known >= FOREIGN_CORES if known is not None else fits:
        use = f"use {known:.1f} cores" if known is not None else "must use it, for there are enough for the training"
        return LoaderCause(
            "other_processes",
            explained_ns,
            f"{_who(workers)} waiting for a core {starved}, and other processes {use}",
            "Give the training cores of its own (taskset, the job's CPU request), or stop what else runs there.",
            case.without(min(explained_ns, fetch.run_queue_ns or 0.0)),
            evidence,
            sure=known is not None,
        )
    fewer = case.best("workers")
    count = int(fewer.settings.get("num_workers", 0)) if fewer is not None else 0
    helps = fewer is not None and 0 < count < workers
    return LoaderCause(
        "cpu_oversubscribed",
        explained_ns,
        f"{_who(workers)} waiting for a core {starved}"
        + (f", for they and the training share {case.cores}" if case.cores else ""),
        (f"DataLoader(…, num_workers={count}), and make a sample cheaper" if helps else "Make a sample cheaper")
        + ": the cores are full.",
        max(1.0, fewer.speedup) if fewer is not None and helps else case.predicted("item", explained_ns),
        evidence,
    )


def _slow_sending(case: _Case) -> LoaderCause:
    """Workers have time, and still batches come late: it is the way to the training process."""
    inside, took = case.inside, case.took
    parts: Evidence = {f"{name}_ns": round(took[name]) for name in ("feeder", "pickle", "unpickle")}
    serialised = took["pickle"] + took["unpickle"]
    if inside.interval_ns < SMALL_BATCH_NS and case.fetch.mean_ns < serialised + took["feeder"]:
        return LoaderCause(
            "small_batches",
            case.sending_ns,
            f"handing over a batch takes {duration(serialised + took['feeder'])}, making it "
            f"{duration(case.fetch.mean_ns)}",
            "A larger batch_size; or num_workers=0, which hands nothing over.",
            case.without(case.sending_ns),
            parts,
        )
    if took["unpickle"] > UNPICKLE_LONGER * took["pickle"]:
        busy = case.cpu_share > BUSY_WORKER
        return LoaderCause(
            "slow_handover",
            case.sending_ns,
            f"opening a batch takes {duration(took['unpickle'])}, for each tensor is handed over by a thread of its "
            "worker" + (", which is busy computing" if busy else ""),
            "Fewer and larger batches, or fewer tensors in them; or "
            "torch.multiprocessing.set_sharing_strategy('file_system'), which leaves files behind if the training is "
            "killed.",
            case.predicted("transfer", case.sending_ns),
            parts,
        )
    many = case.wait["pickle"] + case.wait["unpickle"] >= case.wait["pipe"]
    return LoaderCause(
        "many_objects" if many else "large_payload",
        case.sending_ns,
        f"sending a batch takes {duration(took['pickle'])} to pickle and {duration(took['unpickle'])} to unpickle",
        "Return few large tensors instead of many objects: stack them in collate_fn."
        if many
        else "Return tensors, which are shared, instead of lists, bytes or arrays of objects, which are copied.",
        case.predicted("transfer", case.sending_ns),
        parts,
    )


def _slow_sampler(case: _Case) -> LoaderCause | None:
    took = case.wait["sampler"]
    if not case.dominates(took):
        return None
    return LoaderCause(
        "slow_sampler",
        took,
        f"the sampler takes {duration(took)} for the indices of a batch, in the training process",
        "Compute the indices of a pass once, before it, and let the sampler hand them out.",
        case.without(took),
        {"sampler_ns": round(took)},
    )


def _slow_pinning(case: _Case) -> LoaderCause | None:
    waited, took = case.wait["pin"], case.took["pin"]
    if not case.dominates(waited):
        return None
    return LoaderCause(
        "slow_pinning",
        waited,
        f"the pin thread takes {duration(took)} for a batch",
        "Pin less: return only the tensors that go to the device, or DataLoader(…, pin_memory=False) if copies to it "
        "are small.",
        case.without(waited),
        {"pin_ns": round(took)},
    )


def _slow_collate(case: _Case) -> LoaderCause | None:
    took = case.took["collate"]
    if took <= SLOW_COLLATE * case.fetch.mean_ns:
        return None
    made_for = case.inside.wait_ns if case.saturated else case.making_ns
    waited = made_for * took / case.fetch.mean_ns
    if not case.dominates(waited):
        return None
    return LoaderCause(
        "slow_collate",
        waited,
        f"collate_fn takes {duration(took)} of the {duration(case.fetch.mean_ns)} a batch is made in",
        "Vectorise collate_fn: one allocation of the batch's size, filled sample by sample; no Python loop over "
        "elements.",
        case.predicted("collate", waited),
        {"collate_ns": round(took), **case.fetch_evidence},
    )


def _slow_samples(case: _Case) -> LoaderCause | None:
    """Few batches take much longer than the others, each because of one sample."""
    known = case.judged.filter(pl.col("fetch_start_ns").is_not_null())
    fetch = (known["fetch_end_ns"] - known["fetch_start_ns"]).to_numpy().astype(np.float64)
    slowest = known["slowest_ns"].fill_null(0).to_numpy()
    median = float(np.median(fetch))
    slow = (fetch > SLOW_SAMPLE * median) & (slowest > OF_ITS_BATCH * fetch)
    if not slow.any():
        return None
    waits = (known["came_ns"] - known["asked_ns"]).to_numpy().astype(np.float64)
    waited = float(waits[slow].sum())
    beyond = float((fetch[slow] - median).sum())
    if beyond < SLOW_SAMPLES * fetch.sum() and waited < 0.5 * waits.sum():
        return None
    worst = int(np.argmax(np.where(slow, slowest, 0)))
    index, took = known["slowest_index"][worst], int(slowest[worst])
    name = "a sample" if index is None else f"sample {index}"
    return LoaderCause(
        "slow_samples",
        min(max(waited, beyond if case.inside.num_workers == 0 else 0.0) / known.height, case.inside.wait_ns),
        f"{int(slow.sum())} of {known.height} batches take long because of one sample each; {name} took "
        f"{duration(took)}, where a batch takes {duration(median)}",
        "Look at the samples listed as slowest: shrink, re-encode or leave them out; DataLoader(…, in_order=False) "
        "lets other batches pass them.",
        case.without(min(waited / known.height, case.inside.wait_ns)),
        {
            "slow_batches": int(slow.sum()),
            "slowest_sample": index,
            "slowest_sample_ns": took,
            "fetch_p50_ns": round(median),
        },
    )


def _threads(judged: pl.DataFrame) -> float:
    """CPU time of the worker processes over that of their fetching threads, between fetches that follow each other."""
    ordered = judged.filter(pl.col("worker_cpu_ns").is_not_null() & pl.col("cpu_ns").is_not_null()).sort(
        "worker", "fetch_start_ns"
    )
    spent = ordered.select(
        (pl.col("worker_cpu_ns") - pl.col("worker_cpu_ns").shift(1)).over("worker", "loop").alias("process"),
        pl.col("cpu_ns").shift(1).over("worker", "loop").alias("thread"),
    ).filter((pl.col("process") > 0) & (pl.col("thread") > 0))
    thread = float(spent["thread"].sum())
    return float(np.median((spent["process"] / spent["thread"]).to_numpy())) if thread else 1.0


def _who(workers: int) -> str:
    return "the worker is" if workers == 1 else f"the {workers} workers are"


def _share(part: float | None, whole: float) -> float | None:
    return None if part is None or not whole else round(part / whole, 3)


# What beginning a pass may mostly consist of, in words, and what to do about it.
START_PARTS = {
    "slow_worker_start": (
        "starting the worker processes",
        "Import less in the dataset's module, and make the dataset small to send: open files in the worker.",
    ),
    "slow_worker_init": ("worker_init_fn", "Do less in worker_init_fn, or open what it opens at the first sample."),
    "slow_dataset_setup": ("the dataset's __iter__", "Prepare the dataset once, not in __iter__."),
    "slow_first_batch": (
        "the first batch, beyond what others take",
        "Fill a smaller shuffle buffer, or open files when they are needed.",
    ),
}


def start_part(inside: Loading) -> tuple[str, float]:
    """What beginning a pass mostly consists of, as one of START_PARTS, and its nanoseconds; "" where no one knows."""
    startup = inside.startup
    if startup is None or inside.fetch is None:
        return "", 0.0
    parts = {
        "slow_worker_start": startup.process_ns,
        "slow_worker_init": startup.init_ns,
        "slow_dataset_setup": startup.dataset_ns,
        "slow_first_batch": max(0.0, startup.first_fetch_ns - inside.fetch.p50_ns),
    }
    name = max(parts, key=lambda part: parts[part])
    return name, parts[name]
