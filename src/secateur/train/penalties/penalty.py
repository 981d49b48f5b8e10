"""The base class of penalties: a loss term, its gradient, and the hook that adds the gradient."""

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
    """Base class of loss terms that depend on parameters only.

    A subclass sets `model` and `held`, and defines the value (`__call__`) and the gradient (`_add`).

    Attributes:
        model: The model that is trained.
        held: The parameters that the penalty acts on.
        steps: The number of optimizer steps so far, for penalties that change with time.

    Example:
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
    steps: int = 0
    _clock: int | None = None  # the id of the optimizer whose steps count: the last that was attached

    @abstractmethod
    def __call__(self) -> Tensor:
        """Return the value, a tensor of shape (), to add to the loss."""

    @abstractmethod
    def _add(self, factor: float) -> None:
        """Add `factor` times the gradient to the `.grad` of each parameter."""

    def add_gradients_(self, factor: float = 1.0) -> None:
        """Add the gradient to `.grad` of the trained parameters, and count a step.

        A `.grad` of None is created. Where the function has no gradient, at a zero, nothing is added.

        Args:
            factor: The scale of the loss, if its gradients are still scaled. Default: 1.0.

        Raises:
            PruningError: The model was cut since the penalty was made.
        """
        self._add_where(lambda parameter: parameter.requires_grad, factor)
        self.step()

    def _add_where(self, wanted: Callable[[Tensor], bool], factor: float) -> None:
        """Add the gradient to the `.grad` of the wanted parameters only."""
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
        """Count a step. Call this only if you use the penalty as a loss term."""
        self.steps += 1

    def attach(self, optimizer: Any) -> RemovableHandle:
        """Add the gradient at the beginning of every step of an optimizer, to the parameters that it holds.

        If several optimizers hold the model's parameters, attach it to each; steps of the last one attached are
        counted.

        Args:
            optimizer: A `torch.optim.Optimizer`, or a wrapper around one, such as Accelerate's.

        Returns:
            A handle; `handle.remove()` stops it.

        Raises:
            InputError: The optimizer holds none of the parameters, or does not call hooks.
        """
        inner = unwrapped(optimizer)
        if not self._in(inner):
            raise InputError(f"none of the parameters that {type(self).__name__} acts on is in this optimizer")
        self._clock = id(inner)
        return inner.register_step_pre_hook(self._before_step)

    def _before_step(self, optimizer: torch.optim.Optimizer, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        if any(option is not None and option is not optimizer for option in (*args, *kwargs.values())):
            raise InputError(
                "optimizer.step(closure) computes gradients after this hook, so the penalty's gradient would be lost\n"
                "add penalty() to the loss inside the closure instead"
            )
        here = self._in(optimizer)
        if not here:
            raise PruningError(
                f"none of the parameters that {type(self).__name__} acts on is in this optimizer any more: was its "
                "model cut?\ncall handle.remove(), and attach a penalty made on a trace of the model as it is now"
            )
        scale = getattr(optimizer, "grad_scale", None)  # a fused optimizer undoes the scaling itself
        self._add_where(lambda p: p.requires_grad and id(p) in here, 1.0 if scale is None else float(scale))
        if id(optimizer) == self._clock:
            self.step()

    def _in(self, optimizer: torch.optim.Optimizer) -> set[int]:
        """Return the ids of the penalty's parameters that an optimizer holds."""
        own = {id(held.parameter) for held in self.held}
        return own & {id(p) for group in optimizer.param_groups for p in group["params"]}

    def state_dict(self) -> dict[str, Any]:
        """Return the state that changes from step to step: numbers, strings and tensors."""
        return {"steps": self.steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from what `state_dict` returned."""
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
    """Return the sum of penalties on one model, as one penalty.

    Args:
        penalties: One or more penalties on the same model.

    Returns:
        A penalty.

    Raises:
        InputError: No penalties are given, or they are on several models.

    Example:
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
    """Return the optimizer inside a wrapper, such as Accelerate's, whose steps call hooks.

    Raises `InputError` if there is none.
    """
    inner = optimizer
    while (deeper := getattr(inner, "optimizer", None)) is not None:
        inner = deeper
    if not isinstance(inner, torch.optim.Optimizer):
        raise InputError(f"optimizer is a {type(optimizer).__name__}; a penalty is attached to a torch.optim.Optimizer")
    return _calling_hooks(inner)


def _calling_hooks(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    """Return the optimizer, or the inner one that it steps with if its class does not call `Optimizer.__init__`."""
    if getattr(type(optimizer).step, "hooked", False):
        return optimizer
    inner = next((one for one in vars(optimizer).values() if isinstance(one, torch.optim.Optimizer)), None)
    if inner is None:
        raise InputError(
            f"{type(optimizer).__name__} calls no hooks in its step(), because it does not call Optimizer.__init__\n"
            "call add_gradients_() before each step instead of attach()"
        )
    return _calling_hooks(inner)


def check_strength(word: str, value: Any) -> float:
    """Return a finite number, 0 or above, as a float. Raises `InputError` for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise InputError(f"{word}={value!r}; give a number, 0 or above, such as 1e-4")
    return float(value)


__all__ = ["Penalty", "Total", "check_strength", "total", "unwrapped"]
