"""Marks the same moments in two frameworks' profilers at once: the program tests run.

python -m tests.one_clock <module> <module> <folder>
"""

from __future__ import annotations

import importlib
import os
import sys
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

STEPS, MARKS = 8, 5


def main() -> None:
    """Record a few steps, each with marks."""
    *modules, folder = sys.argv[1:]
    for module in modules:
        importlib.import_module(module)
    if "jax" in modules:
        import jax

        jax.numpy.ones(3).block_until_ready()  # the profiler is only started where JAX is used
    import profkit

    plan = profkit.schedule(skip_first=1, warmup=1, active=5)
    with profkit.profile(folder, schedule=plan, sidecar=False, quiet=True, strict=True) as run:
        for _ in range(STEPS):
            for _ in range(MARKS):
                with profkit.annotate("mark"):
                    time.sleep(0.002)
            run.step()


if __name__ == "__main__":
    main()
