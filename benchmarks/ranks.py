"""Runs of many ranks: the whole report's time and memory as their number grows, and the same answer from a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.measuring import Spread, in_fresh_process
from benchmarks.outcome import Outcome, Table, Target
from profkit.loader import usable_cpus
from tests.local_cluster import local_cluster
from tests.synthetic_ranks import straggler_of

SIZES, SPANS, ROUNDS = (64, 256, 1024), 100_000, 2
QUICK_SIZES, QUICK_SPANS, QUICK_ROUNDS = (16, 64), 5_000, 1
MOST_BYTES, MOST_EXPONENT = 2 * 1024**3, 1.1
CLUSTER_WORKERS = 2


@dataclass(frozen=True, slots=True)
class Measured:
    """Reports of one run by one engine."""

    ranks: int
    engine: str
    reports: Sequence[dict[str, Any]]

    @property
    def wall_s(self) -> Spread:
        return Spread.of(report["wall_s"] for report in self.reports)

    @property
    def peak_bytes(self) -> int:
        """The most of all rounds."""
        peaks: list[int] = [report["peak_bytes"] for report in self.reports]
        return max(peaks)

    @property
    def finds_the_straggler(self) -> bool:
        """And its cause, and nobody else."""
        return all(report["late"] == [[straggler_of(self.ranks), "input"]] for report in self.reports)

    @property
    def digests(self) -> set[str]:
        return {report["digest"] for report in self.reports}


def run(quick: bool) -> Outcome:
    """Runs of growing numbers of ranks by the local pool, and the largest by a cluster of local processes."""
    sizes, spans, rounds = (QUICK_SIZES, QUICK_SPANS, QUICK_ROUNDS) if quick else (SIZES, SPANS, ROUNDS)
    with TemporaryDirectory() as folder:
        runs = {ranks: Path(folder, str(ranks)) for ranks in sizes}
        for ranks, place in runs.items():
            written(place, ranks, spans)
        pool = [measured(place, ranks, rounds) for ranks, place in runs.items()]
        cluster = measured_on_cluster(runs[sizes[-1]], sizes[-1], Path(folder))
    return outcome(pool, cluster, spans)


def written(place: Path, ranks: int, spans: int) -> None:
    """Write the run, on all cores."""
    cores = usable_cpus()
    with ThreadPoolExecutor(cores) as writers:
        arguments = [("write", str(place), str(ranks), str(spans), str(n), str(cores)) for n in range(cores)]
        list(writers.map(lambda each: in_fresh_process("ranked", *each), arguments))


def measured(place: Path, ranks: int, rounds: int) -> Measured:
    """By the pool of processes."""
    return Measured(ranks, "processes", [in_fresh_process("ranked", str(place), "processes") for _ in range(rounds)])


def measured_on_cluster(place: Path, ranks: int, folder: Path) -> Measured:
    """By a LocalCluster; its workers are no children of the report and count in no memory."""
    with local_cluster(CLUSTER_WORKERS, folder) as address:
        return Measured(ranks, "dask", [in_fresh_process("ranked", str(place), "dask", address)])


def outcome(pool: Sequence[Measured], cluster: Measured, spans: int) -> Outcome:
    """The table, and what was to be seen."""
    rows = [["engine", "ranks", "report", "per rank", "memory of all processes", "late"]]
    rows += [
        [
            each.engine,
            f"{each.ranks:,}",
            each.wall_s.text(" s", 1),
            f"{1e3 * each.wall_s.median / each.ranks:.0f} ms",
            f"{each.peak_bytes / 1024**2:,.0f} MiB" if each is not cluster else "",
            ", ".join(f"rank {rank}: {cause}" for rank, cause in each.reports[0]["late"]),
        ]
        for each in (*pool, cluster)
    ]
    note = f"{usable_cpus()} processes in the pool; dask: a LocalCluster of {CLUSTER_WORKERS} processes"
    grows = exponent(pool)
    largest = pool[-1]
    targets = [
        Target("memory at most 2 GiB", f"{largest.peak_bytes / 1024**3:.2f} GiB", largest.peak_bytes <= MOST_BYTES),
        Target(f"time grows as ranks to the power of at most {MOST_EXPONENT}", f"{grows:.2f}", grows <= MOST_EXPONENT),
        Target(
            "the late rank, its cause and nobody else",
            f"rank {straggler_of(largest.ranks)} of {largest.ranks:,}",
            all(each.finds_the_straggler for each in (*pool, cluster)),
        ),
        Target(
            "the cluster's answer is the pool's, byte for byte",
            f"{len(largest.digests | cluster.digests)} distinct",
            largest.digests == cluster.digests,
        ),
    ]
    figures: dict[str, object] = {f"{each.engine} {each.ranks}": list(each.reports) for each in (*pool, cluster)}
    return Outcome("ranks", [Table(f"report of ranks of {spans:,} spans each", rows, [note])], targets, figures)


def exponent(pool: Sequence[Measured]) -> float:
    """Of the power of the ranks by which the time grows, from the least squares of logarithms."""
    ranks, seconds = [each.ranks for each in pool], [each.wall_s.median for each in pool]
    return float(np.polyfit(np.log(ranks), np.log(seconds), 1)[0])
