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

from profkit.analysis.report import (
    Fetch,
    Finding,
    LoaderStartup,
    Loading,
    LoadingStage,
    Prediction,
    Report,
    SlowSample,
    TransformTime,
    WorkerLoad,
)
from profkit.analysis.summary import report
from profkit.exporters.tensorboard import TensorBoardExporter
from profkit.trace.load import load, run_of
from profkit.trace.model import Loader, PipelineFlaw, PipelineStage, Run, RunInfo, Trace
from profkit.trace.schema import BATCHES, COUNTERS, STEPS, empty
from tests import page_ranks, runs, traces
from tests.corpus import CORPUS, OWLV2, RESNET_0, RESNET_4, SLOW
from tests.large import large_trace

Scalar = str | int | float | bool | None

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
WORKERS, PREFETCHED = 4, 8
RECORDED_STEPS = range(10, 20)
SLOW_SAMPLE, SLOW_SAMPLE_EVERY = 7_919, 97  # index, batches
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
    run, known = planted_loading(folder)
    TensorBoardExporter().export(run, known, _made(folder / "loading"))
    return ["empty", "hostile", "no_window", "loading"]


def hostile(folder: Path) -> Run:
    """Names that would do harm if anybody took them for anything but text."""
    names = [name.replace("\0", "") for name in HOSTILE]
    events = [traces.step(1, 0, 100 * len(names))]
    events += [traces.op(name, 100 * place, 90, args={"Input Dims": [[name]]}) for place, name in enumerate(names)]
    events += [traces.allocation(100 * place + 5, 64, place + 1, 64 * (place + 1)) for place in range(len(names))]
    trace = _trace_of(folder, events)
    note = msgspec.structs.replace(trace.info, notes=names)
    return run_of(type(trace)(note, trace.spans, trace.tracks, trace.links, trace.memory), names[0])


def _trace_of(folder: Path, events: list[traces.Event]) -> Trace:
    """The trace of these events, of which no file is left in the log folder."""
    home = folder / "trace"
    home.mkdir(parents=True)
    trace = traces.traced(home, events)
    shutil.rmtree(home)
    return trace


