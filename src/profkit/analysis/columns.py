"""A trace's columns as arrays, with the masks the questions share."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.trace.model import Trace
from profkit.trace.nesting import subtree_end
from profkit.trace.vocabulary import EXECUTOR_CATEGORIES, INTERNAL_CATEGORIES, STEP_WAIT_CATEGORIES
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

ITERATOR_MADE = "MakeIterator::"  # tf.data
DEVICE_KINDS = ("kernel", "memcpy", "memset", "collective")


class Columns:
    """Arrays over the spans of one trace, each made when first asked for."""

    def __init__(self, trace: Trace) -> None:
        self.trace = trace

    @cached_property
    def start(self) -> Ints:
        """Unix nanoseconds."""
        return self.trace.spans["start_ns"].to_numpy()

    @cached_property
    def duration(self) -> Ints:
        """Nanoseconds."""
        return self.trace.spans["duration_ns"].to_numpy()

    @cached_property
    def end(self) -> Ints:
        """Unix nanoseconds."""
        return self.start + self.duration

    @cached_property
    def track(self) -> Ints:
        """Number of the track."""
        return self.trace.spans["track"].to_numpy().astype(np.int64)

    @cached_property
    def subtree_end(self) -> Ints:
        """First row behind each span's descendants."""
        return subtree_end(self.track, self.start, self.end)

    @cached_property
    def _kinds(self) -> Words:
        return Words(self.trace.spans["kind"])

    def kind(self, *words: str) -> Bools:
        """Rows of these kinds."""
        return self._kinds.among(*words)

    @cached_property
    def on_device_track(self) -> Bools:
        """Rows on a device's stream."""
        streams = np.flatnonzero(Words(self.trace.tracks["kind"]).among("device_stream"))
        return np.isin(self.track, streams)

    @cached_property
    def device_work(self) -> Bools:
        """Rows of work a device did: kernels, collectives, copies."""
        return self.kind(*DEVICE_KINDS) & self.on_device_track

    @cached_property
    def on_training_thread(self) -> Bools:
        """Rows on the thread of the training loop."""
        thread = self.trace.info.training_thread
        return np.equal(self.track, -1 if thread is None else thread)

    @cached_property
    def _categories(self) -> Words:
        return Words(self.trace.spans["category"])

    @cached_property
    def waits(self) -> Bools:
        """Waits for data that hold up the step: on the training thread, or in the graph, wherever it runs."""
        in_the_graph = self._categories.among(*STEP_WAIT_CATEGORIES)
        return self.kind("data_wait") & (self.on_training_thread | in_the_graph)

    @cached_property
    def internals(self) -> Bools:
        """What a framework calls around the work."""
        return self._categories.among(*INTERNAL_CATEGORIES)

    @cached_property
    def self_time(self) -> Ints:
        """Duration minus direct children, in nanoseconds; what a framework calls around the work is its caller's."""
        own: Ints = self.trace.spans["self_ns"].to_numpy()
        internals = self.internals
        if not internals.any():
            return own
        parent = self.trace.spans["parent"].cast(pl.Int64).fill_null(-1).to_numpy()
        caller = np.where(internals, parent, -1)
        while len(deeper := np.flatnonzero((caller >= 0) & internals[caller])):
            caller[deeper] = parent[caller[deeper]]
        called = np.flatnonzero(caller >= 0)
        own = own.copy()
        np.add.at(own, caller[called], own[called])
        own[called] = 0
        return own

    @cached_property
    def passes_begun(self) -> Bools:
        """Iterators over the input being made, where the source records it: what follows is a pipeline's start-up."""
        names = self.trace.spans["name"]
        made = names.unique().drop_nulls().cast(pl.String)
        return self.kind("data_work") & Words(names).among(*made.filter(made.str.starts_with(ITERATOR_MADE)))

    @cached_property
    def executor_work(self) -> Bools:
        """Operators run by a framework's own executor: none of them is part of a wait, even while one goes on."""
        return self.kind("op") & self._categories.among(*EXECUTOR_CATEGORIES)
