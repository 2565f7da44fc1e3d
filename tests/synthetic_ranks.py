"""A run of as many ranks as one likes, as it lies on disk when it is finished: data-parallel training, a GPU each.

All ranks do the same work. In every step each waits for its batch, computes, and meets the others in the all-reduces
of its gradients, which end for all of them at once, some time after the last one has come. One rank, the straggler,
waits longer for its batches. One trace is assembled as a reader's would be; each rank's is made of it by moving spans
along their tracks, which keeps them nested and is quick.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit import __version__
from profkit.finalise import RanksState, State
from profkit.records import SUFFIX
from profkit.runfolder import PROFKIT_FOLDER, RankFolder
from profkit.trace.assemble import assemble
from profkit.trace.batch import NATIVE_FLOWS, NATIVE_MEMORY, NATIVE_SPANS, Batch, NativeHeader, NativeTrack, ReadContext
from profkit.trace.model import RunInfo, Trace
from profkit.trace.schema import STEPS, empty
from profkit.trace.store import conform, write_json, write_table, write_trace
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]

STRAGGLER = 77  # where there are as many ranks
STEPS_RECORDED, FIRST_STEP = 10, 40
BUCKETS = 8  # all-reduces of a step
GROUP_NS, SPANS_PER_GROUP = 40_000, 5  # an operator, two inner ones, a launch, a kernel
USUAL_NS, LATE_NS, LONGEST_NS = 2_000_000, 15_000_000, 25_000_000  # waits: the mean, the straggler's more, the limit
TRANSFER_NS, TAIL_NS = 200_000, 500_000  # of an all-reduce once all are there; from the last launch to the step's end
ELEMENTS = 6_553_600  # of a bucket, in single precision
ZERO_NS = 1_700_000_000_000_000_000
OPERATORS = ("aten::linear", "aten::conv2d", "aten::relu", "aten::add", "aten::layer_norm")
INNER = ("aten::addmm", "aten::convolution", "aten::clamp_min", "aten::add_", "aten::native_layer_norm")
KERNELS = ("ampere_sgemm_128x64_tn", "implicit_convolve_sgemm", "clamp_min_kernel", "add_kernel", "layer_norm_kernel")
ALL_REDUCE = "ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevComm*, unsigned long, ncclWork*)"
WAIT = "enumerate(DataLoader)#_MultiProcessingDataLoaderIter.__next__"
THREAD, COMPUTE, COMMUNICATION = range(3)  # tracks


def straggler_of(ranks: int) -> int:
    """The late one of so many."""
    return STRAGGLER if ranks > STRAGGLER else ranks // 2


def write_run(folder: Path, ranks: int, spans: int, only: Iterable[int] | None = None) -> Path:
    """Write a run folder with about `spans` spans for each rank, and return it; `only` these ranks, where given."""
    own = folder / PROFKIT_FOLDER
    (own / "capture").mkdir(parents=True, exist_ok=True)
    job = _Job(ranks, max(1, spans // STEPS_RECORDED // SPANS_PER_GROUP))
    for rank in range(ranks) if only is None else only:
        job.write(RankFolder(own, rank))
    write_json(RanksState(list(range(ranks))), RankFolder(own, 0).ranks_state)
    return folder


@dataclass(frozen=True)
class _Job:
    """So many ranks; `groups` of operators in each step. Arrays are over the spans of the one trace, or over steps."""

    ranks: int
    groups: int

    @property
    def length_ns(self) -> int:
        """Of a step in which somebody waits the longest."""
        return LONGEST_NS + self.groups * GROUP_NS + TAIL_NS

    @cached_property
    def base(self) -> Trace:
        """In which every wait is the longest."""
        random = np.random.default_rng(0)
        table = pl.concat([_steps(self), _operators(self, random), _all_reduces(self)])
        tracks = (
            NativeTrack(100, 100, "thread 100 (python)"),
            NativeTrack(0, 7, "stream 7", device="gpu:0"),
            NativeTrack(0, 20, "stream 20", device="gpu:0"),
        )
        header = NativeHeader(
            zero_ns=ZERO_NS, rank=0, world_size=self.ranks, backend="nccl", frameworks={"torch": "2.13.0"}
        )
        spans = table.cast({name: NATIVE_SPANS[name] for name in table.columns})
        counts = {"events": table.height}
        batch = Batch(spans, empty(NATIVE_MEMORY), empty(NATIVE_FLOWS), counts, {}, tracks, header)
        return assemble([batch], ReadContext(), source="kineto", profkit=__version__)

    @cached_property
    def waits(self) -> Ints:
        """Of each rank in each step."""
        waits = np.random.default_rng(1).gamma(4, USUAL_NS / 4, (self.ranks, STEPS_RECORDED))
        waits[straggler_of(self.ranks)] += LATE_NS
        return np.minimum(waits, LONGEST_NS).astype(np.int64)

    @cached_property
    def shorter(self) -> Ints:
        """By how much each step is shorter than in the base, since nobody waits the longest."""
        shorter: Ints = LONGEST_NS - self.waits.max(axis=0)
        return shorter

    @cached_property
    def step(self) -> Ints:
        """The place of each span's step."""
        return self.base.spans["step"].to_numpy().astype(np.int64) - FIRST_STEP

    @cached_property
    def rows(self) -> dict[str, Ints]:
        """The spans that last longer or shorter from rank to rank, in order of time."""
        kinds, names = Words(self.base.spans["kind"]), Words(self.base.spans["name"])
        masks = {word: kinds.among(word) for word in ("step", "data_wait", "collective")}
        masks["sync"] = names.among("cudaStreamSynchronize")
        return {word: np.flatnonzero(mask) for word, mask in masks.items()}

    def write(self, own: RankFolder) -> None:
        """One rank, as its sidecar leaves it."""
        trace, steps = self.trace_of(own.rank), self.steps_of(own.rank)
        write_trace(trace, own.trace(0))
        write_table(steps, own.table("steps"))
        info = RunInfo(
            profkit=__version__,
            script="train.py",
            host=trace.info.host,
            rank=own.rank,
            world_size=self.ranks,
            start_ns=trace.info.start_ns,
            end_ns=trace.info.end_ns,
            ended="finished",
            frameworks=trace.info.frameworks,
            devices=["cuda:0"],
        )
        captured = own.capture / f"{info.host}-{own.rank}-{1000 + own.rank}-{own.rank:08x}{SUFFIX}"
        captured.touch()
        write_json(info, own.info)
        write_json(State({captured.name: 0}, exported=True), own.state)

    def trace_of(self, rank: int) -> Trace:
        """The base with this rank's waits, and with the others met when the last one comes."""
        begins = np.cumsum(self.shorter) - self.shorter  # by so much earlier than in the base
        early = LONGEST_NS - self.waits[rank]  # by so much the rank is at work earlier in its step
        start, duration = (self.base.spans[name].to_numpy().copy() for name in ("start_ns", "duration_ns"))
        ends = start + duration
        step, rows = self.step, self.rows
        at_work = np.ones(len(start), np.bool_)
        at_work[rows["step"]] = at_work[rows["data_wait"]] = False
        start -= begins[step] + early[step] * at_work
        duration[rows["data_wait"]] -= early
        for word in ("step", "sync", "collective"):
            row = rows[word]
            end = ends[row] - (begins + self.shorter)[step[row]]
            if word == "collective":  # a stream carries out one after the other
                start[row[1:]] = np.maximum(start[row[1:]], end[:-1])
            duration[row] = end - start[row]
        spans = self.base.spans.with_columns(start_ns=start, duration_ns=duration)
        resized = np.concatenate(list(rows.values()))  # none of them has a child
        spans = spans.with_columns(self_ns=spans["self_ns"].scatter(resized, duration[resized]))
        host = f"node{rank // 8}"
        info = msgspec.structs.replace(self.base.info, rank=rank, host=host, end_ns=int((start + duration).max()))
        tracks = self.base.tracks.with_columns(rank=pl.lit(rank, pl.Int32), host=pl.lit(host))
        return replace(self.base, info=info, spans=spans, tracks=tracks)

    def steps_of(self, rank: int) -> pl.DataFrame:
        """The recorded steps, as the run clocked them."""
        length = self.length_ns - self.shorter
        end = ZERO_NS + np.cumsum(length)
        known = pl.DataFrame(
            {
                "number": FIRST_STEP + np.arange(STEPS_RECORDED),
                "start_ns": end - length,
                "end_ns": end,
                "wait_ns": self.waits[rank],
                "batches": np.ones(STEPS_RECORDED, np.int32),
                "window": np.zeros(STEPS_RECORDED, np.int32),
                "steady": np.ones(STEPS_RECORDED, np.bool_),
            }
        )
        return conform(known.with_columns(startup_ns=0, excluded_ns=0, own_ns=10_000, source=pl.lit("marker")), STEPS)


