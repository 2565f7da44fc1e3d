"""Reading what TensorFlow's profiler writes at its finest level, beside protobuf's bare parse of the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.measuring import Failed, Spread, in_fresh_process
from benchmarks.outcome import Outcome, Table, Target

STEPS, QUICK_STEPS = 80, 20
PROCESSES, QUICK_PROCESSES = 5, 1
TURNS, QUICK_TURNS = 7, 3
LEAST_EVENTS = 150_000
PARSES, LIMIT_US = 2, 1.0  # a read may take two parses, and so much more for each event
MB = 1e6


@dataclass(frozen=True, slots=True)
class Seen:
    """Turns of all processes: each names its CPU seconds by contestant. `first` are those right behind the imports."""

    first: list[dict[str, float]]
    later: list[dict[str, float]]
    counts: dict[str, int]
    bytes: int

    @classmethod
    def of(cls, processes: Sequence[dict[str, Any]]) -> Seen:
        turns = [
            [dict(zip(p["seconds"], values, strict=True)) for values in zip(*p["seconds"].values(), strict=True)]
            for p in processes
        ]
        later = [turn for own in turns for turn in own[1:]]
        return cls([own[0] for own in turns], later, processes[0]["counts"], processes[0]["bytes"])

    def excess_us(self, turns: Sequence[dict[str, float]]) -> Spread:
        """What load and report take beyond the parses allowed, in microseconds of CPU for each event."""
        events = self.counts["events"]
        return Spread.of((t["load"] + t["report"] - PARSES * t["parse"]) * 1e6 / events for t in turns)


def run(quick: bool) -> Outcome:
    """Record a training, then read its file in fresh processes; without TensorFlow, say so."""
    with TemporaryDirectory() as folder:
        try:
            made = in_fresh_process("xplane_training", folder, str(QUICK_STEPS if quick else STEPS), one_thread=False)
        except Failed as failure:
            return Outcome("xplane", [Table("xplane", [[f"not measured: no file was recorded: {failure}"]])])
        seen = Seen.of(
            [
                in_fresh_process("xplane_contestants", made["file"], str(QUICK_TURNS if quick else TURNS))
                for _ in range(QUICK_PROCESSES if quick else PROCESSES)
            ]
        )
    figures: dict[str, object] = {"first": seen.first, "later": seen.later, "counts": seen.counts, "bytes": seen.bytes}
    return Outcome("xplane", [_table(seen)], _targets(seen), figures)


def _table(seen: Seen) -> Table:
    counts = seen.counts
    rows = [
        _row(seen, "protobuf: bare parse", ["parse"]),
        _row(seen, "profkit: load", ["load"]),
        _row(seen, "profkit: report", ["report"]),
        _row(seen, "profkit: load + report", ["load", "report"]),
    ]
    if all("profile_data" in turn for turn in seen.later):
        rows.append(_row(seen, "jax ProfileData: names and times", ["profile_data"]))
    return Table(
        f"reading XPlane of host level 3: {seen.bytes / MB:.1f} MB, {counts['steps']} steps, "
        f"{counts['events']:,} events, {counts['spans']:,} of them spans",
        [["", "CPU ms", "× bare parse", "µs / event"], *rows],
        [f"the first load + report of a process: {_ms(seen.first, ['load', 'report']).text(' ms', digits=0)}"],
    )


def _row(seen: Seen, title: str, parts: Sequence[str]) -> list[str]:
    times = _ms(seen.later, parts)
    parses = Spread.of(sum(turn[part] for part in parts) / turn["parse"] for turn in seen.later)
    return [title, times.text(digits=1), parses.text("×"), f"{times.median * 1e3 / seen.counts['events']:.2f}"]


def _ms(turns: Sequence[dict[str, float]], parts: Sequence[str]) -> Spread:
    return Spread.of(sum(turn[part] for part in parts) * 1e3 for turn in turns)


def _targets(seen: Seen) -> list[Target]:
    """One bound, on turns that find caches warm and on those that do not. A small file says nothing about it."""
    enough = seen.counts["events"] >= LEAST_EVENTS
    bound = f"load + report beyond {PARSES} × the bare parse at most {LIMIT_US:g} µs per event, CPU"
    judged = (("", seen.later), (", first in its process", seen.first))
    excesses = [(words, seen.excess_us(turns)) for words, turns in judged]
    return [
        Target(bound + words, excess.text(" µs"), excess.median <= LIMIT_US if enough else None)
        for words, excess in excesses
    ]
