"""XSpace files for XProf, the profiler of TensorFlow and JAX in TensorBoard: of any trace, also of PyTorch's.

The undocumented rules this keeps to were found by ablation on XProf 2.24.2 and are pinned by tests:

- A folder of a run is written once. XProf keeps its results in files beside the trace and never looks again whether
  the trace has changed, so that a trace written over another one shows the old result.
- The host is the plane `/host:CPU`, a device `/device:GPU:<n>`; without a plane of the host there is nothing.
- `profkit.exporters.xprofevents` has the rules of the events.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

from profkit.analysis.report import Report
from profkit.readers.xplane_messages import ProfileOptions
from profkit.trace.model import Run, Trace, TraceInfo

from . import xprofevents, xspace
from .files import every_rank, replacing, safe_name, stem, traces_of

# Facts of torch's deviceProperties -> those of a device's plane (tsl/profiler, xplane_schema: kDevCap…).
_CAPABILITIES = {
    "totalGlobalMem": "memory_size",
    "numSms": "core_count",
    "computeMajor": "compute_cap_major",
    "computeMinor": "compute_cap_minor",
}
_FACTS = (
    *("device_vendor", "device_type_string", "clock_rate", "core_count", "memory_bandwidth", "memory_size"),
    *("compute_cap_major", "compute_cap_minor"),
)
_AMD = re.compile(r"AMD|Instinct|Radeon")


class XProfExporter:
    """Writes `plugins/profile/<run>-window<w>/<host>.xplane.pb`, a file for each rank; never into an older folder."""

    def export(self, run: Run, report: Report, folder: Path) -> Sequence[Path]:
        """Write below `folder`. Raises ExportError where nothing was recorded, OSError."""
        name, written = stem(run), []
        with ExitStack() as unfinished:
            homes: dict[int, Path] = {}
            for trace in (trace for own in every_rank(run) for trace in traces_of(own)):
                window = trace.info.window
                if window not in homes:
                    fresh = _fresh_folder(folder / "plugins" / "profile", f"{name}-window{window}")
                    homes[window] = unfinished.enter_context(fresh)
                written.append(_write(trace, homes[window] / f"{_host(trace.info)}.xplane.pb"))
        return written


@contextmanager
def _fresh_folder(parent: Path, name: str) -> Iterator[Path]:
    """A folder that did not exist, and vanishes when the block raises."""
    parent.mkdir(parents=True, exist_ok=True)
    for number in count(1):
        home = parent / (name if number == 1 else f"{name}-{number}")
        try:
            home.mkdir()
        except FileExistsError:
            continue
        break
    try:
        yield home
    except BaseException:
        shutil.rmtree(home)
        raise


def _host(info: TraceInfo) -> str:
    """What viewers call the machine: ranks of one run need names of their own."""
    host = safe_name(info.host or "host")
    return f"{host}_{info.rank}" if info.world_size > 1 or info.rank else host


def _write(trace: Trace, path: Path) -> Path:
    with replacing(path) as file:
        file.write(xspace.encoded(_planes(trace), _host(trace.info)))
    return path


def _planes(trace: Trace) -> Iterator[xspace.Plane]:
    """The host, each device, and what the file says about itself."""
    for content in xprofevents.contents(trace):
        plane = xspace.Plane(content.name)
        for name, value in _facts(trace.info, content.device):
            plane.say(name, value)
        if content.lines:
            plane.add_lines(content.lines, content.events)
        yield plane
    if "jax" in trace.info.frameworks:
        metadata = xspace.Plane("/host:metadata")
        metadata.say("jax_version", trace.info.frameworks["jax"])
        yield metadata
    yield _environment(trace)


def _facts(info: TraceInfo, device: int | None) -> Iterator[tuple[str, int | str]]:
    """What the trace knows of a device, under the names that TensorFlow's profiler gives it."""
    for facts in (facts for facts in info.devices if device is not None and facts.get("id") == device):
        own = facts if str(facts.get("name")).startswith("/device:") or facts.keys() & set(_FACTS) else _of_torch(facts)
        for name in _FACTS:
            value = own.get(name)
            if isinstance(value, str) or (isinstance(value, int) and value >= 0):
                yield name, value


def _of_torch(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Facts from torch's properties of a device, and its vendor, by which XProf chooses what to call it."""
    name = str(properties.get("name") or "")
    facts = {ours: properties.get(theirs) for theirs, ours in _CAPABILITIES.items()}
    return facts | {"device_type_string": name, "device_vendor": "AMD" if _AMD.search(name) else "Nvidia"}


def _environment(trace: Trace) -> xspace.Plane:
    """When the recording began, from which the lines count, when it ended, and how much it was told to record."""
    plane = xspace.Plane("Task Environment")
    plane.say("profile_start_time", xprofevents.zero_ns(trace))
    plane.say("profile_stop_time", xprofevents.end_ns(trace))
    found = ((name, trace.info.native.get(name)) for name in ProfileOptions.DESCRIPTOR.fields_by_name)
    levels = {name: level for name, level in found if isinstance(level, int) and 0 <= level < 2**32}
    if levels:
        plane.say("profile_options", ProfileOptions(**levels).SerializeToString())
    return plane
