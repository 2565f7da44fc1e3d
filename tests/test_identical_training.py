"""profkit changes no bit of a training."""

from __future__ import annotations

import random
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from pathlib import Path
from typing import Any, Self

import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import profkit


class Noisy(Dataset[tuple[Tensor, Tensor]]):
    """Items that depend on both random number generators of the process that makes them."""

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        features = torch.full((8,), index / 48) + 0.1 * torch.randn(8) + random.random()
        return features, torch.tensor(index % 3)


def train(num_workers: int, around: AbstractContextManager[Any]) -> bytes:
    """The bits of the final weights, and of what the generators would give next."""
    random.seed(7)
    torch.manual_seed(7)
    model = nn.Sequential(nn.Linear(8, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 3))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    loader = DataLoader(Noisy(), batch_size=4, shuffle=True, num_workers=num_workers)
    with around:
        for _ in range(2):
            for features, labels in loader:
                optimizer.zero_grad()
                loss: Any = nn.functional.cross_entropy(model(features), labels)
                loss.backward()
                optimizer.step()
    weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
    following = f"{random.random()} {torch.rand(4).tolist()}".encode()
    return weights.numpy().tobytes() + following


@pytest.mark.parametrize("num_workers", [0, 2])
def test_final_weights_are_bit_identical_with_without_and_again(tmp_path: Path, num_workers: int) -> None:
    def run() -> profkit.profile:
        plan = profkit.schedule(skip_first=2, warmup=2, active=5)
        return profkit.profile(tmp_path / "runs", schedule=plan, sidecar=False, quiet=True)

    without = train(num_workers, nullcontext())
    assert train(num_workers, nullcontext()) == without  # the training itself can be repeated
    assert train(num_workers, run()) == without
    assert train(num_workers, run()) == without
    assert len(list((tmp_path / "runs").rglob("spans.parquet"))) == 2


class FailingClock(profkit.profile):
    """A run in which the k-th reading of the clock fails, and every tenth after it."""

    failing = 0

    def __enter__(self) -> Self:
        entered = super().__enter__()
        recorder, calls = self._recorder, count()
        working_clock = recorder.clock

        def clock() -> int:
            if (next(calls) - self.failing) % 10 == 0:
                raise OSError("planted")
            return working_clock()

        recorder.clock = clock
        return entered


@pytest.mark.parametrize("failing", range(10))
def test_no_failure_of_profkits_own_changes_the_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: int
) -> None:
    monkeypatch.setattr("profkit.run._finalise", lambda folder: None)
    run = FailingClock(tmp_path / "runs", sidecar=False, quiet=True, schedule=profkit.schedule(2, 0, 2, 5, 0))
    run.failing = failing
    assert train(0, run) == train(0, nullcontext())
