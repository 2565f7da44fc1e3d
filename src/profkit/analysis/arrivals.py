"""Who arrives when at each collective, how long the others wait for it, and what that costs.

All as arrays over the pairs of a call and a rank that takes part in it: a thousand ranks with a thousand calls each
are a million of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.clocks import Clock, clocks
from profkit.analysis.collectives import SYMMETRIC
from profkit.analysis.rankpart import NUMBERS, RankPart

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]

KEY = ("label", "within", "number")  # of one call on all ranks: operation and group, step, number within it
SLACK_NS = 100_000  # two ranks' spans of one call may miss each other by so much, besides their clocks' error


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Matched calls, the ranks of one beside each other in order of arrival. Times in nanoseconds, on one clock.

    `waiting` is from a rank's arrival to the last one's, at most to its own end; where calls of a rank go on side by
    side, each instant counts in one of them. `transfer` is the rest. `exposed` is the waiting behind which nothing is
    computed: it alone makes the step longer. `cost` is what the other ranks of the call wait
    because of this one, the mean over them: of each instant of waiting all ranks that have not arrived bear an equal
    part, as the Shapley value divides it, so that the costs of a call add up to its exposed waiting.
    """

    rank: Ints  # its place among the parts
    label: Ints  # number of the operation and group
    step: Ints
    bytes: Ints
    begins: Ints  # where each call begins
    late: Ints  # behind the first to arrive
    ahead: Ints  # of the last to arrive
    after: Ints  # the last one's arrival, until its own end
    waiting: Ints
    exposed: Ints
    transfer: Ints
    cost: Floats
    is_last: Bools

    @property
    def size(self) -> Ints:
        """Ranks in each call."""
        return np.diff(self.begins, append=len(self.rank))


@dataclass(frozen=True, slots=True)
class Meeting:
    """What the ranks' collectives say when they are laid beside each other."""

    arrivals: Arrivals
    clocks: list[Clock]
    labels: list[tuple[str, str]]  # operation and group
    facts: dict[tuple[str, str], tuple[str | None, int | None]]  # their dtype and the group's size
    unmatched: int  # calls of which no counterpart is certain


def meeting(parts: Sequence[RankPart]) -> Meeting:
    """Match the calls of all ranks, put them on one clock, and see who waits for whom. `parts` are sorted by rank."""
    labels: dict[tuple[str, str], int] = {}
    facts: dict[tuple[str, str], tuple[str | None, int | None]] = {}
    for part in parts:
        for label in part.calls.labels:
            key = (label.operation, label.group)
            labels.setdefault(key, len(labels))
            facts.setdefault(key, (label.dtype, label.size))
    calls = pl.concat([_calls_of(place, part, labels) for place, part in enumerate(parts)])
    matched = _matched(calls)
    symmetric = [number for (operation, _), number in labels.items() if operation in SYMMETRIC]
    known = clocks(parts, matched.filter(pl.col("label").is_in(symmetric)).select("rank", "call", "end_ns"))
    on_one_clock = _on_one_clock(matched, known)
    met = _met(on_one_clock, symmetric, 2 * max((clock.uncertainty_ns or 0.0 for clock in known), default=0.0))
    return Meeting(_arrivals(met), known, list(labels), facts, calls.height - met.height)


def _calls_of(place: int, part: RankPart, labels: dict[tuple[str, str], int]) -> pl.DataFrame:
    number = np.array([labels[label.operation, label.group] for label in part.calls.labels], np.int64)
    return pl.DataFrame(
        {
            "rank": pl.Series(np.full(len(part.calls.array("label")), place, np.int64)),
            "label": number[part.calls.array("label")] if len(number) else np.zeros(0, np.int64),
            **{name: part.calls.array(name) for name in NUMBERS},
        }
    )


def _matched(calls: pl.DataFrame) -> pl.DataFrame:
    """The calls of at least two ranks, each with the number of its `call`.

    Where ranks made different numbers of one operation in a step, a place in the step tells nothing.
    """
    by_place = pl.col("number") < 0
    calls = calls.with_columns(pl.when(by_place).then("step").otherwise(0).alias("within"))
    made = calls.filter(by_place).group_by("label", "step", "rank").len()
    uneven = made.group_by("label", "step").agg(pl.n_unique("len")).filter(pl.col("len") > 1)
    certain = pl.concat(
        [calls.filter(~by_place), calls.filter(by_place).join(uneven, on=["label", "step"], how="anti")]
    )
    shared = certain.filter(pl.len().over(KEY) > 1)
    return shared.sort(*KEY, "rank").with_columns(pl.struct(KEY).rle_id().alias("call"))


