"""Statistics of a plane's events in columns: found by name, read as numbers or texts, written as JSON.

A statistic is a small message: the key of its name in a table of the plane, and one value. Most texts are keys of that
table too (`ref_value`), so that each of them is looked up once, however many events share it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.readers.xplane_wire import Fields, Ints, Packed

Bools = npt.NDArray[np.bool_]

DENSE_KEYS = 1 << 20  # up to here a table with a place for every possible key is smaller than sorting is slow

# Tags of XStat's fields: the name's key, and the choices of the value.
_NAME = 0x08
_DOUBLE, _UINT64, _INT64, _TEXT, _BYTES, _REFERENCE = _VALUES = (0x11, 0x18, 0x20, 0x2A, 0x32, 0x38)


class Keys:
    """The keys of a table, to turn very many of them into places in the table."""

    def __init__(self, keys: Collection[int]) -> None:
        self._sorted = np.sort(np.fromiter(keys, np.int64, len(keys)))
        self._place = np.argsort(np.fromiter(keys, np.int64, len(keys)), kind="stable")
        dense = len(keys) and self._sorted[0] >= 0 and self._sorted[-1] < DENSE_KEYS
        self._dense = self._looked_up(np.arange(self._sorted[-1] + 2)) if dense else None

    def places(self, keys: Ints) -> Ints:
        """Place of each key in the table, in its order; the table's length where the table has no such key."""
        if self._dense is None:
            return self._looked_up(keys)
        last = len(self._dense) - 1  # the place of a key that is not there
        return self._dense[np.where((keys >= 0) & (keys < last), keys, last)]

    def _looked_up(self, keys: Ints) -> Ints:
        if not len(self._sorted):
            return np.zeros(len(keys), np.int64)
        at = np.minimum(np.searchsorted(self._sorted, keys), len(self._sorted) - 1)
        return np.where(self._sorted[at] == keys, self._place[at], len(self._sorted))


