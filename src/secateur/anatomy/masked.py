"""Masks on modules, as torch parametrizations: adding, finding and removing them.

A module whose `weight` is masked keeps the parameter itself, the same object, as `parametrizations.weight.original`;
`module.weight` is computed as original * mask each time it is read. An optimizer that holds the parameter still works.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.utils import parametrize

from secateur.anatomy.masked_layout import MaskedLayout, layout_of
from secateur.errors import InputError

LISTS = "parametrizations"
ORDER = "_secateur_order"  # the order of a module's parameters before any was masked


class Mask(nn.Module):
    """w -> w * mask, which is zero or one for each weight, in the dtype of the weight.

    >>> import torch
    >>> mask = Mask(torch.tensor([1.0, 0.0]))
    >>> mask(torch.tensor([3.0, 4.0]))
    tensor([3., 0.])
    """

    mask: Tensor

    def __init__(self, mask: Tensor, pattern: str = "unstructured"):
        super().__init__()
        self.register_buffer("mask", mask)
        self.pattern = pattern

    def forward(self, weight: Tensor) -> Tensor:
        return weight * self.mask

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the parameter behind the mask for a value that is assigned to the masked weight."""
        return weight

    def extra_repr(self) -> str:
        return f"{tuple(self.mask.shape)}, pattern={self.pattern!r}"


@dataclass(frozen=True, slots=True)
class Worn:
    """A parameter with its mask.

    name: its name without the mask. places: the modules that hold it, each with its name there; several where weights
    are tied.
    """

    name: str
    mask: Mask
    parameter: nn.Parameter
    places: tuple[tuple[nn.Module, str], ...]

    @property
    def layout(self) -> MaskedLayout:
        return layout_of(module for module, _ in self.places)

    def weight(self) -> Tensor:
        """Return the effective weight: the parameter times the mask."""
        return self.parameter.detach() * self.mask.mask


def worn(model: nn.Module) -> dict[str, Worn]:
    """Return the masked parameters of a model, by the first of their plain names."""
    first: dict[int, str] = {}
    found: dict[str, Worn] = {}
    for name, module, leaf, held in lists(model):
        mask = mask_in(held)
        if mask is not None:
            assert isinstance(held.original, nn.Parameter)
            key = first.setdefault(id(held.original), name)
            places = found[key].places if key in found else ()
            known = any(holder is module and other == leaf for holder, other in places)
            found[key] = Worn(key, mask, held.original, places if known else (*places, (module, leaf)))
    return found


def lists(model: nn.Module) -> Iterator[tuple[str, nn.Module, str, parametrize.ParametrizationList]]:
    """Yield everything parametrized: its plain name, the module that holds it, its name there, and the list."""
    for path, module in model.named_modules(remove_duplicate=False):
        held = getattr(module, LISTS, None)  # not from _modules, which differs in scripted parts
        for leaf, item in held._modules.items() if isinstance(held, nn.ModuleDict) else ():
            if isinstance(item, parametrize.ParametrizationList):
                yield f"{path}.{leaf}" if path else leaf, module, leaf, item


def mask_in(held: nn.Module) -> Mask | None:
    """Return the mask, if a mask is the only parametrization of a weight."""
    inner = list(held.children())
    return inner[0] if len(inner) == 1 and isinstance(inner[0], Mask) else None


def check_alone(model: nn.Module) -> None:
    """Raise `InputError` where a masked weight has another parametrization as well."""
    for name, _, leaf, held in lists(model):
        others = [type(one).__name__ for one in held.children() if not isinstance(one, Mask)]
        if others and len(others) < len(list(held.children())):
            raise InputError(
                f"{name} has a mask and {' and '.join(others)} at once, so its mask cannot be read or changed\n"
                "remove them: torch.nn.utils.parametrize.remove_parametrizations("
                f"model.get_submodule({name.rpartition('.')[0]!r}), {leaf!r}, leave_parametrized=False)\n"
                "make masks permanent with masks.harden() before you add another parametrization"
            )


def put_on(module: nn.Module, leaf: str, mask: Mask) -> None:
    """Mask a parameter of a module; the parameter stays the same object."""
    order = _order(module) or tuple(module._parameters)
    _own_class(module)
    parametrize.register_parametrization(module, leaf, mask)
    kind = type(module)
    kind.__module__ = kind.__bases__[0].__module__  # else masked modules would count as modules of torch
    setattr(_list(module, leaf), ORDER, order)
    if isinstance(module, nn.RNNBase):
        _hook(module)


def take_off(module: nn.Module, leaf: str) -> None:
    """Remove a mask, and put the parameter behind it back in its place."""
    order = _order(module)
    _own_class(module)
    parametrize.remove_parametrizations(module, leaf, leave_parametrized=False)
    table = module._parameters
    known = [name for name in order if name in table]
    ordered = {name: table[name] for name in [*known, *(name for name in table if name not in known)]}
    table.clear()
    table.update(ordered)
    if isinstance(module, nn.RNNBase) and not parametrize.is_parametrized(module):
        _unhook(module)


def _list(module: nn.Module, leaf: str) -> nn.Module:
    held = module._modules[LISTS]
    assert held is not None
    made = held._modules[leaf]
    assert made is not None
    return made


def _order(module: nn.Module) -> tuple[str, ...]:
    """Return the order of a module's parameters before the first of them was masked."""
    held = module._modules.get(LISTS)
    found = (vars(item).get(ORDER) for item in (held.children() if held is not None else ()))
    return next((order for order in found if order), ())


def _own_class(module: nn.Module) -> None:
    """Give a parametrized module its own class.

    Torch makes a class for each parametrized module, but a deep copy shares it, so a change for one module would change
    the other.
    """
    if parametrize.is_parametrized(module):
        kind = type(module)
        own: Any = type(kind.__name__, kind.__bases__, dict(vars(kind)))
        module.__class__ = own


# `nn.LSTM` and other recurrent layers run on a list of their parameters, made when they are built, without masks. The
# masked weights replace it while the layer runs; outside a run it holds the parameters, which can be copied.


def _hook(module: nn.RNNBase) -> None:
    if _lay_masked not in module._forward_pre_hooks.values():
        module.register_forward_pre_hook(_lay_masked)
        module.register_forward_hook(_lay_plain, always_call=True)


def _unhook(module: nn.RNNBase) -> None:
    for hooks, ours in ((module._forward_pre_hooks, _lay_masked), (module._forward_hooks, _lay_plain)):
        for key in [key for key, hook in hooks.items() if hook is ours]:
            del hooks[key]
            module._forward_hooks_always_called.pop(key, None)


def _lay_masked(module: nn.RNNBase, args: Any) -> None:
    module.__dict__["_flat_weights"] = [getattr(module, name, None) for name in module._flat_weights_names]


def _lay_plain(module: nn.RNNBase, args: Any, output: Any) -> None:
    module.__dict__["_flat_weights"] = [_plain(module, name) for name in module._flat_weights_names]


def _plain(module: nn.Module, name: str) -> Tensor | None:
    held = module._modules.get(LISTS)
    item = held._modules.get(name) if held is not None else None
    return module._parameters.get(name) if item is None else item._parameters["original"]


def masked_names(model: nn.Module) -> set[str]:
    """Return all plain names of masked parameters."""
    return {name for name, _, _, held in lists(model) if mask_in(held) is not None}


__all__ = ["Mask", "Worn", "check_alone", "lists", "mask_in", "put_on", "take_off", "worn"]
