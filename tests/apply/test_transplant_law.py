"""The law of the transplant: train, cut, train is train, then train with masks held. Over every optimizer of torch."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

import secateur
from nets import NETS, Parts, graph_of
from secateur import InputError, Plan
from secateur.apply.transplant import transplant
from secateur.base.nested import tensors_in
from secateur.testing import transplant_error

Make = Callable[[Iterable[nn.Parameter]], Optimizer]
TOLERANCE = 1e-10

CLASSES: dict[str, Any] = {
    name: kind
    for name, kind in vars(torch.optim).items()
    if inspect.isclass(kind) and issubclass(kind, Optimizer) and kind is not Optimizer
}
WHOLE = {  # classes for which it cannot hold, or not on these nets
    "Adafactor": "steps are scaled by the mean square of a whole parameter, and moments are means over its rows",
    "Muon": "a step is a whole matrix, orthogonalised in bfloat16",
    "LBFGS": "one history of all parameters together",
    "SparseAdam": "takes sparse gradients alone",
}
OPTIMIZERS: dict[str, Make] = {
    **{name: partial(kind, lr=1e-3) for name, kind in CLASSES.items() if name not in WHOLE},
    "SGD, momentum": partial(torch.optim.SGD, lr=1e-3, momentum=0.9, weight_decay=0.1),
    "SGD, Nesterov": partial(torch.optim.SGD, lr=1e-3, momentum=0.9, nesterov=True, maximize=True),
    "Adam, amsgrad": partial(torch.optim.Adam, lr=1e-3, amsgrad=True, weight_decay=0.1),
    "Adam, fused": partial(torch.optim.Adam, lr=1e-3, fused=True),
    "Adam, rate in a tensor": partial(torch.optim.Adam, lr=torch.tensor(1e-3), foreach=False),
    "RMSprop, centred": partial(torch.optim.RMSprop, lr=1e-3, momentum=0.9, centered=True),
    "Adagrad, from one": partial(torch.optim.Adagrad, lr=1e-3, initial_accumulator_value=1.0),
    "ASGD, at once": partial(torch.optim.ASGD, lr=1e-3, t0=1),
}
STATELESS = {"SGD", "ASGD", "ASGD, at once"}  # what ASGD remembers is an average, which no step reads

# What norms average over does not stay put under masks, and weights with a factor folded in move at another pace.
DROPOUT = {"tagger"}  # draws other numbers where there are fewer units


def planned(name: str) -> Plan:
    return secateur.plan(graph_of(name), "channels=0.5", importance="random")


def is_lawful(name: str) -> bool:
    net = NETS[name]
    if not net.axes or name in DROPOUT:
        return False
    plan = planned(name)
    return not plan.scales and not plan.renorms and set(net.inexact).isdisjoint(name for name, _ in plan.dropped())


LAWFUL = [name for name in NETS if is_lawful(name)]


def loss_on(name: str) -> Callable[[nn.Module], Tensor]:
    inputs = [i.double() if isinstance(i, Tensor) and i.is_floating_point() else i for i in NETS[name].example()]

    def loss(model: nn.Module) -> Tensor:
        outputs = [out for out in tensors_in(model(*inputs)) if out.is_floating_point()]
        generator = torch.Generator().manual_seed(3)
        wanted = [torch.randn(out.shape, generator=generator, dtype=out.dtype) for out in outputs]
        return torch.stack([F.mse_loss(a, b) for a, b in zip(outputs, wanted, strict=True)]).sum()

    return loss


def error(name: str, make: Make, **options: Any) -> float:
    return transplant_error(NETS[name].make(), planned(name), make, loss_on(name), **options)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("name", ["plain_cnn", "residual", "c2f"])
def test_training_goes_on_as_under_masks(name: str, optimizer: str) -> None:
    assert error(name, OPTIMIZERS[optimizer]) < TOLERANCE


@pytest.mark.parametrize("name", LAWFUL)
def test_on_every_net(name: str) -> None:
    assert error(name, OPTIMIZERS["Adam, amsgrad"], before=2, after=2) < TOLERANCE


def test_nets_of_every_family_are_lawful() -> None:
    assert {"dense", "depthwise", "c2f", "attention_by_hand", "lstm", "tied_embedding", "shared"} < {*LAWFUL}


def fresh(optimizer: Optimizer, model: nn.Module, small: nn.Module) -> None:
    """As users do it who have nothing better: the parameters alone."""
    transplant(optimizer, model, small).state.clear()


def shifted(optimizer: Optimizer, model: nn.Module, small: nn.Module) -> None:
    """The state of the unit beside."""
    for state in transplant(optimizer, model, small).state.values():
        state.update({key: v.roll(1, 0) for key, v in state.items() if isinstance(v, Tensor) and v.dim()})


@pytest.mark.parametrize("follow", [fresh, shifted])
@pytest.mark.parametrize("optimizer", sorted({*OPTIMIZERS} - STATELESS))
def test_it_fails_without_the_state_of_each_unit(optimizer: str, follow: Any) -> None:
    assert error("residual", OPTIMIZERS[optimizer], follow=follow) > 1e-3


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("attention", r"the plan folds factors into weights, .*\nthe law does not cover this"),
        ("weight_norm", r"the plan folds factors into weights, .*: 2\.parametrizations\.weight\.original0\n"),
    ],
)
def test_plans_of_which_it_says_nothing_are_refused(name: str, message: str) -> None:
    model = NETS[name].make() if name in NETS else weight_normed()
    graph = graph_of(name) if name in NETS else secateur.trace(model, torch.zeros(1, 4))
    plan = secateur.plan(graph, "channels=0.5", importance="random")
    with pytest.raises(InputError, match=message):
        transplant_error(model, plan, torch.optim.Adam, lambda net: net(torch.zeros(1)).sum())


def weight_normed() -> nn.Module:
    normed = nn.utils.parametrizations.weight_norm(nn.Linear(8, 3))
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), normed)


def test_what_does_not_move_is_refused() -> None:
    with pytest.raises(InputError, match=r"under masks training moved the weights by 0\.0"):
        error("residual", partial(torch.optim.SGD, lr=0.0))


def test_every_optimizer_of_torch_is_spoken_of() -> None:
    assert {*WHOLE} < {*CLASSES}
    assert {"SGD", "Adam", "AdamW", "Rprop", "ASGD"} < {*OPTIMIZERS}
    assert set(CLASSES) == {*WHOLE} | ({*OPTIMIZERS} & {*CLASSES})


def sparse_net() -> tuple[nn.Module, Plan, Callable[[nn.Module], Tensor]]:
    table, fc = nn.Embedding(7, 6, sparse=True), nn.Linear(6, 3)
    fc.requires_grad_(False)
    model = Parts(lambda self, ids: self.fc(self.table(ids)), table=table, fc=fc)
    ids = torch.tensor([[1, 4, 0], [6, 2, 2]])
    return model, secateur.plan(secateur.trace(model, ids), "channels=0.5"), lambda m: m(ids).square().mean()


@pytest.mark.parametrize("kind", [torch.optim.SparseAdam, partial(torch.optim.SGD, momentum=0.9)])
def test_sparse_gradients(kind: Any) -> None:
    model, plan, loss = sparse_net()

    def make(parameters: Iterable[nn.Parameter]) -> Optimizer:
        return kind([p for p in parameters if p.requires_grad], lr=1e-3)

    assert transplant_error(model, plan, make, loss) < TOLERANCE
    assert transplant_error(model, plan, make, loss, follow=fresh) > 1e-3


def stepped(name: str, optimizer: Optimizer, model: nn.Module) -> None:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = loss_on(name)(model)
        loss.backward()
        return loss

    optimizer.step(closure)  # type: ignore[arg-type]


def kept_of(plan: Plan, name: str, tensor: Tensor) -> Tensor:
    for dim, kept in enumerate(plan.positions(name)):
        if kept is not None and dim < tensor.dim() and tensor.shape[dim] > 1:
            tensor = tensor.index_select(dim, torch.tensor(kept))
    return tensor


def test_factored_moments_follow_along_their_dimensions() -> None:
    model, plan = NETS["residual"].make().double(), planned("residual")
    optimizer = torch.optim.Adafactor(model.parameters(), lr=1e-3)
    stepped("residual", optimizer, model)
    wanted = {
        (name, key): kept_of(plan, name, value)
        for name, p in model.named_parameters()
        for key, value in optimizer.state[p].items()
        if name in plan.sites
    }
    small = secateur.cut(model, plan)
    transplant(optimizer, model, small)
    assert {key for _, key in wanted} == {"step", "row_var", "col_var", "variance"}
    for (name, key), value in wanted.items():
        assert torch.equal(optimizer.state[small.get_parameter(name)][key], value)
    stepped("residual", optimizer, small)


def test_the_momentum_of_muon_follows() -> None:
    model = nn.Sequential(nn.Linear(3, 8, bias=False), nn.ReLU(), nn.Linear(8, 5, bias=False))
    plan = secateur.plan(secateur.trace(model, torch.zeros(1, 3)), "channels=0.5")
    optimizer = torch.optim.Muon(model.parameters())
    for _ in matrices(optimizer, model):
        pass
    momentum = optimizer.state[model[2].weight]["momentum_buffer"]
    small = secateur.cut(model, plan)
    transplant(optimizer, model, small)
    assert torch.equal(optimizer.state[small[2].weight]["momentum_buffer"], kept_of(plan, "2.weight", momentum))
    assert len(list(matrices(optimizer, small))) == 2


def matrices(optimizer: Optimizer, model: nn.Module) -> Iterator[float]:
    for _ in range(2):
        optimizer.zero_grad()
        loss = model(torch.ones(4, 3)).square().mean()
        loss.backward()
        optimizer.step()
        yield loss.item()


def test_lbfgs_starts_anew_and_says_so() -> None:
    model, plan = NETS["residual"].make().double(), planned("residual")
    optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=3)
    stepped("residual", optimizer, model)
    small = secateur.cut(model, plan)
    with pytest.warns(UserWarning, match=r"is reset:\n  stem\.weight in LBFGS: it is the history of all") as caught:
        transplant(optimizer, model, small)
    assert caught[0].filename == __file__
    before = [p.detach().clone() for p in small.parameters()]
    stepped("residual", optimizer, small)
    assert all(not torch.equal(a, b) for a, b in zip(before, small.parameters(), strict=True))


def test_lbfgs_goes_on_where_nothing_was_cut() -> None:
    model = NETS["residual"].make().double()
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=3)
    stepped("residual", optimizer, model)
    state = dict(optimizer.state[next(model.parameters())])
    small = secateur.cut(model, secateur.plan(graph_of("residual"), "channels=1.0"))
    transplant(optimizer, model, small)
    assert optimizer.state[next(small.parameters())] == state
