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

_Messages = dict[str, tuple[tuple[int, str, str], ...]]
_Field = descriptor_pb2.FieldDescriptorProto

# (number, name, type). `*` repeats, `map:` maps int64 to a message, and `/x` makes the field one of the choice `x`.
_MESSAGES: _Messages = {
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
# The same where lines, and with them their events, do not become objects: they stay the bytes they are.
_PACKED: _Messages = _MESSAGES | {
    "XPlane": tuple((number, name, "bytes*" if name == "lines" else kind) for number, name, kind in _MESSAGES["XPlane"])
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


class _File:
    """Messages that refer to each other, described as protobuf wants it, in a package of their own."""

    def __init__(self, package: str, messages: _Messages) -> None:
        self._package = package
        self.descriptor = descriptor_pb2.FileDescriptorProto(
            name=f"{package.replace('.', '/')}.proto", package=package, syntax="proto3"
        )
        for name, fields in messages.items():
            message = self.descriptor.message_type.add(name=name)
            for number, field, words in fields:
                self._add_field(message, number, field, words)

    def _add_field(self, message: Any, number: int, name: str, words: str) -> None:
        kind, _, choice = words.partition("/")
        is_map = kind.startswith("map:")
        repeated = is_map or kind.endswith("*")
        field = message.field.add(
            name=name, number=number, label=_Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
        )
        self._set_type(field, self._add_map_entry(message, name, kind[4:]) if is_map else kind.rstrip("*"))
        if choice:
            if not message.oneof_decl:
                message.oneof_decl.add(name=choice)
            field.oneof_index = 0

    def _add_map_entry(self, message: Any, field: str, value: str) -> str:
        """The message of a map's pairs, named as protobuf demands."""
        name = "".join(word.title() for word in field.split("_")) + "Entry"
        entry = message.nested_type.add(name=name)
        entry.options.map_entry = True
        self._add_field(entry, 1, "key", "int64")
        self._add_field(entry, 2, "value", value)
        return f"{message.name}.{name}"

    def _set_type(self, field: Any, kind: str) -> None:
        if kind in _SCALARS:
            field.type = _SCALARS[kind]
        else:
            field.type, field.type_name = _Field.TYPE_MESSAGE, f".{self._package}.{kind}"


def _classes(package: str, messages: _Messages) -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(_File(package, messages).descriptor.SerializeToString())
    return {name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages}


_CLASSES = _classes("profkit.xplane", _MESSAGES)
XSpace: Any = _CLASSES["XSpace"]
XLine: Any = _CLASSES["XLine"]
XEvent: Any = _CLASSES["XEvent"]
ProfileOptions: Any = _CLASSES["ProfileOptions"]
PackedSpace: Any = _classes("profkit.xplane_packed", _PACKED)["XSpace"]
