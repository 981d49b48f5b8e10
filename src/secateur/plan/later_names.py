"""What plans cut and add, by the names that it has after the last of them."""

from __future__ import annotations

from collections.abc import Iterable

from secateur.plan.choice import Choice


def cut_names(plans: Iterable[Choice]) -> set[str]:
    """The tensors that plans cut, by the names that they have after the last of them."""
    return _last_names((plan, plan.sites) for plan in plans)


def added_names(plans: Iterable[Choice]) -> set[str]:
    """The parameters that plans add, by the names that they have after the last of them."""
    return _last_names((plan, [one.name for one in plan.added]) for plan in plans)


def _last_names(named: Iterable[tuple[Choice, Iterable[str]]]) -> set[str]:
    found: set[str] = set()
    for plan, names in named:
        found = {plan.names.after(name) for name in (*found, *names) if not plan.names.removes(name)}
    return found
