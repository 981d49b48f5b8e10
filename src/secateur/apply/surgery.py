"""Slice parameters and buffers by a Plan, bypass blocks, set the integers it changes, fold the scales it names, add
the parameters (of zeros) that it adds.

All new tensors are made before anything is touched, so a failure leaves the model whole. Parameters that change are
new `Parameter` objects, so an optimizer must be carried over (`carry`, `transplant`) or built anew; the others stay the
same objects.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from ..additions import Place, places
from ..additions import put as fill
from ..bypass import bypass, inside, put_bypasses
from ..caches import forget, left_out
from ..errors import InputError, nearest
from ..guard import guard
from ..holders import owner_of, put_at, values
from ..plan import AttributeChange, Plan, needs_plan
from ..process import trainable
from ..renumbering import Pick, close, is_list
from ..slots import replace_held, slots
from ..trace import check_model
from .change import Change
from .copying import copied
from .tensors import Cutter, alike, hooks_of

if TYPE_CHECKING:
    from .transplant import States

PLANS = "_secateur_plans"  # the plans that a model went through, oldest first


class _Body:
    """A model laid open once: its tensors and modules by name."""

    def __init__(self, model: nn.Module):
        check_model(model)
        self.slots = list(slots(model))
        self.tensors = {slot.name: slot.tensor for slot in self.slots}
        self.modules = dict(model.named_modules(remove_duplicate=False))


@trainable
def cut(model: nn.Module, plan: Plan) -> nn.Module:
    """A smaller copy of `model`; the model itself is left as it is, and what is dropped is never copied.

    Raises `InputError` where the plan is not of this model, or the model cannot be copied.

    >>> import secateur
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]})
    >>> cut(net, plan)[0].out_features, net[0].out_features
    (6, 8)
    """
    body = _Body(model)
    new = _made(body, plan)
    placed = _placed(body, plan, new)
    made = _copies(body, plan, new)
    gone = {id(body.modules[name]): bypass(gives, body.modules[name].training) for name, gives in plan.removed.items()}
    small = copied(model, {**left_out(model, plan.caches), **made, **gone})
    _learn_alike(model, small)
    modules = dict(small.named_modules(remove_duplicate=False))
    _check_apart(body.modules, modules, plan)
    fill(placed, modules)
    _finish(small, modules, plan)
    return small


def _learn_alike(model: nn.Module, copied: nn.Module) -> None:
    """What was copied without gradients wants them again where the original did."""
    wanted = {name: old.requires_grad for name, old in model.named_parameters()}
    for name, new in copied.named_parameters():
        if new.requires_grad != wanted.get(name, new.requires_grad):
            new.requires_grad_(wanted[name])


@trainable
def cut_(model: nn.Module, plan: Plan, *, carry: States = ()) -> nn.Module:
    """Cut `model` itself, all or nothing, and return it.

    `carry`: optimizers, averaged copies of the model and whatever else `transplant` takes, which follow. An object that
    its modules hold, such as a config, is changed too: whoever else holds it sees the new sizes. Raises `InputError`
    where the plan is not of this model, or something to be carried is not.

    >>> import secateur
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]})
    >>> cut_(net, plan, carry=[sgd]) is net, sgd.param_groups[0]["params"][0] is net[0].weight
    (True, True)
    """
    from .optimizers import put_all  # these stand on this module
    from .transplant import follow

    ready = Ready.of(model, plan)
    put_all(follow(carry, ready.change()))
    ready.put()
    return model


@dataclass(frozen=True)
class Ready:
    """A cut in place that was found possible, with all that is new made; `put` carries it out."""

    model: nn.Module
    body: _Body
    plan: Plan
    made: Mapping[int, torch.Tensor]
    placed: list[tuple[Place, nn.Parameter]]

    @staticmethod
    def of(model: nn.Module, plan: Plan) -> Ready:
        """Raises `InputError` where the plan is not of the model."""
        body = _Body(model)
        made = _made(body, plan)
        return Ready(model, body, plan, made, _placed(body, plan, made))

    def change(self) -> Change:
        """What becomes of the tensors."""
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
        _finish(self.model, self.body.modules, self.plan)


def plans_of(model: nn.Module) -> tuple[Plan, ...]:
    """The plans that a model went through, oldest first."""
    return model.__dict__.get(PLANS, ())


def _finish(model: nn.Module, modules: Mapping[str, nn.Module], plan: Plan) -> None:
    for change in plan.attributes:
        put(modules[change.module], change)
    forget(model, plan.caches)
    if plan.renumbered is not None:
        close(modules, plan.renumbered, plan.removed)
    guard(model, (plan.names.after(one.name) for one in plan.added))
    gone_through = dataclasses.replace(plan, recovery=()) if plan.recovery else plan  # a cut recovers nothing
    model.__dict__[PLANS] = (*plans_of(model), gone_through)


def _made(body: _Body, plan: Plan) -> dict[int, torch.Tensor]:
    """New tensors by the id of those they replace. Everything that can be wrong is found here."""
    needs_plan(plan)
    _check_tensors(body, plan)
    _check_renorms(body, plan)
    _check_attributes(body, plan)
    _check_removed(body, plan)
    _check_renumbered(body, plan)
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
        if tensor.is_inference() and id(tensor) not in made:  # made under inference mode: it can never be trained
            made[id(tensor)] = alike(tensor, tensor.detach().clone())
    return made


def _placed(body: _Body, plan: Plan, made: Mapping[int, torch.Tensor]) -> list[tuple[Place, nn.Parameter]]:
    """The parameters that are added, and where they go."""
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
    """Raise `InputError` where a plan is not of a model."""
    needs_plan(plan)
    body = _Body(model)
    _check_tensors(body, plan)
    _check_renorms(body, plan)
    _check_removed(body, plan)


def _check_tensors(body: _Body, plan: Plan) -> None:
    for name in plan.sites:
        if name not in body.tensors:
            raise InputError(f"the plan cuts {name!r}, which this model does not have{nearest(name, body.tensors)}")
        have, want = tuple(body.tensors[name].shape), plan.old_shape(name)
        if have != want:
            raise InputError(
                f"the plan is not of this model: {name}\n  plan   {want}\n  model  {have}\n"
                "make a plan on a trace of the model as it is now"
            )


def _check_renorms(body: _Body, plan: Plan) -> None:
    for renorm in plan.renorms:
        if renorm.name not in body.tensors:
            raise InputError(f"the plan rescales {renorm.name!r}, which this model does not have")


def _check_attributes(body: _Body, plan: Plan) -> None:
    numbers = plan.renumbered.numbers if plan.renumbered is not None else ()
    for change in (*plan.attributes, *numbers):
        value = _attribute(body, change)
        have = value if change.index is None else value[change.index]
        _check_expected(change, have, change.old)


def _attribute(body: _Body, change: AttributeChange | Pick) -> Any:
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


def _check_apart(modules: Mapping[str, nn.Module], copied: Mapping[str, nn.Module], plan: Plan) -> None:
    """Raise `InputError` for an object that is its own copy: changing an integer in it would change the original."""
    closing = plan.renumbered
    follow = (*closing.numbers, *closing.picks) if closing is not None else ()
    for change in (*plan.attributes, *follow):
        old, new = (_owner(of[change.module], change)[0] for of in (modules, copied))
        if old is new:
            path = f"{change.module}.{change.name}".lstrip(".")
            raise InputError(
                f"the model cannot be copied: what holds {path} copies as itself, and the plan changes it\n"
                "use secateur.cut_(model, plan), which works in place"
            )


def _check_removed(body: _Body, plan: Plan) -> None:
    for name in plan.removed:
        if not name or name not in body.modules:
            raise InputError(f"the plan removes {name!r}, which this model does not have{nearest(name, body.modules)}")


def _check_renumbered(body: _Body, plan: Plan) -> None:
    """Lists of which gaps are closed must be lists, and what picks from must be there."""
    for name in plan.renumbered.lists if plan.renumbered is not None else ():
        if name not in body.modules or not is_list(body.modules[name]):
            raise InputError(f"the plan closes gaps in {name!r}, which is no list in this model")
    for pick in plan.renumbered.picks if plan.renumbered is not None else ():
        held = _attribute(body, pick)
        _check_expected(pick, tuple(held) if type(held) in (list, tuple) else held, pick.old)


def _copies(body: _Body, plan: Plan, made: Mapping[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    """The new tensors, and copies of parameters whose hooks or attributes `deepcopy` would lose."""
    copies = dict(made)
    for old in (slot.tensor for slot in body.slots if not inside(slot.name, plan.removed)):
        if isinstance(old, nn.Parameter) and id(old) not in copies and (vars(old) or hooks_of(old)):
            copies[id(old)] = alike(old, old.detach().clone())
    for new in copies.values():
        for hooks in hooks_of(new):
            setattr(new, hooks, getattr(new, hooks).copy())
    return copies


def _owner(module: nn.Module, change: AttributeChange | Pick) -> tuple[Any, str]:
    found = owner_of(module, change.name)
    assert found is not None, change
    return found


def put(module: nn.Module, change: AttributeChange) -> None:
    """Set an integer of a module, or of an object below it."""
    owner, leaf = _owner(module, change)
    put_at(owner, leaf, change.index, change.new)


__all__ = ["cut", "cut_", "plans_of"]
