"""What is compared on a file, each in a process of its own: `python -m benchmarks.contestants NAME FILE`.

Prints one line of JSON. Imports happen before the measured work and have a figure of their own.
"""

from __future__ import annotations

import gzip
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.measuring import Figures, Work, cpu_s, measured, peak_bytes


def profkit(path: Path, folder: Path) -> Work:
    """Load, all analyses, Parquet written."""
    from profkit import plugins
    from profkit.analysis.summary import report
    from profkit.trace.load import load
    from profkit.trace.store import write_trace

    plugins.load_all(plugins.READERS)  # imports them, as every load does

    def work() -> Figures:
        begun = cpu_s()
        run = load(path)
        loaded = cpu_s()
        report(run)
        analysed = cpu_s()
        write_trace(run.traces[0], folder / "trace")
        return {
            "load_cpu_s": loaded - begun,
            "analyses_cpu_s": analysed - loaded,
            "parquet_cpu_s": cpu_s() - analysed,
            "events": run.traces[0].info.counts["events"],
            "disk_bytes": sum(file.stat().st_size for file in (folder / "trace").iterdir()),
        }

    return work


def profkit_sections(path: Path, folder: Path) -> Work:
    """The same of a file that may be too large for memory: load, report, Parquet section by section."""
    from profkit import plugins
    from profkit.analysis.summary import report
    from profkit.trace.load import load
    from profkit.trace.store import write_trace

    plugins.load_all(plugins.READERS)

    def work() -> Figures:
        run = load(path)
        loaded = peak_bytes()
        found = report(run)
        analysed = peak_bytes()
        for number, trace in enumerate(run.each_trace()):
            write_trace(trace, folder / f"window={number}")
        return {
            "load_peak_bytes": loaded,
            "report_peak_bytes": analysed,
            "sections": len(run.open_traces),
            "events": found.counts["events"],
            "spans": found.counts["spans"],
            "disk_bytes": sum(file.stat().st_size for file in folder.rglob("*.parquet")),
        }

    return work


def hta(path: Path, folder: Path) -> Work:
    """HolisticTraceAnalysis' load alone, with its own defaults, on a folder that holds just this file."""
    from hta.trace_analysis import TraceAnalysis

    shutil.copy(path, folder)

    def work() -> Figures:
        TraceAnalysis(trace_dir=str(folder))
        return {}

    return work


def torch_tb(path: Path, folder: Path) -> Work:
    """torch-tb-profiler's parse, process and analyse, without the process it starts for each file."""
    from torch_tb_profiler.profiler.data import RunProfileData

    parse: Callable[..., object] = RunProfileData.parse

    def work() -> Figures:
        parse("worker", None, str(path), str(folder))
        return {}

    return work


def simdjson(path: Path, folder: Path) -> Work:
    """simdjson's parse of the decompressed bytes, which are in memory already."""
    from simdjson import Parser

    text = gzip.decompress(path.read_bytes())

    def work() -> Figures:
        Parser().parse(text)
        return {"json_bytes": len(text)}

    return work


def gunzip_simdjson(path: Path, folder: Path) -> Work:
    """The same, from the file: read, decompress, parse."""
    from simdjson import Parser

    def work() -> Figures:
        Parser().parse(gzip.decompress(path.read_bytes()))
        return {}

    return work


CONTESTANTS: dict[str, Callable[[Path, Path], Work]] = {
    "profkit": profkit,
    "profkit_sections": profkit_sections,
    "hta": hta,
    "torch_tb": torch_tb,
    "simdjson": simdjson,
    "gunzip_simdjson": gunzip_simdjson,
}


def main(name: str, path: str) -> None:
    with TemporaryDirectory() as folder:
        figures = measured(lambda: CONTESTANTS[name](Path(path), Path(folder)))
    print(json.dumps(figures))


if __name__ == "__main__":
    main(*sys.argv[1:])
