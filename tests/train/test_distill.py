from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.errors import InputError
from secateur.train import Distillation, TrainOptions, fit
from secateur.train.distill import soft_cross_entropy

X = torch.randn(6, 3, 8, 8, generator=torch.Generator().manual_seed(0))
BATCHES = [(X, torch.arange(6) % 4)]


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8)
        self.up = nn.ConvTranspose2d(8, 10, 3)
        self.mid, self.head = nn.Linear(10, 12), nn.Linear(12, 4)
        self.drop = nn.Dropout(0.5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))
        x = F.relu(self.up(x)).mean((2, 3))
        return self.head(self.drop(F.relu(self.mid(x))))


def net(seed: int = 0) -> Net:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Net()


def cut(model: nn.Module) -> nn.Module:
    return secateur.prune(model, X[:1], "channels=0.5").model


def test_the_loss_is_that_of_the_paper() -> None:
    s, t, temperature = torch.randn(5, 4).double(), torch.randn(5, 4).double(), 3.0
    p, q = torch.softmax(t / temperature, 1), torch.softmax(s / temperature, 1)
    expected = temperature**2 * (p * (p / q).log()).sum(1).mean()
    assert torch.allclose(soft_cross_entropy(s, t, temperature).double(), expected, rtol=1e-5)


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_teacher_and_targets_share_the_loss(weight: float) -> None:
    teacher, student = net(1).eval(), nn.Sequential(nn.Flatten(), nn.Linear(192, 4))
    scores, taught = student(X), teacher(X)
    hard, soft = F.cross_entropy(scores, BATCHES[0][1]), soft_cross_entropy(scores, taught, 2.0)
    history = fit(student, BATCHES, epochs=1, teacher=Distillation(teacher, weight, temperature=2.0))
    assert history.losses[0] == pytest.approx(((1 - weight) * hard + weight * soft).item(), rel=1e-5)


def test_a_student_becomes_its_teacher() -> None:
    teacher, student = net(1).eval(), net(2)
    before = (student.eval()(X) - teacher(X)).square().mean()
    options = TrainOptions("adamw", lr=0.02)
    fit(student, BATCHES, epochs=60, options=options, teacher=Distillation(teacher, 1.0, features=["mid"]))
    assert (student.eval()(X) - teacher(X)).square().mean() < 0.2 * before


FEATURES = ["conv1", "bn1", "up", "mid", "head"]


@pytest.mark.parametrize("cuts", [1, 2])
@pytest.mark.parametrize("name", FEATURES)
def test_features_of_the_units_that_were_kept(name: str, cuts: int) -> None:
    """A teacher whose dropped units are silent gives what the cut model gives, in the units that stayed."""
    teacher = net()
    student = teacher
    for _ in range(cuts):
        student = cut(student)
    plan = secateur.apply.ready.plans_of(student)[0]
    for later in secateur.apply.ready.plans_of(student)[1:]:
        plan = plan.then(later)
    with torch.no_grad():
        for site, parameter in teacher.named_parameters():
            for dim, kept in enumerate(plan.positions(site) if site in plan.sites else []):
                gone = [i for i in range(parameter.shape[dim]) if kept is not None and i not in kept]
                parameter.index_fill_(dim, torch.tensor(gone, dtype=torch.long), 0.0)
    what = Distillation(teacher, weight=0.0, features=[name])
    student.train()
    student.drop.p = 0.0
    with what.lessons(student.eval()) as lessons:
        zero = lessons.loss(X, student(X), torch.zeros(()))
    assert zero.item() == pytest.approx(0.0, abs=1e-10)


def test_a_teacher_that_was_cut_itself() -> None:
    teacher = cut(net())
    student = cut(teacher)
    what = Distillation(teacher, weight=0.0, features=["mid"])
    with what.lessons(student) as lessons:
        assert lessons.loss(X, student(X), torch.zeros(())).item() > 0


def test_nothing_stays_attached_and_the_teacher_keeps_its_mode() -> None:
    teacher, student = net(1).train(), net(2)
    fit(student, BATCHES, epochs=1, teacher=Distillation(teacher, features=["conv1"]))
    assert teacher.training
    assert not any(module._forward_hooks for model in (teacher, student) for module in model.modules())
    assert all(parameter.grad is None for parameter in teacher.parameters())


WRONG: dict[str, tuple[Any, str]] = {
    "unknown": ({"features": ["convv1"]}, "features names 'convv1', which Net does not have; did you mean 'conv1'"),
    "classes": ({"teacher": nn.Sequential(nn.Flatten(), nn.Linear(192, 5))}, "student  (6, 4)\n  teacher  (6, 5)"),
    "no scores": (
        {"teacher": nn.Sequential(nn.Flatten(), nn.Flatten(), nn.LSTM(192, 4))},
        "the teacher returned tuple",
    ),
    "weight": ({"weight": 1.5}, "weight is 1.5; it is the teacher's share of the loss, from 0 to 1"),
    "text": ({"temperature": "4"}, "temperature is '4', which is not a number; it must be above 0"),
    "temperature": ({"temperature": 0.0}, "temperature is 0.0; it must be above 0"),
    "features_weight": ({"features_weight": -1.0}, "features_weight is -1.0; it must be 0 or above"),
}


@pytest.mark.parametrize("case", WRONG)
def test_lessons_that_cannot_be(case: str) -> None:
    arguments, message = WRONG[case]
    with pytest.raises(InputError) as caught:
        fit(net(), BATCHES, epochs=1, teacher=Distillation(**{"teacher": net(1), **arguments}))
    assert message in str(caught.value)


def test_features_that_no_plan_relates() -> None:
    student = net()
    student.mid, student.head = nn.Linear(10, 7), nn.Linear(7, 4)
    with pytest.raises(InputError, match=r"features of 'mid' cannot be compared\n  student  \(6, 7\)"):
        fit(student, BATCHES, epochs=1, teacher=Distillation(net(1), features=["mid"]))
