"""What is wrong and what to do: causes, each with its evidence, remedy and predicted gain.

Thresholds, all of them here: a wait of less than INPUT_BOUND of the step is never a finding; from SEVERE on it is
said without "partly". A healthy run yields no finding.
"""

from __future__ import annotations

import math

from profkit.analysis.report import Finding, StepTime, Wait
from profkit.trace.model import Loader
from profkit.units import duration, percent

CAUSES = {
    "input_bound": "the training loop waits for its data",
}

INPUT_BOUND = 0.10  # of the step, exposed
SEVERE = 0.25
MOST_WORKERS_UNASKED = 8  # advised where the number of cores is not known

LoaderSettings = dict[str, str | int | float | bool | None]


def findings(
    step: StepTime | None,
    wait: Wait | None,
    stall_share: float | None,
    loaders: dict[str, Loader],
    steps: int,
) -> list[Finding]:
    """All findings, the most costly first. `stall_share` is None where no one can say how much was exposed."""
    if step is None or wait is None:
        return []
    share = wait.share if stall_share is None else stall_share
    if share < INPUT_BOUND:
        return []
    return [_input_bound(step, wait, share, stall_share is not None, _main_loader(loaders), steps)]


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
    remedy, speedup = _remedy(step.mean, share * step.mean, loader)
    return Finding(
        cause="input_bound",
        message=f"{label}: {percent(share)} of each step waits for data, {of_step}{unknown}.",
        remedy=remedy,
        evidence={
            "exposed_wait_share": round(share, 4),
            "wait_ns_per_step": round(wait.mean_ns),
            "wait_p95_ns": round(wait.p95_ns),
            "step_time_ns": round(step.mean),
            "steps": steps,
            **({f"loader_{k}": v for k, v in loader.settings.items()} if loader else {}),
        },
        predicted_speedup=round(speedup, 2),
        confidence="high" if sure and share >= SEVERE else "medium" if sure else "low",
    )


def _main_loader(loaders: dict[str, Loader]) -> Loader | None:
    """The loader of the training loop: the one that was opened first."""
    return next(iter(loaders.values()), None)


def _remedy(step_ns: float, wait_ns: float, loader: Loader | None) -> tuple[str, float]:
    """What to change, and old step time over new; docs/definitions.md has the arithmetic.

    With w workers (0: the training process itself) a batch costs the loader `produce` = max(w, 1) × the time in which
    one arrives; n workers deliver one every produce / n. The step cannot get shorter than what it does besides
    waiting, nor than all of the work divided among the cores.
    """
    busy_ns = max(step_ns - wait_ns, 1.0)
    settings = loader.settings if loader else {}
    workers, cores = settings.get("num_workers"), settings.get("cpus")
    if not isinstance(workers, int):
        return "Load the data in parallel with the step, or prefetch it.", step_ns / busy_ns
    known = cores if isinstance(cores, int) and cores > 0 else None
    produce_ns = wait_ns if workers == 0 else workers * step_ns
    wanted = math.ceil(produce_ns / busy_ns)
    target = max(1, min(wanted, known or MOST_WORKERS_UNASKED))
    if target <= workers:
        place = f" on {known} cores" if known else ""
        return (
            f"{workers} workers cannot keep up{place}: make a sample cheaper "
            "(smaller images, a faster decoder, cached or batched transforms).",
            step_ns / busy_ns,
        )
    shared_ns = (produce_ns + busy_ns) / known if known else 0.0
    predicted = step_ns / max(busy_ns, produce_ns / target, shared_ns)
    advice = f"DataLoader(…, num_workers={target}, persistent_workers=True)"
    if target < wanted:
        limit = f"there are {known} cores" if known else "the number of cores is not known"
        advice += f"; {wanted} would hide the wait, but {limit}: make a sample cheaper too"
    return advice + ".", max(predicted, 1.0)
