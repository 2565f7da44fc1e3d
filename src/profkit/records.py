"""What the processes of a run append to their capture files: framed msgpack records.

A file is a sequence of frames, each `length (u32, little endian) · CRC-32 of the body (u32) · body`, the body one
msgpack array whose first element is the record's tag. Every frame is one unbuffered write, so that whatever was
written survives the death of its process; only the last frame can be torn. All times are unix nanoseconds.
"""

import struct
import zlib
from collections.abc import Iterator

import msgspec

FRAME = struct.Struct("<II")
SUFFIX = ".pkrec"
RUNNING = "running"  # what a run is that has no End yet, and whose process lives


class Start(msgspec.Struct, array_like=True, tag=0, frozen=True):
    """First record of a training process. `schedule` holds the five counts of profkit.schedule."""

    pid: int
    rank: int
    world_size: int
    host: str
    time_ns: int
    script: str
    python: str
    profkit: str
    schedule: tuple[int, int, int, int, int]
    hparams: dict[str, str | int | float | bool]
    native_thread: int
    keep_capture: bool = True  # native files stay, gzipped, once they have become tables


class Framework(msgspec.Struct, array_like=True, tag=1, frozen=True):
    """A framework whose hook is attached, and the devices it may use (names such as `cuda:0`)."""

    name: str
    version: str
    devices: tuple[str, ...] = ()


class Step(msgspec.Struct, array_like=True, tag=2, gc=False, frozen=True):
    """Step `number` ended. `own_ns`: what profkit itself took during it, by its own clock."""

    number: int
    start_ns: int
    end_ns: int
    source: str  # marker · callback · optimizer
    own_ns: int = 0


class Wait(msgspec.Struct, array_like=True, tag=3, gc=False, frozen=True):
    """A batch was asked for and came. `first`: the first batch of a pass over the loader."""

    loader: int
    start_ns: int
    duration_ns: int
    first: bool


class LoaderOpened(msgspec.Struct, array_like=True, tag=4, frozen=True):
    """An iterator over a loader was made. `settings`: what advice needs (num_workers, batch_size, ...)."""

    loader: int
    name: str
    start_ns: int
    duration_ns: int
    settings: dict[str, str | int | float | bool | None]


class WindowOpened(msgspec.Struct, array_like=True, tag=5, frozen=True):
    """A hook's profiler is on from here; `first` is the number of the first recorded step."""

    hook: str
    window: int
    first: int
    time_ns: int


class Window(msgspec.Struct, array_like=True, tag=6, frozen=True):
    """A window's native file is whole and lies in the capture folder under `path`. `last`: number of its last step."""

    hook: str
    window: int
    first: int
    last: int
    path: str
    reader: str
    close_ns: int  # what stopping and exporting took
    asked: dict[str, int] = {}  # the profiler's options, where its file says which of them took effect


class Note(msgspec.Struct, array_like=True, tag=7, frozen=True):
    """One sentence the report must show: what was not recorded, and why."""

    text: str
    time_ns: int


class End(msgspec.Struct, array_like=True, tag=8, frozen=True):
    """The run was left. `reason`: finished, or the name of the exception that ended it."""

    reason: str
    time_ns: int


class Sample(msgspec.Struct, array_like=True, tag=9, gc=False, frozen=True):
    """One reading of the system by the sidecar; counters by name, each in the unit its name carries."""

    time_ns: int
    values: dict[str, float]


class Stage(msgspec.Struct, array_like=True, frozen=True):
    """One stage of an input pipeline since the pass began: elements made, and the work they took over all threads."""

    name: str
    elements: int
    processing_ns: int
    buffered: int
    parallelism: int
    tuned: bool = False  # whether the framework sets the parallelism itself


class Pipeline(msgspec.Struct, array_like=True, tag=10, frozen=True):
    """What a loader's own model knows of its stages, from its end to its sources."""

    loader: int
    stages: list[Stage]


class Fetch(msgspec.Struct, array_like=True, gc=False, frozen=True):
    """What travels with a batch from its worker: moments of the monotonic clock, the rest durations and counts."""

    worker: int  # -1: the training process itself
    start: int
    collate_start: int
    collate_end: int
    end: int
    cpu: int
    run_queue: int
    read_chars: int
    read_bytes: int
    slowest: int
    slowest_index: int | None
    worker_cpu: int
    items: int  # from the start until the last sample was there


class Batch(msgspec.Struct, array_like=True, tag=11, gc=False, frozen=True):
    """How one batch came. Its moments are nanoseconds since `asked_ns`, which is Unix time; 0 where unknown."""

    loader: int
    loop: int
    index: int
    asked_ns: int
    came: int
    ready: int  # -1 where the system cannot count
    outstanding: int
    sampler: int  # duration
    dispatched: int
    received: int
    pinned: tuple[int, int] | None  # begin, end
    unpickled: tuple[int, int, int, int] | None  # pickling's begin and end, unpickling's begin and end
    fetch: Fetch | None
    consumer_cpu: int  # durations, of the training thread since the batch before
    consumer_run_queue: int
    process_cpu: int


class WorkerStarted(msgspec.Struct, array_like=True, tag=12, frozen=True):
    """First record of a loader's worker: when its pass was begun, and what its start took, in nanoseconds."""

    loader: int
    loop: int
    worker: int
    pid: int
    asked_ns: int
    process: int
    init: int
    dataset: int


class Samples(msgspec.Struct, array_like=True, tag=13, gc=False, frozen=True):
    """What the samples of one fetch took, in order, and the known transforms they went through."""

    loader: int
    worker: int
    pid: int
    fetch_start_ns: int
    indices: list[int | None]
    durations: list[int]
    transforms: dict[str, tuple[int, int]]  # name -> calls, nanoseconds


class Flaw(msgspec.Struct, array_like=True, tag=14, frozen=True):
    """What the definition of a loader's pipeline shows before it runs: a cause, the stage, and a detail."""

    loader: int
    cause: str
    stage: str
    detail: str


class ClockOffset(msgspec.Struct, array_like=True, tag=15, frozen=True):
    """What is added to this rank's times to get rank 0's, as measured at `time_ns` (profkit.rankclock).

    The offset is known within ± `uncertainty_ns`.
    """

    time_ns: int
    offset_ns: int
    uncertainty_ns: int


Record = (
    Start
    | Framework
    | Step
    | Wait
    | LoaderOpened
    | WindowOpened
    | Window
    | Note
    | End
    | Sample
    | Pipeline
    | Batch
    | WorkerStarted
    | Samples
    | Flaw
    | ClockOffset
)

_decoder = msgspec.msgpack.Decoder(Record)


def frames(data: bytes | memoryview) -> Iterator[tuple[Record, int]]:
    """Whole records at the beginning of `data`, each with the offset behind it; stops at a torn or damaged frame."""
    view, at = memoryview(data), 0
    while at + FRAME.size <= len(view):
        length, checksum = FRAME.unpack_from(view, at)
        body = view[at + FRAME.size : at + FRAME.size + length]
        if len(body) < length or zlib.crc32(body) != checksum:
            return
        at += FRAME.size + length
        yield _decoder.decode(body), at
