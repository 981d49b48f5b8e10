"""Parameters that a plan adds to modules that were built without them.

A module built with `bias=False` still registers a parameter named "bias", whose value is None. Only such an empty place
can be filled, so a plan cannot change any other attribute of a model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import nn

from secateur.errors import InputError, nearest
from secateur.plan.parts import Added


@dataclass(frozen=True, slots=True)
class AddedPlace:
    """An empty place for a parameter in the module `path`: of `length` elements, with the type and device of `like`."""

    path: str
    leaf: str
    module: nn.Module
    like: torch.Tensor
    length: int

    def zeros(self) -> nn.Parameter:
        """Return the parameter of zeros to be put there."""
        made = torch.zeros(self.length, dtype=self.like.dtype, device=self.like.device)
        return nn.Parameter(made, self.like.requires_grad)


def places(
    added: Iterable[Added],
    modules: Mapping[str, nn.Module],
    tensors: Mapping[str, torch.Tensor],
    shape: Callable[[str], Sequence[int]],
) -> list[AddedPlace]:
    """Return the places for parameters, in the order of `added`. `shape` returns the shape of a tensor after the cut.

    Raises `InputError`, whose message continues "the plan ...", if a module has no empty place for a parameter.

    >>> net = nn.Sequential(nn.Linear(2, 3, bias=False))
    >>> tensors = net.state_dict()
    >>> [place] = places([Added("0.bias", "0.weight", 0)], dict(net.named_modules()), tensors, lambda name: (3, 2))
    >>> place.leaf, place.length
    ('bias', 3)
    """
    taken: set[tuple[int, str]] = set()
    found: list[AddedPlace] = []
    for one in added:
        path, _, leaf = one.name.rpartition(".")
        module = _module(one.name, path, leaf, modules)
        if one.name in tensors:
            raise InputError(f"adds {one.name!r}, but there is one already, of shape {tuple(shape(one.name))}")
        if (id(module), leaf) in taken:
            raise InputError(f"adds {one.name!r}, which it adds under another name of the same module already")
        taken.add((id(module), leaf))
        found.append(AddedPlace(path, leaf, module, *_like(one, tensors, shape)))
    return found


def _module(name: str, path: str, leaf: str, modules: Mapping[str, nn.Module]) -> nn.Module:
    """Return the module that has an empty place for a parameter."""
    module = modules.get(path)
    if module is None:
        raise InputError(f"adds {name!r}, but there is no module {path!r} in this model{nearest(path, modules)}")
    if leaf not in module._parameters:
        known = ", ".join(map(repr, module._parameters)) or "none"
        raise InputError(
            f"adds {name!r}, but this {type(module).__name__} has no place for it: its parameters are {known}"
        )
    return module


def _like(
    one: Added, tensors: Mapping[str, torch.Tensor], shape: Callable[[str], Sequence[int]]
) -> tuple[torch.Tensor, int]:
    """Return the tensor whose type and device an added parameter takes, and the length of the parameter."""
    like = tensors.get(one.like)
    if like is None:
        raise InputError(
            f"adds {one.name!r} like {one.like!r}, which this model does not have{nearest(one.like, tensors)}"
        )
    sizes = tuple(shape(one.like))
    if one.dim >= len(sizes) or not (like.is_floating_point() or like.is_complex()):
        raise InputError(f"adds {one.name!r} as long as {one.like}[{one.dim}], which is {sizes} of {like.dtype}")
    return like, sizes[one.dim]


def put(placed: Iterable[tuple[AddedPlace, nn.Parameter]], modules: Mapping[str, nn.Module]) -> None:
    """Register the parameters in their places; `modules` holds the modules by name."""
    for place, parameter in placed:
        modules[place.path]._parameters[place.leaf] = parameter
