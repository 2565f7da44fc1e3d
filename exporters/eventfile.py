"""TensorBoard's event files: their names, their records, and the tags that the live and the final file share.

Written with tensorboard's own messages and record format, without TensorFlow, without a thread. Every tag carries its
metadata, with a data class, in its first event only, as TensorBoard's loaders want it. The sidecar imports this while
the training runs, so that it loads neither polars nor numpy.
"""

# mypy: disable-error-code="attr-defined,name-defined,no-untyped-call"
# tensorboard ships no types, and its messages get their fields at run time.

from __future__ import annotations

from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2, types_pb2
from tensorboard.plugins.scalar import metadata as scalar_metadata
from tensorboard.plugins.text import metadata as text
from tensorboard.summary.writer.record_writer import RecordWriter

from profkit.tensorboard import PLUGIN, TAG

# A directory's files are read in the order of their names: `live` comes before `summary`.
LIVE, SUMMARY = "profkit-live", "profkit-summary"

STEP_TIME, DATA_WAIT, STALL = "profkit/step_time_ms", "profkit/data_wait_ms", "profkit/stall_percent"
MEAN_STEP_TIME, MEAN_STALL = "profkit/mean_step_time_ms", "profkit/mean_stall_percent"
DESCRIPTIONS = {
    STEP_TIME: "From the boundary that ended the step before to its own",
    DATA_WAIT: "Between asking for batches and having them",
    STALL: "The wait for data over the step's time",
    MEAN_STEP_TIME: "Mean over the steps the verdict rests on",
    MEAN_STALL: "Exposed wait for data over step time, on the steps the verdict rests on",
}


def home(folder: Path, rank: int) -> Path:
    """The run's folder; for ranks behind the first one below it, which TensorBoard shows as a run of its own."""
    return folder if rank == 0 else folder / f"rank={rank}"


def event_file(folder: Path, time_s: float, rank: int, suffix: str) -> Path:
    """Where TensorBoard looks for a file begun at `time_s`, unix seconds, by this rank."""
    return folder / f"events.out.tfevents.{int(time_s):010d}.{rank}.{suffix}"


def records(events: Iterable[event_pb2.Event]) -> bytes:
    """The events in TensorBoard's file format."""
    buffer = BytesIO()
    writer = RecordWriter(buffer)
    for event in events:
        writer.write(event.SerializeToString())
    return buffer.getvalue()


def version(time_s: float) -> event_pb2.Event:
    """What every event file begins with."""
    return event_pb2.Event(wall_time=time_s, file_version="brain.Event:2")


def scalar(tag: str, value: float, step: int, time_ns: int, *, first: bool) -> event_pb2.Event:
    """One point of a curve; the first one of a tag carries what TensorBoard needs to know of it."""
    event = event_pb2.Event(wall_time=time_ns / 1e9, step=step)
    added = event.summary.value.add(tag=tag, tensor=_number(value))
    if first:
        metadata = scalar_metadata.create_summary_metadata("", DESCRIPTIONS.get(tag, ""))
        metadata.data_class = summary_pb2.DATA_CLASS_SCALAR
        added.metadata.CopyFrom(metadata)
    return event


def tensor(
    tag: str, content: bytes, shape: Sequence[int], metadata: summary_pb2.SummaryMetadata, step: int, time_s: float
) -> event_pb2.Event:
    """One text or blob; the metadata say whose."""
    event = event_pb2.Event(wall_time=time_s, step=step)
    metadata.data_class = summary_pb2.DATA_CLASS_TENSOR
    dims = [tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
    value = tensor_pb2.TensorProto(
        dtype=types_pb2.DT_STRING, tensor_shape=tensor_shape_pb2.TensorShapeProto(dim=dims), string_val=[content]
    )
    event.summary.value.add(tag=tag, tensor=value, metadata=metadata)
    return event


def verdict(text_: str, step: int, time_s: float) -> event_pb2.Event:
    """Markdown for the Text tab."""
    return tensor("profkit/summary", text_.encode(), (1,), text.create_summary_metadata("", ""), step, time_s)


def page(content: bytes, step: int, time_s: float) -> event_pb2.Event:
    """What profkit's own tab shows first."""
    metadata = summary_pb2.SummaryMetadata(plugin_data={"plugin_name": PLUGIN})
    return tensor(TAG, content, (), metadata, step, time_s)


def _number(value: float) -> tensor_pb2.TensorProto:
    """A scalar; tensorboard's own make_tensor_proto takes ten times as long."""
    return tensor_pb2.TensorProto(dtype=types_pb2.DT_FLOAT, tensor_shape={}, float_val=[value])
