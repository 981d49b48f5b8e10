"""What stands where a block of layers was: a module that gives back what it is given.

Every other module keeps its name and place, so indices, caches kept by layer and state dicts stay as they are. Where
the block was called with one tensor and gave one, `nn.Identity` does; else `Bypass`, which arranges its arguments as
the block's output was.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from secateur.plan.parts import Gives

MARK = "_secateur_bypass"


class Bypass(nn.Module):
    """Gives its arguments `gives`, each by position or keyword: one alone, or a tuple of them with None for the rest.

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
    """What stands for a block that gave `gives`."""
    made = (nn.Identity() if gives is None else Bypass(gives)).train(training)
    made.__dict__[MARK] = True
    return made


def is_bypass(module: nn.Module) -> bool:
    """Whether a module stands where a block was; an `nn.Identity` of the model's own does not."""
    return MARK in module.__dict__
