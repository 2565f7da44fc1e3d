"""The one-screen text: what it says, and that it fits whatever terminal and whatever names."""

from __future__ import annotations

import re
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from profkit.analysis.report import (
    DeviceMemory,
    Fetch,
    Finding,
    Loading,
    LoadingStage,
    Memory,
    Operator,
    OperatorClass,
    Overhead,
    Report,
    StepRow,
    StepTime,
    Wait,
)
from profkit.cli import cells
from profkit.cli.text import PALETTE, verdict
from profkit.units import counted, duration, percent, ratio, size

MS = 1_000_000
ESCAPES = re.compile(r"\x1b\[[0-9;]*m")


def an_operator(name: str, self_ms: float = 1, **changes: Any) -> Operator:
    values = {"calls": 3, "total_ns": int(2 * self_ms * MS), "self_ns": int(self_ms * MS), "device_ns": 0}
    return Operator(**{"name": name, "op_class": "matmul", **values, **changes})


def a_finding(**changes: Any) -> Finding:
    values: dict[str, Any] = {
        "cause": "input_bound",
        "message": "Input-bound: 43 % of each step waits for data, 78 ms of 182 ms.",
        "remedy": "DataLoader(…, num_workers=5, persistent_workers=True).",
        "evidence": {},
        "predicted_speedup": 1.71,
        "confidence": "high",
    }
    return Finding(**{**values, **changes})


def a_report(**changes: Any) -> Report:
    """A finished run of 200 steps with a window of two."""
    breakdown = dict.fromkeys(PALETTE, 0) | {"data_wait": 78 * MS, "compute": 100 * MS, "unattributed": 4 * MS}
    row = StepRow(
        number=7, start_ns=0, duration_ns=182 * MS, breakdown_ns=breakdown, wait_ns=78 * MS, exposed_wait_ns=78 * MS
    )
    finding = a_finding()
    values: dict[str, Any] = {
        "name": "20260101T000000Z-abc123",
        "profkit": "0.1.0",
        "frameworks": {"torch": "2.13.0+cpu"},
        "state": "finished",
        "last_step": 199,
        "headline": finding.message,
        "steps": 200,
        "measured_on": "193 steps outside the recorded windows, all steady",
        "step_time_ns": StepTime(182e6, 180e6, 190e6, 210e6),
        "stall_share": 0.43,
        "wait": Wait(mean_ns=78e6, p50_ns=77e6, p95_ns=90e6, max_ns=120e6, share=0.43, exposed_ns=78e6, batches=201),
        "breakdown_ns": {name: float(time) for name, time in breakdown.items()},
        "breakdown_steps": 2,
        "operators": [an_operator("aten::mm", 20), an_operator("aten::add", 5)],
        "operators_by_shape": [an_operator("aten::mm", 20, shapes="[[8, 64], [64, 256]]")],
        "kernels": [],
        "memory": Memory(1 << 30, [DeviceMemory(device="cuda:0", peak_bytes=1 << 30, peak_time_ns=0)]),
        "findings": [finding],
        "overhead": Overhead(
            outside_ns_per_step=5e3, outside_share=0.0002, inside_ratio=1.4, inside_spread=0.1, window_close_ns=80 * MS
        ),
        "dropped": {},
        "repaired": {},
        "counts": {},
        "notes": [],
        "windows": 1,
        "recorded": True,
        "window_steps": [row, row],
        "counters": {},
        "schedule": [5, 0, 2, 5, 1],
        "hparams": {},
    }
    return Report(**{**values, **changes})


def shown(report: Report, width: int = 100, **options: Any) -> str:
    return verdict(report, None, width, colour=False, **options)


def words(text: str) -> str:
    """The text without its layout."""
    return " ".join(text.split())


def test_first_line_says_what_was_recorded_and_what_that_cost() -> None:
    first = shown(a_report(), 200).splitlines()[0]
    assert first == (
        "profkit · 20260101T000000Z-abc123 · PyTorch 2.13 · 200 steps, 1 window of 2 · "
        "overhead 0.02 % outside, 1.4× inside"
    )


@pytest.mark.parametrize(
    ("ratio_inside", "spread", "told"),
    [(1.1, 0.3, "none to be seen"), (0.8, 0.1, "none to be seen"), (1.03, 0.02, "3.0 %"), (1.4, 0.1, "1.4×")],
)
def test_a_slowdown_is_told_where_it_is_more_than_steps_vary(ratio_inside: float, spread: float, told: str) -> None:
    cost = Overhead(outside_share=0.01, inside_ratio=ratio_inside, inside_spread=spread, window_close_ns=1)
    assert f"overhead 1.0 % outside, {told} inside" in words(shown(a_report(overhead=cost)))