def _on_one_clock(calls: pl.DataFrame, known: Sequence[Clock]) -> pl.DataFrame:
    """The calls of the ranks whose clocks are known, on the clock of the first."""
    offsets = np.array([round(clock.offset_ns) for clock in known], np.int64)
    is_known = np.array([clock.source != "none" for clock in known], np.bool_)
    place = calls["rank"].to_numpy()
    added = pl.Series(offsets[place])
    return calls.with_columns(pl.col("start_ns") + added, pl.col("end_ns") + added).filter(pl.Series(is_known[place]))


def _met(calls: pl.DataFrame, symmetric: list[int], error_ns: float) -> pl.DataFrame:
    """Calls in which the ranks were together: in a symmetric one nobody ends before the last one has begun."""
    apart = pl.max("start_ns").over("call") - pl.min("end_ns").over("call") > SLACK_NS + error_ns
    met = calls.filter(~(apart & pl.col("label").is_in(symmetric)))
    return met.filter(pl.len().over("call") > 1).sort("call", "start_ns", "rank")


def _arrivals(calls: pl.DataFrame) -> Arrivals:
    rank, call, start, end = (calls[name].to_numpy() for name in ("rank", "call", "start_ns", "end_ns"))
    begins = np.flatnonzero(np.diff(call, prepend=-1))
    size = np.diff(begins, append=len(call))
    ends = begins + size - 1
    first, last = np.repeat(start[begins], size), np.repeat(start[ends], size)
    waiting = _once(rank, start, np.clip(last, start, end))
    exposed = np.minimum(waiting, calls["exposed_ns"].to_numpy())
    return Arrivals(
        rank=rank,
        label=calls["label"].to_numpy(),
        step=calls["step"].to_numpy(),
        bytes=calls["bytes"].to_numpy(),
        begins=begins,
        late=start - first,
        ahead=last - start,
        after=np.maximum(end - last, 0),
        waiting=waiting,
        exposed=exposed,
        transfer=_once(rank, start, end) - waiting,
        cost=_costs(start, begins, size, exposed),
        is_last=np.isin(np.arange(len(call)), ends),
    )


def _once(rank: Ints, start: Ints, end: Ints) -> Ints:
    """Of each [start, end) the part that no interval of the same rank has which begins before it."""
    order = np.lexsort((start, rank))
    if not len(order):
        return np.zeros(0, np.int64)
    low = start.min()
    apart = np.int64(end.max() - low + 1) * rank[order]  # so that the intervals of all ranks make one sequence
    begin, reach = start[order] - low + apart, end[order] - low + apart
    before = np.concatenate(([0], np.maximum.accumulate(reach)[:-1]))
    own = np.zeros(len(order), np.int64)
    own[order] = np.maximum(reach - np.maximum(begin, before), 0)
    return own


def _costs(start: Ints, begins: Ints, size: Ints, waiting: Ints) -> Floats:
    """What each arrival costs the others of its call, the mean over them, so that all costs are all waiting."""
    if not len(start):
        return np.zeros(0)
    many = np.repeat(size, size)
    arrived = np.arange(len(start)) - np.repeat(begins, size)  # how many were there before
    gap = np.diff(start, prepend=start[0])
    gap[begins] = 0
    borne = (
        gap * arrived / (many - arrived)
    )  # of each instant since the arrival before: its waiting over who is missing
    total = np.cumsum(borne)
    raw = total - np.repeat(total[begins], size)
    claimed, waited = np.add.reduceat(raw, begins), np.add.reduceat(waiting, begins)
    costs: Floats = raw * np.repeat(waited / np.maximum(claimed, 1), size) / (many - 1)
    return costs


def added(places: Ints, values: npt.NDArray[Any], count: int) -> Floats:
    """Sums of the values by place, of which there are `count`."""
    sums = np.zeros(count)
    np.add.at(sums, places, values)
    return sums
