"""The same training in PyTorch and in Keras on TensorFlow is told in the same words."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from profkit.analysis.report import Report
from profkit.analysis.summary import report
from profkit.trace.load import load

IN_PYTORCH = """
import sys, torch
from torch import nn
model = nn.Sequential(
    nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.2), nn.Flatten(), nn.Linear(392, 5)
)
optimizer = torch.optim.Adam(model.parameters(), foreach=False)
def step():
    optimizer.zero_grad()
    loss = nn.functional.cross_entropy(model(torch.rand(16, 3, 16, 16)), torch.randint(5, (16,)))
    loss.backward()
    optimizer.step()
step()
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiler:
    for _ in range(3):
        step()
profiler.export_chrome_trace(sys.argv[1] + "/here.pt.trace.json")
"""
IN_KERAS = """
import sys, keras, numpy, tensorflow
model = keras.Sequential([
    keras.layers.Conv2D(8, 3), keras.layers.BatchNormalization(), keras.layers.ReLU(), keras.layers.MaxPooling2D(),
    keras.layers.Dropout(0.2), keras.layers.Flatten(), keras.layers.Dense(5),
])
model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True), jit_compile=False)
images, labels = numpy.random.rand(48, 16, 16, 3).astype("float32"), numpy.random.randint(5, size=48)
model.fit(images, labels, batch_size=16, verbose=0)
tensorflow.profiler.experimental.start(sys.argv[1])
model.fit(images, labels, batch_size=16, verbose=0)
tensorflow.profiler.experimental.stop()
"""
MAJOR = {"conv", "matmul", "norm", "pool", "elementwise", "dropout", "loss", "optimizer"}


def trained(program: str, folder: Path, pattern: str) -> Report:
    """The report on what a training in a process of its own has recorded."""
    environment = {"KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        [sys.executable, "-c", program, str(folder)], env=environment, capture_output=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    return report(load(next(folder.rglob(pattern))))


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    return {
        "torch": trained(IN_PYTORCH, tmp_path_factory.mktemp("torch"), "*.json"),
        "keras": trained(IN_KERAS, tmp_path_factory.mktemp("keras"), "*.xplane.pb"),
    }


def test_one_architecture_has_the_same_major_classes_in_both(reports: dict[str, Report]) -> None:
    for framework, found in reports.items():
        times = {row.op_class: row.self_ns for row in found.operator_classes}
        assert MAJOR.issubset(times), framework
        assert min(times[name] for name in MAJOR) > 0


def test_neither_has_operators_of_a_class_that_the_architecture_has_not(reports: dict[str, Report]) -> None:
    for framework, found in reports.items():
        classes = {row.op_class for row in found.operator_classes}
        assert not classes & {"attention", "embedding", "rnn", "resample", "linalg", "communication"}, framework


def test_less_than_a_twentieth_of_the_time_has_no_class(reports: dict[str, Report]) -> None:
    for framework, found in reports.items():
        assert found.unclassified_share is not None, framework
        assert found.unclassified_share < 0.05, framework


def test_the_optimizer_is_told_apart_from_the_arithmetic_it_is_made_of(reports: dict[str, Report]) -> None:
    listed = {(name, row.name): row.op_class for name, found in reports.items() for row in found.operators}
    assert listed["torch", "aten::addcdiv_"] == listed["keras", "AssignSubVariableOp"] == "optimizer"
    assert listed["torch", "aten::relu"] == listed["keras", "ReluGrad"] == "elementwise"
