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

from profkit.analysis.report import Report
from profkit.tensorboard import ON_DEMAND, SCRIPT
from profkit.trace.model import Run

from . import page
from .files import replacing, stem

GZIP_LEVEL = 9  # it is sent around, and written once

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
    windows = page.windows(run, report)
    yield _block("runs", gzip.compress(msgspec.json.encode([{"run": run.name, "version": ""}]), mtime=0))
    yield _block("page", page.first_screen(run, report, page.sizes(windows)))
    if report.ranks is not None:
        yield _block("ranks", _smallest(page.packed(report.ranks)))
    for window in windows:
        yield _block(f"report-{window.number}", _smallest(window.report))
        yield _block(f"timeline-{window.number}", _smallest(window.timeline))


def _block(name: str, packed: bytes) -> str:
    text = b64encode(packed).decode()
    return f'<script type="application/octet-stream;base64" id="profkit-{name}">{text}</script>'


def _smallest(packed: bytes) -> bytes:
    return gzip.compress(gzip.decompress(packed), GZIP_LEVEL, mtime=0)
