"""Optimizers, averages and master weights follow a cut: who holds what afterwards."""

from __future__ import annotations

import copy
import itertools
import warnings
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import lr_scheduler
from torch.optim.swa_utils import SWALR, AveragedModel, get_ema_multi_avg_fn

import secateur
from nets import NETS, Parts, graph_of
from secateur import InputError, Plan
from secateur.apply.in_place import become_
from secateur.apply.ready import plans_of
from secateur.apply.states import dims_of
from secateur.apply.transplant import transplant

X = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def planned(name: str = "residual", target: str = "channels=0.5") -> Plan:
    return secateur.plan(graph_of(name), target, importance="random")


def stepped(model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    optimizer.zero_grad()
    model(X.to(next(model.parameters()).dtype)).float().square().mean().backward()
    optimizer.step()


def trained(make: Callable[..., torch.optim.Optimizer] = torch.optim.Adam) -> tuple[nn.Module, torch.optim.Optimizer]:
    model = NETS["residual"].make().train()
    optimizer = make(model.parameters())
    stepped(model, optimizer)
    return model, optimizer


def kept_of(plan: Plan, name: str, tensor: Tensor) -> Tensor:
    for dim, kept in enumerate(plan.positions(name) if name in plan.sites else ()):
        tensor = tensor if kept is None else tensor.index_select(dim, torch.tensor(kept))
    return tensor


def held(optimizer: torch.optim.Optimizer) -> list[int]:
    return [id(p) for group in optimizer.param_groups for p in group["params"]]


def snapshot(optimizer: torch.optim.Optimizer) -> Any:
    """All of it, with the identity of every object that must stay."""
    state = {id(p): list(map(id, dict(optimizer.state[p]).values())) for p in optimizer.state if isinstance(p, Tensor)}
    return held(optimizer), state, [dict(g, params=None) for g in optimizer.param_groups]


def test_state_is_sliced_as_the_parameters() -> None:
    model, optimizer = trained()
    plan = planned()
    before = {name: dict(optimizer.state[p]) for name, p in model.named_parameters()}
    small = secateur.cut(model, plan)
    assert transplant(optimizer, model, small) is optimizer
    assert held(optimizer) == [id(p) for p in small.parameters()]
    for name, parameter in small.named_parameters():
        state = optimizer.state[parameter]
        assert state["step"] is before[name]["step"]
        assert torch.equal(state["exp_avg"], kept_of(plan, name, before[name]["exp_avg"]))
        assert torch.equal(state["exp_avg_sq"], kept_of(plan, name, before[name]["exp_avg_sq"]))
    stepped(small, optimizer)


def test_the_model_itself_stays_whole() -> None:
    model, optimizer = trained()
    before = {name: (id(p), p.shape, p._version) for name, p in model.named_parameters()}
    transplant(optimizer, model, secateur.cut(model, planned()))
    assert {name: (id(p), p.shape, p._version) for name, p in model.named_parameters()} == before


def test_groups_keep_their_options_and_order() -> None:
    model = NETS["residual"].make()
    stem, rest = {id(p) for p in model.stem.parameters()}, [*model.named_parameters()]
    groups = [
        {"params": [(n, p) for n, p in rest if id(p) not in stem], "lr": 0.1, "weight_decay": 0.0, "mine": "rest"},
        {"params": [(n, p) for n, p in rest if id(p) in stem], "lr": 0.01},
    ]
    optimizer = torch.optim.AdamW(groups, weight_decay=0.3)
    defaults, names = dict(optimizer.defaults), [list(g["param_names"]) for g in optimizer.param_groups]
    small = secateur.cut(model, planned())
    transplant(optimizer, model, small)
    first, second = optimizer.param_groups
    assert (first["lr"], first["weight_decay"], first["mine"]) == (0.1, 0.0, "rest")
    assert (second["lr"], second["weight_decay"]) == (0.01, 0.3)
    assert [g["param_names"] for g in optimizer.param_groups] == names
    assert held(optimizer) == [id(small.get_parameter(name)) for group in names for name in group]
    assert optimizer.defaults == defaults


def test_a_state_dict_goes_on_in_an_optimizer_of_the_small_model() -> None:
    model, optimizer = trained()
    small = secateur.cut(model, planned())
    transplant(optimizer, model, small)
    again = torch.optim.Adam(small.parameters())
    again.load_state_dict(optimizer.state_dict())
    for parameter in small.parameters():
        assert torch.equal(again.state[parameter]["exp_avg"], optimizer.state[parameter]["exp_avg"])


def test_frozen_foreign_and_repeated_parameters() -> None:
    model, foreign = NETS["residual"].make(), nn.Parameter(torch.ones(3))
    model.stem.weight.requires_grad_(False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns of the repetition
        optimizer = torch.optim.SGD([model.stem.weight, foreign, model.a.weight, model.a.weight], lr=0.1, momentum=0.9)
    optimizer.state[foreign]["momentum_buffer"] = torch.ones(3)
    small = secateur.cut(model, planned())
    transplant(optimizer, model, small)
    assert held(optimizer) == [id(p) for p in (small.stem.weight, foreign, small.a.weight, small.a.weight)]
    assert not small.stem.weight.requires_grad
    assert list(optimizer.state) == [foreign]


@pytest.mark.parametrize("name", ["shared", "tied_embedding"])
def test_shared_parameters(name: str) -> None:
    model, plan = NETS[name].make(), planned(name)
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        optimizer.state[parameter] = {"step": torch.tensor(1.0), "exp_avg": parameter.detach().clone()}
    small = secateur.cut(model, plan)
    transplant(optimizer, model, small)
    assert held(optimizer) == [id(p) for p in small.parameters()]
    assert all(torch.equal(optimizer.state[p]["exp_avg"], p) for p in small.parameters())


def test_hooks_and_the_object_survive() -> None:
    model, optimizer = trained()
    calls: list[str] = []
    optimizer.register_step_pre_hook(lambda *_: calls.append("before"))
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    small = secateur.cut(model, planned())
    stepped(small, transplant(optimizer, model, small))
    assert calls == ["before", "after"]


def test_two_plans_in_turn_are_followed_at_once() -> None:
    model, optimizer = trained()
    momentum = {name: optimizer.state[p]["exp_avg"] for name, p in model.named_parameters()}
    once = secateur.cut(model, planned(target="channels=0.8"))
    twice = secateur.cut(once, secateur.plan(secateur.trace(once, X), "channels=0.5"))
    transplant(optimizer, model, twice)
    whole = plans_of(twice)[0].then(plans_of(twice)[1])
    for name, p in twice.named_parameters():
        assert torch.equal(optimizer.state[p]["exp_avg"], kept_of(whole, name, momentum[name]))


def blocks() -> nn.Module:
    def block() -> nn.Module:
        return Parts(lambda self, x: x + self.b(self.a(x).relu()), a=nn.Conv2d(6, 4, 1), b=nn.Conv2d(4, 6, 1))

    return nn.Sequential(nn.Conv2d(3, 6, 1), block(), block(), block(), nn.Flatten(), nn.Linear(384, 2))


@pytest.mark.parametrize("kind", [torch.optim.SGD, torch.optim.Adam, torch.optim.Adafactor, torch.optim.Rprop])
def test_removed_blocks_leave_and_their_group_stays(kind: Any) -> None:
    model = blocks()
    groups = [{"params": list(part.parameters())} for part in model.children() if [*part.parameters()]]
    optimizer = kind(groups, lr=0.01)
    scheduler = lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
    stepped(model, optimizer)
    plan = secateur.plan(secateur.trace(model, X), ["depth=2", "channels=0.5"])
    [gone] = plan.removed
    small = secateur.cut(model, plan)
    transplant([optimizer, scheduler], model, small)
    assert len(optimizer.param_groups) == 5
    assert optimizer.param_groups[int(gone)]["params"] == []
    assert set(map(id, optimizer.state)) <= set(held(optimizer)) == {id(p) for p in small.parameters()}
    stepped(small, optimizer)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == [0.005] * 5


def narrow() -> nn.Module:
    layers = [nn.Conv2d(3, 8, 1), nn.ReLU(), nn.Conv2d(8, 6, 1, bias=False), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(6, 2, 1, bias=False))


def test_what_recovery_adds_joins_the_group_of_what_it_is_like() -> None:
    torch.manual_seed(0)
    model = narrow()
    groups = [{"params": [("0", model[0].weight), ("1", model[2].weight)], "lr": 0.1}]
    optimizer = torch.optim.Adam([*groups, {"params": [("2", model[4].weight)], "lr": 0.2}])
    stepped(model, optimizer)
    ema, shadow = AveragedModel(model), {f"module.{n}": p.detach().double() for n, p in model.named_parameters()}
    small = secateur.prune(model, X, "channels=0.5", data=[(X, None)], recover="lsq").model
    transplant([optimizer, ema, shadow], model, small)
    first, second = optimizer.param_groups
    assert [id(p) for p in second["params"]] == [id(small[4].weight), id(small[4].bias)]
    assert (first["param_names"], second["param_names"]) == (["0", "1", "2.bias"], ["2", "4.bias"])
    assert torch.equal(ema.module[4].bias, small[4].bias)
    assert torch.equal(shadow["module.4.bias"].float(), small[4].bias)
    assert shadow["module.4.bias"].dtype == torch.float64
    stepped(small, optimizer)
    ema.update_parameters(small)


def test_what_recovery_gave_a_weight_its_copies_get_too() -> None:
    torch.manual_seed(0)
    model = narrow()
    ema, shadow = copy.deepcopy(model), {n: p.detach() + 1 for n, p in model.named_parameters()}
    small = secateur.prune(model, X, "channels=0.5", data=[(X, None)], recover="lsq").model
    transplant([ema, shadow], model, small)
    for name, parameter in small.named_parameters():
        torch.testing.assert_close(ema.get_parameter(name), parameter)
    torch.testing.assert_close(shadow["4.weight"], small[4].weight + 1)


def test_norm_statistics_that_recovery_took_anew_go_to_the_averages() -> None:
    model = NETS["plain_cnn"].make()
    ema = copy.deepcopy(model)
    result = secateur.prune(model, X, "channels=0.5", data=[(X, None)], recover="norms")
    transplant(ema, model, result.model)
    assert torch.equal(ema.bn.running_var, result.model.bn.running_var)
    assert not torch.equal(ema.bn.running_var, kept_of(result.plan, "bn.running_var", model.bn.running_var))


def test_weights_that_a_norm_scales() -> None:
    """The gain of weight norm shrinks with the norm, in copies too."""
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.utils.weight_norm(nn.Linear(8, 3)))  # type: ignore[no-untyped-call]
    shadow = {n: 2 * p.detach() for n, p in model.named_parameters()}
    small = secateur.cut(model, secateur.plan(secateur.trace(model, torch.ones(1, 4)), "channels=0.5"))
    transplant(shadow, model, small)
    for name, parameter in small.named_parameters():
        torch.testing.assert_close(shadow[name], 2 * parameter.detach())


def test_averages_in_an_optimizer_are_scaled_as_the_weights_are() -> None:
    model, plan = NETS["attention"].make(), planned("attention")
    assert plan.scales
    optimizer = torch.optim.ASGD(model.parameters())
    for parameter in model.parameters():
        optimizer.state[parameter]["ax"] = parameter.detach().clone()
    small = secateur.cut(model, plan)
    transplant(optimizer, model, small)
    assert all(torch.equal(optimizer.state[p]["ax"], p) for p in small.parameters())


@pytest.mark.parametrize("use_buffers", [True, False])
def test_an_averaged_model_is_cut_in_place(use_buffers: bool) -> None:
    model, optimizer = trained()
    ema = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(0.9), use_buffers=use_buffers)
    for _ in range(2):
        stepped(model, optimizer)
        ema.update_parameters(model)
    inner, values, plan = ema.module, {n: t.clone() for n, t in ema.module.state_dict().items()}, planned()
    small = secateur.cut(model, plan)
    assert transplant([ema, optimizer], model, small)[0] is ema
    assert ema.module is inner
    assert ema.n_averaged == 2
    assert plans_of(inner) == (plan,)
    for name, tensor in inner.state_dict().items():
        assert torch.equal(tensor, kept_of(plan, name, values[name]))
    stepped(small, optimizer)
    ema.update_parameters(small)
    assert ema(X).shape == (4, 5)


