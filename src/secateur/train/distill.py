"""Knowledge distillation: the dense model teaches the model that was cut from it.

For the scores s of the student and t of the teacher, both (n, classes, ...),

    L = (1 - w) * loss(s, targets) + w * T^2 * KL(softmax(t / T) || softmax(s / T)),

where the divergence is summed over classes and averaged over all other dimensions; T^2 keeps the size of its gradients
(Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015, section 2). For the outputs of named
inner modules the mean squared difference is added, over the units that the student still has. The plans that cut the
student record these units, so no learned projection is needed.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from secateur.anatomy.running import call, mode
from secateur.apply.ready import plans_of
from secateur.errors import InputError, nearest
from secateur.plan.plan import Plan
from secateur.train.losses import scores_in
from secateur.train.number_options import check_number


@dataclass(frozen=True, slots=True)
class Distillation:
    """Knowledge distillation from `teacher`: its softened scores, and optionally the outputs of inner modules.

    Attributes:
        teacher: The model to learn from.
        weight: The teacher's share w of the loss, from 0 to 1. Default: 0.5.
        temperature: The temperature T, above 0. Default: 4.0.
        features: The names of modules whose outputs are compared too. A module whose outputs lost units must be a
            convolution, a linear layer or a norm. Default: ().
        features_weight: The factor of the mean squared difference of each feature, 0 or above. Default: 1.0.

    Raises:
        InputError: A number is out of range.

    Example:
        >>> Distillation(nn.Linear(2, 2), weight=0.9, temperature=2.0).weight
        0.9

    Reference:
        Hinton, Vinyals and Dean, Distilling the Knowledge in a Neural Network, 2015, section 2.
    """

    teacher: nn.Module
    weight: float = 0.5
    temperature: float = 4.0
    features: Sequence[str] = field(default_factory=tuple)
    features_weight: float = 1.0

    def __post_init__(self) -> None:
        share = "it is the teacher's share of the loss, from 0 to 1"
        check_number("weight", self.weight, lambda weight: 0 <= weight <= 1, share)
        check_number("temperature", self.temperature, lambda t: 0 < t < math.inf, "it must be above 0")
        check_number("features_weight", self.features_weight, lambda w: 0 <= w < math.inf, "it must be 0 or above")

    @staticmethod
    def of(teacher: nn.Module | Distillation | None) -> Distillation | None:
        """Return a `Distillation`; a model becomes the teacher with default options. Raises `InputError` otherwise."""
        if teacher is not None and not isinstance(teacher, (nn.Module, Distillation)):
            raise InputError(f"teacher is a {type(teacher).__name__}; give a model, or Distillation(model, ...)")
        return Distillation(teacher) if isinstance(teacher, nn.Module) else teacher

    @contextlib.contextmanager
    def lessons(self, student: nn.Module) -> Iterator[Lessons]:
        """Put the teacher in evaluation mode, and record the features of both models; all hooks are removed at exit."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(mode(self.teacher, training=False))
            recorded = [stack.enter_context(_recorded(model, self.features)) for model in (student, self.teacher)]
            yield Lessons(self, student, recorded[0], recorded[1])


@dataclass(frozen=True, slots=True)
class Lessons:
    """The distillation loss. `learned`, `shown`: outputs of student and teacher modules in the last call, by name."""

    what: Distillation
    student: nn.Module
    learned: Mapping[str, Tensor]
    shown: Mapping[str, Tensor]

    def loss(self, inputs: Any, output: Any, loss: Tensor) -> Tensor:
        """Return the loss with the teacher's part, after the student returned `output` for `inputs`."""
        with torch.no_grad():
            taught = call(self.what.teacher, inputs)
        share = self.what.weight
        if share:
            loss = (1 - share) * loss + share * soft_cross_entropy(output, taught, self.what.temperature)
        for name in self.what.features:
            loss = loss + self.what.features_weight * self._difference(name)
        return loss

    def _difference(self, name: str) -> Tensor:
        for model, recorded in ((self.student, self.learned), (self.what.teacher, self.shown)):
            if name not in recorded:
                raise InputError(f"features names {name!r}, which returned no tensor when {type(model).__name__} ran")
        student, teacher = self.learned[name], self.shown[name]
        kept = kept_units(self.student, self.what.teacher, name, (student.shape, teacher.shape))
        if kept is not None:
            dim, units = kept
            teacher = teacher.index_select(dim, units.to(teacher.device))
        return F.mse_loss(student.float(), teacher.to(student.device).float())


