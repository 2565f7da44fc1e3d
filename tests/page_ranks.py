"""Trainings of many ranks as the page is given them: any number of planted rows, and two ranks with their timelines."""

from __future__ import annotations

import shutil
from pathlib import Path

import msgspec
import numpy as np

from profkit.analysis.report import CollectiveRow, Finding, RankRow, Ranks, Report, StepTime, Straggler
from profkit.analysis.summary import report
from profkit.exporters.page import write_ranks
from profkit.exporters.tensorboard import TensorBoardExporter
from profkit.trace.model import Run, Trace
from profkit.trace.schema import COUNTERS, empty
from tests import runs, traces
from tests.runs import MS

STEPS_SHOWN = 50
PER_HOST = 8
HOSTILE_HOST = "<img src=x onerror=\"document.title='executed'\">"
PAIR_OFFSET_NS = -250 * MS + 17  # what is added to the times of rank 1
PAIR_STEP_US, PAIR_STEPS = 20_000, 6
LATE_US = 9_000  # by which rank 1 arrives behind rank 0 at every collective


def planted(count: int, late: dict[int, str] | None = None, missing: tuple[int, ...] = ()) -> Ranks:
    """So many ranks that keep step at 180 ms, but for the `late` ones with their causes, which others wait for."""
    random = np.random.default_rng(count)
    late = late or {}
    rows = [_row(rank, late.get(rank), random) for rank in range(count) if rank not in missing]
    costs = 21.0 * MS
    return Ranks(
        world_size=count,
        missing=list(missing),
        rows=rows,
        collectives=_collectives(count),
        stragglers=[
            Straggler(rank=rank, cause=cause, last_share=0.83 - place / 10, costs_ns=costs - place * 4 * MS,
                      excess_ns=_excess(cause))
            for place, (rank, cause) in enumerate(late.items())
        ],
        step_time_ns=StepTime(mean=180.2 * MS, p50=179.9 * MS, p95=184.3 * MS, max=219.5 * MS),
        imbalance=0.034,
        skew_ns=22.5 * MS if late else 0.21 * MS,
        clock_uncertainty_ns=38_200.0,
    )  # fmt: skip


CLASS_OF = {"input": "data_wait", "compute": "compute", "host": "host", "memory": "copy"}


def _excess(cause: str) -> dict[str, float]:
    """Of what a rank spends its own time on; the report has names of its own for that."""
    return {name: (21.4 if name == cause else 0.1) * MS for name in CLASS_OF}


def _row(rank: int, cause: str | None, random: np.random.Generator) -> RankRow:
    """One rank: what it does longer than the others, they spend waiting for it."""
    own = {"data_wait": 4.0, "compute": 96.0, "communication": 44.0, "copy": 3.0, "runtime": 9.0, "host": 16.0}
    own = {name: (value + random.normal(0, value / 40)) * MS for name, value in own.items()}
    if cause is not None:
        own[CLASS_OF[cause]] += 21.4 * MS
        own["communication"] -= 21.4 * MS
    step = float(180 * MS)
    own["unattributed"] = max(step - sum(own.values()), 0.0)
    step = sum(own.values())
    durations = random.normal(180, 1.5, STEPS_SHOWN) + (random.random(STEPS_SHOWN) < 0.02) * 35
    host = HOSTILE_HOST if rank == 1 else f"node{rank // PER_HOST:03d}"
    return RankRow(
        rank=rank, host=host, steps=STEPS_SHOWN, step_ns=step, wait_ns=own["data_wait"] * 1.1, breakdown_ns=own,
        communication_ns=own["communication"] * 1.9, exposed_communication_ns=own["communication"],
        overlap=0.9 / 1.9, idle_ns=own["data_wait"] + own["host"], collectives=12,
        transfer_ns=22.0 * MS, waiting_ns=(1.1 if cause else 21.9 + random.normal(0, 0.4)) * MS,
        late_ns=(21.4 if cause else 0.4 + random.random() / 5) * MS, last_share=0.83 if cause else 0.002,
        peak_bytes=int(71e9 + rank * 1e6), clock_offset_ns=float(rank * 1_013) if rank else 0.0,
        clock_uncertainty_ns=38_200.0 if rank else 0.0, clock_source="measured" if rank else "same clock",
        step_durations_ns=[int(value * MS) for value in durations], first_step=40,
    )  # fmt: skip


def _collectives(count: int) -> list[CollectiveRow]:
    return [
        CollectiveRow(name="all_reduce", group="default", ranks=count, calls=600, dtype="bfloat16", bytes=25.0 * 2**20,
                      transfer_ns=1.9 * MS, waiting_ns=1.7 * MS, skew_ns=2.1 * MS),
        CollectiveRow(name="reduce_scatter <b>", group="tensor parallel", ranks=8, calls=1_200, dtype=None,
                      bytes=4.0 * 2**20, transfer_ns=0.4 * MS, waiting_ns=0.02 * MS, skew_ns=0.03 * MS),
        CollectiveRow(name="barrier", group="default", ranks=count, calls=50, dtype=None, bytes=None,
                      transfer_ns=0.1 * MS, waiting_ns=0.8 * MS, skew_ns=1.2 * MS),
    ]  # fmt: skip


