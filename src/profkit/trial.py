"""A short run of a program with other settings of its DataLoaders, in a process of its own.

`run_trial` starts it; `python -m profkit.trial` is what runs there. The program is launched as `profkit run` does,
every DataLoader it makes gets the trial's settings, and once one of them has given enough batches the next request
raises TrialOver, so that what follows the training loop is not reached.
"""

from __future__ import annotations

import functools
import inspect
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import msgspec

from profkit.errors import ProfkitError
from profkit.launch import LateHooks, launch
from profkit.schedule import Schedule

NO_WINDOW = Schedule(skip_first=10**9)
GRACE_S = 20.0  # after the limit, for a program that asks for no further batch
LOADERS_MODULE = "torch.utils.data"


class TrialOver(BaseException):
    """The trial has seen enough. No Exception: a program that handles its errors shall not handle this."""


class TrialFailed(ProfkitError):
    """The program did not get as far as was needed; the message is its last line, or what kept it."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be run. `num_workers` is None for the program as it is."""

    target: str
    arguments: list[str]
    module: bool = False
    num_workers: int | None = None
    prefetch_factor: int = 2
    batches: int = 50
    limit_s: float = 60.0
    logdir: str = ""


def run_trial(order: Order) -> Path:
    """Run it and return the log folder of its run. Raises TrialFailed; no process is left behind."""
    folder = Path(order.logdir)
    folder.mkdir(parents=True)
    environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
    with (folder / "output.txt").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "profkit.trial", msgspec.json.encode(order).decode()],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # its workers end with it
        )
        try:
            code = process.wait(order.limit_s + GRACE_S)
        except subprocess.TimeoutExpired:
            raise TrialFailed(f"no batch was asked for within {order.limit_s + GRACE_S:.0f} seconds") from None
        finally:
            _end(process)
    if code:
        said = _last_line(folder / "output.txt") or "nothing was printed"
        raise TrialFailed(f"{order.target} ended with exit code {code}: {said}")
    return folder


def _end(process: subprocess.Popen[bytes]) -> None:
    """End whatever of the trial still runs."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _last_line(path: Path) -> str:
    lines = path.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "")


def main(order: Order) -> None:
    """Run the program in this process. What it raises is raised here, except that its trial is over."""
    settings = Imposed(order)
    with LateHooks(settings.imported), suppress(TrialOver):
        launch(
            order.target,
            order.arguments,
            module=order.module,
            logdir=order.logdir,
            schedule=NO_WINDOW,
            sidecar=False,
            quiet=True,
        )


class Imposed:
    """Gives every DataLoader the trial's settings, and ends the trial when one has given enough batches."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._deadline = time.monotonic() + order.limit_s
        self._given: Counter[int] = Counter()  # batches by the data set they come from

    def imported(self, entry: EntryPoint) -> None:
        """The program has imported a framework; only PyTorch's loaders matter."""
        if entry.name != LOADERS_MODULE:
            return
        loader = sys.modules[LOADERS_MODULE].DataLoader
        iterator = sys.modules[f"{LOADERS_MODULE}.dataloader"]._BaseDataLoaderIter
        # Not undone: this process exists for one trial.
        if self._order.num_workers is not None:
            loader.__init__ = self._with_settings(loader.__init__)
        iterator.__next__ = self._counted(iterator.__next__)

    def _with_settings(self, original: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(original)

        @functools.wraps(original)
        def __init__(*args: Any, **kwargs: Any) -> None:
            bound = signature.bind(*args, **kwargs)
            bound.arguments.update(self._settings())
            original(*bound.args, **bound.kwargs)

        return __init__

    def _settings(self) -> dict[str, Any]:
        workers = self._order.num_workers
        if workers:
            return {
                "num_workers": workers,
                "prefetch_factor": self._order.prefetch_factor,
                "persistent_workers": True,
            }
        # Without workers torch refuses what only workers need.
        return {
            "num_workers": 0,
            "prefetch_factor": None,
            "persistent_workers": False,
            "multiprocessing_context": None,
            "timeout": 0,
        }

    def _counted(self, original: Callable[[Any], Any]) -> Callable[[Any], Any]:
        @functools.wraps(original)
        def __next__(iterator: Any) -> Any:
            source = id(iterator._dataset)
            if self._given[source] >= self._order.batches or time.monotonic() > self._deadline:
                raise TrialOver
            self._given[source] += 1
            return original(iterator)

        return __next__


if __name__ == "__main__":
    main(msgspec.json.decode(sys.argv[1], type=Order))
