"""Whatever shape a DataLoader has: what it yields is the same with profkit as without, and its batches are followed."""

from __future__ import annotations

import importlib
import random
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset

import profkit
from profkit.records import Batch, LoaderOpened, Note, Record, Wait
from tests.loader_shapes import PASSES, SHAPES, Numbers, Scale, Shift, Stream, Transformed, seen
from tests.needs import needs

pytestmark = pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")  # torchdata 0.11 calls it

RecordsOf = Callable[[profkit.profile], list[Record]]
NewRun = Callable[[], profkit.profile]


@pytest.fixture
def new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewRun:
    """A run with the DataLoader hook alone; nothing is made of its records."""
    monkeypatch.setattr("profkit.run._finalise", lambda folder: None)
    monkeypatch.setattr("profkit.hooks.dataloader_cost.BUDGET_NS", 10**12)  # whatever it costs on a busy machine
    return lambda: profkit.profile(tmp_path / "runs", hooks=["dataloader"], sidecar=False, quiet=True)


@pytest.fixture(autouse=True)
def torchdata_is_imported() -> None:
    """profkit follows torchdata's loaders where the program has imported them before the run begins."""
    if SHAPES["stateful"].available:
        importlib.import_module("torchdata.stateful_dataloader")


def of(kind: type[Any], records: list[Record]) -> list[Any]:
    return [record for record in records if isinstance(record, kind)]


def errors(records: list[Record]) -> list[str]:
    return [note.text for note in of(Note, records) if "an error inside profkit" in note.text]


@pytest.mark.parametrize("name", [pytest.param(n, marks=needs(shape.needs)) for n, shape in SHAPES.items()])
def test_a_loader_yields_the_same_with_profkit_as_without(new_run: NewRun, records_of: RecordsOf, name: str) -> None:
    """And again after it; every batch that came is known with the time its fetch took."""
    shape = SHAPES[name]
    before = seen(shape)
    with new_run() as run:
        within = seen(shape)
    after = seen(shape)
    assert within == before
    assert after == before
    records = records_of(run)
    assert not errors(records)
    batches: list[Batch] = [batch for batch in of(Batch, records) if batch.loader == 0]
    assert len(batches) == (before.batches if shape.followed else 0)
    assert [batch for batch in batches if batch.fetch is None] == []
    waits = [wait for wait in of(Wait, records) if wait.loader == 0]
    assert [(wait.start_ns, wait.duration_ns) for wait in waits] == [(b.asked_ns, b.came) for b in batches]
    if shape.followed and not before.error:
        assert sum(wait.first for wait in waits) == PASSES
        assert {batch.loop for batch in batches} == set(range(PASSES))
        assert {opened.loader for opened in of(LoaderOpened, records)} >= {0}


def test_workers_that_outlive_the_run_go_on(new_run: NewRun, records_of: RecordsOf) -> None:
    def passes(loader: DataLoader[Any], count: int) -> list[Any]:
        return [batch["index"].tolist() for _ in range(count) for batch in loader]

    expected = passes(DataLoader(Numbers(), 8, num_workers=2, persistent_workers=True), 1)
    loader = DataLoader(Numbers(), 8, num_workers=2, persistent_workers=True)
    with new_run() as run:
        assert passes(loader, 2) == expected * 2
    assert passes(loader, 2) == expected * 2
    with new_run() as again:  # what the workers still send is read by the next run
        assert passes(loader, 2) == expected * 2
    for records in (records_of(run), records_of(again)):
        assert [batch.fetch is not None for batch in of(Batch, records)] == [True] * 2 * len(expected)
        assert {batch.loop for batch in of(Batch, records)} == {0, 1}
        assert not errors(records)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_run_that_begins_while_an_iterator_is_alive_records_its_waits(
    new_run: NewRun, records_of: RecordsOf, num_workers: int
) -> None:
    iterator = iter(DataLoader(Numbers(), 8, num_workers=num_workers))
    next(iterator)
    with new_run() as run:
        assert [batch["index"][0].item() for batch in iterator] == [8, 16, 24, 32, 40]
    records = records_of(run)
    assert [(batch.index, batch.fetch) for batch in of(Batch, records)] == [(index, None) for index in range(1, 6)]
    assert [wait.first for wait in of(Wait, records)] == [False] * 5
    assert not errors(records)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_loader_that_is_wrapped_yields_the_same(new_run: NewRun, records_of: RecordsOf, num_workers: int) -> None:
    expected = [batch["index"].tolist() for batch in DataLoader(Numbers(), 8, num_workers=num_workers)]
    with new_run() as run:
        loader = run.loader(DataLoader(Numbers(), 8, num_workers=num_workers))
        assert [batch["index"].tolist() for batch in loader] == expected
    assert len(of(Wait, records_of(run))) == len(expected)


class Closing(IterableDataset[int]):
    """Leaves a file behind when its iterator is closed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __iter__(self) -> Iterator[int]:
        try:
            yield from range(10)
        finally:
            (self.folder / f"closed {random.random()}").touch()


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_stream_that_is_left_early_is_closed_as_soon_as_without_profkit(
    new_run: NewRun, tmp_path: Path, num_workers: int
) -> None:
    def left_early() -> int:
        loader = DataLoader(Closing(tmp_path), 2, num_workers=num_workers)
        list(islice(loader, 2))
        return len(list(tmp_path.glob("closed *")))

    assert left_early() == 1
    with new_run():
        assert left_early() == 2


def test_a_pass_puts_no_second_clock_on_a_transform(new_run: NewRun) -> None:
    calls = vars(Scale)["__call__"], vars(Shift)["__call__"]
    with new_run():
        for _ in range(3):
            next(iter(DataLoader(Transformed(), 4)))
        [clocked] = {vars(Shift)["__call__"], vars(Shift)["__call__"].__wrapped__} - {calls[1]}
        assert clocked is vars(Shift)["__call__"]
    assert (vars(Scale)["__call__"], vars(Shift)["__call__"]) == calls


class Forking(Dataset[torch.Tensor]):
    """Makes so many loaders of its own that a worker would write down their waits, if it thought it were to."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.stack([batch for _ in range(30) for batch in DataLoader(Stream(), 20)][:2])


@needs("torchdata")
def test_what_a_dataset_loads_inside_a_forked_worker_is_not_the_runs(new_run: NewRun, records_of: RecordsOf) -> None:
    from torchdata.stateful_dataloader import StatefulDataLoader

    with new_run() as run:
        assert len(list(StatefulDataLoader(Forking(), batch_size=2, num_workers=1))) == 3
    records = records_of(run)
    assert [wait.loader for wait in of(Wait, records)] == [0, 0, 0]
    assert len(of(LoaderOpened, records)) == 1


def test_loaders_within_the_data_leave_nothing_behind(new_run: NewRun) -> None:
    with new_run() as run:
        list(DataLoader(SHAPES["loader in the data"].loader().dataset, 8))
        [hook] = run._hooks
        assert len(hook._known) == 1  # type: ignore[attr-defined]  # no loader of a sample is kept
