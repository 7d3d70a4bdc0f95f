"""What a user has put in the place of a part of the loss.

Ultralytics' loss goes layer by layer through methods and objects that users override, patch, hook and exchange. Ours
computes all layers at once, so it looks first: where something is not its own any more, it goes layer by layer too.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_own: dict[str, Any] = {}
"""Methods as this package defines them, by class and name."""


def remember(owner: type, *names: str) -> None:
    """Keep these methods of a class, to see later whether they are still its own."""
    _own.update({f"{owner.__name__}.{name}": getattr(owner, name) for name in names})


def replaced_methods(instance: object, owner: type, *names: str) -> list[str]:
    """Those that a subclass overrides, or that were patched on the class or on the instance."""
    of_class, of_instance = type(instance), vars(instance)
    own = (_own[f"{owner.__name__}.{name}"] for name in names)
    return [
        name
        for name, method in zip(names, own, strict=True)
        if name in of_instance or getattr(of_class, name, None) is not method
    ]


def is_replaced(module: object, owner: type) -> bool:
    """Whether calling a module does something else than calling one of `owner`: another class, a patch or a hook."""
    if not isinstance(module, owner) or replaced_methods(module, owner, "forward"):
        return True
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return isinstance(module, nn.Module) and any(getattr(module, name) for name in hooks)
