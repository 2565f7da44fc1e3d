"""Which stage of a tf.data pipeline holds up the training, why, and what to change.

A pipeline is a row of sections, each worked through by threads of its own: a prefetch ends one, a parallel stage is
one. A section is busy for `work / (threads * step)` of the time, its utilisation; from SATURATED on it is what the
training waits for. What comes before the first hand-over to another thread is the training thread's own work. The
evidence: autotuning's model (`Loader.stages`), or a recorded window where autotuning is off (`stages_of_window`), and
what the definition shows (`Loader.flaws`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from operator import attrgetter

import msgspec
import polars as pl

from profkit.analysis.causes import INPUT_BOUND, SATURATED
from profkit.trace.model import Loader, PipelineFlaw, PipelineStage, Trace
from profkit.units import duration

CAUSES = {
    "tf_no_prefetch": "the training thread makes its batches itself: nothing works ahead",
    "tf_py_function": "Python code in the pipeline, which shares one lock with the training loop",
    "tf_serial_map": "a map that works on one element at a time",
    "tf_parallelism_capped": "a stage has fewer threads than there are cores, or than it asks for",
    "tf_slow_source": "reading or generating the elements takes longer than the step",
    "tf_slow_stage": "a stage has all the threads there are and still takes longer than the step",
    "tf_shuffle_buffer": "a shuffle buffer is filled while the training waits",
}
NOTED = {
    "tf_shuffle_after_batch": "whole batches are shuffled, so the same samples stay together in every pass",
    "tf_cache_after_random": "what is random is cached, so every pass repeats the first one",
}

LEAST_BUSY = 0.50  # utilisation, or share of the wait, below which a section explains nothing
MOST_THREADS_UNASKED = 8  # advised where the number of cores is not known

_PARALLEL = ("ParallelMap", "MapAndBatch", "ParallelInterleave", "ParallelBatch", "ParallelFilter")
_SOURCES = (
    *("Generator", "FlatMap", "Interleave", "ParallelInterleave", "LegacyParallelInterleave"),
    *("TFRecord", "TextLine", "FixedLengthRecord", "TensorSlice", "Range", "Snapshot", "Sleep"),
)
_ONE_FOR_ONE = (  # stages that take an element for each they make, and stages of which all but nothing is seen
    *("Root", "Prefetch", "FiniteTake", "FiniteRepeat", "ForeverRepeat", "Map", "ParallelMapV2", "Shuffle"),
    *("ShuffleAndRepeat", "FlatMap", "FromTensor", "TensorSlice", "Zip", "AssertCardinality"),
)
_SPAN = "Iterator::"

Evidence = dict[str, str | int | float]


@dataclass(frozen=True, slots=True)
class PipelineCause:
    """Why a pipeline is slow. `speedup`: old step time over new, if this alone is removed."""

    name: str
    message: str
    remedy: str
    speedup: float
    evidence: Evidence
    confidence: str  # high · medium · low


@dataclass(frozen=True, slots=True)
class Work:
    """What a stage took for one batch, added over its threads."""

    stage: PipelineStage
    ns: float


@dataclass(frozen=True, slots=True)
class Section:
    """Stages that the same threads work through."""

    works: tuple[Work, ...]
    threads: int
    of_training: bool  # the training thread's own

    @property
    def work_ns(self) -> float:
        """For one batch, added over the threads."""
        return sum(work.ns for work in self.works)

    @property
    def batch_ns(self) -> float:
        """From batch to batch, if nothing else holds it up."""
        return self.work_ns / self.threads

    @property
    def slowest(self) -> Work:
        return max(self.works, key=attrgetter("ns"))


@dataclass(frozen=True, slots=True)
class _Case:
    """A loader whose batches are waited for, in a step of so many nanoseconds."""

    loader: Loader
    step_ns: float
    wait_ns: float
    sections: list[Section]

    @property
    def busy_ns(self) -> float:
        return max(self.step_ns - self.wait_ns, 1.0)

    @property
    def cores(self) -> int | None:
        cores = self.loader.settings.get("cpus")
        return cores if isinstance(cores, int) and cores > 0 else None

    def flaw(self, cause: str, stage: PipelineStage | None = None) -> PipelineFlaw | None:
        """The flaw of this name, of this stage if one is given."""
        named = [flaw for flaw in self.loader.flaws if flaw.cause == cause]
        return next((flaw for flaw in named if stage is None or _is_of(flaw, stage, self.loader.stages)), None)

    def threads(self, work_ns: float) -> int:
        """As many as hide the wait for batches of so much work, and the cores allow."""
        return max(1, min(math.ceil(work_ns / self.busy_ns), self.cores or MOST_THREADS_UNASKED))

    def gain(self, section: Section, work_ns: float, threads: float = 1, ahead: bool = True) -> float:
        """Old step time over new, if so much work on so many threads took the place of `section`, all else as it is.

        `ahead`: not in the training thread. All the work must fit on the cores.
        """
        others = [other for other in self.sections if other is not section and not other.of_training]
        all_ns = self.busy_ns + work_ns + sum(other.work_ns for other in others)
        own_ns = self.busy_ns if ahead else self.busy_ns + work_ns / threads
        shared_ns = all_ns / self.cores if self.cores else 0.0
        slowest_ns = max((other.batch_ns for other in others), default=0.0)
        return max(1.0, self.step_ns / max(own_ns, work_ns / threads, slowest_ns, shared_ns))


def pipeline_causes(loader: Loader, step_ns: float, wait_ns: float) -> list[PipelineCause]:
    """Why `wait_ns` of each step of `step_ns` is waited for, the cause that explains it best first.

    Empty where the wait is no problem, and where what is known explains too little of it.
    """
    if wait_ns < INPUT_BOUND * step_ns:
        return []
    case = _Case(loader, step_ns, wait_ns, sections(loader.stages, step_ns))
    return _measured(case) if case.sections else _by_definition(case)


def sections(stages: list[PipelineStage], step_ns: float) -> list[Section]:
    """From the training thread's own to the sources; none where no batch was counted.

    The model of a stage that is tuned while it runs does not say how many threads it has at the moment: here it has
    as many as were busy.
    """
    if not stages or not stages[0].elements:
        return []
    rows: list[list[Work]] = [[]]
    for work in works(stages):
        if work.stage.name.startswith(_PARALLEL):
            rows += [[work], []]
        else:
            rows[-1].append(work)
            if work.stage.name.startswith("Prefetch"):
                rows.append([])
    return [_section(row, number == 0, step_ns) for number, row in enumerate(rows) if row]


def works(stages: list[PipelineStage]) -> list[Work]:
    """The work of each stage for a batch: that for one of its elements, times how many of them a batch takes.

    Elements cannot simply be counted from end to end: a stage that works ahead has made more than the training got,
    and one before a repeat counts from its latest round. So most stages are known to take one element for one.
    """
    found: list[Work] = []
    per_batch, behind = 1.0, None  # how many of its elements a batch takes; the stage behind it, if that says
    for stage in stages:
        if behind is not None:
            per_batch *= stage.elements / max(behind.elements, 1)
        own_ns = 0.0 if stage.name.startswith("Prefetch") else stage.processing_ns / max(stage.elements, 1)
        found.append(Work(stage, own_ns * per_batch))
        behind = None if stage.name in _ONE_FOR_ONE else stage
    return found


def _section(row: list[Work], of_training: bool, step_ns: float) -> Section:
    """A section's threads and its work, which is at most what they can do in a step: a first element takes longer."""
    first = row[0]
    threads = max(first.stage.parallelism, 1)
    if first.stage.tuned:
        threads = max(threads, round(first.ns / step_ns))
    too_much = max(1.0, sum(work.ns for work in row) / (threads * step_ns))
    return Section(tuple(Work(work.stage, work.ns / too_much) for work in row), threads, of_training)


