"""DataLoaders of every shape users give them, and what one of them yields, as a digest."""

from __future__ import annotations

import hashlib
import io
import pickle
import random
import re
import tarfile
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import numpy as np
import torch
from torch.utils.data import (
    ConcatDataset,
    DataLoader,
    Dataset,
    DistributedSampler,
    IterableDataset,
    Subset,
    WeightedRandomSampler,
    get_worker_info,
)
from torch.utils.data.datapipes.iter import IterableWrapper

Pair = namedtuple("Pair", "number text")
PASSES = 2


class Numbers(Dataset[dict[str, Any]]):
    """Numbers, each with a random one of every kind."""

    def __len__(self) -> int:
        return 48

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": torch.randn(3) + index, "y": np.random.rand(), "z": random.random(), "index": int(index)}


class WholeBatches(Numbers):
    """Hands out the samples of a batch together, as Hugging Face's datasets do."""

    def __getitems__(self, indices: list[int]) -> list[dict[str, Any]]:
        return [self[index] for index in indices]


class Named(Dataset[Pair]):
    """Named tuples with a text."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Pair:
        return Pair(torch.tensor([index]), str(index))


class Mixed(Dataset[Any]):
    """Nested containers, texts and nothing."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        return [{"a": (index, [str(index)])}, None, (index / 2, {"b": torch.ones(index % 3)})]


class Large(Dataset[torch.Tensor]):
    """Samples of a megabyte."""

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> torch.Tensor:
        return torch.full((512, 512), float(index))


class Stream(IterableDataset[torch.Tensor]):
    """Split among the workers, each of which has another number of samples."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        info = get_worker_info()
        worker, workers = (info.id, info.num_workers) if info else (0, 1)
        return (torch.randn(2) + index for index in range(worker, 45 + worker * 7, workers))


class StreamWithState(Stream):
    """A stream that can be resumed where it was left."""

    def __iter__(self) -> StreamWithState:
        self.at = getattr(self, "at", 0)
        return self

    def __next__(self) -> torch.Tensor:
        self.at += 1
        if self.at > 40:
            self.at = 0
            raise StopIteration
        return torch.tensor([self.at])

    def state_dict(self) -> dict[str, int]:
        return {"at": self.at}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.at = state["at"]


class NumbersWithState(Numbers):
    """A dataset whose state is saved with the loader's."""

    read = 0

    def __getitem__(self, index: int) -> dict[str, Any]:
        self.read += 1
        return super().__getitem__(index)

    def state_dict(self) -> dict[str, int]:
        return {"read": self.read}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.read = state["read"]


class Informed(Dataset[Any]):
    """What each sample's process knows of itself."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        info = get_worker_info()
        return (index, "nobody", True, 0) if info is None else (index, info.id, info.dataset is self, info.seed % 1000)


class Broken(Numbers):
    """One number cannot be read."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index == 29:
            raise ValueError(f"planted at {index}")
        return super().__getitem__(index)


class BrokenStream(Stream):
    """A stream that breaks off."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        yield from islice(super().__iter__(), 9)
        raise OSError("planted")


class Nested(Numbers):
    """Every sample comes out of a loader of its own."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        [item] = DataLoader(Numbers(), sampler=[index], batch_size=None)
        return item  # type: ignore[no-any-return]  # a DataLoader yields anything


class NestedWhole(Numbers):
    """Every sample is the batch of an inner loader over a stream."""

    def __getitem__(self, index: int) -> dict[str, Any]:
        first, *_ = DataLoader(Stream(), batch_size=3)
        return {"inner": first, "index": index}


class Texts(Dataset[str]):
    """Samples with names instead of numbers."""

    def __len__(self) -> int:
        return 12

    def __getitem__(self, name: str) -> str:
        return f"sample {name}"


class Scale:
    """A transform with random numbers."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return x * torch.rand(())


class Shift(Scale):
    """A transform derived from another one."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return super().__call__(x) + 1


class Pipeline:
    """As torchvision's Compose."""

    def __init__(self, *transforms: Any) -> None:
        self.transforms = list(transforms)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x


class Transformed(Numbers):
    """Every sample goes through a pipeline."""

    def __init__(self) -> None:
        self.transform = Pipeline(Shift(), Pipeline(Scale(), Shift()), torch.abs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"x": self.transform(torch.ones(2) * index)}


