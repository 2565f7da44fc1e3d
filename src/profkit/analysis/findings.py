"""What is wrong and what to do: causes, each with its evidence, remedy and predicted gain.

Thresholds: a wait of less than INPUT_BOUND of the step is never a finding; from SEVERE on it is said without "partly".
Why there is a wait is decided in `profkit.analysis.causes` for a DataLoader whose inside is known, and in
`profkit.analysis.pipelines` for tf.data; where the evidence explains nothing, `input_bound` says so. Beginning passes
anew is a finding from RESTARTS of the run and LEAST_RESTARTS_NS on, beginning the first from FIRST_START_NS on. A
healthy run yields no finding.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import itemgetter

import polars as pl

from profkit.analysis import causes, pipelines, stragglers
from profkit.analysis.causes import INPUT_BOUND, LoaderCause, loader_causes
from profkit.analysis.pipelines import pipeline_causes
from profkit.analysis.remedies import remedy
from profkit.analysis.report import Finding, Loading, Period, StepTime, Wait
from profkit.analysis.steps import Restarts
from profkit.trace.model import Loader
from profkit.units import duration, percent

CAUSES = {
    "input_bound": "the training loop waits for its data, and what was recorded does not say why",
    **causes.CAUSES,
    **pipelines.CAUSES,
    "loader_restarts": "every pass over the input begins anew: workers, imports, first batches",
    **{name: f"beginning takes long: {what}" for name, (what, _) in causes.START_PARTS.items()},
    **stragglers.CAUSES,
}

SEVERE = 0.25
RESTARTS = 0.10  # of the run, without what its first pass took to begin
LEAST_RESTARTS_NS = 1_000_000_000
FIRST_START_NS = 5_000_000_000  # and RESTARTS of the run


@dataclass(frozen=True, slots=True)
class Input:
    """What is known of the training loop's input. `inside`: of its loader; `judged`: the batches that is about."""

    loaders: dict[str, Loader]
    restarts: Restarts | None = None
    inside: Loading | None = None
    judged: pl.DataFrame = field(default_factory=pl.DataFrame)
    foreign_cores: float | None = None  # that other processes used

    @property
    def loader(self) -> Loader | None:
        """The loader of the training loop: the one that was opened first."""
        return next(iter(self.loaders.values()), None)


def findings(
    step: StepTime | None,
    wait: Wait | None,
    stall_share: float | None,
    given: Input,
    steps: int,
    of_ranks: Sequence[tuple[float, Finding]] = (),
) -> list[Finding]:
    """All findings, the most costly first. `stall_share` is None where no one can say how much was exposed.

    `of_ranks`: what the comparison of all ranks found, each with what it costs per step.
    """
    # With what each cost the run, in nanoseconds.
    found = [(cost_ns * max(steps, 1), finding) for cost_ns, finding in of_ranks]
    if step is not None and wait is not None:
        share = wait.share if stall_share is None else stall_share
        if share >= INPUT_BOUND:
            verdict = _Verdict(step, wait, share, stall_share is not None, steps)
            found += [(part * step.mean * steps, finding) for part, finding in _waiting(verdict, given)]
    found += _beginning(given)
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


def about_the_wait(found: Sequence[Finding]) -> Finding | None:
    """The finding that says how much the training loop waits for its data, and why."""
    return next((finding for finding in found if "exposed_wait_share" in finding.evidence), None)


def _below(share: float) -> str:
    """A share below the threshold, rounded down, so that it never reads as one at the threshold."""
    return percent(math.floor(share * 1_000) / 1_000 if share >= 0.01 else share)


