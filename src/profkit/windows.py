"""Opens and closes the hooks' windows as the schedule says."""

from __future__ import annotations

from collections.abc import Sequence

from profkit.plugins import Hook
from profkit.recorder import Recorder
from profkit.schedule import Action, Schedule


class Windows:
    """Drives the hooks through the schedule, a step later for each step another profiler is in the way."""

    def __init__(self, schedule: Schedule, hooks: Sequence[Hook], recorder: Recorder) -> None:
        self._schedule = schedule
        self._hooks = hooks  # grows when a hook is attached later
        self._recorder = recorder
        self._postponed = 0
        self._opened = 0
        self._first: int | None = None  # first step of the open window
        self._busy_from = schedule.next_busy(0)  # nothing is to be done before this step

    def step_begins(self, number: int) -> bool:
        """Act for step `number`. Returns whether there was anything to do."""
        if self._busy_from is None or number < self._busy_from:
            return False  # the usual case, at every step of a training: one comparison
        busy = self._act(number)
        if self._first is None:
            following = self._schedule.next_busy(number + 1 - self._postponed)
            self._busy_from = None if following is None else following + self._postponed
        return busy

    def _act(self, number: int) -> bool:
        due = number - self._postponed
        closing = self._first is not None and self._schedule.ends_window(due - 1)
        if closing:
            self._close(number - 1)
        action = self._schedule.action(due)
        if self._first is not None:
            for hook in self._hooks:
                self._recorder.guard(hook.boundary, number)
        if action is Action.IDLE or self._first is not None:
            return closing
        if not self._prepared():
            self._postponed += 1
        elif action is Action.RECORD:
            self._open(number)
        return True

    def join(self, hook: Hook, number: int) -> None:
        """A hook attached during step `number` takes part in a window that is open already."""
        if self._first is not None and self._recorder.guard(hook.prepare_window):
            self._recorder.guard(hook.open_window, self._opened - 1, number)

    def finish(self, number: int) -> None:
        """The loop ended during step `number`, which does not count: close what is open, note what is missed."""
        if not self._hooks:
            self._recorder.note(
                "no framework was recorded: none had been imported when the run began; "
                "import it before, or name it, as in hooks=['pytorch']"
            )
        elif self._first is not None:
            last = self._first + self._schedule.active - 1
            if number:
                self._recorder.note(
                    f"the window was cut short: the loop ended after step {number - 1}, "
                    f"recording was to go on to step {last}"
                )
            self._close(max(number - 1, self._first))
        elif not self._opened:
            self._note_nothing_recorded(number)

    def _prepared(self) -> bool:
        # Every hook is asked; one that fails has been reported and is in nobody's way.
        answers = [self._recorder.guard(hook.prepare_window) for hook in self._hooks]
        return False not in answers

    def _open(self, number: int) -> None:
        self._first = number
        window, self._opened = self._opened, self._opened + 1
        for hook in self._hooks:
            self._recorder.guard(hook.open_window, window, number)

    def _close(self, last: int) -> None:
        self._first = None
        for hook in self._hooks:
            self._recorder.guard(hook.close_window, last)

    def _note_nothing_recorded(self, number: int) -> None:
        if self._postponed:
            self._recorder.note(
                "no window could be recorded: another profiler was active at each of the "
                f"{self._postponed} steps when recording was due"
            )
        elif number:
            self._recorder.note(
                f"the loop ended after {number} steps, but recording begins at step "
                f"{self._schedule.first_recorded}: lower skip_first, or pass "
                "schedule=profkit.schedule(skip_first=0, warmup=1)"
            )