def _steps(job: _Job) -> pl.DataFrame:
    """Each with its wait at its beginning, and at its end the thread that waits for the device."""
    start = np.arange(STEPS_RECORDED) * job.length_ns
    names = pl.Series([f"ProfilerStep#{FIRST_STEP + number}" for number in range(STEPS_RECORDED)])
    last = start + job.length_ns - TAIL_NS
    return pl.concat(
        [
            _table(start, np.full_like(start, job.length_ns), names, "user_annotation", THREAD),
            _table(start, np.full_like(start, LONGEST_NS), WAIT, "user_annotation", THREAD),
            _table(last, np.full_like(start, TAIL_NS), "cudaStreamSynchronize", "cuda_runtime", THREAD),
        ]
    )


def _operators(job: _Job, random: np.random.Generator) -> pl.DataFrame:
    """Groups of operators one after the other, each with a kernel that it launches."""
    count = STEPS_RECORDED * job.groups
    at = np.arange(count)
    place = at % job.groups
    start = at // job.groups * job.length_ns + LONGEST_NS + place * GROUP_NS + random.integers(0, 2_000, count)
    took = random.integers(8_000, GROUP_NS - 6_000, count)
    sort = place % len(OPERATORS)
    outer, inner, kernel = (pl.Series(names).gather(sort) for names in (OPERATORS, INNER, KERNELS))
    launched = start + took // 2 + 700
    return pl.concat(
        [
            _table(start, took, outer, "cpu_op", THREAD),
            _table(start + 500, took // 2, inner, "cpu_op", THREAD),
            _table(start + 700, took // 8, "aten::empty", "cpu_op", THREAD),
            _table(launched, took // 8, "cudaLaunchKernel", "cuda_runtime", THREAD, at),
            _table(launched + 2_000, took // 2, kernel, "kernel", COMPUTE, at),
        ]
    )


def _all_reduces(job: _Job) -> pl.DataFrame:
    """The device's part, which begins as gradients get ready: in the second half of a step, at even distances."""
    steps, buckets = (grid.ravel() for grid in np.mgrid[:STEPS_RECORDED, 1 : BUCKETS + 1])
    work = job.groups * GROUP_NS
    start = steps * job.length_ns + LONGEST_NS + work // 2 + buckets * (work // 2) // BUCKETS
    said = {
        "Collective name": "allreduce",
        "dtype": "Float",
        "In msg nelems": ELEMENTS,
        "Out msg nelems": ELEMENTS,
        "Group size": job.ranks,
        "Process Group Name": "0",
        "Process Group Description": "default_pg",
    }
    args = pl.Series([json.dumps(said | {"Seq": number}) for number in range(len(start))])
    table = _table(start, np.full_like(start, TRANSFER_NS), ALL_REDUCE, "kernel", COMMUNICATION)
    return table.with_columns(args=args, bytes=pl.lit(4 * ELEMENTS, pl.Int64))


def _table(
    start: Ints, duration: Ints, name: str | pl.Series, category: str, track: int, correlation: Ints | None = None
) -> pl.DataFrame:
    return pl.DataFrame(
        {"start_ns": start, "duration_ns": duration, "name": name, "category": category, "track": track}
    ).with_columns(
        correlation=pl.lit(None, pl.Int64) if correlation is None else pl.Series(correlation),
        bytes=pl.lit(None, pl.Int64),
        args=pl.lit(None, pl.String),
    )
