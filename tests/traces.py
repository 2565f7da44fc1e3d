"""Small traces made by hand, in the format torch.profiler writes today."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from profkit.trace.batch import ReadContext
from profkit.trace.load import read_native
from profkit.trace.model import Trace

MAIN, AUTOGRAD = 100, 101
STREAM = 7

Event = dict[str, Any]


def span(
    name: str, category: str, start_us: float, duration_us: float, tid: int = MAIN, args: Event | None = None
) -> Event:
    """A complete event on the host."""
    return {
        "ph": "X",
        "cat": category,
        "name": name,
        "pid": 100,
        "tid": tid,
        "ts": start_us,
        "dur": duration_us,
        "args": args or {},
    }


def op(name: str, start_us: float, duration_us: float, tid: int = MAIN, args: Event | None = None) -> Event:
    """An operator."""
    return span(name, "cpu_op", start_us, duration_us, tid, args)


def step(number: int, start_us: float, duration_us: float) -> Event:
    """A step's range."""
    return span(f"ProfilerStep#{number}", "user_annotation", start_us, duration_us)


def wait(start_us: float, duration_us: float, iterator: str = "_MultiProcessingDataLoaderIter") -> Event:
    """The range DataLoader opens around its wait."""
    return span(f"enumerate(DataLoader)#{iterator}.__next__", "user_annotation", start_us, duration_us)


def launch(correlation: int, start_us: float, duration_us: float, tid: int = MAIN) -> Event:
    """A call that launches device work."""
    return span("cudaLaunchKernel", "cuda_runtime", start_us, duration_us, tid, {"correlation": correlation})


def kernel(name: str, correlation: int, start_us: float, duration_us: float, stream: int = STREAM) -> Event:
    """Device work."""
    args = {"correlation": correlation, "device": 0, "stream": stream}
    event = span(name, "kernel", start_us, duration_us, stream, args)
    return {**event, "pid": 0}


def allocation(time_us: float, size: int, address: int, total: int, tid: int = MAIN) -> Event:
    """A [memory] event; a negative size is a free."""
    args = {"Bytes": size, "Addr": address, "Device Type": 0, "Device Id": -1, "Total Allocated": total}
    return {
        "ph": "i",
        "cat": "cpu_instant_event",
        "s": "t",
        "name": "[memory]",
        "pid": 100,
        "tid": tid,
        "ts": time_us,
        "args": args,
    }


def document(events: list[Event], **top: Any) -> dict[str, Any]:
    """A file's content."""
    return {"schemaVersion": 1, "baseTimeNanoseconds": 1_700_000_000_000_000_000, **top, "traceEvents": events}


def written(folder: Path, events: list[Event], **top: Any) -> Path:
    """A trace file with these events."""
    path = folder / "made.pt.trace.json"
    path.write_text(json.dumps(document(events, **top)))
    return path


def traced(folder: Path, events: list[Event], **top: Any) -> Trace:
    """These events as a trace."""
    return read_native(written(folder, events, **top), "kineto", ReadContext())
