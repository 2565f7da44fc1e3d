"""`profkit doctor`: what is installed, what would be recorded here, what is missing and how to get it.

Frameworks are looked for, never imported: the question what a GPU is there goes to a process of its own.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, packages_distributions, requires, version
from pathlib import Path

from profkit import __version__, plugins
from profkit.cli import cells
from profkit.cli.terminal import Terminal, show
from profkit.errors import MissingDependency
from profkit.units import size

OK, LIMITED, MISSING = "ok", "limited", "missing"
COLOURS = {OK: "32", LIMITED: "33", MISSING: "31"}

OLDEST_PYTHON = (3, 11)
LITTLE_SPACE_BYTES = 1 << 30
TORCH_TIMEOUT_S = 60.0
PERF_FOR_USERS = 2  # kernel.perf_event_paranoid up to which anybody may count events of their own processes
BESIDE = {  # tool -> distributions it comes in, exporter whose files it opens
    "Perfetto": (("perfetto",), "chrome", "; so does ui.perfetto.dev, without installation"),
    "torch-tb-profiler": (("torch-tb-profiler",), "torch_tb", ""),
    "XProf": (("xprof",), "xprof", ""),
    "HTA": (("traceinsight", "HolisticTraceAnalysis"), "chrome", ""),
}
PROFILERS = {"tensorflow": "tf.profiler", "jax": "jax.profiler"}  # those that need not be asked
_ASK_TORCH = """
import json, torch
kinds = sorted(str(kind).rpartition(".")[2] for kind in torch.profiler.supported_activities())
devices = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
print(json.dumps({"activities": kinds, "devices": devices}))
"""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing looked at. `state`: ok, limited or missing; `needed`: without it no run can be recorded."""

    area: str
    name: str
    state: str
    detail: str
    remedy: str = ""
    needed: bool = False


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command and its options."""
    parser = commands.add_parser(
        "doctor",
        help="say what can be recorded here and what is missing",
        description="What is installed, what would be recorded on this machine, what is missing and how to get "
        "it. Exits with 2 where no run can be recorded.",
        allow_abbrev=False,
    )
    parser.add_argument("--logdir", type=Path, default=Path("runs"), help="where runs are to go; default runs")
    parser.add_argument("--json", action="store_true", help="the checks as one JSON object")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print all checks. Returns 0 where a run can be recorded, else 2."""
    checks = examined(arguments.logdir)
    can_record = not any(check.needed and check.state == MISSING for check in checks)
    if arguments.json:
        show(json.dumps({"can_record": can_record, "checks": [asdict(check) for check in checks]}))
    else:
        show(as_text(checks, can_record, Terminal.of(sys.stdout)))
    return 0 if can_record else 2


def examined(logdir: Path) -> list[Check]:
    """Every check, in the order they are shown."""
    return [
        *_python(),
        *_dependencies(),
        *_hooks(),
        *_plugins(plugins.READERS),
        *_plugins(plugins.EXPORTERS),
        *_plugins(plugins.SINKS),
        *_operators(),
        *_system(Path("/proc")),
        _folder("log folder", logdir.absolute(), needed=True),
        _folder("temporary folder", Path(tempfile.gettempdir())),
        *_beside(),
    ]


def as_text(checks: Sequence[Check], can_record: bool, terminal: Terminal) -> str:
    """One line per check, grouped by area, each remedy below what it mends."""
    areas = dict.fromkeys(check.area for check in checks)
    name_cells = max(cells.width(check.name) for check in checks)
    blocks = []
    for area in areas:
        lines = [f"{area}"]
        for check in checks:
            if check.area == area:
                lines += _lines(check, name_cells, terminal)
        blocks.append("\n".join(lines))
    end = "A run can be recorded here." if can_record else "No run can be recorded here until what is missing is there."
    text = "\n\n".join([*blocks, end])
    return text if terminal.unicode else cells.ascii_only(text)