def test_remedy_carries_its_predicted_gain_and_its_confidence() -> None:
    text = words(shown(a_report()))
    assert "→ DataLoader(…, num_workers=5, persistent_workers=True): about 1.7× faster (predicted, high" in text


def test_a_remedy_of_several_clauses_gets_its_gain_in_a_sentence_of_its_own() -> None:
    finding = a_finding(remedy="num_workers=3; 7 would hide the wait: make a sample cheaper too.")
    text = words(shown(a_report(findings=[finding])))
    assert "make a sample cheaper too. About 1.7× faster (predicted, high confidence)." in text


@pytest.mark.parametrize("gain", [None, 1.0, 1.04])
def test_a_gain_within_the_error_of_prediction_is_not_promised(gain: float | None) -> None:
    assert "faster" not in shown(a_report(findings=[a_finding(predicted_speedup=gain)]))


def test_a_healthy_run_is_told_to_change_nothing() -> None:
    text = shown(a_report(findings=[], headline="Nothing to fix in the input: 0.4 % of each step waits for data."))
    assert "Nothing to fix in the input" in text
    assert "→" not in text


def test_a_second_finding_is_shown_with_its_message_and_remedy() -> None:
    second = a_finding(message="Something else costs time.", remedy="Change that.", predicted_speedup=None)
    text = words(shown(a_report(findings=[a_finding(), second])))
    assert "Something else costs time. → Change that." in text


@pytest.mark.parametrize(
    ("state", "last_step", "sentence"),
    [
        ("without notice", 123, "The run ended without notice (killed) after step 123."),
        ("without notice", None, "The run ended without notice (killed) before its first step."),
        ("running", 57, "Still running: this is what was seen until now, after step 57."),
        ("ValueError", 12, "The run ended with ValueError after step 12."),
    ],
)
def test_an_end_that_is_news_is_said(state: str, last_step: int | None, sentence: str) -> None:
    assert sentence in words(shown(a_report(state=state, last_step=last_step)))


@pytest.mark.parametrize("state", ["finished", "trace"])
def test_an_ordinary_end_is_not_mentioned(state: str) -> None:
    assert "ended" not in shown(a_report(state=state))


def test_breakdown_keeps_its_order_and_names_the_classes_that_took_no_time() -> None:
    text = shown(a_report())
    places = [text.index(f"  {name} ") for name in ("data wait", "compute", "unattributed")]
    assert places == sorted(places)
    assert "none: communication, copy, runtime, host" in text


def test_breakdown_gives_time_and_share_of_each_class() -> None:
    line = next(line for line in shown(a_report()).splitlines() if line.startswith("  data wait"))
    assert re.search(r"█+[▏▎▍▌▋▊▉]? +78 ms +43 %$", line)


def test_breakdown_says_that_it_was_measured_inside_the_window() -> None:
    assert "inside the window: 182 ms, mean of 2 steps" in shown(a_report())


def test_a_trace_without_steps_is_broken_down_whole() -> None:
    report = a_report(state="trace", steps=0, window_steps=[], breakdown_steps=1, wait=None, step_time_ns=None)
    assert "Where the time of the trace went: 182 ms, no step is marked in it" in shown(report)


def test_a_run_without_a_window_claims_none_and_shows_no_operators() -> None:
    text = shown(a_report(recorded=False))
    assert "200 steps, no window" in text
    assert "no profiler recorded what ran" in words(text)
    assert "aten::mm" not in text


def test_a_run_that_goes_on_may_still_get_its_window() -> None:
    report = a_report(state="running", windows=0, recorded=False, window_steps=[], breakdown_ns={}, breakdown_steps=0)
    assert "200 steps, no window yet" in shown(report)


def test_operators_have_device_time_only_where_a_device_was_recorded() -> None:
    kernels = [an_operator("sgemm", 30, kind="kernel")]
    assert "device ms" not in shown(a_report())
    text = shown(a_report(kernels=kernels), 120)
    assert "device ms" in text
    assert "sgemm" in text


def test_operators_by_shape_show_the_shapes() -> None:
    assert "[[8, 64], [64, 256]]" in shown(a_report(), by_shape=True)


def test_top_limits_the_rows_of_a_table() -> None:
    text = shown(a_report(), top=1)
    assert "aten::mm" in text
    assert "aten::add" not in text


def test_a_narrow_table_gives_up_columns_and_keeps_self_time() -> None:
    text = shown(a_report(), 40)
    assert "self ms" in text
    assert "total ms" not in text


def test_everything_dropped_repaired_or_missing_is_noted() -> None:
    notes = ["the loop ended after 3 steps", "no window could be recorded"]
    report = a_report(notes=notes, dropped={"events without end": 1234}, repaired={"clipped spans": 93})
    text = words(shown(report, 60))
    for expected in (*notes, "dropped: 1,234 events without end", "repaired: 93 clipped spans"):
        assert f"note {expected}" in text


