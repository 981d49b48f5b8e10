"""Turns a model in place into its pruned copy, for trainers that keep a reference to their model."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from secateur.anatomy.slots import slots
from secateur.apply.optimizers import put_all
from secateur.apply.ready import PLANS, Ready, plans_of
from secateur.apply.tensors import alike
from secateur.apply.transplant import States, between, follow
from secateur.base.process import trainable


@trainable
def become_(model: nn.Module, small: nn.Module, carry: States = ()) -> nn.Module:
    """Turn `model` in place into its pruned copy `small`, and return it. On an error, nothing changes.

    Afterwards both models have the same plans and the same values, including recovered ones.

    Args:
        model: the model that `small` was cut from.
        small: the result of `cut`, `prune` or a stage of `iterate`.
        carry: optimizers and other objects that follow the cut, as in `cut_`.

    Returns:
        `model`.

    Raises:
        InputError: `small` was not cut from `model`, or an object in `carry` does not belong to it.

    Example:
        >>> import secateur
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
        >>> small = secateur.prune(net, torch.zeros(1, 4), "channels=0.5").model
        >>> become_(net, small, carry=[sgd]) is net, net[0].out_features
        (True, 4)
    """
    ready = Ready.of(model, between(model, small))
    values = {ready.plan.names.before(slot.name): slot.tensor for slot in slots(small)}
    ready = replace(ready, made=_with_values(ready, values))
    for one, (_, placed) in zip(ready.plan.added, ready.placed, strict=True):
        placed.data.copy_(values[one.name])
    put_all(follow(carry, ready.change()))
    ready.put()
    model.__dict__[PLANS] = plans_of(small)
    return model


def _with_values(ready: Ready, values: dict[str, torch.Tensor]) -> dict[int, torch.Tensor]:
    """Return new tensors, by the id of the old ones, if their values differ from those of a cut without recovery."""
    made = dict(ready.made)
    for name, old in ready.body.tensors.items():
        value = values.get(name)
        if value is not None and not torch.equal(made.get(id(old), old), value):
            made[id(old)] = alike(old, value.detach().clone())
    return made
