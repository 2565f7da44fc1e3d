"""What `profkit doctor` says about a machine, and whether it says that a run can be recorded."""

from __future__ import annotations

import json
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from profkit import plugins
from profkit.cli import cells, doctor
from profkit.cli.doctor import LIMITED, MISSING, OK, Check
from profkit.cli.main import main
from profkit.cli.terminal import Terminal
from profkit.errors import MissingDependency
from tests.needs import needs

NARROW = Terminal(width=60, colour=False, unicode=True)


def examined(
    logdir: Path, monkeypatch: pytest.MonkeyPatch, answer: str = '{"activities": ["CPU"], "devices": []}'
) -> list[Check]:
    """All checks, with torch's answer given."""
    monkeypatch.setattr(doctor, "_ASK_TORCH", f"print({answer!r})")
    return doctor.examined(logdir)


def test_every_installed_plugin_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks = examined(tmp_path, monkeypatch)
    for area in ("hooks", "readers", "exporters", "sinks"):
        assert [check.name for check in checks if check.area == area] == plugins.names(f"profkit.{area}")


def test_every_library_profkit_requires_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    names = {check.name for check in examined(tmp_path, monkeypatch) if check.area == "libraries"}
    assert {"msgspec", "numpy", "polars", "psutil", "rich", "tensorboard"} <= names


def test_exit_code_is_0_where_a_run_can_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_ASK_TORCH", 'print(\'{"activities": ["CPU"], "devices": []}\')')
    assert main(["doctor", "--logdir", str(tmp_path / "new" / "runs")]) == 0
    assert "A run can be recorded here." in capsys.readouterr().out
    assert not (tmp_path / "new").exists()


def test_exit_code_is_2_where_the_log_folder_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_ASK_TORCH", 'print(\'{"activities": ["CPU"], "devices": []}\')')
    file = tmp_path / "file"
    file.touch()
    assert main(["doctor", "--json", "--logdir", str(file / "runs")]) == 2
    told = json.loads(capsys.readouterr().out)
    assert told["can_record"] is False
    assert [check["name"] for check in told["checks"] if check["needed"] and check["state"] == MISSING] == [
        "log folder"
    ]


@needs("torch")
def test_json_holds_each_check_with_its_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(doctor, "_ASK_TORCH", "raise SystemExit('broken')")
    assert main(["doctor", "--json", "--logdir", str(tmp_path)]) == 0
    told = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert told["CPU operators"]["state"] == LIMITED
    assert "broken" in told["CPU operators"]["detail"]
    assert told["CPU operators"]["remedy"]


def test_a_missing_library_is_named_with_the_command_that_installs_it() -> None:
    check = doctor.dependency_check("no-such-library", "no-such-library>=3")
    assert (check.state, check.remedy, check.needed) == (MISSING, "pip install 'no-such-library>=3'", True)


def test_a_library_that_is_too_old_counts_as_missing() -> None:
    assert doctor.dependency_check("msgspec", "msgspec>=999").state == MISSING
    assert doctor.dependency_check("msgspec", "msgspec>=0.1").state == OK


@pytest.mark.parametrize(
    ("installed", "requirement", "older"),
    [
        ("2.13.0+cpu", "torch>=2.4", False),
        ("2.3.1", "torch>=2.4", True),
        ("2.4rc1", "torch>=2.4", False),
        ("2.20.0", "tensorboard<3,>=2.21", True),
        ("1.0", "msgspec", False),
    ],
)
def test_versions_are_compared_by_their_numbers(installed: str, requirement: str, older: bool) -> None:
    assert doctor.is_older(installed, requirement) is older


def hook(name: str) -> EntryPoint:
    return EntryPoint(name, "somewhere:Hook", plugins.HOOKS)


@needs("torch")
def test_a_hook_whose_framework_is_installed_can_be_attached() -> None:
    check = doctor.hook_check(hook("pytorch"), "torch")
    assert check.state == OK
    assert "attached once torch is imported" in check.detail


@needs("tensorflow")
def test_tensorflow_is_known_by_whatever_distribution_holds_it() -> None:
    version = doctor.framework_version("tensorflow")
    assert version is not None
    assert version[0].isdigit()