def soft_cross_entropy(output: Any, taught: Any, temperature: float) -> Tensor:
    """Return T^2 * KL(softmax(taught / T) || softmax(output / T)) over dimension 1, the mean over all others.

    Raises `InputError` unless both are scores of the same shape.

    >>> soft_cross_entropy(torch.ones(2, 3), torch.ones(2, 3), 4.0)
    tensor(0.)
    """
    alone = "learn from features alone: Distillation(teacher, weight=0, features=[...])"
    output, taught = scores_in(output, alone, "student"), scores_in(taught, alone, "teacher")
    if output.shape != taught.shape:
        raise InputError(
            f"student and teacher differ in what they return\n  student  {tuple(output.shape)}\n"
            f"  teacher  {tuple(taught.shape)}\nteach with the model before the cut, or one with the same classes"
        )
    s, t = (F.log_softmax(x.float() / temperature, dim=1) for x in (output, taught.to(output.device)))
    return temperature**2 * F.kl_div(s, t, reduction="none", log_target=True).sum(1).mean()


def kept_units(
    student: nn.Module, teacher: nn.Module, name: str, shapes: tuple[Sequence[int], Sequence[int]]
) -> tuple[int, Tensor] | None:
    """Return the dimension in which the outputs of a module differ, and the teacher's units that the student kept.

    None if they do not differ. Raises `InputError` if the plans of the student do not record it.
    """
    have, had = shapes
    if tuple(have) == tuple(had):
        return None
    differ = [d for d, (a, b) in enumerate(zip(have, had, strict=False)) if a != b]
    plans = plans_of(student)[len(plans_of(teacher)) :]
    units = _kept(student, name, plans) if len(have) == len(had) and len(differ) == 1 else None
    if units is None or len(units) != have[differ[0]] or max(units, default=0) >= had[differ[0]]:
        raise InputError(
            f"the features of {name!r} cannot be compared\n  student  {tuple(have)}\n  teacher  {tuple(had)}\n"
            "name a convolution, linear layer or norm, whose units the plan records, and teach with the model before "
            "the cut"
        )
    return differ[0], torch.tensor(units)


def _kept(student: nn.Module, name: str, plans: Sequence[Plan]) -> list[int] | None:
    """Return the units of a module's output that remain after all plans, numbered as before the first."""
    module = student.get_submodule(name)
    turned = isinstance(module, nn.modules.conv._ConvTransposeNd)
    kept: list[int] | None = None
    for plan in plans:
        site, dim = (f"{name}.bias", 0) if f"{name}.bias" in plan.sites else (f"{name}.weight", int(turned))
        again = plan.positions(site)[dim] if site in plan.sites else None
        if again is not None:
            kept = again if kept is None else [kept[i] for i in again]
    return kept


@contextlib.contextmanager
def _recorded(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of the named modules in each call."""
    modules, recorded = dict(model.named_modules(remove_duplicate=False)), dict[str, Tensor]()
    handles: list[Any] = []
    try:
        for name in names:
            if name not in modules:
                raise InputError(
                    f"features names {name!r}, which {type(model).__name__} does not have{nearest(name, modules)}"
                )
            handles.append(modules[name].register_forward_hook(_recorder(recorded, name)))
        yield recorded
    finally:
        for handle in handles:
            handle.remove()


def _recorder(recorded: dict[str, Tensor], name: str) -> Any:
    def record(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            recorded[name] = output

    return record
