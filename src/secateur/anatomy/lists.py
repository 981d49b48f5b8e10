"""Closing the gaps in lists of layers after some of their members were removed, so that a config can describe them.

A plan uses the names from before the cut: `layers.3` is the fourth layer even if an earlier one is removed. Afterwards
the members of a closed list have new numbers, and the values that depend on them change: `layer_idx` of a layer,
`num_hidden_layers` of a config, and a list of the config with one entry per layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from typing import Any

from torch import nn

from secateur.anatomy.holders import assign, owner_of, put_at, values
from secateur.plan.parts import Renumbering
from secateur.plan.renumbering import Names


def close(modules: Mapping[str, nn.Module], renumbering: Renumbering, removed: Collection[str]) -> None:
    """Close the gaps of lists, and set the integers and lists that depend on them.

    modules: by their names before the cut.
    """
    for holder in renumbering.lists:
        drop(modules[holder], [name.rpartition(".")[2] for name in removed if _lies_in(name, holder)])
    for change in renumbering.numbers:
        put_at(*_found(modules, change.module, change.name), change.index, change.new)
    for pick in renumbering.picks:
        pick_at(*_found(modules, pick.module, pick.name), pick.kept)


def is_list(module: nn.Module) -> bool:
    """Return whether the members of a module are named 0, 1, 2, ..."""
    return [*module._modules] == [*map(str, range(len(module._modules)))]


def drop(holder: nn.Module, members: Collection[str]) -> None:
    """Remove members from a list of modules, and renumber the others."""
    _refill(holder._modules, [module for place, module in holder._modules.items() if place not in members])


def pick_at(owner: Any, name: str, kept: Collection[int]) -> None:
    """Keep only these entries of a list or tuple that an object holds."""
    held = values(owner)[name]
    assign(owner, name, type(held)(held[i] for i in kept))


@contextmanager
def reopened(
    model: nn.Module, renumbering: Renumbering | None, gaps: Mapping[str, nn.Module], names: Names
) -> Iterator[None]:
    """Restore the names from before the cut within this context, with `gaps` in place of removed modules."""
    if renumbering is None:
        yield
        return
    named = {names.before(name): module for name, module in model.named_modules(remove_duplicate=False)}
    for holder in renumbering.lists:
        _fill_gaps(named[holder]._modules, {n.rpartition(".")[2]: m for n, m in gaps.items() if _lies_in(n, holder)})
    for change in renumbering.numbers:
        put_at(*_found(named, change.module, change.name), change.index, change.old)
    for pick in renumbering.picks:
        owner, leaf = _found(named, pick.module, pick.name)
        held = values(owner)[leaf]
        left = dict(zip(pick.kept, held, strict=True))
        assign(owner, leaf, type(held)(left.get(i, one) for i, one in enumerate(pick.old)))
    try:
        yield
    finally:
        close(named, renumbering, gaps.keys())


def _lies_in(name: str, holder: str) -> bool:
    return name.rpartition(".")[0] == holder


def _refill(members: MutableMapping[str, Any], modules: Iterable[Any]) -> None:
    held = [*modules]
    members.clear()
    members.update({str(place): module for place, module in enumerate(held)})


def _fill_gaps(members: MutableMapping[str, Any], gaps: Mapping[str, nn.Module]) -> None:
    left = iter([*members.values()])
    _refill(members, [gaps[str(i)] if str(i) in gaps else next(left) for i in range(len(members) + len(gaps))])


def _found(modules: Mapping[str, nn.Module], module: str, name: str) -> tuple[Any, str]:
    found = owner_of(modules[module], name)
    assert found is not None, (module, name)
    return found
