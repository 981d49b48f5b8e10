"""The identity of a training, as short strings by name: a training resumes only from checkpoints of its own."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from secateur.anatomy.slots import slots
from secateur.apply.ready import plans_of
from secateur.base.hashing import called, digest, of_tensors
from secateur.train.distill import Distillation
from secateur.train.options import TrainOptions


def of_model(model: nn.Module) -> str:
    """Hash a model: its modules, its plans, and the values of its tensors."""
    plans = [plan.to_json() for plan in plans_of(model)]
    tensors = of_tensors((slot.name, slot.tensor) for slot in slots(model) if slot.persistent)
    return digest(" ".join([repr(model), *plans, tensors]))


def of_options(options: TrainOptions) -> dict[str, str]:
    """Return the options by name; a user's loss as a hash of its source."""
    loss = options.own_loss
    plain = dataclasses.asdict(dataclasses.replace(options, loss=None))
    gradients = plain.pop("gradients")
    flat = {**plain, **gradients, "lr": options.peak, "loss": of_code(loss) if loss else "cross entropy"}
    return {name: str(value) for name, value in flat.items()}


def of_code(function: Callable[..., Any] | None) -> str:
    """Hash a function by its name, its source and the plain values that it closes over, equally in every process.

    For a callable object and a method, the plain attributes of the object are hashed too.

    >>> of_code(digest) == of_code(digest), of_code(digest) == of_code(None)
    (True, False)
    """
    if isinstance(function, functools.partial):
        more = [[_plain(one) for one in function.args], {k: _plain(v) for k, v in sorted(function.keywords.items())}]
        return digest(f"{of_code(function.func)} {more}")
    try:
        source = inspect.getsource(function if hasattr(function, "__qualname__") else type(function))  # type: ignore[arg-type]
    except (OSError, TypeError):  # built in, or typed at a prompt
        source = ""
    held = [_plain(cell.cell_contents) for cell in getattr(function, "__closure__", None) or ()]
    own = dict(_numbers(getattr(function, "__self__", function)))
    return digest(f"{called(function)} {source} {held} {own}")


def of_optimizer(optimizer: torch.optim.Optimizer) -> str:
    """Hash an optimizer by its class and the plain options of its groups, with their initial learning rates."""
    groups = [
        {
            key: _plain(group.get("initial_lr", value) if key == "lr" else value)
            for key, value in group.items()
            if key not in ("params", "initial_lr")
        }
        for group in optimizer.param_groups
    ]
    return digest(f"{type(optimizer).__qualname__} {groups} {[len(g['params']) for g in optimizer.param_groups]}")


def _plain(value: Any) -> Any:
    """Return a value if it prints the same in every process, else its type."""
    if isinstance(value, (tuple, list)):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return value.tolist() if isinstance(value, torch.Tensor) and value.numel() == 1 else type(value).__qualname__


def of_teacher(teaching: Distillation | None) -> str:
    """Hash the teacher and the options of distillation."""
    if teaching is None:
        return "none"
    numbers = [teaching.weight, teaching.temperature, list(teaching.features), teaching.features_weight]
    return digest(f"{of_model(teaching.teacher)} {numbers}")


def of_penalties(penalties: Sequence[Any]) -> str:
    """Hash penalties by their class and their plain attributes."""
    return digest(str([_penalty(one) for one in penalties])) if penalties else "none"


def _penalty(one: Any) -> list[Any]:
    """Describe a penalty; a sum of penalties by its parts."""
    return [type(one).__qualname__, dict(_numbers(one)), [_penalty(part) for part in getattr(one, "parts", ())]]


def _numbers(value: Any) -> Mapping[str, Any]:
    """Return the plain attributes of an object, which print the same in every process."""
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    else:
        names = list(getattr(value, "__dict__", ()))
    held = {name: getattr(value, name) for name in names}
    return {name: held[name] for name in sorted(held) if isinstance(held[name], (bool, int, float, str))}
