"""Small XSpaces made by hand: what TensorFlow's and JAX's profilers write, an event at a time."""

from __future__ import annotations

from typing import Any

from profkit.readers.xplane_messages import ProfileOptions, XSpace

SESSION_NS = 1_795_398_421_301_090_288


class Space:
    """An XSpace made by hand: one call for each event."""

    def __init__(self, start_ns: int = SESSION_NS) -> None:
        self.message = XSpace(hostnames=["here"])
        environment = self.plane("Task Environment")
        self.add_stat(environment, environment.stats, "profile_start_time", start_ns)
        self.add_stat(environment, environment.stats, "profile_options", ProfileOptions(host_tracer_level=2))

    def plane(self, name: str) -> Any:
        found = [plane for plane in self.message.planes if plane.name == name]
        return found[0] if found else self.message.planes.add(name=name)

    def line(self, plane: str, name: str, timestamp_ns: int = 0) -> Any:
        lines = self.plane(plane).lines
        found = [line for line in lines if line.name == name]
        return found[0] if found else lines.add(id=len(lines) + 1, name=name, timestamp_ns=timestamp_ns)

    def event(
        self, name: str, at_ps: int, for_ps: int, line: str = "python", plane: str = "/host:CPU", **stats: Any
    ) -> Any:
        home = self.plane(plane)
        event = self.line(plane, line).events.add(
            metadata_id=_id(home.event_metadata, name), offset_ps=at_ps, duration_ps=for_ps
        )
        for stat, value in stats.items():
            self.add_stat(home, event.stats, stat, value)
        return event

    def add_stat(self, plane: Any, stats: Any, name: str, value: Any) -> None:
        stat = stats.add(metadata_id=_id(plane.stat_metadata, name))
        if isinstance(value, int):
            stat.int64_value = value
        elif isinstance(value, str):
            stat.ref_value = _id(plane.stat_metadata, value)  # most texts are references to names
        else:
            stat.bytes_value = value.SerializeToString()


def _id(table: Any, name: str) -> int:
    """The key of `name` in a plane's table of metadata, which is extended where it is missing."""
    for key, metadata in table.items():
        if metadata.name == name:
            return int(key)
    key = len(table) + 1
    table[key].id, table[key].name = key, name
    return key