def test_tensors_by_name_change_in_place() -> None:
    model, plan = NETS["residual"].make(), planned()
    shadow = {f"module.{name}": tensor.clone() for name, tensor in model.state_dict().items()}
    shadow |= {"module.step": torch.tensor(3), "decay": 0.9}  # type: ignore[dict-item]
    transplant(shadow, model, secateur.cut(model, plan))
    for name, tensor in model.state_dict().items():
        assert torch.equal(shadow[f"module.{name}"], kept_of(plan, name, tensor))
    assert (shadow["module.step"], shadow["decay"]) == (3, 0.9)


def test_removed_blocks_leave_a_dict() -> None:
    model = blocks()
    shadow = dict(model.state_dict())
    small = secateur.cut(model, secateur.plan(secateur.trace(model, X), "depth=2"))
    transplant(shadow, model, small)
    assert shadow.keys() == small.state_dict().keys()


def test_master_weights_and_their_optimizer() -> None:
    torch.manual_seed(0)
    model = narrow().bfloat16()
    masters = {name: nn.Parameter(p.detach().float() + 1e-4) for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(masters.values(), lr=0.1, momentum=0.9)

    def step(model: nn.Module) -> None:
        model.zero_grad()
        model(X.bfloat16()).float().square().mean().backward()
        for name, parameter in model.named_parameters():
            assert parameter.grad is not None
            masters[name].grad = parameter.grad.float()
        optimizer.step()
        for name, parameter in model.named_parameters():
            parameter.data.copy_(masters[name])

    step(model)
    before = {name: (m.detach().clone(), optimizer.state[m]["momentum_buffer"]) for name, m in masters.items()}
    plan = secateur.plan(secateur.trace(model, X.bfloat16()), "channels=0.5")
    small = secateur.cut(model, plan)
    transplant([masters, optimizer], model, small)
    assert held(optimizer) == [id(masters[name]) for name, _ in small.named_parameters()]
    for name, (master, momentum) in before.items():
        assert type(masters[name]) is nn.Parameter
        assert torch.equal(masters[name], kept_of(plan, name, master))
        assert torch.equal(optimizer.state[masters[name]]["momentum_buffer"], kept_of(plan, name, momentum))
    step(small)


def test_masters_of_what_recovery_adds() -> None:
    torch.manual_seed(0)
    model = narrow()
    masters = {name: nn.Parameter(p.detach().double()) for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(masters.values(), lr=0.1)
    small = secateur.prune(model, X, "channels=0.5", data=[(X, None)], recover="shift").model
    transplant([optimizer, masters], model, small)
    assert held(optimizer) == [id(masters[name]) for name, _ in small.named_parameters()]
    assert all(torch.equal(masters[name].float(), p) for name, p in small.named_parameters())


def test_masters_in_a_list() -> None:
    """In the order of the parameters, as one makes them by hand, also of those that recovery adds."""
    torch.manual_seed(0)
    model = narrow()
    masters = [p.detach().double().requires_grad_() for p in model.parameters()]
    same, optimizer = masters, torch.optim.SGD(masters, lr=0.1, momentum=0.9)
    for master in masters:
        master.grad = master.detach().clone()
    optimizer.step()
    momentum = optimizer.state[masters[0]]["momentum_buffer"]
    result = secateur.prune(model, X, "channels=0.5", data=[(X, None)], recover="lsq")
    transplant([masters, optimizer], model, result.model)
    assert same is masters
    assert [m.shape for m in masters] == [p.shape for p in result.model.parameters()]
    assert held(optimizer) == [id(m) for m in masters]
    assert all(m.is_leaf and m.requires_grad for m in masters)
    assert torch.equal(optimizer.state[masters[0]]["momentum_buffer"], kept_of(result.plan, "0.weight", momentum))


def test_shadows_of_what_is_trained_in_a_list() -> None:
    model = blocks()
    model[0].requires_grad_(False)
    shadow = [p.detach().clone() for p in model.parameters() if p.requires_grad]
    small = secateur.cut(model, secateur.plan(secateur.trace(model, X), "depth=2"))
    transplant(shadow, model, small)
    for mine, parameter in zip(shadow, [p for p in small.parameters() if p.requires_grad], strict=True):
        assert torch.equal(mine, parameter)


SCHEDULERS: dict[str, Callable[[Any], Any]] = {
    "StepLR": lambda o: lr_scheduler.StepLR(o, 1),
    "CosineAnnealingLR": lambda o: lr_scheduler.CosineAnnealingLR(o, 5),
    "OneCycleLR": lambda o: lr_scheduler.OneCycleLR(o, 0.1, total_steps=5),
    "SequentialLR": lambda o: lr_scheduler.SequentialLR(
        o, [lr_scheduler.ConstantLR(o, 0.5), lr_scheduler.ExponentialLR(o, 0.9)], milestones=[2]
    ),
    "ChainedScheduler": lambda o: lr_scheduler.ChainedScheduler([lr_scheduler.ExponentialLR(o, 0.9)]),
    "SWALR": lambda o: SWALR(o, 0.05),
}


@pytest.mark.parametrize("name", SCHEDULERS)
def test_a_scheduler_goes_on(name: str) -> None:
    """The same rates as without a cut, in the groups that the optimizer has now."""

    def rates(*, cut: bool) -> list[float]:
        model, optimizer = trained()
        scheduler, found = SCHEDULERS[name](optimizer), []
        for step in range(4):
            if cut and step == 2:
                model, whole = secateur.cut(model, planned()), model
                assert transplant(scheduler, whole, model) is scheduler  # takes the optimizer along
                transplant(optimizer, whole, model)  # it is there already
            stepped(model, optimizer)
            scheduler.step()
            found += [group["lr"] for group in optimizer.param_groups]
        return found

    assert rates(cut=True) == rates(cut=False)


def test_a_plateau_is_remembered() -> None:
    model, optimizer = trained()
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=1)
    for _ in range(2):
        scheduler.step(1.0)
    small = secateur.cut(model, planned())
    transplant([optimizer, scheduler], model, small)
    scheduler.step(1.0)
    assert optimizer.param_groups[0]["lr"] == pytest.approx(1e-4)


def test_a_grad_scaler_goes_on() -> None:
    model, optimizer = trained()
    scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=2)

    def step(model: nn.Module) -> None:
        optimizer.zero_grad()
        scaler.scale(model(X).square().mean()).backward()
        scaler.unscale_(optimizer)
        scaler.step(optimizer)
        scaler.update()

    step(model)
    small = secateur.cut(model, planned())
    transplant([optimizer, scaler], model, small)
    step(small)
    assert scaler.get_scale() == 16.0  # after two good steps, one on each side of the cut
    assert optimizer.state[next(small.parameters())]["step"] == 3


