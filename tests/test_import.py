"""What importing profkit costs, and what the training process carries."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import profkit

RunPython = Callable[..., subprocess.CompletedProcess[str]]

# What only the sidecar, readers and viewers may import.
HEAVY = ("polars", "numpy", "rich", "psutil", "tensorboard", "torch", "tensorflow", "pandas", "pyarrow")
LIMIT_MS = 40.0


def modules_after(run_python: RunPython, code: str) -> set[str]:
    ended = run_python(f"{code}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))")
    assert ended.returncode == 0, ended.stderr
    return {name.partition(".")[0] for name in json.loads(ended.stdout.splitlines()[-1])}


def test_importing_profkit_imports_nothing_heavy(run_python: RunPython) -> None:
    assert not modules_after(run_python, "import profkit") & {*HEAVY, "msgspec"}


def test_a_training_process_carries_nothing_heavy(run_python: RunPython) -> None:
    code = """
import profkit
@profkit.step
def train(batch):
    with profkit.annotate("part"):
        pass
with profkit.profile("runs", quiet=True) as run:
    for batch in run.loader([1, 2, 3]):
        train(batch)
"""
    assert not modules_after(run_python, code) & set(HEAVY)


def test_importing_profkit_takes_less_than_40_ms() -> None:
    """Of a processor, best of fifteen: another process's load only ever adds."""
    code = "import time; t = time.process_time(); import profkit; print(time.process_time() - t)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) * 1_000
        for _ in range(15)
    ]
    assert min(times) < LIMIT_MS


def test_every_public_name_is_there_and_nothing_else() -> None:
    assert profkit.__all__ == sorted(profkit.__all__)
    for name in profkit.__all__:
        assert getattr(profkit, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'profil'"):
        _ = profkit.profil


def test_the_function_schedule_is_not_hidden_by_its_module(run_python: RunPython) -> None:
    ended = run_python("import profkit, profkit.run, profkit.schedule; print(profkit.schedule().active)")
    assert ended.stdout == "5\n", ended.stderr


def test_the_source_tree_is_not_needed_as_working_folder(run_python: RunPython, tmp_path: Path) -> None:
    """The sidecar finds profkit though it runs in `/` and the training found it by a relative path."""
    source = Path(profkit.__file__).parents[1]
    (tmp_path / "here").symlink_to(source)
    code = """
import profkit
with profkit.profile("runs", quiet=True, hooks=[]) as run:
    run.step()
print((run.folder / "plugins" / "profkit" / "capture" / "sidecar-0.log").read_text(), end="")
"""
    ended = run_python(code, PYTHONPATH="here")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
