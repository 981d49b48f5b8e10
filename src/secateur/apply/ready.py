"""Prepares a cut: checks that the plan fits the model, and makes all new tensors before anything is changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from secateur.anatomy.bypass import put_bypasses
from secateur.anatomy.caches import forget
from secateur.anatomy.checks import check_model
from secateur.anatomy.guard import guard
from secateur.anatomy.holders import owner_of, put_at, values
from secateur.anatomy.lists import close, is_list
from secateur.anatomy.slots import replace_held, slots
from secateur.apply.additions import AddedPlace, places
from secateur.apply.additions import put as fill
from secateur.apply.change import Change
from secateur.apply.tensors import Cutter, alike
from secateur.base.names import inside
from secateur.base.text import counted, listed
from secateur.errors import InputError, nearest
from secateur.plan.later_names import added_names, smaller_names
from secateur.plan.parts import AttributeChange, Pick
from secateur.plan.plan import Plan, needs_plan

AS_IT_IS = "make a plan on a trace of the model as it is now"
PLANS = "_secateur_plans"  # the attribute with the plans applied to a model, oldest first


class Body:
    """The tensors and modules of a model by name, collected once."""

    def __init__(self, model: nn.Module):
        check_model(model)
        self.slots = list(slots(model))
        self.tensors = {slot.name: slot.tensor for slot in self.slots}
        self.modules = dict(model.named_modules(remove_duplicate=False))


@dataclass(frozen=True)
class Ready:
    """A cut in place that was checked, with all new tensors made; `put` carries it out."""

    model: nn.Module
    body: Body
    plan: Plan
    made: Mapping[int, torch.Tensor]
    placed: list[tuple[AddedPlace, nn.Parameter]]

    @staticmethod
    def of(model: nn.Module, plan: Plan) -> Ready:
        """Prepare a cut. Raises `InputError` if the plan does not fit the model."""
        body = Body(model)
        made = new_tensors(body, plan)
        return Ready(model, body, plan, made, new_parameters(body, plan, made))

    def change(self) -> Change:
        """Return the tensors before and after the cut."""
        left = {n: self.made.get(id(t), t) for n, t in self.body.tensors.items() if not inside(n, self.plan.removed)}
        added = {one.name: value for one, (_, value) in zip(self.plan.added, self.placed, strict=True)}
        return Change(self.body.tensors, {**left, **added}, self.plan)

    def put(self) -> None:
        for slot in self.body.slots:
            new = self.made.get(id(slot.tensor))
            if new is not None:
                slot.table[slot.leaf] = new
        replace_held(self.model, self.made)
        put_bypasses(self.body.modules, self.plan.removed)
        fill(self.placed, self.body.modules)
        finish(self.model, self.body.modules, self.plan)


def plans_of(model: nn.Module) -> tuple[Plan, ...]:
    """Return the plans that were applied to a model, oldest first."""
    return model.__dict__.get(PLANS, ())


def finish(model: nn.Module, modules: Mapping[str, nn.Module], plan: Plan) -> None:
    for change in plan.attributes:
        put(modules[change.module], change)
    forget(model, plan.caches)
    if plan.renumbered is not None:
        close(modules, plan.renumbered, plan.removed)
    guard(model, added_names([plan]), smaller_names([plan]))
    gone_through = dataclasses.replace(plan, recovery=()) if plan.recovery else plan  # a cut alone does no recovery
    model.__dict__[PLANS] = (*plans_of(model), gone_through)


def new_tensors(body: Body, plan: Plan) -> dict[int, torch.Tensor]:
    """Return new tensors by the id of those they replace. Raises `InputError` if the plan does not fit the model."""
    needs_plan(plan)
    _check_tensors(body, plan)
    _check_renorms(body, plan)
    _check_attributes(body, plan)
    _check_removed(body, plan)
    _check_renumbered(body, plan)
    _check_parameters(body, plan)
    cutter = Cutter(plan)
    made: dict[int, torch.Tensor] = {}
    for name in plan.sites:
        tensor = body.tensors[name]
        small = cutter.weights(name, tensor)
        if small is not tensor:
            made[id(tensor)] = small
    for renorm in plan.renorms:
        gain, whole = body.tensors[renorm.name], body.tensors[renorm.of]
        left = cutter.left(renorm.of, whole, made.get(id(whole), whole), renorm.dim)
        made[id(gain)] = alike(gain, made.get(id(gain), gain).detach() * left)
    for tensor in body.tensors.values():
        if tensor.is_inference() and id(tensor) not in made:  # it could never be trained
            made[id(tensor)] = alike(tensor, tensor.detach().clone())
    return made


def new_parameters(body: Body, plan: Plan, made: Mapping[int, torch.Tensor]) -> list[tuple[AddedPlace, nn.Parameter]]:
    """Return the parameters that the plan adds, and their places."""
    if not plan.added:
        return []

    def shape(name: str) -> torch.Size:
        tensor = body.tensors[name]
        return made.get(id(tensor), tensor).shape

    modules = {name: module for name, module in body.modules.items() if not inside(name, plan.removed)}
    try:
        return [(place, place.zeros()) for place in places(plan.added, modules, body.tensors, shape)]
    except InputError as error:
        raise InputError(f"the plan {error}") from error


def check_fits(model: nn.Module, plan: Plan) -> None:
    """Raise `InputError` if a plan does not fit a model."""
    needs_plan(plan)
    body = Body(model)
    _check_tensors(body, plan)
    _check_renorms(body, plan)
    _check_removed(body, plan)
    _check_parameters(body, plan)


def _check_tensors(body: Body, plan: Plan) -> None:
    for name in plan.sites:
        if name not in body.tensors:
            raise InputError(f"the plan cuts {name!r}, which this model does not have{nearest(name, body.tensors)}")
        _check_shape(name, body.tensors[name], plan.old_shape(name))


def _check_shape(name: str, tensor: torch.Tensor, want: tuple[int, ...]) -> None:
    have = tuple(tensor.shape)
    if have != want:
        raise InputError(f"the plan is not of this model: {name}\n  plan   {want}\n  model  {have}\n{AS_IT_IS}")


def _check_parameters(body: Body, plan: Plan) -> None:
    """Raise `InputError` unless the model has exactly the parameters of the traced one; others may read what is cut."""
    held = {name: tensor for name, tensor in body.tensors.items() if isinstance(tensor, nn.Parameter)}
    if plan.uncut is None:  # a plan of an earlier version, which has only their number
        count = sum({id(tensor): tensor.numel() for tensor in held.values()}.values())
        if count != plan.before.params:
            fact = f"it has {count:,} parameters, the plan expects {plan.before.params:,}"
            raise InputError(f"the plan is not of this model: {fact}\n{AS_IT_IS}")
        return
    for name, shape in plan.uncut.items():
        if name not in body.tensors:
            raise InputError(f"the plan is not of this model, which has no {name!r}{nearest(name, held)}\n{AS_IT_IS}")
        _check_shape(name, body.tensors[name], shape)
    known = {id(body.tensors[name]) for name in (*plan.sites, *plan.uncut)}
    more = [n for n, tensor in held.items() if id(tensor) not in known and not inside(n, plan.removed)]
    if more:
        fact = f"the plan does not know {counted(len(more), 'parameter tensor')}: {listed(more, 5)}"
        raise InputError(f"the plan is not of this model: {fact}\n{AS_IT_IS}")


def _check_renorms(body: Body, plan: Plan) -> None:
    for renorm in plan.renorms:
        if renorm.name not in body.tensors:
            raise InputError(f"the plan rescales {renorm.name!r}, which this model does not have")


def _check_attributes(body: Body, plan: Plan) -> None:
    numbers = plan.renumbered.numbers if plan.renumbered is not None else ()
    for change in (*plan.attributes, *numbers):
        value = _attribute(body, change)
        have = value if change.index is None else value[change.index]
        _check_expected(change, have, change.old)


def _attribute(body: Body, change: AttributeChange | Pick) -> Any:
    module = body.modules.get(change.module)
    found = owner_of(module, change.name) if module is not None else None
    if found is None:
        raise InputError(f"the plan sets {change.module}.{change.name}, which this model does not have")
    owner, leaf = found
    return values(owner)[leaf]


def _check_expected(change: AttributeChange | Pick, have: Any, old: Any) -> None:
    if have != old:
        raise InputError(
            f"the plan is not of this model: {change.module}.{change.name} is {have}, the plan expects {old}"
        )


def _check_removed(body: Body, plan: Plan) -> None:
    for name in plan.removed:
        if not name or name not in body.modules:
            raise InputError(f"the plan removes {name!r}, which this model does not have{nearest(name, body.modules)}")


def _check_renumbered(body: Body, plan: Plan) -> None:
    """Check that lists to be renumbered are lists, and that the attributes which index them exist."""
    for name in plan.renumbered.lists if plan.renumbered is not None else ():
        if name not in body.modules or not is_list(body.modules[name]):
            raise InputError(f"the plan closes gaps in {name!r}, which is not a list in this model")
    for pick in plan.renumbered.picks if plan.renumbered is not None else ():
        held = _attribute(body, pick)
        _check_expected(pick, tuple(held) if type(held) in (list, tuple) else held, pick.old)


def holder_of(module: nn.Module, change: AttributeChange | Pick) -> tuple[Any, str]:
    found = owner_of(module, change.name)
    assert found is not None, change
    return found


def put(module: nn.Module, change: AttributeChange) -> None:
    """Set an integer attribute of a module, or of an object that it holds."""
    owner, leaf = holder_of(module, change)
    put_at(owner, leaf, change.index, change.new)
