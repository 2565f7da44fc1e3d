"""Reading a trace file: profkit's load, all analyses and Parquet, beside its peers' load alone and the bare parse."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.measuring import CORPUS, Failed, Figures, Spread, in_fresh_process, ratio
from benchmarks.outcome import Outcome, Table, Target

FILES = {
    "owlv2": "AMD-AGI+TraceLens/tests/traces/h100/google_owlv2-large-patch14-ensemble__1016001.json.gz",
    "resnet50": "pytorch+kineto/tb_plugin/samples/resnet50_num_workers_0/worker0.1623143089861.pt.trace.json.gz",
    "trace_diff": "facebookresearch+HolisticTraceAnalysis/tests/data/trace_diff/test/test.json.gz",
    "mtia": "facebookresearch+HolisticTraceAnalysis/tests/data/mtia_trace_single_rank/mtia_rank_0.json.gz",
    "xdit_flux": "AMD-AGI+TraceLens/tests/traces/inference/xdit_flux.1_aiter_sage/profile_trace_rank_0.json.gz",
}
QUICK_FILES = ("resnet50", "trace_diff")
ROUNDS, QUICK_ROUNDS = 5, 1

# What `--check` compares: ratios of one file with those in RECORDED. Of 3 rounds on a machine with other work the
# median strays by a third; what got slower by two thirds is found.
CHECK_FILE, CHECK_ROUNDS, MARGIN = "trace_diff", 3, 0.4
CHECK_CONTESTANTS = ("profkit", "hta", "torch_tb", "gunzip_simdjson", "simdjson")
RECORDED = Path(__file__).with_name("reading_ratios.json")

ROWS = {
    "profkit": "profkit: load + analyses + Parquet",
    "profkit_threads": "profkit, as many threads as cores",
    "hta": "HolisticTraceAnalysis: load",
    "torch_tb": "torch-tb-profiler: parse + process",
    "gunzip_simdjson": "gunzip + simdjson parse",
    "simdjson": "simdjson parse, decompressed bytes",
}
PEERS = ("hta", "torch_tb")  # may be unable to read a file
MB = 1e6


@dataclass(frozen=True, slots=True)
class Seen:
    """What every contestant did with one file: its figures by round, or why it failed."""

    file: str
    gz_bytes: int
    rounds: dict[str, list[Figures]]
    failures: dict[str, str]

    def values(self, contestant: str, figure: str) -> list[float]:
        return [figures[figure] for figures in self.rounds[contestant]]

    def spread(self, contestant: str, figure: str = "cpu_s") -> Spread:
        return Spread.of(self.values(contestant, figure))

    def times_profkit(self, contestant: str) -> Spread:
        """CPU time of a contestant over profkit's, round by round."""
        return ratio(self.values(contestant, "cpu_s"), self.values("profkit", "cpu_s"))

    def times_parse(self, parse: str) -> Spread:
        """CPU time of profkit over that of a bare parse, round by round."""
        return ratio(self.values("profkit", "cpu_s"), self.values(parse, "cpu_s"))


def run(quick: bool) -> Outcome:
    """Compare on files of the corpus; where there is none, say so."""
    if not CORPUS.is_dir():
        return Outcome("reading", [Table("reading", [[f"not measured: there is no {CORPUS}"]])])
    names = QUICK_FILES if quick else tuple(FILES)
    seen = [compare(name, CORPUS / FILES[name], QUICK_ROUNDS if quick else ROUNDS) for name in names]
    return Outcome("reading", [*map(_file_table, seen), _disk_table(seen)], _targets(seen), _figures(seen))


def compare(name: str, path: Path, rounds: int, contestants: Sequence[str] = tuple(ROWS)) -> Seen:
    """Run the contestants in turn, `rounds` times. One that fails is not asked again."""
    measured: dict[str, list[Figures]] = defaultdict(list)
    failures: dict[str, str] = {}
    size = path.stat().st_size
    for _ in range(rounds):
        for contestant in contestants:
            if contestant in failures:
                continue
            try:
                measured[contestant].append(_measure(contestant, path))
            except Failed as failure:
                if contestant not in PEERS:
                    raise
                failures[contestant] = str(failure)
    return Seen(name, size, {who: figures for who, figures in measured.items() if who not in failures}, failures)


def _measure(contestant: str, path: Path) -> Figures:
    name = contestant.removesuffix("_threads")
    return in_fresh_process("contestants", name, str(path), one_thread=name == contestant)


def _file_table(seen: Seen) -> Table:
    events = int(seen.spread("profkit", "events").median)
    json_mb = seen.spread("simdjson", "json_bytes").median / MB
    head = ["", "CPU s", "wall s", "CPU / profkit's", "import CPU s", "peak MB", "of it after imports"]
    asked = [name for name in ROWS if name in seen.rounds or name in seen.failures]
    rows = [_row(seen, name) if name in seen.rounds else _failed_row(name, len(head)) for name in asked]
    parts = ", ".join(
        f"{part} {seen.spread('profkit', f'{part}_cpu_s').median:.3f}" for part in ("load", "analyses", "parquet")
    )
    notes = [f"profkit's CPU s: {parts}", *(f"{ROWS[n]} failed: {why[:140]}" for n, why in seen.failures.items())]
    return Table(f"reading {seen.file}: {json_mb:.1f} MB of JSON, {events:,} events", [head, *rows], notes)


