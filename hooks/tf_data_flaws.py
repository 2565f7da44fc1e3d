"""What the definition of a tf.data pipeline shows before it runs.

The dataset's objects are read, never run or changed. What TensorFlow repairs itself is no flaw: where autotuning is on
it adds a prefetch behind a last stage that does not work ahead, and gives threads to a map whose function keeps no
state (tensorflow/core/grappler/optimizers/data, inject_prefetch.cc and map_parallelization.cc). Functions that
TensorFlow and Keras bring themselves are not the user's to change. An attribute that is missing shows nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import islice
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.python.framework import op_def_registry

from profkit.loader import usable_cpus
from profkit.records import Flaw

MOST_STAGES = 200  # looked at
LARGE_BUFFER_BYTES = 1 << 30
LARGE_BUFFER_BATCHES = 16

# Operators by which a graph calls its other functions: what those do counts, not that they are called.
CALLS = {"If", "StatelessIf", "While", "StatelessWhile", "Case", "StatelessCase"}
CALLS |= {"PartitionedCall", "StatefulPartitionedCall"}
IN_PYTHON = {"PyFunc", "PyFuncStateless", "EagerPyFunc"}
RANDOM = {"RandomUniform", "RandomUniformInt", "RandomStandardNormal", "TruncatedNormal", "RandomShuffle"}
RANDOM |= {"Multinomial", "RandomGamma", "RandomPoissonV2", "ParameterizedTruncatedNormal"}
TRIVIAL = {"Placeholder", "Const", "Identity", "IdentityN", "NoOp", "Cast", "Reshape", "ExpandDims", "Squeeze"}
TRIVIAL |= {"Pack", "Shape", "StridedSlice", "AddV2", "Sub", "Mul", "RealDiv"}

MAPS = ("Map", "ParallelMap")
BATCHES = ("Batch", "ParallelBatch", "PaddedBatch")
WORK_AHEAD = ("Prefetch", "ParallelMap", "ParallelInterleave", "ParallelBatch")
PASS_ON = ("Options", "Repeat", "Take", "Skip")  # the elements of their input as they are
MAKE_ANEW = ("FlatMap", "Unbatch", "Random", "DirectedInterleave")  # elements whose order may be random by itself


class Stage:
    """A dataset of the pipeline. `behind`: the stages from it to the training, the nearest one last."""

    def __init__(self, dataset: Any, behind: tuple[Stage, ...] = ()) -> None:
        is_adapter = type(dataset).__name__ == "DatasetV1Adapter"
        dataset = dataset._dataset if is_adapter else dataset
        self.dataset = dataset
        self.behind = behind
        self.kind = type(dataset).__name__.strip("_").removesuffix("Dataset")  # Map, ParallelMap, Shuffle, ...

    @cached_property
    def inputs(self) -> list[Stage]:
        return [Stage(dataset, (*self.behind, self)) for dataset in self.dataset._inputs()]

    @cached_property
    def function(self) -> Function | None:
        """The user's function that it calls for every element."""
        wrapper = getattr(self.dataset, "_map_func", None) or getattr(self.dataset, "_predicate", None)
        function = getattr(wrapper, "_func", None)
        graph = getattr(getattr(wrapper, "function", None), "graph", None)
        if function is None or graph is None or _is_a_frameworks_own(function):
            return None
        return Function(_named(function), graph)

    def number(self, name: str) -> int | None:
        """The constant it was given by this name; None where there is none."""
        given = getattr(self.dataset, name, None)
        value = None if given is None else tf.get_static_value(given)
        return None if value is None else int(value)

    def all_before(self) -> Iterator[Stage]:
        """The stages that feed it, the nearest ones first."""
        waiting = list(reversed(self.inputs))
        while waiting:
            stage = waiting.pop()
            yield stage
            waiting += reversed(stage.inputs)


class Function:
    """A traced function: its types of operators, those of the functions it calls included."""

    def __init__(self, name: str, graph: Any) -> None:
        self.name = name
        self.operators = {operator.type for operator in graph.get_operations()}
        if self.operators & CALLS:
            called = graph.as_graph_def().library.function
            self.operators |= {node.op for function in called for node in function.node_def}

    @property
    def stateful(self) -> list[str]:
        """What keeps TensorFlow from calling it in parallel; assertions do not."""
        known = {name: op_def_registry.get(name) for name in self.operators - CALLS - {"Assert"}}
        return sorted(name for name, definition in known.items() if definition and definition.is_stateful)


