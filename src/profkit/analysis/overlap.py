"""How much of the communication is hidden behind computation, and how long no device works.

By the algebra of interval sets: what two sets have in common is as long as both less their union.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from profkit.analysis.collectives import communicating
from profkit.analysis.columns import Columns
from profkit.trace.intervals import Intervals
from profkit.trace.model import Trace
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Overlap:
    """What happens within each of some stretches of a trace, in nanoseconds; what happens at once counts in each.

    `exposed` is the communication while nothing is computed; `idle` is None where no device's work was recorded.
    """

    compute: Ints
    communication: Ints
    copy: Ints
    exposed: Ints
    idle: Ints | None


def overlap(trace: Trace, columns: Columns, start: Ints, end: Ints) -> Overlap:
    """Within each [start, end). With a device its kernels compute and its collectives communicate.

    Without one, operators of the training thread and of a framework's executor compute, save those that are part of
    a wait for data; collectives communicate, on whatever thread they are carried out.
    """
    communication = communicating(trace, columns)
    if trace.info.device_recorded:
        copies = _copies(columns)
        communication &= columns.on_device_track
        work = _union(columns, columns.device_work)
        idle = (end - start) - work.covered(start, end)
    else:
        copies = np.zeros_like(communication)
        idle = None
    computed, communicated = computation(trace, columns), _union(columns, communication)
    computing = computed.covered(start, end)
    return Overlap(
        compute=computing,
        communication=communicated.covered(start, end),
        copy=_union(columns, copies).covered(start, end),
        exposed=(computed | communicated).covered(start, end) - computing,
        idle=idle,
    )


def computation(trace: Trace, columns: Columns) -> Intervals:
    """When something is computed."""
    if trace.info.device_recorded:
        return _union(columns, columns.device_work & ~_copies(columns) & ~columns.kind("collective"))
    return _union(columns, _computing_on_host(trace, columns))


def _copies(columns: Columns) -> Bools:
    return columns.device_work & columns.kind("memcpy", "memset")


def _computing_on_host(trace: Trace, columns: Columns) -> Bools:
    communicates = Words(trace.spans["op_class"]).among("communication")
    waits = Words(trace.spans["phase"]).among("data")
    here = columns.on_training_thread & ~waits | columns.executor_work
    return columns.kind("op") & here & ~communicates


def _union(columns: Columns, mask: Bools) -> Intervals:
    return Intervals.union(columns.start[mask], columns.end[mask])
