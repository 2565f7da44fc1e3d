"""What the name of an event means: its category, and what all events of that name on such a line have in common."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from profkit.readers.xplane_statistics import integer

WAIT = "tf_data_wait"
MEMORY = "memory"
KERNEL = "device_kernel"
PYTHON = "python"
SCHEDULING = "scheduling"
EAGER = "eager_op"
FRAMEWORK = "framework"
EXECUTOR = "executor"
OPERATOR = "tf_op"
INPUT = "tf_data"

# The kinds of lines that make a difference for what a name means.
HOST_LINE, INPUT_LINE = "host", "input"
STEPS_LINE, MODULES_LINE, ASYNC_LINE, WORK_LINE, SCOPE_LINE = "steps", "modules", "async", "work", "scope"

# Statistics kept as arguments. Values of the program's own (annotations take any keyword) are not among them.
KEPT = frozenset(
    (
        *("group_id", "step_num", "_r", "_ipl_stage_id", "_ipl_stage_name", "_ipl_stage_cat"),
        *("eager_op", "tracing_count"),
        *("id", "iter_num", "element_id", "element_size"),
        *("tf_op", "hlo_op", "hlo_module", "hlo_category", "program_id", "run_id", "device_ordinal", "replica_id"),
        *("kernel_details", "memcpy_details", "device_id", "kernel_type"),
    )
)
KEPT_OF_DEVICES = frozenset(("name",))  # of the operator a kernel comes from; on the host a keyword of anybody's

_DEVICE_PLANE = re.compile(r"/device:([A-Z]+):(\d+)")
# Category -> how the name of an event of the host begins, or what it is as a whole. The first that matches decides.
_HOST_CATEGORY = re.compile(
    "|".join(
        f"(?P<{category}>{pattern})"
        for category, pattern in (
            (PYTHON, r"\$"),
            (MEMORY, r"Memory(?:All|Deall)ocation$"),
            # XProf takes these two for work of the host, and their time is some of it.
            (EXECUTOR, r"Executor(?:State::Process|DoneCallback)$"),
            (SCHEDULING, r"ThreadpoolListener::|Executor(?:State::|PropagateOutputs$)|end: "),
            (WAIT, r"IteratorGetNext\w*::DoCompute$"),
            (INPUT, r"(?:Make)?Iterator::|InstantiatedCapturedFunction::|\w+(?:Produce|Consume)$"),
            ("runtime", r"(?:hip|cuda|cu)[A-Z]\w*$"),
            (EAGER, r"EagerLocalExecute: (?!__|_Eager|IteratorGetNext|Optional)"),
            (
                FRAMEWORK,
                r"FunctionRun$|ParallelFor$|Eager(?:(?:Kernel)?Execute$|LocalExecute: |CopyToDevice$)|TFE_"
                r"|KernelAndDeviceFunc::|ThenExecuteCallback$"
                r"|ValidateInputTypeAndPlacement$|convert_to_tensor$|tf\.constant$|PythonRefManager::|Thunks?::"
                r"|\w*(?:PjRt|PJRT|Tfrt)\w*|BufferSequencingEvent::|GpuExecutable::|tpu::|ParseArguments$|DevicePut$"
                r"|RecordUsage$|Handle (?:inputs?|outputs?)\b|Wait for \w+ holds$",
            ),
            (OPERATOR, r"[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*:[A-Za-z_]\w*$"),  # <scope>/<op>:<type>
        )
    )
)
_DEVICE_WORK = tuple(
    (category, re.compile(pattern, re.IGNORECASE))
    for category, pattern in (
        ("device_memcpy", r"memcpy|__amd_rocclr_copyBuffer|copy(-start|-done)?$"),
        ("device_memset", r"memset|__amd_rocclr_fillBuffer"),
        ("device_collective", r"all-(reduce|gather|to-all)|reduce-scatter|collective-"),
    )
)
_TENSORFLOW = re.compile(r"TFE_|FunctionRun$|Eager(Execute|KernelExecute)$|ExecutorState::|IteratorGetNext|Iterator::")


@dataclass(frozen=True, slots=True)
class Device:
    """The device a plane belongs to."""

    kind: str  # GPU, TPU
    number: int

    @property
    def name(self) -> str:
        return f"{self.kind.lower()}:{self.number}"


@dataclass(frozen=True, slots=True)
class Entry:
    """What all events of one name on such a line have in common.

    `stats` are those kept as arguments; `keeps_all` says that the events' own are all the framework's, and all kept.
    """

    name: str
    category: str
    module: str | None = None
    source: str | None = None
    flops: int | None = None
    bytes: int | None = None
    stats: Mapping[str, Any] = field(default_factory=dict)
    keeps_all: bool = False


def device_of(plane: str) -> Device | None:
    """Whose plane this is; None for the host's."""
    found = _DEVICE_PLANE.match(plane)
    return Device(found[1], int(found[2])) if found else None


def line_kind(device: Device | None, name: str) -> str:
    """GPUs work on streams, and their lines `XLA …` are summaries; a TPU works on the line `XLA Ops`."""
    if device is None:
        return INPUT_LINE if name.startswith("tf_data_") else HOST_LINE
    named = {"Steps": STEPS_LINE, "XLA Modules": MODULES_LINE, "Async XLA Ops": ASYNC_LINE}
    if name in named:
        return named[name]
    works = name.startswith("Stream") if device.kind == "GPU" else name == "XLA Ops"
    return WORK_LINE if works else SCOPE_LINE


def host_entry(name: str, line: str) -> Entry:
    """What an event of the host is, by its name and its kind of line."""
    found = _HOST_CATEGORY.match(name)
    category = (found and found.lastgroup) or "host"
    if category == EXECUTOR:
        return Entry(name, FRAMEWORK)
    if category == PYTHON:
        return Entry(name[1:], category)
    if category == EAGER:
        return Entry(name.partition(": ")[2], category)
    if category == OPERATOR:
        scope, _, kind = name.rpartition(":")
        # What the input pipeline computes is none of the step's own work.
        return Entry(kind, INPUT if line == INPUT_LINE else category, module=scope)
    return Entry(name, category, keeps_all=name.startswith("Iterator::"))


def device_entry(metadata: Any, stats: Mapping[str, Any], line: str) -> Entry:
    """What an event of a device is, by its metadata, their statistics, and its kind of line."""
    kept = {name: value for name, value in stats.items() if name in KEPT and not isinstance(value, bytes)}
    return Entry(
        name=metadata.display_name or metadata.name,  # a TPU's name is the whole line of the program
        category=_device_category(line, str(stats.get("hlo_category") or metadata.name)),
        source=stats.get("source"),
        flops=integer(stats.get("flops")),
        bytes=integer(stats.get("bytes_accessed")),
        stats=kept,
    )


def is_tensorflows(name: str) -> bool:
    """Whether only TensorFlow, or its input pipeline, calls an event so."""
    return _TENSORFLOW.match(name) is not None


def _device_category(line: str, kind: str) -> str:
    if line != WORK_LINE:
        return {MODULES_LINE: "device_module", ASYNC_LINE: "device_async"}.get(line, "device_scope")
    return next((word for word, pattern in _DEVICE_WORK if pattern.match(kind)), KERNEL)
