"""What a benchmark hands back, and how it is printed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

Row = Sequence[str]


@dataclass(frozen=True, slots=True)
class Target:
    """A bound, what was seen, and whether it was kept; `met` is None where the measurement cannot tell."""

    bound: str
    seen: str
    met: bool | None

    @property
    def verdict(self) -> str:
        return {True: "met", False: "not met", None: "not resolved"}[self.met]


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under a title; the first row names the columns."""

    title: str
    rows: Sequence[Row]
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """Tables and targets of one benchmark, and its figures for machines."""

    name: str
    tables: Sequence[Table]
    targets: Sequence[Target] = ()
    figures: dict[str, object] = field(default_factory=dict)


def outcome_text(outcome: Outcome) -> str:
    """All of one benchmark, for the terminal."""
    targets = [f"target {t.bound}: seen {t.seen} ({t.verdict})" for t in outcome.targets]
    return "\n".join([*(table_text(table) + "\n" for table in outcome.tables), *targets])


def table_text(table: Table) -> str:
    """A plain table, first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*table.rows, strict=True)]
    lines = ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in table.rows]
    notes = [f"  {note}" for note in table.notes]
    return "\n".join([f"── {table.title}", lines[0], "─" * len(lines[0]), *lines[1:], *notes])
