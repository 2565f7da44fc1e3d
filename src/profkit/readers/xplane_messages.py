"""The messages of an XSpace file, in a descriptor pool of our own: no import of TensorFlow, no clash with its copy.

Fields and numbers: tsl/profiler/protobuf/xplane.proto and profiler_options.proto (openxla/xla), proto3. Fields that
no reader needs are left out; protobuf keeps them when a message is written again.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import (  # type: ignore[import-untyped]  # protobuf ships no types
    descriptor_pb2,
    descriptor_pool,
    message_factory,
)
from google.protobuf.internal import api_implementation  # type: ignore[import-untyped]  # as above

from profkit.errors import MissingDependency

_PACKAGE = "profkit.xplane"
_FILE = "profkit/xplane.proto"
_Field = descriptor_pb2.FieldDescriptorProto

# (number, name, type). `*` repeats, `map:` maps int64 to a message, and `/x` makes the field one of the choice `x`.
_MESSAGES: dict[str, tuple[tuple[int, str, str], ...]] = {
    "XSpace": (
        (1, "planes", "XPlane*"),
        (2, "errors", "string*"),
        (3, "warnings", "string*"),
        (4, "hostnames", "string*"),
    ),
    "XPlane": (
        (1, "id", "int64"),
        (2, "name", "string"),
        (3, "lines", "XLine*"),
        (4, "event_metadata", "map:XEventMetadata"),
        (5, "stat_metadata", "map:XStatMetadata"),
        (6, "stats", "XStat*"),
    ),
    "XLine": (
        (1, "id", "int64"),
        (2, "name", "string"),
        (3, "timestamp_ns", "int64"),
        (4, "events", "XEvent*"),
        (9, "duration_ps", "int64"),
        (10, "display_id", "int64"),
        (11, "display_name", "string"),
    ),
    "XEvent": (
        (1, "metadata_id", "int64"),
        (2, "offset_ps", "int64/data"),
        (3, "duration_ps", "int64"),
        (4, "stats", "XStat*"),
        (5, "num_occurrences", "int64/data"),
    ),
    "XStat": (
        (1, "metadata_id", "int64"),
        (2, "double_value", "double/value"),
        (3, "uint64_value", "uint64/value"),
        (4, "int64_value", "int64/value"),
        (5, "str_value", "string/value"),
        (6, "bytes_value", "bytes/value"),
        (7, "ref_value", "uint64/value"),
    ),
    "XEventMetadata": (
        (1, "id", "int64"),
        (2, "name", "string"),
        (3, "metadata", "bytes"),
        (4, "display_name", "string"),
        (5, "stats", "XStat*"),
        (6, "child_id", "int64*"),
    ),
    "XStatMetadata": ((1, "id", "int64"), (2, "name", "string"), (3, "description", "string")),
    "ProfileOptions": (
        (2, "host_tracer_level", "uint32"),
        (3, "device_tracer_level", "uint32"),
        (4, "python_tracer_level", "uint32"),
    ),
}
_SCALARS = {
    "int64": _Field.TYPE_INT64,
    "uint32": _Field.TYPE_UINT32,
    "uint64": _Field.TYPE_UINT64,
    "double": _Field.TYPE_DOUBLE,
    "string": _Field.TYPE_STRING,
    "bytes": _Field.TYPE_BYTES,
}


def refuse_pure_python() -> None:
    """Raise MissingDependency where protobuf runs without its compiled part: 1 MB/s instead of 150 (measured)."""
    if api_implementation.Type() == "python":
        raise MissingDependency(
            "reading XPlane needs protobuf's compiled backend, and this is the pure-Python one; unset "
            "PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION and run: pip install --force-reinstall protobuf"
        )


def _file() -> Any:
    file = descriptor_pb2.FileDescriptorProto(name=_FILE, package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for number, field, words in fields:
            _add_field(message, number, field, words)
    return file


def _add_field(message: Any, number: int, name: str, words: str) -> None:
    kind, _, choice = words.partition("/")
    is_map = kind.startswith("map:")
    repeated = is_map or kind.endswith("*")
    field = message.field.add(
        name=name, number=number, label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    )
    _set_type(field, _add_map_entry(message, name, kind[4:]) if is_map else kind.rstrip("*"))
    if choice:
        if not message.oneof_decl:
            message.oneof_decl.add(name=choice)
        field.oneof_index = 0


def _add_map_entry(message: Any, field: str, value: str) -> str:
    """The message of a map's pairs, named as protobuf demands."""
    name = "".join(word.title() for word in field.split("_")) + "Entry"
    entry = message.nested_type.add(name=name)
    entry.options.map_entry = True
    _add_field(entry, 1, "key", "int64")
    _add_field(entry, 2, "value", value)
    return f"{message.name}.{name}"


def _set_type(field: Any, kind: str) -> None:
    if kind in _SCALARS:
        field.type = _SCALARS[kind]
    else:
        field.type, field.type_name = _Field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"


def _classes() -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_file().SerializeToString())
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_CLASSES = _classes()
XSpace: Any = _CLASSES["XSpace"]
ProfileOptions: Any = _CLASSES["ProfileOptions"]
