"""What hooks and the run write to while the training goes on."""

from __future__ import annotations

import errno
import os
import sys
import weakref
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from pathlib import Path
from threading import get_ident
from types import TracebackType
from typing import ParamSpec, TypeVar

import msgspec

from profkit.boundaries import BATCH, Requests
from profkit.clock import Clock
from profkit.records import FRAME, Note, Record, Wait

P = ParamSpec("P")
R = TypeVar("R")

DEFERRED_AT_MOST = 64  # records: an evaluation of a thousand batches is written down as it goes
NOTHING: AbstractContextManager[object] = nullcontext()  # shared by all ranges outside windows
NOBODY = -1  # identifies no thread: what a recorder listens to once it is closed


class Recorder:
    """The only mutable object of the training process: appends records to this process's capture file.

    It also keeps profkit's failures out of the training: whatever passes through `guard` is said once, on
    stderr and as a Note, and goes no further. With `strict` it is raised instead. Times are unix nanoseconds.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], int] | None = None,
        rank: int = 0,
        world_size: int = 1,
        strict: bool = False,
    ) -> None:
        """Create the file `path`. Raises OSError where that is not possible."""
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._encode = msgspec.msgpack.Encoder().encode
        self._strict = strict
        self._said: set[object] = set()
        self._loaders: dict[int, tuple[weakref.ref[object], int]] = {}
        self._loaders_seen = 0
        self._waiting = False
        self._deferred: list[Record] = []
        self.capture = path.parent
        self.clock = clock or Clock.anchored_now()
        self.rank = rank
        self.world_size = world_size
        self.thread = get_ident()  # the training thread: its steps and waits count
        self.own_ns = 0  # profkit's own time since the last step's end
        self.failure: OSError | None = None
        self.boundary: Callable[[str], None] = _ignored  # hooks call it with the source of a step's end
        self.is_traced: Callable[[], bool] = _never  # whether a compiler only reads the code that is called
        self.collectors: list[Callable[[], None]] = []  # called when a step ends, for what was counted elsewhere
        self.counts_requests = True  # whether asking for a batch may end a step; not where an optimizer tells
        self._requests = Requests(self._is_gone)
        self._device_user: object = None
        self.annotators: list[Callable[[str], AbstractContextManager[object]]] = []  # of open windows

    def append(self, record: Record) -> None:
        """Write one record at once, behind those put off."""
        self._deferred.append(record)
        self.flush()

    def defer(self, record: Record) -> None:
        """Write a record together with the next one that is appended; a kill before that loses it.

        A step writes its waits along with itself: two writes with the training's work between them would each find
        the caches cold, which costs more than the writing.
        """
        self._deferred.append(record)
        if len(self._deferred) >= DEFERRED_AT_MOST:
            self.flush()

    def flush(self) -> None:
        """Write what was put off. After a failed or short write nothing is written any more."""
        deferred, self._deferred = self._deferred, []
        if self._fd < 0 or not deferred:
            return
        frames = b"".join([self._frame(record) for record in deferred])
        try:
            written = os.write(self._fd, frames)
        except OSError as error:
            self._give_up(error)
        else:
            if written != len(frames):
                self._give_up(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    def _frame(self, record: Record) -> bytes:
        body = self._encode(record)
        return FRAME.pack(len(body), zlib.crc32(body)) + body

    def note(self, text: str) -> None:
        """One sentence for the report; a second time the same one is not written."""
        if text not in self._said:
            self._said.add(text)
            self.append(Note(text, self.clock()))

    def guard(self, call: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R | None:
        """Call profkit's own code. What it raises is said once and None returned; strict mode raises it."""
        try:
            return call(*args, **kwargs)
        except Exception as error:
            self.failed(error)
            return None

    def failed(self, error: Exception) -> None:
        """Say once what went wrong at this place; the training goes on. Raises it in strict mode."""
        if self._strict:
            raise error
        place = _place(error)
        if place in self._said:
            return
        self._said.add(place)
        text = f"an error inside profkit, the training goes on: {type(error).__name__}: {error} ({place})"
        say(text)
        with suppress(Exception):  # the clock may be what failed
            self.note(text)

    def in_training_thread(self) -> bool:
        """Whether the caller runs in the thread that entered the run."""
        return get_ident() == self.thread

    def counts_waits(self) -> bool:
        """Whether a wait that begins here counts: in the training thread, and not within another one."""
        return not self._waiting and get_ident() == self.thread

    def timed(self, make: Callable[[int, int], Record]) -> Timed:
        """Context manager: time the training thread and append `make(start_ns, duration_ns)`."""
        return Timed(self, make)

    def wait(self, loader: int, first: bool) -> Timed:
        """Context manager around asking for one batch; no batch, no record."""
        return Timed(self, lambda start_ns, duration_ns: Wait(loader, start_ns, duration_ns, first))

    def request(self, loader: int, first: bool) -> Timed:
        """The same, where asking for the next batch is a sign that the step is over."""
        return Request(self, loader, first)

    def annotated(self, name: str) -> AbstractContextManager[object]:
        """A range of this name in every open window; nothing outside windows. What fails there is said."""
        if not self.annotators:
            return NOTHING
        opened = ExitStack()
        for annotator in tuple(self.annotators):
            span = self.guard(annotator, name)
            if span is not None:
                self.guard(span.__enter__)
                opened.callback(self.guard, span.__exit__, None, None, None)
        return opened

    def begin_wait(self) -> int | None:
        """When the training thread begins to wait; None where the wait does not count."""
        if get_ident() != self.thread:
            self._heard_elsewhere()
            return None
        if self._waiting:
            return None
        try:
            start_ns = self.clock()
        except Exception as error:
            self.failed(error)
            return None
        self._waiting = True
        return start_ns

    def end_wait(self, make: Callable[[int, int], Record], start_ns: int, came: bool) -> None:
        """The wait is over; it is recorded if what was waited for `came`."""
        self._waiting = False
        if not came:
            return
        try:
            end_ns = self.clock()
            self.defer(make(start_ns, end_ns - start_ns))
            self.own_ns += self.clock() - end_ns
        except Exception as error:
            self.failed(error)

    def claims_devices(self, hook: object) -> bool:
        """Whether `hook` may record the devices in its window: their profiling interface takes one user at a time."""
        if self._device_user is None:
            self._device_user = hook
        return self._device_user is hook

    def yields_devices(self, hook: object) -> None:
        """The window of `hook` is over."""
        if self._device_user is hook:
            self._device_user = None

    def collect(self) -> None:
        """Write down what was counted elsewhere until now. Not while a wait goes on."""
        for collector in self.collectors:
            self.guard(collector)

    def take_own_ns(self) -> int:
        """profkit's own time since this was last asked."""
        own_ns, self.own_ns = self.own_ns, 0
        return own_ns

    def loader_number(self, loader: object) -> int:
        """The number of `loader` in this run, the same for every pass over it."""
        reference, number = self._loaders.get(id(loader), (None, 0))
        if reference is not None and reference() is loader:
            return number
        number, self._loaders_seen = self._loaders_seen, self._loaders_seen + 1
        with suppress(TypeError):  # a list, say, cannot be referred to weakly: every pass has its own number
            self._loaders[id(loader)] = weakref.ref(loader), number
        return number

    def _is_gone(self, number: int) -> bool:
        """Whether the loader of this number exists no more, or is unknown by anything but one pass."""
        return all(n != number or reference() is None for reference, n in self._loaders.values())

    def close(self) -> None:
        """Record nothing from here on, and listen to no thread."""
        self.thread = NOBODY
        self.boundary = _ignored
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _heard_elsewhere(self) -> None:
        if self.thread != NOBODY:
            self.guard(
                self.note,
                "a loader was iterated in another thread; its waits are not the training's: "
                "put what the training loop iterates over into run.loader(...)",
            )

    def _give_up(self, error: OSError) -> None:
        self.failure = error
        os.close(self._fd)
        self._fd = -1
        if self._strict:
            raise error
        say(f"stopped recording: {error.strerror}; the training goes on")


