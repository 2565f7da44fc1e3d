"""Keras 3 on TensorFlow, PyTorch and JAX: ends of steps, and the wait for each batch.

A step ends with the callbacks of its batch; with `steps_per_execution` n it holds n batches. Where Keras asks for a
batch depends on the backend: on TensorFlow inside the compiled function (profkit.hooks.tf_data times it there), on
PyTorch before the batch's callbacks begin, on JAX after. On those two the epoch's iterator is replaced by one that is
timed. What computes is recorded by the backend's own hook.
"""

from __future__ import annotations

import atexit
import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

import keras

from profkit import active
from profkit.boundaries import CALLBACK, EVALUATION
from profkit.loader import opened, timed_loader
from profkit.recorder import Recorder
from profkit.records import Framework
from profkit.run import profile

Method = Callable[..., Any]

ENDS_OF_BATCHES = {
    "on_train_batch_end": CALLBACK,
    "on_test_batch_end": EVALUATION,
    "on_predict_batch_end": EVALUATION,
}
# Between these and the ends Keras may ask for a batch in Python, and says itself when a step ends.
BEGINNINGS_OF_BATCHES = ("on_test_batch_begin", "on_predict_batch_begin")
CALLS_WITHOUT_CALLBACKS = {
    "train_on_batch": CALLBACK,
    "test_on_batch": EVALUATION,
    "predict_on_batch": EVALUATION,
}
# Where Keras's adapters keep what the user passed.
SOURCES = ("py_dataset", "_dataset", "_dataloader")


