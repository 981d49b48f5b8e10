"""Slice parameters and buffers by a Plan, bypass blocks, set the integers it changes, fold the scales it names, add
the parameters (of zeros) that it adds.

All new tensors are made before anything is touched, so a failure leaves the model whole. Parameters that change are
new `Parameter` objects, so an optimizer must be carried over (`carry`, `transplant`) or built anew; the others stay the
same objects.
"""

from __future__ import annotations

from torch import nn

from secateur.anatomy.bypass import bypass
from secateur.anatomy.caches import left_out
from secateur.apply.additions import put as fill
from secateur.apply.copying import check_apart, copied, copies_of, learn_alike
from secateur.apply.optimizers import put_all
from secateur.apply.ready import Body, Ready, finish, new_parameters, new_tensors
from secateur.apply.transplant import States, follow
from secateur.base.process import trainable
from secateur.plan.plan import Plan


@trainable
def cut(model: nn.Module, plan: Plan) -> nn.Module:
    """A smaller copy of `model`; the model itself is left as it is, and what is dropped is never copied.

    Raises `InputError` where the plan is not of this model, or the model cannot be copied.

    >>> import secateur, torch
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]})
    >>> cut(net, plan)[0].out_features, net[0].out_features
    (6, 8)
    """
    body = Body(model)
    new = new_tensors(body, plan)
    placed = new_parameters(body, plan, new)
    made = copies_of(body, plan, new)
    gone = {id(body.modules[name]): bypass(gives, body.modules[name].training) for name, gives in plan.removed.items()}
    small = copied(model, {**left_out(model, plan.caches), **made, **gone})
    learn_alike(model, small)
    modules = dict(small.named_modules(remove_duplicate=False))
    check_apart(body.modules, modules, plan)
    fill(placed, modules)
    finish(small, modules, plan)
    return small


@trainable
def cut_(model: nn.Module, plan: Plan, *, carry: States = ()) -> nn.Module:
    """Cut `model` itself, all or nothing, and return it.

    `carry`: optimizers, averaged copies of the model and whatever else `transplant` takes, which follow. An object that
    its modules hold, such as a config, is changed too: whoever else holds it sees the new sizes. Raises `InputError`
    where the plan is not of this model, or something to be carried is not.

    >>> import secateur, torch
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> sgd = torch.optim.SGD(net.parameters(), lr=0.1)
    >>> plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]})
    >>> cut_(net, plan, carry=[sgd]) is net, sgd.param_groups[0]["params"][0] is net[0].weight
    (True, True)
    """
    ready = Ready.of(model, plan)
    put_all(follow(carry, ready.change()))
    ready.put()
    return model


__all__ = ["cut", "cut_"]