def test_last_line_opens_the_log_folder_in_tensorboard_and_can_be_copied(tmp_path: Path) -> None:
    text = verdict(a_report(), tmp_path / "my runs" / "20260101T000000Z-abc123", 40, colour=False)
    assert text.splitlines()[-1].strip() == f"tensorboard --logdir '{tmp_path}/my runs'"


def test_a_log_folder_below_the_current_one_is_shown_relative_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = verdict(a_report(), Path("runs") / "20260101T000000Z-abc123", 80, colour=False)
    assert text.splitlines()[-1].strip() == "tensorboard --logdir runs"


def test_words_are_the_same_with_and_without_colour() -> None:
    coloured = verdict(a_report(notes=["a note"]), None, 80, colour=True)
    assert ESCAPES.search(coloured)
    assert ESCAPES.sub("", coloured) == shown(a_report(notes=["a note"]), 80)


def test_without_unicode_the_layout_is_the_same_in_ascii() -> None:
    plain, drawn = shown(a_report(), unicode=False), shown(a_report())
    assert plain.isascii()
    assert [len(line) for line in plain.splitlines()] == [len(line) for line in drawn.splitlines()]
    assert re.search(r"data wait +#+ +78 ms", plain)


def test_a_name_cannot_command_the_terminal() -> None:
    name = "evil\x1b[2J\x1b]0;title\x07\n[bold]red\u202e"
    text = shown(a_report(operators=[an_operator(name, 20)]))
    assert "evil[2J]0;title [bold]red" in text
    assert "\x1b" not in text
    assert "\u202e" not in text


any_text = st.text(st.characters(), max_size=60)


@given(st.integers(40, 200), any_text, any_text, any_text)
@settings(max_examples=60, deadline=None)
def test_no_line_is_wider_than_the_terminal_and_none_holds_a_control_character(
    width: int, name: str, note: str, message: str
) -> None:
    report = a_report(
        name=name,
        headline=message,
        notes=[note],
        operators=[an_operator(name, 20)],
        kernels=[an_operator(name + name, 20, kind="kernel")],
        state=name or "finished",
    )
    for line in shown(report, width, top=3).split("\n"):
        assert cells.width(line) <= width
        assert not any(unicodedata.category(character)[0] == "C" for character in line)


@given(any_text, st.integers(1, 30))
@settings(deadline=None)
def test_padded_text_is_exactly_as_wide_as_asked(text: str, width: int) -> None:
    text = cells.clean(text)
    assert cells.width(cells.left(text, width)) == width
    assert cells.width(cells.right(text, width)) == width


@given(any_text, st.integers(2, 30))
@settings(deadline=None)
def test_wrapping_loses_no_character(text: str, width: int) -> None:
    text = cells.clean(text)
    assert "".join("".join(cells.wrap(text, width)).split()) == "".join(text.split())


@pytest.mark.parametrize("unit", ["ns", "µs", "ms", "s", "KiB", "GiB", "%"])
def test_wrapping_does_not_part_a_number_from_its_unit(unit: str) -> None:
    assert cells.wrap(f"wait 140 {unit}.", 9) == ["wait", f"140 {unit}."]
    assert cells.wrap("3 steps 2 batches", 8) == ["3 steps", "2", "batches"]


def test_the_smallest_share_is_seen_and_none_is_not() -> None:
    assert cells.bar(1e-9, 40) == "▏"
    assert cells.bar(0, 40) == ""
    assert cells.bar(1, 4) == "████"
    assert cells.bar(0.5, 5) == "██▌"


@pytest.mark.parametrize(
    ("time_ns", "text"),
    [
        (0, "0 ms"),
        (812, "812 ns"),
        (126_000, "126 µs"),
        (999_600, "1.00 ms"),
        (33_196_083, "33.2 ms"),
        (619_045_006, "619 ms"),
        (1_211_182_252, "1.21 s"),
        (7_200e9, "7,200 s"),
    ],
)
def test_times_have_three_digits_and_a_unit(time_ns: float, text: str) -> None:
    assert duration(time_ns) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (512, "512 B"), (288_240, "281 KiB"), (2_707_847_680, "2.52 GiB")]
)
def test_sizes_have_three_digits_and_a_unit(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("share", "text"),
    [(0, "0 %"), (1e-6, "< 0.01 %"), (0.0002, "0.02 %"), (0.04, "4.0 %"), (0.4266, "43 %"), (1, "100 %")],
)
def test_shares_have_two_digits(share: float, text: str) -> None:
    assert percent(share) == text


