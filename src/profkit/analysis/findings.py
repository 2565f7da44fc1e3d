"""What is wrong and what to do: causes, each with its evidence, remedy and predicted gain.

Thresholds, all of them here: a wait of less than INPUT_BOUND of the step is never a finding; from SEVERE on it is
said without "partly". Beginning passes anew is a finding from RESTARTS of the run and LEAST_RESTARTS_NS on. A healthy
run yields no finding.
"""

from __future__ import annotations

import math
from operator import itemgetter

from profkit.analysis.remedies import remedy
from profkit.analysis.report import Finding, Period, StepTime, Wait
from profkit.analysis.steps import Restarts
from profkit.trace.model import Loader
from profkit.units import duration, percent

CAUSES = {
    "input_bound": "the training loop waits for its data",
    "loader_restarts": "every pass over the input begins anew: workers, imports, first batches",
}

INPUT_BOUND = 0.10  # of the step, exposed
SEVERE = 0.25
RESTARTS = 0.10  # of the run, without what its first pass took to begin
LEAST_RESTARTS_NS = 1_000_000_000


def findings(
    step: StepTime | None,
    wait: Wait | None,
    stall_share: float | None,
    loaders: dict[str, Loader],
    steps: int,
    restarts: Restarts | None = None,
) -> list[Finding]:
    """All findings, the most costly first. `stall_share` is None where no one can say how much was exposed."""
    found: list[tuple[float, Finding]] = []  # with what each cost the run, in nanoseconds
    if step is not None and wait is not None:
        share = wait.share if stall_share is None else stall_share
        if share >= INPUT_BOUND:
            judged = _input_bound(step, wait, share, stall_share is not None, _main_loader(loaders), steps)
            found.append((share * step.mean * steps, judged))
    if restarts is not None and restarts.startup_ns >= max(LEAST_RESTARTS_NS, RESTARTS * restarts.run_ns):
        found.append((restarts.startup_ns, _loader_restarts(restarts, _main_loader(loaders))))
    return [finding for _, finding in sorted(found, key=itemgetter(0), reverse=True)]


def headline(found: list[Finding], wait: Wait | None, stall_share: float | None, steps: int) -> str:
    """The verdict in one sentence."""
    if found:
        return found[0].message
    if not steps:
        return "No step was recorded, so there is nothing to judge."
    if wait is None:
        return "No wait for data was recorded, so the input cannot be judged."
    share = wait.share if stall_share is None else stall_share
    return f"Nothing to fix in the input: {_below(share)} of each step waits for data."


def _below(share: float) -> str:
    """A share below the threshold, rounded down, so that it never reads as one at the threshold."""
    return percent(math.floor(share * 1_000) / 1_000 if share >= 0.01 else share)


def _input_bound(step: StepTime, wait: Wait, share: float, exposed: bool, loader: Loader | None, steps: int) -> Finding:
    label = "Input-bound" if share >= SEVERE else "Partly input-bound"
    sure = exposed and steps >= 5
    of_step = f"{duration(share * step.mean)} of {duration(step.mean)}"
    unknown = "" if exposed else " (whether a device worked meanwhile was not recorded)"
    again = wait.period
    when = f"; {_which_steps(again)}" if again and step.mean * INPUT_BOUND < again.long_ns else ""
    advice = remedy(step.mean, share * step.mean, loader)
    return Finding(
        cause="input_bound",
        message=f"{label}: {percent(share)} of each step waits for data, {of_step}{unknown}{when}.",
        remedy=advice.text,
        evidence={
            "exposed_wait_share": round(share, 4),
            "wait_ns_per_step": round(wait.mean_ns),
            "wait_p95_ns": round(wait.p95_ns),
            "step_time_ns": round(step.mean),
            "steps": steps,
            **({"every_steps": again.steps, "long_wait_ns": round(again.long_ns)} if again else {}),
            **({f"loader_{k}": v for k, v in loader.settings.items()} if loader else {}),
            **advice.evidence,
        },
        predicted_speedup=round(advice.speedup, 2),
        confidence="high" if sure and share >= SEVERE else "medium" if sure else "low",
    )


def _loader_restarts(restarts: Restarts, loader: Loader | None) -> Finding:
    share = restarts.startup_ns / restarts.run_ns
    settings = loader.settings if loader else {}
    each_ns = restarts.startup_ns / restarts.passes
    ends_workers = bool(settings.get("num_workers")) and settings.get("persistent_workers") is False
    advice = (
        "DataLoader(…, persistent_workers=True): the workers stay from pass to pass."
        if ends_workers
        else "Make what begins a pass cheaper: open files once, fill a smaller shuffle buffer, keep the iterator."
    )
    return Finding(
        cause="loader_restarts",
        message=(
            f"Start-up: {percent(share)} of the run goes into beginning {restarts.passes} further "
            f"{'pass' if restarts.passes == 1 else 'passes'} over the input, {duration(each_ns)} each."
        ),
        remedy=advice,
        evidence={
            "startup_share": round(share, 4),
            "startup_ns_per_pass": round(each_ns),
            "passes": restarts.passes,
            **{f"loader_{name}": value for name, value in settings.items()},
        },
        predicted_speedup=round(restarts.run_ns / (restarts.run_ns - restarts.startup_ns), 2),
        confidence="high" if ends_workers else "medium",
    )


def _which_steps(again: Period) -> str:
    others = duration(again.others_ns)
    which = "other" if again.steps == 2 else _ordinal(again.steps)
    return f"every {which} step waits {duration(again.long_ns)}, the others {others}"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number // 10 % 10 != 1 else "th"
    return f"{number}{ending}"


def _main_loader(loaders: dict[str, Loader]) -> Loader | None:
    """The loader of the training loop: the one that was opened first."""
    return next(iter(loaders.values()), None)
