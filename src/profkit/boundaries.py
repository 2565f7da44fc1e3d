"""Which of several signals ends a step."""

from __future__ import annotations

from collections.abc import Callable

from profkit.records import Step

MARKER, CALLBACK, OPTIMIZER, BATCH, EVALUATION = "marker", "callback", "optimizer", "batch", "evaluation"
PRECEDENCE = {EVALUATION: 0, BATCH: 1, OPTIMIZER: 2, CALLBACK: 3, MARKER: 4}


class Boundaries:
    """Counts steps by the highest source that speaks: explicit marker, framework's callback for a batch of training,
    optimizer, the loop's request for its next batch, framework's callback for a batch of evaluation.

    The first boundary of a lower source is held back until the next one, or the end: a marker that follows
    the optimizer within the first iteration then takes its place instead of ending a second step.
    """

    def __init__(self, start_ns: int) -> None:
        self.number = 0  # of the step under way
        self.source: str | None = None
        self._start_ns = start_ns
        self._held: Step | None = None

    def declare(self, source: str) -> str | None:
        """Count by `source` from here, unless by a higher one already. Returns what counted until now, if any."""
        before = self.source
        if before is not None and PRECEDENCE[source] <= PRECEDENCE[before]:
            return None
        self.source = source
        return before if self.number and self._held is None else None

    def offer(self, source: str, time_ns: int, own_ns: int) -> tuple[Step, ...]:
        """A boundary of `source`, declared before. Returns the steps now certain, oldest first."""
        if source != self.source:
            return ()
        held, self._held = self._held, None
        start_ns, self._start_ns = self._start_ns, time_ns
        if held is not None and held.source != source:
            return (Step(held.number, held.start_ns, time_ns, source, held.own_ns + own_ns),)
        step = Step(self.number, start_ns, time_ns, source, own_ns)
        self.number += 1
        if step.number == 0 and source != MARKER:
            self._held = step
            return ()
        return (step,) if held is None else (held, step)

    def release(self) -> tuple[Step, ...]:
        """The end: a step held back is a step."""
        held, self._held = self._held, None
        return () if held is None else (held,)


class Requests:
    """Ends of steps in a loop that says nothing but which batches it asks for.

    A step ends when the first loader that gave a batch is asked for the one after it; other loaders are evaluation.
    Where the first one is gone, because every pass makes its loader anew, the next one takes its place.
    """

    def __init__(self, is_gone: Callable[[int], bool]) -> None:
        self._is_gone = is_gone
        self._loader: int | None = None
        self._at_work = False  # on a batch that the loader gave

    def asked(self, loader: int) -> bool:
        """`loader` is asked for a batch. Returns whether that ends a step."""
        if loader != self._loader:
            return False
        ends, self._at_work = self._at_work, False
        return ends

    def answered(self, loader: int) -> None:
        """A batch of `loader` came."""
        if self._loader is None or (loader != self._loader and self._is_gone(self._loader)):
            self._loader = loader
        self._at_work = self._at_work or loader == self._loader
