"""The run of this process, where there is one."""

from __future__ import annotations

import functools
import os
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from profkit.run import profile

# One slot for the process and not a ContextVar: the framework's profiler and the patches of its classes are the
# process's, and a step or an annotation may come from a thread that was started before the run.
_run: profile | None = None
starting = threading.Lock()  # held while a run begins


def current() -> profile | None:
    """The active run."""
    return _run


def listening() -> profile | None:
    """The active run, unless a compiler traces the caller: what it saw would become part of the training."""
    run = _run
    return None if run is None or run._recorder.is_traced() else run


def activate(run: profile) -> None:
    """From here on steps and annotations belong to `run`. The caller holds `starting`."""
    global _run
    _watch_forks()
    _run = run


def deactivate() -> None:
    """There is no run any more."""
    global _run
    _run = None


@functools.cache
def _watch_forks() -> None:
    """Once per process, since it cannot be undone."""
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    """A forked child has no run: it neither appends to its parent's file nor holds its pipe open."""
    run = _run
    deactivate()
    if run is not None:
        run._forget()
