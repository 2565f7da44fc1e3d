"""Names and statistics of events as XProf reads them, from a trace's columns. `xprofevents` says why they are needed.

Whatever follows from words alone (names, arguments) is made once for each distinct word, never once for each span.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt
import polars as pl

from profkit.analysis.columns import DEVICE_KINDS, Columns
from profkit.trace.model import Trace
from profkit.trace.schema import WORD
from profkit.trace.words import Words

from . import kinetowords
from .distinct import distinct
from .xspace import STAT

Ints = npt.NDArray[np.int64]
Arguments = dict[str, Any]

STAGE_ID = 1 << 40  # far above the numbers of names
STAGE_CATEGORY = "Preprocessing"
MARKER = "train"

# What XProf takes as a name of a step set by hand (openxla/xprof, IsExplicitHostStepMarker).
_EXPLICIT_MARKER = re.compile(r"(train|test|TraceContext)[^/]*$")
_UPPER_TYPE, _LOWER_TYPE = re.compile(r"[A-Z_]\w*"), re.compile(r"[a-z_][a-z0-9_]*")
_NO_SCOPE = re.compile(r"[^A-Za-z0-9_./>-]")
_NODE = "autograd::engine::evaluate_function: "
_LOADER = re.compile(r"enumerate\((Data(?:Loader|Pipe))\)#|profkit\.loader#(.*)", re.DOTALL)
_GPU = re.compile(r"gpu:(\d+)$")

# Arguments of Kineto's kernels that XProf wants in one text.
_DETAILS = ("grid", "block", "registers per thread", "shared memory", "est. achieved occupancy %")
_REPLACED = ("marker", "_r", "step_num", "_ipl_stage_name", "_ipl_stage_cat", *_DETAILS)


def names(spans: pl.DataFrame) -> tuple[pl.Series, pl.Series]:
    """Name of each event, and what viewers show in its place, empty where that is the name."""
    keys = ["name", "category", "module", "kind"]
    kinds = spans.select(keys).unique()
    made = [_name(*row) for row in kinds.select(pl.col(keys).cast(pl.String)).iter_rows()]
    named = kinds.with_columns(
        pl.Series("event", [name for name, _ in made], dtype=WORD),
        pl.Series("display_name", [shown for _, shown in made], dtype=WORD),
    )
    found = spans.select(keys).join(named, on=keys, how="left", nulls_equal=True, maintain_order="left")
    return found["event"].alias("name"), found["display_name"]


def _name(name: str, category: str | None, module: str | None, kind: str) -> tuple[str, str]:
    if category in ("tf_op", "tf_data") and module:
        return f"{module}:{name}", name
    if category == "eager_op":
        return f"EagerLocalExecute: {name}", name
    if category == "python":
        return f"${name}", ""
    if kind == "op" and category not in ("tf_op", "xla_op"):
        return operator_name(name), name
    return name, ""


def operator_name(name: str) -> str:
    """`<scope>/<op>:<type>` of an operator of torch: `aten::conv2d` -> `aten/conv2d:conv2d`."""
    scope = _NO_SCOPE.sub("_", name.replace(_NODE, "autograd/evaluate_function/").replace("::", "/"))
    scope = scope.strip("/") or "op"
    scope = scope if scope[:1].isalnum() else f"op{scope}"
    kind = re.sub(r"\W", "_", scope.rpartition("/")[2], flags=re.ASCII)
    kind = kind if kind[:1].isalpha() or kind[:1] == "_" else f"_{kind}"
    fits = _UPPER_TYPE.fullmatch(kind) or _LOWER_TYPE.fullmatch(kind)
    return f"{scope}:{kind if fits else kind.lower()}"


def markers(steps: pl.DataFrame) -> list[str]:
    """The name of each step's marker, which XProf must know as one."""
    arguments = [_decoded(text) for text in steps["args"].to_list()]
    found = [str(own.get("marker", "")) for own in arguments]
    return [marker if _EXPLICIT_MARKER.match(marker) else MARKER for marker in found]


