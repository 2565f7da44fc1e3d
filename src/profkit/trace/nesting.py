"""Depth, parents and self time of spans, and the repair of spans that overlap without nesting.

Everything works on whole columns; the only loop is over the few spans that need repair.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Clocks of a whole-microsecond file disagree by up to one count at each end; a larger overlap is real.
SNAP_NS = 1_000
ROUNDS = 64


@dataclass(frozen=True, slots=True)
class Nested:
    """Properly nested spans, sorted by (track, start, −duration).

    `order` gives each row's place in the input; `lanes` maps the tracks added for spans that overlap for real to
    the tracks they were on; `clipped` and `moved` count the repairs.
    """

    order: Ints
    track: Ints
    start: Ints
    end: Ints
    depth: Ints
    parent: Ints  # row, −1 where there is none
    lanes: dict[int, int]
    clipped: int
    moved: int

    @property
    def self_time(self) -> Ints:
        """Duration minus direct children, in nanoseconds."""
        duration = self.end - self.start
        inside = self.parent >= 0
        children = np.bincount(
            self.parent[inside], weights=duration[inside].astype(np.float64), minlength=len(duration)
        )
        return duration - children.astype(np.int64)

    @property
    def subtree_end(self) -> Ints:
        """For each row, the first row behind its descendants: they are contiguous in this order."""
        return subtree_end(self.track, self.start, self.end)


def nest(track: Ints, start: Ints, end: Ints, yields: Bools | None = None) -> Nested:
    """Sort and nest spans. Where two overlap without nesting, repair them.

    `yields` marks spans (a language's frames) that give way to the others: they are clipped however long the
    overlap is. Otherwise an overlap of at most SNAP_NS is clipped off the earlier or the later span, whichever
    loses less, and a span with a longer one moves to a lane of its own.
    """
    if yields is None:
        yields = np.zeros(len(start), np.bool_)
    order = sorted_order(track, start, end)
    track, start, end, yields = track[order].copy(), start[order].copy(), end[order].copy(), yields[order]
    lanes: dict[int, int] = {}
    clipped = moved = 0
    for _ in range(ROUNDS):
        depth, parent = depth_and_parent(track, start, end)
        broken = np.flatnonzero((parent >= 0) & (end > end[parent]))
        if not len(broken):
            break
        cut, away = _repair(broken, parent, track, start, end, yields, lanes)
        clipped, moved = clipped + cut, moved + away
        again = sorted_order(track, start, end)
        order, track, start, end, yields = order[again], track[again], start[again], end[again], yields[again]
    else:
        depth, parent = depth_and_parent(track, start, end)
        end, extra = _clip_into_parents(parent, end)
        clipped += extra
    return Nested(order, track, start, end, depth, parent, lanes, clipped, moved)


def sorted_order(track: Ints, start: Ints, end: Ints) -> Ints:
    """Rows by (track, start, −duration); equal ones keep their order, which is that of opening in every source."""
    begins, shortest_last = _on_one_axis(track, start, end)[0], start - end
    step = np.diff(begins)
    if ((step > 0) | ((step == 0) & (np.diff(shortest_last) >= 0))).all():
        return np.arange(len(start))  # after a repair it mostly still is, and looking is cheaper than sorting
    return np.lexsort((shortest_last, begins))


def depth_and_parent(track: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Depth, and row of the parent (−1: none), of sorted, properly nested spans. O(n log n), no loop.

    The depth of a span is the number of spans of its track begun before it and not ended at its start; its parent
    is the last earlier span one level up. Spans of no duration never enclose another.
    """
    count = len(start)
    if not count:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    rows = np.arange(count)
    begins, ends = _on_one_axis(track, start, end)
    encloses = end > start
    begun: Ints = np.cumsum(encloses) - encloses
    ended = np.searchsorted(np.sort(ends[encloses]), begins, side="right")
    depth = begun - ended
    narrow = np.int16 if int(depth.max()) < 2**15 else np.int32  # numpy sorts 16 bits by radix
    by_depth = np.argsort(depth.astype(narrow), kind="stable")
    key = depth[by_depth] * np.int64(count) + rows[by_depth]
    candidates = by_depth[encloses[by_depth]]
    candidate_key = key[encloses[by_depth]]
    at = np.searchsorted(candidate_key, key - count) - 1
    parent = np.full(count, -1, np.int64)
    if len(candidates):
        parent[by_depth] = np.where(depth[by_depth] > 0, candidates[np.maximum(at, 0)], -1)
    return depth, parent


def subtree_end(track: Ints, start: Ints, end: Ints) -> Ints:
    """For each row of sorted, nested spans, the first row that begins at or behind its end on its track."""
    begins, ends = _on_one_axis(track, start, end)
    return np.maximum(np.searchsorted(begins, ends, side="left"), np.arange(len(start)) + 1)


def _on_one_axis(track: Ints, start: Ints, end: Ints) -> tuple[Ints, Ints]:
    """Starts and ends with every track shifted into a stretch of its own, so that one sort serves all tracks."""
    if not len(start):
        return start, end
    low, high = int(start.min()), int(end.max())
    if (high - low + 2) * (int(track.max()) + 1) >= 2**62:  # absurd times: their ranks keep the order
        _, ranks = np.unique(np.concatenate((start, end)), return_inverse=True)
        start, end = ranks[: len(start)], ranks[len(start) :]
        low, high = 0, len(ranks)
    offset = track * np.int64(high - low + 2) - low
    return start + offset, end + offset


def _repair(
    broken: Ints, parent: Ints, track: Ints, start: Ints, end: Ints, yields: Bools, lanes: dict[int, int]
) -> tuple[int, int]:
    """Repair in place the spans that outlive the one they began in; returns how many were clipped and moved."""
    clipped = moved = 0
    next_lane = int(track.max()) + 1
    lane_of = {origin: lane for lane, origin in lanes.items()}
    home = track.copy()
    for later in broken.tolist():
        earlier = parent[later]
        while earlier >= 0 and start[later] < end[earlier] < end[later]:
            overlap, overhang = end[earlier] - start[later], end[later] - end[earlier]
            if yields[earlier] and not yields[later]:
                end[earlier] = start[later]
            elif yields[later] and not yields[earlier]:
                _clip_with_descendants(later, int(end[earlier]), home, start, end, yields)
            elif min(overlap, overhang) <= SNAP_NS or yields[later]:
                if overlap <= overhang:
                    end[earlier] = start[later]
                else:
                    end[later] = end[earlier]
            else:
                origin = int(track[later])
                if origin not in lane_of:
                    lane_of[origin], lanes[next_lane] = next_lane, origin
                    next_lane += 1
                track[later] = lane_of[origin]
                moved += 1
                break
            clipped += 1
            earlier = parent[earlier]
    return clipped, moved


def _clip_with_descendants(row: int, limit: int, track: Ints, start: Ints, end: Ints, yields: Bools) -> None:
    """End a giving-way span, and those begun inside it, at `limit`; what begins behind stays as it is."""
    last_of_track = int(np.searchsorted(track, track[row], side="right"))
    stop = row + int(np.searchsorted(start[row:last_of_track], limit, side="left"))
    open_at_limit = np.arange(row, stop)[(end[row:stop] > limit) & yields[row:stop]]
    end[open_at_limit] = limit


def _clip_into_parents(parent: Ints, end: Ints) -> tuple[Ints, int]:
    """The last resort: no span outlives its parent. Rows come parents first, so one pass by depth is enough."""
    before = end.copy()
    for _ in range(ROUNDS):
        limit = np.where(parent >= 0, end[parent], end)
        if (end <= limit).all():
            break
        end = np.minimum(end, limit)
    return end, int((before != end).sum())
