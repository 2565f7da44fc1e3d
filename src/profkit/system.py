"""System counters of a training: its process tree without the sidecar, and the machine around it. Linux only.

Every name ends with its unit. What counts up (CPU time, bytes, faults) is a rate since the reading before.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

TICKS_PER_S = os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process holds now, and what it has used since its birth."""

    cpu_s: float
    resident_bytes: int
    minor_faults: int
    major_faults: int
    disk_read_bytes: int
    disk_written_bytes: int


NOTHING = Usage(0.0, 0, 0, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Host:
    """What the whole machine holds now, and what it has used since its boot."""

    busy_s: float
    total_s: float
    available_bytes: int
    received_bytes: int
    sent_bytes: int


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the system. `processes`: by (pid, time of birth), the training's main process first."""

    time_s: float  # of a monotonic clock
    processes: Mapping[tuple[int, float], Usage]
    host: Host


class Sampler:
    """Looks at the training with process id `pid` and its descendants, save those with a pid in `without`."""

    def __init__(self, pid: int, without: frozenset[int] = frozenset()) -> None:
        self._training = psutil.Process(pid)
        self._without = without
        self._before: Reading | None = None

    def sample(self) -> dict[str, float]:
        """Counters by name; no rates at the first call. Empty once the training is gone."""
        before, self._before = self._before, _read(self._training, self._without)
        if not self._before.processes:
            return {}
        return levels(self._before) | (rates(before, self._before) if before else {})


def levels(now: Reading) -> dict[str, float]:
    """What is held at one moment."""
    return {
        "resident_memory_bytes": float(sum(usage.resident_bytes for usage in now.processes.values())),
        "processes": float(len(now.processes)),
        "host_available_memory_bytes": float(now.host.available_bytes),
    }


def rates(before: Reading, now: Reading) -> dict[str, float]:
    """What was used between two readings. A process born in between counts; one that ended does not."""
    seconds = now.time_s - before.time_s
    used = [(usage, before.processes.get(key, NOTHING)) for key, usage in now.processes.items()]
    main, main_before = used[0]

    def per_s(name: str) -> float:
        return float(sum(getattr(usage, name) - getattr(earlier, name) for usage, earlier in used)) / seconds

    return {
        "cpu_percent": 100 * per_s("cpu_s"),
        "main_process_cpu_percent": 100 * (main.cpu_s - main_before.cpu_s) / seconds,
        "minor_page_faults_per_s": per_s("minor_faults"),
        "major_page_faults_per_s": per_s("major_faults"),
        "disk_read_bytes_per_s": per_s("disk_read_bytes"),
        "disk_written_bytes_per_s": per_s("disk_written_bytes"),
        "host_network_received_bytes_per_s": (now.host.received_bytes - before.host.received_bytes) / seconds,
        "host_network_sent_bytes_per_s": (now.host.sent_bytes - before.host.sent_bytes) / seconds,
        "host_cpu_percent": _share(now.host.busy_s - before.host.busy_s, now.host.total_s - before.host.total_s),
    }


def _share(part: float, whole: float) -> float:
    return 100 * part / whole if whole > 0 else 0.0


def _read(training: psutil.Process, without: frozenset[int]) -> Reading:
    usages = {}
    for process in _tree(training):
        if process.pid not in without:
            with suppress(psutil.Error, OSError):  # it ended between the listing and the look
                usages[process.pid, process.create_time()] = usage_of(process)
    return Reading(time.perf_counter(), usages if _is_first(training, usages) else {}, _host())


def _is_first(training: psutil.Process, usages: Mapping[tuple[int, float], Usage]) -> bool:
    return next(iter(usages), (None,))[0] == training.pid


def _tree(training: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [training, *training.children(recursive=True)]
    return []


def usage_of(process: psutil.Process) -> Usage:
    """What `process` uses. Raises OSError or psutil.Error where it is gone; a zombie is gone."""
    state, fields = _stat(process.pid)
    if state == "Z":
        raise psutil.ZombieProcess(process.pid)
    disk = _disk(process)
    return Usage(
        # proc(5) counts from 1 and begins with pid, name and state; `fields` begins with the fourth.
        cpu_s=(int(fields[10]) + int(fields[11])) / TICKS_PER_S,
        resident_bytes=int(fields[20]) * PAGE_BYTES,
        minor_faults=int(fields[6]),
        major_faults=int(fields[8]),
        disk_read_bytes=disk[0],
        disk_written_bytes=disk[1],
    )


def _stat(pid: int) -> tuple[str, list[str]]:
    """State and the fields behind it. The name in brackets may hold blanks and brackets itself."""
    text = Path(f"/proc/{pid}/stat").read_text()
    state, *fields = text[text.rindex(")") + 2 :].split()
    return state, fields


def _disk(process: psutil.Process) -> tuple[int, int]:
    """Bytes the process had fetched from and sent to storage; zeros where the kernel does not tell."""
    with suppress(psutil.AccessDenied, NotImplementedError):
        counters = process.io_counters()
        return counters.read_bytes, counters.write_bytes
    return 0, 0


def _host() -> Host:
    times, network = psutil.cpu_times(), psutil.net_io_counters()
    idle = times.idle + times.iowait
    total = sum(times) - times.guest - times.guest_nice  # the kernel counts guests in user and nice, too
    return Host(
        busy_s=total - idle,
        total_s=total,
        available_bytes=psutil.virtual_memory().available,
        received_bytes=network.bytes_recv if network else 0,
        sent_bytes=network.bytes_sent if network else 0,
    )