def test_an_optimizer_of_accelerate() -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerator = accelerate.Accelerator(cpu=True)
    model, inner = trained()
    model, optimizer, scheduler = accelerator.prepare(model, inner, lr_scheduler.StepLR(inner, 1))
    small = secateur.cut(model, planned())
    assert transplant([optimizer, scheduler], model, small)[0] is optimizer
    assert held(inner) == held(optimizer) == [id(p) for p in small.parameters()]
    stepped(small, optimizer)


class Odd(torch.optim.Optimizer):
    """Keeps what nobody knows how to slice."""

    def __init__(self, parameters: Any, state: Callable[[Tensor], Mapping[str, Any]]):
        super().__init__(parameters, {})
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter] = dict(state(parameter))
        self.state["calls"] = 3  # type: ignore[index]


UNKNOWN: dict[str, tuple[Callable[[Tensor], Any], str]] = {
    "another shape": (lambda p: torch.zeros(7), r"a\.weight in Odd: 'own' has the shape \(7,\), the parameter \(6, 8"),
    "a function": (lambda p: torch.tensor, r"a\.weight in Odd: 'own' is a builtin_function_or_method"),
    "in a list": (lambda p: [torch.zeros(p.numel())], r"a\.weight in Odd: 'own' has the shape \(432,\)"),
    "an object": (lambda p: torch.Generator(), r"a\.weight in Odd: 'own' is a Generator"),
}