def _row(seen: Seen, name: str) -> list[str]:
    peak, imported = seen.spread(name, "peak_bytes"), seen.spread(name, "import_peak_bytes")
    return [
        ROWS[name],
        seen.spread(name).text(digits=3),
        seen.spread(name, "wall_s").text(digits=3),
        "" if name == "profkit" else seen.times_profkit(name).text("×"),
        f"{seen.spread(name, 'import_cpu_s').median:.2f}",
        f"{peak.median / MB:.0f}",
        f"{(peak.median - imported.median) / MB:.0f}",
    ]


def _failed_row(name: str, width: int) -> list[str]:
    return [ROWS[name], "failed", *[""] * (width - 2)]


def _disk_table(seen: Sequence[Seen]) -> Table:
    head = ["", "gz JSON MB", "Parquet MB", "Parquet / gz JSON"]
    sizes = [(s.file, s.gz_bytes, s.spread("profkit", "disk_bytes").median) for s in seen]
    rows = [[name, f"{gz / MB:.2f}", f"{disk / MB:.2f}", f"{disk / gz:.2f}"] for name, gz, disk in sizes]
    return Table("size on disk", [head, *rows])


def _targets(seen: Sequence[Seen]) -> list[Target]:
    hta = [s for s in seen if "hta" in s.rounds]
    torch_tb = [s for s in seen if "torch_tb" in s.rounds]
    limit = "profkit at most 2.5 × simdjson's bare parse"
    return [
        _at_least("profkit 12 × faster than HolisticTraceAnalysis' load alone, CPU", 12, hta, "hta"),
        _at_least("profkit 18 × faster than torch-tb-profiler, CPU", 18, torch_tb, "torch_tb"),
        _at_most(f"{limit} of the same file (gzip: decompressing counts), CPU", 2.5, seen, "gunzip_simdjson"),
        _at_most(f"{limit} of bytes decompressed before (stricter), CPU", 2.5, seen, "simdjson"),
        _less_disk(seen),
        _less_memory(hta),
    ]


def _less_disk(seen: Sequence[Seen]) -> Target:
    ratios = {s.file: s.spread("profkit", "disk_bytes").median / s.gz_bytes for s in seen}
    return Target(
        "the trace on disk at most half of the gzipped file", _by_file(ratios, "×"), max(ratios.values()) <= 0.5
    )


def _at_least(bound: str, factor: float, seen: Sequence[Seen], peer: str) -> Target:
    ratios = {s.file: s.times_profkit(peer).median for s in seen}
    return Target(bound, _by_file(ratios, "×"), min(ratios.values()) >= factor if ratios else None)


def _at_most(bound: str, factor: float, seen: Sequence[Seen], parse: str) -> Target:
    ratios = {s.file: s.times_parse(parse).median for s in seen}
    return Target(bound, _by_file(ratios, "×"), max(ratios.values()) <= factor)


def _less_memory(seen: Sequence[Seen]) -> Target:
    """On the whole process and on what was added to the imports: both must be less."""
    ratios = {
        s.file: max(
            s.spread("profkit", "peak_bytes").median / s.spread("hta", "peak_bytes").median,
            _growth(s, "profkit") / _growth(s, "hta"),
        )
        for s in seen
    }
    bound = "profkit's peak memory below HolisticTraceAnalysis', with and without imports"
    return Target(bound, _by_file(ratios, "× its"), max(ratios.values()) < 1 if ratios else None)


def _growth(seen: Seen, name: str) -> float:
    return seen.spread(name, "peak_bytes").median - seen.spread(name, "import_peak_bytes").median


def _by_file(ratios: dict[str, float], unit: str) -> str:
    return ", ".join(f"{name} {value:.2f}{unit}" for name, value in ratios.items()) or "no file"


def checked(rounds: int = CHECK_ROUNDS) -> Outcome:
    """Whether the ratios on one file still are what they were recorded to be, less the margin of a noisy machine."""
    if not CORPUS.is_dir():
        return Outcome("reading", [Table("reading", [[f"not checked: there is no {CORPUS}"]])])
    recorded = json.loads(RECORDED.read_text())
    seen = compare(CHECK_FILE, CORPUS / FILES[CHECK_FILE], rounds, CHECK_CONTESTANTS)
    ratios = {peer: seen.times_profkit(peer).median for peer in PEERS}
    ratios["gunzip_simdjson"] = seen.times_parse("gunzip_simdjson").median
    targets = [_held(contestant, value, recorded[contestant]) for contestant, value in ratios.items()]
    return Outcome("reading", [_file_table(seen)], targets, {"ratios": ratios, "recorded": recorded})


def _held(contestant: str, seen: float, recorded: float) -> Target:
    """Peers have to stay as much slower than profkit as they were, the bare parse must not get further away."""
    if contestant in PEERS:
        least = recorded * (1 - MARGIN)
        return Target(f"{ROWS[contestant]} at least {least:.2f} × profkit", f"{seen:.2f} ×", seen >= least)
    most = recorded * (1 + MARGIN)
    return Target(f"profkit at most {most:.2f} × {ROWS[contestant]}", f"{seen:.2f} ×", seen <= most)


def _figures(seen: Sequence[Seen]) -> dict[str, object]:
    return {s.file: {"gz_bytes": s.gz_bytes, "rounds": s.rounds, "failures": s.failures} for s in seen}
