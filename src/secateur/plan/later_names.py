"""The tensors that a sequence of plans cuts and adds, by their names after the last plan."""

from __future__ import annotations

from collections.abc import Iterable

from secateur.plan.choice import Choice


def cut_names(plans: Iterable[Choice]) -> set[str]:
    """Return the tensors that plans may cut, by their names after the last plan."""
    return _last_names((plan, plan.sites) for plan in plans)


def smaller_names(plans: Iterable[Choice]) -> set[str]:
    """Return the tensors of which plans drop something, by their names after the last plan."""
    return _last_names((plan, filter(plan.shrinks, plan.sites)) for plan in plans)


def added_names(plans: Iterable[Choice]) -> set[str]:
    """Return the parameters that plans add, by their names after the last plan."""
    return _last_names((plan, [one.name for one in plan.added]) for plan in plans)


def _last_names(named: Iterable[tuple[Choice, Iterable[str]]]) -> set[str]:
    found: set[str] = set()
    for plan, names in named:
        found = {plan.names.after(name) for name in (*found, *names) if not plan.names.removes(name)}
    return found
