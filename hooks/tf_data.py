"""tf.data: what every batch took to come, in eager loops and in compiled graphs, and which stage is slow.

`next(iterator)` in Python is timed there. Inside a graph (`model.fit`, a `tf.function` that asks the iterator) the
graph itself reads the clock (profkit.hooks.tf_graph_waits). A loop that asks for batches in Python and says nothing
else ends a step with each request.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any
from weakref import WeakKeyDictionary, ref

import tensorflow as tf
from tensorflow.python.data.ops.iterator_ops import OwnedIterator
from tensorflow.python.distribute.input_lib import DistributedIteratorBase

from profkit.loader import WAIT_RANGE, usable_cpus
from profkit.recorder import Recorder
from profkit.records import LoaderOpened, Pipeline, Stage, Wait

from .tf_data_flaws import flaws
from .tf_graph_waits import GraphWaits, seeds_are_counted_per_random_operator

Method = Callable[..., Any]

NOT_COUNTED = nullcontext()
READ_EVERY_NS, READ_EVERY_STEPS = 100_000_000, 64  # a reading takes 50 to 300 µs; the graph keeps 256 waits
FIRST_DESCRIBED, DESCRIBED_AGAIN = 8, 2  # steps of a pass, and how many times as many until it is done again


class TfDataHook:
    """Times every request for a batch; changes no element, order or random number."""

    def __init__(self) -> None:
        self._undo: list[Callable[[], None]] = []
        self._numbers: WeakKeyDictionary[Any, int] = WeakKeyDictionary()  # iterator -> its loader's number
        self._started: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()  # iterators that were asked already
        self._latest: Callable[[], Any] = _none  # the iterator made last
        self._latest_number = 0
        self._first_in_graph = True  # the graph's next wait is the first of a pass
        self._described: dict[int, int] = {}  # loader -> batches made when its stages were recorded last
        self._checked: set[int] = set()  # loaders whose definition was looked at
        self._describe_at = FIRST_DESCRIBED
        self._steps_of_pass = 0
        self._early: list[Stage] = []  # of the pass: what its stages had done at first
        self._passes = 0
        self._waits = 0  # recorded, in Python and in graphs
        self._timing = False  # a graph's request that is being timed makes others
        self._collected_ns = 0  # when the graphs' waits were read last
        self._steps_since = 0

    def start(self, recorder: Recorder) -> None:
        """Replace the iterators' methods; leaves a note instead where they do not look as expected."""
        self._recorder = recorder
        if not _look_as_expected():
            recorder.note("this version of TensorFlow's iterators is not known: the waits for tf.data are not recorded")
            return
        self._model = getattr(tf.data.experimental, "get_model_proto", None)
        if self._model is None:
            recorder.note(f"TensorFlow {tf.__version__} does not tell what the stages of tf.data take")
        self._graph = self._graph_waits()
        if self._graph is not None:
            self._undo.append(self._graph.stop)
        for owner, name, in_a_loop in REQUESTS:
            self._replace(owner, name, functools.partial(self._timed_request, in_a_loop=in_a_loop))
        self._replace(OwnedIterator, "_create_iterator", self._timed_making)
        recorder.collectors.append(self._step_ends)
        self._undo.append(lambda: recorder.collectors.remove(self._step_ends))

    def boundary(self, number: int) -> None:
        """Waits know nothing of steps."""

    def prepare_window(self) -> bool:
        """Always ready."""
        return True

    def open_window(self, window: int, first: int) -> None:
        """Waits are recorded all the time."""

    def close_window(self, last: int) -> None:
        """The pipeline has been at work for a while: ask it about its stages."""
        self._recorder.guard(self._describe)

    def stop(self) -> None:
        """Put the original methods back. Graphs compiled meanwhile keep their clock, which nobody reads."""
        if self._undo:
            self._recorder.guard(self._collect)
            self._recorder.guard(self._say_what_was_missed)
            self._recorder.guard(self._describe)
        while self._undo:
            self._undo.pop()()

    def _graph_waits(self) -> GraphWaits | None:
        if seeds_are_counted_per_random_operator():
            return self._recorder.guard(GraphWaits, self._recorder)
        self._recorder.note(
            f"in TensorFlow {tf.__version__} the waits inside compiled functions are known in recorded windows alone"
        )
        return None

    def _replace(self, owner: type, name: str, timed: Callable[[Method], Method]) -> None:
        original = vars(owner)[name]
        setattr(owner, name, timed(original))
        self._undo.append(lambda: setattr(owner, name, original))

    def _timed_request(self, original: Method, in_a_loop: bool) -> Method:
        @functools.wraps(original)
        def request(iterator: Any, *args: Any, **kwargs: Any) -> Any:
            if not tf.executing_eagerly():
                return self._in_graph(functools.partial(original, iterator, *args, **kwargs), in_a_loop)
            with self._recorder.guard(self._wait, iterator) or NOT_COUNTED, self._recorder.annotated(WAIT_RANGE):
                return original(iterator, *args, **kwargs)

        return request

    def _in_graph(self, request: Callable[[], Any], in_a_loop: bool) -> Any:
        """A request that is being traced; of those that make others only the outermost is timed."""
        if self._graph is None or self._timing:
            return request()
        self._timing = True
        try:
            return self._graph.timed(request, in_a_loop=in_a_loop)
        finally:
            self._timing = False

    def _wait(self, iterator: Any) -> AbstractContextManager[None]:
        first = not self._started.get(iterator, False)
        self._started[iterator] = True
        self._waits += 1
        return self._recorder.request(self._numbers.get(iterator, self._latest_number), first)

    def _timed_making(self, original: Method) -> Method:
        @functools.wraps(original)
        def _create_iterator(iterator: Any, dataset: Any) -> Any:
            if not tf.executing_eagerly():
                return original(iterator, dataset)
            number = self._recorder.guard(self._new_pass, iterator, dataset) or 0
            with self._recorder.timed(lambda start, took: _opened(dataset, number, start, took)):
                return original(iterator, dataset)

        return _create_iterator

    def _new_pass(self, iterator: Any, dataset: Any) -> int:
        self._collect()
        self._recorder.guard(self._describe)
        self._passes += 1
        number = self._recorder.loader_number(dataset)
        self._numbers[iterator] = self._latest_number = number
        self._latest, self._first_in_graph = ref(iterator), True
        self._steps_of_pass, self._describe_at, self._early = 0, FIRST_DESCRIBED, []
        self._recorder.guard(self._check, number, dataset)
        return number

    def _check(self, number: int, dataset: Any) -> None:
        """Record what the definition of a new loader shows."""
        if number not in self._checked:
            self._checked.add(number)
            for flaw in flaws(number, dataset):
                self._recorder.defer(flaw)

    def _step_ends(self) -> None:
        """Read the graphs' waits, seldom: a reading is an eager operator, and between two steps a slow one."""
        self._steps_since += 1
        self._steps_of_pass += 1
        if self._steps_of_pass == self._describe_at:
            self._describe_at *= DESCRIBED_AGAIN
            self._recorder.guard(self._describe)
        late = self._recorder.clock() - self._collected_ns >= READ_EVERY_NS
        if late or self._steps_since >= READ_EVERY_STEPS:
            self._collect()

    def _collect(self) -> None:
        """Record the waits inside graphs since the last time."""
        if self._graph is None or not self._graph.in_use or not self._recorder.counts_waits():
            return
        self._collected_ns, self._steps_since = self._recorder.clock(), 0
        for start_ns, duration_ns in self._graph.take():
            self._recorder.defer(Wait(self._latest_number, start_ns, duration_ns, self._first_in_graph))
            self._first_in_graph = False
            self._waits += 1

    def _say_what_was_missed(self) -> None:
        if self._graph is not None and self._passes and not self._waits:
            self._recorder.note(
                "the waits for tf.data were not recorded outside windows: the function that asks for the batches was "
                "compiled before the run began; begin the run before the first step"
            )

    def _describe(self) -> None:
        """Record what the model of the latest pipeline knows of its stages.

        Asking it takes some 50 µs and now and then milliseconds, for it may be at its tuning: so it is done at a few
        moments. A later answer counts for more, unless it is about a pass that has only begun.
        """
        iterator, number = self._latest(), self._latest_number
        if iterator is None or self._model is None:
            return
        with suppress(tf.errors.OpError, ValueError):  # there is no model where autotuning is off
            stages = _stages(self._model(iterator))
            if stages and stages[0].elements > self._described.get(number, 0):
                self._described[number] = stages[0].elements
                self._recorder.defer(Pipeline(number, _since(self._early, stages)))
            self._early = self._early or stages


