"""Everything the analyses say about one run, in one frozen object: the contract of `profkit report --json`.

docs/report.md documents each field for users; `schema_version` grows with every change that is not an addition.
"""

from __future__ import annotations

import msgspec


class StepTime(msgspec.Struct, frozen=True):
    """Distribution of the step time over the steps the verdict rests on, in nanoseconds."""

    mean: float
    p50: float
    p95: float
    max: float


class Period(msgspec.Struct, frozen=True, kw_only=True):
    """Waits that come again every so many steps: the mean of the long ones, and of those between."""

    steps: int
    long_ns: float
    others_ns: float
    explained: float  # of the waits' variance, adjusted for the number of means; 0 to 1


class Wait(msgspec.Struct, frozen=True, kw_only=True):
    """Waiting for data, per step, in nanoseconds. `exposed_ns` is null where a device was used but not recorded."""

    mean_ns: float
    p50_ns: float
    p95_ns: float
    max_ns: float
    share: float  # of the step time; 0 to 1
    exposed_ns: float | None = None
    hidden_ns: float | None = None
    startup_ns: float = 0.0  # of the whole run: iterators, workers, first batches
    batches: int = 0
    p99_ns: float = 0.0
    period: Period | None = None  # null where the waits have none


class Histogram(msgspec.Struct, frozen=True):
    """`counts[i]` lie in [edges_ns[i], edges_ns[i + 1]); the last bin holds its upper edge too. In nanoseconds."""

    edges_ns: list[float]
    counts: list[int]
    longer: int  # beyond the last edge


class Operator(msgspec.Struct, frozen=True, kw_only=True):
    """All calls of one name; `shapes` and `module` are set in the tables by these. Totals count recursion once."""

    name: str
    calls: int
    total_ns: int
    self_ns: int
    device_ns: int
    op_class: str | None = None
    kind: str = "op"
    shapes: str | None = None
    module: str | None = None


class OperatorClass(msgspec.Struct, frozen=True, kw_only=True):
    """All operators and all device work of one class; None: of no class. Shares are null where there is no time."""

    op_class: str | None
    calls: int  # of operators on the host
    self_ns: int
    self_share: float | None  # of the operators' self time
    device_ns: int
    device_share: float | None  # of the devices' time


class MemoryPoint(msgspec.Struct, frozen=True, array_like=True):
    """One point of the curve: nanoseconds since the trace's beginning, bytes allocated and, where known, reserved."""

    time_ns: int
    bytes: int
    reserved_bytes: int | None = None


class Allocation(msgspec.Struct, frozen=True):
    """What one operator, within one module, had allocated and not yet freed when memory was at its peak."""

    operator: str
    bytes: int
    count: int
    module: str | None = None  # null where modules were not recorded


class StepMemory(msgspec.Struct, frozen=True):
    """What was allocated at most within a step, and when it ended."""

    number: int
    peak_bytes: int
    end_bytes: int


class DeviceMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Memory of one device inside the recorded window."""

    device: str
    peak_bytes: int
    peak_time_ns: int
    reserved_bytes: int | None = None
    alive_at_peak: list[Allocation] = []
    unknown_at_peak_bytes: int = 0  # allocated before recording began
    curve: list[MemoryPoint] = []
    steps: list[StepMemory] = []


class Memory(msgspec.Struct, frozen=True):
    """`peak_bytes` is the largest peak of any device; null where memory was not recorded."""

    peak_bytes: int | None = None
    devices: list[DeviceMemory] = []


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One cause of lost time. `cause` is one of `profkit.analysis.findings.CAUSES`."""

    cause: str
    message: str
    remedy: str
    evidence: dict[str, str | int | float | bool | None]
    predicted_speedup: float | None
    confidence: str  # high · medium · low


class LoadingStage(msgspec.Struct, frozen=True, kw_only=True):
    """One stage of a batch's way to the training loop: its mean time, and the part of the mean wait it explains."""

    name: str  # sampler · backlog · item · collate · feeder · pickle · pipe · unpickle · pin · hold · other
    mean_ns: float | None  # of a batch, overlapped or not; null for what is only a remainder
    wait_ns: float  # these add up to the mean wait


