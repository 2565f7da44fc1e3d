"""TensorFlow's and Keras's hooks: what they record beyond the contract of all hooks."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from statistics import mean

import pytest

from profkit.analysis.summary import report
from profkit.exporters.xprof import XProfExporter
from profkit.trace.load import load
from profkit.trace.model import Run
from tests.xprof_viewer import overview

RunPython = Callable[..., subprocess.CompletedProcess[str]]

MODEL = """
import os, sys, time
os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import keras, numpy, tensorflow as tf, profkit, profkit.keras
def generator():
    for _ in range(20):
        time.sleep(0.02)
        yield numpy.zeros((4, 8), "float32"), numpy.zeros(4, "int64")
def data():
    signature = (tf.TensorSpec((4, 8)), tf.TensorSpec((4,), tf.int64))
    return tf.data.Dataset.from_generator(generator, output_signature=signature)
model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(2)])
model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
plan = profkit.schedule(skip_first=3, warmup=1, active=4)
options = {"schedule": plan, "sidecar": False, "quiet": True}
"""


@pytest.fixture
def ran(run_python: RunPython, tmp_path: Path) -> Callable[[str], Run]:
    """The run that a program with a slow input leaves in the folder `runs`."""

    def run(code: str) -> Run:
        ended = run_python(f"import warnings; warnings.simplefilter('ignore')\n{MODEL}\n{code}")
        assert ended.returncode == 0, ended.stderr
        return load(tmp_path / "runs")

    return run


def test_a_function_compiled_before_the_run_is_judged_by_the_window_and_that_is_said(ran: Callable[[str], Run]) -> None:
    run = ran("model.fit(data(), verbose=0)\nwith profkit.profile('runs', **options): model.fit(data(), verbose=0)")
    found = report(run)
    assert any("compiled before the run began" in note for note in found.notes)
    assert found.measured_on.endswith("which slows them; outside it no wait was recorded")
    assert found.wait is not None
    assert found.findings[0].cause == "tf_slow_source"
    assert run.steps["wait_ns"].sum() == 0


def test_the_slow_stage_is_named_with_what_it_takes(ran: Callable[[str], Run]) -> None:
    found = report(ran("with profkit.profile('runs', **options): model.fit(data(), verbose=0)"))
    [finding] = found.findings
    assert finding.evidence["slow_stage"] == "Generator"
    assert finding.evidence["slow_stage_ns_per_batch"] == pytest.approx(20e6, rel=0.25)
    assert "tf.data's stage Generator takes 2" in finding.message


def test_the_callback_makes_each_fit_a_run_and_is_silent_within_one(ran: Callable[[str], Run], tmp_path: Path) -> None:
    run = ran(
        """
callback = profkit.keras.Callback("runs", **options)
model.fit(data(), verbose=0, callbacks=[callback], validation_data=data(), epochs=2)
model.evaluate(data(), verbose=0, callbacks=[callback])
with profkit.profile("runs", **options):
    model.fit(data(), verbose=0, callbacks=[callback])
"""
    )
    runs = [load(folder) for folder in sorted((tmp_path / "runs").iterdir())]
    assert sorted((r.steps.height, r.info.step_source) for r in runs) == [
        (20, "callback"),
        (20, "evaluation"),
        (40, "callback"),
    ]
    assert run.info.ended == "finished"


def test_evaluation_between_epochs_is_excluded(ran: Callable[[str], Run]) -> None:
    run = ran(
        """
with profkit.profile("runs", **options):
    model.fit(data(), verbose=0, validation_data=data(), epochs=2)
"""
    )
    assert run.steps.height == 40
    first_of_second_epoch = run.steps.row(20, named=True)
    assert first_of_second_epoch["excluded_ns"] > 20 * 15_000_000  # 20 batches of the validation, at 20 ms each
    assert not first_of_second_epoch["steady"]


def test_a_fit_that_raises_leaves_a_run_that_ends_with_the_program(ran: Callable[[str], Run]) -> None:
    run = ran(
        """
