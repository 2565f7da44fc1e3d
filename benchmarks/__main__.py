"""Run the benchmarks and print one table after the other: `python -m benchmarks [--quick] [--json FILE] [NAME ...]`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from benchmarks import importing, large, loading, page, ranks, reading, recording, watching, whatif, xplane
from benchmarks.outcome import Outcome, outcome_text

BENCHMARKS: dict[str, Callable[[bool], Outcome]] = {
    "importing": importing.run,
    "recording": recording.run,
    "loading": loading.run,
    "reading": reading.run,
    "large": large.run,
    "xplane": xplane.run,
    "page": page.run,
    "watching": watching.run,
    "whatif": whatif.run,
    "ranks": ranks.run,
}
PACKAGES = (
    "profkit",
    "polars",
    "msgspec",
    "protobuf",
    "torch",
    "tensorflow-cpu",
    "jax",
    "distributed",
    "traceinsight",
    "torch-tb-profiler",
    "pysimdjson",
    "traceml-ai",
)


def main() -> None:
    arguments = _arguments()
    machine = _machine()
    print(" · ".join(f"{name} {value}" for name, value in machine.items()), "\n")
    if arguments.check:
        found = reading.checked()
        print(outcome_text(found))
        raise SystemExit(any(target.met is False for target in found.targets))
    outcomes = []
    for name in arguments.names or BENCHMARKS:
        outcomes.append(BENCHMARKS[name](arguments.quick))
        print(outcome_text(outcomes[-1]), "\n", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": machine} | _for_machines(outcomes), indent=1))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; all by default")
    parser.add_argument("--quick", action="store_true", help="few rounds and small files: under a minute")
    parser.add_argument("--check", action="store_true", help="only whether ratios of reading fell; ends with 1 if so")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write every figure")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS)}")
    return arguments


def _machine() -> dict[str, str]:
    """Versions and the machine: without them no figure means anything."""
    machine = {"cores": str(os.cpu_count()), "Python": platform.python_version()}
    return machine | {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "missing"


def _for_machines(outcomes: list[Outcome]) -> dict[str, object]:
    return {
        outcome.name: {
            "figures": outcome.figures,
            "targets": [dataclasses.asdict(target) | {"verdict": target.verdict} for target in outcome.targets],
        }
        for outcome in outcomes
    }


if __name__ == "__main__":
    main()