class Fetch(msgspec.Struct, frozen=True, kw_only=True):
    """What making a batch takes its worker, per batch. CPU, run queue and blocked add up to the mean."""

    mean_ns: float
    p50_ns: float
    p95_ns: float
    max_ns: float
    cpu_ns: float | None = None  # null where the system does not say
    run_queue_ns: float | None = None
    blocked_ns: float | None = None
    read_chars: float | None = None  # bytes by system calls
    read_bytes: float | None = None  # bytes from storage


class WorkerLoad(msgspec.Struct, frozen=True, kw_only=True):
    """One worker over the judged batches. `worker` is null for the training process itself."""

    worker: int | None
    pid: int | None
    batches: int
    busy_share: float  # of the time, it was fetching
    fetch_ns: float  # mean


class LoaderStartup(msgspec.Struct, frozen=True, kw_only=True):
    """What beginning a pass takes, as means over the passes, in nanoseconds."""

    passes: int
    first_wait_ns: float  # until the first batch came, the making of the iterator included
    process_ns: float = 0.0
    init_ns: float = 0.0
    dataset_ns: float = 0.0
    first_fetch_ns: float = 0.0  # of the first batch
    started_workers: int = 0  # over all passes


class SlowSample(msgspec.Struct, frozen=True, kw_only=True):
    """A sample that took long. `index` is null where it has no number in its dataset."""

    index: int | None
    duration_ns: int
    worker: int | None
    batch: int | None
    step: int | None


class TransformTime(msgspec.Struct, frozen=True, kw_only=True):
    """One transform of the dataset's pipeline."""

    name: str
    calls: int
    mean_ns: float
    share: float  # of the time of all transforms


WORTH_A_CHANGE = 1.05  # a smaller speed-up, predicted or measured, is within its error


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """What the simulator says of other settings. `kind`: workers · prefetch · batch · without."""

    kind: str
    settings: dict[str, int | float | str]  # what differs from the run
    step_ns: float
    wait_ns: float
    speedup: float  # against the run as it is
    confidence: str = "medium"  # high · medium · low


class Loading(msgspec.Struct, frozen=True, kw_only=True):
    """The inside of the training loop's loader, over the judged batches: steady, outside windows where there are any.

    Null in a report where nobody looked inside the loader.
    """

    loader: str
    settings: dict[str, str | int | float | bool | None]
    batches: int
    num_workers: int
    wait_ns: float  # mean per batch
    interval_ns: float  # mean time from batch to batch
    stages: list[LoadingStage]
    fetch: Fetch | None
    utilisation: float | None  # of the workers: fetching over elapsed; null without workers
    queue_depth: list[int] = []  # [i]: requests that found i batches ready
    workers: list[WorkerLoad] = []
    startup: LoaderStartup | None = None
    slowest_samples: list[SlowSample] = []
    median_sample_ns: float | None = None
    transforms: list[TransformTime] = []
    predictions: list[Prediction] = []


class Overhead(msgspec.Struct, frozen=True, kw_only=True):
    """What profkit cost. Outside: its own clocked time per step. Inside: the median step against those outside."""

    outside_ns_per_step: float | None = None
    outside_share: float | None = None
    inside_ratio: float | None = None
    inside_spread: float | None = None  # half the interquartile range of the ratio
    window_close_ns: int | None = None


class RankRow(msgspec.Struct, frozen=True, kw_only=True):
    """One rank of a training, over its recorded windows. Times are nanoseconds per step, on the clock of rank 0."""

    rank: int
    host: str
    steps: int  # recorded ones
    step_ns: float
    wait_ns: float  # for data, exposed or not
    breakdown_ns: dict[str, float]  # exclusive; adds up to the step
    communication_ns: float  # some collective is under way
    exposed_communication_ns: float  # of that, while nothing is computed
    overlap: float | None  # share of communication behind which something is computed; null without communication
    idle_ns: float | None = None  # no device of the rank works; null where none was recorded
    collectives: int = 0  # matched with those of other ranks, per step
    transfer_ns: float = 0.0  # in collectives, after the last rank had arrived
    waiting_ns: float = 0.0  # in collectives, for the last rank to arrive, while nothing is computed
    late_ns: float = 0.0  # arriving behind the rank that was first, as the mean over collectives
    last_share: float = 0.0  # of the collectives, it was the last to arrive
    peak_bytes: int | None = None
    clock_offset_ns: float = 0.0  # added to its times
    clock_uncertainty_ns: float | None = None  # half the interval that holds the offset; null where unknown
    clock_source: str = "same clock"  # measured · collectives · same clock · none
    step_durations_ns: list[int] = []  # of the steps of its first window, as many as SHOWN_STEPS
    first_step: int | None = None  # the number of the first of these


