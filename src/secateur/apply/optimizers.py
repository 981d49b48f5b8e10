"""Lets an optimizer follow a cut: its groups get the new parameters, and its state is sliced in the same way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from secateur.anatomy.slots import replace_in
from secateur.apply.change import Change, Heir
from secateur.apply.states import CannotFollow, state_of
from secateur.errors import InputError


def _nothing() -> None:
    pass


@dataclass(frozen=True)
class ReadyState:
    """The prepared update of an object that follows a cut.

    `put` carries it out, and `back` undoes it where `put` can fail. `lost` has one line for each parameter whose state
    cannot follow.
    """

    put: Callable[[], None]
    lost: tuple[str, ...] = ()
    back: Callable[[], None] = _nothing


def put_all(ready: Sequence[ReadyState]) -> None:
    """Carry out all updates, or none. Dicts come first, because a user-defined dict may refuse an update."""
    for i, one in enumerate(ready):
        try:
            one.put()
        except BaseException:
            for done in reversed(ready[: i + 1]):
                done.back()
            raise


def ready_optimizer(optimizer: Optimizer, change: Change) -> ReadyState:
    """Prepare the update of an optimizer. Raises `InputError` if it does not hold parameters of the model.

    The object, its options, hooks and groups stay. A group that loses all its parameters stays as well, because
    schedulers count the groups.
    """
    if not any(id(p) in change.heirs for p in _held(optimizer)):
        return _already_there(optimizer, change)
    groups = [_members(group, change) for group in optimizer.param_groups]
    state, lost = _states(optimizer, change)
    new = {key: heir.new for key, heir in change.heirs.items() if heir.new is not None}

    def put() -> None:
        for group, members in zip(optimizer.param_groups, groups, strict=True):
            group["params"][:] = [parameter for parameter, _ in members]  # L-BFGS has a second reference to this list
            if "param_names" in group:
                group["param_names"] = [name for _, name in members]
        optimizer.state.clear()
        optimizer.state.update(state)
        replace_in(optimizer, new, but=("state", "param_groups", "defaults"))
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer._numel_cache = None  # the cached number of old parameters

    return ReadyState(put, tuple(lost))


def _held(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _already_there(optimizer: Optimizer, change: Change) -> ReadyState:
    """Return an update that does nothing, for an optimizer that has already followed, such as through its scheduler."""
    held, new = _held(optimizer), {id(tensor) for tensor in change.after.values()}
    cut = {id(heir.new) for heir in change.heirs.values() if change.cutter.kept(heir.name) is not None}
    foreign = sum(id(parameter) not in new for parameter in held)
    if not foreign or any(id(parameter) in cut for parameter in held):
        return ReadyState(_nothing)
    among = (
        f"{foreign} of them are of neither model" if foreign < len(held) else "none of them is a parameter of the model"
    )
    raise InputError(
        f"{type(optimizer).__name__} holds {len(held)} parameters, and {among}\n"
        "pass the model that it was built on, as it was before the cut; with master weights, pass [masters, optimizer]"
    )


def _members(group: Mapping[str, Any], change: Change) -> list[tuple[Tensor, str]]:
    """Return the parameters of a group after the cut, with their names in it. Parameters of other models stay."""
    made: list[tuple[Tensor, str]] = []
    for at, parameter in enumerate(group["params"]):
        name = group["param_names"][at] if "param_names" in group else ""
        heir = change.heirs.get(id(parameter))
        new = parameter if heir is None else heir.new
        if new is not None:
            made.append((new, name))
            made += [(one.new, one.name) for one in change.newcomers if one.like is parameter]
    return made


def _states(optimizer: Optimizer, change: Change) -> tuple[dict[Any, Any], list[str]]:
    """Return the new state by parameter, and one line for each lost state."""
    found: list[tuple[Any, Heir | None, Any]] = []
    for key, values in optimizer.state.items():
        heir = change.heirs.get(id(key))
        if heir is None:
            found.append((key, None, values))
        elif heir.new is not None:
            found.append((heir.new, heir, _state_or_why_not(optimizer, heir, values, change)))
    strange = {s.key: heir.name for _, heir, s in found if heir and isinstance(s, CannotFollow) and s.key}
    made: dict[Any, Any] = {}
    lost: list[str] = []
    for new, heir, state in found:
        why = _why_not(heir, state, strange, change) if heir else None
        if heir is None or why is None:
            made[new] = state
        else:
            lost.append(f"{heir.name} in {type(optimizer).__name__}: {why}")
    return made, lost


def _why_not(heir: Heir, state: Any, strange: Mapping[str, str], change: Change) -> str | None:
    """Return why a state cannot follow: for its own shape, or because its namesake has no usable shape elsewhere."""
    if isinstance(state, CannotFollow):
        return str(state)
    key = next((key for key in state if key in strange), None)
    if key is None or change.cutter.kept(heir.name) is None:
        return None
    return f"{key!r} is of another kind than the parameter, as that of {strange[key]} shows"


def _state_or_why_not(optimizer: Optimizer, heir: Heir, values: Any, change: Change) -> dict[str, Any] | CannotFollow:
    try:
        return _state(optimizer, heir, values, change)
    except CannotFollow as error:
        return error


def _state(optimizer: Optimizer, heir: Heir, values: Any, change: Change) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise CannotFollow(f"it is a {type(values).__name__}")
    if isinstance(optimizer, torch.optim.LBFGS) and not change.plan.is_empty:
        raise CannotFollow("it is the history of all parameters together")
    return state_of(values, heir.name, heir.old.shape, change.cutter)
