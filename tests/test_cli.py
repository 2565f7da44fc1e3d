"""The commands as users call them: output, exit codes, and what documentation promises."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from profkit import plugins
from profkit.analysis import report as report_module
from profkit.analysis.breakdown import CLASSES
from profkit.analysis.findings import CAUSES
from profkit.analysis.report import Report
from profkit.cli import report as report_command
from profkit.cli.main import main, parser
from profkit.cli.run import as_text, schedule
from profkit.cli.terminal import Terminal
from profkit.schedule import Schedule
from tests.corpus import CORPUS, RESNET_4, SLOW, needs_corpus
from tests.needs import needs
from tests.traces import op, step, wait, written

DOCS = Path(__file__).resolve().parents[1] / "docs"
PROFKIT = [sys.executable, "-m", "profkit"]

LOOK_AROUND = """
import sys
print(sys.argv[1:], __name__, flush=True)
heavy = {"polars", "numpy", "rich", "psutil", "tensorboard", "torch"} & set(sys.modules)
print(sorted(heavy))
"""


@pytest.fixture
def slow_input(tmp_path: Path) -> Path:
    """A trace of six steps that wait nine tenths of their time."""
    events = []
    for number in range(6):
        begin = number * 1000.0
        events += [step(number, begin, 1000), wait(begin, 900), op("aten::mm", begin + 900, 90)]
    return written(tmp_path, events)


@pytest.fixture
def healthy(tmp_path: Path) -> Path:
    """A trace of six steps that never wait."""
    events = []
    for number in range(6):
        events += [step(number, number * 1000.0, 1000), op("aten::mm", number * 1000.0 + 5, 990)]
    return written(tmp_path, events)


def profkit(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run([*PROFKIT, *arguments], cwd=folder, capture_output=True, text=True, check=False)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a refused command says: one sentence, exit code 2, nothing on stdout."""
    assert main(arguments) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"profkit: [^\n]+\n", told.err)
    return told.err


def test_report_prints_the_verdict(slow_input: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(slow_input), "--width", "80"]) == 0
    out = capsys.readouterr().out
    assert "Input-bound: 90 % of each step waits for data" in out
    assert max(map(len, out.splitlines())) <= 80


def test_report_as_json_is_one_report(slow_input: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(slow_input), "--json"]) == 0
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    report = msgspec.json.decode(out, type=Report)
    assert [finding.cause for finding in report.findings] == ["input_bound"]


def test_a_finding_fails_the_command_only_where_that_was_asked(slow_input: Path) -> None:
    assert main(["report", str(slow_input)]) == 0
    assert main(["report", str(slow_input), "--fail-on-finding"]) == 1


def test_a_healthy_trace_never_fails_the_command(healthy: Path) -> None:
    assert main(["report", str(healthy), "--fail-on-finding"]) == 0


@needs_corpus
@pytest.mark.parametrize(("trace", "code"), [(SLOW, 1), (RESNET_4, 0)])
def test_recorded_traces_are_judged_as_their_known_answer_says(trace: str, code: int) -> None:
    assert main(["report", str(CORPUS / trace), "--fail-on-finding"]) == code


def test_a_path_that_is_not_there_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "does not exist" in refused(capsys, "report", str(tmp_path / "nothing"))


