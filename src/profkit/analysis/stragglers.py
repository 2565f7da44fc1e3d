"""Which ranks the others wait for, why, and what to do about it.

All ranks leave a collective together, so whoever comes late to it has spent the time between on something of its own:
a straggler is a rank that waits least and arrives last. A rank is one if

- per step it waits at least LATE of the step less than the median of the other ranks,
- it costs the others more than the ranks do on average,
- and this is no chance: it is at least SURE standard errors over the steps, and more than the clocks' error.

Its cause is the part of its own time that exceeds the median of the ranks that keep step the most, if that explains at
least EXPLAINS of how much less it waits. On a device collectives queue up: behind one that waits, the next ones wait
for what they would not have had to begin with, so that waiting adds up to more than the lateness. There, a part
explains it that is LATE of the step, and EXPLAINS of all the rank does longer; and what its lateness costs is no more
than all that.

Ranks that keep step have no straggler among them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profkit.analysis.arrivals import Arrivals, added
from profkit.analysis.clocks import Clock
from profkit.analysis.rankpart import RankPart
from profkit.analysis.report import CollectiveRow, Finding, Ranks, Straggler
from profkit.units import duration, percent, size

Floats = npt.NDArray[np.float64]

LATE = 0.05  # of the step
LATE_UNEXPLAINED = 0.15  # of the step: without a cause, as jitter of a busy machine has none, more must be at stake
SURE = 4.0  # standard errors of the mean over the steps
EXPLAINS = 0.5  # of the lateness
COMMUNICATION_BOUND = 0.25  # of the step: exposed communication that is no waiting for a late rank

CAUSES = {
    "straggler_input": "the ranks wait for one whose input is slow",
    "straggler_compute": "the ranks wait for one that computes longer than the others",
    "straggler_host": "the ranks wait for one whose host takes longer to get the work going",
    "straggler_memory": "the ranks wait for one that copies, or allocates device memory, longer than the others",
    "straggler": "the ranks wait for one, and what was recorded does not say why it is late",
    "communication_bound": "exchanging data takes long, and nothing is computed meanwhile",
}


def stragglers(parts: Sequence[RankPart], known: Sequence[Clock], arrivals: Arrivals) -> list[Straggler]:
    """The ranks that the others wait for, the most costly first. Arrays are over the parts, as `known` is."""
    met = np.unique(arrivals.rank)
    if len(met) < 2:
        return []
    lateness, chance = _lateness(arrivals, met)
    steps = np.array([max(part.judged_steps, 1) for part in parts])
    costs = added(arrivals.rank, arrivals.cost, len(parts)) / steps
    calls = added(arrivals.rank, np.ones_like(arrivals.rank), len(parts))
    last = added(arrivals.rank, arrivals.is_last, len(parts))
    needed = np.maximum(LATE * _mean_step(parts), SURE * chance) + _clock_error(known, calls / steps)
    late = np.zeros(len(parts), np.bool_)
    late[met] = (lateness >= needed[met]) & (costs[met] > costs[met].mean())
    own, mean_step = _own_times(parts, known), _mean_step(parts)
    usual = {name: float(np.median(times[~late])) for name, times in own.items()}
    less = dict(zip(met.tolist(), lateness.tolist(), strict=True))
    found = [
        (
            less[place],
            _straggler(
                parts[place].rank,
                less[place],
                float(last[place] / calls[place]),
                float(costs[place]),
                {name: float(times[place]) - usual[name] for name, times in own.items()},
                LATE * mean_step if parts[place].idle_ns is not None else None,
            ),
        )
        for place in np.flatnonzero(late).tolist()
    ]
    needed_unexplained = LATE_UNEXPLAINED * mean_step
    matters = [one for waits_less, one in found if one.cause != "unexplained" or waits_less >= needed_unexplained]
    return sorted(matters, key=lambda one: (-one.costs_ns, one.rank))


def _lateness(arrivals: Arrivals, met: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Per step: how much less each rank waits than the median of the others, and the standard error of that."""
    steps, step = np.unique(arrivals.step, return_inverse=True)
    waited, calls = np.zeros((len(met), len(steps))), np.zeros((len(met), len(steps)))
    place = np.searchsorted(met, arrivals.rank), step
    np.add.at(waited, place, arrivals.exposed)
    np.add.at(calls, place, 1)
    of_all = (calls > 0).all(axis=0)
    waited = waited[:, of_all] if of_all.any() else waited
    less = _median_of_others(waited) - waited
    steps_seen = waited.shape[1]
    if steps_seen == 1:
        return less[:, 0], np.zeros(len(met))
    return less.mean(axis=1), less.std(axis=1, ddof=1) / np.sqrt(steps_seen)


