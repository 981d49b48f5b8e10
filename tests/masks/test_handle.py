"""Which weights become zero: exact counts, scopes, patterns, criteria, selections, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.parametrizations as parametrizations
from torch import nn
from torch.nn.utils import prune
from torch.nn.utils import weight_norm as old_weight_norm

from nets import NETS, Parts
from secateur.anatomy.masked import worn
from secateur.errors import InputError
from secateur.masks import mask, masks_of
from secateur.masks.criteria import CRITERIA
from secateur.masks.patterns import PATTERNS, lowest
from secateur.train.schedules import cubic, every

X, Y = torch.randn(6, 4, 5, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([0, 1, 2, 3, 0, 1])


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)),
    )


def layer(*rows: list[float]) -> nn.Linear:
    made = nn.Linear(len(rows[0]), len(rows))
    made.weight.data = torch.tensor(rows)
    return made


def kept(model: nn.Module, **how: Any) -> list[list[int]]:
    return mask(model, **how).masks["weight"].int().tolist()


@pytest.mark.parametrize("sparsity", [0.0, 0.1, 0.37, 0.5, 0.9, 0.999])
def test_the_number_of_zeros_is_exact(sparsity: float) -> None:
    masks = mask(net(), sparsity).masks.values()
    assert sum(int((~m).sum()) for m in masks) == round(sparsity * sum(m.numel() for m in masks))
    for one in mask(net(), sparsity, scope="layer").masks.values():
        assert int((~one).sum()) == round(sparsity * one.numel())
    for one in mask(net(), sparsity, scope="output").masks.values():
        rows = one.flatten(1)
        assert ((~rows).sum(1) == round(sparsity * rows.shape[1])).all()


def test_a_share_may_be_any_real_number() -> None:
    assert mask(net(), np.float32(0.5)).sparsity == 0.5


def test_the_lowest_go_and_of_equal_ones_the_first() -> None:
    rows = [1.0, -3.0, 1.0, 1.0], [2.0, 1.0, -0.5, 4.0]
    assert kept(layer(*rows), sparsity=0.5) == [[0, 1, 0, 0], [1, 1, 0, 1]]
    assert kept(layer(*rows), sparsity=0.5, scope="output") == [[0, 1, 0, 1], [1, 0, 0, 1]]


@pytest.mark.parametrize("count", [0, 1, 4, 7, 8])
def test_ties_are_broken_by_place(count: int) -> None:
    scores = torch.tensor([[1.0, 0.0, 1.0, 2.0, 0.0, 1.0, 1.0, 0.5]])
    order = scores.argsort(dim=1, stable=True)[0, :count]
    assert lowest(scores, count)[0].nonzero().flatten().tolist() == sorted(order.tolist())


def test_a_network_loses_its_least_weights_and_a_layer_its_own() -> None:
    model = nn.Sequential(layer([9.0, 8.0], [7.0, 6.0]), layer([1.0, 2.0], [3.0, 4.0]))
    assert mask(model, 0.5).density == {"0.weight": 1.0, "1.weight": 0.0}
    masks_of(model).remove()
    assert mask(model, 0.5, scope="layer").density == {"0.weight": 0.5, "1.weight": 0.5}


def test_two_of_four_inputs_stay_in_every_four() -> None:
    model = nn.Sequential(nn.Conv2d(8, 6, 3), nn.Linear(12, 5))
    masks = mask(model, pattern="2:4")
    assert masks.sparsity == 0.5
    conv, linear = masks.masks.values()
    assert (conv.unflatten(1, (2, 4)).sum(2) == 2).all()
    assert (linear.unflatten(1, (3, 4)).sum(2) == 2).all()
    weights = model[1].parametrizations.weight.original.unflatten(1, (3, 4)).abs()
    assert (weights.masked_fill(linear.unflatten(1, (3, 4)), 0).amax(2) <= weights.amax(2)).all()
    assert kept(layer([1.0, 2.0, 3.0, 4.0, 5.0, 5.0, 5.0, 5.0]), pattern="2:4") == [[0, 0, 1, 1, 0, 0, 1, 1]]


def test_blocks_of_four_outputs_live_and_die_together() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(5, 12))
    conv, linear = mask(model, 0.75, pattern="4x1", scope="layer").masks.values()
    for one in (conv, linear):
        blocks = one.unflatten(0, (-1, 4)).sum(1)
        assert set(blocks.flatten().tolist()) == {0, 4}
    assert int((~linear).sum()) == 4 * round(0.75 * 15)
    rows = [[1.0, 9.0]] * 4 + [[2.0, 3.0]] * 4
    assert kept(layer(*rows), sparsity=0.5, pattern="4x1") == [[0, 1]] * 4 + [[0, 1]] * 4


@pytest.mark.parametrize("pattern", PATTERNS)
def test_transposed_layers_are_masked_by_their_own_inputs_and_outputs(pattern: str) -> None:
    straight, turned = nn.Conv2d(8, 4, 2), nn.ConvTranspose2d(8, 4, 2)
    turned.weight.data = straight.weight.data.transpose(0, 1).clone()
    one, other = (mask(conv, 0.5, pattern=pattern).masks["weight"] for conv in (straight, turned))
    assert torch.equal(one, other.transpose(0, 1)) or pattern == "unstructured"
    assert one.sum() == other.sum()


class Conv1D(nn.Module):
    """A linear layer stored the other way round, (i, o)."""

    def __init__(self, outputs: int, inputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x @ self.weight


@pytest.mark.parametrize("pattern", ["2:4", "4x1"])
def test_linear_layers_of_gpt2_keep_their_direction_through_updates(
    pattern: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Conv1D, "__module__", "transformers.pytorch_utils")
    model = nn.Sequential(Conv1D(8, 12))
    masks = mask(model, 0.5, pattern=pattern)
    for regrow in (False, True):
        masks.update(0.5, regrow=regrow)
        assert PATTERNS[pattern].holds(masks.masks["0.weight"].T)
        assert masks.sparsity == 0.5


@pytest.mark.parametrize("pattern", ["2:4", "4x1"])
def test_patterns_stay_within_groups(pattern: str) -> None:
    """Blocks of outputs that read the same input, and inputs that one output reads."""
    for conv in (nn.Conv2d(16, 32, 2, groups=4), nn.ConvTranspose2d(16, 32, 2, groups=4)):
        masks = mask(conv, 0.5, pattern=pattern)
        weight = conv.weight.detach()
        dense = torch.stack([one[:, :, 0, 0] for one in _by_group(conv, weight)])  # (g, o, i)
        assert dense.shape == (4, 8, 4)
        assert all(PATTERNS[pattern].holds(group != 0) for group in dense)
        assert masks.sparsity == 0.5


def _by_group(conv: nn.Conv2d | nn.ConvTranspose2d, weight: torch.Tensor) -> list[torch.Tensor]:
    """W: (o, i, ...) of each group."""
    turned = isinstance(conv, nn.ConvTranspose2d)
    return [part.transpose(0, 1) if turned else part for part in weight.chunk(conv.groups)]


def test_groups_that_do_not_divide_are_left_out() -> None:
    model = nn.Sequential(nn.Conv2d(8, 8, 3, groups=8), nn.ConvTranspose2d(8, 8, 2, groups=4), nn.Conv2d(8, 8, 1))
    blocks = mask(model, pattern="4x1")
    assert blocks.left_out == {
        "0.weight": "its 1 outputs of each group are not a multiple of 4",
        "1.weight": "its 2 outputs of each group are not a multiple of 4",
    }
    blocks.remove()
    assert mask(model, pattern="2:4").left_out == {
        "0.weight": "its 1 inputs of each group are not a multiple of 4",
        "1.weight": "its 2 inputs of each group are not a multiple of 4",
    }


def test_each_output_of_a_grouped_transposed_convolution_competes_for_itself() -> None:
    conv = nn.ConvTranspose2d(8, 6, 1, groups=2)
    mask(conv, 0.5, scope="output")
    for group in _by_group(conv, conv.weight.detach()):
        assert ((group != 0).flatten(1).sum(1) == 2).all()


def test_a_stack_of_experts_has_no_known_direction() -> None:
    """Mixtral's experts are (e, o, i), those of gpt-oss (e, i, o): a pattern would lie the wrong way in one of them."""
    model = nn.Sequential(nn.Linear(8, 8))
    model.experts = nn.Parameter(torch.randn(4, 8, 8))
    assert set(mask(model, 0.5).names) == {"experts", "0.weight"}
    masks_of(model).remove()
    why = "it has three dimensions, and it is not known which are inputs and which are outputs"
    assert mask(model, pattern="2:4").left_out == {"experts": why}


