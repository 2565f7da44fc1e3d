"""`profkit tune train.py …`: short trials of a program with other settings of its DataLoaders."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from profkit.cli import cells
from profkit.cli.report import positive
from profkit.cli.run import add_program, program
from profkit.cli.terminal import Terminal, busy, show
from profkit.cli.whatif import to_paste
from profkit.errors import UsageError
from profkit.units import duration, percent

if TYPE_CHECKING:
    from profkit.analysis.loaderprofile import LoaderProfile
    from profkit.trial import Order
    from profkit.tune import Point, Search, Trial

COLUMNS = f"{'trial':>5}{'workers':>9}{'prefetch':>10}{'predicted':>12}{'measured':>12}{'error':>8}"
START_UP_BATCHES = 8  # before a step is steady, besides those that are prefetched


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options. Everything behind the program's name belongs to the program."""
    parser = commands.add_parser(
        "tune",
        help="find num_workers by short trials of a program",
        usage="profkit tune [options] (train.py | -m module) [arguments of the program ...]",
        description="Run the beginning of a program several times, its DataLoaders with other settings each time, and "
        "say which settings feed the training best. The program is stopped before its end, but whatever it writes "
        "until then it writes in every trial.",
        allow_abbrev=False,
    )
    parser.add_argument("--steps", type=positive, default=30, metavar="N", help="steady steps of a trial; default 30")
    parser.add_argument("--trials", type=positive, default=6, metavar="N", help="trials at most; default 6")
    parser.add_argument("--minutes", type=positive, default=10, metavar="N", help="begin no trial later; default 10")
    parser.add_argument("--limit", type=positive, default=60, metavar="SECONDS", help="of one trial; default 60")
    parser.add_argument("--json", action="store_true", help="all trials and the result, as one JSON object")
    add_program(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run trials and print what came out. Returns 0. Raises ProfkitError, OSError."""
    from profkit.trial import Order
    from profkit.tune import search

    target, *rest = program(arguments, "tune")
    if arguments.module is None and not Path(target).is_file():
        raise UsageError(f"cannot run {target!r}: there is no such file")
    order = Order(target=target, arguments=rest, module=arguments.module is not None, limit_s=arguments.limit)
    deadline = time.monotonic() + 60 * arguments.minutes
    tell = _silent if arguments.json else _Teller()
    with TemporaryDirectory(prefix="profkit-tune-") as folder:
        trials = Trials(order, arguments.steps, Path(folder))
        found = search(trials, arguments.trials, lambda: time.monotonic() < deadline, tell)
    show(_as_json(found) if arguments.json else "\n".join(["", *_conclusion(found)]))
    return 0


class Trials:
    """Runs one trial after the other, each in a log folder of its own."""

    def __init__(self, order: Order, steps: int, folder: Path) -> None:
        self._order = order
        self._steps = steps
        self._folder = folder
        self._count = 0

    def __call__(self, point: Point | None) -> LoaderProfile:
        """The profile of a trial at `point`; None: as the program is. Raises TrialFailed."""
        import msgspec

        from profkit.analysis.whatif import profile_of_run
        from profkit.errors import UnreadableTrace
        from profkit.trace.load import load
        from profkit.trial import TrialFailed, run_trial

        self._count += 1
        settings = {"num_workers": point.num_workers, "prefetch_factor": point.prefetch_factor} if point else {}
        ahead = point.num_workers * point.prefetch_factor if point else START_UP_BATCHES
        order = msgspec.structs.replace(
            self._order,
            logdir=str(self._folder / str(self._count)),
            batches=self._steps + START_UP_BATCHES + ahead,
            **settings,
        )
        with busy(f"trial {self._count}"):
            folder = run_trial(order)
            try:
                found = profile_of_run(load(folder))
            except UnreadableTrace as error:
                raise TrialFailed(f"its trial left no run: {error}") from error
        if found is None:
            raise TrialFailed(
                "too few batches of a PyTorch DataLoader were seen: tune needs a program whose training loop is fed by "
                "one, for 10 batches or more within the limit; tf.data and Keras set their own parallelism"
            )
        if point is not None and found[0].num_workers != point.num_workers:
            raise TrialFailed("its DataLoader does not take the settings of a trial")
        return found[0]


class _Teller:
    """Prints a row for each trial when it is over."""

    def __init__(self) -> None:
        self._terminal = Terminal.of(sys.stdout)
        self._told = 0

    def __call__(self, found: Search) -> None:
        if not self._told:
            self._show(COLUMNS)
        self._told += 1
        self._show(_row(self._told, found.trials[-1]))

    def _show(self, text: str) -> None:
        show(text if self._terminal.unicode else cells.ascii_only(text))


def _silent(found: Search) -> None:
    """For machines, which get all at the end."""


def _row(number: int, trial: Trial) -> str:
    point, predicted_ns, step_ns = trial.point, trial.predicted_ns, trial.step_ns
    start = f"{number:>5}{point.num_workers:>9}{point.prefetch_factor if point.num_workers else '':>10}"
    if step_ns is None:
        return f"{start}{duration(predicted_ns or 0):>12}  failed: {cells.clean(trial.failure)}"
    if predicted_ns is None:
        return f"{start}{'':>12}{duration(step_ns):>12}{'':>8}  as it is"
    error = predicted_ns / step_ns - 1
    sign = "+" if error >= 0 else "−"
    return f"{start}{duration(predicted_ns):>12}{duration(step_ns):>12}{sign + percent(abs(error)):>8}"


def _conclusion(found: Search) -> list[str]:
    """The best settings as a line to paste, with what they gained; or that nothing is to be changed."""
    best, noise = found.best()[0], percent(found.noise())
    if found.keeps():
        return [f"Keep what you have: no other setting was, or was predicted to be, faster by more than {noise}."]
    predicted_ns = next(t.predicted_ns for t in found.trials if t.point == best)
    promised = f", {found.steps_ns(found.base)[0] / predicted_ns:.2f}× predicted" if predicted_ns else ""
    return [
        to_paste(best.num_workers, best.prefetch_factor),
        f"Measured: {found.speedup():.2f}× as fast as it is{promised}; equal trials differed by ± {noise}.",
    ]


def _as_json(found: Search) -> str:
    import msgspec

    best, keep = found.best()[0], found.keeps()
    return msgspec.json.encode(
        {
            "trials": [
                {
                    "num_workers": trial.point.num_workers,
                    "prefetch_factor": trial.point.prefetch_factor,
                    "predicted_ns": trial.predicted_ns,
                    "measured_ns": trial.step_ns,
                    "failure": trial.failure,
                }
                for trial in found.trials
            ],
            "keep": keep,
            "speedup": 1.0 if keep else found.speedup(),
            "noise": found.noise(),
            "line": "" if keep else to_paste(best.num_workers, best.prefetch_factor),
        }
    ).decode()
