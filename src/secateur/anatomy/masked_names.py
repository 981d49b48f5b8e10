"""Plans in plain names: a masked weight has the name that it has without its mask.

A plan that was made on a masked model slices `conv.parametrizations.weight.original` and its mask. In plain names it
slices `conv.weight`, which holds for the model with and without masks. Plans are saved in plain names.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import replace

from torch import nn

from secateur.anatomy.masked import LISTS
from secateur.anatomy.slots import Slot, slots
from secateur.plan.plan import Plan

_INNER, _MASK = "original", "0.mask"


def plain_name(name: str, masked: Container[str]) -> str | None:
    """Return the plain name of a tensor; None for a mask. masked: the plain names of masked parameters.

    >>> plain_name("conv.parametrizations.weight.original", {"conv.weight"})
    'conv.weight'
    """
    head, found, tail = f".{name}".rpartition(f".{LISTS}.")
    leaf, _, inner = tail.partition(".")
    own = f"{head}.{leaf}".removeprefix(".")
    if not found or own not in masked or inner not in (_INNER, _MASK):
        return name
    return own if inner == _INNER else None


def plain_slots(model: nn.Module, masked: Container[str]) -> Iterator[Slot]:
    """Yield the places in which a model holds tensors, by plain names, without masks."""
    for slot in slots(model):
        name = plain_name(slot.name, masked)
        if name is not None:
            yield replace(slot, name=name)


def plain(plan: Plan, masked: Container[str]) -> Plan:
    """Return the plan in plain names."""

    def named(name: str) -> str:
        return plain_name(name, masked) or name

    return replace(
        plan,
        sites={own: codes for name, codes in plan.sites.items() if (own := plain_name(name, masked)) is not None},
        uncut=None if plan.uncut is None else {named(name): shape for name, shape in plan.uncut.items()},
        scales=tuple(replace(scale, name=named(scale.name)) for scale in plan.scales),
        renorms=tuple(replace(one, name=named(one.name), of=named(one.of)) for one in plan.renorms),
        added=tuple(replace(added, name=named(added.name), like=named(added.like)) for added in plan.added),
    )


__all__ = ["plain", "plain_name", "plain_slots"]
