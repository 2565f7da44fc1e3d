"""`profkit.keras.Callback`: the same recording for people who write `model.fit(..., callbacks=[...])`.

Loaded when it is used, since it imports Keras.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    Callback: TypeAlias = Any

__all__ = ["Callback"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'profkit.keras' has no attribute {name!r}")
    return getattr(import_module("profkit.hooks.keras"), name)
