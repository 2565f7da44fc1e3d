"""What the batches of one run say of their costs, with the contention of that run taken out."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from profkit.analysis.loadersimulation import BatchCost, Costs, simulate

FEWEST_BATCHES = 8
NEEDED = ("fetch_start_ns", "fetch_end_ns", "cpu_ns")
USUAL_PREFETCH = 2  # torch's default

# CPU time that a batch's way adds where the run has no workers that would show it: torch 2.13 in a virtual machine on
# Linux, batches of two tensors and half a megabyte. Pickling and shared memory in the worker; unpickling and touching
# that memory in the training process. A machine of its own takes a third of it, many objects or megabytes many times.
ASSUMED_SEND_NS = 2_500_000.0
ASSUMED_RECEIVE_NS = 2_100_000.0
ASSUMED_TRANSIT_NS = 60_000.0

HELPERS_FROM = 0.2  # CPU time of other threads, over the training thread's, that is more than noise
EXTREME = 0.95  # quantile: CPU times above it are cut, for a single hiccup is no cost of every batch


@dataclass(frozen=True, slots=True)
class LoaderProfile:
    """One run's loader: its settings, and its costs per batch. Times are nanoseconds.

    `item_share`: part of the fetch that gets samples, the rest makes a batch of them. `assumes_transfer`: the run
    had no workers, so what a batch's way costs is an assumption. `run_queue_share`: how much of the time that
    somebody wanted to compute no core was free.
    """

    num_workers: int
    prefetch_factor: int
    cores: int
    costs: Costs
    item_share: float
    assumes_transfer: bool
    run_queue_share: float
    step_ns: float  # as measured
    wait_ns: float

    def without(self, stage: str) -> LoaderProfile:
        """The same, had one stage no cost: item, collate or transfer."""
        if stage == "transfer":
            pin_ns = None if self.costs.pin_ns is None else (0.0, 0.0)
            return replace(
                self, costs=replace(self.costs, send_cpu_ns=0.0, receive_cpu_ns=0.0, transit_ns=0.0, pin_ns=pin_ns)
            )
        kept = self.item_share if stage == "collate" else 1 - self.item_share
        return self._scaled(kept, 1.0)

    def with_batches(self, scale: float) -> LoaderProfile:
        """The same, were a batch `scale` times as large.

        Fetch and training grow with it, which for the training is an assumption; the way of a batch does not.
        """
        return self._scaled(scale, scale)

    def _scaled(self, fetch: float, consumer: float) -> LoaderProfile:
        batches = tuple(
            BatchCost(
                batch.sampler_ns * consumer,
                batch.fetch_cpu_ns * fetch,
                batch.fetch_blocked_ns * fetch,
                batch.consumer_cpu_ns * consumer,
                batch.consumer_blocked_ns * consumer,
            )
            for batch in self.costs.batches
        )
        return replace(self, costs=replace(self.costs, batches=batches))


def profile_of(batches: pl.DataFrame, num_workers: int, cpus: int | None) -> LoaderProfile | None:
    """The costs in these rows of BATCHES, which are of one loader; None where they are too few or say too little.

    Rows may be missing between others: costs that lie between two batches are taken from neighbours only.
    """
    steady = _steady(batches)
    if steady.height < FEWEST_BATCHES:
        return None
    consumer_ns = steady["consumer_ns"].to_numpy()
    consumer_cpu_ns = np.minimum(steady["consumer_cpu_ns"].to_numpy(), consumer_ns)
    consumer_queue_ns = np.minimum(steady["consumer_run_queue_ns"].to_numpy(), consumer_ns - consumer_cpu_ns)
    fetch_ns = steady["fetch_ns"].to_numpy()
    cpu_ns = np.minimum(steady["cpu_ns"].to_numpy(), fetch_ns)
    queue_ns = np.minimum(steady["run_queue_ns"].to_numpy(), fetch_ns - cpu_ns)
    computed_ns = float(cpu_ns.sum() + consumer_cpu_ns.sum())
    queued_ns = float(queue_ns.sum() + consumer_queue_ns.sum())
    rows = zip(
        steady["sampler_ns"].to_list(),
        cpu_ns.tolist(),
        (fetch_ns - cpu_ns - queue_ns).tolist(),
        consumer_cpu_ns.tolist(),
        (consumer_ns - consumer_cpu_ns - consumer_queue_ns).tolist(),
        strict=True,
    )
    item_ns, collate_ns = float(steady["item_ns"].sum()), float(steady["collate_ns"].sum())
    transfer = _transfer(steady) if num_workers else _assumed_transfer(steady)
    costs = replace(transfer, batches=tuple(BatchCost(*row) for row in rows))
    prefetch_factor, cores = _prefetch_factor(steady, num_workers), cpus or os.cpu_count() or 1
    return LoaderProfile(
        num_workers=num_workers,
        prefetch_factor=prefetch_factor,
        cores=cores,
        costs=_uncrowded(costs, num_workers, prefetch_factor, cores),
        item_share=item_ns / (item_ns + collate_ns) if item_ns + collate_ns else 1.0,
        assumes_transfer=num_workers == 0,
        run_queue_share=queued_ns / (queued_ns + computed_ns) if queued_ns else 0.0,
        step_ns=float((consumer_ns + steady["wait_ns"].to_numpy()).mean()),
        wait_ns=float(steady["wait_ns"].to_numpy().mean()),
    )


def _steady(batches: pl.DataFrame) -> pl.DataFrame:
    """Batches that came right after another one of their pass, with what passed between the two.

    Those that were ordered before the first one came belong to the start: workers warm up with them.
    """
    ordered = batches.sort("loop", "asked_ns").with_columns(
        wait_ns=pl.col("came_ns") - pl.col("asked_ns"),
        consumer_ns=pl.col("asked_ns") - pl.col("came_ns").shift(),
        fetch_ns=pl.col("fetch_end_ns") - pl.col("fetch_start_ns"),
        process_ns=pl.col("process_cpu_ns") - pl.col("process_cpu_ns").shift(),
        cpu_before_ns=pl.col("cpu_ns").shift(),
        wait_before_ns=(pl.col("came_ns") - pl.col("asked_ns")).shift(),
        worker_ns=_until_next("worker_cpu_ns") - pl.col("cpu_ns"),
    )
    follows = (pl.col("loop") == pl.col("loop").shift()) & (pl.col("index") == pl.col("index").shift() + 1)
    complete = pl.all_horizontal(pl.col(name).is_not_null() for name in NEEDED)
    filled = ("sampler_ns", "item_ns", "collate_ns", "run_queue_ns", "consumer_cpu_ns", "consumer_run_queue_ns")
    known = ordered.filter(follows & complete & ~pl.col("first")).with_columns(
        pl.col(name).fill_null(0) for name in filled
    )
    begun = (pl.col("index") - pl.col("index").min()).over("loop") >= pl.col("outstanding").max().fill_null(0)
    steady = known.filter(begun)
    return steady if steady.height >= FEWEST_BATCHES else known


def _until_next(column: str) -> pl.Expr:
    """By how much a count of the worker has grown when its next fetch begins."""
    following = pl.col(column).shift(-1).over("loop", "worker", order_by="index")
    return following - pl.col(column)


def _uncrowded(costs: Costs, num_workers: int, prefetch_factor: int, cores: int) -> Costs:
    """The same on an otherwise idle machine: CPU times were measured while so many cores were busy as they were."""
    if not num_workers:
        return costs
    crowding = simulate(costs, num_workers, prefetch_factor, cores).crowding
    batches = tuple(
        batch._replace(
            fetch_cpu_ns=batch.fetch_cpu_ns / crowding,
            consumer_cpu_ns=batch.consumer_cpu_ns / crowding,
        )
        for batch in costs.batches
    )
    pin_ns = None if costs.pin_ns is None else (costs.pin_ns[0] / crowding, costs.pin_ns[1])
    return replace(
        costs,
        batches=batches,
        send_cpu_ns=costs.send_cpu_ns / crowding,
        receive_cpu_ns=costs.receive_cpu_ns / crowding,
        pin_ns=pin_ns,
    )


def _prefetch_factor(steady: pl.DataFrame, num_workers: int) -> int:
    outstanding = steady["outstanding"].max()
    if not num_workers or not isinstance(outstanding, int):
        return USUAL_PREFETCH
    return max(round(outstanding / num_workers), 1)


def _assumed_transfer(steady: pl.DataFrame) -> Costs:
    """Of a run without workers: its own figures say nothing of a batch's way."""
    others_ns = steady["process_ns"] - steady["consumer_cpu_ns"] - steady["cpu_before_ns"] - steady["sampler_ns"]
    width = _width(_typical(others_ns), steady)
    return Costs((), ASSUMED_SEND_NS, ASSUMED_RECEIVE_NS, ASSUMED_TRANSIT_NS, consumer_width=width)


