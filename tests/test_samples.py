"""The samples are real trainings that learn something."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from profkit.analysis.report import Report
from profkit.analysis.summary import report
from profkit.trace.load import load
from tests import page_logs

SAMPLES = Path(__file__).parents[1] / "samples"


def trained(folder: Path, sample: str, *options: str, backend: str = "tensorflow") -> Report:
    """The report on a sample's run, once it has shown that it learned."""
    folders = ["--logdir", str(folder / "runs"), "--data", str(folder / "digits")]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", str(SAMPLES / sample), *options, *folders],
        env={**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert ended.returncode == 0, ended.stderr
    [accuracy] = re.findall(r"held-out digits: (\d\.\d+)", ended.stdout)
    assert float(accuracy) > 0.85
    return report(load(folder / "runs"))


@pytest.mark.parametrize("sample", ["pytorch_digits.py", "tensorflow_digits.py", "keras_digits.py"])
def test_the_healthy_input_is_learned_from_and_not_blamed(tmp_path: Path, sample: str) -> None:
    found = trained(tmp_path, sample, "--loader", "healthy", "--epochs", "3")
    assert (found.recorded, found.windows) == (True, 1)
    assert not found.findings, found.headline


@pytest.mark.parametrize(
    ("sample", "cause"),
    [
        ("pytorch_digits.py", "no_workers"),
        ("tensorflow_digits.py", "tf_py_function"),
        ("keras_digits.py", "input_bound"),  # a PyDataset, which nobody looks into
    ],
)
def test_the_slow_input_is_blamed(tmp_path_factory: pytest.TempPathFactory, sample: str, cause: str) -> None:
    found = report(load(page_logs.trained(tmp_path_factory.getbasetemp() / "samples", sample)))
    assert found.findings[0].cause == cause
    assert found.measured_on.endswith("outside the recorded windows, all steady")


@pytest.mark.parametrize("backend", ["torch", "jax"])
def test_the_keras_sample_is_blamed_for_its_input_on_every_backend(tmp_path: Path, backend: str) -> None:
    found = trained(tmp_path, "keras_digits.py", "--epochs", "2", backend=backend)
    assert found.findings[0].cause == "input_bound"
    assert any(version.endswith(f"on {backend}") for version in found.frameworks.values())
