"""One screen of text that answers why a step is slow: the terminal's view of a Report.

It is made without polars, rich or any other library, because a training process prints it when a run has ended.
Names in a report come from traces anybody may have written: each is cleaned before it is shown.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from profkit.analysis.report import (
    WORTH_A_CHANGE,
    DeviceMemory,
    Finding,
    Operator,
    RankRow,
    Ranks,
    Report,
    StepTime,
    Wait,
)
from profkit.cli import cells
from profkit.units import counted, duration, percent, ratio, size

# Class -> colour of xterm's 256. Each differs from black and from white by a contrast of 3:1 or more.
PALETTE = {
    "data_wait": 166,
    "compute": 32,
    "communication": 133,
    "copy": 29,
    "runtime": 136,
    "host": 95,
    "unattributed": 244,
}
FRAMEWORKS = {"torch": "PyTorch", "tensorflow": "TensorFlow", "keras": "Keras", "jax": "JAX"}
MARGIN = "  "
BAR_CELLS = 40
NAME_CELLS = 20  # a table gives up columns before it makes names narrower than this
SLIGHT = 0.1  # a slowdown below is said in per cent, above as a factor
WORTH_DIVIDING = 0.05  # of the time from batch to batch: a smaller wait is not divided
WORTH_A_BAR = 0.03  # of the wait
FEWEST_RANKS = 8  # that are all shown

BOLD, DIM, UNDERLINED = "1", "2", "4"
Paint = Callable[[str, str], str]  # text, SGR codes -> text


def verdict(
    report: Report,
    run_folder: Path | str | None,
    width: int,
    colour: bool,
    *,
    unicode: bool = True,
    top: int = 5,
    by_shape: bool = False,
) -> str:
    """The report on one screen, no line wider than `width` cells save the command to copy at its end.

    `run_folder`: of a run in an object store, its URL. `top`: rows of each table. The words are the same with and
    without colour; `unicode=False` draws in ASCII.
    """
    paint = _in_colour if colour else _plain
    inside = width - 2 * len(MARGIN)
    blocks = [
        _judgement(report, inside, paint),
        _breakdown(report, inside, paint),
        _waiting(report, inside, paint),
        _ranks(report.ranks, inside, paint, top),
        _classes(report, inside, paint, top),
        _operators(report, inside, paint, top, by_shape),
        _device_work(report.kernels, inside, paint, top),
        _facts(report, inside, paint),
        _notes(report, inside, paint),
        _command(run_folder, paint),
    ]
    indented = [[MARGIN + line for line in block] for block in blocks if block]
    text = "\n\n".join("\n".join(block) for block in [_header(report, run_folder, width, paint), *indented])
    return text if unicode else cells.ascii_only(text)


def _plain(text: str, codes: str) -> str:
    return text


def _in_colour(text: str, codes: str) -> str:
    return f"\x1b[{codes}m{text}\x1b[0m"


def _header(report: Report, run_folder: Path | str | None, width: int, paint: Paint) -> list[str]:
    """What was profiled, how much of it, and what that cost."""
    name = "/".join(PurePath(run_folder).parts[-2:]) if run_folder else report.name
    items = [
        "profkit",
        cells.clean(name),
        *(_framework(*item) for item in report.frameworks.items()),
        ", ".join([counted(report.steps, "step"), *_windows(report)]),
        *_overhead(report),
    ]
    first, *rest = cells.flow(items, " · ", width - len(MARGIN))
    return [paint(first, BOLD), *(MARGIN + paint(line, BOLD) for line in rest)]


def _framework(name: str, version: str) -> str:
    """`torch`, `2.13.0+cpu` -> `PyTorch 2.13`."""
    short = ".".join(version.split("+")[0].split(".")[:2])
    return cells.clean(f"{FRAMEWORKS.get(name, name)} {short}")


def _windows(report: Report) -> list[str]:
    if not report.recorded:
        return ["no window yet" if report.state == "running" else "no window"]
    if not report.window_steps:
        return [counted(report.windows, "window")]
    steps, rest = divmod(len(report.window_steps), report.windows)
    return [counted(report.windows, "window") + (f" of {steps}" if not rest else "")]


def _overhead(report: Report) -> list[str]:
    cost = report.overhead
    parts = []
    if cost.outside_share is not None:
        parts.append(f"{percent(cost.outside_share)} outside")
    if cost.inside_ratio is not None:
        parts.append(f"{_slowdown(cost.inside_ratio, cost.inside_spread or 0)} inside")
    return [f"overhead {', '.join(parts)}"] if parts else []


def _slowdown(inside_ratio: float, spread: float) -> str:
    """How much longer steps take in a window, where that is more than they vary."""
    extra = inside_ratio - 1
    if extra <= spread:
        return "none to be seen"
    return percent(extra) if extra < SLIGHT else ratio(inside_ratio)


def _judgement(report: Report, width: int, paint: Paint) -> list[str]:
    """How the run ended where that is news, the verdict, and what to do."""
    lines = [paint(line, BOLD) for line in cells.wrap(_state(report), width)]
    lines += [paint(line, BOLD) for line in cells.wrap(cells.clean(report.headline), width)]
    for finding in report.findings:
        if finding.message != report.headline:
            lines += cells.wrap(cells.clean(finding.message), width)
        lines += _hanging("→ ", _remedy(finding), width)
    return lines


def _state(report: Report) -> str:
    """One sentence for a run that did not simply finish; empty otherwise."""
    if report.state in ("finished", "trace"):
        return ""
    after = "before its first step" if report.last_step is None else f"after step {report.last_step}"
    if report.state == "running":
        return f"Still running: this is what was seen until now, {after}."
    if report.state == "without notice":
        return f"The run ended without notice (killed) {after}."
    return f"The run ended with {cells.clean(report.state)} {after}."


def _remedy(finding: Finding) -> str:
    """What to change, and the gain it promises with how sure that is."""
    remedy = cells.clean(finding.remedy)
    gain = finding.predicted_speedup
    if gain is None or gain < WORTH_A_CHANGE:
        return remedy
    promise = f"bout {ratio(gain)} faster (predicted, {finding.confidence} confidence)"
    is_one_clause = not any(mark in remedy for mark in ":;")
    return f"{remedy.removesuffix('.')}: a{promise}" if is_one_clause else f"{remedy} A{promise}."


def _breakdown(report: Report, width: int, paint: Paint) -> list[str]:
    """A bar per class that took time, and the names of those that took none."""
    total = sum(report.breakdown_ns.values())
    if not total:
        return []
    names = [name for name in PALETTE if name in report.breakdown_ns]
    shown = {name: report.breakdown_ns[name] for name in names if report.breakdown_ns[name]}
    lines = [*cells.wrap(_where(report, total), width), *_bars(shown, PALETTE, total, width, paint)]
    if none := [_words(name) for name in names if name not in shown]:
        lines += [paint(line, DIM) for line in cells.wrap(f"none: {', '.join(none)}", width)]
    return lines


def _bars(times_ns: dict[str, float], colours: dict[str, int], total: float, width: int, paint: Paint) -> list[str]:
    """A bar for each name, as long as its part of the total."""
    shares = [time_ns / total for time_ns in times_ns.values()]
    columns = [
        _Column("", [duration(time_ns) for time_ns in times_ns.values()], 1),
        _Column("", [percent(share) for share in shares], 2),
    ]
    label_cells = max(map(len, PALETTE)) + 2
    room = min(BAR_CELLS, width - label_cells - sum(column.width for column in columns))
    return [
        f"{_words(name):{label_cells}}"
        + paint(cells.left(cells.bar(shares[index], room), room), f"38;5;{colours.get(name, PALETTE['data_wait'])}")
        + "".join(column.row(index) for column in columns)
        for index, name in enumerate(times_ns)
    ]


def _waiting(report: Report, width: int, paint: Paint) -> list[str]:
    """What the loop waited for, where that matters and somebody looked: a bar per stage, in a batch's order."""
    inside = report.loading
    if inside is None or not inside.wait_ns or inside.wait_ns < WORTH_DIVIDING * inside.interval_ns:
        return []
    shown = {s.name: s.wait_ns for s in inside.stages if s.wait_ns >= WORTH_A_BAR * inside.wait_ns}
    title = f"What was waited for: {duration(inside.wait_ns)} a batch, mean of {inside.batches:,}"
    lines = [*cells.wrap(title, width), *_bars(shown, {}, inside.wait_ns, width, paint)]
    fetch = inside.fetch
    if fetch is not None and fetch.cpu_ns is not None and fetch.run_queue_ns is not None:
        parts = {
            "computing": fetch.cpu_ns,
            "waiting for a core": fetch.run_queue_ns,
            "blocked": fetch.blocked_ns or 0.0,
        }
        words = ", ".join(f"{percent(part / fetch.mean_ns)} {name}" for name, part in parts.items())
        lines += [paint(line, DIM) for line in cells.wrap(f"making a batch: {duration(fetch.mean_ns)}, {words}", width)]
    return lines


