"""An S3 server on loopback, with one empty bucket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

BUCKET = "logs"
KEYS = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}


@contextmanager
def object_store(port: int = 0) -> Iterator[str]:
    """Serve, with the keys in the environment meanwhile; yields the address. A port of 0 is a free one."""
    boto3 = pytest.importorskip("boto3")
    moto = pytest.importorskip("moto.server")
    with pytest.MonkeyPatch.context() as environment:
        for name, value in KEYS.items():
            environment.setenv(name, value)
        server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=port, verbose=False)
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