@pytest.mark.parametrize("case", UNKNOWN)
def test_state_that_cannot_follow_is_named_and_reset(case: str) -> None:
    make, message = UNKNOWN[case]
    model = NETS["residual"].make()
    optimizer = Odd([model.a.weight, model.fc.bias], lambda p: {"own": make(p), "momentum": torch.zeros_like(p)})
    small = secateur.cut(model, planned())
    with pytest.warns(UserWarning, match=message) as caught:
        transplant(optimizer, model, small)
    assert [c.filename for c in caught] == [__file__]
    assert list(optimizer.state) == [small.fc.bias, "calls"]  # what was not cut keeps whatever it has


class Own(NamedTuple):
    mean: Tensor
    count: int


class Keeping(torch.optim.SGD):
    """Holds its parameters once more, to do something of its own with them."""

    def __init__(self, parameters: Any):
        self.mine = {"all": [*parameters], "one": (3, None)}
        super().__init__(self.mine["all"], lr=0.1)


def test_parameters_that_an_optimizer_holds_once_more() -> None:
    model, optimizer = trained(Keeping)
    small = secateur.cut(model, planned())
    transplant(optimizer, model, small)
    mine = optimizer.mine  # type: ignore[attr-defined]
    assert [id(p) for p in mine["all"]] == held(optimizer) == [id(p) for p in small.parameters()]
    assert mine["one"] == (3, None)


