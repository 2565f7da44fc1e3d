"""What a trace alone tells of the loader it waited for."""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from profkit.trace.model import Loader, Trace

# The range torch's DataLoader opens around its wait names the class of its iterator, and this one has no workers.
_WITHOUT_WORKERS = "_SingleProcessDataLoaderIter"
_LIBRARIES = {"enumerate(Data": "DataLoader", "IteratorGetNext": "tf.data"}  # how the name of a wait begins


def loaders_of(traces: Iterable[Trace]) -> dict[str, Loader]:
    """The loaders whose waits were recorded, with the little their names say; empty where there are none."""
    names = {
        str(name)
        for trace in traces
        for name in trace.spans.filter(pl.col("kind") == "data_wait")["name"].unique().to_list()
    }
    return {name: Loader(_library(name), _settings(name)) for name in sorted(names)}


def _library(name: str) -> str:
    return next((library for begins, library in _LIBRARIES.items() if name.startswith(begins)), "loader")


def _settings(name: str) -> dict[str, str | int | float | bool | None]:
    return {"num_workers": 0} if _WITHOUT_WORKERS in name else {}
