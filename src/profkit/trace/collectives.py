"""What collectives say of themselves: the bytes of the message, its type, and the group that exchanges it.

Since 2.3 PyTorch writes them as arguments of `record_param_comms` and of the device's kernels. Before that, and with
gloo, the inputs of the range around the call tell; of the group only the file's header, where it names a single one.
A kernel that says nothing takes what the range says it was launched from. The words are PyTorch's, in `args`:
"Collective name", "dtype", "In msg nelems", "Out msg nelems", "Group size", "Process Group Name",
"Process Group Ranks", "Seq".
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from math import prod
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.trace.arrays import nullable
from profkit.trace.schema import WORD
from profkit.trace.words import Words

Ints = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

# Ranges that PyTorch's backends open with the tensors of the call, and the operators that issue it.
_BACKEND_RANGE = re.compile(r"(?:gloo|mpi|ucc|[a-z]ccl):(\w+)")
_ISSUING_CALL = re.compile(r"c10d::|record_param_comms$")

# c10's names of types, as in "dtype", and the C++ names of "Input type" for the same.
_BYTES_OF = {
    **dict.fromkeys(("Byte", "Char", "Bool"), 1),
    **dict.fromkeys(("Float8_e4m3fn", "Float8_e5m2", "Float8_e4m3fnuz", "Float8_e5m2fnuz", "Float8_e8m0fnu"), 1),
    **dict.fromkeys(("Short", "Half", "BFloat16", "UInt16"), 2),
    **dict.fromkeys(("Int", "Float", "UInt32"), 4),
    **dict.fromkeys(("Long", "Double", "UInt64", "ComplexFloat"), 8),
    "ComplexDouble": 16,
}
_C10_NAME = {
    **{name: name for name in _BYTES_OF},
    "unsigned char": "Byte",
    "signed char": "Char",
    "bool": "Bool",
    "short": "Short",
    "short int": "Short",
    "int": "Int",
    "long": "Long",
    "long int": "Long",
    "float": "Float",
    "double": "Double",
    "unsigned short": "UInt16",
    "unsigned int": "UInt32",
    "unsigned long": "UInt64",
    "complex<float>": "ComplexFloat",
    "complex<double>": "ComplexDouble",
}


class Group(msgspec.Struct, frozen=True):
    """A process group, as the file's header names it."""

    pg_name: str
    pg_size: int
    ranks: list[int]


def with_messages(
    spans: pl.DataFrame, collective: Bools, parent: Ints, launches: tuple[Ints, Ints], groups: Sequence[Group]
) -> pl.DataFrame:
    """Spans with `bytes` and `args` of collectives, of which `collective` marks those known by their kind.

    `bytes` is the larger of what one rank gives and what it gets, as in torch.distributed's own accounts.
    """
    calls = Words(spans["name"]).matching(_BACKEND_RANGE, _ISSUING_CALL)
    rows = np.flatnonzero(calls | collective)
    if not len(rows):
        return spans
    said = spans.select(*_KEYS, "bytes")[rows]
    answers = _answers(said.select(_KEYS).unique(), groups[0] if len(groups) == 1 else None)
    found = said.join(answers, on=_KEYS, how="left", nulls_equal=True, maintain_order="left")
    size = spans["bytes"].clone().scatter(rows, found.select(pl.coalesce("bytes", "message")).to_series())
    size = _outer_sizes(size, np.flatnonzero(calls), parent)
    details = spans["args"].clone().scatter(rows, found.select(pl.coalesce("details", "args")).to_series())
    tells = calls & size.is_not_null().to_numpy() & details.is_not_null().to_numpy()
    kernels, ranges = _silent_kernels(collective & size.is_null().to_numpy(), tells, parent, launches)
    if len(kernels):
        size = size.scatter(kernels, size.gather(ranges))
        pairs = zip(details.gather(kernels).to_list(), details.gather(ranges).to_list(), strict=True)
        details = details.scatter(kernels, pl.Series([_joined(*pair) for pair in pairs], dtype=WORD))
    return spans.with_columns(size.alias("bytes"), details.alias("args"))


_KEYS = ["name", "shapes", "dtypes", "args"]


def _answers(distinct: pl.DataFrame, group: Group | None) -> pl.DataFrame:
    """For each distinct call, the size of its message and what there is to say of it."""
    answers = [_answer(*each, group=group) for each in distinct.iter_rows()]
    return distinct.with_columns(
        pl.Series("message", [size for size, _ in answers], dtype=pl.Int64),
        pl.Series("details", [details for _, details in answers], dtype=WORD),
    )


