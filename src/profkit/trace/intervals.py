"""Sets of instants as sorted, disjoint intervals of integer nanoseconds: union and coverage."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Disjoint half-open intervals [start, end), sorted."""

    start: Ints
    end: Ints

    @classmethod
    def union(cls, start: Ints, end: Ints) -> Intervals:
        """Every instant that at least one of the given intervals holds."""
        keep = end > start
        start, end = start[keep], end[keep]
        if not len(start):
            return EMPTY
        order = np.argsort(start, kind="stable")
        start, reach = start[order], np.maximum.accumulate(end[order])
        opens = np.concatenate(([True], start[1:] > reach[:-1]))
        return cls(start[opens], np.append(reach[:-1][opens[1:]], reach[-1]))

    def __len__(self) -> int:
        return len(self.start)

    def __or__(self, other: Intervals) -> Intervals:
        return Intervals.union(np.concatenate((self.start, other.start)), np.concatenate((self.end, other.end)))

    def covered(self, start: Ints, end: Ints) -> Ints:
        """How much of each [start, end) these intervals hold, in nanoseconds. O(log n) each."""
        return self._before(end) - self._before(start)

    def _before(self, time: Ints) -> Ints:
        if not len(self.start):
            return np.zeros(len(time), np.int64)
        total = np.concatenate(([0], np.cumsum(self.end - self.start)))
        at = np.searchsorted(self.start, time, side="right")
        into_last = np.where(at > 0, np.maximum(self.end[np.maximum(at - 1, 0)] - time, 0), 0)
        return total[at] - into_last

    @property
    def total(self) -> int:
        """Sum of the lengths, in nanoseconds."""
        return int((self.end - self.start).sum())


EMPTY = Intervals(np.zeros(0, np.int64), np.zeros(0, np.int64))