@dataclass(frozen=True, slots=True)
class _Verdict:
    """A wait that matters: of which steps, and whether it is known to be exposed."""

    step: StepTime
    wait: Wait
    share: float
    exposed: bool
    steps: int

    @property
    def sentence(self) -> str:
        """How much is waited, without why."""
        label = "Input-bound" if self.share >= SEVERE else "Partly input-bound"
        mean = self.step.mean
        unknown = "" if self.exposed else " (whether a device worked meanwhile was not recorded)"
        again = self.wait.period
        when = f"; {_which_steps(again)}" if again and mean * INPUT_BOUND < again.long_ns else ""
        of_step = f"{duration(self.share * mean)} of {duration(mean)}"
        return f"{label}: {percent(self.share)} of each step waits for data, {of_step}{unknown}{when}"

    @property
    def confidence(self) -> str:
        """In the wait, whatever its reason."""
        sure = self.exposed and self.steps >= 5
        return "high" if sure and self.share >= SEVERE else "medium" if sure else "low"

    def evidence(self, loader: Loader | None) -> dict[str, str | int | float | bool | None]:
        """The figures of the wait, and the loader's settings."""
        wait, again = self.wait, self.wait.period
        return {
            "exposed_wait_share": round(self.share, 4),
            "wait_ns_per_step": round(wait.mean_ns),
            "wait_p95_ns": round(wait.p95_ns),
            "step_time_ns": round(self.step.mean),
            "steps": self.steps,
            **({"every_steps": again.steps, "long_wait_ns": round(again.long_ns)} if again else {}),
            **({f"loader_{k}": v for k, v in loader.settings.items()} if loader else {}),
        }


def _waiting(verdict: _Verdict, given: Input) -> list[tuple[float, Finding]]:
    """Why the loop waits, each reason with the share of the step it explains; or that no one knows."""
    if given.inside is not None:
        reasons = loader_causes(given.inside, given.judged, given.foreign_cores)
        waited_ns = given.inside.wait_ns
    else:
        reasons = _of_pipeline(verdict, given.loader)
        waited_ns = verdict.share * verdict.step.mean
    if not reasons:
        return [(verdict.share, _unexplained(verdict, given.loader))]
    first, *others = reasons
    parts = [(verdict.share * reason.explained_ns / waited_ns, reason) for reason in others]
    return [
        (verdict.share, _explained(verdict, first, given.loader)),
        *((part, _also(verdict, reason, part)) for part, reason in parts if part >= causes.RELEVANT),
    ]


def _of_pipeline(verdict: _Verdict, loader: Loader | None) -> list[LoaderCause]:
    """Why a tf.data pipeline is waited for; what removing each reason gains is what it explains."""
    if loader is None:
        return []
    step_ns = verdict.step.mean
    return [
        LoaderCause(
            cause=found.name,
            explained_ns=step_ns * (1 - 1 / found.speedup),
            because=_as_reason(found.message),
            remedy=found.remedy,
            speedup=found.speedup,
            evidence=dict(found.evidence),
            sure=found.confidence != "low",
        )
        for found in pipeline_causes(loader, step_ns, verdict.share * step_ns)
    ]


def _as_reason(sentence: str) -> str:
    """A sentence as the end of another."""
    words = sentence.removesuffix(".")
    return words if words.startswith("tf.data") else words[0].lower() + words[1:]


def _explained(verdict: _Verdict, reason: LoaderCause, loader: Loader | None) -> Finding:
    return Finding(
        cause=reason.cause,
        message=f"{verdict.sentence}: {reason.because}.",
        remedy=reason.remedy,
        evidence={**verdict.evidence(loader), **reason.evidence},
        predicted_speedup=round(reason.speedup, 2),
        confidence=verdict.confidence if reason.sure else "low",
    )


def _also(verdict: _Verdict, reason: LoaderCause, part: float) -> Finding:
    """A further reason; the wait itself has been said."""
    because = reason.because[0].upper() + reason.because[1:]
    return Finding(
        cause=reason.cause,
        message=f"{because}: {percent(part)} of each step.",
        remedy=reason.remedy,
        evidence=reason.evidence,
        predicted_speedup=round(reason.speedup, 2),
        confidence="medium" if reason.sure and verdict.confidence != "low" else "low",
    )


def _unexplained(verdict: _Verdict, loader: Loader | None) -> Finding:
    advice = remedy(verdict.step.mean, verdict.share * verdict.step.mean, loader)
    return Finding(
        cause="input_bound",
        message=f"{verdict.sentence}.",
        remedy=advice.text,
        evidence={**verdict.evidence(loader), **advice.evidence},
        predicted_speedup=round(advice.speedup, 2),
        confidence=verdict.confidence,
    )


