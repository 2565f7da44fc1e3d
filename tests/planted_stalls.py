"""A training whose input is slow by a planted time, in every framework and style of loop: the program tests run.

python -m tests.planted_stalls <style> <folder> <milliseconds> ...

The generator sleeps D ms for a batch, the step 10 ms. What the training then waited for is clocked by the fixture
itself, not by profkit and not from D, for sleeps overshoot: the time between the moment the training turns to its
input and the moment the generator has the next batch ready, 0 where that was ready before. A line of JSON comes out for
each D.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from profkit.analysis.report import Report

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STEP_S = 0.010
BATCHES = 36
WINDOW = (8, 2, 6)  # steps skipped, warmed up, recorded
BATCH, FEATURES = 4, 8


@dataclass
class Fixture:
    """Its own clock: when each batch was ready, and when the work on each batch was over."""

    delay_s: float
    group: int = 1  # batches of a step
    ready: list[float] = field(default_factory=list)
    done: list[float] = field(default_factory=list)
    asked: list[float] = field(default_factory=list)  # where that is known to be later than the end of the work
    came: list[float] = field(default_factory=list)

    def batches(self) -> Iterator[tuple[Any, Any]]:
        """The slow input: features and labels, as arrays."""
        import numpy as np

        self.ready.clear()  # what was asked for before is none of the training's: Keras looks at a first batch
        for number in range(BATCHES):
            if self.delay_s:
                time.sleep(self.delay_s)
            self.ready.append(time.perf_counter())
            yield np.full((BATCH, FEATURES), number, np.float32), np.zeros(BATCH, np.int64)

    def work(self) -> None:
        """The step's own work."""
        time.sleep(STEP_S)
        self.done.append(time.perf_counter())

    def asks(self, *_: Any, **__: Any) -> None:
        """The next thing the training does is to ask for a batch."""
        self.asked.append(time.perf_counter())

    def comes(self) -> None:
        """The loop has its batch: where it can see that itself, what the framework adds counts too."""
        self.came.append(time.perf_counter())

    def seen(self, batches: Iterable[Any]) -> Iterator[Any]:
        """What a loop over `batches` gets, and how long it waits for each."""
        iterator = iter(batches)
        while True:
            self.asks()
            try:
                batch = next(iterator)
            except StopIteration:
                return
            self.comes()
            yield batch

    def waits(self) -> list[float]:
        """Milliseconds the training waited in each step but the first."""
        if self.came:
            return [1e3 * (came - asked) for came, asked in zip(self.came[1:], self.asked[1:], strict=False)]
        ready, done = self.ready[self.group - 1 :: self.group], self.done[self.group - 1 :: self.group]
        turned = self.asked[1:] or done
        return [1e3 * max(0.0, there - free) for there, free in zip(ready[1:], turned, strict=False)]


Style = Callable[[Fixture], None]
STYLES: dict[str, Style] = {}


def style(function: Style) -> Style:
    """Make `function` a style by its name."""
    STYLES[function.__name__] = function
    return function


# --- PyTorch -----------------------------------------------------------------------------------------------------