@pytest.mark.parametrize(
    "content", [b"", b"\x00\x01\x02 no trace", b"\x1f\x8b\x08 no gzip", b"{}", b'{"traceEvents": 7}']
)
def test_a_file_that_is_no_trace_is_said_in_one_sentence(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    assert str(path) in refused(capsys, "report", str(path))


def test_a_folder_without_a_run_is_said_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no profkit run" in refused(capsys, "report", str(tmp_path))


def test_a_bad_file_is_refused_with_json_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    refused(capsys, "report", str(tmp_path / "nothing"), "--json")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["reprot"],
        ["report"],
        ["report", "x", "--top", "0"],
        ["report", "x", "--width", "wide"],
        ["export", "x"],
        ["run"],
        ["run", "-m"],
        ["run", "--schedule", "actve=3", "train.py"],
        ["run", "--schedule", "active=0", "train.py"],
        ["run", "nothing_of_that_name.py"],
        ["run", "-m", "nothing_of_that_name"],
    ],
)
def test_usage_that_cannot_be_meant_is_refused_in_one_sentence(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    refused(capsys, *arguments)


def test_an_unknown_exporter_is_refused_with_the_names_there_are(
    slow_input: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, "export", str(slow_input), "--to", "xml")
    assert ", ".join(plugins.names(plugins.EXPORTERS)) in told


def test_a_folder_that_cannot_be_made_is_said_in_one_sentence(
    slow_input: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = refused(capsys, "export", str(slow_input), "--to", "chrome", "--output", str(slow_input / "below"))
    assert str(slow_input / "below") in told


def test_an_interrupted_command_exits_with_130(slow_input: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(report_command, "judged", interrupted)
    assert main(["report", str(slow_input)]) == 130


def test_a_reader_that_has_gone_is_no_error(slow_input: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    program = "import sys; from profkit.cli.main import main; sys.exit(main())"
    with os.fdopen(write, "wb") as gone:
        done = subprocess.run(
            [sys.executable, "-c", program, "report", str(slow_input), "--fail-on-finding"],
            stdout=gone,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, b"")


def test_export_of_a_file_writes_to_the_current_folder(
    slow_input: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export", str(slow_input), "--to", "chrome"]) == 0
    files = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert files
    assert all(file.is_file() and file.is_relative_to(tmp_path) for file in files)


def test_export_makes_its_folder_and_lists_its_files_as_json(
    slow_input: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "folder"
    arguments = ["export", str(slow_input), "--to", "chrome", "--to", "torch_tb", "--output", str(folder), "--json"]
    assert main(arguments) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert set(files) == {"chrome", "torch_tb"}
    assert {Path(file) for paths in files.values() for file in paths} == {f for f in folder.rglob("*") if f.is_file()}


def test_help_names_every_command_and_the_exporters(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, expected in (
        (["--help"], ["run", "report", "export", "doctor"]),
        (["export", "-h"], plugins.names(plugins.EXPORTERS)),
    ):
        with pytest.raises(SystemExit) as left:
            main(arguments)
        assert left.value.code == 0
        out = capsys.readouterr().out
        assert all(name in out for name in expected)


def test_help_loads_no_library(tmp_path: Path) -> None:
    program = """
import sys
from profkit.cli.main import parser
parser().format_help()
sys.exit(repr({"polars", "numpy", "rich", "psutil", "tensorboard", "torch", "msgspec"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.stderr.strip() == "set()"


def test_run_gives_everything_behind_the_script_to_it_and_loads_no_library(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(LOOK_AROUND)
    done = profkit("run", "--no-sidecar", "--quiet", "train.py", "--help", "-m", "--json", "--", "x", folder=tmp_path)
    assert done.stdout.splitlines() == ["['--help', '-m', '--json', '--', 'x'] __main__", "[]"]
    assert done.returncode == 0, done.stderr


def test_run_gives_everything_behind_the_module_to_it(tmp_path: Path) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__main__.py").write_text(LOOK_AROUND)
    done = profkit("run", "--no-sidecar", "--quiet", "-m", "package", "--logdir", "x", "y.py", folder=tmp_path)
    assert done.stdout.splitlines()[0] == "['--logdir', 'x', 'y.py'] __main__"
    assert (tmp_path / "runs").is_dir()


def test_run_exits_as_its_program_does(tmp_path: Path) -> None:
    (tmp_path / "leave.py").write_text("import sys; sys.exit(7)")
    assert main_exit(tmp_path, "leave.py") == 7


def test_an_error_of_the_program_is_its_own(tmp_path: Path) -> None:
    """Also where it is of a kind that profkit's own failures have."""
    (tmp_path / "fail.py").write_text("import profkit.errors\nraise profkit.errors.UsageError('mine')")
    (tmp_path / "miss.py").write_text("open('nothing')")
    for script, kind in (("fail.py", "profkit.errors.UsageError: mine"), ("miss.py", "FileNotFoundError")):
        done = profkit("run", "--no-sidecar", "--quiet", script, folder=tmp_path)
        assert done.returncode == 1
        assert "Traceback" in done.stderr
        assert kind in done.stderr


def main_exit(folder: Path, script: str) -> int:
    """Exit code of the command around a script, through the function the console script calls."""
    program = "import sys; from profkit.cli.main import main; sys.exit(main())"
    arguments = [sys.executable, "-c", program, "run", "--no-sidecar", "--quiet", script]
    return subprocess.run(arguments, cwd=folder, capture_output=True, check=False).returncode


TRAIN = """
import torch
model = torch.nn.Linear(8, 8)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
print("training", flush=True)
for _ in range(6):
    model(torch.ones(2, 8)).sum().backward()
    optimizer.step()
"""


@needs("torch")
def test_run_with_json_ends_with_the_report_of_that_run(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text(TRAIN)
    counts = "skip_first=1,warmup=1,active=2"
    done = profkit("run", "--no-sidecar", "--quiet", "--schedule", counts, "--json", "train.py", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    first, last = done.stdout.splitlines()
    report = msgspec.json.decode(last, type=Report)
    assert first == "training"
    assert (report.state, report.steps, len(report.window_steps), report.schedule) == (
        "finished",
        6,
        2,
        [1, 0, 1, 2, 1],
    )
    assert list(report.frameworks) == ["torch"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("active=10", Schedule(active=10)),
        ("skip_first=0, warmup=1", Schedule(skip_first=0, warmup=1)),
        (as_text(Schedule(1, 2, 3, 4, 0)), Schedule(1, 2, 3, 4, 0)),
    ],
)
def test_a_schedule_names_the_counts_that_differ(text: str, expected: Schedule) -> None:
    assert schedule(text) == expected


def test_colour_and_bars_follow_the_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(controller), os.fdopen(terminal, "w", encoding="utf-8") as stream:
        assert Terminal.of(stream, 80) == Terminal(80, colour=True, unicode=True)
        monkeypatch.setenv("NO_COLOR", "1")
        assert not Terminal.of(stream).colour
    with (tmp_path / "file").open("w", encoding="ascii") as file:
        assert Terminal.of(file, 80) == Terminal(80, colour=False, unicode=False)


@pytest.mark.parametrize(("asked", "given"), [(10, 40), (80, 80), (999, 200)])
def test_lines_are_between_40_and_200_cells(asked: int, given: int) -> None:
    assert Terminal.of(sys.stdout, asked).width == given


def documented(heading: str) -> list[str]:
    """The first column of the table below a heading of docs/report.md."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", (DOCS / "report.md").read_text(), re.M | re.S)
    assert section, f"docs/report.md has no section {heading}"
    return re.findall(r"^\| `(\w+)` \|", section[1], re.M)


def structs() -> list[type[msgspec.Struct]]:
    """The structs a report is made of."""
    return [
        value
        for value in vars(report_module).values()
        if isinstance(value, type) and issubclass(value, msgspec.Struct) and value is not msgspec.Struct
    ]


@pytest.mark.parametrize("struct", structs(), ids=lambda struct: struct.__name__)
def test_the_json_contract_documents_every_field_in_its_order(struct: type[msgspec.Struct]) -> None:
    fields = [field.encode_name for field in msgspec.structs.fields(struct)]
    assert documented(struct.__name__) == fields


def test_the_json_contract_documents_every_class_and_every_cause() -> None:
    assert documented("Classes") == list(CLASSES)
    assert documented("Causes") == list(CAUSES)


def test_every_option_of_every_command_is_documented() -> None:
    text = (DOCS / "cli.md").read_text()
    commands = next(a for a in parser()._actions if isinstance(a, argparse._SubParsersAction))
    for name, command in commands.choices.items():
        section = re.search(rf"^## profkit {name}\n(.*?)(?=^## |\Z)", text, re.M | re.S)
        assert section, f"docs/cli.md has no section on {name}"
        options = {o for a in command._actions for o in a.option_strings} - {"-h", "--help"}
        assert options == set(re.findall(r"^\| `(--?[\w-]+)", section[1], re.M))
