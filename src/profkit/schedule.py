"""When to record: a pure function from the number of a step to what happens during it."""

from dataclasses import dataclass
from enum import Enum

from profkit.errors import UsageError


class Action(Enum):
    """What the hooks do during one step."""

    IDLE = "idle"
    WARM_UP = "warm up"
    RECORD = "record"


@dataclass(frozen=True, slots=True)
class Schedule:
    """Skip `skip_first` steps; then `repeat` times: `wait` idle, `warmup` warming up, `active` recorded.

    `repeat=0` goes on for ever. All counts are steps. Raises UsageError for counts that record nothing.
    """

    skip_first: int = 5
    wait: int = 0
    warmup: int = 2
    active: int = 5
    repeat: int = 1

    def __post_init__(self) -> None:
        for name in ("skip_first", "wait", "warmup", "repeat"):
            if getattr(self, name) < 0:
                raise UsageError(f"schedule: {name} is a number of steps, 0 or more; got {getattr(self, name)}")
        if self.active < 1:
            raise UsageError(f"schedule: active is the number of recorded steps, 1 or more; got {self.active}")

    @property
    def cycle(self) -> int:
        """Steps from one window's beginning to the next one's."""
        return self.wait + self.warmup + self.active

    def action(self, step: int) -> Action:
        """What happens during step number `step`, counted from 0."""
        cycle, within = divmod(step - self.skip_first, self.cycle)
        if step < self.skip_first or (self.repeat and cycle >= self.repeat) or within < self.wait:
            return Action.IDLE
        return Action.WARM_UP if within < self.wait + self.warmup else Action.RECORD

    def next_busy(self, step: int) -> int | None:
        """The first step from number `step` on that is not idle; None where all the rest is."""
        if step <= self.skip_first + self.wait:
            return self.skip_first + self.wait
        cycle, within = divmod(step - self.skip_first, self.cycle)
        busy = step if within >= self.wait else self.skip_first + cycle * self.cycle + self.wait
        return None if self.repeat and cycle >= self.repeat else busy

    def ends_window(self, step: int) -> bool:
        """Whether step number `step` is the last one of its window."""
        return self.action(step) is Action.RECORD and (step - self.skip_first) % self.cycle == self.cycle - 1

    @property
    def first_recorded(self) -> int:
        """Number of the first step that is recorded."""
        return self.skip_first + self.wait + self.warmup


def schedule(skip_first: int = 5, wait: int = 0, warmup: int = 2, active: int = 5, repeat: int = 1) -> Schedule:
    """Which steps to record, with the same words as torch.profiler.schedule; the default records 5 steps once."""
    return Schedule(skip_first, wait, warmup, active, repeat)
