"""One clock: nanoseconds since the Unix epoch, monotonic within a process.

A process reads the wall clock once, at its anchor, and the monotonic clock from then on, so that a correction
of the wall clock during a run bends no duration.
"""

import time
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True, slots=True)
class Clock:
    """Unix nanoseconds from the monotonic clock. Calling it gives now."""

    offset_ns: int

    @classmethod
    def anchored_now(cls) -> Self:
        """Tie the monotonic clock to the wall clock, taking the tightest of a few readings."""
        readings = []
        for _ in range(5):
            before = time.perf_counter_ns()
            wall = time.time_ns()
            after = time.perf_counter_ns()
            readings.append((after - before, wall - (before + after) // 2))
        return cls(min(readings)[1])

    def __call__(self) -> int:
        return time.perf_counter_ns() + self.offset_ns