@dataclass(frozen=True, slots=True)
class Repairs:
    """What TensorFlow does about a pipeline by itself, by the dataset's options."""

    prefetch: bool
    parallel_maps: bool
    fused_batches: bool  # a map and a batch behind it become one parallel stage
    why_not: str

    @classmethod
    def by(cls, options: tf.data.Options) -> Repairs:
        """An option that was not set (None) is on, as long as the default optimizations are."""
        rewrites = options.experimental_optimization
        default, tuned = rewrites.apply_default_optimizations is not False, options.autotune.enabled is not False

        def on(rewrite: bool | None) -> bool:
            return default if rewrite is None else rewrite

        reason = "it is told not to" if tuned and default else "without autotuning" if default else "without rewrites"
        return cls(
            prefetch=tuned and on(rewrites.inject_prefetch),
            parallel_maps=tuned and on(rewrites.map_parallelization),
            fused_batches=on(rewrites.map_and_batch_fusion),
            why_not=f"TensorFlow does not do it by itself: {reason}",
        )


class Pipeline:
    """A pipeline's stages from its end to its sources."""

    def __init__(self, dataset: Any) -> None:
        end, options = Stage(dataset), dataset.options()
        self.stages = [end, *islice(end.all_before(), MOST_STAGES)]
        self.repairs = Repairs.by(options)
        self.cores = usable_cpus()
        self.private_threads: int | None = options.threading.private_threadpool_size or None
        self._maps = [stage for stage in reversed(self.stages) if stage.kind in MAPS]

    def name(self, stage: Stage) -> str:
        """`Shuffle`; of several maps `Map 2 of 3`, counted from the sources."""
        if stage not in self._maps:
            return stage.kind
        return f"Map {self._maps.index(stage) + 1} of {len(self._maps)}" if len(self._maps) > 1 else "Map"


def flaws(loader: int, dataset: Any) -> list[Flaw]:
    """The flaws of the pipeline that ends with `dataset`, as records of this loader."""
    pipeline = Pipeline(dataset)
    if len(pipeline.stages) > MOST_STAGES:
        return []
    return [
        Flaw(loader, cause, pipeline.name(stage), detail)
        for cause, check in CHECKS.items()
        for stage in pipeline.stages
        if (detail := check(pipeline, stage)) is not None
    ]


def _no_prefetch(pipeline: Pipeline, stage: Stage) -> str | None:
    last = next((stage for stage in pipeline.stages if stage.kind not in PASS_ON), None)
    if stage is not last or pipeline.repairs.prefetch or _works_ahead(pipeline, stage):
        return None
    return f"no prefetch behind the last stage, {stage.kind}; {pipeline.repairs.why_not}"


def _works_ahead(pipeline: Pipeline, stage: Stage) -> bool:
    fused = stage.kind == "Batch" and pipeline.repairs.fused_batches and any(s.kind in MAPS for s in stage.inputs)
    return fused or stage.kind in WORK_AHEAD


def _serial_map(pipeline: Pipeline, stage: Stage) -> str | None:
    function = stage.function
    if stage.kind != "Map" or function is None or function.operators <= TRIVIAL:
        return None
    reason = _why_serial(pipeline, stage, function)
    return reason and f"{function.name} is called without num_parallel_calls; {reason}"


def _why_serial(pipeline: Pipeline, stage: Stage, function: Function) -> str | None:
    """Why a map without num_parallel_calls stays without threads; None where TensorFlow gives it some."""
    if not pipeline.repairs.parallel_maps:
        return pipeline.repairs.why_not
    if getattr(stage.dataset, "_force_synchronous", False):
        return "the map is to be synchronous"
    state = ", ".join(function.stateful[:3])
    return f"TensorFlow gives no threads to a function that keeps state ({state})" if state else None


def _py_function(pipeline: Pipeline, stage: Stage) -> str | None:
    if stage.function is None or not stage.function.operators & IN_PYTHON:
        return None
    return f"{stage.function.name} calls Python for every element"


def _parallelism_capped(pipeline: Pipeline, stage: Stage) -> str | None:
    calls = _parallel_calls(pipeline, stage)
    if calls is None or getattr(stage.dataset, "_use_unbounded_threadpool", False):
        return None
    pool = pipeline.private_threads
    if pool is not None and pool < (pipeline.cores if calls == tf.data.AUTOTUNE else calls):
        asked = "" if calls == tf.data.AUTOTUNE else f"asks for {calls} calls at once, but "
        return f"{asked}private_threadpool_size={pool} on {pipeline.cores} cores"
    if calls == tf.data.AUTOTUNE or calls == (pool or pipeline.cores):
        return None
    if calls > (pool or pipeline.cores):
        return f"asks for {calls} calls at once, but tf.data has a thread for each of {pipeline.cores} cores"
    return f"num_parallel_calls={calls} on {pipeline.cores} cores"


