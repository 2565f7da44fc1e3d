"""All ranks of a training, each analysed by the engine that was asked for."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from profkit.engines import ENGINES
from profkit.engines.answers import Outcome, Tasks, serially
from profkit.engines.cluster import on_cluster
from profkit.engines.processes import in_processes
from profkit.errors import UnreadableTrace, UsageError
from profkit.loader import usable_cpus

if TYPE_CHECKING:
    from profkit.analysis.rankpart import RankPart
    from profkit.analysis.report import Ranks
    from profkit.trace.model import Run

FEW = 8  # ranks, up to which starting processes takes longer than it saves: docs/clusters.md


def ranks_of(place: str | Path, run: Run, engine: str = "auto", scheduler: str | None = None) -> Ranks | None:
    """All ranks of the training at `place` beside each other; None where it was one process.

    `run` is what `load` gave for `place`. Raises as `rank_parts` does, and UnreadableTrace where no rank has a part.
    """
    from profkit.analysis.ranks import compare

    if len(run.ranks) == 1 and (run.folder is None or run.info.world_size == 1):
        return None
    lost: dict[int, str] = {}
    parts = list(rank_parts(place, run.ranks, engine, scheduler, lost))
    notes = [f"Rank {rank} could not be read: {reason}" for rank, reason in sorted(lost.items())]
    if not parts:
        raise UnreadableTrace(f"{place} has no rank that can be read. {notes[0]}")
    ranks = compare(parts)
    return msgspec.structs.replace(ranks, notes=[*ranks.notes, *notes])


def rank_parts(
    place: str | Path,
    ranks: Sequence[int],
    engine: str = "auto",
    scheduler: str | None = None,
    lost: dict[int, str] | None = None,
) -> Iterator[RankPart]:
    """The part of each of these ranks of the training at `place`, as they get ready.

    `place` is a run folder or a folder of native files, read as it stands; `scheduler` the address of the cluster for
    the engine `dask`. A rank without a part is left out, and why is put into `lost`. Raises UsageError,
    MissingDependency, EngineUnavailable, UnreadableTrace.
    """
    from profkit.analysis.rankpart import RankPart
    from profkit.trace.load import local, rank_openers

    openers = rank_openers(local(place).absolute())
    with closing(_outcomes({rank: openers[rank] for rank in ranks}, engine, scheduler)) as outcomes:
        for encoded in outcomes:
            outcome = msgspec.msgpack.decode(encoded, type=Outcome)
            if outcome.part:
                yield msgspec.msgpack.decode(outcome.part, type=RankPart)
            elif lost is not None:
                lost[outcome.rank] = outcome.lost


def _outcomes(tasks: Tasks, engine: str, scheduler: str | None) -> Generator[bytes]:
    """By the engine of that name."""
    if scheduler is not None and engine != "dask":
        raise UsageError(f"only the engine dask has a scheduler; this one is {engine}")
    match engine:
        case "auto":
            few = len(tasks) <= FEW or usable_cpus() == 1
            return serially(tasks) if few else in_processes(tasks)
        case "serial":
            return serially(tasks)
        case "processes":
            return in_processes(tasks)
        case "dask":
            return on_cluster(tasks, scheduler)
    raise UsageError(f"no engine {engine!r}; there are {', '.join(ENGINES)}")
