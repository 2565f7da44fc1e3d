"""What a capture tells of its loaders: each batch's way, single samples, workers, and tf.data's stages."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from profkit.records import Batch, Fetch, WorkerStarted
from profkit.trace.arrays import column, nullable
from profkit.trace.model import Loader, LoaderWorker, PipelineFlaw, PipelineStage, Transform
from profkit.trace.schema import BATCHES, SAMPLES
from profkit.trace.store import conform

if TYPE_CHECKING:
    from profkit.capture import Capture


def batches_table(capture: Capture) -> pl.DataFrame:
    """Every batch that was followed, in the order the training loop got them; each belongs to the step it came in."""
    batches = capture.batches
    ends, numbers = column(capture.steps, "end_ns"), column(capture.steps, "number")
    asked = column(batches, "asked_ns")
    came = asked + column(batches, "came")
    firsts = {(wait.loader, wait.start_ns) for wait in capture.waits if wait.first}
    step = np.append(numbers, -1)[np.searchsorted(ends, came, side="left")]
    fetches = [batch.fetch for batch in batches]
    table = {
        "loader": column(batches, "loader"),
        "loop": column(batches, "loop"),
        "index": column(batches, "index"),
        "asked_ns": asked,
        "came_ns": came,
        "first": pl.Series([(batch.loader, batch.asked_ns) in firsts for batch in batches], dtype=pl.Boolean),
        "step": nullable(step),
        "worker": [None if f is None or f.worker < 0 else f.worker for f in fetches],
        "ready": [
            None if f is None or f.worker < 0 or b.ready < 0 else b.ready for b, f in zip(batches, fetches, strict=True)
        ],
        "outstanding": column(batches, "outstanding"),
        "sampler_ns": column(batches, "sampler"),
        "dispatched_ns": [b.asked_ns + b.dispatched if b.dispatched else None for b in batches],
        "received_ns": [b.asked_ns + b.received if b.received else None for b in batches],
        "consumer_cpu_ns": column(batches, "consumer_cpu"),
        "consumer_run_queue_ns": column(batches, "consumer_run_queue"),
        "process_cpu_ns": column(batches, "process_cpu"),
        **_fetch_columns(batches),
        **_moments(batches, "pinned", ("pin_start_ns", "pin_end_ns")),
        **_moments(batches, "unpickled", ("pickle_start_ns", "pickle_end_ns", "unpickle_start_ns", "unpickle_end_ns")),
    }
    return conform(pl.DataFrame(table, strict=False), BATCHES)


def _fetch_columns(batches: Sequence[Batch]) -> dict[str, list[int | None]]:
    """What the fetch of each batch took, null where it is not known."""
    columns: dict[str, list[int | None]] = {name: [] for name in _OF_FETCH}
    for batch in batches:
        for name, value in _OF_FETCH.items():
            columns[name].append(None if batch.fetch is None else value(batch.asked_ns, batch.fetch))
    return columns


# Where the kernel gives no figures they are all 0, as is the slowest sample where none was clocked.
_OF_FETCH: dict[str, Callable[[int, Fetch], int | None]] = {
    "fetch_start_ns": lambda zero, f: zero + f.start,
    "fetch_end_ns": lambda zero, f: zero + f.end,
    "item_ns": lambda _, f: f.items,
    "collate_ns": lambda _, f: f.collate_end - f.collate_start,
    "cpu_ns": lambda _, f: f.cpu if f.cpu or f.run_queue else None,
    "run_queue_ns": lambda _, f: f.run_queue if f.cpu or f.run_queue else None,
    "read_chars": lambda _, f: f.read_chars,
    "read_bytes": lambda _, f: f.read_bytes,
    "slowest_ns": lambda _, f: f.slowest or None,
    "slowest_index": lambda _, f: f.slowest_index,
    "worker_cpu_ns": lambda _, f: f.worker_cpu,
}


def _moments(batches: Sequence[Batch], field: str, names: tuple[str, ...]) -> dict[str, list[int | None]]:
    """A tuple of moments as columns of Unix time."""
    found = [(batch.asked_ns, getattr(batch, field)) for batch in batches]
    return {
        name: [None if moments is None else zero + moments[place] for zero, moments in found]
        for place, name in enumerate(names)
    }


def samples_table(capture: Capture) -> pl.DataFrame:
    """Every sample that was clocked by itself, in the order of the files."""
    records = capture.data_samples
    counts = [len(record.durations) for record in records]
    return conform(
        pl.DataFrame(
            {
                "loader": np.repeat(column(records, "loader"), counts),
                "worker": nullable(np.repeat(column(records, "worker"), counts)),
                "pid": np.repeat(column(records, "pid"), counts),
                "fetch_start_ns": np.repeat(column(records, "fetch_start_ns"), counts),
                "index": pl.Series([index for record in records for index in record.indices], dtype=pl.Int64),
                "duration_ns": pl.Series([took for record in records for took in record.durations], dtype=pl.Int64),
            }
        ),
        SAMPLES,
    )


def loaders(capture: Capture) -> dict[str, Loader]:
    """The loaders by number. Stages of a pipeline that nobody opened by itself are those of the loader around it.

    Of several readings of a pipeline the last one counts of those with the most stages: what has run dry leaves it.
    """
    first = capture.loaders[0].loader if capture.loaders else None
    opened = {record.loader for record in capture.loaders}
    stages = {
        pipeline.loader if pipeline.loader in opened else first: [
            PipelineStage(
                name=stage.name,
                elements=stage.elements,
                processing_ns=stage.processing_ns,
                buffered=stage.buffered,
                parallelism=stage.parallelism,
                tuned=stage.tuned,
            )
            for stage in pipeline.stages
        ]
        for pipeline in sorted(capture.pipelines, key=lambda pipeline: len(pipeline.stages))
    }
    return {
        str(o.loader): Loader(
            o.name,
            o.settings,
            stages.get(o.loader, []),
            [PipelineFlaw(f.cause, f.stage, f.detail) for f in capture.flaws if f.loader == o.loader],
            [_worker(w) for w in capture.workers if w.loader == o.loader],
            _transforms(capture, o.loader),
        )
        for o in {o.loader: o for o in capture.loaders}.values()
    }


def _worker(started: WorkerStarted) -> LoaderWorker:
    return LoaderWorker(
        worker=started.worker,
        pid=started.pid,
        loop=started.loop,
        asked_ns=started.asked_ns,
        process_ns=started.process,
        init_ns=started.init,
        dataset_ns=started.dataset,
    )


def _transforms(capture: Capture, loader: int) -> list[Transform]:
    """Calls and time of each transform over all workers, the costliest first."""
    totals: dict[str, list[int]] = {}
    for record in capture.data_samples:
        if record.loader == loader:
            for name, (calls, took_ns) in record.transforms.items():
                total = totals.setdefault(name, [0, 0])
                total[0] += calls
                total[1] += took_ns
    found = [Transform(name, calls, took_ns) for name, (calls, took_ns) in totals.items()]
    return sorted(found, key=lambda transform: -transform.total_ns)
