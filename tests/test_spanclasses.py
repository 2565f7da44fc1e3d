"""Where an operator ran counts besides its name: the optimizer, a layer's scope, the call that launched a kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from profkit.analysis.opclasses import operator_classes, unclassified
from profkit.analysis.operators import kernels, operators
from profkit.analysis.summary import report
from profkit.readers.xplane import XPlaneReader
from profkit.trace.assemble import assemble
from profkit.trace.batch import ReadContext
from profkit.trace.load import load
from profkit.trace.model import Trace
from tests.spaces import Space
from tests.test_xplane_reader import CORRUPT, TENSORFLOW, needs_corpus
from tests.traces import kernel, launch, op, span, traced, written

US = 1_000_000  # picoseconds
ELEMENTWISE_KERNEL = "void at::native::vectorized_elementwise_kernel<4, at::native::AddFunctor<float>>(int)"


def column(trace: Trace, name: str) -> dict[str, str | None]:
    """The column of each span by the span's name, or its module where it has one."""
    labels = pl.coalesce(pl.col("module").cast(pl.String), pl.col("name").cast(pl.String))
    return dict(trace.spans.select(labels, pl.col(name).cast(pl.String).alias("value")).iter_rows())


def in_tensorflow(tmp_path: Path, *names: str) -> Trace:
    """A trace of TensorFlow's operators, one after another."""
    space = Space()
    for number, name in enumerate(names):
        space.event(name, number * 10 * US, 5 * US, line="tf_Compute/1")
    file = tmp_path / "here.xplane.pb"
    file.write_bytes(space.message.SerializeToString())
    return assemble(XPlaneReader().read(file, ReadContext()), ReadContext(), "xplane", "test")


def test_what_runs_inside_the_optimizer_is_the_optimizers_but_for_communication_and_waits(tmp_path: Path) -> None:
    events = [
        span("Optimizer.step#Adam.step", "user_annotation", 0, 100),
        op("aten::addcdiv_", 10, 5),
        op("aten::mm", 20, 5),
        op("mylib::whiten", 30, 5),
        op("c10d::allreduce_", 40, 5),
        op("aten::item", 50, 5),
        op("aten::add_", 200, 5),
    ]
    assert column(traced(tmp_path, events), "op_class") == {
        "Optimizer.step#Adam.step": "optimizer",
        "aten::addcdiv_": "optimizer",
        "aten::mm": "optimizer",
        "mylib::whiten": "optimizer",
        "c10d::allreduce_": "communication",
        "aten::item": "sync",
        "aten::add_": "elementwise",
    }


def test_ranges_of_the_program_have_no_class_whatever_they_are_called(tmp_path: Path) -> None:
    names = ("conv block", "aten::conv2d", "loss", "dropout_layer", "nccl:all_reduce")
    trace = traced(tmp_path, [span(name, "user_annotation", 10 * i, 5) for i, name in enumerate(names)])
    assert column(trace, "op_class") == dict.fromkeys(names[:-1]) | {"nccl:all_reduce": "communication"}


def test_a_kernel_has_the_class_of_the_innermost_operator_that_launched_it(tmp_path: Path) -> None:
    events = [
        op("aten::conv2d", 0, 90),
        op("mylib::algorithm", 5, 80),
        launch(1, 10, 5),
        op("aten::copy_", 30, 10),
        launch(2, 32, 5),
        op("aten::view", 50, 10),
        launch(3, 52, 5),
        kernel("volta_sgemm_128x64_nn", 1, 100, 10),
        kernel(ELEMENTWISE_KERNEL, 2, 120, 10),
        kernel("anything", 3, 140, 10),
    ]
    found = column(traced(tmp_path, events), "op_class")
    assert (found["volta_sgemm_128x64_nn"], found[ELEMENTWISE_KERNEL], found["anything"]) == ("conv", "copy", "conv")


def test_a_kernel_that_no_operator_explains_has_the_class_of_its_name(tmp_path: Path) -> None:
    events = [
        op("Torch-Compiled Region: 0/0", 0, 50),
        launch(1, 10, 5),
        kernel("triton_poi_fused_relu_0", 1, 100, 10),
        kernel("volta_sgemm_128x64_nn", 99, 120, 10),
        kernel("unheard_of", 98, 140, 10),
    ]
    found = column(traced(tmp_path, events), "op_class")
    assert found["triton_poi_fused_relu_0"] == "elementwise"
    assert found["volta_sgemm_128x64_nn"] == "matmul"
    assert found["unheard_of"] is None


def test_a_copy_and_a_collective_keep_their_class_whoever_launched_them(tmp_path: Path) -> None:
    memcpy = {**kernel("Memcpy HtoD (Pinned -> Device)", 1, 100, 10), "cat": "gpu_memcpy"}
    events = [
        op("aten::conv2d", 0, 50),
        launch(1, 10, 5),
        launch(2, 20, 5),
        memcpy,
        kernel("ncclDevKernel_AllReduce_Sum_f32", 2, 120, 10),
    ]
    found = column(traced(tmp_path, events), "op_class")
    assert found["Memcpy HtoD (Pinned -> Device)"] == "copy"
    assert found["ncclDevKernel_AllReduce_Sum_f32"] == "communication"


