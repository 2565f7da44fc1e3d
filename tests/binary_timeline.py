"""The page's columnar binary read back, by nothing but its specification (docs/format.md, "The timeline")."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np

TYPES = {"u8": "<u1", "u16": "<u2", "u32": "<u4", "f64": "<f8"}


@dataclass(frozen=True, slots=True)
class Decoded:
    """The header, and the arrays by name."""

    header: dict[str, Any]
    arrays: dict[str, Any]

    def times(self) -> tuple[Any, Any]:
        """Start and duration of every span, nanoseconds since the trace's beginning."""
        gap, duration = (self.arrays[name].astype(np.int64) for name in ("gap", "duration"))
        gap[self.arrays["gap_at"]] = self.arrays["gap_ns"]
        duration[self.arrays["duration_at"]] = self.arrays["duration_ns"]
        start = np.zeros_like(gap)
        for _, _, first, count in self.header["rows"]:
            row = slice(first, first + count)
            start[row] = np.cumsum(gap[row] + np.concatenate(([0], duration[row][:-1])))
        return start, duration

    def label(self, name: str) -> list[str | None]:
        """One word of every span's label."""
        words, places = self.header["words"], self.header["labels"][name]
        return [None if places[label] < 0 else words[places[label]] for label in self.arrays["label"]]


def decoded(binary: bytes) -> Decoded:
    assert binary[:8] == b"PKTL\x01\0\0\0"
    length = int.from_bytes(binary[8:12], "little")
    header, at = json.loads(binary[12 : 12 + length]), 12 + length
    assert at % 8 == 0
    arrays = {}
    for array in header["arrays"]:
        dtype = np.dtype(TYPES[array["type"]])
        arrays[array["name"]] = np.frombuffer(binary, dtype, array["length"], at)
        at += -(-array["length"] * dtype.itemsize // 8) * 8
    assert at == len(binary)
    return Decoded(header, arrays)
