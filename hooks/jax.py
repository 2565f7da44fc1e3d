"""JAX: jax.profiler in the recorded windows.

JAX has neither loaders nor a notion of a step: put the input into `run.loader(...)`, and a step ends when the loop asks
for its next batch, or where the program says so (`@profkit.step`). Calls of compiled functions return before their work
is done; on a step's own clock that work counts where the program waits for it.
"""

from __future__ import annotations

import jax
from jax._src import profiler as session
from jax._src.core import trace_state_clean
from jax._src.xla_bridge import backends_are_initialized
from jax.profiler import ProfileOptions, StepTraceAnnotation, TraceAnnotation

from profkit.recorder import Recorder, either
from profkit.records import Framework

from .xplane_windows import STEP_NAME, XPlaneWindow, named

NAME = "jax"


class JaxHook:
    """Records windows with jax.profiler; the options are those of its ProfileOptions."""

    def __init__(self, *, host_tracer_level: int = 2, python_tracer_level: int = 0) -> None:
        self._options = {"host_tracer_level": host_tracer_level, "python_tracer_level": python_tracer_level}
        self._window: XPlaneWindow | None = None
        self._said = False

    def start(self, recorder: Recorder) -> None:
        """Learn what there is to record."""
        self._recorder = recorder
        recorder.is_traced = either(recorder.is_traced, _is_traced)
        self._say_what_is_used()

    def boundary(self, number: int) -> None:
        """A range with the step's number begins, by which other tools find the steps."""
        if self._window is not None:
            self._window.enter_step(number)

    def prepare_window(self) -> bool:
        """False while another session of JAX's profiler records."""
        if self._window is None and backends_are_initialized() and _session_is_active():
            self._recorder.note("another profiler session is active: the window is postponed until it ends")
            return False
        return True

    def open_window(self, window: int, first: int) -> None:
        """Record from here. Raises RuntimeError where JAX cannot."""
        if not self._say_what_is_used():
            return
        if _devices() and not self._recorder.claims_devices(self):
            self._recorder.note("another framework's profiler records the devices: JAX's window is left out")
            return
        opening = XPlaneWindow(self._recorder, NAME, window, first, _step, _range)
        opening.open(lambda folder: jax.profiler.start_trace(folder, profiler_options=_made(self._options)))
        self._window = opening

    def close_window(self, last: int) -> None:
        """Stop, keep the XPlane file and announce it. Raises OSError where there is none."""
        window, self._window = self._window, None
        self._recorder.yields_devices(self)
        if window is None:
            return
        if not _session_is_active():
            self._recorder.note("the window was lost: another part of the program stopped JAX's profiler")
            window.drop(_stop_unless_stopped)
            return
        window.close(jax.profiler.stop_trace, last, self._options)

    def stop(self) -> None:
        """Detach; an open window is dropped."""
        window, self._window = self._window, None
        self._recorder.yields_devices(self)
        if window is not None:
            window.drop(_stop_unless_stopped)

    def _say_what_is_used(self) -> bool:
        """Whether the program computes with JAX; other libraries import it and leave it at that.

        To ask JAX for its devices, or to start its profiler, would take them.
        """
        used = backends_are_initialized()
        if used and not self._said:
            self._said = True
            self._recorder.append(Framework(NAME, jax.__version__, _devices()))
        return used


def _made(levels: dict[str, int]) -> ProfileOptions:
    options = ProfileOptions()
    for name, level in levels.items():
        setattr(options, name, level)
    return options


def _step(number: int) -> StepTraceAnnotation:
    return StepTraceAnnotation(STEP_NAME, step_num=number)


def _range(name: str) -> TraceAnnotation:
    plain, statistics = named(name)
    return TraceAnnotation(plain, **statistics)


def _devices() -> tuple[str, ...]:
    return tuple(f"{device.platform}:{device.id}" for device in jax.local_devices() if device.platform != "cpu")


def _is_traced() -> bool:
    """Whether a function is being traced: what is called then is called once, not at every step."""
    return not trace_state_clean()


def _session_is_active() -> bool:
    return session._profile_state.profile_session is not None


def _stop_unless_stopped() -> None:
    if _session_is_active():
        jax.profiler.stop_trace()
