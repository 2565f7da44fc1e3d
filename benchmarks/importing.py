"""What `import profkit` adds to starting Python: pairs of fresh interpreters, one after the other."""

from __future__ import annotations

import subprocess
import sys
import time

from benchmarks.measuring import Spread
from benchmarks.outcome import Outcome, Table, Target

PROGRAMS = {
    "bare Python": "pass",
    "import profkit": "import profkit",
    "import profkit, its recording names used": "import profkit; profkit.profile, profkit.step, profkit.annotate",
}
REPEATS, QUICK_REPEATS = 20, 5
LIMIT_MS = 40


def run(quick: bool) -> Outcome:
    """Median wall time over 20 starts of each, and what each adds to the bare start beside it."""
    times: dict[str, list[float]] = {name: [] for name in PROGRAMS}
    for _ in range(QUICK_REPEATS if quick else REPEATS):
        for name, program in PROGRAMS.items():
            times[name].append(_start_ms(program))
    bare, *others = times
    added = {name: Spread.of(t - b for t, b in zip(times[name], times[bare], strict=True)) for name in others}
    rows = [[name, Spread.of(t).text(digits=1), _added_text(added, name)] for name, t in times.items()]
    seen = added["import profkit"].median
    return Outcome(
        "importing",
        [Table("importing, wall time of a whole start", [["", "ms", "added ms"], *rows])],
        [Target(f"import profkit adds at most {LIMIT_MS} ms", f"{seen:.1f} ms", seen <= LIMIT_MS)],
        {"ms": times},
    )


def _start_ms(program: str) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], cwd="/", check=True)
    return (time.perf_counter() - begun) * 1e3


def _added_text(added: dict[str, Spread], name: str) -> str:
    return added[name].text(digits=1) if name in added else ""
