"""What all tests share: reading a run's records, child processes, and proof that nothing is left behind."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import Any, TypeVar

import psutil
import pytest
from hypothesis import settings

from profkit import active
from profkit.records import Record, frames
from profkit.run import profile
from profkit.testing import FakeClock
from tests.needs import missing

R = TypeVar("R")

collect_ignore = sorted(missing())
settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


def pytest_report_header() -> list[str]:
    """Say which tests are left out, and why."""
    return [f"left out: {file}, without {', '.join(modules)}" for file, modules in missing().items()]


# What hooks replace while they are started: module, class, method.
REPLACED = (
    ("torch.utils.data.dataloader", "_BaseDataLoaderIter", "__next__"),
    ("torch.utils.data.dataloader", "DataLoader", "__iter__"),
    ("torch.utils.data.dataloader", "_BaseDataLoaderIter", "_next_index"),
    ("torch.utils.data.dataloader", "_SingleProcessDataLoaderIter", "__init__"),
    ("torch.utils.data.dataloader", "_MultiProcessingDataLoaderIter", "__init__"),
    ("torch.utils.data.dataloader", "_MultiProcessingDataLoaderIter", "_reset"),
    ("torch.utils.data.dataloader", "_MultiProcessingDataLoaderIter", "_try_put_index"),
    ("torch.utils.data.dataloader", "_MultiProcessingDataLoaderIter", "_try_get_data"),
    ("torch.amp.grad_scaler", "GradScaler", "step"),
    ("torch.autograd.profiler", "profile", "_prepare_trace"),
    ("torch.autograd.profiler", "profile", "__exit__"),
    ("tensorflow.python.data.ops.iterator_ops", "OwnedIterator", "_next_internal"),
    ("tensorflow.python.data.ops.iterator_ops", "OwnedIterator", "get_next_as_optional"),
    ("tensorflow.python.data.ops.iterator_ops", "OwnedIterator", "_create_iterator"),
    ("tensorflow.python.distribute.input_lib", "DistributedIteratorBase", "get_next"),
    ("tensorflow.python.distribute.input_lib", "DistributedIteratorBase", "get_next_as_optional"),
    ("keras.callbacks", "CallbackList", "on_train_batch_end"),
    ("keras.callbacks", "CallbackList", "on_test_batch_end"),
    ("keras.callbacks", "CallbackList", "on_predict_batch_end"),
    ("keras.callbacks", "CallbackList", "on_test_batch_begin"),
    ("keras.callbacks", "CallbackList", "on_predict_batch_begin"),
    ("keras.src.backend.tensorflow.trainer", "TensorFlowTrainer", "train_on_batch"),
    ("keras.src.backend.tensorflow.trainer", "TFEpochIterator", "_get_iterator"),
)


@pytest.fixture(autouse=True)
def nothing_left_behind() -> Iterator[None]:
    """No run, patch, profiler, thread or process outlives its test."""
    threads, processes = set(threading.enumerate()), _child_processes()
    yield
    assert active.current() is None, "a run is still active"
    assert not replaced_methods(), "methods of a framework are still replaced"
    assert not _profiling(), "torch's profiler is still on"
    assert not [thread for thread in set(threading.enumerate()) - threads if _still_runs(thread)]
    assert not _child_processes() - processes


@pytest.fixture
def clock() -> FakeClock:
    """A clock that moves only when told to."""
    return FakeClock()


@pytest.fixture
def records_of() -> Callable[[profile], list[Record]]:
    """All records the training process wrote for a run."""

    def read(run: profile) -> list[Record]:
        return read_records(run.folder)

    return read


@pytest.fixture
def run_python(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a program in a child process whose working folder is tmp_path; warnings are errors there too."""

    def run(code: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", code, *arguments],
            cwd=tmp_path,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run


@pytest.fixture
def only_records() -> Callable[[Path], list[Record]]:
    """All records of the only run below a log folder."""

    def read(logdir: Path) -> list[Record]:
        [folder] = logdir.iterdir()
        return read_records(folder)

    return read


def read_records(run_folder: Path) -> list[Record]:
    captures = (run_folder / "plugins" / "profkit" / "capture").glob("*.pkrec")
    [main] = [path for path in captures if not path.stem.endswith(("-sidecar", "-worker"))]
    return [record for record, _ in frames(main.read_bytes())]


def _child_processes() -> set[int]:
    """Children of this process, but for multiprocessing's own helpers, which stay for good."""
    helpers = {
        vars(resource_tracker._resource_tracker)["_pid"],
        vars(forkserver._forkserver)["_forkserver_pid"],
    }
    return {child.pid for child in psutil.Process().children()} - helpers


def _still_runs(thread: threading.Thread) -> bool:
    if thread.name.startswith("asyncio_"):
        return False  # of the browser's driver, which ends with the last test that drives it
    gc.collect()  # an exception's traceback may keep a loader and its threads alive
    thread.join(timeout=5)
    return thread.is_alive()


def replaced_methods() -> list[str]:
    """Methods of frameworks that a hook has replaced and not put back."""
    loaded = [(sys.modules[module], owner, name) for module, owner, name in REPLACED if module in sys.modules]
    methods: list[Any] = [vars(getattr(module, owner))[name] for module, owner, name in loaded]
    return [method.__qualname__ for method in methods if _is_ours(method)]


def _is_ours(method: Any) -> bool:
    """Frameworks wrap methods of their own, too."""
    return hasattr(method, "__wrapped__") and "profkit" in method.__code__.co_filename


def _profiling() -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and torch.autograd.profiler._is_profiler_enabled
