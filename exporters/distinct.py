"""A column of words as its distinct words and where each row finds its own: what is done to words is done once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl


@dataclass(frozen=True, slots=True)
class Distinct:
    """`words[row[i]]` is the word of row i, and `row[i]` is null where it has none; words in order of appearance."""

    words: list[str]
    row: pl.Series

    def spread(self, values: pl.Series) -> pl.Series:
        """A column in which each row has the value of its word: `values` has one for each."""
        if not len(values):
            return pl.Series(values.name, [None], values.dtype).new_from_index(0, len(self.row))
        return values.gather(self.row)


def distinct(column: pl.Series) -> Distinct:
    """The distinct words of a column of texts, nulls left out."""
    coded = column.cast(pl.Categorical)
    words = coded.unique(maintain_order=True).drop_nulls()
    codes = words.to_physical()
    place = np.zeros(int(codes.max()) + 1 if len(codes) else 1, np.uint32)  # type: ignore[arg-type]
    place[codes.to_numpy()] = np.arange(len(codes), dtype=np.uint32)
    at = coded.to_physical()
    row = pl.Series(place[at.fill_null(0).to_numpy()]).set(at.is_null(), None)
    return Distinct(words.cast(pl.String).to_list(), row)
