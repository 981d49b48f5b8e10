"""What all penalties have in common: a loss term, its gradient, and the hook that adds it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from secateur.errors import InputError, PruningError
from secateur.train.penalties.places import HeldUnits


class Penalty(ABC):
    """A term of the loss that is a function of parameters alone. `model` holds them.

    A new penalty gives its parameters, its value, and its gradient:

    >>> class L2(Penalty):
    ...     def __init__(self, model):
    ...         self.model, self.held = model, [HeldUnits.of(model, name) for name, _ in model.named_parameters()]
    ...     def __call__(self):
    ...         return sum(held.parameter.square().sum() for held in self.held) / 2
    ...     def _add(self, factor):
    ...         for held in self.held:
    ...             held.gradient.add_(held.parameter, alpha=factor)
    >>> layer = nn.Linear(2, 1)
    >>> L2(layer).add_gradients_()
    >>> torch.equal(layer.weight.grad, layer.weight)
    True
    """

    model: nn.Module
    held: Sequence[HeldUnits]
    steps: int = 0  # of the optimizer, for penalties that change with time
    _clock: int | None = None  # which optimizer's, where several are attached: the newest

    @abstractmethod
    def __call__(self) -> Tensor:
        """The value, of no dimensions, to be added to the loss."""

    @abstractmethod
    def _add(self, factor: float) -> None:
        """Add the gradient, `factor` times, to that of each parameter."""

    def add_gradients_(self, factor: float = 1.0) -> None:
        """Add the gradient to `.grad` of the parameters, which is made where it is None, and count a step.

        `factor` is what the loss was scaled by, if it was and its gradients still are. Where the function has no
        gradient, at a zero, this adds none, and none to what is not trained (any more). Raises `PruningError` where the
        model was cut since.
        """
        self._add_where(lambda parameter: parameter.requires_grad, factor)
        self.step()

    def _add_where(self, wanted: Callable[[Tensor], bool], factor: float) -> None:
        """Add the gradient to that of the parameters that are wanted alone."""
        others = [(p, p.grad) for held in self.held if not wanted(p := held.parameter)]
        try:
            for parameter, _ in others:
                parameter.grad = None
            with torch.no_grad():
                self._add(factor)
        finally:
            for parameter, gradient in others:
                parameter.grad = gradient

    def step(self) -> None:
        """Count a step. Only who uses the loss term must call it."""
        self.steps += 1

    def attach(self, optimizer: Any) -> RemovableHandle:
        """Add the gradient at the beginning of every step of an optimizer, until `handle.remove()`.

        It goes to the parameters that the optimizer holds. Where several hold the model's, attach it to each: a step of
        the last attached counts. Raises `InputError` for an optimizer that holds none of the parameters.
        """
        inner = unwrapped(optimizer)
        if not self._in(inner):
            raise InputError(f"none of the parameters that {type(self).__name__} is about is in this optimizer")
        self._clock = id(inner)
        return inner.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if any(option is not None and option is not optimizer for option in (*args, *kwargs.values())):
            raise InputError(
                "optimizer.step(closure) computes gradients after this hook, which loses what it added\n"
                "add penalty() to the loss inside the closure instead"
            )
        here = self._in(optimizer)
        if not here:
            raise PruningError(
                f"none of the parameters that {type(self).__name__} is about is in this optimizer any more: was its "
                "model cut?\ncall handle.remove(), and attach a penalty made on a trace of the model as it is now"
            )
        scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer undoes the scaling itself
        self._add_where(lambda p: p.requires_grad and id(p) in here, 1.0 if scale is None else float(scale))
        if id(optimizer) == self._clock:
            self.step()

    def _in(self, optimizer: torch.optim.Optimizer) -> set[int]:
        """The ids of its parameters that an optimizer holds."""
        own = {id(held.parameter) for held in self.held}
        return own & {id(p) for group in optimizer.param_groups for p in group["params"]}

    def state_dict(self) -> dict[str, Any]:
        """What it remembers from step to step: numbers, texts and tensors."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self.steps = int(state["steps"])


class Total(Penalty):
    """The sum of penalties."""

    def __init__(self, parts: Sequence[Penalty]):
        self.parts = tuple(parts)
        self.model = parts[0].model
        self.held = [held for part in parts for held in part.held]

    def __call__(self) -> Tensor:
        return torch.stack([part() for part in self.parts]).sum()

    def _add(self, factor: float) -> None:
        for part in self.parts:
            part._add(factor)

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> dict[str, Any]:
        return {str(i): part.state_dict() for i, part in enumerate(self.parts)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for i, part in enumerate(self.parts):
            part.load_state_dict(state[str(i)])


def total(*penalties: Penalty) -> Penalty:
    """The sum of penalties on one model, as one. Raises `InputError` for none, or for several models.

    >>> import secateur
    >>> from secateur.train.penalties import GroupLasso, ScaleL1
    >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 2, 3))
    >>> graph = secateur.trace(net, torch.zeros(1, 3, 8, 8))
    >>> both = total(ScaleL1(graph, 1e-4), GroupLasso(graph, 1e-3))
    >>> both().item() > 0
    True
    """
    if not penalties:
        raise InputError("total() of no penalty; give at least one, as in total(ScaleL1(graph, 1e-4), ...)")
    if len({id(penalty.model) for penalty in penalties}) > 1:
        raise InputError("total() of penalties on several models; make one for each")
    return penalties[0] if len(penalties) == 1 else Total(penalties)


def unwrapped(optimizer: Any) -> torch.optim.Optimizer:
    """The optimizer in a wrapper, such as Accelerate's, whose steps call hooks. Raises `InputError` for none."""
    inner = optimizer
    while (deeper := getattr(inner, "optimizer", None)) is not None:
        inner = deeper
    if not isinstance(inner, torch.optim.Optimizer):
        raise InputError(f"optimizer is a {type(optimizer).__name__}; a penalty is attached to a torch.optim.Optimizer")
    return _calling_hooks(inner)


def _calling_hooks(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """The optimizer, or the one that it steps with where its own class never went through `Optimizer.__init__`."""
    if getattr(type(optimizer).step, "hooked", False):
        return optimizer
    inner = next((one for one in vars(optimizer).values() if isinstance(one, torch.optim.Optimizer)), None)
    if inner is None:
        raise InputError(
            f"{type(optimizer).__name__} calls no hooks in its step(), for it does not call Optimizer.__init__\n"
            "call add_gradients_() before each step in place of attach()"
        )
    return _calling_hooks(inner)


def check_strength(word: str, value: Any) -> float:
    """A finite number, 0 or above. Raises `InputError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise InputError(f"{word}={value!r}; give a number, 0 or above, such as 1e-4")
    return float(value)


__all__ = ["Penalty", "Total", "check_strength", "total", "unwrapped"]
