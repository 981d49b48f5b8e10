"""Bypasses of removed blocks: modules that return their arguments.

Every other module keeps its name and place, so indices, caches by layer and state dicts do not change. Where the block
was called with one tensor and returned one, `nn.Identity` is enough; else `Bypass` arranges its arguments like the
output of the block.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from secateur.plan.parts import Gives

MARK = "_secateur_bypass"


class Bypass(nn.Module):
    """A module that returns its arguments `gives`, by position or keyword: one, or a tuple with None for the rest.

    >>> Bypass((0, None, "mask"))(1, mask=2)
    (1, None, 2)
    """

    def __init__(self, gives):  # type: ignore[no-untyped-def]
        super().__init__()
        self._gives = gives

    def forward(self, *args, **kwargs):  # type: ignore[no-untyped-def]
        def given(key):  # type: ignore[no-untyped-def]
            return None if key is None else kwargs[key] if isinstance(key, str) else args[key]

        return tuple(map(given, self._gives)) if isinstance(self._gives, tuple) else given(self._gives)

    def extra_repr(self) -> str:
        return f"gives={self._gives!r}"


def put_bypasses(modules: Mapping[str, nn.Module], removed: Mapping[str, Gives]) -> None:
    """Replace modules, by name, in the modules that hold them."""
    for name, gives in removed.items():
        holder, _, leaf = name.rpartition(".")
        modules[holder]._modules[leaf] = bypass(gives, modules[name].training)


def bypass(gives: Gives, training: bool) -> nn.Module:
    """Return the module that replaces a block that returned `gives`."""
    made = (nn.Identity() if gives is None else Bypass(gives)).train(training)
    made.__dict__[MARK] = True
    return made


def is_bypass(module: nn.Module) -> bool:
    """Return whether a module replaces a removed block; an `nn.Identity` of the model itself does not."""
    return MARK in module.__dict__