STRAGGLER_FINDING = Finding(
    cause="straggler_input",
    message="Rank 517 is late: the others wait 21.0 ms of each step for it, as its loader is slow.",
    remedy="DataLoader(…, num_workers=8) on rank 517",
    evidence={"rank": 517, "late_ns": 21_400_000},
    predicted_speedup=1.13,
    confidence="high",
)


def with_ranks(known: Report, ranks: Ranks, *findings: Finding) -> Report:
    """The report of a training of many ranks."""
    return msgspec.structs.replace(known, ranks=ranks, findings=[*findings, *known.findings])


def cluster(folder: Path, count: int = 1_024) -> Ranks:
    """A training whose rank 517 is late for its input; of its ranks only two have a page here."""
    ranks = planted(count, {517: "input", 80: "compute"}, missing=(3, 5, 6, 7))
    for rank in (0, 517):
        run = runs.run([{} for _ in range(60)], start_ns=0, rank=rank, world_size=count)
        known = report(run)
        if rank == 0:
            known = with_ranks(known, ranks, STRAGGLER_FINDING)
        place = folder / "cluster"
        place.mkdir(parents=True, exist_ok=True)
        TensorBoardExporter().export(run, known, place)
    return ranks


def pair(folder: Path) -> Ranks:
    """Two ranks with a window each; that of rank 1 is on a clock that runs 250 ms ahead."""
    ranks = planted(2, {1: "input"})
    rows = [
        msgspec.structs.replace(row, clock_offset_ns=float(PAIR_OFFSET_NS) if row.rank else 0.0) for row in ranks.rows
    ]
    ranks = msgspec.structs.replace(ranks, rows=rows)
    for rank in (0, 1):
        trace = _window(folder / f"trace{rank}", rank)
        steps = runs.steps_table([{"duration_ns": PAIR_STEP_US * 1_000} for _ in range(PAIR_STEPS)])
        info = runs.run([], start_ns=trace.info.start_ns, rank=rank, world_size=2).info
        run = Run(info, steps, empty(COUNTERS), None, (lambda trace=trace: trace,))  # type: ignore[misc]
        known = report(run)
        place = folder / "pair"
        place.mkdir(parents=True, exist_ok=True)
        TensorBoardExporter().export(run, with_ranks(known, ranks) if rank == 0 else known, place)
    return ranks


def _window(home: Path, rank: int) -> Trace:
    """Steps of loading, computing and a collective that ends at the same moment on both ranks."""
    late = LATE_US * rank
    shift = -PAIR_OFFSET_NS / 1_000 * rank
    events = []
    for number in range(PAIR_STEPS):
        begin = number * PAIR_STEP_US + shift
        arrives = begin + 8_000 + late
        events += [
            traces.step(number, begin, PAIR_STEP_US - 10),
            traces.wait(begin + 10, 2_000 + late),
            traces.op("aten::linear", begin + 2_100 + late, 5_000, args={"Input Dims": [[32, 64]]}),
            traces.op("gloo:all_reduce", arrives, begin + 19_500 - arrives),
            traces.op("autograd::engine", begin + 2_200 + late, 4_000, tid=traces.AUTOGRAD),
        ]
    home.mkdir(parents=True)
    trace = traces.traced(home, events)
    shutil.rmtree(home)
    return trace


def others(folder: Path) -> None:
    """Ranks that keep step, ranks without a collective, ranks that nobody has compared yet, and a single process."""
    keeping = planted(16)
    apart = msgspec.structs.replace(
        keeping, collectives=[], skew_ns=None, clock_uncertainty_ns=None, imbalance=None,
        rows=[msgspec.structs.replace(row, collectives=0, communication_ns=0.0, exposed_communication_ns=0.0,
                                      overlap=None, idle_ns=None, peak_bytes=None, clock_source="none",
                                      clock_uncertainty_ns=None, late_ns=0.0, waiting_ns=0.0, transfer_ns=0.0)
              for row in keeping.rows],
    )  # fmt: skip
    for name, count, ranks in (("keeping", 16, keeping), ("apart", 16, apart), ("early", 4, None), ("alone", 1, None)):
        run = runs.run([{} for _ in range(20)], start_ns=0, world_size=count)
        known = report(run)
        (folder / name).mkdir(parents=True)
        TensorBoardExporter().export(run, known if ranks is None else with_ranks(known, ranks), folder / name)


def many(folder: Path, count: int) -> Ranks:
    """The comparison of a run whose ranks lie in `folder` already."""
    ranks = planted(count, {201: "host"})
    write_ranks(ranks, folder)
    return ranks