class Timed:
    """What the training thread waits for. Waits of other threads, or within another one, do not count."""

    __slots__ = ("_make", "_recorder", "_start_ns")

    def __init__(self, recorder: Recorder, make: Callable[[int, int], Record]) -> None:
        self._recorder = recorder
        self._make = make

    def __enter__(self) -> None:
        self._start_ns = self._recorder.begin_wait()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._start_ns is not None:
            self._recorder.end_wait(self._make, self._start_ns, kind is None)


class Request(Timed):
    """A wait for a batch whose beginning may end a step."""

    __slots__ = ("_loader",)

    def __init__(self, recorder: Recorder, loader: int, first: bool) -> None:
        super().__init__(recorder, lambda start_ns, duration_ns: Wait(loader, start_ns, duration_ns, first))
        self._loader = loader

    def __enter__(self) -> None:
        recorder = self._recorder
        if recorder.counts_requests and recorder.counts_waits() and recorder._requests.asked(self._loader):
            recorder.boundary(BATCH)
        super().__enter__()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, traceback)
        if self._start_ns is not None and kind is None:
            self._recorder._requests.answered(self._loader)


def either(first: Callable[[], bool], second: Callable[[], bool]) -> Callable[[], bool]:
    """Whether `first` says so, or else `second`."""
    return lambda: first() or second()


def say(text: str) -> None:
    """One line to the user. A closed stderr is no reason to fail."""
    with suppress(OSError, ValueError, AttributeError):
        print(f"profkit: {text}", file=sys.stderr, flush=True)


def _place(error: BaseException) -> str:
    """File and line where `error` was raised."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    if traceback is None:
        return "unknown place"
    return f"{Path(traceback.tb_frame.f_code.co_filename).name}:{traceback.tb_lineno}"


def _ignored(source: str) -> None:
    """A boundary nobody counts."""


def _never() -> bool:
    return False