class Failing(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 9:
            raise KeyError("planted")
try:
    model.fit(data(), verbose=0, callbacks=[profkit.keras.Callback("runs", **options), Failing()])
except KeyError:
    pass
"""
    )
    assert run.info.ended == "finished"
    assert run.steps.height == 9


@pytest.mark.parametrize("level", [1, 3])
def test_the_profilers_options_take_effect(ran: Callable[[str], Run], level: int) -> None:
    run = ran(
        f"""
from profkit.hooks.tensorflow import TensorFlowHook
hooks = [TensorFlowHook(host_tracer_level={level}), "tf_data", "keras"]
with profkit.profile("runs", hooks=hooks, **options):
    model.fit(data(), verbose=0)
"""
    )
    [trace] = run.traces
    assert trace.info.native["host_tracer_level"] == level
    assert not report(run).notes


def test_options_that_were_ignored_are_noted(ran: Callable[[str], Run]) -> None:
    run = ran(
        """
from profkit.hooks import tensorflow as hook
hook._Level = int  # as TensorFlow 2.21 is usually called: it ignores what it is given
with profkit.profile("runs", hooks=[hook.TensorFlowHook(host_tracer_level=3), "keras"], **options):
    model.fit(data(), verbose=0)
"""
    )
    notes = [note for trace in run.traces for note in trace.info.notes]
    assert "tensorflow's profiler was asked for host_tracer_level=3 and recorded with 2" in notes


def test_a_session_from_outside_the_program_is_a_clear_sentence(ran: Callable[[str], Run]) -> None:
    run = ran(
        """
from tensorflow.python.profiler import profiler_v2
session = profiler_v2._pywrap_profiler.ProfilerSession()
session.start("other", {})  # as a profiler server does it: TensorFlow's Python knows nothing of it
with profkit.profile("runs", **options):
    model.fit(data(), verbose=0)
"""
    )
    assert any("another profiler session is active, from outside this program" in note for note in run.info.notes)
    assert run.steps.height == 20


def test_a_decorator_inside_a_compiled_function_is_no_step(ran: Callable[[str], Run]) -> None:
    run = ran(
        """
@tf.function
@profkit.step
def step(features):
    return tf.reduce_sum(features)
with profkit.profile("runs", **options):
    for features, _ in data():
        step(features)
"""
    )
    assert (run.steps.height, run.info.step_source) == (20, "batch")


def test_a_loader_made_anew_for_each_pass_still_ends_steps(ran: Callable[[str], Run]) -> None:
    run = ran(
        """
with profkit.profile("runs", **options):
    for epoch in range(2):
        for features, _ in data():
            tf.reduce_sum(features)
"""
    )
    assert run.steps.height == 40


def test_a_validation_set_iterated_in_between_ends_no_step(ran: Callable[[str], Run]) -> None:
    run = ran(
        """
training, validation = data(), data().take(5)
with profkit.profile("runs", **options):
    for epoch in range(2):
        for features, _ in training:
            tf.reduce_sum(features)
        for features, _ in validation:
            tf.reduce_sum(features)
"""
    )
    assert run.steps.height == 40


def test_xprof_counts_the_steps_of_a_live_keras_run_and_its_input(ran: Callable[[str], Run], tmp_path: Path) -> None:
    run = ran("with profkit.profile('runs', **options): model.fit(data(), verbose=0)")
    found = report(run)
    [file] = XProfExporter().export(run, found, tmp_path)
    page = overview(file)
    assert len(page.steps) == 4
    assert page.mean("infeedTimeMs") == pytest.approx(mean(s.wait_ns for s in found.window_steps) / 1e6, abs=0.5)
    assert "HIGHLY input-bound" in page.verdict


def test_what_keras_own_callback_leaves_has_steps(run_python: RunPython, tmp_path: Path) -> None:
    """XProf finds none in it: the marker is no root."""
    ended = run_python(
        f"import warnings; warnings.simplefilter('ignore')\n{MODEL}\n"
        "model.fit(data(), verbose=0, callbacks=[keras.callbacks.TensorBoard('logs', profile_batch=(5, 9))])"
    )
    assert ended.returncode == 0, ended.stderr
    [file] = (tmp_path / "logs").rglob("*.xplane.pb")
    found = report(load(file))
    assert found.steps in (4, 5)  # the callback starts its profiler within the first of them
    assert found.findings[0].cause == "tf_slow_source"
    assert not overview(file).steps
