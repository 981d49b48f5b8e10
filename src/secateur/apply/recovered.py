"""Records what recovery did to a pruned model in the plan of the model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from secateur.anatomy.checks import check_model
from secateur.anatomy.guard import guard
from secateur.anatomy.slots import slots
from secateur.apply.additions import places, put
from secateur.apply.ready import PLANS, plans_of
from secateur.cost.kinds import KINDS
from secateur.errors import InputError
from secateur.plan.check import check_plan
from secateur.plan.parts import Added, Amount, Recovery, Totals
from secateur.plan.plan import Plan


def recovered_(model: nn.Module, added: Iterable[Added] = (), recovery: Iterable[Recovery] = ()) -> Plan:
    """Add parameters of zeros to a pruned model, and record them and the recovery steps in its last plan.

    The caller fills in the values. A tensor with several names, as in a layer that is used twice, is recorded under the
    first of them. On an error, nothing changes.

    Args:
        model: a model that was cut.
        added: the parameters to add.
        recovery: the recovery steps that were taken.

    Returns:
        The last plan of the model, whose `after` counts the added parameters.

    Raises:
        InputError: the model was not cut, a parameter has no empty place, or the model must stay as its config builds
            it (`uniform=True`), in which case `from_pretrained` would drop the parameter.

    Example:
        >>> import secateur, torch
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2, bias=False))
        >>> _ = secateur.cut_(net, secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]}))
        >>> plan = recovered_(net, [Added("1.bias", "1.weight", 0)], [Recovery("mean")])
        >>> net[1].bias.tolist(), plan.after.params, sum(p.numel() for p in net.parameters())
        ([0.0, 0.0], 44, 44)
    """
    check_model(model)
    added, recovery = tuple(added), tuple(recovery)
    if not plans_of(model):
        raise InputError(
            "the model was not cut, so there is nothing to recover from\ncut it first: secateur.cut_(model, plan)"
        )
    *earlier, last = plans_of(model)
    _check_uniform(last, added)
    tensors = {slot.name: slot.tensor for slot in slots(model)}
    modules = dict(model.named_modules(remove_duplicate=False))
    added = tuple(_first_names(added, modules, tensors))
    plan = replace(last, added=(*last.added, *added), recovery=(*last.recovery, *recovery))
    check_plan(plan)
    try:
        placed = [(place, place.zeros()) for place in places(added, modules, tensors, lambda name: tensors[name].shape)]
    except InputError as error:
        raise InputError(f"recovery {error}") from error
    plan = replace(plan, after=_grown(plan.after, [value for _, value in placed]))
    put(placed, modules)
    guard(model, (one.name for one in added))
    model.__dict__[PLANS] = (*earlier, plan)
    return plan


def _first_names(
    added: Iterable[Added], modules: Mapping[str, nn.Module], tensors: Mapping[str, torch.Tensor]
) -> Iterator[Added]:
    for one in added:
        path, dot, leaf = one.name.rpartition(".")
        module, like = modules.get(path), tensors.get(one.like)
        first = next((name for name, other in modules.items() if other is module), path)
        yield Added(f"{first}{dot}{leaf}", next((n for n, t in tensors.items() if t is like), one.like), one.dim)


def _grown(totals: Totals, new: Sequence[nn.Parameter]) -> Totals:
    """Return totals with further parameters."""
    return Totals.of({kind: _more(kind, amount, new) for kind, amount in totals.amounts.items()})


def _more(kind: str, amount: Amount, new: Sequence[nn.Parameter]) -> Amount:
    """Return an amount with further parameters; unknown for a kind of cost that is not registered."""
    if amount.value is None or not new:
        return amount
    if kind not in KINDS:
        return amount._replace(value=None)
    added = KINDS[kind].added
    return amount if added is None else amount._replace(value=amount.value + sum(map(added, new)))


def _check_uniform(plan: Plan, added: tuple[Added, ...]) -> None:
    if added and "uniform" in plan.notes:
        raise InputError(
            f"recovery adds {added[0].name!r}, which the config of a uniform model does not know, "
            "so from_pretrained would drop it\nrecover without adding biases, or prune without uniform=True"
        )
