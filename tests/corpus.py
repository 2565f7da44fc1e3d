"""The recorded traces with known answers that lie beside the repository, and the manifest that counts their events."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

CORPUS = Path(__file__).resolve().parents[1].parent / "shared" / "corpus" / "pytorch"

needs_corpus = pytest.mark.skipif(
    not CORPUS.is_dir(), reason="the corpus of recorded traces is not beside this repository"
)

OWLV2 = "AMD-AGI+TraceLens/tests/traces/h100/google_owlv2-large-patch14-ensemble__1016001.json.gz"
RESNET_0 = "pytorch+kineto/tb_plugin/samples/resnet50_num_workers_0/worker0.1623143089861.pt.trace.json.gz"
RESNET_4 = "pytorch+kineto/tb_plugin/samples/resnet50_num_workers_4/worker0.1623212756351.pt.trace.json.gz"
TRACE_DIFF = "facebookresearch+HolisticTraceAnalysis/tests/data/trace_diff/test/test.json.gz"
SLOW = "_generated-torch-2.13.0-cpu/slow_nw0/worker0.1795399601956410923.pt.trace.json.gz"
FAST = "_generated-torch-2.13.0-cpu/fast_nw0/worker0.1795399601675066073.pt.trace.json.gz"
GLOO_RANK_0 = "_generated-torch-2.13.0-cpu/ddp_gloo_2rank/rank0.1795399607091970150.pt.trace.json.gz"
GLOO_RANK_1 = "_generated-torch-2.13.0-cpu/ddp_gloo_2rank/rank1.1795399607101329650.pt.trace.json.gz"


@dataclass(frozen=True, slots=True)
class Listed:
    """A Kineto file as the manifest counts it."""

    path: str
    events: int
    steps: int
    kernels: int
    memory: int


def listed() -> list[Listed]:
    """Every file the manifest counts events of; empty where there is no corpus."""
    manifest = CORPUS.parent / "MANIFEST.md"
    if not manifest.exists():
        return []
    rows = [line.strip().strip("|").split("|") for line in manifest.read_text().splitlines() if line.startswith("|")]
    return [
        Listed(cells[0].strip(), int(cells[3]), int(cells[4]), int(cells[6]), int(cells[8]))
        for cells in rows
        if len(cells) > 9 and cells[3].strip().isdigit()
    ]


def others() -> list[str]:
    """Files of the corpus that are no traces."""
    traces = {file.path for file in listed()}
    files = (path for path in sorted(CORPUS.rglob("*")) if path.is_file() and path.suffix not in ("", ".py"))
    names = [str(path.relative_to(CORPUS)) for path in files]
    return [name for name in names if name not in traces and not name.startswith(".")]