def test_a_hook_without_its_framework_says_how_to_get_it() -> None:
    check = doctor.hook_check(hook("other"), "no_such_framework.data")
    assert (check.state, check.remedy) == (MISSING, "pip install 'no_such_framework'")


def test_the_remedy_for_torch_is_the_extra_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert doctor.hook_check(hook("dataloader"), "torch.utils.data").remedy == "pip install 'profkit[pytorch]'"


def test_a_plugin_that_cannot_be_loaded_is_reported_and_not_raised() -> None:
    def lacks_library() -> object:
        raise MissingDependency("needs x; run: pip install x")

    def is_broken() -> object:
        raise RuntimeError("boom")

    assert doctor.plugin_check("exporters", "a", lacks_library).state == MISSING
    broken = doctor.plugin_check("exporters", "b", is_broken)
    assert broken.state == LIMITED
    assert "RuntimeError: boom" in broken.detail


def test_a_gpu_that_torch_sees_and_can_record_is_named() -> None:
    checks = doctor.torch_checks({"activities": ["CPU", "CUDA"], "devices": ["NVIDIA H100"]})
    assert [(check.name, check.state) for check in checks] == [("CPU operators", OK), ("GPU kernels", OK)]
    assert "NVIDIA H100" in checks[1].detail


def test_a_gpu_whose_kernels_torch_cannot_record_is_a_limit_with_a_remedy() -> None:
    gpu = doctor.torch_checks({"activities": ["CPU"], "devices": ["NVIDIA H100"]})[1]
    assert gpu.state == LIMITED
    assert gpu.remedy


def test_a_gpu_that_torch_does_not_see_is_told_from_no_gpu(tmp_path: Path) -> None:
    assert doctor.gpu_unseen_check(tmp_path).state == MISSING
    (tmp_path / "nvidia0").touch()
    assert doctor.gpu_unseen_check(tmp_path).state == LIMITED


def test_torch_is_asked_in_a_process_of_its_own_and_not_for_ever() -> None:
    assert doctor.asked([sys.executable, "-c", "print('noise'); print('{\"devices\": []}')"]) == {"devices": []}
    assert doctor.asked([sys.executable, "-c", "raise SystemExit('no libcudart')"]) == "no libcudart"
    assert "longer than" in str(doctor.asked([sys.executable, "-c", "input()"], timeout_s=0))
    assert isinstance(doctor.asked([sys.executable, "-c", ""]), str)


@pytest.mark.parametrize(("system", "state"), [("linux", OK), ("darwin", LIMITED), ("win32", MISSING)])
def test_elsewhere_than_on_linux_what_cannot_be_had_is_said(system: str, state: str) -> None:
    check = doctor.platform_check(system)
    assert (check.state, check.needed) == (state, True)
    assert bool(check.remedy) == (state != OK)


@pytest.mark.parametrize(("level", "state"), [("2\n", OK), ("-1\n", OK), ("4\n", LIMITED), ("x", LIMITED)])
def test_hardware_counters_follow_the_kernels_setting(tmp_path: Path, level: str, state: str) -> None:
    setting = tmp_path / "perf_event_paranoid"
    setting.write_text(level)
    assert doctor.perf_check(setting).state == state


def test_a_kernel_without_autogroups_is_fine(tmp_path: Path) -> None:
    assert doctor.autogroup_check(tmp_path / "autogroup").state == OK


def test_each_remedy_stands_below_what_it_mends_and_no_line_is_too_wide() -> None:
    check = Check("folders", "log folder", LIMITED, "a long detail " * 10, "make some room")
    text = doctor.as_text([check], True, NARROW)
    assert text.index("limited") < text.index("→ make some room")
    assert all(cells.width(line) <= NARROW.width for line in text.splitlines())


def test_a_terminal_without_unicode_gets_ascii() -> None:
    check = Check("folders", "log folder", LIMITED, "…", "make some room")
    assert doctor.as_text([check], True, Terminal(60, False, unicode=False)).isascii()
