"""Finds the number of workers that feeds a training best: predicts, tries, and stops when there is no more to learn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

from profkit.analysis.loaderprofile import LoaderProfile
from profkit.analysis.report import WORTH_A_CHANGE
from profkit.analysis.whatif import GOOD_ENOUGH, PREFETCH_FACTORS, Settings, predict, worker_counts

USUAL_NOISE = 0.05  # of a step, while no setting was tried twice
LEAST_NOISE = 0.02
MOST_FORGIVEN = 0.1  # of the shortest step, for the sake of fewer workers, however much trials differ


class Point(NamedTuple):
    """Settings a trial is run with."""

    num_workers: int
    prefetch_factor: int


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial: what was predicted for it before it was run, and what came out: a profile, or else `failure`."""

    point: Point
    predicted_ns: float | None
    profile: LoaderProfile | None
    failure: str = ""

    @property
    def step_ns(self) -> float | None:
        """The steady step."""
        return None if self.profile is None else self.profile.step_ns


Measure = Callable[[Point | None], LoaderProfile]  # None: the program as it is


class Search:
    """The trials so far and what is concluded from them. The first one is the program as it is."""

    def __init__(self, baseline: LoaderProfile) -> None:
        self.base = Point(baseline.num_workers, baseline.prefetch_factor)
        self.trials = [Trial(self.base, None, baseline)]

    def add(self, trial: Trial) -> None:
        """A further trial was run."""
        self.trials.append(trial)

    def predicted_ns(self, point: Point) -> float:
        """The step at `point`, from the fastest trial that had workers, scaled so that this trial itself is met."""
        profile = self._model()
        scale = profile.step_ns / predict(profile, Settings.of(profile)).step_ns
        return scale * predict(profile, Settings(point.num_workers, point.prefetch_factor)).step_ns

    def next(self) -> Point | None:
        """What to try next; None where nothing promises more than the noise."""
        best, best_ns = self.best()
        for points in (self._other_workers(), self._other_prefetch(best)):
            if points and best_ns / min(map(self.predicted_ns, points)) - 1 > self.noise():
                return self._fewest(points)
        if best == self.base:
            return None
        for point in (Point(best.num_workers + step, best.prefetch_factor) for step in (-1, 1)):
            if point in self._other_workers() and self.predicted_ns(point) < best_ns * (1 + self.noise()):
                return point
        return next((point for point in (best, self.base) if len(self.steps_ns(point)) == 1), None)

    def best(self) -> tuple[Point, float]:
        """Of the points nearly as fast as the fastest the one with the fewest workers, and its median step."""
        steps = {point: median(self.steps_ns(point)) for point in self._points()}
        enough = min(steps.values()) * max(GOOD_ENOUGH, 1 + min(self.noise(), MOST_FORGIVEN))
        return next((point, steps[point]) for point in sorted(steps) if steps[point] <= enough)

    def speedup(self) -> float:
        """Of the best point against the program as it is."""
        return median(self.steps_ns(self.base)) / self.best()[1]

    def keeps(self) -> bool:
        """Whether what the program has is as good as anything that was tried."""
        return self.best()[0] == self.base or self.speedup() < max(WORTH_A_CHANGE, 1 + self.noise())

    def noise(self) -> float:
        """How far trials of the same settings lie from their middle, as a share of their step."""
        repeated = [steps for steps in map(self.steps_ns, self._points()) if len(steps) > 1]
        if not repeated:
            return USUAL_NOISE
        return max(LEAST_NOISE, *((max(steps) - min(steps)) / 2 / median(steps) for steps in repeated))

    def steps_ns(self, point: Point) -> list[float]:
        """The measured steps of all trials at `point`."""
        return [t.step_ns for t in self.trials if t.point == point and t.step_ns is not None]

    def _points(self) -> set[Point]:
        return {trial.point for trial in self.trials if trial.step_ns is not None}

    def _tried(self, point: Point) -> bool:
        return any(trial.point == point for trial in self.trials)

    def _model(self) -> LoaderProfile:
        profiles = [trial.profile for trial in self.trials if trial.profile is not None]
        return min(profiles, key=lambda profile: (profile.num_workers == 0, profile.step_ns))

    def _other_workers(self) -> list[Point]:
        """Numbers of workers that were not tried, the fewest first."""
        counts = worker_counts(self._model())
        return [p for p in (Point(n, self.base.prefetch_factor) for n in counts) if not self._tried(p)]

    def _other_prefetch(self, best: Point) -> list[Point]:
        """Prefetch factors that were not tried with the best number of workers."""
        factors = PREFETCH_FACTORS if best.num_workers else ()
        return [p for p in (Point(best.num_workers, factor) for factor in factors) if not self._tried(p)]

    def _fewest(self, points: list[Point]) -> Point:
        """The first of the points that is predicted nearly as fast as the fastest."""
        shortest_ns = min(map(self.predicted_ns, points))
        return next(point for point in points if self.predicted_ns(point) <= GOOD_ENOUGH * shortest_ns)


def search(measure: Measure, trials: int, has_time: Callable[[], bool], tell: Callable[[Search], None]) -> Search:
    """Run at most so many trials, while there is time; `tell` hears of each. Raises what the first trial raises."""
    from profkit.trial import TrialFailed

    found = Search(measure(None))
    tell(found)
    while len(found.trials) < trials and has_time():
        point = found.next()
        if point is None:
            break
        predicted_ns = found.predicted_ns(point)
        try:
            found.add(Trial(point, predicted_ns, measure(None if point == found.base else point)))
        except TrialFailed as failed:
            found.add(Trial(point, predicted_ns, None, str(failed)))
        tell(found)
    return found
