"""What a mean hides: waits that come again every so many steps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from profkit.analysis.report import Period

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LONGEST = 64  # steps
LEAST_ROUNDS = 4  # how often a period must have been seen
EXPLAINED = 0.5  # of the variance of the waits, beyond what as many free means explain by chance
NEARLY_BEST = 0.95  # of the best period's; multiples of the true one explain as much, and a little more
STANDS_OUT = 2.0  # the longest wait of a period over the mean of its others


def period(wait_ns: Floats, position: Ints) -> Period | None:
    """The period of the waits, or None: `position[i]` counts step i's batch within its pass over the input.

    For each length the waits are folded, and the means of the places taken: a one-way analysis of variance, whose
    explained share (adjusted R²) must reach EXPLAINED. The shortest length that explains nearly as much as any counts.
    """
    longest = min(LONGEST, len(wait_ns) // LEAST_ROUNDS)
    lengths = range(2, longest + 1)
    explained = np.array([_explained(wait_ns, position % length, length) for length in lengths])
    if not len(explained) or explained.max() < EXPLAINED:
        return None
    length = lengths[int(np.argmax(explained >= NEARLY_BEST * explained.max()))]
    means = _means(wait_ns, position % length, length)
    long_ns, others_ns = float(means.max()), float(np.delete(means, means.argmax()).mean())
    if long_ns < STANDS_OUT * others_ns:
        return None
    return Period(steps=length, long_ns=long_ns, others_ns=others_ns, explained=float(explained[length - 2]))


def _explained(wait_ns: Floats, place: Ints, length: int) -> float:
    """Adjusted R² of the means of the places; 0 where a place was never seen or nothing varies."""
    count = np.bincount(place, minlength=length)
    total = float(((wait_ns - wait_ns.mean()) ** 2).sum())
    if not count.all() or not total or len(wait_ns) <= length:
        return 0.0
    within = float(((wait_ns - _means(wait_ns, place, length)[place]) ** 2).sum())
    return 1.0 - (within / (len(wait_ns) - length)) / (total / (len(wait_ns) - 1))


def _means(wait_ns: Floats, place: Ints, length: int) -> Floats:
    means: Floats = np.bincount(place, wait_ns, length) / np.bincount(place, minlength=length)
    return means
