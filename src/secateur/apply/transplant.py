"""Lets objects that hold the parameters of a model follow a cut: optimizers, averaged copies, master weights.

Momentum and moments are sliced exactly as their parameters, so training continues as if the removed units had been zero
from the start. Where a plan folds a factor into a weight (such as the square root of a head size), copies of the weight
are scaled as well, but momentum is not.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from secateur.anatomy.checks import check_model
from secateur.anatomy.slots import slots
from secateur.apply.change import Change
from secateur.apply.copies import ready_copy, ready_list, ready_table
from secateur.apply.optimizers import ReadyState, put_all, ready_optimizer
from secateur.apply.ready import plans_of
from secateur.base.process import trainable
from secateur.errors import InputError, nearest
from secateur.plan.plan import Plan, needs_plan

States: TypeAlias = "Any"
"""An optimizer (or what wraps one as `.optimizer`), an LR scheduler, a GradScaler, a copy of the model (an EMA, an
`AveragedModel`), master or shadow weights as a dict of tensors by name or as a list of tensors in the order of the
parameters, or a list or tuple of these."""

S = TypeVar("S")


@trainable
def transplant(state: S, model: nn.Module, small: nn.Module, plan: Plan | None = None) -> S:
    """Let an optimizer, or another object that holds parameters, follow a cut from `model` to `small`.

    Afterwards an optimizer works on the parameters of `small`, in the same groups with the same options, and its state
    is sliced as they are. A parameter that recovery added joins the group of the weight that it belongs to; removed
    parameters leave their group. State that cannot follow (such as that of L-BFGS) is reset with a warning. Gradients
    that have not been applied are lost. If the optimizer works on master weights, pass `[masters, optimizer]`.

    Args:
        state: an optimizer, an LR scheduler, a GradScaler, a copy of the model (`AveragedModel`, or any module with the
            same names), a dict of tensors by name (with or without the prefix "module."), a list of tensors in the
            order of `model.parameters()` or of the trainable ones, or a list of these. It changes in place; on an
            error, nothing changes.
        model: the model before the cut.
        small: the model after the cut.
        plan: the plan of the cut; by default all plans that were applied to `small` but not to `model`.

    Returns:
        `state`.

    Raises:
        InputError: an object does not fit the model; the message names it.

    Example:
        >>> import secateur
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> adam = torch.optim.Adam(net.parameters())
        >>> net(torch.ones(1, 4)).sum().backward()
        >>> adam.step()
        >>> small = secateur.prune(net, torch.zeros(1, 4), "channels=0.5").model
        >>> _ = transplant(adam, net, small)
        >>> adam.state[small[0].weight]["exp_avg"].shape
        torch.Size([4, 4])
    """
    put_all(follow(state, _change(model, small, plan)))
    return state


def _change(model: nn.Module, small: nn.Module, plan: Plan | None) -> Change:
    check_model(model)
    check_model(small)
    if model is small:
        raise InputError(
            "model and small are one object: it was cut in place, and its old parameters are gone\n"
            "carry the state along with the cut: secateur.cut_(model, plan, carry=[optimizer])"
        )
    whole = plan if plan is not None else between(model, small)
    needs_plan(whole)
    before = {slot.name: slot.tensor for slot in slots(model)}
    after = {whole.names.before(slot.name): slot.tensor for slot in slots(small)}
    _check_names(before, after, whole)
    change = Change(before, after, whole)
    change.check()
    return change


def _check_names(before: Mapping[str, Tensor], after: Mapping[str, Tensor], plan: Plan) -> None:
    for name in (*plan.sites, *(one.like for one in plan.added)):
        if name not in before:
            raise InputError(f"the plan cuts {name!r}, which model does not have{nearest(name, before)}")
    for one in plan.added:
        if one.name not in after:
            raise InputError(f"the plan adds {one.name!r}, which small does not have{nearest(one.name, after)}")


def between(model: nn.Module, small: nn.Module) -> Plan:
    """Return the plans that turned `model` into `small`, composed into one."""
    before, after = plans_of(model), plans_of(small)
    plans = after[len(before) :]
    if not plans or after[: len(before)] != before:
        raise InputError(
            f"small was not cut from model: they went through {len(after)} and {len(before)} plans\n"
            "pass the model that was cut and the result of secateur.cut, or the plan: transplant(..., plan=plan)"
        )
    return functools.reduce(Plan.then, plans)


def follow(state: States, change: Change) -> list[ReadyState]:
    """Prepare the updates of all objects that hold tensors of a model, without changing anything.

    Warns about state that is lost; the warning points at the caller of the public function that calls this one. Raises
    `InputError` if an object does not fit the model.
    """
    found = _Found.of(state)
    ready = [ready_table(table, change) for table in found.tables]  # first: they may be master weights
    ready += [ready_list(tensors, change) for tensors in found.lists]
    ready += [ready_copy(module, change) for module in found.copies]
    ready += [ready_optimizer(optimizer, change) for optimizer in found.optimizers]
    lost = [line for one in ready for line in one.lost]
    if lost:
        text = "\n  ".join(["the state of these parameters cannot follow the cut and is reset:", *lost])
        warnings.warn(text, UserWarning, stacklevel=4)  # past `trainable`
    return ready


def optimizers_in(state: States) -> list[Optimizer]:
    """Return the optimizers among the objects that follow, each once."""
    return _Found.of(state).optimizers


@dataclass
class _Found:
    """The objects that follow a cut, sorted by kind, each once."""

    optimizers: list[Optimizer] = field(default_factory=list)
    tables: list[MutableMapping[str, Any]] = field(default_factory=list)
    lists: list[list[Tensor]] = field(default_factory=list)
    copies: list[nn.Module] = field(default_factory=list)

    @staticmethod
    def of(state: States) -> _Found:
        found = _Found()
        for one in _each(state):
            found.add(one)
        return found

    def add(self, one: Any) -> None:
        if isinstance(one, torch.amp.GradScaler):
            return  # it identifies its optimizers by id, which does not change
        if isinstance(one, nn.Module):
            kind: list[Any] = self.copies
        elif isinstance(one, MutableMapping):
            kind = self.tables
        elif isinstance(one, list):
            kind = self.lists
        else:
            one, kind = _optimizer_in(one), self.optimizers
        if not any(one is other for other in kind):
            kind.append(one)
            for inner in _held_by(one):
                self.add(inner)


def _held_by(one: Any) -> list[Optimizer]:
    """Return the optimizers inside an optimizer (Lookahead, sharpness-aware ones), each with its own state."""
    return [value for value in vars(one).values() if isinstance(value, Optimizer)] if isinstance(one, Optimizer) else []


def _each(state: Any) -> Iterator[Any]:
    if isinstance(state, list) and state and all(isinstance(one, Tensor) for one in state):
        yield state
    elif isinstance(state, (list, tuple)):
        for one in state:
            yield from _each(one)
    elif state is not None:
        yield state


def _optimizer_in(one: Any) -> Optimizer:
    """Return the torch optimizer in a wrapper or scheduler."""
    inner = one
    while (deeper := getattr(inner, "scheduler", None) or getattr(inner, "optimizer", None)) is not None:
        inner = deeper
    if not isinstance(inner, Optimizer):
        raise InputError(
            f"{type(one).__name__} cannot follow the cut: it is not an optimizer, LR scheduler, GradScaler, module, "
            "dict of tensors by name, list of tensors, or list of these\n"
            "pass the tensors in it as a dict by the names of the parameters, or as a list in their order"
        )
    if type(inner).__name__ == "ZeroRedundancyOptimizer":
        raise InputError("ZeroRedundancyOptimizer holds a part of the state on each rank; transplant a plain optimizer")
    return inner