class Batches:
    """A batch sampler of the user's own: batches of several sizes, and a sample that comes twice."""

    def __iter__(self) -> Iterator[list[int]]:
        return iter([[1, 5, 2], [7, 7], [3], [40, 41, 42, 43]])

    def __len__(self) -> int:
        return 4


class OwnBatch:
    """A batch that is no container PyTorch knows."""

    def __init__(self, samples: list[Any]) -> None:
        self.samples = list(samples)


def no_batch(samples: list[Any]) -> None:
    """A collate function that gives nothing."""


def broken_collate(samples: list[Any]) -> None:
    raise RuntimeError("planted in collate")


def seeded(worker: int) -> None:
    """A worker_init_fn."""
    np.random.seed(1000 + worker)
    random.seed(7 * worker)


def broken_start(worker: int) -> None:
    raise RuntimeError("planted in worker_init_fn")


def tensors(loader: DataLoader[Any]) -> Iterator[Any]:
    """Batches that go through pickle once more, as when they are cached or sent on."""
    return (pickle.loads(pickle.dumps(batch)) for batch in loader)


def in_another_thread(loader: DataLoader[Any]) -> Iterator[Any]:
    """Batches taken by a thread that is not the training's."""
    batches: list[Any] = []
    thread = threading.Thread(target=lambda: batches.extend(loader))
    thread.start()
    thread.join()
    return iter(batches)


def first_three(loader: DataLoader[Any]) -> Iterator[Any]:
    return islice(loader, 3)


def unordered(loader: DataLoader[Any]) -> Iterator[Any]:
    """The batches in the order of their content: that of their arrival is not the same every time."""
    return iter(sorted(loader, key=lambda batch: int(batch[0])))


def beside_another(loader: DataLoader[Any]) -> Iterator[Any]:
    return zip(loader, DataLoader(Named(), 3, num_workers=1), strict=False)


def plain_numbers() -> DataLoader[Any]:
    return DataLoader(range(48), 4, num_workers=2, in_order=False)  # type: ignore[arg-type]  # as users do


def stateful(dataset: Dataset[Any], **options: Any) -> Any:
    from torchdata.stateful_dataloader import StatefulDataLoader

    return StatefulDataLoader(dataset, batch_size=8, **options)


def resumed(dataset: type[Dataset[Any]], **options: Any) -> Any:
    """A loader that goes on where another one was left."""
    loader = stateful(dataset(), **options)
    state = _left_state(dataset, tuple(options.items()))  # type: ignore[arg-type]  # a class has a hash
    loader.load_state_dict(pickle.loads(state))
    return loader


@cache
def _left_state(dataset: type[Dataset[Any]], options: tuple[tuple[str, Any], ...]) -> bytes:
    left = stateful(dataset(), **dict(options))
    iterator = iter(left)
    for _ in range(2):
        next(iterator)
    return pickle.dumps(left.state_dict())


def webdataset() -> Any:
    import webdataset as wds

    stream = wds.WebDataset(_shards(), shardshuffle=False).decode().to_tuple("txt", "cls").batched(4)
    return wds.WebLoader(stream, num_workers=2, batch_size=None)


def _shards() -> list[str]:
    paths = [Path(gettempdir()) / f"profkit-shard-{number}.tar" for number in range(2)]
    for path in paths:
        with tarfile.open(path, "w") as shard:
            for sample in range(20):
                for ending, content in (("txt", b"hello %d" % sample), ("cls", b"%d" % (sample % 10))):
                    entry = tarfile.TarInfo(f"s{sample:04d}.{ending}")
                    entry.size = len(content)
                    shard.addfile(entry, io.BytesIO(content))
    return [str(path) for path in paths]


def hugging_face() -> Any:
    import datasets

    table = datasets.Dataset.from_dict({"a": list(range(48)), "b": [[float(i)] * 4 for i in range(48)]})
    return DataLoader(table.with_format("torch"), batch_size=8, num_workers=2)


def hugging_face_stream() -> Any:
    import datasets

    stream = datasets.Dataset.from_dict({"a": list(range(48))}).to_iterable_dataset(num_shards=4)
    return DataLoader(stream.map(doubled), batch_size=8, num_workers=2)


def doubled(row: dict[str, int]) -> dict[str, int]:
    return {"a": row["a"] * 2}


