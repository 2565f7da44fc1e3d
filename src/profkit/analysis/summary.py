"""One run, every question: the Report that all surfaces show."""

from __future__ import annotations

from dataclasses import replace

import msgspec
import numpy as np
import polars as pl

from profkit.analysis.breakdown import CLASSES, Breakdown
from profkit.analysis.findings import Input, about_the_wait, findings, headline
from profkit.analysis.loaders import loaders_of
from profkit.analysis.loading import judged_batches, loading
from profkit.analysis.opclasses import unclassified
from profkit.analysis.pipelines import correctness_notes, with_stages
from profkit.analysis.report import Finding, Loading, Ranks, Report, StepRow, Wait
from profkit.analysis.steps import (
    Sample,
    exposed_fraction,
    histogram,
    overhead,
    restarts,
    sample_of_run,
    sample_of_trace,
    step_time,
    wait,
)
from profkit.analysis.stragglers import SlowInput, findings_of_ranks, slowest_input
from profkit.analysis.whatif import predictions, profile_of_run
from profkit.analysis.windows import loaders_of_all, tables_of, windows_of
from profkit.trace.model import Run


def report(run: Run, ranks: Ranks | None = None) -> Report:
    """Everything the analyses say about `run`. Operators, kernels and memory are those of its first window;
    of a file that was read in sections, those of all.

    `ranks`: how it compares with the other ranks of its training, where they were looked at.
    """
    windows = windows_of(run)
    parts = [window.breakdown for window in windows]
    with_operators = [window.breakdown for window in windows if window.has_operators]
    fraction = exposed_fraction(with_operators) if with_operators else (None if run.info.devices else 1.0)
    sample = _sample(run, sum(window.batches for window in windows), with_operators, parts, fraction)
    step = step_time(sample) if sample else None
    waited = wait(sample) if sample and sample.batches else None
    stall_share = _stall_share(waited)
    steps = run.steps.height or sum(len(part.number) for part in parts if not part.whole_trace)
    judged = len(sample.duration_ns) if sample else 0
    known = run.info.loaders or loaders_of_all(windows)
    loaders = {
        number: with_stages(loader, run.traces) if loader.name == "tf.data" else loader
        for number, loader in known.items()
    }
    inside, batches = _inside(run), judged_batches(run)
    counters = _counters(run.counters)
    given = Input(loaders, restarts(run.steps), inside, batches, _foreign_cores(counters, run))
    found = findings(step, waited, stall_share, given, judged)
    if ranks is not None:
        # The finding about a late rank says all that is to be said of the rank's own wait.
        others = None if slowest_input(ranks) == run.info.rank else waited
        found = findings(step, others, stall_share, given, judged, _of_ranks(run, ranks, found))
    tables = tables_of(windows)
    unclassified_share, unclassified_device_share = unclassified(tables.classes)
    return Report(
        name=run.name,
        profkit=run.info.profkit,
        frameworks=run.info.frameworks,
        state=run.info.ended,
        last_step=int(run.steps["number"].max()) if run.steps.height else None,  # type: ignore[arg-type]
        headline=headline(found, waited, stall_share, steps),
        steps=steps,
        measured_on=sample.words if sample else "no step",
        step_time_ns=step,
        step_histogram=histogram(sample.duration_ns) if sample else None,
        stall_share=stall_share,
        wait=waited,
        wait_histogram=histogram(sample.wait_ns) if sample and waited else None,
        loading=inside,
        ranks=ranks,
        breakdown_ns=_mean_breakdown(parts),
        breakdown_steps=sum(len(part.number) for part in parts),
        phases_ns=_mean_phases(parts),
        operators=tables.operators.by_name,
        operators_by_shape=tables.operators.by_shape,
        operators_by_module=tables.operators.by_module,
        kernels=tables.kernels,
        operator_classes=tables.classes,
        unclassified_share=unclassified_share,
        unclassified_device_share=unclassified_device_share,
        memory=tables.memory,
        findings=found,
        overhead=overhead(run.steps, run.info.window_close_ns),
        dropped=_added([window.info.dropped for window in windows]),
        repaired=_added([window.info.repaired for window in windows]),
        counts=_added([window.info.counts for window in windows]),
        notes=[
            *run.info.notes,
            *(note for loader in loaders.values() for note in correctness_notes(loader)),
            *(note for window in windows for note in window.info.notes),
            *(ranks.notes if ranks is not None else []),
        ],
        windows=len(windows),
        recorded=bool(with_operators),
        window_steps=[row for part in parts if not part.whole_trace for row in _rows(part)],
        counters=counters,
        schedule=run.info.schedule,
        hparams=run.info.hparams,
    )