def _transfer(steady: pl.DataFrame) -> Costs:
    """What a batch's way costs both processes, from their CPU time beyond fetches and the training loop's work."""
    others_ns = _typical(steady["process_ns"] - steady["consumer_cpu_ns"] - steady["sampler_ns"])
    getting = steady.select(pl.col("came_ns") - pl.max_horizontal("asked_ns", "unpickle_start_ns")).to_series()
    receive_ns = min(others_ns, _typical(getting - steady["sampler_ns"]))
    pinned = steady.filter(pl.col("pin_end_ns").is_not_null())
    pin_ns = None
    if pinned.height:
        taken_ns = _typical(pinned["pin_end_ns"] - pinned["unpickle_start_ns"])
        pin_cpu_ns = min(others_ns - receive_ns, taken_ns)
        pin_ns = pin_cpu_ns, taken_ns - pin_cpu_ns
    beside_ns = others_ns - receive_ns - (pin_ns[0] if pin_ns else 0.0)
    return Costs(
        (),
        send_cpu_ns=_typical(steady["worker_ns"]),
        receive_cpu_ns=receive_ns,
        transit_ns=_transit(steady),
        pin_ns=pin_ns,
        consumer_width=_width(beside_ns, steady),
    )


def _transit(steady: pl.DataFrame) -> float:
    """From the fetch's end to the loop that waits for it, pickling left out; a quartile, where nobody is in the way."""
    way = pl.col("unpickle_start_ns") - pl.col("pickle_end_ns") + pl.col("pickle_start_ns") - pl.col("fetch_end_ns")
    awaited = steady.filter(pl.col("pickle_end_ns") > pl.col("asked_ns")).select(way).to_series().drop_nulls()
    if awaited.len() < FEWEST_BATCHES:
        return ASSUMED_TRANSIT_NS
    return max(float(awaited.quantile(0.25) or 0), 0.0)


def _width(beside_ns: float, steady: pl.DataFrame) -> float:
    """Cores the training loop's work keeps busy, from the CPU time of the process's other threads per batch."""
    share = beside_ns / max(float(steady["consumer_cpu_ns"].to_numpy().mean()), 1.0)
    return 1.0 + share if share > HELPERS_FROM else 1.0


def _typical(times_ns: pl.Series) -> float:
    """The mean without its extremes; 0 where there is none."""
    known = times_ns.drop_nulls().to_numpy()
    return max(float(np.minimum(known, np.quantile(known, EXTREME)).mean()), 0.0) if len(known) else 0.0
