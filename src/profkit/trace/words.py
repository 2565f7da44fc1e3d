"""Membership tests on a dictionary-encoded column, by its codes."""

from __future__ import annotations

import re

import numpy as np
import numpy.typing as npt
import polars as pl


class Words:
    """A categorical column as numbers: which rows hold one of some words."""

    def __init__(self, column: pl.Series) -> None:
        distinct = column.unique().drop_nulls()
        self._code_of = dict(zip(distinct.to_list(), distinct.to_physical().to_list(), strict=True))
        self._none = max(self._code_of.values(), default=-1) + 1
        self._codes = column.to_physical().fill_null(self._none).to_numpy()

    def among(self, *words: str) -> npt.NDArray[np.bool_]:
        """Rows whose word is one of these."""
        wanted = [self._code_of[word] for word in words if word in self._code_of]
        is_wanted = np.zeros(self._none + 1, np.bool_)
        is_wanted[wanted] = True
        rows: npt.NDArray[np.bool_] = is_wanted[self._codes]
        return rows

    def beginning(self, *prefixes: str) -> npt.NDArray[np.bool_]:
        """Rows whose word begins with one of these."""
        return self.among(*(word for word in self._code_of if word.startswith(prefixes)))

    def matching(self, *patterns: re.Pattern[str]) -> npt.NDArray[np.bool_]:
        """Rows whose word begins as one of these patterns says."""
        return self.among(*(word for word in self._code_of if any(pattern.match(word) for pattern in patterns)))
