"""The operator class of each span: its name's, unless its scope, the optimizer or its launch know better.

Each distinct name and each distinct scope is looked at once; what follows are lookups by number. Classes are numbers
here: 0 for none, else one more than the place in `opclasses.NAMES`.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.trace import opclasses
from profkit.trace.schema import WORD
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

_NUMBER_OF = {name: number for number, name in enumerate(opclasses.NAMES, start=1)}
_OPTIMIZER = _NUMBER_OF["optimizer"]


def _among(names: Iterable[str]) -> Bools:
    """For each class's number, whether it is one of these."""
    table = np.zeros(len(opclasses.NAMES) + 1, np.bool_)
    table[[_NUMBER_OF[name] for name in names]] = True
    return table


_IS_PART = _among(opclasses.PARTS)
_IS_PART[0] = True
_STAYS = _among(opclasses.NOT_THE_OPTIMIZERS)
_TELLS = ~_among(opclasses.NOT_THE_KERNELS)
_TELLS[0] = False


def numbers(classes: Iterable[str | None]) -> list[int]:
    """Classes as numbers."""
    return [_NUMBER_OF[name] if name else 0 for name in classes]


def words(classes: Ints) -> pl.Series:
    """Numbers as classes."""
    return pl.Series("op_class", [None, *opclasses.NAMES], dtype=WORD).gather(classes)


class Scopes:
    """What the scopes of TensorFlow's operators prove: the class of the layer, backward, the optimizer."""

    def __init__(self, spans: pl.DataFrame) -> None:
        self.op_class = np.zeros(spans.height, np.int64)
        self.backward = np.zeros(spans.height, np.bool_)
        scopes = spans["module"]
        rows = np.flatnonzero(scopes.is_not_null().to_numpy())
        if len(rows):
            rows = rows[Words(spans["category"].gather(rows)).among("tf_op")]
        codes = scopes.gather(rows).to_physical().to_numpy()
        _, first, place = np.unique(codes, return_index=True, return_inverse=True)
        facts = [opclasses.scope_facts(scope) for scope in scopes.gather(rows[first]).to_list()]
        self.op_class[rows] = np.array(numbers(fact.op_class for fact in facts), np.int64)[place]
        self.backward[rows] = np.array([fact.is_backward for fact in facts], np.bool_)[place]
        self.optimizer = self.op_class == _OPTIMIZER


def in_scope(own: Ints, scope: Ints) -> Ints:
    """Classes where those of the scopes are known: a layer's class counts for what could be part of anything."""
    return np.where((scope > 0) & _IS_PART[own], scope, own)


def in_optimizer(own: Ints, inside: Bools) -> Ints:
    """Classes where those rows are operators inside the optimizer."""
    return np.where(inside & ~_STAYS[own], _OPTIMIZER, own)


def of_kernels(own: Ints, parent: Ints, launching: Ints, kernels: Ints) -> Ints:
    """Classes with those of kernels taken from the innermost operator around the call that launched each of them.

    That operator is the same on every device, while a kernel's name is an implementation's: an inner product may be a
    convolution's. A kernel keeps its name's class where no operator around its launch tells one.
    """
    result = own.copy()
    row = launching.copy()
    while len(row):
        tells = _TELLS[own[row]]
        result[kernels[tells]] = own[row[tells]]
        row, kernels = parent[row[~tells]], kernels[~tells]
        row, kernels = row[row >= 0], kernels[row >= 0]
    return result