def correctness_notes(loader: Loader) -> list[str]:
    """What is wrong with the data rather than with its speed, one sentence each."""
    return [
        f"tf.data, {flaw.stage}: {NOTED[flaw.cause]} ({flaw.detail})" for flaw in loader.flaws if flaw.cause in NOTED
    ]


def with_stages(loader: Loader, traces: Sequence[Trace]) -> Loader:
    """`loader`, a tf.data pipeline, with the stages of the first recorded window where its model told none."""
    if loader.stages:
        return loader
    stages = next((found for trace in traces if (found := stages_of_window(trace))), [])
    return msgspec.structs.replace(loader, stages=stages)


def stages_of_window(trace: Trace) -> list[PipelineStage]:
    """The stages by their spans in a recorded window, from the pipeline's end to its sources; [] where there are none.

    A stage's span holds those of the stages before it, as long as no other thread makes their elements. Where one
    does, the span is the time it is waited for: a prefetch does no work of its own, and of a parallel stage all
    threads are taken to be busy.
    """
    spans = trace.spans.select(pl.col("name", "args").cast(pl.String), "duration_ns").filter(
        pl.col("name").str.starts_with(_SPAN)
    )
    rows = spans.group_by("name").agg(pl.len(), pl.col("duration_ns").sum(), pl.col("args").first())
    took: dict[str, int] = dict(rows.select("name", "duration_ns").iter_rows())
    in_order = sorted(rows.iter_rows(), key=lambda row: (row[0].count("::"), row[0]))
    return [_stage_of_spans(name, count, args, took) for name, count, _, args in in_order]