def test_state_of_every_kind_that_can() -> None:
    model, plan = NETS["residual"].make(), planned()
    optimizer = Odd(
        [model.a.weight],
        lambda p: {
            "step": 3,
            "none": None,
            "one": torch.ones(1, 1),
            "rows": torch.rand(6, 1, 1, 1),
            "both": (torch.rand_like(p), {"deep": [torch.rand(1, 8, 1, 1)]}),
            "last": deque([torch.rand_like(p)], maxlen=3),
            "ordered": OrderedDict(own=Own(torch.rand_like(p), 2)),
            "rows of": {"exp_avg_sq_row": torch.rand(6, 8, 3)},
        },
    )
    before = dict(optimizer.state[model.a.weight])
    small = secateur.cut(model, plan)
    transplant(optimizer, model, small)
    state = optimizer.state[small.a.weight]
    assert (state["step"], state["none"], state["one"]) == (3, None, before["one"])
    out, into = (torch.tensor(kept) for kept in plan.positions("a.weight")[:2])
    assert torch.equal(state["rows"], before["rows"][out])
    assert torch.equal(state["both"][0], before["both"][0][out][:, into])
    assert torch.equal(state["both"][1]["deep"][0], before["both"][1]["deep"][0][:, into])
    assert torch.equal(state["rows of"]["exp_avg_sq_row"], before["rows of"]["exp_avg_sq_row"][out][:, into])
    assert torch.equal(state["last"][0], before["last"][0][out][:, into])
    assert state["last"].maxlen == 3
    assert torch.equal(state["ordered"]["own"].mean, before["ordered"]["own"].mean[out][:, into])
    assert (type(state["ordered"]), state["ordered"]["own"].count) == (OrderedDict, 2)


def test_adafactor_of_transformers() -> None:
    optimization = pytest.importorskip("transformers.optimization", exc_type=ImportError)
    model, optimizer = trained(optimization.Adafactor)
    plan, state = planned(), dict(optimizer.state[model.a.weight])
    out, into = (torch.tensor(kept) for kept in plan.positions("a.weight")[:2])
    small = secateur.cut(model, plan)
    transplant(optimizer, model, small)
    after = optimizer.state[small.a.weight]
    assert torch.equal(after["exp_avg_sq_row"], state["exp_avg_sq_row"][out][:, into])
    assert torch.equal(after["exp_avg_sq_col"], state["exp_avg_sq_col"][out][:, into])
    stepped(small, optimizer)


class Sam(torch.optim.Optimizer):
    """Sharpness-aware minimisation as it is published: an optimizer that holds another, whose groups are its own."""

    def __init__(self, parameters: Any, inner: type[torch.optim.Optimizer]):
        super().__init__(parameters, {"rho": 0.05})
        self.base_optimizer = inner(self.param_groups, lr=0.1, momentum=0.9)  # type: ignore[call-arg]
        self.param_groups = self.base_optimizer.param_groups

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                self.state[parameter]["old_p"] = parameter.detach().clone()
        self.base_optimizer.step(closure)