def _lines(check: Check, name_cells: int, terminal: Terminal) -> list[str]:
    state = f"{check.state:<7}"
    if terminal.colour:
        state = f"\x1b[{COLOURS[check.state]}m{state}\x1b[0m"
    start = 2 + 7 + 2 + name_cells + 2
    room = max(terminal.width - start, 20)
    told = cells.wrap(cells.clean(check.detail), room)
    told += cells.wrap(cells.clean(f"→ {check.remedy}"), room) if check.remedy else []
    first = f"  {state}  {cells.left(check.name, name_cells)}  "
    return [(" " * start if index else first) + line for index, line in enumerate(told)]


def _python() -> Iterator[Check]:
    wanted = ".".join(map(str, OLDEST_PYTHON))
    new_enough = sys.version_info >= OLDEST_PYTHON
    yield Check(
        "this machine",
        "Python",
        OK if new_enough else MISSING,
        f"{platform.python_version()}, {sys.executable}",
        "" if new_enough else f"install Python {wanted} or newer",
        needed=True,
    )
    yield platform_check(sys.platform)
    yield Check("this machine", "profkit", OK, __version__)


def platform_check(system: str) -> Check:
    """What the operating system `system` (as in sys.platform) allows."""
    if system == "linux":
        return Check("this machine", "platform", OK, f"Linux {platform.release()}, {platform.machine()}", needed=True)
    if system == "win32":
        return Check(
            "this machine",
            "platform",
            MISSING,
            "Windows has no file locks as profkit needs them",
            "use WSL 2",
            needed=True,
        )
    lost = "steps, waits and operators are recorded; system counters and the death of a training are not"
    return Check("this machine", "platform", LIMITED, f"{system}: {lost}", "use Linux", needed=True)


def _dependencies() -> Iterator[Check]:
    """The libraries profkit's own metadata asks for."""
    for requirement in requires("profkit") or []:
        if ";" not in requirement:
            yield dependency_check(_distribution(requirement), requirement)


def dependency_check(name: str, requirement: str) -> Check:
    """Whether the distribution `name` is installed."""
    installed = _version(name)
    if installed is None or is_older(installed, requirement):
        found = f"{requirement} is needed, {installed or 'none'} is installed"
        return Check("libraries", name, MISSING, found, f"pip install '{requirement}'", needed=True)
    return Check("libraries", name, OK, installed, needed=True)


def is_older(installed: str, requirement: str) -> bool:
    """Whether the version is below the lower bound of a requirement such as `torch>=2.4`."""
    bound = re.search(r">=\s*([\d.]+)", requirement)
    return bool(bound) and _numbers(installed) < _numbers(bound[1])  # type: ignore[index]


def _numbers(of_version: str) -> list[int]:
    """`2.13.0+cpu` -> [2, 13, 0]; letters as in `2.4rc1` end the numbers."""
    return [int(part) for part in re.match(r"[\d.]*", of_version)[0].split(".") if part]  # type: ignore[index]


def _distribution(requirement: str) -> str:
    """`tensorboard<3,>=2.21` -> `tensorboard`."""
    found = re.match(r"[\w.-]+", requirement)
    return found[0] if found else requirement


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def framework_version(module: str) -> str | None:
    """The version of whatever distribution holds the module: `tensorflow` comes in several of other names."""
    found = _version(module)
    if found is None:
        holders = packages_distributions().get(module, [])
        found = next((version for name in holders if (version := _version(name)) is not None), None)
    return found


def _hooks() -> Iterator[Check]:
    modules = {entry.value: module for module, entry in plugins.auto_hooks().items()}
    for entry in sorted(entry_points(group=plugins.HOOKS)):
        yield hook_check(entry, modules.get(entry.value))