@dataclass(frozen=True)
class Shape:
    """A loader and how it is iterated over. `followed`: whether profkit looks into its batches."""

    loader: Callable[[], Any]
    batches: Callable[[Any], Iterator[Any]] = iter
    needs: str = "torch"
    followed: bool = True

    @property
    def available(self) -> bool:
        return find_spec(self.needs) is not None


def _of(dataset: Callable[[], Any], *arguments: Any, **options: Any) -> Shape:
    return Shape(lambda: DataLoader(dataset(), *arguments, **options))


def _stateful(dataset: Callable[[], Any], **options: Any) -> Shape:
    return Shape(lambda: stateful(dataset(), **options), needs="torchdata")


def _resumed(dataset: type[Dataset[Any]], **options: Any) -> Shape:
    return Shape(partial(resumed, dataset, **options), needs="torchdata")


WORKERS: dict[str, Any] = {"num_workers": 2}
STAYING: dict[str, Any] = {"num_workers": 2, "persistent_workers": True}
SHAPES = {
    "map": _of(Numbers, 8),
    "map, shuffled": _of(Numbers, 8, shuffle=True),
    "map, workers": _of(Numbers, 8, **WORKERS),
    "map, workers, shuffled": _of(Numbers, 8, shuffle=True, **WORKERS),
    "map, workers that stay": _of(Numbers, 8, **STAYING),
    "map, more workers than batches": _of(Numbers, 48, **WORKERS),
    "map, spawned worker": _of(Numbers, 16, multiprocessing_context="spawn", num_workers=1, persistent_workers=True),
    "map, worker from a fork server": _of(
        Numbers, 16, multiprocessing_context="forkserver", num_workers=1, persistent_workers=True
    ),
    "map, last batch dropped": _of(Numbers, 7, drop_last=True, **WORKERS),
    "map, timeout": _of(Numbers, 8, timeout=30, **WORKERS),
    "map, one batch ahead": _of(Numbers, 8, prefetch_factor=1, **WORKERS),
    "map, own generator": Shape(
        lambda: DataLoader(Numbers(), 8, shuffle=True, generator=torch.Generator().manual_seed(5), **WORKERS)
    ),
    "map, single samples": _of(Numbers, batch_size=None),
    "map, single samples, workers": _of(Numbers, batch_size=None, **WORKERS),
    "whole batches": _of(WholeBatches, 8),
    "whole batches, workers": _of(WholeBatches, 8, **WORKERS),
    "stream": _of(Stream, 8),
    "stream, workers": _of(Stream, 8, **WORKERS),
    "stream, workers that stay": _of(Stream, 8, **STAYING),
    "stream, last batch dropped": _of(Stream, 8, drop_last=True, **WORKERS),
    "stream, single samples, workers": _of(Stream, batch_size=None, **WORKERS),
    "batch sampler": _of(Numbers, batch_sampler=Batches()),
    "batch sampler, workers": _of(Numbers, batch_sampler=Batches(), **WORKERS),
    "weighted sampler": _of(Numbers, 8, sampler=WeightedRandomSampler([1.0] * 48, 20), **WORKERS),
    "distributed sampler": _of(Numbers, 8, sampler=DistributedSampler(Numbers(), 2, 1), **WORKERS),
    "names for indices": _of(Texts, 3, sampler=["a", "b", "c", "d"], **WORKERS),
    "NumPy's integers for indices": _of(Numbers, 3, sampler=list(np.arange(9)), **WORKERS),
    "subset": Shape(lambda: DataLoader(Subset(Numbers(), range(9, 30)), 8, **WORKERS)),
    "two datasets in a row": Shape(lambda: DataLoader(ConcatDataset([Numbers(), WholeBatches()]), 8, **WORKERS)),
    "data pipe": Shape(lambda: DataLoader(IterableWrapper(range(30)).shuffle(), 4, shuffle=True, **WORKERS)),
    "pipeline of transforms": _of(Transformed, 8),
    "pipeline of transforms, workers": _of(Transformed, 8, **WORKERS),
    "named tuples": _of(Named, 8, **WORKERS),
    "nested containers": _of(Mixed, 1, collate_fn=list, **WORKERS),
    "large tensors": _of(Large, 2, **WORKERS),
    "own kind of batch": _of(Numbers, 8, collate_fn=OwnBatch, **WORKERS),
    "no batch": _of(Numbers, 8, collate_fn=no_batch, **WORKERS),
    "what a worker knows of itself": _of(Informed, 8, **WORKERS),
    "worker_init_fn": _of(Numbers, 8, worker_init_fn=seeded, **WORKERS),
    "error in the data": _of(Broken, 8),
    "error in the data, workers": _of(Broken, 8, **WORKERS),
    "error in a stream": _of(BrokenStream, 4, **WORKERS),
    "error in collate": _of(Numbers, 8, collate_fn=broken_collate, **WORKERS),
    "error in worker_init_fn": _of(Numbers, 8, worker_init_fn=broken_start, **WORKERS),
    "loader in the data": _of(Nested, 8),
    "loader in the workers' data": _of(Nested, 8, **WORKERS),
    "loader over a stream in the workers' data": _of(NestedWhole, 8, **WORKERS),
    "left early": Shape(lambda: DataLoader(Numbers(), 8), first_three),
    "left early, workers": Shape(lambda: DataLoader(Numbers(), 8, **WORKERS), first_three),
    "left early, workers that stay": Shape(lambda: DataLoader(Numbers(), 8, **STAYING), first_three),
    "stream, left early": Shape(lambda: DataLoader(Stream(), 8, **STAYING), first_three),
    "any order": Shape(plain_numbers, unordered),
    "beside another loader": Shape(lambda: DataLoader(Numbers(), 8, **WORKERS), beside_another),
    "batches pickled again": Shape(lambda: DataLoader(Named(), 8, **WORKERS), tensors),
    "in another thread": Shape(lambda: DataLoader(Numbers(), 8, **WORKERS), in_another_thread, followed=False),
    "stateful": _stateful(Numbers),
    "stateful, workers": _stateful(Numbers, **WORKERS),
    "stateful, workers that stay": _stateful(Numbers, **STAYING),
    "stateful, stream": _stateful(Stream, **WORKERS),
    "stateful, loader in the workers' data": _stateful(Nested, **WORKERS),
    "stateful, resumed": _resumed(Numbers),
    "stateful, resumed, state in the data": _resumed(NumbersWithState),
    "stateful, resumed, workers": _resumed(Numbers, **WORKERS),
    "stateful, resumed, stream with a state": _resumed(StreamWithState, **WORKERS),
    "stateful, resumed, stream without a state": _resumed(Stream, **WORKERS),
    "webdataset": Shape(webdataset, needs="webdataset"),
    "Hugging Face": Shape(hugging_face, needs="datasets"),
    "Hugging Face, stream": Shape(hugging_face_stream, needs="datasets"),
}


