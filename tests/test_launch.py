"""`profkit run`: a program as it is, inside a run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from profkit.records import End, Framework, LoaderOpened, Note, Record, Step, Wait
from profkit.trace.load import load

OnlyRecords = Callable[[Path], list[Record]]
Completed = subprocess.CompletedProcess[str]

TRAINING = """
import json, sys
import torch
from torch.utils.data import DataLoader, Dataset

class Numbers(Dataset):
    def __len__(self):
        return 12

    def __getitem__(self, index):
        return torch.full((4,), float(index))

def main():
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for batch in DataLoader(Numbers(), batch_size=4, num_workers=1, multiprocessing_context="spawn"):
        optimizer.zero_grad()
        model(batch).mean().backward()
        optimizer.step()

if __name__ == "__main__":
    main()
"""

WITNESS = """
import json, os, pickle, sys

class Mine:
    pass

here = sys.modules["__main__"]
print(json.dumps({
    "argv": sys.argv,
    "name": __name__,
    "file": __file__,
    "spec": __spec__ and __spec__.name,
    "package": __package__,
    "path": sys.path[0],
    "main": here.__dict__ is globals(),
    "pickles": type(pickle.loads(pickle.dumps(Mine()))) is Mine,
}))
"""


@pytest.fixture
def launched(tmp_path: Path) -> Callable[..., Completed]:
    """Launch a program in a child process: arguments as for profkit.launch.launch."""

    def launch(*arguments: Any, **options: Any) -> Completed:
        options = {"logdir": "runs", "sidecar": False, "quiet": True, **options}
        code = f"from profkit.launch import launch\nlaunch(*{arguments!r}, **{options!r})"
        return python("-c", code, folder=tmp_path)

    return launch


def python(*arguments: str, folder: Path) -> Completed:
    return subprocess.run(
        [sys.executable, "-W", "error", *arguments], cwd=folder, capture_output=True, text=True, timeout=120
    )


def write_package(folder: Path, source: str) -> None:
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("")
    (folder / "pack" / "__main__.py").write_text(source)
    (folder / "pack" / "train.py").write_text(source)


@pytest.mark.parametrize("module", [False, True])
def test_a_training_is_recorded_without_a_change_of_its_code(
    launched: Callable[..., Completed], only_records: OnlyRecords, tmp_path: Path, module: bool
) -> None:
    write_package(tmp_path, TRAINING)
    (tmp_path / "train.py").write_text(TRAINING)
    ended = launched("pack.train" if module else "train.py", module=module)
    assert ended.returncode == 0, ended.stderr
    records = only_records(tmp_path / "runs")
    kinds = [type(record) for record in records]
    assert (kinds.count(Step), kinds.count(Wait), kinds.count(LoaderOpened)) == (3, 3, 1)
    assert [record.name for record in records if isinstance(record, Framework)] == ["torch"]


@pytest.mark.parametrize("how", ["script", "script in a folder", "module", "package"])
def test_the_program_sees_what_it_would_see_under_python(
    launched: Callable[..., Completed], tmp_path: Path, how: str
) -> None:
    write_package(tmp_path, WITNESS)
    (tmp_path / "train.py").write_text(WITNESS)
    target = {
        "script": "train.py",
        "script in a folder": "pack/train.py",
        "module": "pack.train",
        "package": "pack",
    }[how]
    is_module = "script" not in how
    under_python = python(*(["-m"] if is_module else []), target, "a", "--b", folder=tmp_path)
    under_profkit = launched(target, ["a", "--b"], module=is_module)
    assert under_profkit.returncode == 0, under_profkit.stderr
    assert json.loads(under_profkit.stdout) == json.loads(under_python.stdout)
    assert json.loads(under_profkit.stdout)["main"]


@pytest.mark.parametrize(
    ("ending", "code"), [("sys.exit(7)", 7), ("sys.exit('no data')", 1), ("sys.exit()", 0), ("{}['boom']", 1)]
)
def test_a_program_ends_as_it_would_under_python(
    launched: Callable[..., Completed],
    only_records: OnlyRecords,
    tmp_path: Path,
    ending: str,
    code: int,
) -> None:
    (tmp_path / "train.py").write_text(f"import sys\ndef main():\n    {ending}\nmain()\n")
    under_python = python("train.py", folder=tmp_path)
    under_profkit = launched("train.py")
    assert under_profkit.returncode == under_python.returncode == code
    last_frames = under_python.stderr.splitlines()[1:]  # below "Traceback (most recent call last):"
    assert under_profkit.stderr.splitlines()[len(under_profkit.stderr.splitlines()) - len(last_frames) :] == last_frames
    end = only_records(tmp_path / "runs")[-1]
    assert isinstance(end, End)
    assert end.reason == {7: "SystemExit", 0: "finished"}.get(code, "SystemExit" if "exit" in ending else "KeyError")


@pytest.mark.parametrize(("target", "module"), [("nowhere.py", False), ("nowhere", True), ("nowhere.train", True)])
def test_a_program_that_is_not_there_is_refused_before_a_run_begins(
    launched: Callable[..., Completed], tmp_path: Path, target: str, module: bool
) -> None:
    ended = launched(target, module=module)
    assert ended.returncode == 1
    assert "profkit.errors.UsageError: cannot run" in ended.stderr
    assert not (tmp_path / "runs").exists()


def test_a_program_with_a_run_of_its_own_learns_what_to_do(launched: Callable[..., Completed], tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import profkit\nwith profkit.profile('own'): pass\n")
    ended = launched("train.py")
    assert "start the script without `profkit run`" in ended.stderr


def test_a_framework_that_fails_to_import_fails_as_before(
    launched: Callable[..., Completed], only_records: OnlyRecords, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('planted')\n")
    (tmp_path / "train.py").write_text("try:\n    import torch\nexcept ImportError as error:\n    print(error)\n")
    ended = launched("train.py")
    assert (ended.returncode, ended.stdout) == (0, "planted\n"), ended.stderr
    assert not [record for record in only_records(tmp_path / "runs") if isinstance(record, Framework)]


def test_a_hook_that_cannot_be_loaded_is_noted_and_the_import_succeeds(
    launched: Callable[..., Completed], only_records: OnlyRecords, tmp_path: Path
) -> None:
    (tmp_path / "torch.py").write_text("name = 'not the real one'\n")
    (tmp_path / "train.py").write_text(
        "import torch, sys\nprint(torch.name, torch.__loader__ is torch.__spec__.loader)\n"
    )
    ended = launched("train.py")
    assert (ended.returncode, ended.stdout) == (0, "not the real one True\n"), ended.stderr
    notes = [record.text for record in only_records(tmp_path / "runs") if isinstance(record, Note)]
    assert any(note.startswith("torch was imported, but its hook cannot be loaded") for note in notes)


def test_python_m_profkit_is_the_command(tmp_path: Path) -> None:
    ended = python("-m", "profkit", "--version", folder=tmp_path)
    assert (ended.returncode, ended.stdout.split()[0]) == (0, "profkit"), ended.stderr


DISTRIBUTED = """
import torch, torch.distributed as dist
dist.init_process_group("gloo")
model = torch.nn.parallel.DistributedDataParallel(torch.nn.Linear(4, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
for _ in range(12):
    optimizer.zero_grad()
    model(torch.rand(8, 4)).mean().backward()
    optimizer.step()
dist.destroy_process_group()
raise SystemExit(dist.is_initialized())
"""


def test_below_torchrun_every_rank_is_recorded_as_itself(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(DISTRIBUTED)
    torchrun = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "profkit")
    done = python(*torchrun, "run", "--quiet", "--no-sidecar", "train.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = load(tmp_path / "runs")
    runs = [run.of_rank(rank) for rank in run.ranks]
    assert [(run.info.rank, run.info.world_size, run.steps.height) for run in runs] == [(0, 2, 12), (1, 2, 12)]
    assert [run.traces[0].info.rank for run in runs] == [0, 1]
    collectives = runs[0].traces[0].spans.filter(pl.col("kind") == "collective")
    assert collectives["name"].unique().to_list() == ["gloo:all_reduce"]
