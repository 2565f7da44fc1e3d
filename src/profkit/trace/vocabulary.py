"""From a source's words to the trace's vocabulary: what kind of span, and whose names `opclasses` has to know.

A kind follows from the source's category and the span's name, so that each distinct pair is looked at once.
"""

from __future__ import annotations

import re

from profkit.trace import opclasses

# Category of an event -> kind. A category missing here is an annotation: shown, but nothing is claimed of it.
_KIND_OF_CATEGORY = {
    # Kineto
    "cpu_op": "op",
    "Operator": "op",
    "kernel": "kernel",
    "Kernel": "kernel",
    "mtia_ccp_events": "kernel",
    "gpu_memcpy": "memcpy",
    "Memcpy": "memcpy",
    "gpu_memset": "memset",
    "Memset": "memset",
    "cuda_runtime": "runtime",
    "cuda_driver": "runtime",
    "hip_runtime": "runtime",
    "mtia_runtime": "runtime",
    "xpu_runtime": "runtime",
    "privateuse1_runtime": "runtime",
    "Runtime": "runtime",
    "cuda_sync": "sync",
    "python_function": "python",
    # XPlane (profkit.readers.xplane says what each one is)
    "tf_op": "op",
    "xla_op": "op",
    "eager_op": "op",
    "tf_data": "data_work",
    "tf_data_wait": "data_wait",
    "python": "python",
    "runtime": "runtime",
    "device_kernel": "kernel",
    "device_memcpy": "memcpy",
    "device_memset": "memset",
    "device_collective": "collective",
}
# Operators that a framework's own executor runs on threads of its own, never for the input pipeline.
EXECUTOR_CATEGORIES = ("tf_op", "xla_op")
# What frameworks call around the work: shown on the timeline, and no operator of anybody's.
INTERNAL_CATEGORIES = ("framework",)
# Waits that hold up the step on whatever thread they are.
STEP_WAIT_CATEGORIES = ("tf_data_wait",)


def categories_of(*kinds: str) -> frozenset[str]:
    """The sources' categories that mean one of these kinds."""
    return frozenset(category for category, kind in _KIND_OF_CATEGORY.items() if kind in kinds)


_DEVICE_CATEGORIES = categories_of("kernel", "memcpy", "memset", "collective")
_MARKED_BY_NAME = frozenset(("op", "annotation"))  # kinds whose spans may turn out to be steps or waits

# torch/utils/data/dataloader.py names its wait so; the second form is torchdata's; the third is run.loader().
_DATA_WAIT = re.compile(r"enumerate\(Data(Loader|Pipe)\)#|profkit\.loader#")
_STEP = re.compile(r"ProfilerStep#?\s?(\d+)")
# Device kernels of the collective libraries, on NVIDIA, AMD and Intel: ncclDevKernel_…, ncclKernel_…, rccl…, oneccl….
_COLLECTIVE_KERNEL = re.compile(r"nccl|rccl|oneccl|msccl|hccl|cross_device_reduce", re.IGNORECASE)
# Ranges around collectives that run on the host itself.
_HOST_COLLECTIVE = re.compile(r"gloo:|mpi:")


def kind(category: str | None, name: str) -> str:
    """The span's kind, one of `profkit.trace.schema.SPAN_KINDS`."""
    by_category = _KIND_OF_CATEGORY.get(category or "", "annotation")
    if by_category == "kernel":
        return "collective" if _COLLECTIVE_KERNEL.search(name) else "kernel"
    if by_category == "python":
        return "module" if name.startswith("nn.Module: ") else "python"
    if category == "gpu_user_annotation" or by_category not in _MARKED_BY_NAME:
        return by_category
    if _STEP.match(name):
        return "step"
    if _DATA_WAIT.match(name):
        return "data_wait"
    if _HOST_COLLECTIVE.match(name):
        return "collective"
    return by_category


def is_device_work(category: str | None) -> bool:
    """Whether spans of this category are work a device did, as against the host's calls and anybody's ranges."""
    return category in _DEVICE_CATEGORIES


def class_of(kind_: str, category: str | None, name: str) -> str | None:
    """The operator class of a span of this kind, category and name, or None; other programs' ranges have none."""
    if kind_ == "op":
        return _CLASS_IN.get(category or "", opclasses.torch_class)(name)
    if kind_ == "kernel":
        return opclasses.kernel_class(name)
    if kind_ == "annotation":
        return opclasses.torch_class(name) if name.startswith(opclasses.TORCH_RANGES) else None
    return _CLASS_OF_KIND.get(kind_)


_CLASS_IN = {"tf_op": opclasses.tensorflow_class, "eager_op": opclasses.tensorflow_class, "xla_op": opclasses.xla_class}
_CLASS_OF_KIND = {"collective": "communication", "memcpy": "copy", "memset": "copy", "sync": "sync"}


def step_number(name: str) -> int | None:
    """The number in the name of a step's range, as in `ProfilerStep#12`."""
    found = _STEP.match(name)
    return int(found[1]) if found else None
