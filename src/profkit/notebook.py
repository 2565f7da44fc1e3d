"""A run in a notebook: a summary without scripts, which untrusted notebooks keep, and the whole page on request."""

from __future__ import annotations

import html
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from profkit import plugins
from profkit.analysis.report import Finding, Report
from profkit.analysis.summary import report
from profkit.engines.fanout import ranks_of
from profkit.trace.load import load, run_of
from profkit.trace.model import Run, Trace
from profkit.units import counted, duration, percent, ratio, size

# The page's colours (web/src/palette.ts, light), which are dark enough for either ground.
COLOURS = {
    "compute": "#0d6fcf",
    "communication": "#79448b",
    "copy": "#246358",
    "data_wait": "#bf5217",
    "runtime": "#614600",
    "host": "#7e2d40",
    "unattributed": "#737279",
}
LARGEST = 8  # operators
HEIGHT_PX = 900


class Shown:
    """The page of a run, as the output of a cell: an inline frame that can run scripts and reach nothing else."""

    def __init__(self, document: str) -> None:
        self._document = document

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self._document)}" sandbox="allow-scripts allow-downloads allow-popups" '
            f'title="profkit" width="100%" height="{HEIGHT_PX}" style="border:0"></iframe>'
        )


def show(what: Run | Trace | Path | str) -> Shown:
    """The page of a run, a trace, or a run's folder or URL, as `profkit export --to html` writes it."""
    run = _run(what)
    return Shown(plugins.load(plugins.EXPORTERS, "html").document(run, _report(run)))


def summary(what: Run | Trace | Path | str) -> str:
    """The verdict, where the time went, and the largest operators, as HTML without a script or a style sheet."""
    return _summary(_report(_run(what)))


def _report(run: Run) -> Report:
    return report(run, ranks_of(run.folder, run) if run.folder is not None else None)


def _run(what: Run | Trace | Path | str) -> Run:
    if isinstance(what, Path | str):
        return load(what)
    return what if isinstance(what, Run) else run_of(what, f"window {what.info.window}")


def _summary(known: Report) -> str:
    parts = (
        f'<div style="font-size:1.25em;font-weight:600">{html.escape(known.headline)}</div>',
        *map(_remedy, known.findings),
        *_breakdown(known),
        f'<div style="opacity:.75">{html.escape(_facts(known))}</div>',
        *_operators(known),
    )
    body = "".join(f'<div style="margin:.5em 0">{part}</div>' for part in parts)
    return f'<div style="font-family:system-ui,sans-serif;max-width:48em">{body}</div>'


def _remedy(finding: Finding) -> str:
    gain = (
        f" About {ratio(finding.predicted_speedup)} faster (predicted, {finding.confidence} confidence)."
        if finding.predicted_speedup
        else ""
    )
    return f"→ <code>{html.escape(finding.remedy)}</code>{html.escape(gain)}"


def _breakdown(known: Report) -> Iterator[str]:
    """One bar of the classes that hold any time, and what each of them is."""
    total = sum(known.breakdown_ns.values())
    held = {name: time_ns for name, time_ns in known.breakdown_ns.items() if time_ns}
    if not total:
        return
    bar = "".join(
        f'<span style="display:inline-block;height:1.2em;width:{100 * time_ns / total:.3f}%;'
        f'background:{COLOURS[name]}" title="{_words(name)}"></span>'
        for name, time_ns in held.items()
    )
    yield f'<div style="font-size:1em;white-space:nowrap;overflow:hidden">{bar}</div>'
    legend = (
        f'<span style="white-space:nowrap;margin-right:1.2em"><span style="display:inline-block;width:.8em;height:.8em;'
        f'background:{COLOURS[name]}"></span> {_words(name)} {duration(time_ns)}, {percent(time_ns / total)}</span> '
        for name, time_ns in held.items()
    )
    yield "".join(legend)


def _facts(known: Report) -> str:
    step, peak = known.step_time_ns, known.memory.peak_bytes
    facts = [
        *(f"{name} {version}" for name, version in known.frameworks.items()),
        counted(known.steps, "step"),
        f"judged on {known.measured_on}",
        *([f"step {duration(step.p50)} (p95 {duration(step.p95)})"] if step else ()),
        *([f"peak memory {size(peak)}"] if peak is not None else ()),
    ]
    return " · ".join(facts)


def _operators(known: Report) -> Iterator[str]:
    if known.operators:
        rows = [
            (op.name, f"{op.calls:,}", duration(op.self_ns), duration(op.total_ns), duration(op.device_ns))
            for op in known.operators[:LARGEST]
        ]
        yield _table(("operator", "calls", "self", "total", "device"), rows)


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """The first column to the left, the others to the right."""
    lines = [_row("th", header), *(_row("td", row) for row in rows)]
    return f'<table style="border-collapse:collapse">{"".join(lines)}</table>'


def _row(tag: str, cells: Sequence[str]) -> str:
    sides = ("left", *["right"] * (len(cells) - 1))
    texts = (
        f'<{tag} style="text-align:{side};padding:.1em .8em">{html.escape(cell[:120])}</{tag}>'
        for cell, side in zip(cells, sides, strict=True)
    )
    return f"<tr>{''.join(texts)}</tr>"


def _words(name: str) -> str:
    return name.replace("_", " ")