def _stage_of_spans(path: str, count: int, args: str | None, took: dict[str, int]) -> PipelineStage:
    name = re.sub(r"\[\d+\]$", "", path.rsplit("::", 1)[-1])
    parallelism = 1
    if name.startswith("Prefetch"):
        work_ns = 0
    elif name.startswith(_PARALLEL):
        parallelism = max(1, int(json.loads(args or "{}").get("parallelism", 1)))
        work_ns = parallelism * took[path]
    else:
        work_ns = max(0, took[path] - sum(ns for other, ns in took.items() if other.rpartition("::")[0] == path))
    return PipelineStage(name=name, elements=count, processing_ns=work_ns, buffered=0, parallelism=parallelism)


def _measured(case: _Case) -> list[PipelineCause]:
    """Causes by what the stages took: who is saturated, then what makes it slow."""
    own, slow = case.sections[0], max(case.sections[1:], key=attrgetter("batch_ns"), default=None)
    if own.of_training and own.work_ns >= LEAST_BUSY * case.wait_ns:
        found = [_no_prefetch(case, own), *_of_section(case, own)]
        return sorted(found, key=attrgetter("speedup"), reverse=True)
    utilisation = slow.batch_ns / case.step_ns if slow else 0.0
    refill = case.flaw("tf_shuffle_buffer")
    if refill is not None and utilisation < SATURATED:
        return [_refill(case, refill)]
    return _of_section(case, slow) if slow and utilisation >= LEAST_BUSY else []


def _no_prefetch(case: _Case, own: Section) -> PipelineCause:
    return PipelineCause(
        name="tf_no_prefetch",
        message=f"The training thread makes each batch itself, in {duration(own.work_ns)}: nothing works ahead.",
        remedy=f"{_PREFETCH}.",
        speedup=case.gain(own, own.work_ns),
        evidence={"own_ns_per_batch": round(own.work_ns), **_detail(case.flaw("tf_no_prefetch"))},
        confidence="high" if own.work_ns >= SATURATED * case.wait_ns else "medium",
    )


def _refill(case: _Case, flaw: PipelineFlaw) -> PipelineCause:
    return PipelineCause(
        name="tf_shuffle_buffer",
        message=f"No stage of the pipeline is busy all the time, but {flaw.detail}.",
        remedy="Use a smaller buffer, shuffle what is cheap (file names, indices) before the map, and "
        ".shuffle(…).repeat() in one go, so that it is filled but once.",
        speedup=case.step_ns / case.busy_ns,
        evidence=_detail(flaw),
        confidence="medium",
    )


def _of_section(case: _Case, section: Section) -> list[PipelineCause]:
    """What makes the slowest stage of a section slow, by its definition or else by its numbers."""
    stage = section.slowest.stage
    names = [name for name in _OF_STAGES if case.flaw(name, stage)] or [_by_numbers(case, section)]
    return [_slow_stage(case, section, name) for name in names]


def _by_numbers(case: _Case, section: Section) -> str:
    stage = section.slowest.stage
    if stage.name.startswith(_SOURCES):
        return "tf_slow_source"
    return "tf_serial_map" if _is_map(stage) and section.threads == 1 and not stage.tuned else "tf_slow_stage"