def _median_of_others(values: Floats) -> Floats:
    """For each row the median of the other rows, column by column."""
    order = np.argsort(values, axis=0, kind="stable")
    ordered = np.take_along_axis(values, order, axis=0)
    place = np.argsort(order, axis=0, kind="stable")
    others = len(values) - 1
    middle = [np.full(values.shape, at) for at in ((others - 1) // 2, others // 2)]
    # Behind the row itself the others stand one place further on.
    low, high = (np.take_along_axis(ordered, at + (at >= place), axis=0) for at in middle)
    medians: Floats = (low + high) / 2
    return medians


def _mean_step(parts: Sequence[RankPart]) -> float:
    return sum(sum(part.breakdown_ns.values()) for part in parts) / max(sum(part.steps for part in parts), 1)


def _clock_error(known: Sequence[Clock], calls: Floats) -> Floats:
    """What the clocks may be wrong by, per step: each call may be off by a rank's own error and that of the others."""
    error = np.array([clock.uncertainty_ns or 0.0 for clock in known])
    wrong: Floats = calls * (error + np.median(error))
    return wrong


def _own_times(parts: Sequence[RankPart], known: Sequence[Clock]) -> dict[str, Floats]:
    """Per step, what each rank spends on something of its own. Waiting for others is in none of these.

    `before` is how late a rank came into its only step; with more steps, coming late into one is the step before.
    """
    rows = []
    for part in parts:
        times = part.breakdown_ns
        own = (part.wait_ns, times["compute"], part.host_ns, times["copy"] + part.allocator_ns)
        rows.append([time / max(part.steps, 1) for time in own])
    own_times = dict(zip(("input", "compute", "host", "memory"), np.array(rows, np.float64).T, strict=True))
    if all(part.steps == 1 for part in parts):
        begun = [(part.first_judged_ns or 0) + round(clock.offset_ns) for part, clock in zip(parts, known, strict=True)]
        own_times["before"] = np.array([each - min(begun) for each in begun], np.float64)
    return own_times


def _straggler(
    rank: int,
    lateness_ns: float,
    last_share: float,
    costs_ns: float,
    excess: dict[str, float],
    device_needs_ns: float | None,
) -> Straggler:
    """`device_needs_ns`: of a rank with a device, the excess from which a part may be the cause."""
    within = {name: time for name, time in excess.items() if name != "before"}
    longer = sum(max(time, 0.0) for time in within.values())
    cause = max(within, key=lambda name: within[name])
    needed = EXPLAINS * lateness_ns
    if device_needs_ns is not None:
        needed = min(needed, max(device_needs_ns, EXPLAINS * longer))
    explained = within[cause] >= needed
    return Straggler(
        rank=rank,
        cause=cause if explained else "unexplained",
        last_share=last_share,
        costs_ns=min(costs_ns, longer) if explained and device_needs_ns is not None else costs_ns,
        excess_ns=excess,
    )


@dataclass(frozen=True, slots=True)
class SlowInput:
    """What is known of the input of a late rank: its loader's name, and its own finding about it."""

    loader: str
    finding: Finding | None


def slowest_input(ranks: Ranks) -> int | None:
    """The rank that costs most of those that are late by their input."""
    return next((late.rank for late in ranks.stragglers if late.cause == "input"), None)


def findings_of_ranks(ranks: Ranks, slow_input: SlowInput | None) -> list[tuple[float, Finding]]:
    """What the comparison of ranks finds, each with what it costs per step. `slow_input` is that of `slowest_input`."""
    step_ns = sum(row.step_ns for row in ranks.rows) / len(ranks.rows)
    if not ranks.stragglers:
        return _communication_bound(ranks, step_ns)
    causes = dict.fromkeys(late.cause for late in ranks.stragglers)
    found = []
    for cause in causes:
        late = [one for one in ranks.stragglers if one.cause == cause]
        cost_ns = sum(one.costs_ns for one in late)
        if cost_ns >= LATE * step_ns:
            found.append(
                (cost_ns, _late(cause, late, cost_ns, step_ns, min(row.steps for row in ranks.rows), slow_input))
            )
    return found


def _late(
    cause: str, late: Sequence[Straggler], cost_ns: float, step_ns: float, steps: int, slow_input: SlowInput | None
) -> Finding:
    worst = late[0]
    names = _names([one.rank for one in late])
    many = len(late) > 1
    who = f"Ranks {names} are late" if many else f"Rank {names} is late"
    own = slow_input if cause == "input" else None
    reason, remedy = _because(cause, worst, many, own)
    finding = own.finding if own is not None else None
    return Finding(
        cause="straggler" if cause == "unexplained" else f"straggler_{cause}",
        message=f"{who}: the others wait {duration(cost_ns)} of each {duration(step_ns)} step for "
        f"{'them' if many else 'it'}. {reason}",
        remedy=remedy,
        evidence={
            **(finding.evidence if finding is not None else {}),
            "rank": worst.rank,
            "late_ranks": names,
            "costs_ns_per_step": round(cost_ns),
            "step_time_ns": round(step_ns),
            "last_share": round(worst.last_share, 4),
            **{f"excess_{name}_ns": round(time) for name, time in worst.excess_ns.items()},
            **({"loader": own.loader} if own is not None else {}),
        },
        predicted_speedup=round(step_ns / max(step_ns - cost_ns, 1.0), 2),
        confidence="low" if steps < 3 else "medium" if cause == "unexplained" or steps < 5 else "high",
    )


def _names(ranks: Sequence[int]) -> str:
    """`7`, `2 and 7`, `2, 6 and 7`; of many ranks the first."""
    shown = [str(rank) for rank in ranks[:SHOWN]]
    if len(ranks) > SHOWN:
        return f"{', '.join(shown)} and {len(ranks) - SHOWN:,} more"
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


SHOWN = 8  # ranks in a message


def _because(cause: str, worst: Straggler, many: bool, own: SlowInput | None) -> tuple[str, str]:
    """Why the rank is late, as a sentence, and what to do about it."""
    who = f"Rank {worst.rank}" if many else "It"
    if cause == "input":
        return _slow_input(worst, who, own)
    if cause == "unexplained":
        before = worst.excess_ns.get("before", 0.0)
        if before >= EXPLAINS * worst.costs_ns:
            came = f"{who} came {duration(before)} late into the only recorded step: what held it up lies before it."
            return came, "profkit.profile(schedule=profkit.schedule(active=5)): several steps say what holds it up."
        return f"Nothing that was recorded explains it: what it does takes {_most(worst)}.", _RECORD_STACKS
    what, remedy = _REASONS[cause]
    return f"{who} {what} {duration(worst.excess_ns[cause])} longer per step than the ranks that keep step.", remedy


def _most(worst: Straggler) -> str:
    within = {name: time for name, time in worst.excess_ns.items() if name != "before"}
    name = max(within, key=lambda each: within[each])
    return f"at most {duration(max(within[name], 0.0))} longer than it takes the others ({name})"


_RECORD_STACKS = "profkit.profile(hooks=[PyTorchHook(with_stack=True)]): that rank's Python frames say what it does."
_REASONS = {
    "compute": (
        "computes",
        "Give each rank the same work (samples, sequence lengths, padding); on its machine, "
        "`nvidia-smi -q -d CLOCK,TEMPERATURE,PERFORMANCE` shows a device that is throttled.",
    ),
    "host": (
        "keeps its host busy",
        "torchrun --numa-binding=node …: each rank keeps to cores near its device; `top` on its machine shows who "
        "else uses them.",
    ),
    "memory": (
        "copies and allocates",
        "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True, and no torch.cuda.empty_cache() in the loop: the allocator "
        "keeps what it has.",
    ),
}


def _slow_input(worst: Straggler, who: str, own: SlowInput | None) -> tuple[str, str]:
    """In the words of the rank's own finding, where it has one."""
    longer = duration(worst.excess_ns["input"])
    loader = own.loader if own is not None else "input"
    if own is None or own.finding is None:
        sentence = f"{who} waits {longer} longer per step for its {loader} than the ranks that keep step."
        return sentence, "Load the data in parallel with the step, or prefetch it."
    _, said = own.finding.message.split(": ", 1)
    place = "its" if who == "It" else f"rank {worst.rank}'s"
    return f"{place[0].upper()}{place[1:]} {loader} is slow: {said}", own.finding.remedy


def _communication_bound(ranks: Ranks, step_ns: float) -> list[tuple[float, Finding]]:
    """Exchanging data, without waiting for a rank that is late, while nothing is computed."""
    rows = ranks.rows
    cost_ns = sum(max(row.exposed_communication_ns - row.waiting_ns, 0.0) for row in rows) / len(rows)
    if cost_ns < COMMUNICATION_BOUND * step_ns or not ranks.collectives:
        return []
    largest = ranks.collectives[0]
    of_bytes = f" of {size(largest.bytes)}" if largest.bytes else ""
    finding = Finding(
        cause="communication_bound",
        message=f"Communication-bound: {percent(cost_ns / step_ns)} of each step exchanges data while nothing is "
        f"computed, {duration(cost_ns)} of {duration(step_ns)}, mostly {largest.name}{of_bytes}.",
        remedy=_less_communication(largest),
        evidence={
            "exposed_transfer_ns_per_step": round(cost_ns),
            "step_time_ns": round(step_ns),
            "collective": largest.name,
            "collective_bytes": largest.bytes,
            "collective_dtype": largest.dtype,
        },
        predicted_speedup=round(step_ns / (step_ns - cost_ns / 2), 2),  # half the bytes
        confidence="medium" if rows[0].steps >= 3 else "low",
    )
    return [(cost_ns, finding)]


def _less_communication(largest: CollectiveRow) -> str:
    if largest.name == "all_reduce":
        return (
            "model.register_comm_hook(None, torch.distributed.algorithms.ddp_comm_hooks.default_hooks"
            ".bf16_compress_hook) halves the bytes; `with model.no_sync():` around all but every n-th backward "
            "exchanges gradients less often."
        )
    return (
        "fully_shard(…, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.bfloat16)) "
        "halves the bytes; larger batches compute longer between exchanges."
    )
