"""What a Kineto file says about itself outside its events: an allow-list, for such files may hold an environment."""

from __future__ import annotations

from typing import Any

import msgspec

from profkit.readers.kineto_events import BROKEN, decode_document, repaired
from profkit.trace.batch import NativeHeader
from profkit.trace.collectives import Group


def header_of(top: dict[str, Any]) -> NativeHeader:
    """What the document says outside its events. Allow-listed: never the environment, never argument values."""
    fields = {key: _decoded(raw) for key, raw in top.items() if key in _HEADER_FIELDS}
    distributed = fields.get("distributedInfo")
    distributed = distributed if isinstance(distributed, dict) else {}
    own = fields.get("profkit")
    own = own if isinstance(own, dict) else {}
    devices = fields.get("deviceProperties")
    return NativeHeader(
        zero_ns=_int(fields.get("baseTimeNanoseconds")) or 0,
        rank=_int(distributed.get("rank")),
        world_size=_int(distributed.get("world_size")),
        backend=str(distributed.get("backend") or ""),
        groups=_groups(distributed.get("pg_config")),
        host=str(fields.get("host_name") or ""),
        frameworks={name: str(own[name]) for name in _FRAMEWORKS if isinstance(own.get(name), str)},
        devices=[_scalars(d) for d in devices if isinstance(d, dict)] if isinstance(devices, list) else [],
        flags=_scalars({key: value for key, value in fields.items() if key in _FLAGS}),
    )


def _groups(config: Any) -> tuple[Group, ...]:
    """The process groups of the job; none where the list is not what PyTorch writes."""
    try:
        return tuple(msgspec.convert(config or [], list[Group]))
    except msgspec.ValidationError:
        return ()


_FRAMEWORKS = ("torch", "tensorflow", "keras", "jax")
_FLAGS = frozenset(
    (
        *("schemaVersion", "displayTimeUnit", "trace_id"),
        *("record_shapes", "profile_memory", "with_stack", "with_flops", "with_modules"),
        *("cuda_runtime_version", "cuda_driver_version", "cupti_version"),
        *("hip_runtime_version", "hip_driver_version"),
        *("host_tracer_level", "device_tracer_level", "python_tracer_level"),
    )
)
_HEADER_FIELDS = _FLAGS | {
    "distributedInfo",
    "deviceProperties",
    "baseTimeNanoseconds",
    "host_name",
    "profkit",
}


def header_fields(header: bytes) -> dict[str, Any]:
    """Fields that come before the events of a document whose end is lost."""
    try:
        top: dict[str, Any] = dict(decode_document(repaired(header) + b"]}"))
    except BROKEN:
        return {}
    top.pop("traceEvents", None)
    return top


def _int(value: Any) -> int | None:
    return value if isinstance(value, int) else None


def _scalars(values: dict[str, Any]) -> dict[str, str | int | float | None]:
    return {k: v for k, v in values.items() if isinstance(v, str | int | float | None)}


def _decoded(raw: msgspec.Raw) -> Any:
    try:
        return msgspec.json.decode(raw)
    except BROKEN:
        return None
