"""For the tests of profkit and of plugins written elsewhere."""


class FakeClock:
    """A clock that moves only when told to. Calling it gives unix nanoseconds."""

    def __init__(self, now_ns: int = 1_000_000_000) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        return self.now_ns

    def advance(self, ns: int) -> None:
        """Let `ns` nanoseconds pass."""
        self.now_ns += ns
