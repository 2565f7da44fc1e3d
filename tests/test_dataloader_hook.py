"""PyTorch's DataLoader: waits are recorded, and nothing else changes."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset
from torch.utils.data.dataloader import _BaseDataLoaderIter, _MultiProcessingDataLoaderIter

import profkit
from profkit.analysis.summary import report
from profkit.capture import read_capture
from profkit.records import Batch, LoaderOpened, Note, Record, Wait
from profkit.trace.load import load

RecordsOf = Callable[[profkit.profile], list[Record]]
NewRun = Callable[..., profkit.profile]


class Numbers(Dataset[Tensor]):
    """The numbers up to 20, each with a random one."""

    def __len__(self) -> int:
        return 20

    def __getitem__(self, index: int) -> Tensor:
        return torch.tensor([index, torch.rand(()).item(), random.random()])


class Broken(Numbers):
    """The tenth number cannot be read."""

    def __getitem__(self, index: int) -> Tensor:
        if index == 9:
            raise KeyError("planted")
        return super().__getitem__(index)


class Stream(IterableDataset[Tensor]):
    """Five numbers from every worker."""

    def __iter__(self) -> Iterator[Tensor]:
        return iter(torch.arange(5))


class Nested(Numbers):
    """Every number comes out of a loader of its own."""

    def __getitem__(self, index: int) -> Tensor:
        [item] = DataLoader(Numbers(), sampler=[index], batch_size=None)
        return item  # type: ignore[no-any-return]  # a DataLoader yields anything


SHAPES: dict[str, Callable[[], DataLoader[Any]]] = {
    "plain": lambda: DataLoader(Numbers(), batch_size=4),
    "shuffled": lambda: DataLoader(Numbers(), batch_size=4, shuffle=True),
    "one by one": lambda: DataLoader(Numbers(), batch_size=None),
    "own sampler": lambda: DataLoader(Numbers(), batch_sampler=[[1, 2], [3]]),
    "stream": lambda: DataLoader(Stream(), batch_size=2),
    "workers": lambda: DataLoader(Numbers(), batch_size=4, shuffle=True, num_workers=2),
    "workers of a stream": lambda: DataLoader(Stream(), batch_size=2, num_workers=2),
    "persistent workers": lambda: DataLoader(Numbers(), batch_size=4, num_workers=2, persistent_workers=True),
    "loader in the data": lambda: DataLoader(Nested(), batch_size=4),
    "loader in the workers' data": lambda: DataLoader(Nested(), batch_size=4, num_workers=1),
}


@pytest.fixture
def new_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> NewRun:
    """A run with the DataLoader hook alone; nothing is made of its records."""
    monkeypatch.setattr("profkit.run._finalise", lambda folder: None)
    return lambda **options: profkit.profile(
        tmp_path / "runs", hooks=["dataloader"], sidecar=False, quiet=True, **options
    )


def two_passes(loader: DataLoader[Any]) -> tuple[list[Any], Any, Any]:
    """Every batch of two passes, and the random numbers that come next."""
    random.seed(1)
    torch.manual_seed(1)
    batches = [batch.tolist() for _ in range(2) for batch in loader]
    return batches, torch.get_rng_state().tolist(), random.getstate()


def waits(records: list[Record]) -> list[tuple[int, bool]]:
    return [(record.loader, record.first) for record in records if isinstance(record, Wait)]


def opened(records: list[Record]) -> list[LoaderOpened]:
    return [record for record in records if isinstance(record, LoaderOpened)]


@pytest.mark.parametrize("shape", SHAPES)
def test_batches_order_and_random_numbers_are_the_same_and_every_batch_is_a_wait(
    new_run: NewRun, records_of: RecordsOf, shape: str
) -> None:
    expected = two_passes(SHAPES[shape]())
    with new_run() as run:
        assert two_passes(SHAPES[shape]()) == expected
    records = records_of(run)
    batches = len(expected[0])
    assert [first for _, first in waits(records)] == [number % (batches // 2) == 0 for number in range(batches)]
    assert len({loader for loader, _ in waits(records)}) == 1
    assert len(opened(records)) == 2


@pytest.mark.parametrize("context", ["spawn", "forkserver"])
def test_workers_that_are_not_forked_know_nothing_of_the_run(
    new_run: NewRun, records_of: RecordsOf, context: str
) -> None:
    with new_run() as run:
        loader = DataLoader(Stream(), batch_size=5, num_workers=1, multiprocessing_context=context)
        assert [batch.tolist() for batch in loader] == [[0, 1, 2, 3, 4]]
    assert len(waits(records_of(run))) == 1


def test_the_settings_advice_needs_are_recorded(new_run: NewRun, records_of: RecordsOf) -> None:
    with new_run() as run:
        next(iter(DataLoader(Numbers(), batch_size=4)))
    [record] = opened(records_of(run))
    cpus = record.settings["cpus"]
    assert isinstance(cpus, int)
    assert record.name == "DataLoader"
    assert record.settings == {
        "num_workers": 0,
        "batch_size": 4,
        "prefetch_factor": None,
        "persistent_workers": False,
        "pin_memory": False,
        "in_order": True,
        "timeout": 0,
        "dataset": "Numbers",
        "cpus": cpus,
    }
    assert cpus >= 1


def test_the_iterator_is_the_one_it_would_have_been(new_run: NewRun) -> None:
    loader = DataLoader(Numbers(), batch_size=4)
    before = iter(loader)
    with new_run():
        within = iter(loader)
        assert type(within) is type(before)
        assert len(within) == len(before) == 5
        assert vars(within).keys() == vars(before).keys()


def test_a_pass_left_early_does_not_confuse_the_next_one(new_run: NewRun, records_of: RecordsOf) -> None:
    with new_run() as run:
        loader = DataLoader(Numbers(), batch_size=4)
        for _ in range(2):
            list(islice(loader, 2))
    assert [first for _, first in waits(records_of(run))] == [True, False, True, False]


def test_a_training_and_a_validation_loader_are_told_apart(new_run: NewRun, records_of: RecordsOf) -> None:
    training, validation = DataLoader(Numbers(), batch_size=10), DataLoader(Numbers(), batch_size=20)
    with new_run() as run:
        for loader in (training, validation, training):
            list(loader)
    assert [loader for loader, _ in waits(records_of(run))] == [0, 0, 1, 0, 0]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_error_in_the_data_passes_and_is_no_wait(new_run: NewRun, records_of: RecordsOf, num_workers: int) -> None:
    with new_run() as run, pytest.raises(KeyError, match="planted"):
        list(DataLoader(Broken(), batch_size=4, num_workers=num_workers))
    assert len(waits(records_of(run))) == 2


def test_a_loader_that_is_also_wrapped_is_counted_once(new_run: NewRun, records_of: RecordsOf) -> None:
    with new_run() as run:
        loader = run.loader(DataLoader(Numbers(), batch_size=4, num_workers=1))
        assert len(list(loader)) == 5
    records = records_of(run)
    assert len(waits(records)) == 5
    [record] = opened(records)
    assert record.settings["num_workers"] == 1


def test_an_iterator_made_before_the_run_is_recorded_from_there(new_run: NewRun, records_of: RecordsOf) -> None:
    iterator = iter(DataLoader(Numbers(), batch_size=4))
    next(iterator)
    with new_run() as run:
        assert len(list(iterator)) == 4
    records = records_of(run)
    assert waits(records) == [(0, False)] * 4
    [record] = opened(records)
    assert (record.duration_ns, record.settings["dataset"]) == (0, "Numbers")


def test_everything_is_put_back(new_run: NewRun) -> None:
    before = vars(_BaseDataLoaderIter)["__next__"], vars(DataLoader)["__iter__"]
    with new_run():
        assert vars(_BaseDataLoaderIter)["__next__"] is not before[0]
    assert (vars(_BaseDataLoaderIter)["__next__"], vars(DataLoader)["__iter__"]) == before


def test_a_loader_left_over_from_a_run_goes_on_without_it(new_run: NewRun, records_of: RecordsOf) -> None:
    with new_run() as run:
        iterator = iter(DataLoader(Numbers(), batch_size=4))
        next(iterator)
    assert len(list(iterator)) == 4
    assert len(waits(records_of(run))) == 1


def test_an_unknown_version_of_the_loader_is_left_alone_and_noted(
    new_run: NewRun, records_of: RecordsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other_next(self: Any, how_many: int = 1) -> Any:
        raise StopIteration

    monkeypatch.setattr(_BaseDataLoaderIter, "__next__", other_next)
    with new_run() as run:
        assert vars(_BaseDataLoaderIter)["__next__"] is other_next
        assert list(DataLoader(Numbers())) == []
    [note] = [record.text for record in records_of(run) if isinstance(record, Note) and "DataLoader" in record.text]
    assert "its waits are not recorded" in note


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("failing", [*range(1, 25), 40])
def test_no_failing_call_of_profkits_own_changes_the_batches(new_run: NewRun, num_workers: int, failing: int) -> None:
    """The k-th reading of the recorder's clock fails, for every k."""
    expected = [batch.tolist() for batch in DataLoader(Stream(), batch_size=1, num_workers=num_workers)]
    calls = 0

    def clock() -> int:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise OSError("planted")
        return calls

    with new_run() as run:
        run._recorder.clock = clock
        loader = DataLoader(Stream(), batch_size=1, num_workers=num_workers)
        assert [batch.tolist() for batch in loader] == expected
        run._recorder.clock = int