def _answer(
    name: str, shapes: str | None, dtypes: str | None, args: str | None, *, group: Group | None
) -> tuple[int | None, str | None]:
    said = _decoded(args, dict[str, Any]) or {}
    called = _BACKEND_RANGE.match(name)
    if "Collective name" not in said and not called:
        return (None, None) if args else (_largest_input(shapes, dtypes), None)
    more: dict[str, Any] = {}
    if called and "Collective name" not in said:
        more |= _inputs(called[1], shapes, dtypes)
    if group and "Process Group Name" not in said:
        ranks = str(group.ranks)
        more |= {"Group size": group.pg_size, "Process Group Name": group.pg_name, "Process Group Ranks": ranks}
    return _size(said | more), _joined(args, msgspec.json.encode(more).decode())


def _size(said: dict[str, Any]) -> int | None:
    """Bytes of a message from what was said of it: the larger of what goes in and what comes out."""
    elements = [said[key] for key in ("In msg nelems", "Out msg nelems") if isinstance(said.get(key), int)]
    each = element_bytes(said.get("dtype"))
    return max(elements) * each if elements and each else None


def _inputs(collective: str, shapes: str | None, dtypes: str | None) -> dict[str, Any]:
    """A backend's range in the words of its arguments; its inputs are the tensors of the call, all of one type."""
    tensors = _tensors(shapes, dtypes)
    types = {dtype for _, dtype in tensors}
    if len(types) != 1:
        return {"Collective name": collective}
    elements = sum(count for count, _ in tensors)
    return {"Collective name": collective, "dtype": _c10_name(types.pop()), "In msg nelems": elements}


def _largest_input(shapes: str | None, dtypes: str | None) -> int | None:
    """Bytes of the largest tensor that an operator was given, inputs and outputs alike."""
    sizes = [count * size for count, dtype in _tensors(shapes, dtypes) if (size := element_bytes(dtype))]
    return max(sizes, default=None)


def _tensors(shapes: str | None, dtypes: str | None) -> list[tuple[int, str]]:
    """Elements and type of each argument that is a tensor of a known type."""
    dims, types = _decoded(shapes, list[Any]) or [], _decoded(dtypes, list[str]) or []
    return [
        (prod(sizes), dtype)
        for sizes, dtype in zip(dims, types, strict=False)
        if element_bytes(dtype) and isinstance(sizes, list) and all(isinstance(size, int) for size in sizes)
    ]


def element_bytes(dtype: object) -> int | None:
    """Bytes of one element, whether the type has c10's name or C++'s; None of an unknown one."""
    return _BYTES_OF.get(_c10_name(dtype) or "")


def _c10_name(dtype: object) -> str | None:
    return _C10_NAME.get(dtype.removeprefix("c10::")) if isinstance(dtype, str) else None


def _outer_sizes(size: pl.Series, calls: Ints, parent: Ints) -> pl.Series:
    """Sizes of calls, the larger ones of the calls around them: a backend's range has the inputs alone."""
    sizes = size.fill_null(-1).to_numpy(writable=True)
    inner = calls[np.isin(parent[calls], calls)]
    while (less := sizes[inner] < sizes[parent[inner]]).any():
        sizes[inner[less]] = sizes[parent[inner[less]]]
    return nullable(sizes)


def _silent_kernels(silent: Bools, tells: Bools, parent: Ints, launches: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
    """Kernels that do not tell their size, and the innermost range around their launch that does."""
    launching, launched = launches
    asks = silent[launched]
    row, kernel = launching[asks], launched[asks]
    found: list[tuple[Ints, Ints]] = [(kernel[:0], row[:0])]
    while len(row):
        answered = tells[row]
        found.append((kernel[answered], row[answered]))
        row, kernel = parent[row[~answered]], kernel[~answered]
        row, kernel = row[row >= 0], kernel[row >= 0]
    kernels, ranges = zip(*found, strict=True)
    return np.concatenate(kernels), np.concatenate(ranges)


def _joined(own: str | None, more: str) -> str:
    """A JSON object, whose own text stays as it is, with the fields of another one."""
    if own is None or own == "{}":
        return more
    return own if more == "{}" else f"{own[:-1]},{more[1:]}"


def _decoded(text: str | None, kind: type[Any]) -> Any:
    """The JSON value, None where it is no `kind`."""
    try:
        return msgspec.json.decode(text, type=kind) if text else None
    except (msgspec.DecodeError, RecursionError):
        return None
