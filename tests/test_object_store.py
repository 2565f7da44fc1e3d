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
from tests.test_tensorboard_exporter import made_run
from tests.test_tensorboard_plugin import ROOT, raw

BUCKET = "logs"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server with one empty bucket."""
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server")
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=address).create_bucket(Bucket=BUCKET)
        yield address
    finally:
        server.stop()


def without_tensorflow(folder: Path) -> str:
    """A path on which TensorFlow cannot be imported: it has no S3 of its own, TensorBoard's stand-in has."""
    package = folder / "tensorflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not here')")
    return str(folder)


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
