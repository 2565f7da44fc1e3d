"""The report as Markdown, as TensorBoard's Text tab shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from profkit.analysis.report import Finding, Report
from profkit.units import duration, percent, ratio, size

TOP = 10


def summary_markdown(report: Report) -> str:
    """The verdict, where the time went, what to change, the largest operators, memory, overhead and notes."""
    parts = (
        [f"## {_escaped(report.headline)}"],
        [f"**→ {_escaped(finding.remedy)}** {_gain(finding)}" for finding in report.findings],
        [f"{report.steps:,} steps; the verdict rests on {_escaped(report.measured_on)}."],
        _breakdown(report),
        _classes(report),
        _operators(report),
        _memory(report),
        _overhead(report),
        _notes(report),
    )
    return "\n\n".join(paragraph for part in parts for paragraph in part) + "\n"


def _gain(finding: Finding) -> str:
    """What the remedy promises."""
    if finding.predicted_speedup is None:
        return ""
    return f"About {ratio(finding.predicted_speedup)} faster (predicted, {finding.confidence} confidence)."


def _breakdown(report: Report) -> list[str]:
    total = sum(report.breakdown_ns.values())
    if not total:
        return []
    rows = [
        (name.replace("_", " "), duration(time_ns), percent(time_ns / total))
        for name, time_ns in report.breakdown_ns.items()
        if time_ns
    ]
    return ["### Where the time went", _table(("", "per step", "share"), rows)]


def _classes(report: Report) -> list[str]:
    """Time by class of operator, and the share of it without one."""
    if not report.operator_classes:
        return []
    has_device = report.unclassified_device_share is not None
    rows = [
        (row.op_class or "no class", f"{row.calls:,}", duration(row.self_ns), _share(row.self_share))
        + ((duration(row.device_ns), _share(row.device_share)) if has_device else ())
        for row in report.operator_classes
    ]
    header = ("class", "calls", "self", "share", *(("device", "share of device") if has_device else ()))
    shares = {"self time": report.unclassified_share, "device time": report.unclassified_device_share}
    without = [f"{percent(share)} of {what}" for what, share in shares.items() if share is not None]
    return ["### Operators by class", f"Without a class: {' and '.join(without)}.", _table(header, rows)]


def _share(share: float | None) -> str:
    return "" if share is None else percent(share)


def _operators(report: Report) -> list[str]:
    if not report.operators:
        return []
    rows = [
        (_code(op.name), f"{op.calls:,}", duration(op.self_ns), duration(op.total_ns), duration(op.device_ns))
        for op in report.operators[:TOP]
    ]
    return [
        f"### The {len(rows)} largest operators by self time",
        _table(("operator", "calls", "self", "total", "device"), rows),
    ]


def _memory(report: Report) -> list[str]:
    rows = [(_code(device.device), size(device.peak_bytes)) for device in report.memory.devices]
    return ["### Memory", _table(("device", "peak"), rows)] if rows else []


def _overhead(report: Report) -> list[str]:
    overhead, known = report.overhead, []
    if overhead.outside_share is not None:
        known.append(f"{percent(overhead.outside_share)} of a step outside the windows")
    if overhead.inside_ratio is not None:
        known.append(f"inside a window a step takes {overhead.inside_ratio:.2f} times as long")
    return [f"Overhead of profkit: {'; '.join(known)}."] if known else []


def _notes(report: Report) -> list[str]:
    lost = [f"{count:,} {what} dropped" for what, count in report.dropped.items()]
    mended = [f"{count:,} {what}" for what, count in report.repaired.items()]
    notes = [f"- {_escaped(note)}" for note in (*lost, *mended, *report.notes)]
    return ["### Notes", "\n".join(notes)] if notes else []


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column to the left, the others to the right."""
    lines = [header, [":---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(name: str) -> str:
    """A name as it is, on one line, in a cell."""
    return f"`{' '.join(name.split()).replace('`', chr(39)).replace('|', '/')[:120]}`"


def _escaped(text: str) -> str:
    """Text whose characters mean nothing to Markdown."""
    return "".join(f"\\{c}" if c in "\\`*_{}[]<>#|" else c for c in " ".join(text.split()))
