"""What of PyTorch's DataLoader the look inside it relies on, and whether an installed version still has it.

Every function whose inner order matters is known by a digest of its arguments and of the names it uses, which is the
same for every Python version and changes when somebody rewrites the function. An unknown digest is refused.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator
from types import CodeType, ModuleType
from typing import Any

from torch.utils.data import _utils, dataloader

STATEFUL = "torchdata.stateful_dataloader.stateful_dataloader"

# Verified with torch 2.13.0 and torchdata 0.11.0: what the functions named here do, and in which order.
KNOWN: dict[str, frozenset[str]] = {
    "_BaseDataLoaderIter.__init__": frozenset(("3f32cdd5be5f",)),
    "_BaseDataLoaderIter.__next__": frozenset(("4420496050a0",)),
    "_BaseDataLoaderIter._next_index": frozenset(("6d733efdf799",)),
    "_BaseDataLoaderIter._reset": frozenset(("89148584a4cc",)),
    "_MultiProcessingDataLoaderIter.__init__": frozenset(("36594b160280",)),
    "_MultiProcessingDataLoaderIter._reset": frozenset(("838aafe76445",)),
    "_MultiProcessingDataLoaderIter._try_get_data": frozenset(("031dd9537076",)),
    "_MultiProcessingDataLoaderIter._try_put_index": frozenset(("be36fd624ab3",)),
    "_MultiProcessingDataLoaderIter._next_data": frozenset(("6d0c154001a2",)),
    "_MultiProcessingDataLoaderIter._process_data": frozenset(("148a699ded4b",)),
    "_SingleProcessDataLoaderIter.__init__": frozenset(("512cde6554e4",)),
    "_SingleProcessDataLoaderIter._next_data": frozenset(("b346417457b1",)),
    "DataLoader.__iter__": frozenset(("7d3a5aabda25",)),
    "DataLoader._get_iterator": frozenset(("225ad00fcf08",)),
    "_IterableDatasetFetcher.__init__": frozenset(("aea1dae70d36",)),
    "_IterableDatasetFetcher.fetch": frozenset(("559024890b0c",)),
    "_MapDatasetFetcher.fetch": frozenset(("2d54e79c7257",)),
    "create_fetcher": frozenset(("8b3dacaced9e",)),
    "_worker_loop": frozenset(("d31025b5aa83",)),
    "_pin_memory_loop": frozenset(("eca42f3d50fb",)),
    "stateful.__iter__": frozenset(("69afb19f253e",)),
    "stateful.__init__": frozenset(("bba4854a3a69",)),
    "stateful._reset": frozenset(("6b3d66daa6d8",)),
    "stateful._try_get_data": frozenset(("0979a7691505",)),
    "stateful._try_put_index": frozenset(("99266fb4a57e",)),
    "stateful._next_data": frozenset(("e3aa93cfb903",)),
    "stateful._process_data": frozenset(("eee1eb7bf9b8",)),
    "stateful._worker_loop": frozenset(("565e63e0db31",)),
}


def unknown() -> list[str]:
    """The functions that are missing or were rewritten since they were last looked at; empty: all are known."""
    return [name for name, function in _functions() if _digest(function) not in KNOWN.get(name, ())]


def stateful_module() -> ModuleType | None:
    """torchdata's module of a DataLoader with iterators of its own, where the program has imported it and it is known.

    It is one of a kind: other libraries derive from PyTorch's iterators.
    """
    module = sys.modules.get(STATEFUL)
    if module is None:
        return None
    functions = _stateful_functions(module)
    return module if all(_digest(function) in KNOWN.get(name, ()) for name, function in functions) else None


def _functions() -> Iterator[tuple[str, Any]]:
    base, several = dataloader._BaseDataLoaderIter, dataloader._MultiProcessingDataLoaderIter
    for owner, names in (
        (base, ("__init__", "__next__", "_next_index", "_reset")),
        (several, ("__init__", "_reset", "_try_get_data", "_try_put_index", "_next_data", "_process_data")),
        (dataloader._SingleProcessDataLoaderIter, ("__init__", "_next_data")),
        (dataloader.DataLoader, ("__iter__", "_get_iterator")),
        (_utils.fetch._IterableDatasetFetcher, ("__init__", "fetch")),
        (_utils.fetch._MapDatasetFetcher, ("fetch",)),
    ):
        for name in names:
            yield f"{owner.__name__}.{name}", vars(owner).get(name)
    yield "create_fetcher", getattr(dataloader._DatasetKind, "create_fetcher", None)
    yield "_worker_loop", getattr(_utils.worker, "_worker_loop", None)
    yield "_pin_memory_loop", getattr(_utils.pin_memory, "_pin_memory_loop", None)


def _stateful_functions(module: ModuleType) -> Iterator[tuple[str, Any]]:
    yield "stateful.__iter__", getattr(getattr(module, "StatefulDataLoader", None), "__iter__", None)
    several = getattr(module, "_StatefulMultiProcessingDataLoaderIter", None)
    for name in ("__init__", "_reset", "_try_get_data", "_try_put_index", "_next_data", "_process_data"):
        yield f"stateful.{name}", getattr(several, name, None)
    worker = sys.modules.get("torchdata.stateful_dataloader.worker")
    yield "stateful._worker_loop", getattr(worker, "_worker_loop", None)


def _digest(function: Any) -> str:
    """Of the function itself, where somebody has wrapped it."""
    code = getattr(inspect.unwrap(function) if callable(function) else None, "__code__", None)
    if not isinstance(code, CodeType):
        return ""
    names = sorted({*code.co_varnames[: code.co_argcount], *_names(code)})
    return hashlib.sha256(" ".join(names).encode()).hexdigest()[:12]


def _names(code: CodeType) -> Iterator[str]:
    """All names of a function and of those within it: where a comprehension's names stand depends on the Python."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)
