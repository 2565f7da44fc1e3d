"""A log folder with every sort of run the page has to show, made once."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import msgspec
import polars as pl

from profkit.analysis.summary import report
from profkit.exporters.tensorboard import TensorBoardExporter
from profkit.trace.load import load, run_of
from profkit.trace.model import Run, RunInfo
from profkit.trace.schema import COUNTERS, STEPS, empty
from tests import runs, traces
from tests.corpus import CORPUS, OWLV2, RESNET_0, RESNET_4, SLOW
from tests.large import large_trace

ROOT = Path(__file__).parents[1]
RANKS = 256
LARGE = 1_000_000
HOSTILE = (
    "<img src=x onerror=\"document.title='executed'\">",
    "'\"&quot;</script><script>document.title='executed'</script>",
    "control\x01\x1b[31m\u202echaracters\u0000",
    "emoji 🦥👩‍🚀 and ünïcode",
    "long " + "x" * 10_000,
)
TF_STALL = "../tensorflow/generated_here_tf221/stall_exact_D20/vm.xplane.pb"
RECORDED = {
    "slow_nw0": SLOW, "resnet50_nw0": RESNET_0, "resnet50_nw4": RESNET_4, "owlv2_h100": OWLV2, "tf_stall": TF_STALL,
}  # fmt: skip


def exported(run: Run, place: Path) -> Run:
    """Write `run` as TensorBoard shows it."""
    place.mkdir(parents=True)
    TensorBoardExporter().export(run, report(run), place)
    return run


def corpus_runs(folder: Path) -> list[str]:
    """Recorded traces with known answers, as far as they lie beside the repository."""
    if not CORPUS.is_dir():
        return []
    for name, path in RECORDED.items():
        exported(load(CORPUS / path), folder / name)
    return list(RECORDED)


def made_runs(folder: Path) -> list[str]:
    """What no training makes: nothing at all, hostile names, a run that fails."""
    exported(
        Run(RunInfo(script="train.py", ended="finished", start_ns=0), empty(STEPS), empty(COUNTERS)), folder / "empty"
    )
    exported(hostile(folder), folder / "hostile")
    without = runs.run([{"wait_ns": 40 * runs.MS} for _ in range(50)], start_ns=0, loaders=runs.loader(num_workers=0))
    exported(without, folder / "no_window")
    return ["empty", "hostile", "no_window"]


def hostile(folder: Path) -> Run:
    """Names that would do harm if anybody took them for anything but text."""
    names = [name.replace("\0", "") for name in HOSTILE]
    events = [traces.step(1, 0, 100 * len(names))]
    events += [traces.op(name, 100 * place, 90, args={"Input Dims": [[name]]}) for place, name in enumerate(names)]
    events += [traces.allocation(100 * place + 5, 64, place + 1, 64 * (place + 1)) for place in range(len(names))]
    home = folder / "hostile-trace"
    home.mkdir(parents=True)
    trace = traces.traced(home, events)
    shutil.rmtree(home)
    note = msgspec.structs.replace(trace.info, notes=names)
    return run_of(type(trace)(note, trace.spans, trace.tracks, trace.links, trace.memory), names[0])


def ranks(folder: Path) -> str:
    """A synthetic run of many ranks, each of which waits a little longer than the one before."""
    for rank in range(RANKS):
        steps = [{"wait_ns": rank * runs.MS // 4} for _ in range(20)]
        run = runs.run(steps, start_ns=0, rank=rank, world_size=RANKS)
        TensorBoardExporter().export(run, report(run), _made(folder / "ranks"))
    return "ranks"


def _made(place: Path) -> Path:
    place.mkdir(parents=True, exist_ok=True)
    return place


def million(folder: Path) -> str:
    """A trace of a million spans, with counters beside it."""
    trace = large_trace(LARGE)
    run = run_of(trace, "million")
    times = [trace.info.start_ns + step for step in range(0, 2_000_000_000, 10_000_000)]
    counters = pl.DataFrame(
        {"time_ns": times, "name": ["cpu_percent"] * len(times), "unit": ["percent"] * len(times),
         "value": [50.0 + step % 50 for step in range(len(times))]},
        schema_overrides=COUNTERS,
    )  # fmt: skip
    exported(Run(run.info, run.steps, counters, None, run.open_traces), folder / "million")
    return "million"


@cache
def trained(folder: Path, sample: str) -> Path:
    """The run folder of a sample's training with its slow input, which learned something."""
    logdir = folder / sample.partition(".")[0]
    ended = subprocess.run(
        [sys.executable, "-W", "ignore", str(ROOT / "samples" / sample), "--epochs", "3",
         "--logdir", str(logdir), "--data", str(folder / "digits")],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    [accuracy] = re.findall(r"held-out digits: (\d\.\d+)", ended.stdout)
    assert float(accuracy) > 0.85, "it learned nothing"
    (run,) = logdir.iterdir()
    return run
