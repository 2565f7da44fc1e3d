"""What every hook promises, tried on one hook in a process of its own: the program tests run.

python -m tests.hook_contract <hook> <folder>: prints what happened as one JSON object.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

ACTIVE = 3
MODULES = {
    "pytorch": "torch",
    "dataloader": "torch.utils.data",
    "tensorflow": "tensorflow",
    "tf_data": "tensorflow",
    "keras": "keras",
    "jax": "jax",
}


@dataclass(frozen=True)
class Framework:
    """A step's work, and another session of the framework's profiler."""

    work: Callable[[], Any]
    start_other: Callable[[str], Any]
    stop_other: Callable[[Any], None]


def torch_framework() -> Framework:
    import torch

    def start(folder: str) -> Any:
        session = torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU])
        session.start()
        return session

    return Framework(lambda: torch.ones(8, 8) @ torch.ones(8, 8), start, lambda session: session.stop())


def tensorflow_framework() -> Framework:
    import tensorflow as tf

    return Framework(
        lambda: tf.matmul(tf.ones((8, 8)), tf.ones((8, 8))),
        tf.profiler.experimental.start,
        lambda _: tf.profiler.experimental.stop(save=False),
    )


def jax_framework() -> Framework:
    import jax

    step = jax.jit(lambda x: x @ x)
    return Framework(
        lambda: step(jax.numpy.ones((8, 8))).block_until_ready(),
        jax.profiler.start_trace,
        lambda _: jax.profiler.stop_trace(),
    )


RECORDING = {"pytorch": torch_framework, "tensorflow": tensorflow_framework, "jax": jax_framework}


class Bench:
    """One hook under test."""

    def __init__(self, hook: str, folder: Path) -> None:
        importlib.import_module(MODULES[hook])
        self.hook, self.folder = hook, folder
        self.framework = RECORDING[hook]() if hook in RECORDING else Framework(_nothing, _nothing, _nothing)
        self.framework.work()  # what is compiled at first use is compiled now

    def run(self, loop: Callable[[Any], None], **options: Any) -> dict[str, Any]:
        """Record `loop` and return what came of it."""
        import profkit
        from profkit.trace.load import load

        plan = profkit.schedule(skip_first=2, warmup=1, active=ACTIVE)
        run = profkit.profile(self.folder, hooks=[self.hook], schedule=plan, sidecar=False, quiet=True, **options)
        with suppress(KeyError), run:
            loop(run)
        loaded = load(run.folder)
        recorded = [trace for trace in loaded.traces if trace.info.source != "capture"]
        return {
            "ended": loaded.info.ended,
            "notes": loaded.info.notes,
            "steps": loaded.steps.height,
            "windows": [_steps_of(trace) for trace in recorded],
            "frameworks": loaded.info.frameworks,
            "patched": patched(),
            "leftovers": sorted(path.name for path in run.folder.rglob("*.part*")),
        }

    def loop(self, steps: int) -> Callable[[Any], None]:
        """A loop of so many steps."""

        def steps_of(run: Any) -> None:
            for _ in range(steps):
                self.framework.work()
                run.step()

        return steps_of

    def raising(self, run: Any) -> None:
        """The training fails in the middle of the window."""
        self.loop(4)(run)
        raise KeyError("planted")

    def with_another_session(self, run: Any) -> None:
        """Somebody else profiles when the window is due, and then no more."""
        self.loop(1)(run)
        session = self.framework.start_other(str(self.folder / "other"))
        self.loop(4)(run)
        self.framework.stop_other(session)
        self.loop(8)(run)


def _nothing(*_: Any) -> None:
    """This hook records no window."""


def _steps_of(trace: Any) -> list[int]:
    import polars as pl

    return sorted(trace.spans.filter(pl.col("kind") == "step")["step"].to_list())


def patched() -> list[str]:
    """Methods of frameworks that are still replaced."""
    from tests.conftest import replaced_methods

    return replaced_methods()


def main() -> None:
    """Try everything."""
    from profkit import plugins
    from profkit.plugins import Hook

    name, folder = sys.argv[1], Path(sys.argv[2])
    bench = Bench(name, folder)
    meanwhile: list[str] = []

    def plain(run: Any) -> None:
        meanwhile.extend(patched())
        bench.loop(12)(run)

    results = {
        "is_hook": isinstance(plugins.load(plugins.HOOKS, name), Hook),
        "plain": bench.run(plain),
        "raising": bench.run(bench.raising),
        "too short": bench.run(bench.loop(4)),
    }
    if name in RECORDING:
        results["another session"] = bench.run(bench.with_another_session)
    results["patched meanwhile"] = meanwhile
    print(json.dumps(results))


if __name__ == "__main__":
    main()
