"""Log folders at URLs: which these are, and whether fsspec could reach them. It is asked without being imported."""

from __future__ import annotations

import ast
import re
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from profkit.errors import MissingDependency, UsageError

IN_MEMORY = "memory"
_URL = re.compile(r"[a-z][a-z0-9+.:_-]*://", re.IGNORECASE)


def location(text: str) -> str | Path:
    """A URL as it is; anything else as a path, which would make one slash of a URL's two."""
    return text if is_url(text) else Path(text)


def is_url(place: str) -> bool:
    """Whether this is fsspec's affair, and no path."""
    return _URL.match(place) is not None


def checked(url: str, *, sidecar: bool) -> str:
    """`url`, if runs can be uploaded to it as far as can be told without trying.

    Raises UsageError where the URL cannot be meant, MissingDependency where a library is missing.
    """
    scheme = url.partition("://")[0].lower()
    if find_spec("fsspec") is None:
        raise MissingDependency(f"log folder {url!r} needs fsspec; run: pip install 'profkit[remote]'")
    known = _implementations()
    if scheme not in known:
        if scheme not in {entry.name for entry in entry_points(group="fsspec.specs")}:
            raise UsageError(f"log folder {url!r}: fsspec knows no {scheme!r}; it knows {', '.join(sorted(known))}")
    elif missing := _missing(known[scheme]):
        raise MissingDependency(f"log folder {url!r} needs {missing}; run: pip install {missing}")
    if scheme == IN_MEMORY and sidecar:
        raise UsageError(
            f"log folder {url!r} is in this process's memory, where no sidecar can put a run: sidecar=False"
        )
    if urlsplit(url).password is not None:
        raise UsageError("a log folder's URL must hold no password, which would be stored with the run")
    return url.rstrip("/")


def _implementations() -> dict[str, str]:
    """Scheme -> class, as fsspec lists them. Its list is read and not imported: the training stays as it is."""
    tree = ast.parse((_fsspec() / "registry.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "known_implementations":
            return {scheme: entry["class"] for scheme, entry in ast.literal_eval(node.value).items()}
    return {}


def _missing(implementation: str) -> str | None:
    """The first package that a class of fsspec's list needs and that is not installed."""
    module = implementation.rpartition(".")[0]
    needed = [module.partition(".")[0]]
    if needed == ["fsspec"]:
        tree = ast.parse(_fsspec().joinpath(*module.split(".")[1:]).with_suffix(".py").read_text())
        needed = [name.partition(".")[0] for node in tree.body for name in _imported(node)]
    return next((name for name in needed if find_spec(name) is None), None)


def _imported(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and node.level == 0 else []


def _fsspec() -> Path:
    spec = find_spec("fsspec")
    assert spec is not None and spec.origin is not None  # asked for before
    return Path(spec.origin).parent
