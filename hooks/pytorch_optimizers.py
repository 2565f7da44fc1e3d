"""Ends of steps, seen from PyTorch's optimizers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from weakref import WeakKeyDictionary, ref

from torch.amp.grad_scaler import GradScaler
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

from profkit.boundaries import OPTIMIZER
from profkit.recorder import Recorder

ADOPT_AFTER = 20  # steps of another optimizer since the chosen one stepped last


class OptimizerBoundaries:
    """A step ends when the first optimizer seen has stepped, or when a GradScaler has skipped its step.

    Another one takes its place when it is gone, or has not stepped for long while the other one has.
    """

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._chosen: Callable[[], Optimizer | None] = _none
        self._steps_of_others: WeakKeyDictionary[Optimizer, int] = WeakKeyDictionary()
        self._calls = 0
        with ExitStack() as starting:
            starting.callback(register_optimizer_step_post_hook(self._after_step).remove)
            original = GradScaler.step
            GradScaler.step = self._watched(original)  # type: ignore[method-assign]
            starting.callback(setattr, GradScaler, "step", original)
            self._stack = starting.pop_all()

    def stop(self) -> None:
        """Watch no longer."""
        self._stack.close()

    def _watched(self, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def step(scaler: GradScaler, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
            calls = self._calls
            result = original(scaler, optimizer, *args, **kwargs)
            if self._calls == calls:  # it found infinite gradients and skipped the optimizer
                self._recorder.guard(self._stepped, optimizer)
            return result

        return step

    def _after_step(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if not self._recorder.is_traced():
            self._recorder.guard(self._stepped, optimizer)

    def _stepped(self, optimizer: Optimizer) -> None:
        self._calls += 1
        if not self._recorder.in_training_thread() or self._counts(optimizer):
            self._recorder.boundary(OPTIMIZER)

    def _counts(self, optimizer: Optimizer) -> bool:
        """Whether it is the chosen one, or takes its place now."""
        chosen = self._chosen()
        if optimizer is not chosen:
            count = self._steps_of_others.get(optimizer, 0) + 1
            self._steps_of_others[optimizer] = count
            if chosen is not None and count < ADOPT_AFTER:
                return False
            self._chosen = ref(optimizer)
        if self._steps_of_others:
            self._steps_of_others.clear()
        return True


def _none() -> None:
    """Refers to no optimizer yet."""
