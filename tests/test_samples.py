"""The samples are real trainings that learn something."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).parents[1] / "samples"


def test_the_digits_are_learned_and_the_run_is_recorded(tmp_path: Path) -> None:
    folders = ["--logdir", str(tmp_path / "runs"), "--data", str(tmp_path / "digits")]
    ended = subprocess.run(
        [sys.executable, str(SAMPLES / "pytorch_digits.py"), "--loader", "healthy", "--epochs", "3", *folders],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    [accuracy] = re.findall(r"held-out digits: (\d\.\d+)", ended.stdout)
    assert float(accuracy) > 0.9
    assert len(list((tmp_path / "runs").rglob("spans.parquet"))) == 1