# Class, method, and whether the request may be made round by round in a loop of the graph.
REQUESTS = (
    (OwnedIterator, "_next_internal", False),
    (OwnedIterator, "get_next_as_optional", True),
    (DistributedIteratorBase, "get_next", False),
    (DistributedIteratorBase, "get_next_as_optional", True),
)


def _look_as_expected() -> bool:
    return all(name in vars(owner) for owner, name, _ in REQUESTS) and "_create_iterator" in vars(OwnedIterator)


def _opened(dataset: Any, number: int, start_ns: int, duration_ns: int) -> LoaderOpened:
    """The record of a new pass over `dataset`: its last stage, and the CPUs there are for it."""
    last_stage = type(dataset).__name__.strip("_").removesuffix("Dataset")
    return LoaderOpened(number, "tf.data", start_ns, duration_ns, {"last_stage": last_stage, "cpus": usable_cpus()})


def _stages(model: Any) -> list[Stage]:
    """The pipeline's stages from its end to its sources.

    The model is tensorflow/core/framework/model.proto; times are nanoseconds, added over the threads of a stage. Its
    parallelism is 1 unless it has a parameter of that name, whose maximum is the number of threads there are.
    """
    nodes = dict(model.nodes)
    found, waiting = [], [model.output]
    while waiting:
        node = nodes.get(waiting.pop())
        if node is not None:
            found.append(_stage(node))
            waiting += reversed(node.inputs)
    return found


def _since(early: list[Stage], late: list[Stage]) -> list[Stage]:
    """What the stages did between two answers: at first they wait for compilers, and fill their buffers.

    All that was done until `late` where the two do not compare, for stages that were made anew count from 0.
    """
    same = [stage.name for stage in early] == [stage.name for stage in late]
    if not same or late[0].elements == early[0].elements:
        return late
    pairs = list(zip(late, early, strict=True))
    if any(now.elements < then.elements for now, then in pairs):
        return late
    return [
        Stage(
            now.name,
            now.elements - then.elements,
            now.processing_ns - then.processing_ns,
            now.buffered,
            now.parallelism,
            now.tuned,
        )
        for now, then in pairs
    ]


def _stage(node: Any) -> Stage:
    threads = next((parameter for parameter in node.parameters if parameter.name == "parallelism"), None)
    parallelism, tuned = 1, False
    if threads is not None:
        parallelism, tuned = max(1, int(min(threads.value, threads.max))), threads.tunable
    return Stage(node.name, node.num_elements, node.processing_time, node.buffered_elements, parallelism, tuned)


def _none() -> None:
    """No iterator was made yet."""