def hook_check(entry: EntryPoint, module: str | None) -> Check:
    """Whether the hook could be attached. `module`: what has to be imported for it to attach by itself."""
    if module is None:
        return Check("hooks", entry.name, OK, "attached where it is asked for by name")
    framework = module.partition(".")[0]
    extra, requirement = _extra_with(framework)
    if importlib.util.find_spec(framework) is None:
        return Check("hooks", entry.name, MISSING, f"needs {module}", f"pip install '{extra}'")
    installed = framework_version(framework)
    if installed is None:
        return Check("hooks", entry.name, OK, f"{framework} of unknown version; attached once {module} is imported")
    if is_older(installed, requirement):
        found = f"needs {requirement}, {installed} is installed"
        return Check("hooks", entry.name, LIMITED, found, f"pip install -U '{extra}'")
    return Check("hooks", entry.name, OK, f"{framework} {installed}; attached once {module} is imported")


def _extra_with(framework: str) -> tuple[str, str]:
    """What to install to get the framework, and what profkit requires of it."""
    for line in requires("profkit") or []:
        requirement, _, marker = line.partition(";")
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", marker)
        if extra and _distribution(requirement) == framework and extra[1] in plugins.names(plugins.HOOKS):
            return f"profkit[{extra[1]}]", requirement.strip()
    return framework, framework


def _plugins(group: str) -> Iterator[Check]:
    area = group.removeprefix("profkit.")
    for name in plugins.names(group):
        yield plugin_check(area, name, lambda name=name: plugins.load(group, name))  # type: ignore[misc]


def plugin_check(area: str, name: str, load: Callable[[], object]) -> Check:
    """Whether the plugin can be loaded. One that fails in whatever way is reported, not raised."""
    try:
        plugin = load()
    except MissingDependency as error:
        return Check(area, name, MISSING, str(error))
    except Exception as error:
        return Check(area, name, LIMITED, f"does not load: {type(error).__name__}: {error}", "reinstall its package")
    return Check(area, name, OK, (type(plugin).__doc__ or "").strip().partition("\n")[0])


def _operators() -> Iterator[Check]:
    """What the frameworks' own profilers can record."""
    others = {module: tool for module, tool in PROFILERS.items() if importlib.util.find_spec(module) is not None}
    for module, tool in others.items():
        yield Check("would be recorded", f"{module} operators", OK, f"by {tool}, on devices it can use as well")
    if importlib.util.find_spec("torch") is None:
        if others:
            return
        yield Check(
            "would be recorded",
            "CPU operators",
            LIMITED,
            "no framework with a profiler: steps and waits only",
            f"pip install '{_extra_with('torch')[0]}'",
        )
        return
    yield from torch_checks(asked([sys.executable, "-c", _ASK_TORCH]))


