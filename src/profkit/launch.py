"""`profkit run`: a program as it is, inside a run."""

from __future__ import annotations

import builtins
import functools
import importlib.util
import io
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from importlib.abc import InspectLoader, Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.metadata import EntryPoint
from pathlib import Path
from types import CodeType, ModuleType, TracebackType
from typing import Any

from profkit import plugins
from profkit.errors import UsageError
from profkit.run import profile
from profkit.schedule import Schedule


def launch(
    target: str,
    arguments: Sequence[str] = (),
    *,
    module: bool = False,
    logdir: str = "runs",
    schedule: Schedule = Schedule(),  # noqa: B008  # frozen
    **options: Any,
) -> None:
    """Run the script `target`, or the module of that name, as `__main__` in this process, and record it.

    Hooks are attached when the program imports their frameworks. `options` are those of profkit.profile. What
    the program raises, SystemExit too, is raised here. Raises UsageError where there is no such program.
    """
    program = _module(target) if module else _script(target)
    program.take_over([target if not module else program.file, *arguments])
    with profile(logdir, schedule=schedule, **options) as run, ExitStack() as late:
        if options.get("hooks", "auto") == "auto":
            late.enter_context(LateHooks(functools.partial(_attach, run)))
        exec(program.code, program.namespace.__dict__)


def _attach(run: profile, entry: EntryPoint) -> None:
    """Called in the middle of the program's import: nothing may be raised here."""
    try:
        hook = entry.load()()
    except Exception as error:
        run.note(f"{entry.name} was imported, but its hook cannot be loaded: {error}")
    else:
        run.attach(hook)


class Program:
    """What python would run as `__main__`."""

    def __init__(self, code: CodeType, file: str, first_path: str, spec: ModuleSpec | None) -> None:
        self.code = code
        self.file = file
        self.namespace = ModuleType("__main__")
        self.namespace.__dict__.update(
            __file__=file,
            __spec__=spec,  # None for a script: spawned processes then find it by its file
            __package__=spec.parent if spec is not None else None,
            __loader__=spec.loader if spec is not None else None,
            __builtins__=builtins,
            __cached__=spec.cached if spec is not None else None,
        )
        self._first_path = first_path

    def take_over(self, argv: Sequence[str]) -> None:
        """Make the interpreter look as if it had been started with this program.

        Not undone: exit handlers and spawned processes need it until the end.
        """
        sys.argv[:] = argv
        _put_first(self._first_path)
        sys.modules["__main__"] = self.namespace


def _put_first(path: str) -> None:
    """Where python itself puts the program's folder."""
    if not sys.flags.safe_path:
        sys.path[0] = path


def _script(target: str) -> Program:
    path = str(Path(target).absolute())
    try:
        with io.open_code(path) as file:
            source = file.read()
    except OSError as error:
        raise UsageError(f"cannot run {target!r}: {error.strerror}") from error
    code = compile(source, path, "exec", dont_inherit=True)
    return Program(code, path, str(Path(target).resolve().parent), None)


def _module(name: str) -> Program:
    _put_first(str(Path.cwd()))
    spec = _spec(name)
    if spec is not None and spec.submodule_search_locations is not None:
        spec = _spec(f"{name}.__main__")
    code = spec.loader.get_code(spec.name) if spec and isinstance(spec.loader, InspectLoader) else None
    if spec is None or code is None:
        raise UsageError(f"cannot run -m {name}: there is no such module, or it cannot be executed")
    return Program(code, str(spec.origin), str(Path.cwd()), spec)


def _spec(name: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(name)
    except ImportError:  # its parent package is missing
        return None


class LateHooks(MetaPathFinder):
    """Attaches each hook of `auto` when the program has imported its module.

    A module within a package waits for the package: while that is being imported its parts are not ready.
    """

    def __init__(self, attach: Callable[[EntryPoint], None]) -> None:
        self._attach = attach
        hooks = plugins.auto_hooks().items()
        self._pending = {name: entry for name, entry in hooks if name not in sys.modules}
        self._importing: set[str] = set()

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._pending.clear()
        self._retire()

    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        """Let the other finders find a module that is waited for, and have its end announced."""
        if name not in self._watched() or name in self._importing:
            return None
        self._importing.add(name)
        try:
            spec = importlib.util.find_spec(name)
        finally:
            self._importing.discard(name)
        if spec is not None and spec.loader is not None:
            spec.loader = _Announcing(spec.loader, self)
        return spec

    def execute(self, name: str, execution: Callable[[], None]) -> None:
        """Execute the module `name`; if that succeeds, attach what is complete now."""
        self._importing.add(name)
        try:
            execution()
        finally:
            self._importing.discard(name)
        for module in [name for name in self._pending if name in sys.modules and self._is_complete(name)]:
            self._attach(self._pending.pop(module))
        if not self._pending:
            self._retire()

    def _is_complete(self, module: str) -> bool:
        return not any(f"{module}.".startswith(f"{other}.") for other in self._importing)

    def _retire(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def _watched(self) -> set[str]:
        return {*self._pending, *(name.partition(".")[0] for name in self._pending)}


class _Announcing(Loader):
    """A module's own loader, which tells when the module has been executed, and then steps aside."""

    def __init__(self, loader: Loader, hooks: LateHooks) -> None:
        self._loader = loader
        self._hooks = hooks

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._hooks.execute(module.__name__, lambda: self._loader.exec_module(module))
