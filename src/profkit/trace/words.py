"""Membership tests on a dictionary-encoded column, by its codes."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import polars as pl


class Words:
    """A categorical column as numbers: which rows hold one of some words."""

    def __init__(self, column: pl.Series) -> None:
        self._codes = column.to_physical().fill_null(2**32 - 1).to_numpy()
        distinct = column.unique().drop_nulls()
        self._code_of = dict(zip(distinct.to_list(), distinct.to_physical().to_list(), strict=True))

    def among(self, *words: str) -> npt.NDArray[np.bool_]:
        """Rows whose word is one of these."""
        rows = np.zeros(len(self._codes), np.bool_)
        for code in (self._code_of[word] for word in words if word in self._code_of):
            rows |= self._codes == code
        return rows
