"""`profkit whatif RUN`: how long a step would take with other settings of its DataLoader."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from profkit.cli import cells
from profkit.cli.report import positive
from profkit.cli.terminal import Terminal, busy, show
from profkit.errors import UnreadableTrace
from profkit.units import duration
from profkit.urls import location

if TYPE_CHECKING:
    from profkit.analysis.loaderprofile import LoaderProfile
    from profkit.analysis.report import Prediction
    from profkit.trace.model import Loader

BAR_CELLS = 30
BAR_CELLS_LEAST = 8  # with less room there is none
LONGEST_MARK = " ◂ now, recommended"
MOST = 64  # workers, or batches ahead of each: what may be asked about
COLUMNS = f"{'workers':>8}{'prefetch':>10}{'step':>9}{'wait':>9}{'speed-up':>10}  {'confidence':10} "


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "whatif",
        help="predict the step with other settings of the DataLoader",
        description="What a step would take with other numbers of workers and other prefetch factors: simulated from "
        "what the batches of a recorded run cost.",
        allow_abbrev=False,
    )
    parser.add_argument("path", type=location, metavar="RUN", help="a run, or its log folder; or a URL")
    parser.add_argument("--workers", type=counts, metavar="N,…", help="numbers of workers; default up to the cores + 2")
    parser.add_argument("--prefetch", type=factors, metavar="N,…", help="prefetch factors; default 1,2,4,8")
    parser.add_argument("--json", action="store_true", help="everything as one JSON object")
    parser.add_argument("--width", type=positive, metavar="N", help="cells per line; default the terminal's")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the predictions. Returns 0. Raises ProfkitError, OSError."""
    with busy(f"reading {arguments.path.name}"):
        answer = asked(arguments.path, arguments.workers, arguments.prefetch)
    if arguments.json:
        show(answer.as_json())
    else:
        terminal = Terminal.of(sys.stdout, arguments.width)
        text = answer.as_text(terminal.width)
        show(text if terminal.unicode else cells.ascii_only(text.replace("◂", "<")))
    return 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What was asked of a run, and what the simulator says."""

    profile: LoaderProfile
    loader: Loader
    curve: Sequence[Prediction]
    prefetch: Sequence[Prediction]
    best: Prediction

    @property
    def line(self) -> str:
        """What to paste; empty where nothing is to be gained."""
        from profkit.analysis.report import WORTH_A_CHANGE

        return to_paste(int(self.best.settings["num_workers"])) if self.best.speedup > WORTH_A_CHANGE else ""

    def as_json(self) -> str:
        """All of it as one JSON object on one line."""
        import msgspec

        profile = self.profile
        measured = {
            "num_workers": profile.num_workers,
            "prefetch_factor": profile.prefetch_factor,
            "cores": profile.cores,
            "step_ns": profile.step_ns,
            "wait_ns": profile.wait_ns,
        }
        return msgspec.json.encode(
            {
                "measured": measured,
                "predictions": [*self.curve, *self.prefetch],
                "recommended": self.best,
                "line": self.line,
            }
        ).decode()

    def as_text(self, width: int) -> str:
        """A table whose bars are the curve, the run's setting and the recommended one marked, and a line to paste."""
        profile = self.profile
        title = (
            f"{cells.clean(self.loader.name)}(num_workers={profile.num_workers}) on {profile.cores} cores, "
            f"as measured: {duration(profile.step_ns)} per step, {duration(profile.wait_ns)} of it waiting"
        )
        longest = max(prediction.step_ns for prediction in (*self.curve, *self.prefetch))
        room = min(BAR_CELLS, width - len(COLUMNS) - len(LONGEST_MARK))
        rows = [COLUMNS.rstrip(), *(self._row(prediction, longest, room) for prediction in self.curve)]
        if self.prefetch:
            rows += ["", *(self._row(prediction, longest, room) for prediction in self.prefetch)]
        table = [cells.truncate(row, width) for row in rows]
        return "\n".join([*cells.wrap(title, width), "", *table, "", *self._advice(width)])

    def _row(self, prediction: Prediction, longest_ns: float, room: int) -> str:
        settings = prediction.settings
        bar = cells.bar(prediction.step_ns / longest_ns, room) if room >= BAR_CELLS_LEAST else ""
        marks = {"now": self._is_present(prediction), "recommended": prediction is self.best}
        mark = ", ".join(word for word, applies in marks.items() if applies)
        return (
            f"{settings['num_workers']:>8}{settings.get('prefetch_factor', ''):>10}{duration(prediction.step_ns):>9}"
            f"{duration(prediction.wait_ns):>9}{prediction.speedup:>9.2f}×  {prediction.confidence:10} {bar}"
            + (f" ◂ {mark}" if mark else "")
        ).rstrip()

    def _is_present(self, prediction: Prediction) -> bool:
        settings, profile = prediction.settings, self.profile
        prefetch = settings.get("prefetch_factor", profile.prefetch_factor)
        return (settings["num_workers"], prefetch) == (profile.num_workers, profile.prefetch_factor)

    def _advice(self, width: int) -> list[str]:
        if not self.line:
            others = "" if self._is_present(self.best) else f"; {self.best.settings['num_workers']} would do as well"
            return cells.wrap(f"Keep what you have: no other number of workers promises more{others}.", width)
        promise = (
            f"Predicted: {self.best.speedup:.2f}× as fast, {self.best.confidence} confidence. "
            "profkit tune runs it and measures."
        )
        return [self.line, *cells.wrap(promise, width)]


def asked(path: str | Path, workers: Sequence[int] | None, prefetch: Sequence[int] | None) -> Answer:
    """The predictions for the run at `path`. Raises UnreadableTrace where it does not tell enough."""
    from profkit.analysis.whatif import PREFETCH_FACTORS, Predictor, knee, profile_of_run, worker_counts
    from profkit.trace.load import load

    found = profile_of_run(load(path))
    if found is None:
        raise UnreadableTrace(
            f"{path} does not tell what its batches cost: record 20 steps or more that are fed by a PyTorch DataLoader"
        )
    profile, loader = found
    predictor = Predictor(profile)
    curve = predictor.workers(sorted({*workers, profile.num_workers}) if workers else worker_counts(profile))
    best = knee(curve)
    with_workers = int(best.settings["num_workers"]) or profile.num_workers
    tried = predictor.prefetch(with_workers, prefetch or PREFETCH_FACTORS) if with_workers else []
    return Answer(profile, loader, curve, tried, best)


def to_paste(num_workers: int, prefetch_factor: int | None = None) -> str:
    """`DataLoader(…, num_workers=2, persistent_workers=True)`."""
    if num_workers == 0:
        return "DataLoader(…, num_workers=0)"
    ahead = "" if prefetch_factor is None else f"prefetch_factor={prefetch_factor}, "
    return f"DataLoader(…, num_workers={num_workers}, {ahead}persistent_workers=True)"


def counts(text: str) -> list[int]:
    """`0,2,4` as numbers of workers. Raises ArgumentTypeError."""
    return _numbers(text, 0)


def factors(text: str) -> list[int]:
    """`1,2,4` as prefetch factors. Raises ArgumentTypeError."""
    return _numbers(text, 1)


def _numbers(text: str, least: int) -> list[int]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and least <= int(word) <= MOST for word in words):
        raise argparse.ArgumentTypeError(f"{text!r} are no whole numbers from {least} to {MOST}, with commas between")
    return sorted({int(word) for word in words})
