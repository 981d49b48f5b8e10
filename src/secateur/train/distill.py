"""Knowledge distillation: the dense model teaches the one that was cut from it.

Of scores, s of the student and t of the teacher: (n, classes, ...),

    L = (1 - w) * loss(s, targets) + w * T^2 * KL(softmax(t / T) || softmax(s / T)),

the divergence summed over classes and averaged over all else (Hinton, Vinyals and Dean, Distilling the Knowledge in a
Neural Network, 2015, section 2; T^2 keeps the size of its gradients). Of what modules within give, the mean squared
difference is added, over the units that the student still has: the plans that it went through say which those are, so
nothing has to be learned to compare them, and the cut model starts near the teacher where the cut was good.
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
    """What is learned from `teacher`: its scores, softened by `temperature`, with the share `weight` of the loss.

    `features` names modules whose output is compared as well, in student and teacher, with the weight
    `features_weight`. Where the cut took units of such an output it must be a convolution, a linear layer or a norm:
    then the plan knows them. Raises `InputError` for a number out of range.

    >>> Distillation(nn.Linear(2, 2), weight=0.9, temperature=2.0).weight
    0.9
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
        """A model as a teacher with the usual numbers. Raises `InputError` for what is neither."""
        if teacher is not None and not isinstance(teacher, (nn.Module, Distillation)):
            raise InputError(f"teacher is a {type(teacher).__name__}; give a model, or Distillation(model, ...)")
        return Distillation(teacher) if isinstance(teacher, nn.Module) else teacher

    @contextlib.contextmanager
    def lessons(self, student: nn.Module) -> Iterator[Lessons]:
        """The teacher at work, in evaluation mode, listening to the features of both; nothing stays attached."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(mode(self.teacher, training=False))
            heard = [stack.enter_context(_heard(model, self.features)) for model in (student, self.teacher)]
            yield Lessons(self, student, heard[0], heard[1])


@dataclass(frozen=True, slots=True)
class Lessons:
    """What a student is taught. `learned`, `shown`: what the modules gave in the last call, by name."""

    what: Distillation
    student: nn.Module
    learned: Mapping[str, Tensor]
    shown: Mapping[str, Tensor]

    def loss(self, inputs: Any, output: Any, loss: Tensor) -> Tensor:
        """The loss with the teacher's part, after the student gave `output` for `inputs`."""
        with torch.no_grad():
            taught = call(self.what.teacher, inputs)
        share = self.what.weight
        if share:
            loss = (1 - share) * loss + share * soft_cross_entropy(output, taught, self.what.temperature)
        for name in self.what.features:
            loss = loss + self.what.features_weight * self._difference(name)
        return loss

    def _difference(self, name: str) -> Tensor:
        for model, heard in ((self.student, self.learned), (self.what.teacher, self.shown)):
            if name not in heard:
                raise InputError(f"features names {name!r}, which gave no tensor when {type(model).__name__} ran")
        student, teacher = self.learned[name], self.shown[name]
        kept = kept_units(self.student, self.what.teacher, name, (student.shape, teacher.shape))
        if kept is not None:
            dim, units = kept
            teacher = teacher.index_select(dim, units.to(teacher.device))
        return F.mse_loss(student.float(), teacher.to(student.device).float())


def soft_cross_entropy(output: Any, taught: Any, temperature: float) -> Tensor:
    """T^2 * KL(softmax(taught / T) || softmax(output / T)) over dimension 1, the mean over all others.

    Raises `InputError` where the two are no tensors of scores of one shape.

    >>> soft_cross_entropy(torch.ones(2, 3), torch.ones(2, 3), 4.0)
    tensor(0.)
    """
    alone = "learn from features alone: Distillation(teacher, weight=0, features=[...])"
    output, taught = scores_in(output, alone, "student"), scores_in(taught, alone, "teacher")
    if output.shape != taught.shape:
        raise InputError(
            f"student and teacher differ in what they return\n  student  {tuple(output.shape)}\n"
            f"  teacher  {tuple(taught.shape)}\nteach with the model that was cut, or one of the same classes"
        )
    s, t = (F.log_softmax(x.float() / temperature, dim=1) for x in (output, taught.to(output.device)))
    return temperature**2 * F.kl_div(s, t, reduction="none", log_target=True).sum(1).mean()


def kept_units(
    student: nn.Module, teacher: nn.Module, name: str, shapes: tuple[Sequence[int], Sequence[int]]
) -> tuple[int, Tensor] | None:
    """The dimension in which the outputs of a module differ, and the teacher's units that the student kept.

    None where they do not differ. Raises `InputError` where the plans of the student do not say.
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
            "name a convolution, linear layer or norm, whose units the plan knows, and teach by the model that was cut"
        )
    return differ[0], torch.tensor(units)


def _kept(student: nn.Module, name: str, plans: Sequence[Plan]) -> list[int] | None:
    """The units of a module's output that stay after all plans, in the numbering before the first."""
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
def _heard(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the named modules give, as they give it."""
    modules, heard = dict(model.named_modules(remove_duplicate=False)), dict[str, Tensor]()
    handles: list[Any] = []
    try:
        for name in names:
            if name not in modules:
                raise InputError(
                    f"features names {name!r}, which {type(model).__name__} does not have{nearest(name, modules)}"
                )
            handles.append(modules[name].register_forward_hook(_listener(heard, name)))
        yield heard
    finally:
        for handle in handles:
            handle.remove()


def _listener(heard: dict[str, Tensor], name: str) -> Any:
    def listen(module: nn.Module, args: Any, output: Any) -> None:
        if isinstance(output, Tensor):
            heard[name] = output

    return listen
