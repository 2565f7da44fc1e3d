"""A TensorBoard that really runs, asked over HTTP."""

from __future__ import annotations

import gzip
import json
import os
import re
import selectors
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

LIMIT_S = 60.0
PAUSE_S = 0.1
PRINTED_URL = re.compile(rb"http://localhost:(\d+)/")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Asked:
    """A running TensorBoard: its address, ending in a slash, and its decoded answers."""

    base: str

    def __call__(self, path: str) -> Any:
        return _answer(f"{self.base}{path.lstrip('/')}")


@contextmanager
def tensorboard(logdir: Path | str, *options: str, **environment: str) -> Iterator[Asked]:
    """Start TensorBoard on a free port of the loopback; what it yields takes a path to the decoded answer."""
    # A port of 0 lets the system choose one; the line TensorBoard prints says which.
    command: Sequence[str] = (
        sys.executable, "-m", "tensorboard.main", "--logdir", str(logdir), "--port", "0", "--host", "localhost",
        "--reload_interval", "1", *options,
    )  # fmt: skip
    surroundings = {**os.environ, "TORCH_PROFILER_START_METHOD": "spawn", **environment}
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, env=surroundings) as process:
        try:
            yield Asked(f"http://localhost:{_port(process)}/")
        finally:
            process.terminate()
            process.wait(LIMIT_S)


def until(ask: Callable[[], T], answered: Callable[[T], bool]) -> T:
    """The first answer that will do; fails after a limit."""
    deadline = time.monotonic() + LIMIT_S
    while True:
        try:
            answer: T | None = ask()
        except urllib.error.HTTPError as error:
            answer = None
            error.close()
        if answer is not None and answered(answer):
            return answer
        assert time.monotonic() < deadline, f"TensorBoard never had it; its last answer: {str(answer)[:500]}"
        time.sleep(PAUSE_S)


def _port(process: subprocess.Popen[bytes]) -> int:
    """Of the address that TensorBoard prints when it listens."""
    assert process.stderr is not None
    printed, deadline = b"", time.monotonic() + LIMIT_S
    with selectors.DefaultSelector() as selector:
        selector.register(process.stderr, selectors.EVENT_READ)
        while time.monotonic() < deadline and process.poll() is None:
            if selector.select(PAUSE_S):
                printed += os.read(process.stderr.fileno(), 65_536)
            if found := PRINTED_URL.search(printed):
                return int(found[1])
    raise AssertionError(f"TensorBoard did not start: {printed.decode(errors='replace')}")


def _answer(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=LIMIT_S) as response:
        body = response.read()
        # XProf packs its answers whether asked to or not.
        return json.loads(gzip.decompress(body) if response.headers["Content-Encoding"] == "gzip" else body)
