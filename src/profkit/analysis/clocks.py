"""One clock for all ranks: measured while they ran, the same because they share a host, or read off their collectives.

No rank leaves a collective of `collectives.SYMMETRIC` before the last one has arrived, and all leave it together: the
differences of their ends are those of their clocks, up to what the transfer takes to reach one or the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from profkit.analysis.rankpart import RankPart

LEAST_ENDS = 3  # of collectives, that an offset is read off
HELD = (0.1, 0.9)  # quantiles of the differences, half of whose distance is the stated uncertainty


@dataclass(frozen=True, slots=True)
class Clock:
    """What to add to a rank's times, half the interval that holds it (None: unknown), and how it is known."""

    offset_ns: float
    uncertainty_ns: float | None
    source: str  # measured · collectives · same clock · none


SAME = Clock(0.0, 0.0, "same clock")
UNKNOWN = Clock(0.0, None, "none")


def clocks(parts: Sequence[RankPart], ends: pl.DataFrame) -> list[Clock]:
    """The clock of each rank, against that of the first one.

    `ends`: `rank` (its place among the parts), `call` and `end_ns` of symmetric collectives, on the ranks' own clocks.
    """
    reference = parts[0]
    known = {0: SAME}
    for place, part in enumerate(parts):
        if part.clock_uncertainty_ns is not None:
            known[place] = Clock(part.clock_offset_ns, part.clock_uncertainty_ns, "measured")
        elif part.host and part.host == reference.host:
            known[place] = SAME
    return _aligned(parts, ends, known) if len(known) < len(parts) else [known[place] for place in range(len(parts))]


def _aligned(parts: Sequence[RankPart], ends: pl.DataFrame, known: dict[int, Clock]) -> list[Clock]:
    """The known clocks, and others through the collectives their ranks share with ranks whose clock is known."""
    # Ranks of one host have one clock; of a rank without a host nothing is known.
    hosts = [part.host or f" {place}" for place, part in enumerate(parts)]
    number = {host: number for number, host in enumerate(dict.fromkeys(hosts))}
    zero = ends["end_ns"].min()
    ends = ends.with_columns(
        pl.col("rank").replace_strict(range(len(parts)), [number[host] for host in hosts]).alias("clock"),
        (pl.col("end_ns") - zero).cast(pl.Float64),
    )
    found: dict[int, Clock] = {}
    while True:
        offsets = {place: found.get(number[host], known.get(place)) for place, host in enumerate(hosts)}
        further = _offsets(ends, {place: clock.offset_ns for place, clock in offsets.items() if clock is not None})
        if not further:
            return [clock or UNKNOWN for clock in offsets.values()]
        found |= further


def _offsets(ends: pl.DataFrame, known_ns: dict[int, float]) -> dict[int, Clock]:
    """The clocks, by number, of ranks that share enough collectives with ranks whose offsets are known."""
    is_known = pl.col("rank").is_in(list(known_ns))
    right = (
        ends.filter(is_known)
        .with_columns(pl.col("end_ns") + pl.col("rank").replace_strict(known_ns, return_dtype=pl.Float64))
        .group_by("call")
        .agg(pl.median("end_ns").alias("right_ns"))
    )
    offset = pl.col("right_ns") - pl.col("end_ns")
    low, high = (offset.quantile(share, "linear") for share in HELD)
    found = (
        ends.filter(~is_known)
        .group_by("clock", "call")
        .agg(pl.median("end_ns"))
        .join(right, on="call")
        .group_by("clock")
        .agg(offset.median().alias("offset"), ((high - low) / 2).alias("uncertainty"), pl.len())
        .filter(pl.col("len") >= LEAST_ENDS)
    )
    return {
        clock: Clock(offset_ns, uncertainty_ns, "collectives") for clock, offset_ns, uncertainty_ns, _ in found.rows()
    }
