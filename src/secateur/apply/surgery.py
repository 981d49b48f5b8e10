"""Applies a Plan: slices parameters and buffers, bypasses blocks, sets integer attributes, folds scales, and adds
parameters of zeros.

All new tensors are made before the model is changed, so a failure leaves the model unchanged. A parameter that changes
becomes a new `Parameter` object; an optimizer must therefore follow (`carry`, `transplant`) or be created again. Other
parameters stay the same objects.
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
    """Return a pruned copy of a model. The model itself does not change, and removed units are never copied.

    Args:
        model: the model that the plan was made for.
        plan: the units to keep, from `secateur.plan`.

    Returns:
        The smaller copy.

    Raises:
        InputError: the plan does not fit the model, or the model cannot be copied.

    Example:
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
    """Prune a model in place, and return it. On an error, nothing changes.

    Objects that the modules hold, such as a config, change as well; other code that shares such an object sees the new
    sizes.

    Args:
        model: the model that the plan was made for.
        plan: the units to keep, from `secateur.plan`.
        carry: optimizers, averaged copies of the model and everything else that `transplant` takes; they follow the
            cut.

    Returns:
        `model`.

    Raises:
        InputError: the plan does not fit the model, or an object in `carry` does not belong to it.

    Example:
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