def _of_ranks(run: Run, ranks: Ranks, own: list[Finding]) -> list[tuple[float, Finding]]:
    """What the comparison of ranks finds; of one that is late by its input with that rank's own finding about it."""
    late = slowest_input(ranks)
    if late is None or late not in run.ranks:
        return findings_of_ranks(ranks, None)
    elsewhere = late != run.info.rank
    of_late = run.of_rank(late) if elsewhere else run
    loader = next(iter((of_late.info.loaders or loaders_of(of_late.traces)).values()), None)
    finding = about_the_wait(report(of_late).findings if elsewhere else own)
    return findings_of_ranks(ranks, SlowInput(loader.name if loader else "input", finding))


def report_of_window(run: Run, whole: Report, place: int) -> Report:
    """The report of the window at this place among the run's; of the only one it is that of the whole run."""
    return whole if len(run.open_traces) == 1 else report(replace(run, open_traces=run.open_traces[place : place + 1]))


def _sample(
    run: Run, batches: int, recorded: list[Breakdown], parts: list[Breakdown], fraction: float | None
) -> Sample | None:
    """The steps to judge by: the run's, unless only its windows know of any wait, or it is but a trace."""
    if not run.steps.height:
        return sample_of_trace(parts, batches, "there are none outside")
    sample = sample_of_run(run.steps, fraction)
    inside = batches if recorded and sample is not None and not sample.batches else 0
    if inside:
        return sample_of_trace(recorded, inside, "outside it no wait was recorded")
    return sample


def _stall_share(waited: Wait | None) -> float | None:
    """Exposed wait over step time; None where no one can say how much of the wait was exposed."""
    if waited is None or waited.exposed_ns is None:
        return None
    return waited.share * (waited.exposed_ns / waited.mean_ns) if waited.mean_ns else 0.0


def _mean_breakdown(parts: list[Breakdown]) -> dict[str, float]:
    """Nanoseconds per step of each class, over all recorded steps; of the whole trace where it has no steps."""
    if not parts:
        return {}
    count = sum(len(part.number) for part in parts)
    return {name: float(sum(int(part.time_ns[name].sum()) for part in parts)) / count for name in CLASSES}


def _mean_phases(parts: list[Breakdown]) -> dict[str, float]:
    """Nanoseconds per step that each phase covers, over all recorded steps; none where no phase is known."""
    count = sum(len(part.number) for part in parts)
    names = dict.fromkeys(name for part in parts for name in part.phases_ns)
    return {
        name: float(sum(int(p.phases_ns[name].sum()) for p in parts if name in p.phases_ns)) / count for name in names
    }


def _rows(part: Breakdown) -> list[StepRow]:
    """One row per step, in plain numbers."""
    exposed: list[int] | list[None] = [None] * len(part.number) if part.exposed_ns is None else part.exposed_ns.tolist()
    classes = np.stack([part.time_ns[name] for name in CLASSES], axis=1).tolist()
    return [
        StepRow(
            number=number,
            start_ns=start,
            duration_ns=duration,
            breakdown_ns=dict(zip(CLASSES, times, strict=True)),
            wait_ns=waited,
            exposed_wait_ns=exposed_ns,
        )
        for number, start, duration, times, waited, exposed_ns in zip(
            part.number.tolist(),
            part.start.tolist(),
            part.duration.tolist(),
            classes,
            part.wait_ns.tolist(),
            exposed,
            strict=True,
        )
    ]


def _counters(counters: pl.DataFrame) -> dict[str, dict[str, float]]:
    """Mean and maximum of each counter over the run."""
    grouped = counters.group_by("name", maintain_order=True).agg(
        pl.mean("value").alias("mean"), pl.max("value").alias("max")
    )
    return {name: {"mean": mean, "max": top} for name, mean, top in grouped.iter_rows()}


def _inside(run: Run) -> Loading | None:
    """The inside of the training loop's loader, with what other settings of it would bring."""
    inside, profiled = loading(run), profile_of_run(run)
    if inside is None or profiled is None:
        return inside
    batch_size = inside.settings.get("batch_size")
    size = batch_size if isinstance(batch_size, int) else None
    return msgspec.structs.replace(inside, predictions=predictions(profiled[0], size))


def _foreign_cores(counters: dict[str, dict[str, float]], run: Run) -> float | None:
    """Cores that processes other than the training's used, as means over the run; None where nobody sampled."""
    cores = next((loader.settings.get("cpus") for loader in run.info.loaders.values()), None)
    if not isinstance(cores, int) or not {"cpu_percent", "host_cpu_percent"} <= counters.keys():
        return None
    return max(0.0, (counters["host_cpu_percent"]["mean"] * cores - counters["cpu_percent"]["mean"]) / 100)


def _added(parts: list[dict[str, int]]) -> dict[str, int]:
    """Counts of several windows in one."""
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: sum(part.get(name, 0) for part in parts) for name in names}
