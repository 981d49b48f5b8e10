"""Slice parameters and buffers by a Plan, set the integers it changes, fold the scales it names.

All new tensors are made before anything is touched, so a failure leaves the model whole. Parameters that change are
new `Parameter` objects (an optimizer must be built anew, or its state carried over); the others stay the same objects.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from ..errors import InputError, PruningError, nearest
from ..plan import AttributeChange, Plan, Scale
from ..trace import check_model

PLANS = "_secateur_plans"  # the plans that a model went through, oldest first


@dataclass(frozen=True, slots=True)
class _Slot:
    """A place that holds a tensor: a module's table and the name in it."""

    table: dict[str, Any]
    leaf: str


def cut(model: nn.Module, plan: Plan) -> nn.Module:
    """A smaller copy of `model`; the model itself is left as it is, and what is dropped is never copied.

    Raises `InputError` where the plan is not of this model, or the model cannot be copied.

    >>> import secateur
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]})
    >>> cut(net, plan)[0].out_features, net[0].out_features
    (6, 8)
    """
    check_model(model)
    made = _made(model, plan)
    originals = {id(t): t for t in _tensors(model)}
    memo: dict[int, Any] = {key: tensor for key, tensor in made.items() if key in originals}
    try:
        copied = copy.deepcopy(model, memo)
    except Exception as error:
        raise InputError(
            f"the model cannot be copied: {type(error).__name__}: {error}\nuse secateur.cut_(model, plan), which works in place"
        ) from error
    _set_attributes(copied, plan)
    _remember(copied, plan)
    return copied


def cut_(model: nn.Module, plan: Plan) -> nn.Module:
    """Cut `model` itself, all or nothing, and return it.

    Raises `InputError` where the plan is not of this model.

    >>> import secateur
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> cut_(net, secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]})) is net
    True
    """
    check_model(model)
    made = _made(model, plan)
    for slot in list(_slots(model)):
        new = made.get(id(slot.table[slot.leaf]))
        if new is not None:
            slot.table[slot.leaf] = new
    _set_attributes(model, plan)
    _remember(model, plan)
    return model


def plans_of(model: nn.Module) -> tuple[Plan, ...]:
    """The plans that a model went through, oldest first."""
    return model.__dict__.get(PLANS, ())


def _remember(model: nn.Module, plan: Plan) -> None:
    model.__dict__[PLANS] = (*plans_of(model), plan)


def _slots(model: nn.Module) -> Iterator[_Slot]:
    """Every place that holds a tensor, shared ones as often as they are held."""
    for module in model.modules():
        for table in (module._parameters, module._buffers, module.__dict__):
            for leaf, value in table.items():
                if isinstance(value, torch.Tensor):
                    yield _Slot(table, leaf)


def _tensors(model: nn.Module) -> Iterator[torch.Tensor]:
    return (slot.table[slot.leaf] for slot in _slots(model))


def _by_name(model: nn.Module) -> dict[str, torch.Tensor]:
    named: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        prefix = f"{path}." if path else ""
        for table in (module._parameters, module._buffers, module.__dict__):
            named.update({prefix + leaf: v for leaf, v in table.items() if isinstance(v, torch.Tensor)})
    return named


def _made(model: nn.Module, plan: Plan) -> dict[int, torch.Tensor]:
    """New tensors by the id of those they replace. Everything that can be wrong is found here."""
    named = _by_name(model)
    _check_fits(named, plan, model)
    scales: dict[str, list[Scale]] = {}
    for scale in plan.scales:
        scales.setdefault(scale.name, []).append(scale)
    indices: dict[tuple[int, ...], torch.Tensor] = {}
    made: dict[int, torch.Tensor] = {}
    for name in plan.sites:
        tensor, kept = named[name], plan.positions(name)
        if any(k is not None for k in kept):
            made[id(tensor)] = _like(tensor, _sliced(_scaled(tensor, scales.get(name, ())), kept))
    indices.clear()
    return made


def _check_fits(named: dict[str, torch.Tensor], plan: Plan, model: nn.Module) -> None:
    for name in plan.sites:
        if name not in named:
            raise InputError(f"the plan cuts {name!r}, which this model does not have{nearest(name, named)}")
        have, want = tuple(named[name].shape), plan.old_shape(name)
        if have != want:
            raise InputError(
                f"the plan is not of this model: {name}\n  plan   {want}\n  model  {have}\n"
                "make a plan on a trace of the model as it is now"
            )
    modules = dict(model.named_modules())
    for change in plan.attributes:
        module = modules.get(change.module)
        if module is None or not hasattr(module, change.name):
            raise InputError(f"the plan sets {change.module}.{change.name}, which this model does not have")
        have = _read(module, change)
        if have != change.old:
            raise InputError(
                f"the plan is not of this model: {change.module}.{change.name} is {have}, the plan expects {change.old}"
            )


def _sliced(tensor: torch.Tensor, kept: list[list[int] | None]) -> torch.Tensor:
    """Take the kept positions, the dimension that loses most first."""
    shares = [(len(k) / tensor.shape[d], d, k) for d, k in enumerate(kept) if k is not None]
    for _, dim, positions in sorted(shares, key=lambda item: item[:2]):
        tensor = tensor.index_select(dim, torch.tensor(positions, device=tensor.device))
    return tensor


def _scaled(tensor: torch.Tensor, scales: list[Scale] | tuple[()]) -> torch.Tensor:
    tensor = tensor.detach()
    for scale in scales:
        factor = torch.ones(tensor.shape[scale.dim], dtype=tensor.dtype, device=tensor.device)
        for start, stop in scale.rows:
            factor[start:stop] = scale.factor
        shape = [-1 if d == scale.dim else 1 for d in range(tensor.dim())]
        tensor = tensor * factor.view(shape)
    return tensor


def _like(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """`new` as the same kind of thing as `old`: memory format, `requires_grad`, hooks, attributes, subclass."""
    new = _in_format(old, new)
    if not isinstance(old, nn.Parameter):
        new.requires_grad_(old.requires_grad)
        return new
    parameter = nn.Parameter(new, old.requires_grad)
    if type(old) is not nn.Parameter:
        parameter.__class__ = type(old)
    parameter.__dict__.update(old.__dict__)
    for hooks in ("_backward_hooks", "_post_accumulate_grad_hooks"):
        if getattr(old, hooks, None):
            setattr(parameter, hooks, getattr(old, hooks))
    return parameter


def _in_format(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    for dim, memory in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if old.dim() == dim and not old.is_contiguous() and old.is_contiguous(memory_format=memory):
            return new.contiguous(memory_format=memory)
    return new.contiguous()


def _read(module: nn.Module, change: AttributeChange) -> Any:
    value = getattr(module, change.name)
    return value if change.index is None else value[change.index]


def _set_attributes(model: nn.Module, plan: Plan) -> None:
    modules = dict(model.named_modules())
    for change in plan.attributes:
        module = modules[change.module]
        value: Any = change.new
        if change.index is not None:
            old = getattr(module, change.name)
            places = list(old)
            places[change.index] = change.new
            value = type(old)(places)
        setattr(module, change.name, value)


__all__ = ["PruningError", "cut", "cut_", "plans_of"]
