"""All ranks of a training beside each other: who waits for whom, what communication costs, and which rank is missing.

docs/ranks.md has the definition of each number. Parts may come in any order and give the same answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from profkit.analysis.arrivals import Meeting, added, meeting
from profkit.analysis.clocks import Clock
from profkit.analysis.loghistogram import merged
from profkit.analysis.rankpart import RankPart
from profkit.analysis.report import CollectiveRow, RankRow, Ranks, StepTime
from profkit.analysis.stragglers import stragglers


def compare(parts: Iterable[RankPart]) -> Ranks:
    """The ranks beside each other. Raises ValueError where there is none, or one is there twice."""
    parts = sorted(parts, key=lambda part: part.rank)
    ranks = [part.rank for part in parts]
    if not parts or len(set(ranks)) < len(ranks):
        raise ValueError(f"each rank has one part, and there is at least one; got those of ranks {ranks}")
    world_size = max(*(part.world_size for part in parts), ranks[-1] + 1)
    met = meeting(parts)
    rows = _rows(parts, met)
    times = merged(part.step_times for part in parts)
    skew = met.arrivals.late[met.arrivals.is_last]
    uncertainties = [row.clock_uncertainty_ns for row in rows]
    return Ranks(
        world_size=world_size,
        missing=sorted(set(range(world_size)) - set(ranks)),
        rows=rows,
        collectives=_collectives(met),
        stragglers=stragglers(parts, met.clocks, met.arrivals),
        step_time_ns=StepTime(times.mean, times.quantile(0.5), times.quantile(0.95), times.max)
        if times.count
        else None,
        imbalance=_imbalance(rows),
        skew_ns=float(skew.mean()) if len(skew) else None,
        clock_uncertainty_ns=None if None in uncertainties else max(filter(None, uncertainties), default=0.0),
        notes=_notes(world_size, parts, rows, met),
    )


def _rows(parts: Sequence[RankPart], met: Meeting) -> list[RankRow]:
    arrivals = met.arrivals
    each = (np.ones(len(arrivals.rank)), arrivals.exposed, arrivals.transfer, arrivals.late, arrivals.is_last)
    calls, waiting, transfer, late, last = (added(arrivals.rank, values, len(parts)) for values in each)
    return [
        _row(part, clock, *map(float, figures))
        for part, clock, *figures in zip(parts, met.clocks, calls, waiting, transfer, late, last, strict=True)
    ]


def _row(
    part: RankPart, clock: Clock, calls: float, waiting: float, transfer: float, late: float, last: float
) -> RankRow:
    steps, judged = max(part.steps, 1), max(part.judged_steps, 1)
    communication = part.communication_ns
    return RankRow(
        rank=part.rank,
        host=part.host,
        steps=part.steps,
        step_ns=sum(part.breakdown_ns.values()) / steps,
        wait_ns=part.wait_ns / steps,
        breakdown_ns={name: time / steps for name, time in part.breakdown_ns.items()},
        communication_ns=communication / steps,
        exposed_communication_ns=part.exposed_communication_ns / steps,
        overlap=1 - part.exposed_communication_ns / communication if communication else None,
        idle_ns=None if part.idle_ns is None else part.idle_ns / steps,
        collectives=round(calls / judged),
        transfer_ns=transfer / judged,
        waiting_ns=waiting / judged,
        late_ns=late / calls if calls else 0.0,
        last_share=last / calls if calls else 0.0,
        peak_bytes=part.peak_bytes,
        clock_offset_ns=clock.offset_ns,
        clock_uncertainty_ns=clock.uncertainty_ns,
        clock_source=clock.source,
        step_durations_ns=part.step_durations_ns,
        first_step=part.first_step,
    )


def _collectives(met: Meeting) -> list[CollectiveRow]:
    """One row per operation and group, the one that takes the most time first."""
    arrivals = met.arrivals
    count = len(met.labels)
    of_call = arrivals.label[arrivals.begins]
    known = arrivals.bytes >= 0
    pairs, transfer, waiting = (
        added(arrivals.label, values, count) for values in (np.ones_like(arrivals.rank), arrivals.after, arrivals.ahead)
    )
    calls, skew = (added(of_call, values, count) for values in (np.ones_like(of_call), arrivals.late[arrivals.is_last]))
    with_bytes, total_bytes = (
        added(arrivals.label[known], values[known], count) for values in (np.ones_like(arrivals.rank), arrivals.bytes)
    )
    most = np.zeros(count, np.int64)
    np.maximum.at(most, of_call, arrivals.size)
    rows = [
        CollectiveRow(
            name=operation,
            group=group,
            ranks=met.facts[operation, group][1] or int(most[label]),
            calls=int(calls[label]),
            dtype=met.facts[operation, group][0],
            bytes=float(total_bytes[label] / with_bytes[label]) if with_bytes[label] else None,
            transfer_ns=float(transfer[label] / pairs[label]),
            waiting_ns=float(waiting[label] / pairs[label]),
            skew_ns=float(skew[label] / calls[label]),
        )
        for label, (operation, group) in enumerate(met.labels)
        if calls[label]
    ]
    return sorted(rows, key=lambda row: (-row.calls * (row.transfer_ns + row.waiting_ns), row.name, row.group))


def _imbalance(rows: Sequence[RankRow]) -> float | None:
    compute = [row.breakdown_ns["compute"] for row in rows]
    mean = sum(compute) / len(compute)
    return max(compute) / mean - 1 if mean else None


def _notes(world_size: int, parts: Sequence[RankPart], rows: Sequence[RankRow], met: Meeting) -> list[str]:
    """What was not recorded, and what that leaves open."""
    notes = []
    absent = world_size - len(parts)
    if absent:
        notes.append(f"{absent} of {world_size} ranks were not recorded: waiting for them is not told from transfer.")
    if not len(met.arrivals.rank):
        notes.append("No collective was recorded on two ranks, so nobody can say which rank the others wait for.")
    if met.unmatched:
        notes.append(f"{met.unmatched:,} collective calls could not be matched with those of other ranks.")
    unknown = [row.rank for row in rows if row.clock_source == "none"]
    if unknown:
        ranks = ", ".join(map(str, unknown[:8])) + (", …" if len(unknown) > 8 else "")
        notes.append(f"The clocks of ranks {ranks} are not known, so that their collectives are not compared.")
    return notes
