"""The page as one HTML file, opened from disk: the tab's own scripts, and the run's data as compressed text.

The file asks for nothing: its policy forbids every request, and every script but those in it.
"""

from __future__ import annotations

import gzip
import hashlib
import html
from base64 import b64encode
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from profkit.analysis import summary
from profkit.analysis.report import Report
from profkit.tensorboard import ON_DEMAND, SCRIPT
from profkit.trace.model import Run

from . import page
from .files import replacing, stem

GZIP_LEVEL = 9  # it is sent around, and written once
LATE_RANKS = 3  # of which the file holds page and timeline

DOCUMENT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
</head>
<body>
{data}
{scripts}
</body>
</html>
"""
POLICY = "default-src 'none'; script-src {digests}; img-src data:; base-uri 'none'; form-action 'none'"


class HtmlExporter:
    """Writes the page as one file, `<run>.html`, which opens from disk."""

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        """Write below `folder`. Raises OSError."""
        path = folder / f"{stem(run)}.html"
        with replacing(path) as file:
            file.write(self.document(run, report).encode())
        return [path]

    def document(self, run: Run, report: Report) -> str:
        """The file's text."""
        scripts = [path.read_text().replace("</script", r"<\/script") for path in (SCRIPT, *ON_DEMAND)]
        return DOCUMENT.format(
            policy=POLICY.format(digests=" ".join(map(_digest, scripts))),
            title=html.escape(f"{run.name} · profkit"),
            data="\n".join(_blocks(run, report)),
            scripts="\n".join(f'<script type="module">{script}</script>' for script in scripts),
        )


def _digest(script: str) -> str:
    """What the policy knows an inline script by."""
    return f"'sha256-{b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _blocks(run: Run, report: Report) -> Iterator[str]:
    """Every answer TensorBoard's server would give, by the name the page asks for it."""
    late = _late(run, report)
    names = [run.name, *(f"{run.name}/rank={rank}" for rank in late)]
    runs = [{"run": name, "version": ""} for name in names]
    yield _block("runs", gzip.compress(msgspec.json.encode(runs), mtime=0))
    if report.ranks is not None:
        yield _block("ranks", _smallest(page.packed(report.ranks)))
    yield from _blocks_of_rank(run, report, "")
    for rank in late:
        other = run.of_rank(rank)
        yield from _blocks_of_rank(other, summary.report(other), f"-rank-{rank}")


def _late(run: Run, report: Report) -> list[int]:
    """The ranks that are brought along beside the one that is shown: those that the others wait for."""
    stragglers = report.ranks.stragglers if report.ranks is not None else []
    return [one.rank for one in stragglers if one.rank in run.ranks and one.rank != run.info.rank][:LATE_RANKS]


def _blocks_of_rank(run: Run, report: Report, suffix: str) -> Iterator[str]:
    windows = page.windows(run, report)
    yield _block(f"page{suffix}", page.first_screen(run, report, page.sizes(windows)))
    for window in windows:
        yield _block(f"report-{window.number}{suffix}", _smallest(window.report))
        yield _block(f"timeline-{window.number}{suffix}", _smallest(window.timeline))


def _block(name: str, packed: bytes) -> str:
    text = b64encode(packed).decode()
    return f'<script type="application/octet-stream;base64" id="profkit-{name}">{text}</script>'


def _smallest(packed: bytes) -> bytes:
    return gzip.compress(gzip.decompress(packed), GZIP_LEVEL, mtime=0)
