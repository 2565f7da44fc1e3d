"""Time by class of operator, and the share of it that has none: what two frameworks can be compared by."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from profkit.analysis.columns import Columns
from profkit.analysis.report import OperatorClass
from profkit.trace.model import Trace

OPERATOR_KINDS = ("op", "collective")  # ranges are the program's own words and belong to no operator


def operator_classes(trace: Trace, columns: Columns | None = None) -> list[OperatorClass]:
    """Operators of the host and work of devices by class, None among them, the largest device time first, then self.

    Every operator and every piece of device work is in one row, so that calls, self and device times add up.
    """
    columns = columns or Columns(trace)
    on_host = columns.kind(*OPERATOR_KINDS) & ~columns.on_device_track
    grouped = (
        trace.spans.select("op_class", "duration_ns", pl.Series("self_ns", columns.self_time))
        .with_columns(pl.Series("on_host", on_host), pl.Series("on_device", columns.device_work))
        .filter(pl.col("on_host") | pl.col("on_device"))
        .group_by("op_class", maintain_order=True)
        .agg(
            pl.col("on_host").sum().alias("calls"),
            pl.col("self_ns").filter("on_host").sum(),
            pl.col("duration_ns").filter("on_device").sum().alias("device_ns"),
        )
        .sort("device_ns", "self_ns", descending=True, maintain_order=True)
    )
    return with_shares(grouped.rows())


def with_shares(rows: Sequence[tuple[str | None, int, int, int]]) -> list[OperatorClass]:
    """Class, calls, self time and device time of each class, with their shares of all."""
    self_total, device_total = sum(row[2] for row in rows), sum(row[3] for row in rows)
    return [
        OperatorClass(
            op_class=op_class,
            calls=calls,
            self_ns=self_ns,
            self_share=self_ns / self_total if self_total else None,
            device_ns=device_ns,
            device_share=device_ns / device_total if device_total else None,
        )
        for op_class, calls, self_ns, device_ns in rows
    ]


def unclassified(classes: list[OperatorClass]) -> tuple[float | None, float | None]:
    """The shares of self time and of device time without a class; None where there is no such time."""
    none = [row for row in classes if row.op_class is None]
    self_time, device_time = sum(row.self_ns for row in classes), sum(row.device_ns for row in classes)
    return (
        sum(row.self_ns for row in none) / self_time if self_time else None,
        sum(row.device_ns for row in none) / device_time if device_time else None,
    )