def ranks(folder: Path) -> str:
    """A synthetic run of many ranks, each of which waits a little longer than the one before."""
    for rank in range(RANKS):
        steps = [{"wait_ns": rank * runs.MS // 4} for _ in range(20)]
        run = runs.run(steps, start_ns=0, rank=rank, world_size=RANKS)
        TensorBoardExporter().export(run, report(run), _made(folder / "ranks"))
    page_ranks.many(folder / "ranks", RANKS)
    return "ranks"


def planted_batches(batches: int) -> pl.DataFrame:
    """Batches of 36 ms each from four workers for steps of 5 ms; now and then a sample takes 200 ms more."""
    ms = runs.MS
    rows: list[dict[str, int | bool]] = []
    free = [0] * WORKERS
    came = 0
    for index in range(batches):
        worker, asked = index % WORKERS, came + 5 * ms
        dispatched = int(rows[index - PREFETCHED]["came_ns"]) if index >= PREFETCHED else 0
        begun = max(free[worker], dispatched)
        slow = 200 * ms if index % SLOW_SAMPLE_EVERY == SLOW_SAMPLE_EVERY - 1 else 0
        item = 30 * ms + slow + index % 7 * ms // 4
        fetched = begun + item + 6 * ms
        packed = fetched + ms // 2
        received = max(asked, packed + ms) + ms // 2
        free[worker], came = fetched, received + ms // 20
        rows.append({
            "loader": 0, "loop": 0, "index": index, "asked_ns": asked, "came_ns": came, "first": index == 0,
            "step": index, "worker": worker, "ready": index % 3, "outstanding": PREFETCHED,
            "sampler_ns": ms // 25, "dispatched_ns": dispatched, "fetch_start_ns": begun, "fetch_end_ns": fetched,
            "item_ns": item, "collate_ns": 6 * ms, "pickle_start_ns": fetched + ms // 4, "pickle_end_ns": packed,
            "unpickle_start_ns": received - ms // 2, "unpickle_end_ns": received, "received_ns": received,
        })  # fmt: skip
    return pl.DataFrame(rows, schema=BATCHES)


def planted_loading(folder: Path, batches: int = 2_000) -> tuple[Run, Report]:
    """A run of which the inside of the loader is known, and what the analyses would say of it."""
    table = planted_batches(batches)
    rows = [
        {"duration_ns": wait + 5 * runs.MS, "wait_ns": wait, "window": 0 if number in RECORDED_STEPS else None}
        for number, wait in enumerate((table["came_ns"] - table["asked_ns"]).to_list())
    ]
    trace = _trace_of(folder, [traces.step(number, 20_000 * number, 20_000) for number in RECORDED_STEPS])
    settings: dict[str, Scalar] = {
        "num_workers": WORKERS,
        "batch_size": 32,
        "prefetch_factor": 2,
        "pin_memory": False,
        "cpus": 8,
    }
    made = runs.run(rows, start_ns=0, loaders={"0": Loader(HOSTILE[0], settings), "1": _pipeline()})
    run = Run(made.info, made.steps, made.counters, None, (lambda: trace,), table)
    return run, msgspec.structs.replace(report(run), findings=PLANTED_FINDINGS, loading=_inside(settings))


PLANTED_FINDINGS = [
    Finding(cause="many_objects", message="Sending a batch takes long.", remedy="Return few large tensors.",
            evidence={"pickle_ns": 125_000}, predicted_speedup=1.1, confidence="low"),
    Finding(cause="slow_samples", message="One sample in 3,104 holds up its batch by 200 ms.",
            remedy="dataset[7919]  # look at this one, or skip it", evidence={"slowest_index": SLOW_SAMPLE},
            predicted_speedup=1.23, confidence="high"),
]  # fmt: skip


def _inside(settings: dict[str, Scalar]) -> Loading:
    ms = runs.MS
    waits = {"sampler": 0.04, "backlog": 2.125, "item": 3.0625, "collate": 0.75, "feeder": 0.1875, "pickle": 0.125}
    waits |= {"pipe": 0.5, "unpickle": 0.5, "hold": 0.0625, "other": 0.0125}
    own = {"sampler": 0.04, "backlog": 9.75, "item": 32.81, "collate": 6.0, "feeder": 0.25, "pickle": 0.25}
    own |= {"pipe": 0.5, "unpickle": 0.5, "hold": 0.75}
    return Loading(
        loader=HOSTILE[0], settings=settings, batches=1_900, num_workers=WORKERS,
        wait_ns=sum(waits.values()) * ms, interval_ns=12.3 * ms,
        stages=[
            LoadingStage(name=name, mean_ns=own[name] * ms if name in own else None, wait_ns=wait * ms)
            for name, wait in waits.items()
        ],
        fetch=Fetch(mean_ns=38.81 * ms, p50_ns=36.77 * ms, p95_ns=41.3 * ms, max_ns=239.1 * ms, cpu_ns=27.9 * ms,
                    run_queue_ns=4.21 * ms, blocked_ns=6.7 * ms, read_chars=4.2e6, read_bytes=1.3e5),
        utilisation=0.927, queue_depth=[817, 541, 401, 100, 41],
        workers=[WorkerLoad(worker=w, pid=4_200 + w, batches=475, busy_share=0.91 + w / 100, fetch_ns=(38 + w / 2) * ms)
                 for w in range(WORKERS)],
        startup=LoaderStartup(passes=3, first_wait_ns=812.5 * ms, process_ns=96.25 * ms, init_ns=12.75 * ms,
                              dataset_ns=3.125 * ms, first_fetch_ns=61.5 * ms, started_workers=4),
        slowest_samples=[
            SlowSample(index=SLOW_SAMPLE * (n + 1), duration_ns=(203 - n) * ms, worker=n % WORKERS, batch=96 + 97 * n,
                       step=96 + 97 * n)
            for n in range(10)
        ],
        median_sample_ns=0.94 * ms,
        transforms=[TransformTime(name=name, calls=60_800, mean_ns=mean * ms, share=mean / 0.9)
                    for name, mean in ((HOSTILE[1], 0.54), ("RandomCrop", 0.27), ("Normalize", 0.09))],
        predictions=[
            *(Prediction(kind="workers", settings={"num_workers": n}, step_ns=step * ms, wait_ns=(step - 5) * ms,
                         speedup=12.3 / step, confidence="high" if n < 6 else "medium")
              for n, step in ((0, 45.5), (1, 40.1), (2, 20.7), (3, 14.4), (4, 12.3), (5, 9.61), (6, 8.23), (8, 8.19))),
            Prediction(kind="prefetch", settings={"num_workers": 6, "prefetch_factor": 4}, step_ns=11.9 * ms,
                       wait_ns=6.9 * ms, speedup=12.3 / 11.9),
            Prediction(kind="batch", settings={"batch_size": 64}, step_ns=22.1 * ms, wait_ns=12.1 * ms, speedup=1.11),
            Prediction(kind="without", settings={"stage": "collate"}, step_ns=10.4 * ms, wait_ns=5.4 * ms,
                       speedup=12.3 / 10.4, confidence="low"),
        ],
    )  # fmt: skip


def _pipeline() -> Loader:
    stages = [
        PipelineStage(name="Prefetch", elements=200, processing_ns=2 * runs.MS, buffered=0, parallelism=1, tuned=True),
        PipelineStage(name="Map", elements=6_400, processing_ns=9_000 * runs.MS, buffered=0, parallelism=1),
    ]
    return Loader("tf.data", {}, stages, [PipelineFlaw("serial_map", "Map", "num_parallel_calls is not set")])


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
