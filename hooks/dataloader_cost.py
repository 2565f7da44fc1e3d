"""What looking into a loader may cost, and when it is given up."""

from __future__ import annotations

from statistics import median

BUDGET_NS, BUDGET_SHARE = 200_000, 0.02  # of a batch: the larger of the two, twice what it usually is at most
JUDGED = 64  # batches


class OwnCost:
    """profkit's own time for each batch, judged by its median: a moment in which others had the core is none."""

    __slots__ = ("_of_ns", "_own_ns")

    def __init__(self) -> None:
        self._own_ns: list[int] = []
        self._of_ns = 0

    def add(self, own_ns: int, of_ns: int) -> None:
        """A batch that took `of_ns`, and profkit `own_ns` for it."""
        self._own_ns.append(own_ns)
        self._of_ns += of_ns

    def is_due(self) -> bool:
        """Whether enough batches were seen to judge them."""
        return len(self._own_ns) >= JUDGED

    def too_much_ns(self) -> float:
        """What the batches since the last judgement cost each, where that is too much; 0 where it is not."""
        own_ns, of_ns = median(self._own_ns), self._of_ns / len(self._own_ns)
        self._own_ns, self._of_ns = [], 0
        return own_ns if own_ns > max(BUDGET_NS, BUDGET_SHARE * of_ns) else 0.0
