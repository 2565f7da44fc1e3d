"""The inside of a loader: where the time went that the training loop waited for its batches.

A batch's way is a row of intervals, one after the other:

    dispatched ─backlog─ fetch: item, collate ─feeder─ pickle ─pipe─ unpickle ─pin─ received ─hold─ came

The wait for it is [asked, came]. What of an interval lies within the wait is what the training loop waited for; what
lies before was overlapped with its own work. What is left of the wait when all intervals are taken away is `other`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.report import (
    Fetch,
    LoaderStartup,
    Loading,
    LoadingStage,
    SlowSample,
    TransformTime,
    WorkerLoad,
)
from profkit.trace.model import Loader, Run

Floats = npt.NDArray[np.float64]

STAGES = (
    *("sampler", "backlog", "item", "collate", "feeder", "pickle", "pipe", "unpickle", "pin", "hold"),
    "other",
)
FEWEST_BATCHES = 3
SLOWEST = 10

# Stage -> the columns of its beginning and its end, as expressions of Unix nanoseconds.
_COLLATE_START = pl.col("fetch_end_ns") - pl.col("collate_ns")
_INTERVALS = {
    "backlog": (pl.col("dispatched_ns"), pl.col("fetch_start_ns")),
    "item": (pl.col("fetch_start_ns"), pl.col("fetch_start_ns") + pl.col("item_ns")),
    "collate": (_COLLATE_START, pl.col("fetch_end_ns")),
    "feeder": (pl.col("fetch_end_ns"), pl.col("pickle_start_ns")),
    "pickle": (pl.col("pickle_start_ns"), pl.col("pickle_end_ns")),
    "pipe": (pl.col("pickle_end_ns"), pl.col("unpickle_start_ns")),
    "unpickle": (pl.col("unpickle_start_ns"), pl.col("unpickle_end_ns")),
    "pin": (pl.col("pin_start_ns"), pl.col("pin_end_ns")),
    "hold": (pl.col("received_ns"), pl.max_horizontal("received_ns", "asked_ns")),  # before it was asked for
}


def stage_times(batches: pl.DataFrame) -> pl.DataFrame:
    """Nanoseconds each stage took, overlapped or not; null where it is not known. One row per batch."""
    stages = [(end - begin).clip(lower_bound=0).alias(name) for name, (begin, end) in _INTERVALS.items()]
    return batches.select(pl.col("sampler_ns").alias("sampler"), *stages)


def stage_waits(batches: pl.DataFrame) -> pl.DataFrame:
    """Nanoseconds of the wait for each batch by what it waited for; the row adds up to the wait exactly.

    Of a batch nobody looked into, everything but the sampler is `other`.
    """
    asked, came = pl.col("asked_ns"), pl.col("came_ns")
    within = [
        pl.when((end - begin).is_not_null())
        .then((pl.min_horizontal(end, came) - pl.max_horizontal(begin, asked)).clip(lower_bound=0))
        .otherwise(0)
        .alias(name)
        for name, (begin, end) in _INTERVALS.items()
    ]
    known = batches.select(pl.col("sampler_ns").fill_null(0).alias("sampler"), *within)
    rest = batches.select((came - asked).alias("wait"))["wait"] - known.sum_horizontal()
    return known.with_columns(rest.alias("other")).select(STAGES)


def judged_batches(run: Run) -> pl.DataFrame:
    """The batches of the training loop's loader that a verdict rests on.

    Steady ones outside windows; inside where there are no others; all where none is steady.
    """
    batches = run.batches
    if not batches.height:
        return batches
    mine = batches.filter(pl.col("loader") == main_loader(batches))
    recorded = run.steps.filter(pl.col("window").is_not_null())["number"].implode()
    outside = ~pl.col("step").is_in(recorded) if run.steps.height else pl.lit(True)
    steady = ~pl.col("first")
    for condition in (steady & outside, steady, pl.lit(True)):
        chosen = mine.filter(condition)
        if chosen.height >= FEWEST_BATCHES:
            return chosen
    return mine


def main_loader(batches: pl.DataFrame) -> int:
    """The number of the loader most of the time was spent with, waits and steps together."""
    spent = batches.group_by("loader").agg((pl.col("came_ns").max() - pl.col("asked_ns").min()).alias("spent"))
    return int(spent.sort("spent", "loader", descending=[True, False])["loader"][0])


def loading(run: Run) -> Loading | None:
    """What is known of the inside of the training loop's loader; None where nobody looked, or at too few batches."""
    judged = judged_batches(run)
    if judged.height < FEWEST_BATCHES or judged["fetch_start_ns"].null_count() > judged.height // 2:
        return None
    number = int(judged["loader"][0])
    mine = run.batches.filter(pl.col("loader") == number)
    samples = run.samples.filter(pl.col("loader") == number)
    loader = run.info.loaders.get(str(number), Loader("loader"))
    waits, times = stage_waits(judged), stage_times(judged)
    workers = _workers(judged, loader)
    interval_ns = _interval_ns(judged)
    return Loading(
        loader=loader.name,
        settings=loader.settings,
        batches=judged.height,
        num_workers=_num_workers(loader, judged),
        wait_ns=_mean(judged.select(pl.col("came_ns") - pl.col("asked_ns")).to_series()),
        interval_ns=interval_ns,
        stages=[
            LoadingStage(
                name=name,
                mean_ns=_mean_or_none(times[name]) if name in times.columns else None,
                wait_ns=_mean(waits[name]),
            )
            for name in STAGES
        ],
        fetch=_fetch(judged),
        utilisation=_utilisation(judged, _num_workers(loader, judged)),
        queue_depth=_queue_depth(judged),
        workers=workers,
        startup=_startup(mine, loader),
        slowest_samples=_slowest(samples, mine),
        median_sample_ns=_median_or_none(samples["duration_ns"]),
        transforms=_transforms(loader),
    )