def test_what_does_not_divide_is_left_out_and_told() -> None:
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    masks = mask(model, pattern="2:4")
    assert masks.names == ("1.weight",)
    assert masks.left_out == {"0.weight": "its 3 inputs are not a multiple of 4"}
    assert "0.weight has no mask: its 3 inputs are not a multiple of 4" in str(masks)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("scope", ["global", "layer", "output"])
def test_every_criterion_gives_the_sparsity_and_goes_on(criterion: str, scope: str) -> None:
    model = net()
    data = [(X[:3], Y[:3]), (X[3:], Y[3:])]
    masks = mask(model, 0.5, criterion=criterion, scope=scope, data=data, loss=F.cross_entropy)
    before = masks.masks
    assert masks.sparsity == pytest.approx(0.5, abs=0.01)
    masks.update(0.75)
    assert masks.sparsity == pytest.approx(0.75, abs=0.02)
    assert all(not (m & ~before[name]).any() for name, m in masks.masks.items())


def test_gradients_are_those_of_autograd() -> None:
    model, data = net(), [(X[:3], Y[:3]), (X[3:], Y[3:])]
    grads = []
    for x, y in data:
        loss = F.cross_entropy(model.eval()(x), y)
        grads.append(torch.autograd.grad(loss, model[6].weight)[0])
    weight = model[6].weight.detach()
    wanted = {
        "snip": (weight * (grads[0] + grads[1])).abs(),
        "taylor": weight.square() * (grads[0].square() + grads[1].square()),
    }
    for criterion, scores in wanted.items():
        found = mask(model, 0.5, criterion=criterion, only="6", data=data, loss=F.cross_entropy)
        assert torch.equal(found.masks["6.weight"].flatten(), ~lowest(scores.view(1, -1), 16)[0])
        found.remove()


