"""Records as arrays, and arrays as columns."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

Ints = npt.NDArray[np.int64]


def column(records: Sequence[msgspec.Struct], name: str) -> Ints:
    """One field of all records, a whole number."""
    return np.fromiter((getattr(record, name) for record in records), np.int64, len(records))


def nullable(values: Ints) -> pl.Series:
    """Integers in which −1 means null."""
    series = pl.Series(values)
    return series.set(series < 0, None)