def _num_workers(loader: Loader, judged: pl.DataFrame) -> int:
    workers = loader.settings.get("num_workers")
    return workers if isinstance(workers, int) else judged["worker"].n_unique() - judged["worker"].has_nulls()


def _interval_ns(judged: pl.DataFrame) -> float:
    """Mean time from batch to batch, within passes and without gaps between the judged ones."""
    follows = judged.select(
        (pl.col("came_ns") - pl.col("came_ns").shift(1)).alias("since"),
        ((pl.col("loop") == pl.col("loop").shift(1)) & (pl.col("step") - pl.col("step").shift(1) <= 1)).alias("next"),
    ).filter(pl.col("next").fill_null(value=False))
    return _mean(follows["since"]) if follows.height else _mean(judged["came_ns"] - judged["asked_ns"])


def _fetch(judged: pl.DataFrame) -> Fetch | None:
    known = judged.filter(pl.col("fetch_start_ns").is_not_null())
    took = (known["fetch_end_ns"] - known["fetch_start_ns"]).to_numpy().astype(np.float64)
    p50, p95 = np.percentile(took, [50, 95])
    cpu, run_queue = _mean_or_none(known["cpu_ns"]), _mean_or_none(known["run_queue_ns"])
    mean = float(took.mean())
    if cpu is not None and run_queue is not None:
        # Two clocks: the scheduler's figures may exceed the fetch by a little.
        cpu = min(cpu, mean)
        run_queue = min(run_queue, mean - cpu)
    return Fetch(
        mean_ns=mean,
        p50_ns=float(p50),
        p95_ns=float(p95),
        max_ns=float(took.max()),
        cpu_ns=cpu,
        run_queue_ns=run_queue,
        blocked_ns=None if cpu is None or run_queue is None else mean - cpu - run_queue,
        read_chars=_mean_or_none(known["read_chars"]),
        read_bytes=_mean_or_none(known["read_bytes"]),
    )


