"""One step of the optimizer: forward, backward, clipping, penalties, and the step itself."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from secateur.anatomy.running import call, device_of, to_device
from secateur.data.batches import pair_of
from secateur.errors import InputError, PruningError
from secateur.train.distill import Lessons
from secateur.train.options import Loss

if TYPE_CHECKING:
    from accelerate import Accelerator


class StepPenalty(Protocol):
    """A penalty that pulls parameters towards zero; see `secateur.train.penalties`."""

    def __call__(self) -> Tensor: ...

    def add_gradients_(self) -> None: ...


def listed(penalties: Any) -> tuple[StepPenalty, ...]:
    """Return penalties as a tuple. Raises `InputError` if the argument is not a list of penalties."""
    if not isinstance(penalties, Iterable):
        raise InputError(f"penalties is {penalties!r}; give a list: penalties=[ScaleL1(graph, 1e-4)]")
    found = tuple(penalties)
    for one in found:
        if not callable(getattr(one, "add_gradients_", None)):
            raise InputError(f"penalties holds {one!r}, which is not a penalty; give one such as ScaleL1(graph, 1e-4)")
    return found


@dataclass(frozen=True, slots=True)
class Stepper:
    """Everything that one step needs. `optimizer` is Accelerate's wrapper if the loss is scaled."""

    accelerator: Accelerator
    model: nn.Module
    optimizer: Any
    loss: Loss
    clip: float | None
    penalties: Sequence[StepPenalty]
    lessons: Lessons | None

    def step(self, group: Sequence[Any], factor: float, check: Callable[[float], None]) -> list[float]:
        """Step on the mean loss of a group of batches, at `factor` times the learning rates; return each batch's loss.

        `check` is called with each loss before it has any effect on a parameter.
        """
        for options in self.optimizer.param_groups:
            options["lr"] = options["initial_lr"] * factor
        self.accelerator.gradient_accumulation_steps = len(group)
        losses = [self._backward(*pair_of(batch), check) for batch in group]
        self._clip_and_pull()
        self.optimizer.step()
        self.model.zero_grad(set_to_none=True)  # the whole model: an optimizer may hold only a part
        return losses

    def _backward(self, inputs: Any, targets: Any, check: Callable[[float], None]) -> float:
        with self.accelerator.autocast():
            output = call(self.model, inputs)
            loss = self.loss(output, to_device(targets, device_of(self.model)))
            _check_scalar(loss)
            if self.lessons is not None:
                loss = self.lessons.loss(inputs, output, loss)
        value = float(loss.item())
        check(value)
        self.accelerator.backward(loss)
        return value

    def _clip_and_pull(self) -> None:
        """Clip, then add penalties, whose gradients are not part of the clipped norm, as with `penalty.attach`."""
        if self.clip is not None:
            moved = [parameter for options in self.optimizer.param_groups for parameter in options["params"]]
            norm = float(self.accelerator.clip_grad_norm_(moved, self.clip))  # type: ignore[arg-type]
            if self.accelerator.scaler is None and not math.isfinite(norm):
                raise PruningError(
                    f"the norm of the gradients is {norm}, so they cannot be clipped to {self.clip}; the "
                    "weights are those of the step before\ncause: usually a learning rate that is too high"
                )
        elif self.penalties:
            self.accelerator.unscale_gradients(self.optimizer)
        for penalty in self.penalties:
            penalty.add_gradients_()


def _check_scalar(loss: Any) -> None:
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        shape = f"a tensor {tuple(loss.shape)}" if isinstance(loss, Tensor) else f"a {type(loss).__name__}"
        loose = " that depends on no parameter" if isinstance(loss, Tensor) and not loss.requires_grad else ""
        raise InputError(f"the loss is {shape}{loose}; it must be one number with a gradient, as from loss.mean()")