def _slow_stage(case: _Case, section: Section, name: str) -> PipelineCause:
    stage, stage_ns = section.slowest.stage, section.slowest.ns
    flaw = case.flaw(name, stage)
    rest_ns, threads = section.work_ns - stage_ns, case.threads(stage_ns)
    ahead = not section.of_training
    if name in _MORE_THREADS or (name == "tf_slow_stage" and stage.tuned and threads > section.threads):
        speedup = case.gain(section, rest_ns + stage_ns, (rest_ns + stage_ns) / (rest_ns + stage_ns / threads), ahead)
    else:
        speedup = case.gain(section, rest_ns, ahead=ahead)
    busy = section.batch_ns / (case.step_ns if ahead else case.wait_ns)
    on = "1 thread" if section.threads == 1 else f"{section.threads} threads"
    taken = f"tf.data's stage {stage.name} takes {duration(stage_ns)} for a batch on {on}"
    return PipelineCause(
        name=name,
        message=f"{taken}: {CAUSES[name]}.",
        remedy=_sentence(_change(name, stage, threads, section.threads)),
        speedup=speedup,
        evidence={
            "slow_stage": stage.name,
            "slow_stage_ns_per_batch": round(stage_ns),
            "slow_stage_parallelism": section.threads,
            "slow_stage_utilisation": round(min(1.0, busy), 3),
            **_detail(flaw),
        },
        confidence="high" if busy >= SATURATED else "medium" if flaw else "low",
    )


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _by_definition(case: _Case) -> list[PipelineCause]:
    """Causes where no time of a stage is known, which leaves open how much each of them takes."""
    flaws = {cause: flaw for cause in _BY_DEFINITION if (flaw := case.flaw(cause)) is not None}
    alone = "tf_no_prefetch" in flaws  # then the wait is all of the work, else it goes on during the step
    work_ns = case.wait_ns if alone else case.step_ns
    whole = Section((), 1, of_training=alone)
    threads = case.threads(work_ns)
    gains = {
        "tf_no_prefetch": case.gain(whole, work_ns),
        **dict.fromkeys(_MORE_THREADS, case.gain(whole, work_ns, threads, ahead=not alone)),
    }
    return [
        PipelineCause(
            name=cause,
            message=f"tf.data, {flaw.stage}: {CAUSES[cause]}.",
            remedy=_sentence(_REMEDIES[cause].format(threads=threads)),
            speedup=gains.get(cause, case.step_ns / case.busy_ns),
            evidence=_detail(flaw),
            confidence="medium" if len(flaws) == 1 else "low",
        )
        for cause, flaw in flaws.items()
    ]


_PREFETCH = ".prefetch(tf.data.AUTOTUNE) as the last stage of the pipeline"
_REMEDIES = {
    "tf_no_prefetch": _PREFETCH,
    "tf_py_function": "do it with TensorFlow's own operators, or once and for all before the training; "
    "num_parallel_calls=tf.data.AUTOTUNE helps only as far as the Python code waits",
    "tf_serial_map": ".map(…, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)",
    "tf_parallelism_capped": "num_parallel_calls=tf.data.AUTOTUNE, "
    "and options.threading.private_threadpool_size={threads} or none at all",
    "tf_shuffle_buffer": "use a smaller shuffle buffer, and shuffle before the map",
}
_BY_DEFINITION = tuple(_REMEDIES)
_OF_STAGES = ("tf_py_function", "tf_serial_map", "tf_parallelism_capped")
_MORE_THREADS = ("tf_serial_map", "tf_parallelism_capped")


def _change(name: str, stage: PipelineStage, threads: int, has: int) -> str:
    """What to do about a slow stage with `has` threads where `threads` would do; the names are tf.data's C++ ones."""
    if name in _REMEDIES:
        return _REMEDIES[name].format(threads=threads)
    if "Interleave" in stage.name:
        return ".interleave(…, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)"
    if name == "tf_slow_source":
        return (
            "interleave several generators or files with num_parallel_calls=tf.data.AUTOTUNE, "
            "read with tf.data's own ops, or .cache() what they give"
        )
    if threads > has:
        return f"tf.data gave it no more: set num_parallel_calls={threads}" if stage.tuned else _AHEAD
    return "make it cheaper, or .cache() what it makes"


_AHEAD = "put it before a .prefetch(tf.data.AUTOTUNE), or .cache() what it makes"


def _detail(flaw: PipelineFlaw | None) -> Evidence:
    return {"definition": f"{flaw.stage}: {flaw.detail}"} if flaw else {}


def _is_of(flaw: PipelineFlaw, stage: PipelineStage, stages: list[PipelineStage]) -> bool:
    """Whether `flaw` is one of `stage`: the definition counts maps from the sources, as in `Map 2 of 3`.

    TensorFlow leaves stages out and puts some together: where their number differs, any of the kind may be meant.
    """
    kind, *place = flaw.stage.split()
    alike = [other for other in reversed(stages) if (_is_map(other) if kind == "Map" else other.name.startswith(kind))]
    if place and int(place[2]) == len(alike):
        alike = [alike[int(place[0]) - 1]]
    return any(other is stage for other in alike)


def _is_map(stage: PipelineStage) -> bool:
    return "Map" in stage.name and stage.name != "FlatMap"
