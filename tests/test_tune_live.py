"""Tuning real programs: trials that are run and timed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from profkit.cli.main import main

TRAINING = """
import io, sys
import numpy as np, torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

pixels, width, workers = map(int, sys.argv[1:])
buffer = io.BytesIO()
blots = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
Image.fromarray(blots).resize((pixels, pixels)).save(buffer, "JPEG")

class Images(Dataset):
    def __len__(self):
        return 100_000
    def __getitem__(self, index):
        image = Image.open(io.BytesIO(buffer.getvalue())).resize((32, 32))
        return torch.from_numpy(np.asarray(image, np.float32) / 255).flatten(), index % 10

if __name__ == "__main__":
    torch.set_num_threads(1)
    model = torch.nn.Sequential(torch.nn.Linear(3072, width), torch.nn.ReLU(), torch.nn.Linear(width, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    try:
        for images, labels in DataLoader(Images(), 8, num_workers=workers):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
    except Exception:
        open("handled.txt", "w").close()
    torch.save(model.state_dict(), "model.pt")
"""
STARVING = ("768", "900", "0")
HEALTHY = ("16", "4000", "1")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A training that never ends by itself, and saves its model at the end."""
    path = tmp_path / "train.py"
    path.write_text(TRAINING)
    return path


def tune(program: Path, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "profkit", "tune", "--steps", "20", *options, program.name, *words],
        cwd=program.parent,
        capture_output=True,
        text=True,
        timeout=240,
        env={**os.environ, "TMPDIR": str(program.parent.parent)},
    )


def hashes(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="workers gain nothing on one core")
def test_a_training_that_decodes_by_itself_gets_workers_and_the_promise_is_measured(program: Path) -> None:
    before = hashes(program.parent)
    ended = tune(program, *STARVING, options=("--json", "--trials", "4"))
    assert ended.returncode == 0, ended.stderr
    answer: dict[str, Any] = json.loads(ended.stdout)
    first, *others = answer["trials"]
    assert first["num_workers"] == 0
    assert others[0]["predicted_ns"] < first["measured_ns"] / 1.2
    assert others[0]["measured_ns"] == pytest.approx(others[0]["predicted_ns"], rel=0.5)
    assert not answer["keep"], answer
    assert answer["speedup"] > 1.2
    assert answer["line"].startswith("DataLoader(…, num_workers=")
    assert hashes(program.parent) == before, "the program's files were touched"


def test_a_healthy_training_keeps_what_it_has(program: Path) -> None:
    ended = tune(program, *HEALTHY, options=("--trials", "3"))
    assert ended.returncode == 0, ended.stderr
    assert "Keep what you have" in ended.stdout
    assert "as it is" in ended.stdout


def test_a_program_that_fails_is_told_by_its_last_line(program: Path) -> None:
    ended = tune(program, "no number")
    assert ended.returncode == 2
    assert ended.stderr.startswith("profkit: ")
    assert "ValueError" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_program_without_a_dataloader_is_told_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "train.py"
    program.write_text("print('no loader')")
    assert main(["tune", str(program)]) == 2
    assert "PyTorch DataLoader" in capsys.readouterr().err


def test_a_program_that_goes_on_without_asking_is_ended_with_its_processes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profkit.trial.GRACE_S", 1.0)
    program = tmp_path / "train.py"
    program.write_text("import subprocess; subprocess.run(['sleep', '123.25'])")
    assert main(["tune", "--limit", "1", str(program)]) == 2
    assert "within 2 seconds" in capsys.readouterr().err
    assert not [p for p in psutil.process_iter(["cmdline"]) if "123.25" in (p.info["cmdline"] or [])]
