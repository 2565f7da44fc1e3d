"""Trainings of many ranks made by hand: what `rank_part` would say of each, late ones and wrong clocks planted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.breakdown import CLASSES
from profkit.analysis.collectives import CALLS
from profkit.analysis.loghistogram import histogram_of
from profkit.analysis.rankpart import RankPart, encoded

MS = 1_000_000
START_NS = 1_700_000_000 * 1_000_000_000
STEP_MS, TRANSFER_MS = 40, 2  # own work of a step, of which 30 compute, and its collective

Floats = npt.NDArray[np.float64]
Call = tuple[str, int, int, float, float]  # operation, step, number, start and end in milliseconds


def calls_table(calls: Sequence[Call], group: str = "0", size: int | None = None, offset_ns: int = 0) -> pl.DataFrame:
    """Calls of one rank, whose clock is behind by `offset_ns`."""
    rows = [
        (
            name,
            group,
            "Float",
            size,
            step,
            number,
            *(START_NS + round(at * MS) - offset_ns for at in (start, end)),
            4096,
            round((end - start) * MS),
        )
        for name, step, number, start, end in calls
    ]
    return pl.DataFrame(rows, schema=CALLS, orient="row")


def part(
    rank: int,
    calls: pl.DataFrame,
    world_size: int,
    steps: int,
    *,
    host: str = "node",
    times_ms: Mapping[str, float] | None = None,
    allocator_ms: float = 0.0,
    uncertainty_ns: float | None = None,
    clock_offset_ns: float = 0.0,
    began_ms: float = 0.0,
) -> RankPart:
    """A rank with these calls and, per step, these times of the breakdown's classes."""
    times = {name: round((times_ms or {}).get(name, 0.0) * MS) for name in CLASSES}
    step_ns = sum(times.values())
    return RankPart(
        rank=rank,
        world_size=world_size,
        host=host,
        steps=steps,
        judged_steps=steps,
        breakdown_ns={name: time * steps for name, time in times.items()},
        wait_ns=times["data_wait"] * steps,
        host_ns=(times["runtime"] + times["host"] + times["unattributed"] - round(allocator_ms * MS)) * steps,
        allocator_ns=round(allocator_ms * MS) * steps,
        communication_ns=times["communication"] * steps,
        exposed_communication_ns=times["communication"] * steps,
        idle_ns=None,
        calls=encoded(calls),
        step_times=histogram_of(np.full(steps, step_ns)),
        wait_times=histogram_of(np.full(steps, times["data_wait"])),
        peak_bytes=None,
        clock_offset_ns=clock_offset_ns,
        clock_uncertainty_ns=uncertainty_ns,
        step_durations_ns=[step_ns] * steps,
        first_step=0,
        first_judged_ns=START_NS + round(began_ms * MS),
    )


def training(
    ranks: int,
    steps: int = 6,
    late_ms: Mapping[int, float] | None = None,
    takes: str = "compute",
    jitter_ms: float = 0.0,
    seed: int = 0,
    offsets_ns: Mapping[int, int] | None = None,
    hosts: Sequence[str] | None = None,
    recorded: Sequence[int] | None = None,
    transfer_ms: float = TRANSFER_MS,
) -> list[RankPart]:
    """Ranks that work and then meet in an all_reduce, step after step.

    `late_ms`: how much longer a rank works, on what the breakdown calls `takes` (or the allocator, or nothing at all).
    `offsets_ns`: how far a rank's clock is behind.
    """
    late_ms, offsets_ns = late_ms or {}, offsets_ns or {}
    chance = np.random.default_rng(seed).normal(0, jitter_ms, (steps, ranks)).clip(-STEP_MS / 2) if jitter_ms else 0.0
    work: Floats = np.full((steps, ranks), float(STEP_MS)) + chance
    work += np.array([late_ms.get(rank, 0.0) for rank in range(ranks)])
    calls: list[list[Call]] = [[] for _ in range(ranks)]
    now = 0.0
    for step in range(steps):
        arrived = now + work[step]
        now = float(arrived.max()) + transfer_ms
        for rank in range(ranks):
            calls[rank].append(("all_reduce", step, -1, float(arrived[rank]), now))
    waited = work.max(axis=1, keepdims=True) - work
    parts = []
    for rank in recorded or range(ranks):
        more = late_ms.get(rank, 0.0)
        times = {
            "compute": float(work[:, rank].mean()) - more - 10,
            "data_wait": 2.0,
            "host": 8.0,
            "communication": transfer_ms + float(waited[:, rank].mean()),
        }
        held_up = {"allocator": "runtime"}.get(takes, takes)
        if held_up in CLASSES:
            times[held_up] = times.get(held_up, 0.0) + more
        parts.append(
            part(
                rank,
                calls_table(calls[rank], offset_ns=offsets_ns.get(rank, 0)),
                ranks,
                steps,
                host=hosts[rank] if hosts else "node",
                times_ms=times,
                allocator_ms=more if takes == "allocator" else 0.0,
            )
        )
    return parts