@style
def torch_loop(fixture: Fixture) -> None:
    """A DataLoader, a loop and an optimizer."""
    import torch

    model = torch.nn.Linear(FEATURES, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for features, _ in torch.utils.data.DataLoader(_torch_stream(fixture), batch_size=None):
        optimizer.zero_grad()
        model(torch.as_tensor(features)).sum().backward()
        fixture.work()
        optimizer.step()


def _torch_stream(fixture: Fixture) -> Any:
    import torch

    class Stream(torch.utils.data.IterableDataset[Any]):
        def __iter__(self) -> Iterator[Any]:
            return fixture.batches()

    return Stream()


# --- TensorFlow --------------------------------------------------------------------------------------------------


def _dataset(fixture: Fixture, prefetch: int = 0) -> Any:
    import tensorflow as tf

    signature = (tf.TensorSpec((BATCH, FEATURES)), tf.TensorSpec((BATCH,), tf.int64))
    dataset = tf.data.Dataset.from_generator(fixture.batches, output_signature=signature)
    return dataset.prefetch(prefetch) if prefetch else dataset


def _tf_step() -> Callable[[Any], Any]:
    import tensorflow as tf

    weights = tf.Variable(tf.ones((FEATURES, FEATURES)))

    @tf.function
    def step(features: Any) -> Any:
        return weights.assign_sub(0.01 * tf.matmul(features, features, transpose_a=True))

    compiled: Callable[[Any], Any] = step
    return compiled


@style
def tf_eager_loop(fixture: Fixture) -> None:
    """`for batch in dataset`, nothing compiled."""
    import tensorflow as tf

    weights = tf.Variable(tf.ones((FEATURES, FEATURES)))
    for features, _ in fixture.seen(_dataset(fixture)):
        weights.assign_sub(0.01 * tf.matmul(features, features, transpose_a=True))
        fixture.work()


@style
def tf_function_loop(fixture: Fixture) -> None:
    """`for batch in dataset` around a compiled step, with a prefetch."""
    step = _tf_step()
    for features, _ in fixture.seen(_dataset(fixture, prefetch=2)):
        step(features)
        fixture.work()


@style
def tf_iterator_in_function(fixture: Fixture) -> None:
    """The compiled step asks the iterator itself."""
    import tensorflow as tf

    step = _tf_step()

    @tf.function
    def next_step(iterator: Any) -> Any:
        return step(next(iterator)[0])

    iterator = iter(_dataset(fixture))
    for _ in range(BATCHES):
        next_step(iterator)
        fixture.work()
        _end_step()


@style
def tf_distributed(fixture: Fixture) -> None:
    """A distributed dataset: MirroredStrategy, whose replica here is the CPU."""
    import tensorflow as tf

    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    step = _tf_step()
    for features, _ in fixture.seen(strategy.experimental_distribute_dataset(_dataset(fixture))):
        strategy.run(step, args=(features,))
        fixture.work()
        _end_step()


# --- Keras -------------------------------------------------------------------------------------------------------


def _model(fixture: Fixture, **compiled: Any) -> Any:
    """A model whose step sleeps: in its own code where that runs at every step, else in a callback."""
    import keras

    model = keras.Sequential([keras.Input((FEATURES,)), keras.layers.Dense(2)])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("sgd", loss, **compiled)
    return model


def _working(fixture: Fixture, every: int = 1) -> Any:
    import keras

    class Working(keras.callbacks.Callback):
        def _work(self, *_: Any) -> None:
            for _batch in range(every):
                fixture.work()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self._work()

        def on_test_batch_end(self, batch: int, logs: Any = None) -> None:
            self._work()

        def on_predict_batch_end(self, batch: int, logs: Any = None) -> None:
            self._work()

        if keras.backend.backend() != "torch":  # there the batch is asked for before its callbacks begin
            on_train_batch_begin = on_test_batch_begin = on_predict_batch_begin = fixture.asks

    return Working()


def _keras_input(fixture: Fixture) -> Any:
    """What suits the backend: tf.data on TensorFlow, a DataLoader on PyTorch, a generator on JAX."""
    import keras

    backend = keras.backend.backend()
    if backend == "tensorflow":
        return _dataset(fixture)
    if backend == "torch":
        import torch

        return torch.utils.data.DataLoader(_torch_stream(fixture), batch_size=None)
    return fixture.batches()


@style
def keras_fit(fixture: Fixture) -> None:
    """`fit` as everybody writes it."""
    _model(fixture).fit(_keras_input(fixture), verbose=0, callbacks=[_working(fixture)])


@style
def keras_fit_jit(fixture: Fixture) -> None:
    """`fit` with `jit_compile`."""
    _model(fixture, jit_compile=True).fit(_keras_input(fixture), verbose=0, callbacks=[_working(fixture)])


@style
def keras_fit_several_steps(fixture: Fixture) -> None:
    """`fit` with `steps_per_execution=2`: the work of both batches comes after both waits."""
    fixture.group = 2
    model = _model(fixture, steps_per_execution=2)
    model.fit(_keras_input(fixture), verbose=0, steps_per_epoch=BATCHES, callbacks=[_working(fixture, 2)])


@style
def keras_train_on_batch(fixture: Fixture) -> None:
    """A loop of one's own around `train_on_batch`."""
    model = _model(fixture)
    for features, labels in fixture.seen(_own_loop(_keras_input(fixture))):
        model.train_on_batch(features, labels)
        fixture.work()


@style
def keras_evaluate(fixture: Fixture) -> None:
    """`evaluate` alone."""
    _model(fixture).evaluate(_keras_input(fixture), verbose=0, callbacks=[_working(fixture)])


@style
def keras_predict(fixture: Fixture) -> None:
    """`predict` alone."""
    _model(fixture).predict(_keras_input(fixture), verbose=0, callbacks=[_working(fixture)])


def _own_loop(batches: Iterable[Any]) -> Iterable[Any]:
    """A generator has no hook: the user wraps it."""
    import keras

    from profkit import active

    run = active.current()
    assert run is not None
    return run.loader(batches) if keras.backend.backend() == "jax" else batches


# --- JAX ---------------------------------------------------------------------------------------------------------


@style
def jax_loop(fixture: Fixture) -> None:
    """A loop over `run.loader(...)` around a compiled step."""
    import jax

    from profkit import active

    run = active.current()
    assert run is not None

    @jax.jit
    def step(weights: Any, features: Any) -> Any:
        return weights - 0.01 * features.T @ features

    weights = jax.numpy.ones((FEATURES, FEATURES))
    for features, _ in fixture.seen(run.loader(fixture.batches())):
        weights = step(weights, features)
        weights.block_until_ready()
        fixture.work()


# --- the program -------------------------------------------------------------------------------------------------


def _end_step() -> None:
    from profkit import active

    run = active.current()
    assert run is not None
    run.step()


def measured(name: str, folder: Path, delay_ms: float) -> dict[str, Any]:
    """Run one training; returns what the fixture clocked and what profkit says, in milliseconds."""
    import profkit
    from profkit.analysis.summary import report
    from profkit.trace.load import load

    fixture = Fixture(delay_ms / 1e3)
    skipped, warmup, active = WINDOW
    plan = profkit.schedule(skip_first=skipped, warmup=warmup, active=active)
    gc.collect()
    gc.disable()  # a collection between two batches is a stall that nobody planted
    with profkit.profile(folder, schedule=plan, sidecar=False, quiet=True, strict=True) as run:
        STYLES[name](fixture)
    gc.enable()
    found = report(load(run.folder))
    waits = fixture.waits()
    inside = found.window_steps
    return {
        "delay_ms": delay_ms,
        "clocked_ms": waits,
        "steps": found.steps,
        "outside_ms": _outside(found),
        "measured_on": found.measured_on,
        "inside_ms": [row.exposed_wait_ns / 1e6 if row.exposed_wait_ns is not None else None for row in inside],
        "inside_steps": [row.number for row in inside],
        "source": load(run.folder).info.step_source,
        "notes": found.notes,
    }


def _outside(found: Report) -> float | None:
    """The median of the exposed wait outside the window."""
    wait = found.wait
    if wait is None or wait.exposed_ns is None:
        return None
    return wait.p50_ns * (wait.exposed_ns / wait.mean_ns if wait.mean_ns else 1.0) / 1e6


def main() -> None:
    """Print, for each style of one backend, a line of JSON: the results of every planted delay."""
    folder, delays, *styles = sys.argv[1:]
    for style in styles:
        backend, _, bare = style.partition(":")
        if bare:
            os.environ["KERAS_BACKEND"] = backend
            import keras  # noqa: F401  # a run finds what has been imported
        _imported(bare or style)
        results = [measured(bare or style, Path(folder), float(delay)) for delay in delays.split(",")]
        print(json.dumps(results), flush=True)


def _imported(name: str) -> None:
    """Import what the style uses, as a script does at its top."""
    framework = name.partition("_")[0]
    if framework == "torch":
        import torch.utils.data  # noqa: F401
    elif framework == "tf":
        import tensorflow  # noqa: F401  # type: ignore[import-untyped]
    elif framework == "jax":
        import jax  # noqa: F401


if __name__ == "__main__":
    main()