def arguments(spans: pl.DataFrame) -> list[pl.Series]:
    """What the source said of each span besides, a statistic for each of its words."""
    found = distinct(spans["args"])
    decoded = [_statistics(_decoded(text)) for text in found.words]
    keys = dict.fromkeys(name for own in decoded for name in own)
    return [found.spread(_column([own.get(name) for own in decoded])).alias(STAT + name) for name in keys]


def _decoded(text: str | None) -> Arguments:
    """An object of arguments; empty where the text is none."""
    try:
        found = msgspec.json.decode(text or "{}")
    except (msgspec.DecodeError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _statistics(arguments: Arguments) -> Arguments:
    own = {name: value for name, value in arguments.items() if name not in _REPLACED}
    if "grid" in arguments:
        own["kernel_details"] = _kernel_details(arguments)
    if "hlo_op" in arguments and "kernel_details" in arguments:
        own["tf_op"] = _compiled_operator(arguments)
        own["compiled_op"] = own.pop("hlo_op")
    return own


def _compiled_operator(arguments: Arguments) -> str:
    """The operator of a kernel that XLA made. With `hlo_op`, XProf looks for the program, which a trace does not keep,
    and leaves out the kernel where it finds none."""
    path = str(arguments.get("name") or f"{arguments.get('hlo_module', 'program')}/{arguments['hlo_op']}")
    kind = re.sub(r"\W", "_", re.sub(r"\.\d+$", "", path.rpartition("/")[2]))
    return f"{path}:{kind}"


def _kernel_details(arguments: Arguments) -> str:
    """As TensorFlow's profiler writes them (tsl/profiler/utils, ToXStat)."""
    grid, block = (",".join(map(str, arguments.get(name) or (1, 1, 1))) for name in _DETAILS[:2])
    registers, shared, occupancy = (arguments.get(name) or 0 for name in _DETAILS[2:])
    return f"regs:{registers} static_shared:0 dynamic_shared:{shared} grid:{grid} block:{block} occ_pct:{occupancy}"


def _column(values: list[Any]) -> pl.Series:
    """Numbers where all are whole, else texts."""
    if all(isinstance(value, int | None) for value in values):
        return pl.Series(values, dtype=pl.Int64, strict=False)
    texts = [value if isinstance(value, str | None) else msgspec.json.encode(value).decode() for value in values]
    return pl.Series(texts, dtype=WORD)


def launches(spans: pl.DataFrame, columns: Columns) -> Iterator[pl.Series]:
    """What ties a launching call to the work of a device, and what a copy moved."""
    launched = pl.Series(columns.kind("runtime", *DEVICE_KINDS))
    copied = pl.Series(columns.kind("memcpy", "memset"))
    details = pl.format("kind:{} size:{} dest:0 async:1", pl.col("name").cast(pl.String), "bytes")
    yield from spans.select(
        pl.when(launched).then("correlation").alias(f"{STAT}correlation_id"),
        pl.when(copied).then(details).cast(WORD).alias(f"{STAT}memcpy_details"),
    )


def origins(trace: Trace) -> pl.Series:
    """The operator that launched each piece of device work."""
    external = kinetowords.external_ids(trace, kinetowords.described(trace))
    work = trace.spans["kind"].cast(pl.String).is_in(DEVICE_KINDS) & pl.Series(external > 0)
    operators = distinct(trace.spans["name"].gather(np.maximum(external - 1, 0)).set(~work, None))
    names = pl.Series([operator_name(word) for word in operators.words], dtype=WORD)
    return operators.spread(names).alias(f"{STAT}tf_op")


def input_stages(spans: pl.DataFrame, columns: Columns) -> list[pl.Series]:
    """What marks a wait as one for input, where its name does not."""
    waits = columns.kind("data_wait") & ~spans["name"].cast(pl.String).str.starts_with("IteratorGetNext").to_numpy()
    rows = np.flatnonzero(waits)
    own = [_decoded(text) for text in spans["args"].gather(rows).to_list()]
    stages = [a.get("_ipl_stage_name") or _loader(n) for a, n in zip(own, spans["name"].gather(rows), strict=True)]
    number = {name: STAGE_ID + place for place, name in enumerate(dict.fromkeys(stages))}
    marked = pl.DataFrame(
        {
            f"{STAT}_ipl_stage_id": [number[name] for name in stages],
            f"{STAT}_ipl_stage_name": stages,
            f"{STAT}_ipl_stage_cat": [a.get("_ipl_stage_cat", STAGE_CATEGORY) for a in own],
        },
        schema_overrides={f"{STAT}_ipl_stage_name": WORD, f"{STAT}_ipl_stage_cat": WORD},
    )
    return _in_rows(rows, marked, spans.height).get_columns()


def _in_rows(rows: Ints, table: pl.DataFrame, height: int) -> pl.DataFrame:
    """The table's rows at these places among `height`, nulls at all others."""
    place = np.full(height, table.height)
    place[rows] = np.arange(table.height)
    return pl.concat([table, table.clear(n=1)])[place]


def _loader(name: str) -> str:
    """The loader in the name of a wait: `enumerate(DataLoader)#…` -> `DataLoader`."""
    found = _LOADER.match(name)
    return (found[1] or found[2] or name) if found else name


def memory(trace: Trace, event_names: pl.Series) -> pl.DataFrame:
    """An event for each allocation and free. What is reserved and not allocated is what XProf calls available."""
    events = trace.memory.sort("time_ns", maintain_order=True)
    allocated = pl.col("allocated_bytes").fill_null(pl.col("bytes").cum_sum().over("device"))
    allocation, free = pl.lit("MemoryAllocation"), pl.lit("MemoryDeallocation")
    devices = distinct(events["device"])
    allocator = devices.spread(pl.Series([_allocator(device) for device in devices.words], dtype=WORD))
    operator = _enclosing_operators(trace, event_names).gather(events["span"])
    return events.with_columns(allocator.alias("allocator"), operator.alias("operator")).select(
        "track",
        pl.col("time_ns").alias("start_ns"),
        pl.lit(0, pl.Int64).alias("duration_ns"),
        pl.when(pl.col("bytes") > 0).then(allocation).otherwise(free).cast(WORD).alias("name"),
        pl.lit("").cast(WORD).alias("display_name"),
        pl.col("allocator").alias(f"{STAT}allocator_name"),
        allocated.alias(f"{STAT}bytes_allocated"),
        pl.lit(0, pl.Int64).alias(f"{STAT}bytes_reserved"),
        (pl.col("reserved_bytes") - allocated).clip(0).fill_null(0).alias(f"{STAT}bytes_available"),
        allocated.cum_max().over("device").alias(f"{STAT}peak_bytes_in_use"),
        pl.col("bytes").abs().alias(f"{STAT}requested_bytes"),
        pl.col("bytes").abs().alias(f"{STAT}allocation_bytes"),
        pl.col("address").fill_null(0).reinterpret(signed=True).alias(f"{STAT}addr"),
        pl.col("operator").alias(f"{STAT}tf_op"),
    )


def _enclosing_operators(trace: Trace, event_names: pl.Series) -> pl.Series:
    """The innermost operator at or around each span, as its source calls it; null where there is none.

    XProf counts an allocation as a call of the operator of its `tf_op`: TensorFlow's so, and torch's not, whose
    operators are events of other names.
    """
    spans = trace.spans
    is_operator = Words(spans["kind"]).among("op")
    around = kinetowords.nearest_ancestor(spans["parent"], is_operator)
    row = pl.Series(np.where(is_operator, np.arange(len(around)), around))
    is_tensorflows = pl.Series(Words(spans["category"]).among("tf_op"))
    called = spans["name"].zip_with(~is_tensorflows, event_names)
    return called.gather(row.set(row < 0, None))


def _allocator(device: str) -> str:
    """TensorFlow's own name of a device's allocator, by which readers know the device."""
    found = _GPU.match(device)
    return f"GPU_{found[1]}_bfc" if found else device
