"""TensorFlow: tf.profiler in the recorded windows.

Steps end where the program says so (`@profkit.step`), where Keras does (profkit.hooks.keras), or where the loop asks
tf.data for its next batch (profkit.hooks.tf_data): TensorFlow itself has no notion of a step.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.profiler import profiler_v2

from profkit.recorder import Recorder, either
from profkit.records import Framework

from .xplane_windows import STEP_NAME, XPlaneWindow, named

NAME = "tensorflow"


class TensorFlowHook:
    """Records windows with tf.profiler.experimental; the options are those of its ProfilerOptions."""

    def __init__(
        self, *, host_tracer_level: int = 2, python_tracer_level: int = 0, device_tracer_level: int = 1
    ) -> None:
        self._options = {
            "host_tracer_level": host_tracer_level,
            "python_tracer_level": python_tracer_level,
            "device_tracer_level": device_tracer_level,
        }
        self._window: XPlaneWindow | None = None

    def start(self, recorder: Recorder) -> None:
        """Learn what there is to record."""
        self._recorder = recorder
        recorder.is_traced = either(recorder.is_traced, _is_traced)
        recorder.append(Framework(NAME, tf.__version__, _devices()))

    def boundary(self, number: int) -> None:
        """A range with the step's number begins, by which other tools find the steps."""
        if self._window is not None:
            self._window.enter_step(number)

    def prepare_window(self) -> bool:
        """False while another session of TensorFlow's profiler records."""
        if self._window is None and profiler_v2._profiler is not None:
            self._recorder.note("another profiler session is active: the window is postponed until it ends")
            return False
        return True

    def open_window(self, window: int, first: int) -> None:
        """Record from here."""
        options = self._effective_options()
        opening = XPlaneWindow(self._recorder, NAME, window, first, _step, _range)
        try:
            opening.open(lambda folder: tf.profiler.experimental.start(folder, options=_really(options)))
        except tf.errors.AlreadyExistsError:
            _forget_session()
            self._recorder.note("another profiler session is active, from outside this program: no window is recorded")
            return
        self._asked, self._window = options, opening

    def close_window(self, last: int) -> None:
        """Stop, keep the XPlane file and announce it. Raises OSError where there is none."""
        window, self._window = self._window, None
        self._recorder.yields_devices(self)
        if window is None:
            return
        if profiler_v2._profiler is None:
            self._recorder.note("the window was lost: another part of the program stopped TensorFlow's profiler")
            window.drop(_stop_unless_stopped)
            return
        window.close(tf.profiler.experimental.stop, last, self._asked)

    def stop(self) -> None:
        """Detach; an open window is dropped."""
        window, self._window = self._window, None
        self._recorder.yields_devices(self)
        if window is not None:
            window.drop(_stop_unless_stopped)

    def _effective_options(self) -> dict[str, int]:
        alone = self._recorder.claims_devices(self)
        return self._options if alone else {**self._options, "device_tracer_level": 0}


class _Level(int):
    """A number that TensorFlow 2.20 and 2.21 take as one: they ignore options that can be read as truth values."""

    def __bool__(self) -> bool:
        raise TypeError("a level, not a truth value")


def _really(options: dict[str, int]) -> Any:
    return tf.profiler.experimental.ProfilerOptions(**{name: _Level(level) for name, level in options.items()})


def _step(number: int) -> Any:
    """`_r` makes it the root of all that happens meanwhile; without it XProf sees no step."""
    return tf.profiler.experimental.Trace(STEP_NAME, step_num=number, _r=1)


def _range(name: str) -> Any:
    plain, statistics = named(name)
    return tf.profiler.experimental.Trace(plain, **statistics)


def _devices() -> tuple[str, ...]:
    """Accelerators, without initialising them."""
    accelerators = [device for device in tf.config.list_physical_devices() if device.device_type != "CPU"]
    return tuple(f"{device.device_type.lower()}:{device.name.rpartition(':')[2]}" for device in accelerators)


def _is_traced() -> bool:
    """Whether a function is being turned into a graph: what is called then is called once, not at every step."""
    return not tf.executing_eagerly()


def _forget_session() -> None:
    """TensorFlow keeps the session that could not be started, and then refuses every later one."""
    profiler_v2._profiler = None


def _stop_unless_stopped() -> None:
    if profiler_v2._profiler is not None:
        tf.profiler.experimental.stop(save=False)