def test_an_optimizer_in_an_optimizer_follows() -> None:
    model, optimizer = trained(lambda p: Sam(p, torch.optim.SGD))
    inner, plan = optimizer.base_optimizer, planned()  # type: ignore[attr-defined]
    before = inner.state[model.a.weight]["momentum_buffer"]
    small = secateur.cut(model, plan)
    transplant(optimizer, model, small)
    assert held(optimizer) == held(inner) == [id(p) for p in small.parameters()]
    assert torch.equal(inner.state[small.a.weight]["momentum_buffer"], kept_of(plan, "a.weight", before))
    assert optimizer.state[small.a.weight]["old_p"].shape == small.a.weight.shape
    stepped(small, optimizer)


def test_lookahead_of_timm() -> None:
    timm = pytest.importorskip("timm.optim")
    model, optimizer = trained(lambda p: timm.Lookahead(torch.optim.Adam(p)))
    inner = optimizer._base_optimizer  # type: ignore[attr-defined]
    small = secateur.cut(model, planned())
    transplant(optimizer, model, small)
    assert {id(p) for p in inner.state} == {id(p) for p in small.parameters()}
    stepped(small, optimizer)


def test_what_an_optimizer_hangs_on_a_parameter_is_sliced_too() -> None:
    """As AdaHessian does with its `hess`."""
    model, plan = NETS["residual"].make(), planned()
    hess = torch.rand_like(model.a.weight)
    model.a.weight.hess, model.a.weight.tag = hess, "mine"
    small = secateur.cut(model, plan)
    assert torch.equal(small.a.weight.hess, kept_of(plan, "a.weight", hess))
    assert small.a.weight.tag == "mine"
    assert model.a.weight.hess is hess


class Preconditioned(torch.optim.Optimizer):
    """A matrix for each dimension, as Shampoo and Kron keep them: on a square weight of the weight's own shape."""

    def __init__(self, parameters: Any, *, in_list: bool):
        super().__init__(parameters, {})
        for group in self.param_groups:
            for p in group["params"]:
                matrices = {f"precond_{i}": torch.eye(n) for i, n in enumerate(p.shape)}
                self.state[p] = {"Q": [*matrices.values()]} if in_list else matrices


@pytest.mark.parametrize("in_list", [True, False])
def test_a_matrix_for_each_dimension_is_no_weight(in_list: bool) -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    optimizer = Preconditioned([model[0].weight, model[2].weight], in_list=in_list)
    small = secateur.cut(model, secateur.plan(secateur.trace(model, torch.zeros(1, 8)), "channels=0.5"))
    with pytest.warns(UserWarning, match=r"0\.weight in Preconditioned: '(Q|precond_0)'[^\n]*\n  2\.weight in Precon"):
        transplant(optimizer, model, small)
    assert not optimizer.state


def test_moments_along_the_largest_dimensions_start_anew() -> None:
    """Of (12, 8) cut to (6, 8) the larger dimension becomes the other, or none is large enough to be factored."""
    timm = pytest.importorskip("timm.optim")
    model = nn.Sequential(nn.Linear(8, 12), nn.ReLU(), nn.Linear(12, 2))
    optimizer = timm.AdafactorBigVision(model.parameters(), lr=0.01, min_dim_size_to_factor=4)

    def step(model: nn.Module) -> None:
        optimizer.zero_grad()
        model(torch.ones(3, 8)).square().mean().backward()
        optimizer.step()

    step(model)
    small = secateur.cut(model, secateur.plan(secateur.trace(model, torch.zeros(1, 8)), "channels=0.5"))
    with pytest.warns(UserWarning, match=r"0\.weight in AdafactorBigVision: 'exp_avg_sq_r' is along the largest dim"):
        transplant(optimizer, model, small)
    step(small)


class Packed(Tensor):
    """A tensor that has no slices, as states of eight bits may be."""

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function is Tensor.index_select:
            raise NotImplementedError("no kernel")
        return super().__torch_function__(function, types, args, kwargs or {})


def test_a_tensor_that_cannot_be_sliced() -> None:
    model = NETS["residual"].make()
    optimizer = Odd([model.a.weight], lambda p: {"own": torch.zeros_like(p).as_subclass(Packed)})
    with pytest.warns(UserWarning, match=r"a\.weight in Odd: 'own' is a Packed, which has no slices: no kernel"):
        transplant(optimizer, model, secateur.cut(model, planned()))


def test_memory_formats_are_kept() -> None:
    model = NETS["residual"].make().to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(model.parameters())
    stepped(model, optimizer)
    small = secateur.cut(model, planned())
    transplant(optimizer, model, small)
    assert optimizer.state[small.a.weight]["exp_avg"].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("state", "parameter", "dims"),
    [((8, 1), (8, 3), [0, None]), ((1, 1), (8, 3), [None, None]), ((8, 3, 1), (8, 3), None), ((24,), (8, 3), None)],
)
def test_dimensions_by_shape(state: Any, parameter: Any, dims: Any) -> None:
    assert dims_of("any", state, parameter) == dims