class CollectiveRow(msgspec.Struct, frozen=True, kw_only=True):
    """All calls of one collective operation within one process group, over the ranks that were recorded."""

    name: str
    group: str
    ranks: int  # that take part
    calls: int  # matched ones
    dtype: str | None
    bytes: float | None  # of a call, the mean
    transfer_ns: float  # of a call, the mean: from the last arrival to the end
    waiting_ns: float  # of a call, the mean over ranks: from the own arrival to the last one
    skew_ns: float  # of a call, the mean: from the first arrival to the last one


class Straggler(msgspec.Struct, frozen=True, kw_only=True):
    """A rank that the others wait for. `cause`: input · compute · host · memory · unexplained."""

    rank: int
    cause: str
    last_share: float  # of the collectives, it was the last to arrive
    costs_ns: float  # per step: what the others wait for it, the mean over them
    excess_ns: dict[str, float]  # per step, class -> its time over the median of the others


class Ranks(msgspec.Struct, frozen=True, kw_only=True):
    """All ranks of a training beside each other. Null in a report of a training with one process."""

    world_size: int
    missing: list[int]  # ranks of which nothing was recorded
    rows: list[RankRow]
    collectives: list[CollectiveRow]
    stragglers: list[Straggler]  # the most costly first; empty where the ranks keep step
    step_time_ns: StepTime | None  # over the steps of all ranks; percentiles from histograms, within 1 %
    imbalance: float | None  # of compute: the largest over the mean, minus 1
    skew_ns: float | None  # between the first and the last arrival at a collective, the mean
    clock_uncertainty_ns: float | None  # the largest of all ranks; null where one is unknown
    notes: list[str] = []


SHOWN_STEPS = 50


class StepRow(msgspec.Struct, frozen=True, kw_only=True):
    """One step of a recorded window, with its exclusive breakdown, which adds up to `duration_ns` exactly."""

    number: int
    start_ns: int
    duration_ns: int
    breakdown_ns: dict[str, int]
    wait_ns: int
    exposed_wait_ns: int | None


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What is known about one run. Times are nanoseconds, sizes bytes, shares 0 to 1."""

    schema_version: int = 1
    name: str
    profkit: str
    frameworks: dict[str, str]
    state: str  # finished · running · the exception's name · without notice · trace (a foreign file)
    last_step: int | None
    headline: str  # the verdict in one sentence
    steps: int
    measured_on: str  # which steps the verdict rests on
    step_time_ns: StepTime | None
    step_histogram: Histogram | None = None  # of the same steps
    stall_share: float | None
    wait: Wait | None
    wait_histogram: Histogram | None = None
    loading: Loading | None = None  # null where nobody looked inside the loader
    ranks: Ranks | None = None  # null where the training was one process
    breakdown_ns: dict[str, float]
    breakdown_steps: int
    phases_ns: dict[str, float] = {}  # phase -> mean time of a step it covers on the host; overlaps the breakdown
    operators: list[Operator]
    operators_by_shape: list[Operator]
    operators_by_module: list[Operator] = []  # empty where modules were not recorded
    kernels: list[Operator]  # device work by name
    operator_classes: list[OperatorClass] = []
    unclassified_share: float | None = None  # of the operators' self time; null where no operator was recorded
    unclassified_device_share: float | None = None  # of the devices' time; null where none was recorded
    memory: Memory
    findings: list[Finding]
    overhead: Overhead
    dropped: dict[str, int]
    repaired: dict[str, int]
    counts: dict[str, int]
    notes: list[str]
    windows: int
    recorded: bool  # whether a framework's profiler recorded one of them; else they hold steps and waits alone
    window_steps: list[StepRow]
    counters: dict[str, dict[str, float]]  # name -> mean and max over the run
    schedule: list[int]
    hparams: dict[str, str | int | float | bool]
