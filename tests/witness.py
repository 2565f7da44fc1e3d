"""A hook that writes down what it is told, and fails where it is asked to."""

from __future__ import annotations

from profkit.recorder import Recorder


class Witness:
    """`busy` times it cannot be prepared; the method named `fails` raises, each time it is called."""

    def __init__(self, busy: int = 0, fails: str = "") -> None:
        self.calls: list[str] = []
        self._busy = busy
        self._fails = fails

    def start(self, recorder: Recorder) -> None:
        self.recorder = recorder
        self._told("start")

    def boundary(self, number: int) -> None:
        self._told("boundary", str(number))

    def prepare_window(self) -> bool:
        self._busy -= 1
        return self._busy < 0

    def open_window(self, window: int, first: int) -> None:
        self._told("open", f"{window} at {first}")

    def close_window(self, last: int) -> None:
        self._told("close", f"after {last}")

    def stop(self) -> None:
        self._told("stop")

    def windows(self) -> list[str]:
        """What it was told of windows."""
        return [call for call in self.calls if call.startswith(("open", "close"))]

    def _told(self, what: str, how: str = "") -> None:
        self.calls.append(f"{what} {how}".strip())
        if what == self._fails:
            raise ValueError(f"planted in {what}")