def test_cut_in_place_carries() -> None:
    model, optimizer = trained()
    ema = AveragedModel(model)
    momentum = optimizer.state[model.a.weight]["exp_avg"]
    bias, plan = model.fc.bias, planned()
    assert secateur.cut_(model, plan, carry=[optimizer, ema]) is model
    assert held(optimizer) == [id(p) for p in model.parameters()]
    assert torch.equal(optimizer.state[model.a.weight]["exp_avg"], kept_of(plan, "a.weight", momentum))
    assert model.fc.bias is bias  # what is not cut stays the same object
    stepped(model, optimizer)
    ema.update_parameters(model)


def test_becoming_what_was_recovered() -> None:
    torch.manual_seed(0)
    model = narrow()
    optimizer, ema = torch.optim.Adam(model.parameters()), copy.deepcopy(model)
    stepped(model, optimizer)
    small = secateur.prune(model, X, "channels=0.5", data=[(X, None)], recover="lsq").model
    assert become_(model, small, carry=[optimizer, ema]) is model
    assert held(optimizer) == [id(p) for p in model.parameters()]
    assert plans_of(model) == plans_of(small)
    assert [r.step for r in plans_of(model)[0].recovery] == ["lsq"]
    for name, parameter in small.named_parameters():
        assert torch.equal(model.get_parameter(name), parameter)
        assert model.get_parameter(name) is not parameter
    assert torch.equal(model(X), small(X))
    assert ema[4].bias.shape == (2,)
    stepped(model, optimizer)


def wrong_shadow(model: nn.Module) -> dict[str, Tensor]:
    return {**model.state_dict(), "a.weight": torch.zeros(2, 2)}


