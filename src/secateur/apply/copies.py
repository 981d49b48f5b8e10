"""Cuts copies of the weights of a model: averaged models, and shadow or master weights, by name or in a list."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.anatomy.slots import slots
from secateur.apply.change import Change, Heir, Newcomer
from secateur.apply.optimizers import ReadyState
from secateur.apply.ready import Ready
from secateur.base.text import listed
from secateur.errors import InputError, PruningError

PREFIXES = ("", "module.", "_orig_mod.")
"""Prefixes that wrappers add to the names of a model."""


def ready_copy(module: nn.Module, change: Change) -> ReadyState:
    """Cut a copy of the model. Raises `InputError` if it is not a copy of the model, or is the model itself."""
    inner = _inner(module, change)
    tensors = {slot.name: slot.tensor for slot in slots(inner)}
    if any(tensor is change.before.get(name) for name, tensor in tensors.items()):
        raise InputError(f"this {type(module).__name__} is the model itself; carry optimizers, and copies of the model")
    try:
        ready = Ready.of(inner, change.plan)
    except PruningError as error:
        raise InputError(f"{type(module).__name__} cannot follow the cut: {error}") from error
    values = {n: change.weights(n, t) for n, t in tensors.items() if n in change.after and change.recovered(n)}
    values |= {one.name: change.after[one.name] for one in change.plan.added}

    def put() -> None:
        ready.put()
        with torch.no_grad():
            for slot in slots(inner):
                name = change.plan.names.before(slot.name)
                if name in values:
                    slot.tensor.copy_(values[name])

    return ReadyState(put)


def _inner(module: nn.Module, change: Change) -> nn.Module:
    """Return the module that has the parameter names of the model: itself, or the one it wraps as `.module`."""
    inner = getattr(module, "module", None)
    if isinstance(inner, nn.Module) and change.before.keys().isdisjoint(slot.name for slot in slots(module)):
        return _inner(inner, change)
    return module


def ready_table(table: MutableMapping[str, Any], change: Change) -> ReadyState:
    """Slice a dict of tensors by name, as the tensors of the model, and add their replacements to `change`.

    Raises `InputError` if no name is a name of the model, or a tensor has a different shape.
    """
    prefix = _prefix(table, change)
    names = {prefix + name: name for name in change.before if isinstance(table.get(prefix + name), Tensor)}
    _check_shapes(table, names, change)
    made: dict[str, Tensor | None] = dict.fromkeys(names)
    for key, name in names.items():
        if name in change.after:
            made[key] = _heir(table[key], name, change)
    for one in change.plan.added:
        if prefix + one.like in names:
            made[prefix + one.name] = _newcomer(one.name, table[prefix + one.like], change)

    after = {prefix + change.plan.names.after(key[len(prefix) :]): new for key, new in made.items() if new is not None}
    made = {**dict.fromkeys(made), **after}  # after renumbering, a name may belong to another tensor
    before = {key: table[key] for key in made if key in table}

    def put() -> None:
        _put_in(table, made)

    def back() -> None:
        _put_in(table, {key: before.get(key) for key in made if table.get(key) is not before.get(key)})

    return ReadyState(put, back=back)


def _put_in(table: MutableMapping[str, Any], made: Mapping[str, Any]) -> None:
    """Set these entries, and delete those that are None."""
    for key, new in made.items():
        if new is None:
            table.pop(key, None)
        else:
            table[key] = new


def ready_list(tensors: list[Tensor], change: Change) -> ReadyState:
    """Slice a list of copies of all parameters, or of the trainable ones, in their order, as `ready_table` does.

    A parameter that recovery added comes directly after the one it was made after, as in `small.parameters()`.
    """
    table: dict[str, Any] = dict(zip(_listed_names(tensors, change), tensors, strict=True))
    order = [*table]
    ready = ready_table(table, change)
    for one in change.plan.added:
        if one.like in order:
            order.insert(order.index(one.like) + 1, one.name)

    def put() -> None:
        ready.put()
        tensors[:] = [table[name] for name in order if name in table]

    return ReadyState(put)


def _listed_names(tensors: list[Tensor], change: Change) -> list[str]:
    """Return the names of the parameters that these tensors are copies of, found by the number of tensors."""
    first: dict[int, str] = {}  # a shared parameter occurs once
    for name, tensor in change.before.items():
        if isinstance(tensor, nn.Parameter):
            first.setdefault(id(tensor), name)
    names = [*first.values()]
    trained = [name for name in names if change.before[name].requires_grad]
    for found in (names, trained):
        if len(found) == len(tensors):
            return found
    raise InputError(
        f"{len(tensors)} tensors in a list do not match the model: it has {len(names)} parameters, {len(trained)} of "
        "them trained\npass one for each, in the order of model.parameters(), or a dict of tensors by name"
    )


def _prefix(table: MutableMapping[str, Any], change: Change) -> str:
    for prefix in PREFIXES:
        if any(prefix + name in table for name in change.before):
            return prefix
    raise InputError(
        f"no tensor of this {type(table).__name__} has a name of the model's\n"
        f"  it has  {listed(map(str, table), 3)}\n  model   {listed(change.before, 3)}\n"
        "pass tensors by the names of model.named_parameters()"
    )


def _check_shapes(table: MutableMapping[str, Any], names: dict[str, str], change: Change) -> None:
    for key, name in names.items():
        have, want = tuple(table[key].shape), tuple(change.before[name].shape)
        if have != want:
            raise InputError(
                f"the tensor {key!r} is not a copy of one of the model's\n  it     {have}\n  model  {want}\n"
                "pass the copy of the model as it was before the cut"
            )


def _heir(old: Tensor, name: str, change: Change) -> Tensor | None:
    """Return the replacement of a tensor in a table; it is made only once if several names share the tensor."""
    if id(old) not in change.heirs:
        change.heirs[id(old)] = Heir(change.known_as(name), old, change.weights(name, old))
    return change.heirs[id(old)].new


def _newcomer(name: str, like: Tensor, change: Change) -> Tensor:
    """Return a copy of a parameter that recovery added, with the type and device of `like`."""
    value = change.after[name].detach().to(like.device, like.dtype).clone()
    new = nn.Parameter(value) if isinstance(like, nn.Parameter) else value
    change.newcomers.append(Newcomer(name, like, new.requires_grad_(like.requires_grad)))
    return new