def asked(command: Sequence[str], timeout_s: float = TORCH_TIMEOUT_S) -> dict[str, list[str]] | str:
    """The JSON a program printed last, or one sentence why there is none."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=True)
        answer: dict[str, list[str]] = json.loads(done.stdout.splitlines()[-1])
        return answer
    except subprocess.TimeoutExpired:
        return f"importing torch took longer than {timeout_s:.0f} s"
    except subprocess.CalledProcessError as error:
        return str((error.stderr.strip().splitlines() or ["importing torch failed"])[-1])
    except (OSError, ValueError, IndexError) as error:
        return f"{type(error).__name__}: {error}"


def torch_checks(answer: dict[str, list[str]] | str) -> list[Check]:
    """What torch says it can record; a sentence where it could not be asked."""
    area = "would be recorded"
    if isinstance(answer, str):
        return [
            Check(
                area, "CPU operators", LIMITED, f"torch could not be asked: {answer}", "try: python -c 'import torch'"
            )
        ]
    operators = Check(area, "CPU operators", OK, "by torch.profiler")
    devices = ", ".join(answer["devices"])
    accelerators = [kind for kind in answer["activities"] if kind != "CPU"]
    if devices and accelerators:
        return [operators, Check(area, "GPU kernels", OK, f"{devices}, as {', '.join(accelerators)} activity")]
    if devices:
        detail = f"{devices}, but this build of torch records no device activity"
        return [
            operators,
            Check(area, "GPU kernels", LIMITED, detail, "install torch with Kineto and CUPTI or ROCTracer"),
        ]
    return [operators, gpu_unseen_check(Path("/dev"))]


def gpu_unseen_check(devices: Path) -> Check:
    """Where torch sees no GPU: whether the machine has one all the same, by its device files."""
    area, name = "would be recorded", "GPU kernels"
    if next(devices.glob("nvidia[0-9]*"), None) or (devices / "kfd").exists():
        detail = "there is a GPU, but torch does not see it"
        return Check(area, name, LIMITED, detail, "install a build of torch for CUDA or ROCm, and its driver")
    return Check(area, name, MISSING, "there is no GPU on this machine; nothing else is lost")


def _system(proc: Path) -> Iterator[Check]:
    """What the sidecar needs of the system."""
    area = "would be recorded"
    readable = _can_read(proc / "self" / "stat")
    yield Check(
        area,
        "system counters",
        OK if readable else LIMITED,
        "CPU, memory, disk and network of the training's processes" if readable else f"{proc} cannot be read",
        "" if readable else "mount /proc into the container",
    )
    yield _pidfd()
    yield autogroup_check(proc / "self" / "autogroup")
    yield perf_check(proc / "sys" / "kernel" / "perf_event_paranoid")


def _can_read(path: Path) -> bool:
    try:
        return bool(path.read_bytes())
    except OSError:
        return False


def _pidfd() -> Check:
    area, name = "would be recorded", "end of a training"
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError) as error:
        detail = f"no pidfd ({error}): a killed training is noticed by its process id"
        return Check(area, name, LIMITED, detail, "Linux 5.3 or newer gives one, and containers may forbid it")
    return Check(area, name, OK, "noticed at once by pidfd, also when the training is killed")


def autogroup_check(path: Path) -> Check:
    """Whether the sidecar can step back behind the training where the kernel groups processes by session."""
    if not path.exists():
        return Check("would be recorded", "sidecar's priority", OK, "by nice; this kernel has no autogroups")
    if os.access(path, os.W_OK):
        return Check("would be recorded", "sidecar's priority", OK, "by nice and autogroup, below the training's")
    detail = f"{path} cannot be written: converting a window may slow the training on few cores"
    return Check(
        "would be recorded", "sidecar's priority", LIMITED, detail, "profile(sidecar=False) converts at the end"
    )


def perf_check(path: Path) -> Check:
    """Whether hardware counters are open to users; only torch's performance events would use them."""
    area, name = "would be recorded", "hardware counters"
    try:
        level = int(path.read_text())
    except (OSError, ValueError):
        return Check(area, name, LIMITED, "this kernel has no perf events; profkit does not need them")
    if level <= PERF_FOR_USERS:
        return Check(area, name, OK, f"kernel.perf_event_paranoid = {level}; profkit does not need them")
    detail = f"kernel.perf_event_paranoid = {level}; profkit does not need them"
    return Check(area, name, LIMITED, detail, f"sysctl kernel.perf_event_paranoid={PERF_FOR_USERS} opens them")


def _folder(name: str, folder: Path, needed: bool = False) -> Check:
    """Whether files can be written at `folder`, or at the nearest of its parents that exists."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Check("folders", name, MISSING, f"{folder} cannot be written", "choose another with --logdir", needed)
    free = shutil.disk_usage(existing).free
    detail = f"{folder}, {size(free)} free"
    if free < LITTLE_SPACE_BYTES:
        return Check("folders", name, LIMITED, detail, f"a long window may need {size(LITTLE_SPACE_BYTES)}", needed)
    return Check("folders", name, OK, detail, needed=needed)


def _beside() -> Iterator[Check]:
    """Tools that open what profkit exports. None is needed."""
    for tool, (distributions, exporter, besides) in BESIDE.items():
        purpose = f"opens what `profkit export --to {exporter}` writes{besides}"
        installed = next(filter(None, map(_version, distributions)), None)
        if installed:
            yield Check("tools beside", tool, OK, f"{installed}; {purpose}")
        else:
            yield Check("tools beside", tool, MISSING, f"not needed; {purpose}", f"pip install {distributions[0]}")