REFUSED: dict[str, tuple[Callable[[nn.Module], Any], str]] = {
    "an optimizer of another model": (
        lambda model: torch.optim.SGD(nn.Linear(2, 2).parameters(), lr=0.1),
        "SGD holds 2 parameters, and none of them is a parameter of the model\npass the model that it was built on",
    ),
    "something else": (lambda model: 3, "int cannot follow the cut: it is not an optimizer, LR scheduler, GradScaler"),
    "a shadow of another shape": (
        wrong_shadow,
        r"the tensor 'a.weight' is not a copy of one of the model's\n  it     \(2, 2\)\n  model  \(6, 8, 3, 3\)",
    ),
    "a shadow of other names": (
        lambda model: {"x": torch.ones(1), "y": 2},
        "no tensor of this dict has a name of the model's\n  it has  x, y\n  model   ",
    ),
    "tensors in a list, too few": (
        lambda model: [p.detach() for p in model.parameters()][:3],
        r"3 tensors in a list do not match the model: it has \d+ parameters, \d+ of them trained\npass one for each",
    ),
    "tensors in a list, in another order": (
        lambda model: [p.detach() for p in model.parameters()][::-1],
        r"the tensor 'stem.weight' is not a copy of one of the model's",
    ),
    "tensors in a tuple": (
        lambda model: tuple(p.detach() for p in model.parameters()),
        "Tensor cannot follow the cut",
    ),
    "another average": (
        lambda model: AveragedModel(nn.Linear(2, 2)),
        "AveragedModel cannot follow the cut: the plan cuts '.*', which this model does not have",
    ),
    "the model itself": (lambda model: model, "this Parts is the model itself; carry optimizers, and copies"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_does_not_fit_is_refused_and_nothing_changes(case: str) -> None:
    model, optimizer = trained()
    ema, shadow = AveragedModel(model), dict(model.state_dict())
    build, message = REFUSED[case]
    small, before = secateur.cut(model, planned()), (snapshot(optimizer), {k: id(v) for k, v in shadow.items()})
    for act in (
        lambda states: transplant(states, model, small),
        lambda states: secateur.cut_(model, planned(), carry=states),
    ):
        with pytest.raises(InputError, match=message):
            act([shadow, ema, optimizer, build(model)])
        assert (snapshot(optimizer), {k: id(v) for k, v in shadow.items()}) == before
        assert ema.module.a.out_channels == model.a.out_channels == 6


def test_a_warning_that_is_an_error_leaves_all_as_it_was() -> None:
    model = NETS["residual"].make()
    optimizer = Odd([model.a.weight], lambda p: {"own": torch.zeros(7)})
    before = snapshot(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(UserWarning, match="cannot follow"):
            secateur.cut_(model, planned(), carry=optimizer)
    assert snapshot(optimizer) == before
    assert model.a.out_channels == 6


class Shadow(dict[str, Any]):
    """Tensors by name in somebody's own kind of dict, which may refuse."""

    refuses = ""

    def __setitem__(self, name: str, value: Any) -> None:
        if name == self.refuses:
            raise RuntimeError("read-only")
        super().__setitem__(name, value)


def everything(model: nn.Module, *carried: Any) -> Any:
    """Each object that must be the one that it was, with its values and sizes."""

    def of(module: nn.Module) -> Any:
        tensors = {name: (id(t), t.clone()) for name, t in module.state_dict(keep_vars=True).items()}
        return {n: (i, t.tolist()) for n, (i, t) in tensors.items()}, str(module), len(plans_of(module))

    optimizer, ema, shadow, masters = carried
    tables = {k: id(v) for k, v in shadow.items()}, list(map(id, masters))
    return of(model), of(ema), snapshot(optimizer), tables


def carried() -> tuple[nn.Module, list[Any]]:
    model, optimizer = trained()
    masters = [p.detach().double() for p in model.parameters()]
    return model, [optimizer, AveragedModel(model), Shadow(model.state_dict()), masters]


ACTS = ["cut_", "become_", "transplant"]


@pytest.mark.parametrize("act", ACTS)
def test_a_failure_at_any_slice_leaves_all_as_it_was(act: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory may run out at each of them."""
    model, states = carried()
    plan, before = planned(), everything(model, *states)
    small = secateur.cut(model, plan)
    acts: dict[str, Callable[[], Any]] = {
        "cut_": lambda: secateur.cut_(model, plan, carry=states),
        "transplant": lambda: transplant(states, model, small),
        "become_": lambda: become_(model, small, carry=states),
    }
    sliced, calls, failing = Tensor.index_select, 0, 0

    def breaking(tensor: Tensor, dim: int, index: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        if calls == failing:
            raise torch.OutOfMemoryError("no memory")
        return sliced(tensor, dim, index)

    monkeypatch.setattr(Tensor, "index_select", breaking)
    for failing in itertools.count(1):
        calls = 0
        try:
            acts[act]()
        except torch.OutOfMemoryError:
            assert everything(model, *states) == before, failing
        else:
            break
    assert failing > 50
    assert everything(model, *states) != before


@pytest.mark.parametrize("act", ACTS)
@pytest.mark.parametrize("refuses", ["stem.weight", "fc.weight"])
def test_a_dict_that_refuses_leaves_all_as_it_was(refuses: str, act: str) -> None:
    model, states = carried()
    states[2].refuses = refuses
    plan, before = planned(), everything(model, *states)
    small = secateur.cut(model, plan)
    acts = {
        "cut_": lambda: secateur.cut_(model, plan, carry=states),
        "become_": lambda: become_(model, small, carry=states),
        "transplant": lambda: transplant(states, model, small),
    }
    with pytest.raises(RuntimeError, match="read-only"):
        acts[act]()
    assert everything(model, *states) == before


def test_an_optimizer_that_was_left_behind_by_a_cut_in_place() -> None:
    """It shares with the cut model what was not cut, and trains nothing else of it."""
    model, optimizer = trained()
    before = copy.deepcopy(model)
    secateur.cut_(model, planned())
    with pytest.raises(InputError, match=r"Adam holds \d+ parameters, and \d+ of them are of neither model\npass"):
        transplant(optimizer, before, model)


def test_models_that_are_not_one_cut_apart() -> None:
    model, optimizer = trained()
    small = secateur.cut(model, planned())
    other = secateur.cut(NETS["plain_cnn"].make(), planned("plain_cnn"))
    for args, message in [
        ((model, model), "model and small are one object: it was cut in place, and its old parameters are gone\ncarry"),
        ((small, model), "small was not cut from model: they went through 0 and 1 plans"),
        ((model, copy.deepcopy(model)), "small was not cut from model: they went through 0 and 0 plans"),
        ((model, other), r"the plan cuts 'conv1.weight', which model does not have"),
        (
            (model, small, planned(target="channels=0.8")),
            r"does not lead from model to small: .*\n  plan   .*\n  small",
        ),
        ((model, small, "half"), "plan is a str: half"),
    ]:
        with pytest.raises(InputError, match=message):
            transplant(optimizer, *args)  # type: ignore[misc]
    assert held(optimizer) == [id(p) for p in model.parameters()]


def test_what_recovery_adds_must_be_there() -> None:
    model = narrow()
    small = secateur.prune(model, X, "channels=0.5", data=[(X, None)], recover="shift").model
    [plan] = plans_of(small)
    assert plan.added
    with pytest.raises(InputError, match=rf"the plan adds '{plan.added[0].name}', which small does not have"):
        transplant(torch.optim.SGD(model.parameters()), model, secateur.cut(model, replace(plan, added=())), plan)


def test_sharded_optimizers_are_refused() -> None:
    class ZeroRedundancyOptimizer(torch.optim.SGD):
        pass

    model, optimizer = trained(lambda p: ZeroRedundancyOptimizer(p, lr=0.1))
    with pytest.raises(InputError, match="ZeroRedundancyOptimizer holds a part of the state on each rank"):
        transplant(optimizer, model, secateur.cut(model, planned()))


def test_gradients_do_not_hold_it_up() -> None:
    model, optimizer = trained()
    F.mse_loss(model(X), torch.zeros(4, 5)).backward()
    small = secateur.cut(model, planned())
    transplant(optimizer, model, small)
    assert all(p.grad is None for p in small.parameters())
    optimizer.step()
