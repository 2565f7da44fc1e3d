"""The model: a Run is one training, a Trace one recorded window of one rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
import polars as pl

from profkit.trace.schema import BATCHES, FORMAT_VERSION, SAMPLES, empty

if TYPE_CHECKING:
    from profkit.notebook import Shown


class TraceInfo(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a trace says about itself (meta.json). An allow-list: no environment, no argument values."""

    format_version: int = FORMAT_VERSION
    profkit: str = ""
    source: str = ""  # the reader's name, or `capture` where there was no framework's profiler
    frameworks: dict[str, str] = {}
    python: str = ""
    host: str = ""
    rank: int = 0
    world_size: int = 1
    backend: str = ""  # of torch.distributed, where there is one
    devices: list[dict[str, str | int | float | None]] = []
    schedule: list[int] = []
    window: int = 0
    first_step: int | None = None
    training_thread: int | None = None  # id of the track the training loop ran on
    device_recorded: bool = False  # whether any device's work was recorded
    start_ns: int = 0
    end_ns: int = 0
    counts: dict[str, int] = {}  # events, steps, kernels, memory, ... as the source holds them
    dropped: dict[str, int] = {}
    repaired: dict[str, int] = {}
    notes: list[str] = []
    native: dict[str, str | int | float | bool | None] = {}  # the source's own flags, for the way back


@dataclass(frozen=True, slots=True)
class Trace:
    """One recorded window of one rank, as tables with the columns of `profkit.trace.schema`.

    `spans` is sorted by (track, start, −duration) and properly nested within a track; row i has id i.
    """

    info: TraceInfo
    spans: pl.DataFrame
    tracks: pl.DataFrame
    links: pl.DataFrame
    memory: pl.DataFrame

    def __repr__(self) -> str:
        return (
            f"<Trace window {self.info.window} rank {self.info.rank}: {self.spans.height:,} spans, "
            f"{self.info.counts.get('steps', 0)} steps>"
        )

    def sql(self, query: str) -> pl.DataFrame:
        """The answer to a query over this trace's tables (docs/sql.md). Raises UsageError."""
        from profkit.trace.sql import asked, tables_of_trace

        return asked(query, tables_of_trace(self))

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict and where the time went, without a script."""
        from profkit.notebook import summary  # it stands above the model, and asks every question of it

        return summary(self)

    def show(self) -> Shown:
        """The page, as a notebook's output."""
        from profkit.notebook import show

        return show(self)


class PipelineStage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of an input pipeline: elements it made, and the work that took, added over all its threads."""

    name: str
    elements: int
    processing_ns: int
    buffered: int  # elements in its buffer when it was asked
    parallelism: int
    tuned: bool = False  # whether the framework sets the parallelism itself


class PipelineFlaw(msgspec.Struct, frozen=True):
    """What the definition of an input pipeline shows before it runs: one of `profkit.analysis.causes`, and where."""

    cause: str
    stage: str
    detail: str = ""


class LoaderWorker(msgspec.Struct, frozen=True, kw_only=True):
    """A worker process of a loader, and what its start took from the moment its pass was begun."""

    worker: int
    pid: int
    loop: int  # the pass it was started for
    asked_ns: int  # Unix time: the pass was begun
    process_ns: int  # until the process ran the loader's code: forking or spawning, imports, receiving the dataset
    init_ns: int  # worker_init_fn
    dataset_ns: int  # making the fetcher; of an iterable dataset that calls iter()


class Transform(msgspec.Struct, frozen=True):
    """One transform of a dataset's pipeline, as far as its calls were seen."""

    name: str
    calls: int
    total_ns: int


class Loader(msgspec.Struct, frozen=True):
    """A loader the run iterated over, with what advice needs to know of it.

    `stages`: of a tf.data pipeline, from its end to its sources; `flaws`: what its definition alone shows.
    """

    name: str
    settings: dict[str, str | int | float | bool | None] = {}
    stages: list[PipelineStage] = []
    flaws: list[PipelineFlaw] = []
    workers: list[LoaderWorker] = []
    transforms: list[Transform] = []


class RunInfo(msgspec.Struct, frozen=True, kw_only=True):
    """What a rank of a run says about itself (run/rank=N.json). An allow-list: no environment, no argument values."""

    format_version: int = FORMAT_VERSION
    profkit: str = ""
    script: str = ""
    python: str = ""
    host: str = ""
    pid: int | None = None
    rank: int = 0
    world_size: int = 1
    start_ns: int | None = None
    end_ns: int | None = None
    ended: str = "unknown"  # finished · running · the exception's name · without notice
    frameworks: dict[str, str] = {}
    devices: list[str] = []
    schedule: list[int] = []
    hparams: dict[str, str | int | float | bool] = {}
    loaders: dict[str, Loader] = {}
    step_source: str | None = None
    notes: list[str] = []
    torn_bytes: int = 0  # of a record cut short by the end of its process
    records: int = 0
    window_close_ns: list[int] = []  # what stopping each profiler and writing its file took
    clock_offset_ns: float = 0.0  # added to this rank's times gives rank 0's, as it was while windows were recorded
    clock_uncertainty_ns: float | None = None  # the offset is right within ±; null where it was not measured


@dataclass(frozen=True)
class Run:
    """One training as one of its ranks saw it: every step and every counter, and zero or more recorded windows.

    A foreign file is a run with one trace and no steps outside it; `folder` is None then. One too large for memory
    comes as several traces, one after the other in time.
    """

    info: RunInfo
    steps: pl.DataFrame
    counters: pl.DataFrame
    folder: Path | None = None
    open_traces: Sequence[Callable[[], Trace]] = field(default=(), repr=False)
    batches: pl.DataFrame = field(default_factory=partial(empty, BATCHES), repr=False)
    samples: pl.DataFrame = field(default_factory=partial(empty, SAMPLES), repr=False)
    open_ranks: Mapping[int, Callable[[], Run]] = field(default_factory=dict, repr=False)

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks of the training that were recorded; this run shows one of them, `info.rank`."""
        return tuple(self.open_ranks) or (self.info.rank,)

    def of_rank(self, rank: int) -> Run:
        """The same training as another rank saw it; read from disk anew. Raises KeyError, UnreadableTrace."""
        return self if rank == self.info.rank else self.open_ranks[rank]()

    @cached_property
    def traces(self) -> tuple[Trace, ...]:
        """The recorded windows, read from disk when first asked for."""
        return tuple(open_trace() for open_trace in self.open_traces)

    def each_trace(self) -> Iterator[Trace]:
        """The recorded windows one after the other, so that of several only one is in memory."""
        if "traces" in self.__dict__ or len(self.open_traces) == 1:
            return iter(self.traces)
        return (open_trace() for open_trace in self.open_traces)

    def sql(self, query: str) -> pl.DataFrame:
        """The answer to a query over the tables of all ranks (docs/sql.md). Raises UsageError."""
        from profkit.trace.sql import asked, tables_of_run

        return asked(query, tables_of_run(self))

    @property
    def name(self) -> str:
        """What people call it: the folder's name, or the script's."""
        return self.folder.name if self.folder else self.info.script

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict and where the time went, without a script."""
        from profkit.notebook import summary  # it stands above the model, and asks every question of it

        return summary(self)

    def show(self) -> Shown:
        """The page, as a notebook's output."""
        from profkit.notebook import show

        return show(self)