@pytest.mark.parametrize("groups", [1, 2])
def test_wanda_weighs_by_what_is_read(groups: int) -> None:
    conv = nn.Conv2d(4, 6, 1, groups=groups)
    norms = X.square().mean((0, 2, 3)).sqrt()
    by_group = norms.view(groups, 1, -1).expand(groups, 6 // groups, -1).reshape(6, -1)
    scores = conv.weight.detach().abs().flatten(1) * by_group
    found = mask(nn.Sequential(conv), 0.5, criterion="wanda", scope="output", data=[X]).masks["0.weight"]
    assert torch.equal(found.flatten(1), ~lowest(scores, scores.shape[1] // 2))


def test_a_function_is_a_criterion() -> None:
    model = net()
    masks = mask(model, 0.5, criterion=lambda name, weight: -weight.abs(), scope="layer")
    stay = masks.masks["6.weight"]
    weight = worn(model)["6.weight"].parameter.abs()
    assert weight[stay].max() <= weight[~stay].min()
    assert "by <lambda>" in str(masks)


def test_random_is_drawn_by_its_seed() -> None:
    one, two, other = (mask(net(), 0.5, criterion="random", seed=seed).masks["6.weight"] for seed in (1, 1, 2))
    assert torch.equal(one, two)
    assert not torch.equal(one, other)


def test_norms_biases_tables_and_vectors_do_not() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.norm, self.layer = nn.Embedding(5, 4), nn.LayerNorm([3, 4]), nn.Linear(4, 1)
            self.pos_embed, self.scale = nn.Parameter(torch.randn(1, 3, 4)), nn.Parameter(torch.randn(4, 1, 1))
            self.mix = nn.Parameter(torch.randn(4, 4))

    assert mask(Odd(), 0.5).names == ("mix", "layer.weight")
    assert mask(Odd(), 0.5, only=["table", "pos_embed"]).names == ("pos_embed", "table.weight")
    assert mask(Odd(), 0.5, protect="layer").names == ("mix",)
    assert mask(Odd(), 0.5, only="*", protect="mix").names == ("layer.weight",)


@pytest.mark.parametrize("name", ["0.bias", "1.weight", "1.bias"])
def test_a_vector_that_is_named_itself_wears_a_mask(name: str) -> None:
    model = net()
    masks = mask(model, 0.5, only=name)
    assert masks.names == (name,)
    assert masks.sparsity == 0.5
    masks.update(0.75)
    assert int((~masks.masks[name]).sum()) == 6
    assert (getattr(model[int(name[0])], name[2:])[~masks.masks[name]] == 0).all()
    with pytest.raises(InputError, match="it is a vector"):
        mask(net(), only=name, pattern="2:4")


def test_a_module_that_is_named_masks_no_vectors() -> None:
    assert mask(net(), 0.5, only="0").names == ("0.weight",)


def test_tied_weights_wear_one_mask() -> None:
    model = Parts(lambda self, x: self.b(self.a(x)), a=nn.Linear(4, 4), b=nn.Linear(4, 4))
    model.b.weight = model.a.weight
    masks = mask(model, 0.5)
    assert masks.names == ("a.weight",)
    assert torch.equal(model.a.weight, model.b.weight)
    assert model.a.parametrizations.weight.original is model.b.parametrizations.weight.original
    masks.harden()
    assert model.a.weight is model.b.weight
    assert int((model.a.weight == 0).sum()) == 8


def test_a_table_that_is_tied_to_a_layer_stays() -> None:
    model = Parts(lambda self, x: self.b(self.a(x)), a=nn.Embedding(4, 4), b=nn.Linear(4, 4), c=nn.Linear(4, 4))
    model.b.weight = model.a.weight
    assert mask(model, 0.5).names == ("c.weight",)


def test_nothing_comes_back_unless_asked() -> None:
    model = net()
    masks = mask(model, 0.5)
    before = masks.masks
    worn(model)["6.weight"].parameter.data.mul_(100)
    masks.update(0.6)
    assert all(not (m & ~before[name]).any() for name, m in masks.masks.items())
    masks.update(0.6, regrow=True)
    assert (masks.masks["6.weight"] & ~before["6.weight"]).any()
    masks.update(0.3, regrow=True)
    assert masks.sparsity == pytest.approx(0.3, abs=0.01)


def test_two_of_four_are_chosen_anew_only_among_what_stays() -> None:
    model = layer([1.0, 2.0, 3.0, 4.0])
    masks = mask(model, pattern="2:4")
    worn(model)["weight"].parameter.data = torch.tensor([[9.0, 8.0, 3.0, 4.0]])
    masks.update(0.5)
    assert masks.masks["weight"].int().tolist() == [[0, 0, 1, 1]]
    masks.update(0.5, regrow=True)
    assert masks.masks["weight"].int().tolist() == [[1, 1, 0, 0]]


def test_a_schedule_is_followed() -> None:
    masks = mask(net(), 0.0)
    pruner, seen = masks.follow(every(cubic(0.1, 6), 2)), []
    for _ in range(7):
        pruner.step()
        seen.append(round(masks.sparsity, 2))
    assert seen == [0.0, 0.63, 0.63, 0.87, 0.87, 0.9, 0.9]
    assert pruner.done == 7


def test_what_is_printed() -> None:
    text = str(mask(net(), 0.5, scope="layer"))
    assert text.startswith("50.0 % of 384 weights are zero: unstructured, by magnitude, share of each layer")
    assert re.search(r"0\.weight +8x4x3x3 +288 +144 +50\.0 %", text)


def test_a_layer_that_lets_nothing_through_is_told() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    model[2].weight.data *= 1e-3
    masks = mask(model, 0.5)
    assert masks.density["2.weight"] == 0
    assert "every weight is zero in 2.weight" in str(masks)
    masks.remove()
    assert "nothing is left" not in str(mask(model, 0.5, scope="layer"))


def test_masks_of_several_patterns_are_updated_one_by_one() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    first, _ = mask(model, 0.5, only="0"), mask(model, pattern="2:4", only="1")
    with pytest.raises(InputError, match=r"1.weight has the pattern 2:4, and other weights have unstructured\nset"):
        masks_of(model).update(0.9)
    first.update(0.75)
    assert masks_of(model).density == {"0.weight": 0.25, "1.weight": 0.5}


def test_masks_can_be_set_to_any_that_one_has() -> None:
    """The winning ticket: masks of a trained network on the weights that it began with."""
    model = net()
    beginning = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    masks = mask(model, 0.8, criterion="random")
    ticket = masks.masks
    masks.remove()
    model.load_state_dict(beginning)
    again = mask(model, 0.0)
    again.assign(ticket)
    assert all(torch.equal(one, ticket[name]) for name, one in again.masks.items())
    assert torch.equal(model[0].weight, beginning["0.weight"] * ticket["0.weight"])


def test_zeros_that_a_model_has_can_be_kept() -> None:
    model = net()
    mask(model, 0.7).harden()
    zeros = {name: (weight == 0) for name, weight in model.named_parameters() if weight.dim() > 1}
    mask(model, 0.0).assign({name: ~zero for name, zero in zeros.items()})
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    F.cross_entropy(model(X), Y).backward()
    optimizer.step()
    assert masks_of(model).sparsity == pytest.approx(0.7, abs=0.01)
    assert (model[0].weight[zeros["0.weight"]] == 0).all()


ASSIGNED: dict[str, tuple[dict[str, Any], str]] = {
    "unknown": (
        {"0.wieght": torch.ones(2, 4)},
        r"no weight named '0.wieght' has a mask; did you mean",
    ),
    "shape": ({"0.weight": torch.ones(4, 2)}, r"the mask for 0.weight has shape \(4, 2\)\nit must have shape \(4, 4\)"),
    "none": ({"0.weight": 1}, r"the mask for 0.weight is a int\nit must be a tensor of shape \(4, 4\)"),
    "values": ({"0.weight": torch.full((4, 4), 0.5)}, r"the mask for 0.weight has a value other than 0 and 1: 0.5"),
    "pattern": ({"0.weight": torch.ones(4, 4)}, "the mask for 0.weight does not have the pattern 2:4"),
}


@pytest.mark.parametrize("name", ASSIGNED)
def test_masks_that_do_not_fit_are_refused_and_nothing_is_changed(name: str) -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    masks = mask(model, pattern="2:4")
    before = masks.masks
    with pytest.raises(InputError, match=ASSIGNED[name][1]):
        masks.assign({"1.weight": torch.zeros(4, 4), **ASSIGNED[name][0]})
    assert all(torch.equal(one, before[n]) for n, one in masks.masks.items())


def test_masks_of_ones_own_have_the_pattern_of_their_layer() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    mask(model, pattern="2:4", only="0")
    mask(model, 0.5, only="1")
    masks = masks_of(model)
    with pytest.raises(InputError, match=r"the mask for 0.weight does not have the pattern 2:4"):
        masks.assign({"0.weight": torch.ones(4, 4)})
    masks.assign({"1.weight": torch.ones(4, 4)})
    assert masks.density["1.weight"] == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "above": (
        {"sparsity": 1.0},
        r"sparsity=1.0: the share of weights that are zero must be 0 or above, and below 1\npass 0.9",
    ),
    "structured": ({"pattern": "structured"}, r"whole channels, heads and neurons are cut by secateur.prune"),
    "nothing left": ({"protect": "*"}, "no weight is left to mask: protect= leaves none"),
    "below": ({"sparsity": -0.1}, r"sparsity=-0.1: the share"),
    "no share": ({"sparsity": "half"}, r"sparsity='half': the share"),
    "scope": ({"scope": "gobal"}, r"scope='gobal'; did you mean 'global'\?\nknown: global, layer, output"),
    "pattern": ({"pattern": "2:5"}, r"pattern='2:5'; did you mean '2:4'\?\nknown: unstructured, 4x1, 2:4"),
    "criterion": ({"criterion": "magnitud"}, r"criterion='magnitud'; did you mean 'magnitude'\?\nknown: .*a function"),
    "sparsity of a pattern": ({"sparsity": 0.9, "pattern": "2:4"}, r"sparsity=0.9, but pattern='2:4' makes 0.5 zero"),
    "no data": ({"criterion": "wanda"}, "criterion='wanda' is read from data\npass data=, batches of"),
    "no loss": ({"criterion": "snip", "data": [(X, Y)]}, "criterion='snip' reads derivatives of the loss\npass loss="),
    "empty data": ({"criterion": "wanda", "data": []}, "data contains no batches"),
    "unknown name": ({"only": "7"}, "nothing in this model is named '7'"),
    "no name": ({"protect": [3]}, "protect holds 3\npass names of modules or parameters"),
    "only vectors": ({"only": "1"}, "no weight is left to mask; 1.weight: it is a vector, 1.bias: it is a v"),
    "named, no multiple": (
        {"only": ["0", "6.weight"], "pattern": "2:4"},
        r"0.weight \(8, 3, 3, 3\) cannot be masked 2:4: its 3 inputs are not a multiple of 4",
    ),
    "nothing divides": ({"only": "*", "protect": ["3", "6"], "pattern": "2:4"}, "no weight can be masked 2:4; the f"),
    "scores of another shape": (
        {"criterion": lambda n, w: w[0]},
        r"the criterion returned \(4, 3, 3\) for 0.weight\nit m",
    ),
    "scores that are none": ({"criterion": lambda n, w: 3}, r"the criterion returned a int for 0.weight"),
    "nan": ({"criterion": lambda n, w: w / 0 * 0}, r"the scores of 0.weight are not numbers \(nan\) at \(0, 0, 0, 0\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    how, message = REFUSED[name]
    model = net()
    if "2:4" in how.get("pattern", "") and "sparsity" not in how:
        model[0] = nn.Conv2d(3, 8, 3, padding=1)
    before = [(n, id(p)) for n, p in model.named_parameters()]
    with pytest.raises(InputError, match=message):
        mask(model, **how)
    assert [(n, id(p)) for n, p in model.named_parameters()] == before


@pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")
@pytest.mark.parametrize(
    ("wrap", "message"),
    [
        (
            parametrizations.weight_norm,
            r"6.weight is already computed from other parameters, by WeightNorm\nmake it pl",
        ),
        (old_weight_norm, r"6.weight is already computed from weight_g, by a hook \(weight_norm\)"),
        (
            lambda m: prune.l1_unstructured(m, "weight", 0.5),
            r"6.weight is already computed from weight_orig, by a hook",
        ),
        (lambda m: mask(m, 0.5), r"6.weight has a mask already\nchange its mask with secateur.masks.masks_of"),
    ],
)
def test_weights_that_are_computed_are_refused(wrap: Any, message: str) -> None:
    model = net()
    wrap(model[6])
    with pytest.raises(InputError, match=message + r"[^$]*leave it out with protect='6.weight'"):
        mask(model, 0.5)
    assert mask(model, 0.5, protect="6.weight").names == ("0.weight", "3.weight")


def test_a_weight_in_a_list_would_be_read_without_its_mask() -> None:
    with pytest.raises(InputError, match=r"a is also held by .*, and would be read there without its mask"):
        mask(NETS["weights_in_a_list"].make(), 0.5)


def test_handles_on_nothing() -> None:
    with pytest.raises(InputError, match=r"this Sequential has no masks\nadd some with secateur.mask"):
        masks_of(net())
    masks = mask(net(), 0.5)
    masks.remove()
    with pytest.raises(InputError, match="these masks were removed"):
        masks.update(0.9)
    with pytest.raises(InputError, match="is on the meta device and has no values"):
        mask(net().to("meta"), 0.5)


def test_masks_that_are_sparser_already() -> None:
    masks = mask(net(), 0.9)
    with pytest.raises(
        InputError, match=r"the masks are already sparser: 0.9\d* of the .* 0.5 is asked [^$]*regrow=True"
    ):
        masks.update(0.5)


def test_wanda_refuses_a_weight_without_recorded_inputs() -> None:
    conv = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4))
    with pytest.raises(InputError, match=r"needs the inputs of 0.weight.*\nleave it out with protect='0.weight'"):
        mask(conv, 0.5, criterion="wanda", data=[X])


def test_a_model_without_parameters_wears_nothing() -> None:
    with pytest.raises(InputError, match="no weight is left to mask: this ReLU has no parameters"):
        mask(nn.ReLU(), 0.5)