def _workers(judged: pl.DataFrame, loader: Loader) -> list[WorkerLoad]:
    """The load of each worker, over the time in which the judged batches were fetched."""
    known = judged.filter(pl.col("fetch_start_ns").is_not_null())
    pids = {started.worker: started.pid for started in loader.workers}
    took = (pl.col("fetch_end_ns") - pl.col("fetch_start_ns")).alias("took")
    elapsed = _elapsed(known)
    grouped = known.with_columns(took).group_by("worker").agg(pl.len(), pl.sum("took")).sort("worker")
    return [
        WorkerLoad(
            worker=worker,
            pid=None if worker is None else pids.get(worker),
            batches=count,
            busy_share=min(1.0, busy / elapsed) if elapsed else 0.0,
            fetch_ns=busy / count,
        )
        for worker, count, busy in grouped.iter_rows()
    ]


def _utilisation(judged: pl.DataFrame, num_workers: int) -> float | None:
    """Fetching over elapsed time, of all workers together: near 1 they are what limits the loader."""
    if num_workers == 0:
        return None
    known = judged.filter(pl.col("fetch_start_ns").is_not_null())
    elapsed = _elapsed(known)
    busy = float((known["fetch_end_ns"] - known["fetch_start_ns"]).sum())
    return min(1.0, busy / (num_workers * elapsed)) if elapsed else None


def _elapsed(known: pl.DataFrame) -> float:
    """Time in which the judged batches came, gaps between passes and windows left out: mean interval times number."""
    return _interval_ns(known) * known.height


def _queue_depth(judged: pl.DataFrame) -> list[int]:
    ready = judged["ready"].drop_nulls()
    return np.bincount(ready.to_numpy()).tolist() if ready.len() else []


def _startup(mine: pl.DataFrame, loader: Loader) -> LoaderStartup | None:
    """The first wait of each pass, from the moment the pass was begun where its workers say when that was."""
    firsts = mine.filter("first")
    if not firsts.height:
        return None
    begun = {started.loop: started.asked_ns for started in loader.workers}
    passes = firsts.select("loop", "asked_ns", "came_ns").rows()
    waits = [came - min(asked, begun.get(loop, asked)) for loop, asked, came in passes]
    started = loader.workers
    return LoaderStartup(
        passes=firsts.height,
        first_wait_ns=float(np.mean(waits)),
        process_ns=_mean_of([worker.process_ns for worker in started]),
        init_ns=_mean_of([worker.init_ns for worker in started]),
        dataset_ns=_mean_of([worker.dataset_ns for worker in started]),
        first_fetch_ns=_mean((firsts["fetch_end_ns"] - firsts["fetch_start_ns"]).drop_nulls()),
        started_workers=len(started),
    )


def _slowest(samples: pl.DataFrame, mine: pl.DataFrame) -> list[SlowSample]:
    """The slowest clocked samples, each with the batch it was part of."""
    top = samples.sort("duration_ns", descending=True).head(SLOWEST)
    of_batch = mine.select("fetch_start_ns", pl.col("index").alias("batch"), "step").drop_nulls("fetch_start_ns")
    joined = top.join(of_batch.unique("fetch_start_ns"), on="fetch_start_ns", how="left", maintain_order="left")
    return [
        SlowSample(index=index, duration_ns=took, worker=worker, batch=batch, step=step)
        for index, took, worker, batch, step in joined.select("index", "duration_ns", "worker", "batch", "step").rows()
    ]


def _transforms(loader: Loader) -> list[TransformTime]:
    total = sum(transform.total_ns for transform in loader.transforms) or 1
    return [
        TransformTime(name=t.name, calls=t.calls, mean_ns=t.total_ns / t.calls, share=t.total_ns / total)
        for t in loader.transforms
        if t.calls
    ]


def _mean_of(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0


def _mean(values: pl.Series) -> float:
    return float(values.mean() or 0.0)  # type: ignore[arg-type]  # of numbers


def _mean_or_none(values: pl.Series) -> float | None:
    return None if values.null_count() == values.len() else _mean(values)


def _median_or_none(values: pl.Series) -> float | None:
    return float(values.median()) if values.len() else None  # type: ignore[arg-type]  # of numbers