def _ranks(ranks: Ranks | None, width: int, paint: Paint, top: int) -> list[str]:
    """A row per rank: its step, what it waits for, and how late it is; of many those that tell the most."""
    if ranks is None:
        return []
    rows = _telling(ranks, max(top, FEWEST_RANKS))
    times = {
        "step ms": [row.step_ns for row in rows],
        "data wait": [row.wait_ns for row in rows],
        "compute": [row.breakdown_ns["compute"] for row in rows],
        "exposed comm": [row.exposed_communication_ns for row in rows],
        "for others": [row.waiting_ns for row in rows],
        "late a call": [row.late_ns for row in rows],
    }
    importance = (6, 2, 1, 3, 5, 4)
    columns = [
        _Column(name, _milliseconds(values), rank)
        for rank, (name, values) in zip(importance, times.items(), strict=True)
    ]
    recorded = f"{len(ranks.rows):,} of {ranks.world_size:,} recorded"
    shown = f", {len(rows)} shown" if len(rows) < len(ranks.rows) else ""
    late = {one.rank for one in ranks.stragglers}
    names = [f"{row.rank}{' late' if row.rank in late else ''}" for row in rows]
    lines = [*cells.wrap(f"Ranks, per step: {recorded}{shown}", width), *_table("rank", names, columns, width, paint)]
    if ranks.missing:
        missing = ", ".join(map(str, ranks.missing[:FEWEST_RANKS])) + (
            ", …" if len(ranks.missing) > FEWEST_RANKS else ""
        )
        lines += [paint(line, DIM) for line in cells.wrap(f"not recorded: {missing}", width)]
    return lines