def _parallel_calls(pipeline: Pipeline, stage: Stage) -> int | None:
    """How many calls at once a stage asks for, or TensorFlow for it."""
    function = stage.function
    if stage.kind in MAPS and function is None:
        return None
    if stage.kind == "Map" and function is not None:
        trivial = function.operators <= TRIVIAL
        return None if trivial or _why_serial(pipeline, stage, function) else int(tf.data.AUTOTUNE)
    return stage.number("_num_parallel_calls")


def _shuffle_buffer(pipeline: Pipeline, stage: Stage) -> str | None:
    count = stage.number("_buffer_size") if stage.kind == "Shuffle" else None
    if count is None or count < 2:
        return None
    element = _bytes(stage.dataset)
    if element is not None and element * count >= LARGE_BUFFER_BYTES:
        return f"shuffle({count}) holds {element * count / (1 << 30):.1f} GiB, which are read before the first batch"
    batch = next((s.number("_batch_size") for s in reversed(stage.behind) if s.kind in BATCHES), None)
    made_by = _made_by(stage)
    if made_by is None or count < LARGE_BUFFER_BATCHES * (batch or 1):
        return None
    return f"shuffle({count}) is filled from {made_by}, {count} elements before the first batch"


def _made_by(stage: Stage) -> str | None:
    """What does some work for each element of a stage in every pass over it: behind a cache there is none."""
    for before in stage.all_before():
        if before.kind == "Cache":
            return None
        if before.function is not None and not before.function.operators <= TRIVIAL:
            return before.function.name
        if before.kind == "FlatMap":
            return "a generator"
    return None


def _shuffle_after_batch(pipeline: Pipeline, stage: Stage) -> str | None:
    if stage.kind != "Shuffle":
        return None
    before = list(stage.all_before())
    batch = next((s for s in before if s.kind in BATCHES), None)
    if batch is None or any(s.kind in (*MAKE_ANEW, "Shuffle") for s in before):
        return None
    return f"shuffle comes after batch({batch.number('_batch_size')}): shuffle first"


def _cache_after_random(pipeline: Pipeline, stage: Stage) -> str | None:
    if stage.kind != "Cache":
        return None
    for before in stage.all_before():
        if before.function is not None and before.function.operators & RANDOM:
            return f"{before.function.name} is random, and cached: cache() before it"
        shuffled_again = any(s.kind == "Shuffle" for s in stage.behind)
        if before.kind == "Shuffle" and not shuffled_again:
            return "the order of shuffle() is cached: cache() before it"
    return None


CHECKS: dict[str, Callable[[Pipeline, Stage], str | None]] = {
    "tf_no_prefetch": _no_prefetch,
    "tf_serial_map": _serial_map,
    "tf_py_function": _py_function,
    "tf_parallelism_capped": _parallelism_capped,
    "tf_shuffle_buffer": _shuffle_buffer,
    "tf_shuffle_after_batch": _shuffle_after_batch,
    "tf_cache_after_random": _cache_after_random,
}


def _bytes(dataset: Any) -> int | None:
    """The size of an element; None where its shape is not known."""
    parts = tf.nest.flatten(dataset.element_spec)
    if not all(isinstance(part, tf.TensorSpec) and part.shape.is_fully_defined() for part in parts):
        return None
    return int(sum(part.shape.num_elements() * part.dtype.size for part in parts))


def _plain(function: Any) -> Any:
    """What a partial or a compiled function was made of."""
    while isinstance(function, partial):
        function = function.func
    return getattr(function, "python_function", function)


def _named(function: Any) -> str:
    """`decode (train.py:12)`"""
    plain = _plain(function)
    name = getattr(plain, "__name__", type(plain).__name__)
    code = getattr(plain, "__code__", None)
    where = "" if code is None else f" ({Path(code.co_filename).name}:{code.co_firstlineno})"
    return f"{'a lambda' if name == '<lambda>' else name}{where}"


def _is_a_frameworks_own(function: Any) -> bool:
    """Whether TensorFlow or Keras made it in a function of theirs; one that they offer is the user's choice."""
    package = str(getattr(function, "__module__", "")).partition(".")[0]
    return package in ("tensorflow", "keras", "tf_keras") and "<locals>" in getattr(function, "__qualname__", "")
