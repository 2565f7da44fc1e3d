"""A log folder in an object store: the tab reads it as it reads a local one. Needs a real S3 server, on loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from profkit.analysis.summary import report
from profkit.exporters import timeline
from profkit.exporters.tensorboard import TensorBoardExporter
from tests.live_tensorboard import tensorboard, until
from tests.object_store import BUCKET, object_store, without_tensorflow
from tests.test_tensorboard_exporter import made_run
from tests.test_tensorboard_plugin import ROOT, raw


@pytest.fixture
def endpoint() -> Iterator[str]:
    with object_store() as address:
        yield address


def test_a_run_in_an_object_store_is_shown_whole(endpoint: str, tmp_path: Path) -> None:
    import boto3

    run = made_run(tmp_path)
    assert run.folder is not None
    client = boto3.client("s3", endpoint_url=endpoint)
    for path in TensorBoardExporter().export(run, report(run), run.folder):
        client.upload_file(str(path), BUCKET, f"some/runs/{Path(path).relative_to(tmp_path)}")
    surroundings = {"S3_ENDPOINT": endpoint, "PYTHONPATH": without_tensorflow(tmp_path / "bare")}
    with tensorboard(f"s3://{BUCKET}/some/runs", **surroundings) as ask:
        until(lambda: ask(f"{ROOT}/runs"), bool)
        assert ask(f"{ROOT}/page?run=run")["report"]["headline"] == report(run).headline
        assert ask(f"{ROOT}/report?run=run&window=0") == json.loads(msgspec.json.encode(report(run)))
        status, _, body = raw(ask, "timeline?run=run&window=0")
        assert (status, body) == (200, timeline.encoded(run.traces[0], run.counters))
        assert raw(ask, "timeline?run=run&window=1")[0] == 404
