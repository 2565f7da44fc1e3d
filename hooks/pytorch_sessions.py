"""Who else uses PyTorch's profiler.

torch has one profiler per process and does not arbitrate: where two sessions overlap the outer one is lost, and
stopping or exporting it ends the process with SIGSEGV (torch 2.13). So ours never overlaps: it is postponed while
another one is prepared or records, and closed before another one begins.
"""

from __future__ import annotations

import functools
import gc
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

import torch.autograd.profiler as autograd_profiler
from torch._C._autograd import _profiler_enabled
from torch.autograd.profiler import profile as Session
from torch.profiler.profiler import _KinetoProfile

from profkit.recorder import Recorder

Method = Callable[..., Any]

WATCHED = ("_prepare_trace", "__exit__")  # where a session begins to occupy the profiler, and where it ends


class OtherSessions:
    """The sessions of torch's profiler that are not ours, from their preparation to their end."""

    def __init__(self, recorder: Recorder, before_another: Callable[[], None]) -> None:
        """`before_another` is called before a session that is not ours begins. Raises LookupError where torch's
        class does not look as expected."""
        self._recorder = recorder
        self._before_another = before_another
        self._ours = False
        self._others = WeakSet(_sessions_under_way())
        self._originals = {name: _method(name) for name in WATCHED}
        for name, watch in zip(WATCHED, (self._watched_prepare, self._watched_exit), strict=True):
            setattr(Session, name, watch(self._originals[name]))

    def stop(self) -> None:
        """Watch no longer."""
        for name, original in self._originals.items():
            setattr(Session, name, original)

    def any(self) -> bool:
        """Whether another session is prepared or records, in any thread. Asked while ours does not record."""
        return bool(self._others) or autograd_profiler._is_profiler_enabled or _profiler_enabled()

    def prepare(self, profiler: _KinetoProfile) -> None:
        """Let `profiler`, which is ours, warm up."""
        self._ours = True
        try:
            profiler.prepare_trace()
        finally:
            self._ours = False

    def _watched_prepare(self, original: Method) -> Method:
        @functools.wraps(original)
        def _prepare_trace(session: Session) -> Any:
            self._recorder.guard(self._begins, session)
            return original(session)

        return _prepare_trace

    def _watched_exit(self, original: Method) -> Method:
        @functools.wraps(original)
        def __exit__(session: Session, *error: Any) -> Any:
            self._recorder.guard(self._others.discard, session)
            return original(session, *error)

        return __exit__

    def _begins(self, session: Session) -> None:
        if not self._ours:
            self._others.add(session)
            self._before_another()


def _sessions_under_way() -> list[Session]:
    """Sessions prepared before we watch; torch itself knows only of those that record already."""
    return [
        session
        for session in gc.get_objects()
        if type(session) is Session and session.entered and session.kineto_results is None
    ]


def _method(name: str) -> Method:
    if name not in vars(Session):
        raise LookupError(f"torch.autograd.profiler.profile has no {name}")
    return vars(Session)[name]  # type: ignore[no-any-return]  # a class's namespace holds anything