class Names:
    """A plane's table of names. What it lacks is called "" and has the last code."""

    def __init__(self, table: Mapping[int, str]) -> None:
        self._keys = Keys(table)
        self.words = [*table.values(), ""]

    def codes(self, keys: Ints) -> Ints:
        """Each key's place among `words`."""
        return self._keys.places(keys)

    def marked(self, wanted: Collection[str]) -> Bools:
        """Which of `words` are wanted."""
        return np.array([word in wanted for word in self.words], np.bool_)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Statistics to be kept as JSON: the event, the name and the value of each; those of one event in their order."""

    event: Ints
    label: Ints  # place among `labels`
    value: pl.Series  # JSON
    labels: Sequence[str]

    def of(self, label: str) -> Ints:
        """The events that have a piece of this name."""
        return self.event[np.array([known == label for known in self.labels], np.bool_)[self.label]]

    def followed_by(self, parts: Sequence[tuple[Ints, str, pl.Series]]) -> Pieces:
        """These pieces, and behind them others: events, a name, and a value for each event."""
        numbers = range(len(self.labels), len(self.labels) + len(parts))
        return Pieces(
            np.concatenate([self.event, *(event for event, _, _ in parts)]),
            np.concatenate([self.label, *(np.full(len(p[0]), n) for n, p in zip(numbers, parts, strict=True))]),
            pl.concat([self.value, *(value for _, _, value in parts)]),
            [*self.labels, *(label for _, label, _ in parts)],
        )

    def objects(self) -> tuple[Ints, pl.Series]:
        """Events, and the JSON object that holds all the pieces of each.

        Events with the same names in the same order are written together: most of a file's texts have a dozen forms.
        """
        order = np.argsort(self.event, kind="stable")
        begin = np.flatnonzero(np.diff(self.event[order], prepend=-1))
        size = np.diff(begin, append=len(order))
        places = [order[begin[size == n][:, None] + np.arange(n)] for n in np.unique(size).tolist()]
        forms = [table[rows] for table in places for rows in _equal_rows(self.label[table])]
        # Column by column, so that each column of a form is a slice of the values brought into this order.
        values = self.value.gather(np.concatenate([order[:0], *(form.T.ravel() for form in forms)]))
        texts, behind = [pl.Series([], dtype=pl.String)], 0
        for form in forms:
            rows, width = form.shape
            columns = [values.slice(behind + at * rows, rows) for at in range(width)]
            texts.append(_written([self.labels[label] for label in self.label[form[0]]], columns))
            behind += form.size
        return np.concatenate([order[:0], *(self.event[form[:, 0]] for form in forms)]), pl.concat(texts)


def _written(labels: Sequence[str], columns: Sequence[pl.Series]) -> pl.Series:
    """One object for each row of the columns, whose names are the labels."""
    parts: list[pl.Expr] = []
    for number, (label, column) in enumerate(zip(labels, columns, strict=True)):
        parts += [pl.lit(f"{',' if number else '{'}{as_json(label)}:"), pl.lit(column)]
    return pl.select(pl.concat_str([*parts, pl.lit("}")])).to_series()


def _equal_rows(table: Ints) -> list[Ints]:
    """Numbers of the equal rows of a table, group by group."""
    code, width = table[:, 0], int(table.max()) + 1
    for column in table.T[1:]:
        code = np.unique(code * width + column, return_inverse=True)[1]
    order = np.argsort(code, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(code[order])) + 1)


class Statistics:
    """All statistics of some events. `event` is the number of the event that each one belongs to."""

    def __init__(self, packed: Packed, found: Fields, names: Names) -> None:
        """`found` are the fields of the events that hold statistics."""
        inside = packed.fields(found.begin, found.begin + found.value.astype(np.int64))
        count = len(found.message)
        self.event = found.message
        self._packed, self._names = packed, names
        self._name = names.codes(inside.last(count, _NAME).value.view(np.int64))
        self._value = inside.last(count, *_VALUES)

    def events(self, name: str) -> Ints:
        """The events that have a statistic of this name."""
        return self.event[self._rows(name)]

    def numbers(self, name: str) -> tuple[Ints, Ints]:
        """Events with an integer of this name, `7` or `"7"`, and the integers; unsigned ones as signed ones."""
        rows = self._rows(name)
        tag, value = self._value.tag[rows], self._value.value[rows].view(np.int64)
        is_number = (tag == _UINT64) | (tag == _INT64)
        for at, text in self._texts(rows):
            number = integer(text)
            if number is not None:
                value[at], is_number[at] = number, True
        return self.event[rows[is_number]], value[is_number]

    def texts(self, name: str) -> list[tuple[Ints, str]]:
        """The texts of this name, each with the events that have it."""
        rows = self._rows(name)
        return [(self.event[rows[at]], text) for at, text in self._texts(rows)]

    def pieces(self, kept: Collection[str], some: Bools, whole: Bools) -> Pieces:
        """The statistics of these names of `some` events, and all of `whole` ones. Bytes are never kept."""
        is_kept = (self._names.marked(kept)[self._name] & some[self.event]) | whole[self.event]
        rows = np.flatnonzero(is_kept & (self._value.tag != _BYTES))
        return Pieces(self.event[rows], self._name[rows], self._json(rows), self._names.words)

    def _rows(self, name: str) -> Ints:
        return np.flatnonzero(self._names.marked((name,))[self._name])

    def _texts(self, rows: Ints) -> list[tuple[Ints, str]]:
        """The texts among these statistics, and at which places of `rows` each one stands."""
        tag = self._value.tag[rows]
        code = np.where(tag == _REFERENCE, self._referred(rows), -1)
        return [
            *((np.flatnonzero(code == c), self._names.words[c]) for c in np.unique(code[code >= 0]).tolist()),
            *((np.array([at]), self._text(rows[at])) for at in np.flatnonzero(tag == _TEXT)),
        ]

    def _referred(self, rows: Ints) -> Ints:
        """Codes of the names that these statistics' values refer to."""
        return self._names.codes(self._value.value[rows].view(np.int64))

    def _text(self, row: int) -> str:
        return self._packed.text(int(self._value.begin[row]), int(self._value.value[row]))

    def _json(self, rows: Ints) -> pl.Series:
        """The values of these statistics as JSON, sort by sort, then brought back into order."""
        tag = self._value.tag[rows]
        at = {kind: np.flatnonzero(tag == kind) for kind in (0, *_VALUES)}
        unsigned = self._value.value[rows]
        floating = unsigned[at[_DOUBLE]].view(np.float64)
        words = pl.Series([as_json(word) for word in self._names.words])
        parts = {
            0: pl.Series(["null"] * len(at[0]), dtype=pl.String),
            _UINT64: pl.Series(unsigned[at[_UINT64]]).cast(pl.String),
            _INT64: pl.Series(unsigned[at[_INT64]].view(np.int64)).cast(pl.String),
            _DOUBLE: pl.Series(floating).cast(pl.String).set(pl.Series(~np.isfinite(floating)), "null"),
            _REFERENCE: words.gather(self._referred(rows[at[_REFERENCE]])),
            # Texts that are no references have bytes of their own each; the profilers write few.
            _TEXT: pl.Series([as_json(self._text(row)) for row in rows[at[_TEXT]]], dtype=pl.String),
        }
        order = np.argsort(np.concatenate([at[kind] for kind in parts]), kind="stable")
        return pl.concat(list(parts.values())).gather(order)


def integer(value: object) -> int | None:
    """An integer from 7 or "7"."""
    if isinstance(value, str) and re.fullmatch(r"-?\d{1,18}", value):
        return int(value)
    return value if isinstance(value, int) else None


def as_json(value: object) -> str:
    """JSON in its shortest form."""
    return msgspec.json.encode(value).decode()