@dataclass(frozen=True)
class Seen:
    """What the loop over a loader sees: equal with and without profkit."""

    digest: str  # of the batches of all passes, and of the random states after them
    batches: int
    iterator: str
    error: str


def seen(shape: Shape) -> Seen:
    """Two passes over a new loader, from the same random state."""
    loader = shape.loader()
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    digest, batches, iterator, error = hashlib.sha256(), 0, None, ""
    try:
        for _ in range(PASSES):
            iterator = shape.batches(loader)
            for batch in iterator:
                _add(batch, digest)
                batches += 1
    except Exception as raised:
        error = f"{type(raised).__name__}: {without_profkit(str(raised))}"
    _add((torch.get_rng_state(), np.random.get_state(), random.getstate()), digest)
    return Seen(digest.hexdigest(), batches, type(iterator).__qualname__, error)


def without_profkit(traceback: str) -> str:
    """The text of a worker's error without profkit's own frames."""
    return re.sub(r'  File "[^"]*profkit/hooks/[^"]*", .*\n(    .*\n)*', "", traceback)


def _add(value: Any, digest: Any) -> None:
    """The content and the types of anything a loader yields."""
    digest.update(type(value).__name__.encode())
    if isinstance(value, torch.Tensor):
        digest.update(value.numpy().tobytes())
    elif isinstance(value, np.ndarray):
        digest.update(value.tobytes())
    elif isinstance(value, dict):
        for key, item in value.items():
            digest.update(str(key).encode())
            _add(item, digest)
    elif isinstance(value, list | tuple):
        for item in value:
            _add(item, digest)
    elif isinstance(value, OwnBatch):
        _add(value.samples, digest)
    else:
        digest.update(repr(value).encode())
