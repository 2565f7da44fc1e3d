"""The folders and the installed package hold the same modules, and imports point inwards."""

from __future__ import annotations

import ast
import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RINGS = {"profkit": "src/profkit", "profkit.hooks": "hooks", "profkit.exporters": "exporters"}
OUTER = ("profkit.hooks", "profkit.exporters")
FRAMEWORKS = ("torch", "tensorflow", "keras", "jax", "lightning")

# What a training process loads: these import the standard library, msgspec and each other, nowhere in their code
# anything else. The ways out: finalise, once the training is over, and a notebook where somebody looks.
TRAINING = (
    *("__init__", "active", "boundaries", "clock", "companion", "decorator", "errors", "jobs", "launch"),
    *("loader", "marks", "plugins", "records", "recorder", "run", "runfolder", "schedule", "staging", "start", "urls"),
    "windows",
)
ON_REQUEST = {"profkit.finalise", "profkit.notebook"}


def modules(package: str) -> list[str]:
    folder = ROOT / RINGS[package]
    dotted = (f"{package}.{'.'.join(path.relative_to(folder).with_suffix('').parts)}" for path in folder.rglob("*.py"))
    return sorted(name.removesuffix(".__init__") for name in dotted)


def imports(path: Path, *, types_too: bool = False) -> set[str]:
    """Modules that the file at `path` imports, absolute, wherever in it; for type checkers only `types_too`."""
    tree = ast.parse(path.read_text())
    found: set[str] = set()
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING") and not types_too
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found |= {node.module}
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "profkit"}
    return found


def within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("name", [module for ring in RINGS for module in modules(ring)])
def test_every_source_file_is_installed(name: str) -> None:
    assert importlib.util.find_spec(name) is not None


@pytest.mark.parametrize("path", sorted((ROOT / "src/profkit").rglob("*.py")), ids=lambda path: path.stem)
def test_the_core_imports_no_hook_no_exporter_and_no_framework(path: Path) -> None:
    assert not [name for name in imports(path, types_too=True) if within(name, (*OUTER, *FRAMEWORKS))]


@pytest.mark.parametrize("ring", ["hooks", "exporters"])
def test_a_hook_and_an_exporter_never_meet(ring: str) -> None:
    for path in (ROOT / ring).rglob("*.py"):
        assert not [name for name in imports(path, types_too=True) if within(name, OUTER)], path


def test_tensorboard_is_imported_by_exporters_and_its_plugin_alone() -> None:
    importing = {
        path.relative_to(ROOT).parent
        for folder in RINGS.values()
        for path in (ROOT / folder).rglob("*.py")
        if any(within(name, ("tensorboard",)) for name in imports(path, types_too=True))
    }
    assert importing == {Path("exporters"), Path("src/profkit/tensorboard")}


def test_what_tensorboard_imports_needs_nothing_it_has_not_itself() -> None:
    """An import that fails there stops TensorBoard for everybody."""
    allowed = (*sys.stdlib_module_names, "tensorboard", "werkzeug", "profkit.tensorboard")
    for path in (ROOT / "src/profkit/tensorboard").glob("*.py"):
        assert not [name for name in imports(path) - {"profkit"} if not within(name, allowed)], path


@pytest.mark.parametrize("module", TRAINING)
def test_the_training_process_imports_the_standard_library_and_msgspec_alone(module: str) -> None:
    allowed = (*sys.stdlib_module_names, "msgspec", *(f"profkit.{name}" for name in TRAINING))
    outside = imports(ROOT / f"src/profkit/{module}.py") - ON_REQUEST - {"profkit"}
    assert not [name for name in outside if not within(name, allowed) and not _is_name_of_the_package(name)]


def _is_name_of_the_package(name: str) -> bool:
    """`from profkit import __version__` names no module."""
    return name.startswith("profkit.") and importlib.util.find_spec(name) is None
