"""Programs that stand beside their tests, each in a process of its own.

What pytest's own process imports, a run there would attach to.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def printed(program: str, *arguments: object, **environment: str) -> list[str]:
    """The lines that `python -m tests.<program>` prints; it has to end well."""
    path = os.pathsep.join([*filter(None, [os.environ.get("PYTHONPATH")]), str(ROOT)])
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", f"tests.{program}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, **environment},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()
