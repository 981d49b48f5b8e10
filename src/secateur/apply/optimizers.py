"""How an optimizer follows a cut: its groups hold the new parameters, its state is sliced as they are."""

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
    """What follows, computed: `put` carries it out. lost: the parameters whose state cannot follow, a line each.

    back: undoes what `put` has done so far, of what may refuse.
    """

    put: Callable[[], None]
    lost: tuple[str, ...] = ()
    back: Callable[[], None] = _nothing


def put_all(ready: Sequence[ReadyState]) -> None:
    """Carry all of it out, or nothing: dicts, which may be of somebody's own kind and refuse, come first."""
    for i, one in enumerate(ready):
        try:
            one.put()
        except BaseException:
            for done in reversed(ready[: i + 1]):
                done.back()
            raise


def ready_optimizer(optimizer: Optimizer, change: Change) -> ReadyState:
    """Find out what becomes of an optimizer. Raises `InputError` where it has nothing to do with the model.

    The object, its options, hooks and groups stay, even a group that is left without parameters: schedulers count them.
    """
    if not any(id(p) in change.heirs for p in _held(optimizer)):
        return _already_there(optimizer, change)
    groups = [_members(group, change) for group in optimizer.param_groups]
    state, lost = _states(optimizer, change)
    new = {key: heir.new for key, heir in change.heirs.items() if heir.new is not None}

    def put() -> None:
        for group, members in zip(optimizer.param_groups, groups, strict=True):
            group["params"][:] = [parameter for parameter, _ in members]  # L-BFGS holds the same list a second time
            if "param_names" in group:
                group["param_names"] = [name for _, name in members]
        optimizer.state.clear()
        optimizer.state.update(state)
        replace_in(optimizer, new, but=("state", "param_groups", "defaults"))
        if isinstance(optimizer, torch.optim.LBFGS):
            optimizer._numel_cache = None  # it counted the parameters that were

    return ReadyState(put, tuple(lost))


def _held(optimizer: Optimizer) -> list[Tensor]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _already_there(optimizer: Optimizer, change: Change) -> ReadyState:
    """An optimizer that followed before, as one that a scheduler holds too, is left as it is."""
    held, new = _held(optimizer), {id(tensor) for tensor in change.after.values()}
    cut = {id(heir.new) for heir in change.heirs.values() if change.cutter.kept(heir.name) is not None}
    foreign = sum(id(parameter) not in new for parameter in held)
    if not foreign or any(id(parameter) in cut for parameter in held):
        return ReadyState(_nothing)
    among = f"{foreign} of them are of neither model" if foreign < len(held) else "none of them is one of the model's"
    raise InputError(
        f"{type(optimizer).__name__} holds {len(held)} parameters, and {among}\n"
        "give the model that it was built on, as it was before the cut; of master weights give these too, in one list"
    )


def _members(group: Mapping[str, Any], change: Change) -> list[tuple[Tensor, str]]:
    """The parameters of a group afterwards, with their names in it; what is not of the model stays."""
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
    """State by what it is that of, and what was lost."""
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
    """Why a state cannot follow: by itself, or since one of the same name is of no shape of another parameter."""
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
