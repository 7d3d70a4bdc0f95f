"""What a user has put in the place of a part of the loss.

Ultralytics' loss goes layer by layer through methods and objects that users override, patch, hook and exchange. Ours
computes all layers at once, so it looks first: where something is not its own any more, it goes layer by layer too.
"""

from __future__ import annotations

from typing import Any

_own: dict[type, dict[str, Any]] = {}
"""Methods of a class as this package defines them, by name."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def remember(owner: type, *names: str) -> None:
    """Keep these methods of a class, to see later whether they are still its own."""
    _own[owner] = {name: getattr(owner, name) for name in names}


def replaced_methods(instance: object, owner: type) -> list[str]:
    """Of the methods that `owner` remembers those that a subclass overrides, or that were patched.

    Every call of a loss asks, so this is written to take microseconds.
    """
    of_class, of_instance = type(instance), vars(instance)
    return [
        name
        for name, method in _own[owner].items()
        if name in of_instance or getattr(of_class, name, None) is not method
    ]


def is_replaced(module: object, owner: type) -> bool:
    """Whether calling a module does something else than calling one of `owner`: another class, a patch or a hook."""
    if not isinstance(module, owner) or replaced_methods(module, owner):
        return True
    state = vars(module)
    return any(state[name] for name in HOOKS)