def slowly(worker: int) -> None:
    """What a worker does before its first batch: imports, opening files."""
    time.sleep(0.4)


@pytest.mark.parametrize("persistent", [False, True])
def test_workers_that_start_slowly_are_blamed_only_where_every_pass_starts_them(
    new_run: NewRun, persistent: bool
) -> None:
    with new_run() as run:
        loader = DataLoader(
            Numbers(), batch_size=5, num_workers=1, worker_init_fn=slowly, persistent_workers=persistent
        )
        for _ in range(5):
            for _batch in loader:
                time.sleep(0.02)
                run.step()
        del loader
    causes = [finding.cause for finding in report(load(run.folder)).findings]
    assert ("loader_restarts" in causes) != persistent


def batches(records: list[Record]) -> list[Batch]:
    return [record for record in records if isinstance(record, Batch)]


def notes(run: profkit.profile) -> list[str]:
    """The notes of all processes of a run."""
    return [note.text for note in read_capture(run.folder / "plugins" / "profkit" / "capture").notes]


def test_an_unknown_inside_is_refused_and_the_waits_are_recorded(
    new_run: NewRun, records_of: RecordsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody has rewritten how indices are given to workers."""
    original = vars(_MultiProcessingDataLoaderIter)["_try_put_index"]

    def _try_put_index(self: Any) -> None:
        original(self)

    monkeypatch.setattr(_MultiProcessingDataLoaderIter, "_try_put_index", _try_put_index)
    with new_run() as run:
        assert len(list(DataLoader(Numbers(), batch_size=4, num_workers=1))) == 5
    assert len(waits(records_of(run))) == 5
    assert batches(records_of(run)) == []
    [note] = [text for text in notes(run) if "is not known" in text]
    assert note.endswith("_MultiProcessingDataLoaderIter._try_put_index")


def slow() -> int:
    """A clock whose reading takes longer than following a batch may."""
    time.sleep(0.0005)
    return time.perf_counter_ns()


@pytest.mark.parametrize(
    ("module", "num_workers"),
    [("dataloader", 0), ("dataloader", 1), ("dataloader_fetchers", 0), ("dataloader_workers", 1)],
)
def test_a_look_inside_that_costs_too_much_is_given_up_and_the_waits_are_recorded(
    new_run: NewRun, records_of: RecordsOf, monkeypatch: pytest.MonkeyPatch, module: str, num_workers: int
) -> None:
    monkeypatch.setattr("profkit.hooks.dataloader_cost.JUDGED", 4)
    monkeypatch.setattr(f"profkit.hooks.{module}.now", slow)
    with new_run() as run:
        loader = DataLoader(Numbers(), batch_size=1, num_workers=num_workers)
        iterator = iter(loader)
        fetch = vars(vars(iterator).get("_dataset_fetcher", iterator)).get("fetch")
        assert len(list(iterator)) == 20
    records = records_of(run)
    assert len(waits(records)) == 20
    followed = [batch for batch in batches(records) if batch.fetch is not None]
    assert 1 <= len(followed) <= 8
    where = "a loader's worker" if module == "dataloader_workers" else "the loader"
    [note] = [text for text in notes(run) if text.startswith(f"looking into {where} took")]
    assert "more than it may: it was given up" in note
    if num_workers == 0:
        assert fetch is not None
        assert "fetch" not in vars(iterator.__dict__["_dataset_fetcher"]), "its clocks are taken off"


def test_of_a_long_training_every_so_many_batches_are_recorded(
    new_run: NewRun, records_of: RecordsOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("profkit.hooks.dataloader.ALL_BATCHES", 6)
    monkeypatch.setattr("profkit.hooks.dataloader.THINNED", 5)
    with new_run() as run:
        list(DataLoader(Numbers(), batch_size=1))
    assert [batch.index for batch in batches(records_of(run))] == [0, 1, 2, 3, 4, 5, 9, 14, 19]
    assert len(waits(records_of(run))) == 20


@pytest.mark.parametrize("num_workers", [0, 1])
def test_samples_are_written_down_for_the_first_fetches_and_then_for_slow_ones(
    new_run: NewRun, monkeypatch: pytest.MonkeyPatch, num_workers: int
) -> None:
    monkeypatch.setattr("profkit.hooks.dataloader_fetchers.DETAILED_FETCHES", 5)
    with new_run() as run:
        list(DataLoader(Slow(), batch_size=1, num_workers=num_workers))
    capture = read_capture(run.folder / "plugins" / "profkit" / "capture")
    indices = [index for record in capture.data_samples for index in record.indices]
    first, slow = indices[:5], indices[5:]
    assert first == [0, 1, 2, 3, 4]
    assert 15 in slow and len(slow) < 5  # a busy machine makes others slow too


class Slow(Numbers):
    """One number takes much longer than the others."""

    def __getitem__(self, index: int) -> Tensor:
        time.sleep(0.1 if index == 15 else 0.001)
        return super().__getitem__(index)


@pytest.mark.parametrize("loader", ["stream", "workers of a stream", "persistent workers", "workers"])
def test_what_is_kept_of_batches_does_not_grow(new_run: NewRun, loader: str) -> None:
    """Passes left early, ends of streams, batches nobody asked for."""
    with new_run() as run:
        [hook] = run._hooks
        progress = hook._progress  # type: ignore[attr-defined]
        made = SHAPES[loader]()
        for _ in range(25):
            iterator = iter(made)
            list(islice(iterator, 3))
            [kept] = progress.values()
            assert len(kept._received) + len(kept._dispatched) <= 10
        del iterator, kept
        if loader != "persistent workers":
            assert len(progress) == 0


def test_a_long_pass_keeps_nothing(new_run: NewRun) -> None:
    with new_run() as run:
        [hook] = run._hooks
        iterator = iter(DataLoader(range(5_000), batch_size=1, num_workers=1))  # type: ignore[arg-type]  # as users do
        for _ in iterator:
            pass
        [kept] = hook._progress.values()  # type: ignore[attr-defined]
        assert len(kept._received) + len(kept._dispatched) == 0
