"""Zeros stay zero whatever trains the model, and everything else goes on as if there were no masks."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

import secateur
from secateur.anatomy.masked import worn
from secateur.errors import InputError
from secateur.masks import mask, masks_of
from secateur.train.iterate import iterate

X, Y = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 0, 1])


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        F.cross_entropy(model(X), Y).backward()
        optimizer.step()


OPTIMIZERS: dict[str, Callable[[Any], torch.optim.Optimizer]] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.9, centered=True),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_masked_weights_are_zero_after_any_step(name: str) -> None:
    """An optimizer from before the masks, with momentum in flight, goes on with the same parameters."""
    model = net()
    optimizer = OPTIMIZERS[name](model.parameters())
    train(model, optimizer, 3)
    parameters = {id(p) for p in model.parameters()}
    masks = mask(model, 0.7)
    before = model[0].weight.detach().clone()
    train(model, optimizer, 5)
    assert {id(p) for p in model.parameters()} == parameters
    assert {id(p) for group in optimizer.param_groups for p in group["params"]} == parameters
    for path, kept in masks.masks.items():
        weight = model.get_submodule(path.removesuffix(".weight")).weight
        assert (weight[~kept] == 0).all()  # type: ignore[index]
        assert (weight[kept] != 0).any()  # type: ignore[index]
    assert not torch.equal(before, model[0].weight)


def test_what_lies_behind_a_mask_gets_no_gradient() -> None:
    model = net()
    masks = mask(model, 0.7)
    F.cross_entropy(model(X), Y).backward()
    for one in worn(model).values():
        assert one.parameter.grad is not None
        assert (one.parameter.grad[one.mask.mask == 0] == 0).all()
    assert masks.sparsity == pytest.approx(0.7, abs=0.01)


def test_all_is_as_before_when_masks_are_removed() -> None:
    model = net()
    before = {name: (id(p), p.clone()) for name, p in model.named_parameters()}
    kinds, hooks = [type(m) for m in model.modules()], [len(m._forward_hooks) for m in model.modules()]
    mask(model, 0.7).remove()
    after = dict(model.named_parameters())
    assert list(after) == list(before)
    assert all(id(p) == before[name][0] and torch.equal(p, before[name][1]) for name, p in after.items())
    assert [type(m) for m in model.modules()] == kinds
    assert [len(m._forward_hooks) for m in model.modules()] == hooks


def test_hardened_zeros_are_those_of_the_masks() -> None:
    model = net().eval()
    masks = mask(model, 0.7)
    wanted, output, keys = masks.masks, model(X), net().state_dict().keys()
    parameters = [id(p) for p in model.parameters()]
    masks.harden()
    assert torch.equal(model(X), output)
    assert model.state_dict().keys() == keys
    assert sorted(parameters) == sorted(id(p) for p in model.parameters())
    assert all(torch.equal(model.get_parameter(name) != 0, kept) for name, kept in wanted.items())


@pytest.mark.parametrize("end", ["harden", "remove"])
def test_a_copy_is_a_model_of_its_own(end: str) -> None:
    """Torch gives copies the class of the original; what is done to one must not be done to the other."""
    model = net().eval()
    mask(model, 0.7)
    output, copied = model(X), copy.deepcopy(model)
    assert torch.equal(copied(X), output)
    getattr(masks_of(copied), end)()
    assert torch.equal(model(X), output)
    assert masks_of(model).sparsity == pytest.approx(0.7, abs=0.01)
    mask(copied, 0.5, only="6")
    masks_of(model).remove()
    assert copied[6].weight.shape == (4, 8)
    assert type(model[0]) is nn.Conv2d


def test_a_second_parameter_of_a_copied_module() -> None:
    model = nn.Bilinear(4, 4, 4)
    model.register_parameter("extra", nn.Parameter(torch.randn(4, 4)))
    mask(model, 0.5, only="weight")
    copied = copy.deepcopy(model)
    mask(copied, 0.5, only="extra")
    assert torch.equal(model.extra, copied.parametrizations.extra.original)
    masks_of(copied).remove()
    assert list(copied._parameters) == ["weight", "bias", "extra"]


def test_state_dicts_go_both_ways() -> None:
    model, other = net(), net()
    mask(model, 0.7)
    mask(other, 0.1, criterion="random")
    other.load_state_dict(model.state_dict())
    assert torch.equal(other.eval()(X), model.eval()(X))
    assert all(torch.equal(m, masks_of(model).masks[name]) for name, m in masks_of(other).masks.items())


def test_gradients_of_gradients() -> None:
    model = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, 2)).double()
    mask(model, 0.5)
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradgradcheck(model, (x,))
    gradient = torch.autograd.grad(model(x).square().sum(), x, create_graph=True)[0]
    gradient.square().sum().backward()
    assert all(bool((one.parameter.grad[one.mask.mask == 0] == 0).all()) for one in worn(model).values())  # type: ignore[index]


def test_lower_precision() -> None:
    model = net()
    mask(model, 0.7)
    with torch.autocast("cpu", torch.bfloat16):
        F.cross_entropy(model(X), Y).backward()
    assert all(one.parameter.grad is not None for one in worn(model).values())
    half = copy.deepcopy(model).to(torch.bfloat16)
    assert half[0].weight.dtype == torch.bfloat16
    assert masks_of(half).sparsity == masks_of(model).sparsity


def test_a_weight_can_be_assigned_and_loaded_behind_its_mask() -> None:
    layer = nn.Linear(4, 2)
    masks = mask(layer, 0.5)
    with torch.no_grad():
        layer.weight = torch.ones(2, 4)
    assert torch.equal(layer.weight, masks.masks["weight"].float())


def test_memory_format_is_kept() -> None:
    model = net().to(memory_format=torch.channels_last)
    mask(model, 0.5)
    assert model[0].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("training", [True, False])
def test_attention_reads_masked_weights(training: bool) -> None:
    layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.0, batch_first=True).train(training)
    masks = mask(layer, 0.6)
    assert "self_attn.in_proj_weight" in masks.names
    hardened = copy.deepcopy(layer)
    masks_of(hardened).harden()
    x = torch.randn(2, 5, 8)
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(layer(x), hardened(x))


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_recurrent_layers_read_masked_weights(kind: Any) -> None:
    rnn = kind(4, 6, num_layers=2, bidirectional=True)
    masks = mask(rnn, 0.6)
    assert len(masks.names) == 8
    hardened, x = copy.deepcopy(rnn), torch.randn(5, 2, 4)
    masks_of(hardened).harden()
    assert torch.equal(rnn(x)[0], hardened(x)[0])
    optimizer = OPTIMIZERS["sgd"](rnn.parameters())
    for _ in range(3):
        rnn(x)[0].square().mean().backward()
        optimizer.step()
    assert all((getattr(rnn, name)[~kept] == 0).all() for name, kept in masks.masks.items())
    plain = copy.deepcopy(rnn)
    masks_of(plain).remove()
    assert not plain._forward_pre_hooks
    assert not plain._forward_hooks
    assert plain._flat_weights[0] is plain.weight_ih_l0
    assert torch.equal(plain.weight_ih_l0, rnn.parametrizations.weight_ih_l0.original)  # type: ignore[union-attr]
    assert list(plain._parameters) == list(kind(4, 6, num_layers=2, bidirectional=True)._parameters)


def test_a_recurrent_layer_that_fails_can_be_copied_all_the_same() -> None:
    rnn = nn.LSTM(4, 6)
    mask(rnn, 0.6)
    with pytest.raises(RuntimeError):
        rnn(torch.randn(5, 2, 3))
    assert isinstance(copy.deepcopy(rnn), nn.LSTM)


def test_layers_are_counted_as_without_masks() -> None:
    model = net()
    before = secateur.count(model, X)
    mask(model, 0.5)
    assert secateur.count(model, X) == before


def test_handles_see_a_cut_in_place() -> None:
    model = net().eval()
    masks = mask(model, 0.5, scope="layer")
    graph = secateur.trace(model, X)
    secateur.cut_(model, secateur.plan(graph, drop={"0": [0, 1, 2, 3]}))
    assert masks.masks["0.weight"].shape == (4, 4, 3, 3)
    masks.update(0.8)
    assert masks.sparsity == pytest.approx(0.8, abs=0.02)
    masks.harden()
    assert type(model[0]) is nn.Conv2d
    assert model(X).shape == (6, 4)


def test_importance_is_that_of_the_weights_as_they_work() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    masks = mask(model, 0.5, scope="layer", criterion="random")
    found = secateur.importance.score(secateur.trace(model, torch.zeros(1, 3)), "l2")["0"]
    masks.harden()
    wanted = secateur.importance.score(secateur.trace(model, torch.zeros(1, 3)), "l2")["0"]
    torch.testing.assert_close(found, wanted)


def test_a_plan_and_its_json_serve_a_masked_model() -> None:
    model = net().eval()
    mask(model, 0.5)
    plan = secateur.plan(secateur.trace(model, X), "channels=0.5")
    again = secateur.cut(model, secateur.Plan.from_json(plan.to_json()))
    assert torch.equal(again(X), secateur.cut(model, plan)(X))
    assert parametrize.is_parametrized(again[0], "weight")


def test_the_optimizer_of_a_masked_model_follows_its_cut() -> None:
    """Momentum is sliced as the parameters behind the masks are, and what is masked stays zero."""
    model = net()
    mask(model, 0.5, scope="layer")
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    train(model, optimizer, 3)
    before = optimizer.state[worn(model)["0.weight"].parameter]["momentum_buffer"].clone()
    plan = secateur.plan(secateur.trace(model, X), drop={"0": [1, 5]})
    secateur.cut_(model, plan, carry=[optimizer])
    after = worn(model)["0.weight"].parameter
    assert torch.equal(optimizer.state[after]["momentum_buffer"], before[[0, 2, 3, 4, 6, 7]])
    train(model, optimizer, 3)
    for path, kept in masks_of(model).masks.items():
        assert (model.get_submodule(path.removesuffix(".weight")).weight[~kept] == 0).all()  # type: ignore[index]


def test_a_masked_model_is_pruned_by_the_loop() -> None:
    model = net().eval()
    mask(model, 0.5, scope="layer")
    iteration = iterate(model, X, "channels=0.5", steps=2)
    sizes = [masks_of(stage.model).masks["0.weight"].shape[0] for stage in iteration]
    assert sizes[-1] == 4
    assert masks_of(iteration.model).names == ("0.weight", "3.weight", "6.weight")


def test_a_pruned_model_is_proved_masks_and_all() -> None:
    model = net().eval()
    mask(model, 0.5, scope="layer")
    pruned = secateur.prune(model, X, "macs=0.5", verify=True)
    assert pruned.verification is not None
    assert pruned.verification.passed


def test_recovery_of_whole_weights_is_refused() -> None:
    model = net().eval()
    mask(model, 0.5)
    assert secateur.prune(model, X, "macs=0.5", recover="norms", data=[X]).plan.recovery
    with pytest.raises(
        secateur.InputError, match=r"the recovery step 'lsq' solves for whole weights, and 0.weight has a mask"
    ):
        secateur.prune(model, X, "macs=0.5", recover="lsq", data=[X])


@pytest.mark.parametrize(("norm", "name"), [(weight_norm, "_WeightNorm"), (spectral_norm, "_SpectralNorm")])
def test_what_is_put_on_over_a_mask_is_told(norm: Callable[[nn.Module], nn.Module], name: str) -> None:
    """Nobody goes on with fewer masks than are worn; what the message says to call takes both off."""
    model = net()
    plain, masks = model[3].weight, mask(model, 0.5)
    norm(model[3])
    asked: list[Callable[[], object]] = [
        lambda: masks_of(model),
        lambda: str(masks),
        lambda: masks.update(0.7),
        masks.harden,
    ]
    for ask in asked:
        with pytest.raises(InputError, match=f"3.weight has a mask and {name} at once") as told:
            ask()
    mend = str(told.value).splitlines()[1].removeprefix("remove them: ")
    eval(mend, {"torch": torch, "model": model})
    assert model[3].weight is plain
    assert "3.weight" not in masks_of(model).names


def test_masks_without_values_are_told() -> None:
    model = net()
    masks = mask(model, 0.5)
    model.to("meta")
    for ask in (lambda: str(masks), lambda: masks.sparsity, lambda: masks.update(0.7)):
        with pytest.raises(InputError, match=r"the mask of 0.weight is on the meta device and has no values\nmasks"):
            ask()
    masks.remove()
    assert model[0].weight.is_meta