class KerasHook:
    """Ends of steps from Keras's own callbacks; changes no model, no batch and no list of callbacks."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._counted_requests: bool | None = None  # what the recorder did before the batch under way

    def start(self, recorder: Recorder) -> None:
        """Watch the lists of callbacks that `fit`, `evaluate` and `predict` make, and calls for single batches."""
        self._recorder = recorder
        recorder.append(Framework("keras", f"{keras.__version__} on {keras.backend.backend()}"))
        for name, source in ENDS_OF_BATCHES.items():
            self._replace(keras.callbacks.CallbackList, name, functools.partial(self._ending, source))
        for name in BEGINNINGS_OF_BATCHES:
            self._replace(keras.callbacks.CallbackList, name, self._beginning)
        for name, source in CALLS_WITHOUT_CALLBACKS.items():
            self._replace(_owner(keras.Model, name), name, functools.partial(self._ending, source))
        self._replace(_epoch_iterator(), "_get_iterator", self._announced if _asks_in_a_graph() else self._timed)

    def boundary(self, number: int) -> None:
        """Keras says itself when a step ends."""

    def prepare_window(self) -> bool:
        """Always ready: the backend's hook records."""
        return True

    def open_window(self, window: int, first: int) -> None:
        """The backend's hook records."""

    def close_window(self, last: int) -> None:
        """The backend's hook records."""

    def stop(self) -> None:
        """Put the original methods back."""
        while self._undo:
            self._undo.pop()()

    def _replace(self, owner: type | None, name: str, new: Callable[[Method], Method]) -> None:
        original = None if owner is None else vars(owner).get(name)
        if original is None:
            self._recorder.note(f"this version of Keras has no {name} where it used to be: it is not recorded")
            return
        setattr(owner, name, new(original))
        self._undo.append(lambda: setattr(owner, name, original))

    def _beginning(self, original: Method) -> Method:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            if self._counted_requests is None:
                self._counted_requests = self._recorder.counts_requests
                self._recorder.counts_requests = False
            return original(*args, **kwargs)

        return call

    def _ending(self, source: str, original: Method) -> Method:
        @functools.wraps(original)
        def call(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if self._counted_requests is not None:
                self._recorder.counts_requests, self._counted_requests = self._counted_requests, None
            self._recorder.boundary(source)
            return result

        return call

    def _timed(self, original: Method) -> Method:
        @functools.wraps(original)
        def _get_iterator(epoch: Any) -> Any:
            iterable = original(epoch)
            timed = self._recorder.guard(self._timed_loader, epoch, iterable)
            return iterable if timed is None else timed

        return _get_iterator

    def _announced(self, original: Method) -> Method:
        @functools.wraps(original)
        def _get_iterator(epoch: Any) -> Any:
            self._recorder.guard(self._announce, epoch.data_adapter)
            return original(epoch)

        return _get_iterator

    def _announce(self, adapter: Any) -> None:
        """Say what feeds the tf.data pipeline that Keras makes, where it is not one already."""
        dataset = getattr(adapter, "py_dataset", None)
        if dataset is not None:
            number = self._recorder.loader_number(dataset)
            self._recorder.append(opened(dataset, number, self._recorder.clock(), 0))

    def _timed_loader(self, epoch: Any, iterable: Any) -> Any:
        if not hasattr(iterable, "__iter__"):
            return iterable
        return timed_loader(iterable, self._recorder, _source(epoch.data_adapter, iterable), ends_steps=False)


class Callback(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    """Record what the model does with this callback: `model.fit(..., callbacks=[profkit.keras.Callback("runs/x")])`.

    A new run begins with `fit`, `evaluate` or `predict` and ends with it. Within a run that is active already the
    callback does nothing, since the run sees Keras by itself. `options` are those of `profkit.profile`, whose errors
    are raised. Where `fit` raises, the run ends with the next one or with the program, since Keras calls nobody.
    """

    def __init__(self, logdir: str = "runs", **options: Any) -> None:
        super().__init__()
        self._logdir, self._options = logdir, options
        self._run: profile | None = None
        self._purpose = ""

    def on_train_begin(self, logs: Any = None) -> None:
        """A run begins."""
        self._enter("train")

    def on_train_end(self, logs: Any = None) -> None:
        """The run ends."""
        self._leave("train")

    def on_test_begin(self, logs: Any = None) -> None:
        """A run begins, unless a training evaluates its model."""
        self._enter("test")

    def on_test_end(self, logs: Any = None) -> None:
        """The run ends, unless it is a training's."""
        self._leave("test")

    def on_predict_begin(self, logs: Any = None) -> None:
        """A run begins, unless a training predicts."""
        self._enter("predict")

    def on_predict_end(self, logs: Any = None) -> None:
        """The run ends, unless it is a training's."""
        self._leave("predict")

    def _enter(self, purpose: str) -> None:
        if purpose == "train":
            self._end()  # of a training that raised
        if active.current() is None:
            run = profile(self._logdir, **self._options)
            run.__enter__()
            self._run, self._purpose = run, purpose
            atexit.register(self._end)

    def _leave(self, purpose: str) -> None:
        if self._run is not None and self._purpose == purpose:
            self._end()

    def _end(self) -> None:
        run, self._run = self._run, None
        if run is not None:
            atexit.unregister(self._end)
            run.__exit__(None, None, None)


def _owner(cls: type, name: str) -> type | None:
    """The class that defines what `cls` has under this name."""
    return next((base for base in cls.__mro__ if name in vars(base)), None)


def _asks_in_a_graph() -> bool:
    """Whether a compiled function asks for the batches, and not Python."""
    return bool(keras.backend.backend() == "tensorflow")


def _epoch_iterator() -> type | None:
    """The class of the backend's iterators over an epoch; None where Keras has none."""
    names = {"tensorflow": "TFEpochIterator", "torch": "TorchEpochIterator", "jax": "JAXEpochIterator"}
    backend = keras.backend.backend()
    trainer = import_module(f"keras.src.backend.{backend}.trainer")
    return getattr(trainer, names.get(backend, ""), None)


def _source(adapter: Any, iterable: Any) -> Any:
    """What the user passed as the input, as far as Keras's adapter keeps it."""
    if hasattr(iterable, "num_workers"):
        return iterable  # a DataLoader
    found = (getattr(adapter, name, None) for name in SOURCES)
    return next((source for source in found if source is not None), adapter)
