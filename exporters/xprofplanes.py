"""The planes and lines of an XSpace that the tracks of a trace become.

The host is the plane `/host:CPU`, without which XProf shows nothing; a device `/device:GPU:<n>` or `/device:TPU:<n>`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.trace.model import Trace

from . import chromejson
from .xspace import Line

Ints = npt.NDArray[np.int64]

HOST = "/host:CPU"
_GPU, _TPU = "/device:GPU:", "/device:TPU:"
_NUMBER = re.compile(r":(\d+)$")
STEPS_LINE = Line(-559_038_737, "Steps")  # by its number, kThreadIdStepInfo, XProf knows it
WAITS_LINE = Line(1 << 40, "Waiting for input")
# Lines of a GPU that its work does not lie on, and those that are named already as readers expect.
_NAMED = ("Stream", "XLA", "Steps", "Framework", "TensorFlow", "Async", "Source")


@dataclass(frozen=True, slots=True)
class Layout:
    """A plane: its lines, and which of them each track of the trace becomes (−1: none). `device`: None for the host."""

    name: str
    device: int | None
    lines: list[Line]
    line_of_track: Ints

    def placed(self, events: pl.DataFrame) -> pl.DataFrame:
        """The events on this plane, with the number of their line in the place of their track."""
        line = self.line_of_track[events["track"].to_numpy()]
        return events.drop("track").with_columns(line=pl.Series(line)).filter(line >= 0)


def layouts(trace: Trace) -> list[Layout]:
    """The host's plane, then the devices'. One of which nothing was recorded has a plane where its file had one."""
    addresses = chromejson.addresses(trace, steps_must_nest=True)
    planes = [_plane(device) for device in trace.tracks["device"].to_list()]
    listed = [str(facts.get("name")) for facts in trace.info.devices]
    names = dict.fromkeys([HOST, *planes, *(name for name in listed if name.startswith((_GPU, _TPU)))])
    own_numbers = trace.tracks["tid"].to_list()
    return [
        _layout(name, [at if plane == name else None for at, plane in zip(addresses, planes, strict=True)], own_numbers)
        for name in names
    ]


def _plane(device: str | None) -> str:
    """Of a device as tracks name it: `cuda:0`, `tpu:3`."""
    if device is None:
        return HOST
    number = _NUMBER.search(device)
    return (_TPU if device.startswith("tpu") else _GPU) + (number[1] if number else "0")


def _layout(name: str, addresses: list[chromejson.Address | None], own_numbers: list[int | None]) -> Layout:
    first: dict[chromejson.Address, int | None] = {}
    for at, own in zip(addresses, own_numbers, strict=True):
        if at is not None:
            first.setdefault(at, own)
    place: dict[chromejson.Address | None, int] = {at: line for line, at in enumerate(first)}
    lines, taken = [], set[int]()
    for at, own in first.items():
        number = at.tid if own is None else own
        while number in taken:  # threads of two processes may have one number
            number += 1
        taken.add(number)
        lines.append(Line(number, _line_name(name, at)))
    found = _NUMBER.search(name)
    line_of_track = np.array([place.get(at, -1) for at in addresses], np.int64)
    return Layout(name, int(found[1]) if found else None, lines, line_of_track)


def _line_name(plane: str, at: chromejson.Address) -> str:
    """Readers know a GPU's streams by how their names begin."""
    bare = plane.startswith(_GPU) and not at.name.startswith((*_NAMED, WAITS_LINE.name))
    return f"Stream #{at.tid} ({at.name})" if bare else at.name