def _telling(ranks: Ranks, most: int) -> list[RankRow]:
    """All ranks, or of many the late ones, those behind the first by most, and the one that waits most; by number."""
    if len(ranks.rows) <= most:
        return ranks.rows
    late = [one.rank for one in ranks.stragglers]
    waiting = max(ranks.rows, key=lambda row: row.waiting_ns).rank
    behind = [row.rank for row in sorted(ranks.rows, key=lambda row: -row.late_ns)]
    shown = list(dict.fromkeys([*late[: most - 1], waiting, *behind]))[:most]
    return [row for row in ranks.rows if row.rank in shown]


def _where(report: Report, total: float) -> str:
    """The breakdown's title: what was divided, and where it was measured."""
    if not report.window_steps:
        return f"Where the time of the trace went: {duration(total)}, no step is marked in it"
    steps = f"mean of {report.breakdown_steps} steps" if report.breakdown_steps > 1 else "1 step"
    if not report.recorded:
        return f"Where a step's time went: {duration(total)}, {steps}; no profiler recorded what ran"
    window = "the window" if report.windows == 1 else f"the {report.windows} windows"
    return f"Where a step's time went, inside {window}: {duration(total)}, {steps}"


def _words(name: str) -> str:
    return name.replace("_", " ")


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of a table beside the names. Where it gets narrow, the one of the lowest `rank` goes first."""

    title: str
    cells: list[str]
    rank: int
    is_text: bool = False

    @property
    def width(self) -> int:
        """In cells, with its distance from the column before."""
        return 2 + max(map(cells.width, (self.title, *self.cells)))

    def row(self, index: int) -> str:
        """The title for −1, else a cell, padded."""
        text = self.title if index < 0 else self.cells[index]
        return "  " + (cells.left if self.is_text else cells.right)(text, self.width - 2)


def _classes(report: Report, width: int, paint: Paint, top: int) -> list[str]:
    """The classes of operators that took the most time, and how much time has no class."""
    classes = [row for row in report.operator_classes if row.self_ns or row.device_ns]
    if not classes or not report.recorded:
        return []
    shown = classes[:top]
    columns = [
        _Column("calls", [f"{row.calls:,}" for row in shown], 1),
        _Column("self ms", _milliseconds([row.self_ns for row in shown]), 3),
        _Column("self %", [percent(row.self_share or 0) for row in shown], 4),
    ]
    if report.unclassified_device_share is not None:
        columns += [
            _Column("device ms", _milliseconds([row.device_ns for row in shown]), 5),
            _Column("device %", [percent(row.device_share or 0) for row in shown], 6),
        ]
    names = [cells.clean(row.op_class or "no class") for row in shown]
    title = f"Operators by class, {len(shown)} of {len(classes)}; without a class {_unclassified(report)}"
    return [*cells.wrap(title, width), *_table("class", names, columns, width, paint)]


def _unclassified(report: Report) -> str:
    """How much of the operators' and of the devices' time has no class."""
    shares = {"self time": report.unclassified_share, "device time": report.unclassified_device_share}
    known = [f"{percent(share)} of {what}" for what, share in shares.items() if share is not None]
    return " and ".join(known)


def _operators(report: Report, width: int, paint: Paint, top: int, by_shape: bool) -> list[str]:
    """The operators with the largest self time on the host."""
    all_operators = report.operators_by_shape if by_shape else report.operators
    operators = [operator for operator in all_operators[:top] if operator.self_ns]
    total = sum(operator.self_ns for operator in report.operators)
    if not operators or not total or not report.recorded:
        return []
    columns = [
        _Column("class", [_class(operator) for operator in operators], 1, is_text=True),
        _Column("calls", [f"{operator.calls:,}" for operator in operators], 3),
        _Column("self ms", _milliseconds([operator.self_ns for operator in operators]), 6),
        _Column("self %", [percent(operator.self_ns / total) for operator in operators], 5),
        _Column("total ms", _milliseconds([operator.total_ns for operator in operators]), 2),
    ]
    if report.kernels:
        columns.append(_Column("device ms", _milliseconds([o.device_ns for o in operators]), 4))
    names = [_name(operator) for operator in operators]
    title = f"Operators on the host by self time, {_of_all(operators, report, by_shape)}"
    return [*cells.wrap(title, width), *_table("name", names, columns, width, paint)]


def _of_all(shown: Sequence[Operator], report: Report, by_shape: bool) -> str:
    if by_shape:
        return f"{len(shown)} of {len(report.operators_by_shape):,} by name and shapes"
    return f"{len(shown)} of {len(report.operators):,}"


def _device_work(kernels: list[Operator], width: int, paint: Paint, top: int) -> list[str]:
    """The kernels and copies with the largest total time on the device."""
    shown, total = kernels[:top], sum(kernel.total_ns for kernel in kernels)
    if not shown or not total:
        return []
    columns = [
        _Column("class", [_class(kernel) for kernel in shown], 0, is_text=True),
        _Column("calls", [f"{kernel.calls:,}" for kernel in shown], 1),
        _Column("device ms", _milliseconds([kernel.total_ns for kernel in shown]), 3),
        _Column("device %", [percent(kernel.total_ns / total) for kernel in shown], 2),
    ]
    title = f"Work on the device by time, {len(shown)} of {len(kernels):,}"
    names = [_name(kernel) for kernel in shown]
    return [*cells.wrap(title, width), *_table("name", names, columns, width, paint)]


def _table(title: str, names: Sequence[str], columns: Sequence[_Column], width: int, paint: Paint) -> list[str]:
    """Names and columns below their titles; names are truncated, columns left out where there is no room."""
    kept = list(columns)
    while kept and width - sum(column.width for column in kept) < NAME_CELLS:
        kept.remove(min(kept, key=lambda column: column.rank))
    room = width - sum(column.width for column in kept)
    room = min(room, max(map(cells.width, (title, *names))))
    rows = [
        cells.left(name, room) + "".join(column.row(index) for column in kept)
        for index, name in enumerate((title, *names), start=-1)
    ]
    return [paint(rows[0], UNDERLINED), *(row.rstrip() for row in rows[1:])]


def _name(operator: Operator) -> str:
    name = cells.clean(operator.name) or "(no name)"
    return f"{cells.left(name, NAME_CELLS)} {cells.clean(operator.shapes)}" if operator.shapes else name


def _class(operator: Operator) -> str:
    return cells.clean(operator.op_class or _words(operator.kind))


def _milliseconds(times_ns: Sequence[float]) -> list[str]:
    """A column of times, with as many decimals as its largest needs for three digits."""
    largest = max(times_ns, default=0) / 1e6
    decimals = 3 if largest < 1 else 2 if largest < 100 else 1 if largest < 10_000 else 0
    return [f"{time_ns / 1e6:,.{decimals}f}" for time_ns in times_ns]


def _facts(report: Report, width: int, paint: Paint) -> list[str]:
    """What the verdict rests on: distributions, data, memory, system, cost; each with its unit."""
    facts = {
        "step": _step_items(report.step_time_ns),
        "measured": [report.measured_on] if report.step_time_ns else [],
        "data": _wait_items(report.wait),
        "memory": _memory_items(report.memory.devices),
        "system": _system_items(report.counters),
        "overhead": _overhead_items(report),
    }
    label_cells = max(map(len, facts)) + 2
    lines = []
    for label, items in facts.items():
        flowed = cells.flow((cells.clean(item) for item in items), " · ", width - label_cells)
        lines += [paint(f"{'' if index else label:{label_cells}}", DIM) + line for index, line in enumerate(flowed)]
    return lines


def _step_items(step: StepTime | None) -> list[str]:
    if step is None:
        return []
    if step.mean == step.max:
        return [duration(step.mean)]
    return [f"mean {duration(step.mean)}", *_spread(step.p50, step.p95, step.max)]


def _spread(p50: float, p95: float, largest: float) -> list[str]:
    return [f"p50 {duration(p50)}", f"p95 {duration(p95)}", f"max {duration(largest)}"]


def _wait_items(wait: Wait | None) -> list[str]:
    if wait is None:
        return []
    items = [counted(wait.batches, "batch")] if wait.batches else []
    if not wait.max_ns:
        items.append("no wait for data was seen")
    elif wait.mean_ns == wait.max_ns:
        items.append(f"wait per step {duration(wait.mean_ns)}")
    else:
        items += ["wait per step " + ", ".join(_spread(wait.p50_ns, wait.p95_ns, wait.max_ns))]
    if wait.hidden_ns:
        items.append(f"on average {duration(wait.hidden_ns)} of it behind other work")
    if wait.startup_ns:
        items.append(f"start-up {duration(wait.startup_ns)} in all")
    return items


def _memory_items(devices: Sequence[DeviceMemory]) -> list[str]:
    """The peak of each device inside the window, the largest first."""
    used = sorted((d for d in devices if d.peak_bytes), key=lambda device: -device.peak_bytes)
    return ["peak inside the window", *map(_peak, used)] if used else []


def _peak(device: DeviceMemory) -> str:
    reserved = f" of {size(device.reserved_bytes)} reserved" if device.reserved_bytes else ""
    return f"{device.device} {size(device.peak_bytes)}{reserved}"


def _system_items(counters: dict[str, dict[str, float]]) -> list[str]:
    items = []
    if cpu := counters.get("cpu_percent"):
        items.append(f"CPU mean {cpu['mean']:.0f} %, max {cpu['max']:.0f} % (100 % is one core)")
    if memory := counters.get("resident_memory_bytes"):
        items.append(f"resident memory max {size(memory['max'])}")
    return items


def _overhead_items(report: Report) -> list[str]:
    """The cost in absolute terms; the header has it in relation to the step."""
    cost = report.overhead
    items = []
    if cost.outside_ns_per_step is not None:
        items.append(f"{duration(cost.outside_ns_per_step)} per step outside the window")
    if cost.inside_ratio is not None and cost.inside_spread is not None:
        items.append(f"steps inside take {cost.inside_ratio:.2f}× (± {cost.inside_spread:.2f}) as long")
    if cost.window_close_ns is not None:
        items.append(f"{duration(cost.window_close_ns)} to stop the profiler and write its file")
    return items


def _notes(report: Report, width: int, paint: Paint) -> list[str]:
    """Everything that was lost, repaired or not measured."""
    notes = [cells.clean(note) for note in report.notes]
    notes += [f"dropped: {count:,} {cells.clean(what)}" for what, count in report.dropped.items()]
    notes += [f"repaired: {count:,} {cells.clean(what)}" for what, count in report.repaired.items()]
    return [line for note in notes for line in _hanging("note  ", note, width)]


def _hanging(mark: str, text: str, width: int) -> list[str]:
    """Wrapped text behind a mark, the following lines below its beginning."""
    lines = cells.wrap(text, width - len(mark))
    return [(" " * len(mark) if index else mark) + line for index, line in enumerate(lines)]


def _command(run_folder: Path | str | None, paint: Paint) -> list[str]:
    """What opens the run in TensorBoard, ready to be copied."""
    if run_folder is None:
        return []
    logdir = _log_folder(run_folder)
    return [paint(f"tensorboard --logdir {cells.clean(shlex.quote(logdir))}", BOLD)]


def _log_folder(run: Path | str) -> str:
    """Of a run's folder, relative where that is shorter; or of its URL."""
    if isinstance(run, str):
        return run.rpartition("/")[0]
    logdir, here = run.resolve().parent, Path.cwd()
    return str(logdir.relative_to(here) if logdir.is_relative_to(here) else logdir)