def test_kerass_scopes_give_their_class_to_arithmetic_and_to_nothing_else(tmp_path: Path) -> None:
    expected = {
        "functional_1/layer_normalization_1/moments/mean:Mean": "norm",
        "functional_1/multi_head_attention_1/batch_normalization/MatMul:MatMul": "matmul",
        "functional_1/dropout_1/stateless_random_uniform:StatelessRandomUniformV2": "dropout",
        "functional_1/dropout_1/unheard:MyOwnOp": "dropout",
        "functional_1/dense_1/BiasAdd:BiasAdd": "elementwise",
        "StatefulPartitionedCall/adam/mul_3:Mul": "optimizer",
        "StatefulPartitionedCall/adam/ReadVariableOp:ReadVariableOp": "optimizer",
        "StatefulPartitionedCall/adam/all:CollectiveReduceV2": "communication",
    }
    found = column(in_tensorflow(tmp_path, *expected), "op_class")
    assert found == {name.partition(":")[0]: op_class for name, op_class in expected.items()}


def test_tensorflows_scopes_prove_backward_and_the_optimizer(tmp_path: Path) -> None:
    expected = {
        "gradient_tape/functional_1/conv2d_1/Conv2DBackpropFilter:Conv2DBackpropFilter": "backward",
        "StatefulPartitionedCall/sgd/AssignSubVariableOp:AssignSubVariableOp": "optimizer",
        "StatefulPartitionedCall/functional_1/conv2d_1/Relu:_FusedConv2D": None,
        "StatefulPartitionedCall/AddN_7:AddN": None,
    }
    found = column(in_tensorflow(tmp_path, *expected), "phase")
    assert found == {name.partition(":")[0]: phase for name, phase in expected.items()}


def mixed(tmp_path: Path) -> list[dict[str, Any]]:
    """Operators of 60, 30 and 10 µs, kernels of 30 and 10 µs, of which the last of each has no class."""
    return [
        op("aten::conv2d", 0, 60),
        launch(1, 10, 0),
        op("aten::relu", 100, 30),
        op("mylib::frobnicate", 200, 10),
        span("a range", "user_annotation", 300, 1000),
        kernel("volta_sgemm_128x64_nn", 1, 2000, 30),
        kernel("unheard_of", 99, 2100, 10),
    ]


def test_time_by_class_adds_up_and_says_what_has_none(tmp_path: Path) -> None:
    classes = operator_classes(traced(tmp_path, mixed(tmp_path)))
    assert [(row.op_class, row.calls, row.self_ns, row.device_ns) for row in classes] == [
        ("conv", 1, 60_000, 30_000),
        (None, 1, 10_000, 10_000),
        ("elementwise", 1, 30_000, 0),
    ]
    assert [row.self_share for row in classes] == pytest.approx([0.6, 0.1, 0.3])
    assert [row.device_share for row in classes] == pytest.approx([0.75, 0.25, 0])
    assert unclassified(classes) == pytest.approx((0.1, 0.25))


def test_shares_are_unknown_where_there_is_no_such_time(tmp_path: Path) -> None:
    assert unclassified(operator_classes(traced(tmp_path, [op("aten::mm", 0, 5)]))) == (0, None)
    assert unclassified(operator_classes(traced(tmp_path, [kernel("unheard_of", 1, 0, 5)]))) == (None, 1)
    assert operator_classes(traced(tmp_path, [span("a range", "user_annotation", 0, 5)])) == []
    assert unclassified([]) == (None, None)


def test_the_report_has_the_classes_of_its_first_window(tmp_path: Path) -> None:
    found = report(load(written(tmp_path, mixed(tmp_path))))
    assert [row.op_class for row in found.operator_classes] == ["conv", None, "elementwise"]
    assert (found.unclassified_share, found.unclassified_device_share) == pytest.approx((0.1, 0.25))


def test_a_name_in_several_classes_is_listed_once_with_that_of_the_largest_time(tmp_path: Path) -> None:
    events = [
        op("aten::add_", 0, 10),
        launch(1, 2, 1),
        span("Optimizer.step#SGD.step", "user_annotation", 100, 100),
        op("aten::add_", 110, 50),
        launch(2, 112, 1),
        kernel(ELEMENTWISE_KERNEL, 1, 300, 20),
        kernel(ELEMENTWISE_KERNEL, 2, 400, 10),
    ]
    trace = traced(tmp_path, events)
    (add,) = [row for row in operators(trace).by_name if row.name == "aten::add_"]
    assert (add.op_class, add.calls, add.total_ns, add.device_ns) == ("optimizer", 2, 60_000, 30_000)
    assert [(row.op_class, row.calls, row.total_ns) for row in kernels(trace)] == [("elementwise", 2, 30_000)]


def recorded() -> list[Path]:
    """The recorded XPlane files that can be read."""
    return [file for file in sorted(TENSORFLOW.rglob("*.xplane.pb")) if not file.match(CORRUPT)]


@needs_corpus
@pytest.mark.parametrize("file", recorded(), ids=lambda file: file.parent.name)
def test_less_than_a_twentieth_of_a_recorded_xplane_has_no_class(file: Path) -> None:
    trace = assemble(XPlaneReader().read(file, ReadContext()), ReadContext(), "xplane", "test")
    shares = unclassified(operator_classes(trace))
    assert max((share for share in shares if share is not None), default=0) < 0.05