def test_factors_and_counts_read_as_one_would_say_them() -> None:
    assert (ratio(1.71), ratio(14.07)) == ("1.7×", "14×")
    assert [counted(n, "batch") for n in (1, 1200)] == ["1 batch", "1,200 batches"]


def luminance(colour: int) -> float:
    """Relative luminance (WCAG 2.2) of one of xterm's 256 colours from 16 on."""
    levels = (0, 95, 135, 175, 215, 255)
    cube = divmod(colour - 16, 36)
    rgb = [levels[i] for i in (cube[0], *divmod(cube[1], 6))] if colour < 232 else [8 + 10 * (colour - 232)] * 3
    linear = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in rgb]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("name", PALETTE)
def test_each_colour_is_seen_on_black_and_on_white(name: str) -> None:
    own = luminance(PALETTE[name])
    assert (own + 0.05) / 0.05 >= 3
    assert 1.05 / (own + 0.05) >= 3


def test_the_text_needs_no_library_a_training_process_must_not_load() -> None:
    program = """
import sys, msgspec
from profkit.analysis.report import Report
from profkit.cli.text import verdict
report = msgspec.json.decode(sys.stdin.buffer.read(), type=Report)
assert "Input-bound" in verdict(report, None, 80, True)
heavy = {"polars", "numpy", "rich", "psutil", "tensorboard", "torch"} & set(sys.modules)
sys.exit(f"loaded {heavy}" if heavy else 0)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], input=msgspec.json.encode(a_report()), capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()


def a_class(name: str | None, self_ms: float, device_ms: float = 0) -> OperatorClass:
    self_ns, device_ns = int(self_ms * MS), int(device_ms * MS)
    return OperatorClass(
        op_class=name,
        calls=4,
        self_ns=self_ns,
        self_share=self_ms / 100,
        device_ns=device_ns,
        device_share=device_ms / 50,
    )


def test_classes_are_shown_with_the_share_that_has_none() -> None:
    classes = [a_class("conv", 70), a_class("elementwise", 28), a_class(None, 2)]
    text = shown(a_report(operator_classes=classes, unclassified_share=0.02))
    assert "Operators by class, 3 of 3; without a class 2.0 % of self time" in text
    assert re.search(r"^  conv +4 +70\.00 +70 %$", text, re.MULTILINE)
    assert re.search(r"^  no class +4 +2\.00 +2\.0 %$", text, re.MULTILINE)
    assert "device" not in text[text.index("Operators by class") : text.index("Operators on the host")]


def test_classes_have_device_time_where_a_device_was_recorded() -> None:
    classes = [a_class("conv", 70, 40), a_class("copy", 30, 10)]
    text = shown(a_report(operator_classes=classes, unclassified_share=0.0, unclassified_device_share=0.0))
    assert "without a class 0 % of self time and 0 % of device time" in text
    assert re.search(r"^  conv +4 +70\.00 +70 % +40\.00 +80 %$", text, re.MULTILINE)


def test_a_run_without_operators_shows_no_classes() -> None:
    assert "Operators by class" not in shown(a_report())


def inside_a_loader(wait_ms: float) -> Loading:
    """A loader whose wait is mostly for samples, and for one of which hardly anything is for its sampler."""
    waits = {"sampler": 0.01, "item": 0.69, "unpickle": 0.3}
    return Loading(
        loader="DataLoader",
        settings={},
        batches=1_200,
        num_workers=2,
        wait_ns=wait_ms * MS,
        interval_ns=100 * MS,
        stages=[LoadingStage(name=name, mean_ns=None, wait_ns=share * wait_ms * MS) for name, share in waits.items()],
        fetch=Fetch(
            mean_ns=20 * MS, p50_ns=0, p95_ns=0, max_ns=0, cpu_ns=15 * MS, run_queue_ns=4 * MS, blocked_ns=1 * MS
        ),
        utilisation=0.9,
    )


def test_the_wait_is_divided_by_what_was_waited_for() -> None:
    text = verdict(a_report(loading=inside_a_loader(40.0)), None, 100, colour=False)
    block = text[text.index("What was waited for: 40 ms a batch, mean of 1,200") :].splitlines()[:4]
    assert [line.split()[0] for line in block[1:3]] == ["item", "unpickle"]
    assert block[1].endswith("69 %")
    assert block[3].strip() == "making a batch: 20 ms, 75 % computing, 20 % waiting for a core, 5.0 % blocked"


def test_a_wait_that_does_not_matter_is_not_divided() -> None:
    assert "waited for:" not in verdict(a_report(loading=inside_a_loader(4.9)), None, 100, colour=False)
    assert "waited for:" not in verdict(a_report(), None, 100, colour=False)
