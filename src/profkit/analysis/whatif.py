"""How long a step would take with other settings of its DataLoader: what one profiled run predicts.

docs/whatif.md says what is simulated, what is assumed, and how far the predictions were from runs that were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from profkit.analysis.loaderprofile import LoaderProfile as LoaderProfile
from profkit.analysis.loaderprofile import profile_of as profile_of
from profkit.analysis.loadersimulation import Outcome, simulate
from profkit.analysis.loading import judged_batches
from profkit.analysis.report import Prediction
from profkit.trace.model import Loader, Run

PREFETCH_FACTORS = (1, 2, 4, 8)
BATCH_SCALES = (0.5, 2.0, 4.0)
STAGES = ("item", "collate", "transfer")
MOST_WORKERS = 16
BEYOND_CORES = 2  # workers more than cores are tried, for those that mostly wait
GOOD_ENOUGH = 1.03  # of the shortest step: what fewer workers may cost
SELF_ERROR = 0.15  # a run that is not predicted by itself better than this had something else on its cores
MUCH_TRANSFER = 0.25  # of a fetch: an assumption about the transfer that large decides the prediction


@dataclass(frozen=True, slots=True)
class Settings:
    """A DataLoader's settings that the simulator knows. `batch_scale`: against the batch size of the run."""

    num_workers: int
    prefetch_factor: int
    batch_scale: float = 1.0
    without: str = ""  # a stage that costs nothing: item · collate · transfer

    @classmethod
    def of(cls, profile: LoaderProfile) -> Settings:
        """Those of the run."""
        return cls(profile.num_workers, profile.prefetch_factor)


def predict(profile: LoaderProfile, settings: Settings) -> Outcome:
    """The steady step with these settings, and its wait. One batch is one step."""
    if settings.without:
        profile = profile.without(settings.without)
    if settings.batch_scale != 1:
        profile = profile.with_batches(settings.batch_scale)
    return simulate(profile.costs, settings.num_workers, settings.prefetch_factor, profile.cores)


def predictions(profile: LoaderProfile, batch_size: int | None = None) -> list[Prediction]:
    """Other numbers of workers with the run's own among them, prefetch factors with the run's own workers or else the
    best number of them, other batch sizes, and the run without one stage. Speed-ups are in samples per second.
    """
    predicted, present = Predictor(profile), Settings.of(profile)
    curve = predicted.workers(worker_counts(profile))
    workers = profile.num_workers or int(knee(curve).settings["num_workers"])
    scales = [scale for scale in BATCH_SCALES if batch_size is None or (scale * batch_size).is_integer()]
    stages = [stage for stage in STAGES if stage != "transfer" or profile.num_workers]
    return [
        *curve,
        *(predicted.prefetch(workers, PREFETCH_FACTORS) if workers else ()),
        *(predicted("batch", replace(present, batch_scale=s), **_batch(s, batch_size)) for s in scales),
        *(predicted("without", replace(present, without=stage), stage=stage) for stage in stages),
    ]


class Predictor:
    """Predictions from one profile, against the run as it is."""

    def __init__(self, profile: LoaderProfile) -> None:
        self._profile = profile
        self._present = Settings.of(profile)
        self._now = predict(profile, self._present)

    def __call__(self, kind: str, settings: Settings, **shown: int | float | str) -> Prediction:
        """One; `shown` is what of the settings differs from the run."""
        outcome = self._now if settings == self._present else predict(self._profile, settings)
        return Prediction(
            kind=kind,
            settings=shown,
            step_ns=outcome.step_ns,
            wait_ns=outcome.wait_ns,
            speedup=self._now.step_ns * settings.batch_scale / outcome.step_ns,
            confidence=_confidence(self._profile, settings, self._now),
        )

    def workers(self, counts: Iterable[int]) -> list[Prediction]:
        """The curve over these numbers of workers."""
        return [self("workers", replace(self._present, num_workers=n), num_workers=n) for n in counts]

    def prefetch(self, num_workers: int, factors: Iterable[int]) -> list[Prediction]:
        """Prefetch factors, with this number of workers."""
        return [
            self(
                "prefetch",
                replace(self._present, num_workers=num_workers, prefetch_factor=factor),
                num_workers=num_workers,
                prefetch_factor=factor,
            )
            for factor in factors
        ]


def worker_counts(profile: LoaderProfile) -> list[int]:
    """0 and up to past what the cores or the run's own workers promise."""
    last = max(profile.cores + BEYOND_CORES, 2 * profile.num_workers)
    return sorted({*range(min(last, MOST_WORKERS) + 1), profile.num_workers})


def knee(curve: Sequence[Prediction]) -> Prediction:
    """Of the predictions of a curve over workers, the one with the fewest that is nearly as fast as the fastest."""
    shortest_ns = min(prediction.step_ns for prediction in curve)
    return next(prediction for prediction in curve if prediction.step_ns <= GOOD_ENOUGH * shortest_ns)


def profile_of_run(run: Run) -> tuple[LoaderProfile, Loader] | None:
    """The profile of the training loop's loader, and the loader; None where nobody looked inside it long enough."""
    batches = judged_batches(run)
    if not batches.height:
        return None
    loader = run.info.loaders.get(str(batches["loader"][0]), Loader("loader"))
    workers, cpus = loader.settings.get("num_workers"), loader.settings.get("cpus")
    if not isinstance(workers, int):
        workers = batches["worker"].n_unique() - batches["worker"].has_nulls()
    profile = profile_of(batches, workers, cpus if isinstance(cpus, int) else None)
    return (profile, loader) if profile is not None else None


def _batch(scale: float, batch_size: int | None) -> dict[str, int | float | str]:
    return {"batch_scale": scale} if batch_size is None else {"batch_size": round(scale * batch_size)}


def _confidence(profile: LoaderProfile, settings: Settings, now: Outcome) -> str:
    """high: measured settings, or between them; low: an assumption or foreign load decides; medium: all else."""
    if settings.batch_scale != 1 or abs(now.step_ns / profile.step_ns - 1) > SELF_ERROR:
        return "low"
    if profile.num_workers and not settings.num_workers:
        return "low"  # shared memory is part of what the run's fetches cost, and not needed without workers
    if settings == Settings.of(profile):
        return "high"
    if profile.assumes_transfer and settings.num_workers:
        fetch_ns = sum(b.fetch_cpu_ns + b.fetch_blocked_ns for b in profile.costs.batches) / len(profile.costs.batches)
        return "low" if profile.costs.send_cpu_ns > MUCH_TRANSFER * fetch_ns else "medium"
    return "high" if 1 <= settings.num_workers <= profile.num_workers and not settings.without else "medium"