def _beginning(given: Input) -> list[tuple[float, Finding]]:
    """What passes over the input take to begin, where it matters, with its nanoseconds."""
    restarts = given.restarts
    if restarts is not None and restarts.startup_ns >= max(LEAST_RESTARTS_NS, RESTARTS * restarts.run_ns):
        return [(restarts.startup_ns, _loader_restarts(restarts, given))]
    if restarts is not None and restarts.first_ns >= max(FIRST_START_NS, RESTARTS * restarts.run_ns):
        slow = _slow_start(restarts, given)
        return [] if slow is None else [(restarts.first_ns, slow)]
    return []


def _loader_restarts(restarts: Restarts, given: Input) -> Finding:
    loader, inside = given.loader, given.inside
    share = restarts.startup_ns / restarts.run_ns
    settings = loader.settings if loader else {}
    each_ns = restarts.startup_ns / restarts.passes
    ends_workers = bool(settings.get("num_workers")) and settings.get("persistent_workers") is False
    part, part_ns = causes.start_part(inside) if inside is not None else ("", 0.0)
    mostly = f", mostly {causes.START_PARTS[part][0]} ({duration(part_ns)})" if part_ns > each_ns / 2 else ""
    if ends_workers:
        cause, advice = "loader_restarts", "DataLoader(…, persistent_workers=True): the workers stay from pass to pass."
    elif mostly:
        cause, advice = part, causes.START_PARTS[part][1]
    else:
        cause = "loader_restarts"
        advice = "Make what begins a pass cheaper: open files once, fill a smaller shuffle buffer, keep the iterator."
    return Finding(
        cause=cause,
        message=(
            f"Start-up: {percent(share)} of the run goes into beginning {restarts.passes} further "
            f"{'pass' if restarts.passes == 1 else 'passes'} over the input, {duration(each_ns)} each{mostly}."
        ),
        remedy=advice,
        evidence={
            "startup_share": round(share, 4),
            "startup_ns_per_pass": round(each_ns),
            "passes": restarts.passes,
            **_start_evidence(inside),
            **{f"loader_{name}": value for name, value in settings.items()},
        },
        predicted_speedup=round(restarts.run_ns / (restarts.run_ns - restarts.startup_ns), 2),
        confidence="high" if ends_workers or mostly else "medium",
    )


def _slow_start(restarts: Restarts, given: Input) -> Finding | None:
    """The run's only start, where the loader says what it went into."""
    if given.inside is None:
        return None
    part, part_ns = causes.start_part(given.inside)
    if part_ns < restarts.first_ns / 2:
        return None
    what, advice = causes.START_PARTS[part]
    return Finding(
        cause=part,
        message=f"Start-up: the first batch came after {duration(restarts.first_ns)}, mostly {what} "
        f"({duration(part_ns)}).",
        remedy=advice,
        evidence={"startup_ns": restarts.first_ns, **_start_evidence(given.inside)},
        predicted_speedup=round(restarts.run_ns / (restarts.run_ns - part_ns), 2),
        confidence="low",  # a longer run makes it small
    )


def _start_evidence(inside: Loading | None) -> dict[str, str | int | float | bool | None]:
    startup = inside.startup if inside is not None else None
    if startup is None:
        return {}
    return {
        "worker_start_ns": round(startup.process_ns),
        "worker_init_ns": round(startup.init_ns),
        "dataset_iter_ns": round(startup.dataset_ns),
        "first_fetch_ns": round(startup.first_fetch_ns),
    }


def _which_steps(again: Period) -> str:
    others = duration(again.others_ns)
    which = "other" if again.steps == 2 else _ordinal(again.steps)
    return f"every {which} step waits {duration(again.long_ns)}, the others {others}"


def _ordinal(number: int) -> str:
    ending = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th") if number // 10 % 10 != 1 else "th"
    return f"{number}{ending}"
