"""Profile the PyTorch sample, do what the verdict says, and compare what was promised with what came.

python samples/followed_advice.py
"""

import subprocess
import sys
from pathlib import Path

from digits import arguments

import profkit
from profkit.analysis.report import Report
from profkit.analysis.summary import report
from profkit.analysis.whatif import knee

SAMPLE = Path(__file__).with_name("pytorch_digits.py")


def trained(logdir: Path, data: Path, epochs: int, workers: int) -> Report:
    """What profkit says of the sample trained with this many workers."""
    options = {"--logdir": logdir / f"workers={workers}", "--data": data, "--epochs": epochs, "--workers": workers}
    command = [sys.executable, str(SAMPLE), *(str(part) for option in options.items() for part in option)]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return report(profkit.load(logdir / f"workers={workers}"))


def step_ms(found: Report) -> float:
    """The mean step in milliseconds."""
    assert found.step_time_ns is not None
    return found.step_time_ns.mean / 1e6


def main() -> None:
    """Two trainings, and one line of comparison."""
    args = arguments(str(__doc__), "runs/advice")
    before = trained(Path(args.logdir), args.data, args.epochs, workers=0)
    print(before.headline)
    finding, inside = before.findings[0], before.loading
    assert inside is not None and finding.predicted_speedup is not None
    advised = int(knee([p for p in inside.predictions if p.kind == "workers"]).settings["num_workers"])
    print(f"advice: {finding.remedy}")
    after = trained(Path(args.logdir), args.data, args.epochs, workers=advised)
    print(after.headline)
    print(
        f"num_workers={advised}: {step_ms(before):.1f} ms a step became {step_ms(after):.1f} ms: "
        f"predicted {finding.predicted_speedup:.2f} times as fast, measured {step_ms(before) / step_ms(after):.2f}"
    )


if __name__ == "__main__":
    main()
