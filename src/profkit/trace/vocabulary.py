"""From a source's words to the trace's vocabulary: what kind of span, which class of operator.

A kind follows from the source's category and the span's name, so that each distinct pair is looked at once.
"""

from __future__ import annotations

import re

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


def class_of(kind_: str, name: str) -> str | None:
    """The operator class of a span of this kind and name, or None."""
    if kind_ in ("op", "annotation", "collective"):
        return "communication" if kind_ == "collective" else op_class(name)
    return {"memcpy": "copy", "memset": "copy", "sync": "sync"}.get(kind_)


def step_number(name: str) -> int | None:
    """The number in the name of a step's range, as in `ProfilerStep#12`."""
    found = _STEP.match(name)
    return int(found[1]) if found else None


# Canonical operator classes; the first pattern that matches decides. Patterns look at the bare name: without
# namespace, trailing underscore and `_backward`. docs/definitions.md shows this table to users.
_OP_CLASSES = tuple(
    (op_class, re.compile(pattern))
    for op_class, pattern in (
        ("communication", r"^(gloo|nccl|mpi|c10d|_c10d_functional|record_param_comms)"),
        ("attention", r"attention|sdpa|flash_attn|_efficient_attention"),
        ("optimizer", r"^(Optimizer\.|_fused_(adam|adamw|sgd|adagrad)|_foreach_)"),
        ("conv", r"conv(?!ert)|depthwise|im2col|col2im"),
        ("matmul", r"(^|_)(addmm|mm|bmm|baddbmm|matmul|linear|addmv|mv|dot|einsum|gemm|addbmm|outer|ger)(_|$)"),
        ("norm", r"norm"),
        ("pool", r"pool"),
        ("embedding", r"embedding"),
        ("loss", r"loss|cross_entropy|nll|kl_div"),
        ("softmax", r"softmax|logsumexp"),
        ("copy", r"^(copy|to|_to_copy|clone|contiguous|pin_memory|cat|stack|_cat|concat)$|^copy"),
        ("view", r"^(view|reshape|_reshape_alias|_unsafe_view|as_strided|transpose|t|permute|expand|expand_as|"
                 r"squeeze|unsqueeze|flatten|unflatten|slice|select|narrow|chunk|split|unbind|detach|alias|"
                 r"view_as|unfold|resize|movedim)$"),
        ("create", r"^(empty|zeros|ones|full|arange|tensor|scalar_tensor|new_|rand|normal|uniform|bernoulli|"
                   r"random|fill|zero|lift_fresh|eye|linspace)"),
        ("dropout", r"dropout"),
        ("index", r"index|gather|scatter|masked|where|take|nonzero|topk|sort|argmax|argmin|one_hot|unique"),
        ("reduce", r"^(sum|mean|max|min|amax|amin|prod|std|var|any|all|cumsum|argmax|logsumexp|aminmax)"),
        ("elementwise", r"^(add|sub|mul|div|pow|sqrt|rsqrt|exp|log|abs|neg|relu|gelu|silu|sigmoid|tanh|threshold|"
                        r"clamp|lerp|addcmul|addcdiv|eq|ne|lt|le|gt|ge|logical|bitwise|hardtanh|leaky_relu|elu|"
                        r"sin|cos|erf|floor|ceil|round|reciprocal|maximum|minimum|sign|square|mish|softplus|"
                        r"hardswish|hardsigmoid|is|rsub|true_divide)(_|$)"),
        ("sync", r"^(item|_local_scalar_dense|is_nonzero)$"),
    )
)  # fmt: skip

_NODE = re.compile(r"^(autograd::engine::evaluate_function: )?(\w+?)Backward\d*$")
_SNAKE = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")


def op_class(name: str) -> str | None:
    """The canonical class of an operator by its name, or None. `aten::conv2d`, `ConvolutionBackward0` -> conv."""
    if node := _NODE.match(name):
        bare = _SNAKE.sub("_", node[2]).lower()
    elif name.startswith(("Optimizer.", "gloo:", "nccl:", "mpi:", "c10d::", "_c10d_functional::")):
        bare = name
    else:
        bare = name.rpartition("::")[2].rstrip("_").removesuffix("_backward")
    for op_class_, pattern in _OP_CLASSES:
        if pattern.search(bare):
            return op_class_
    return None
