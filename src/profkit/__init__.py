"""Why is my training step slow, and what do I change?

    import profkit

    with profkit.profile("runs/resnet"):
        for images, labels in loader:
            train_step(images, labels)

    @profkit.step
    def train_step(images, labels): ...

Most names are loaded when they are first used: importing profkit imports no other library, patches nothing,
starts nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

# Not lazy, because the submodule has the function's name: its first import would put the module in its place.
from profkit.schedule import Schedule, schedule

if TYPE_CHECKING:
    from profkit.errors import ProfkitError as ProfkitError
    from profkit.marks import annotate as annotate
    from profkit.marks import step as step
    from profkit.run import profile as profile
    from profkit.trace.load import load as load

__version__ = "0.1.0"

_HOMES = {
    "ProfkitError": "profkit.errors",
    "annotate": "profkit.marks",
    "load": "profkit.trace.load",
    "profile": "profkit.run",
    "step": "profkit.marks",
}

__all__ = ["ProfkitError", "Schedule", "annotate", "load", "profile", "schedule", "step"]


def __getattr__(name: str) -> Any:
    if name == "keras":
        return import_module("profkit.keras")
    if name not in _HOMES:
        raise AttributeError(f"module 'profkit' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOMES])
