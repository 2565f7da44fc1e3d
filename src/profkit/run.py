"""A run: what happens between entering and leaving `profkit.profile`."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

from profkit import active, jobs, plugins, staging, start, urls
from profkit.boundaries import MARKER, Boundaries
from profkit.companion import Companion
from profkit.errors import RunStateError
from profkit.loader import TimedLoader, timed_loader
from profkit.plugins import Hook
from profkit.recorder import say
from profkit.records import End
from profkit.runfolder import PROFKIT_FOLDER, RankFolder
from profkit.schedule import Schedule
from profkit.windows import Windows

if TYPE_CHECKING:
    from profkit.notebook import Shown

T = TypeVar("T")


class profile:
    """Record a training into a new run folder under `logdir`: `with profkit.profile("runs/x") as run:`.

    `logdir` may be a URL, `s3://bucket/runs`: the run is recorded into a local copy and uploaded when it has ended
    (docs/remote.md). `keep_local` leaves that copy where it is.
    `schedule` says which steps the framework's own profiler records; the time of every step and every wait for
    data are recorded anyway. `hooks`: "auto" attaches to whatever the program has imported; or names, or Hook
    objects. `sidecar=False` starts no second process and does its work when the run is left. `strict=True`
    raises profkit's own failures, which are otherwise said once while the training goes on. `hparams` go into
    the run as given. `keep_capture=False` deletes the profilers' native files once they have become tables.

    Entering raises UsageError, UnknownPlugin, MissingDependency or RunStateError, and leaves nothing behind.
    """

    def __init__(
        self,
        logdir: str | os.PathLike[str],
        *,
        schedule: Schedule = Schedule(),  # noqa: B008  # frozen
        hooks: str | Sequence[str | Hook] = "auto",
        sidecar: bool = True,
        strict: bool = False,
        quiet: bool = False,
        hparams: Mapping[str, object] | None = None,
        keep_capture: bool = True,
        keep_local: bool = False,
    ) -> None:
        place = os.fspath(logdir)
        self._target = urls.checked(place, sidecar=sidecar) if urls.is_url(place) else None
        self._logdir = Path(place).absolute() if self._target is None else staging.copies(self._target)
        self._url: str | None = None
        self._keep_local = keep_local
        self._schedule = schedule
        self._asked_hooks = hooks
        self._with_sidecar = sidecar
        self._strict = strict
        self._quiet = quiet
        self._parameters = start.plain(hparams or {})
        self._keep_capture = keep_capture
        self._entered = False

    def __enter__(self) -> Self:
        with active.starting, ExitStack() as undo:
            other = active.current()
            if other is not None:
                raise RunStateError(
                    f"a run is already active in this process, in {other.folder}: leave it first "
                    "(or start the script without `profkit run`)"
                )
            if self._entered:
                raise RunStateError("a run is entered once: make a new profkit.profile(...) for the next one")
            self._begin(undo)
            self._entered = True
            undo.pop_all()  # all started; otherwise it is undone here
            active.activate(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._pid != os.getpid():
            return  # a forked child unwinds: the run is its parent's
        with ExitStack() as ending:  # last in, first out, whatever fails
            ending.callback(self._complete)
            ending.callback(self._recorder.close)
            ending.callback(self._append_end, _reason(error))
            ending.callback(active.deactivate)
            for hook in self._hooks:
                ending.callback(self._recorder.guard, hook.stop)
            ending.callback(self._recorder.guard, self._finish_steps)

    @property
    def folder(self) -> Path:
        """The run's own folder, new under `logdir`; of a URL the local copy. Known once the run has been entered."""
        return self._folder

    @property
    def url(self) -> str | None:
        """Where the run is uploaded to, where `logdir` is a URL. Ranks on other machines may say where when it ends."""
        return self._url

    def step(self) -> None:
        """A step ends here. Inside a function marked with `profkit.step` the end of its call counts."""
        if not self._marked_calls:
            self._boundary(MARKER)

    def loader(self, iterable: Iterable[T]) -> TimedLoader[T]:
        """`iterable`, with what each batch took to come recorded: for inputs no hook knows."""
        return timed_loader(iterable, self._recorder)

    def show(self) -> Shown:
        """The page of the run so far, as a notebook's output."""
        from profkit.notebook import show  # imports polars: where somebody looks at the run, and not before

        return show(self._place)

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict and where the time went, without a script."""
        from profkit.notebook import summary

        return summary(self._place)

    def note(self, text: str) -> None:
        """Put one sentence into the run's report."""
        self._recorder.guard(self._recorder.note, text)

    def attach(self, hook: Hook) -> None:
        """Start a further hook while the run goes on; if that fails it is said, and the training goes on."""
        self._recorder.guard(self._attach, hook)

    def _begin(self, undo: ExitStack) -> None:
        place = jobs.place()
        hooks, failures = _resolve(self._asked_hooks)
        self._pid = os.getpid()
        self._folder = jobs.new_folder(self._logdir, place)
        undo.callback(start.discard, self._folder, place.rank)
        self._own = RankFolder(self._profkit_folder, place.rank)
        if self._target is not None:
            self._url = staging.announce(self._own, self._target, self._keep_local)
            undo.callback(staging.withdraw, self._own)
        self._recorder = start.new_recorder(
            self._profkit_folder / "capture", place.rank, place.world_size, self._strict
        )
        undo.callback(self._recorder.close)
        self._hooks: list[Hook] = []
        self._windows = Windows(self._schedule, self._hooks, self._recorder)
        self._marked_calls = 0  # of functions marked as the step, under way in the training thread
        self._foreign_boundaries = 0
        start.append_start(self._recorder, self._schedule, self._parameters, self._keep_capture)
        for failure in failures:
            self._recorder.note(failure)
        for hook in hooks:
            hook.start(self._recorder)
            self._hooks.append(hook)
            undo.callback(hook.stop)
        self._companion = self._spawn_companion() if self._with_sidecar else None
        if self._companion is not None:
            undo.callback(self._companion.finish)
        self._act_on_step(0)
        self._boundaries = Boundaries(self._recorder.clock())
        self._recorder.boundary = self._boundary

    @property
    def _profkit_folder(self) -> Path:
        return self._folder / PROFKIT_FOLDER

    @property
    def _place(self) -> str | Path:
        """Where the run can be read: its copy is gone once it has been uploaded."""
        return self._folder if self.url is None or self._folder.exists() else self.url

    def _spawn_companion(self) -> Companion | None:
        try:
            return Companion(self._profkit_folder, self._recorder.rank)
        except OSError as error:
            text = f"no sidecar could be started ({error.strerror}): there are no system counters"
            say(text)
            self._recorder.note(text)
            return None

    def _attach(self, hook: Hook) -> None:
        hook.start(self._recorder)
        self._hooks.append(hook)
        self._windows.join(hook, self._boundaries.number)

    def _step_called(self, suspends: bool) -> None:
        """A marked function was called: no other signal ends a step from here on."""
        if self._recorder.in_training_thread():
            self._marked_calls += not suspends
            self._declare(MARKER)

    def _step_returned(self, suspends: bool) -> None:
        """The call is over. Of marked functions that call each other only the outermost ends a step."""
        if self._recorder.in_training_thread():
            self._marked_calls -= not suspends
        self.step()

    def _boundary(self, source: str) -> None:
        """One signal that a step has ended. Never raises into the training, unless strict."""
        recorder = self._recorder
        try:
            if not recorder.in_training_thread():
                self._foreign_boundaries += 1
                return
            now_ns = recorder.clock()
            if recorder.collectors:
                recorder.collect()
            if source != self._boundaries.source:
                self._declare(source)
            before = self._boundaries.number
            for step in self._boundaries.offer(source, now_ns, recorder.take_own_ns()):
                recorder.append(step)
            busy = self._boundaries.number != before and self._act_on_step(before + 1)
            if not busy:  # windows have figures of their own
                recorder.own_ns += recorder.clock() - now_ns
        except Exception as error:
            recorder.failed(error)

    def _declare(self, source: str) -> None:
        given_up = self._boundaries.declare(source)
        if given_up is not None:
            self._recorder.note(
                f"steps were counted by the {given_up} until step {self._boundaries.number - 1}, "
                f"and by the {source} from then on"
            )

    def _act_on_step(self, number: int) -> bool:
        """Step `number` begins. Returns whether a window was worked on."""
        busy = self._windows.step_begins(number)
        if busy:
            self._look_after_companion()
        return busy

    def _look_after_companion(self) -> None:
        if self._companion is not None and self._companion.has_died():
            self._companion.finish()
            self._companion = None
            self._recorder.note("the sidecar died: there are no system counters from here on")

    def _finish_steps(self) -> None:
        recorder, number = self._recorder, self._boundaries.number
        recorder.collect()
        for step in self._boundaries.release():
            recorder.append(step)
        self._windows.finish(number)
        if number == 0:
            recorder.note(
                "no step was seen: mark it with @profkit.step on the function that trains one batch, "
                "or call run.step() at the end of the loop's body"
            )
        if self._foreign_boundaries:
            recorder.note(
                f"{self._foreign_boundaries} ends of steps came from other threads and were ignored: "
                "steps are counted in the thread that entered the run"
            )

    def _append_end(self, reason: str) -> None:
        self._recorder.guard(lambda: self._recorder.append(End(reason, self._recorder.clock())))

    def _complete(self) -> None:
        """After the training: tables and the verdict."""
        code = 1 if self._companion is None else self._companion.finish()
        if code is None:
            say(f"still at work on {self.folder}; it goes on without this process")
            return
        if code != 0:
            self._recorder.guard(_finalise, self._own)
        if not self._quiet and self._recorder.rank == 0:
            self._recorder.guard(_print_closing_text, self._profkit_folder, self._recorder.world_size)
        if self._target is not None:
            self._recorder.guard(self._leave_copy)

    def _leave_copy(self) -> None:
        """Say how the upload ended, and let the copy go where it succeeded."""
        if staging.is_unsent(self._own) or (not self._quiet and self._recorder.rank == 0):
            say(staging.told(self._own))
        known = staging.manifest(self._folder)
        self._url = known.url if known is not None else self._url
        staging.leave(self._own)

    def _forget(self) -> None:
        """In a forked child, where the run is the parent's."""
        self._recorder.close()
        if self._companion is not None:
            self._companion.forget()


def _resolve(asked: str | Sequence[str | Hook]) -> tuple[list[Hook], list[str]]:
    """Hook objects from names, and what `auto` could not load. Raises UnknownPlugin or MissingDependency."""
    if asked == "auto":
        return plugins.imported_hooks()
    wanted = [asked] if isinstance(asked, str) else asked
    return [plugins.load(plugins.HOOKS, hook) if isinstance(hook, str) else hook for hook in wanted], []


def _reason(error: BaseException | None) -> str:
    """`finished`, or the name of what ended the run; sys.exit() without an error code is an ordinary end."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished"
    return type(error).__name__


def _finalise(own: RankFolder) -> None:
    # Imports polars, and fsspec: not before the training is over.
    from profkit.finalise import finalise_and_upload

    finalise_and_upload(own)


def _print_closing_text(profkit_folder: Path, world_size: int) -> None:
    from profkit.finalise import closing_text, wait_for_ranks

    wait_for_ranks(profkit_folder, world_size)
    print(closing_text(profkit_folder), file=sys.stderr)
