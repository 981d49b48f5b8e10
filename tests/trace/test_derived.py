"""Weights that are computed from parameters: weight norm, masks, user parametrizations; and those that stay."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
import torch.nn.utils.parametrizations as new
from torch import Tensor, nn
from torch.nn.utils import parametrize, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

import laws
import secateur
from nets import Parts
from secateur.errors import FileError
from secateur.importance import score
from secateur.plan.check import check_plan
from secateur.plan.plan import Plan

IMAGE = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
Wrap = Callable[[nn.Module], nn.Module]
pytestmark = pytest.mark.filterwarnings("ignore:.*weight_norm.*is deprecated:FutureWarning")


def convolutions(wrap: Wrap) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.g(self.b(self.a(x).relu()).relu()).relu()
        return self.d(self.c(x.mean((2, 3))).relu())

    a, b = wrap(nn.Conv2d(3, 8, 3, padding=1)), wrap(nn.Conv2d(8, 12, 3, padding=1))
    g = wrap(nn.Conv2d(12, 12, 3, padding=1, groups=3))
    return Parts(run, a=a, b=b, g=g, c=wrap(nn.Linear(12, 6)), d=nn.Linear(6, 4))


def positions() -> nn.Module:
    """As in wav2vec 2.0: a grouped convolution along time whose norm is taken at each place of the kernel."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.into(x)
        return self.out(self.norm(x + self.conv(x.transpose(1, 2))[:, :, :-1].relu().transpose(1, 2)))

    conv = new.weight_norm(nn.Conv1d(16, 16, 4, padding=2, groups=4), dim=2)
    return Parts(run, into=nn.Linear(6, 16), conv=conv, norm=nn.LayerNorm(16), out=nn.Linear(16, 4))


def masked(wrap: Wrap) -> nn.Module:
    layers = {name: wrap(nn.Linear(n, m)) for name, n, m in (("a", 3, 8), ("b", 8, 6), ("c", 6, 4))}
    return Parts(lambda self, x: self.c(self.b(self.a(x.mean((2, 3))).relu()).relu()), **layers)


def hooked(layer: nn.Module) -> nn.Module:
    with torch.no_grad():  # else deepcopy refuses the weight, which the laws copy
        return old_weight_norm(layer)


def cut_weights(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        return prune.l1_unstructured(layer, "weight", 0.3)  # type: ignore[return-value]


class Positive(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.softplus(x)


def positive(layer: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(layer, "weight", Positive(), unsafe=True)


WRAPS: dict[str, Wrap] = {
    "weight_norm": new.weight_norm,
    "weight_norm over outputs": lambda layer: new.weight_norm(layer, dim=1),
    "weight_norm by a hook": hooked,
    "masks": cut_weights,
    "positive": positive,
}


@pytest.mark.parametrize("name", WRAPS)
def test_the_laws(name: str, tmp_path: Path) -> None:
    plan = laws.check_all(lambda: convolutions(WRAPS[name]), IMAGE, tmp_path / "x.safetensors", target="channels=0.6")
    assert plan.after.params < plan.before.params


@pytest.mark.parametrize("wrap", [old_weight_norm, lambda m: prune.l1_unstructured(m, "weight", 0.3)])
def test_a_weight_that_a_hook_computed_with_its_gradient_is_copied(wrap: Wrap) -> None:
    model = convolutions(wrap)
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(model)
    result = secateur.prune(model, IMAGE, "channels=0.6", verify=True)
    assert result.model(IMAGE).shape == (2, 4)
    assert model(IMAGE).grad_fn is not None


def test_a_positional_convolution(tmp_path: Path) -> None:
    plan = laws.check_all(positions, torch.randn(2, 5, 6), tmp_path / "x.safetensors", target="channels=0.6")
    assert [(renorm.of, renorm.dim) for renorm in plan.renorms] == [("conv.parametrizations.weight.original1", 2)]


@pytest.mark.parametrize("dim", [0, 1, 3])
def test_what_is_kept_of_a_normalised_weight_stays_what_it_was(dim: int) -> None:
    model = laws.randomized(convolutions(lambda m: new.weight_norm(m, dim=min(dim, m.weight.dim() - 1))))
    graph = secateur.trace(model, IMAGE)
    plan = secateur.plan(graph, drop={"a": [1, 4, 5]})
    kept = [0, 2, 3, 6, 7]
    torch.testing.assert_close(secateur.cut(model, plan).b.weight, model.b.weight[:, kept])
    assert secateur.cut(model, plan).a.out_channels == 5


def test_a_gain_that_is_not_rescaled_is_found_out() -> None:
    model = laws.randomized(convolutions(new.weight_norm))
    plan = secateur.plan(secateur.trace(model, IMAGE), "channels=0.6")
    assert plan.renorms
    forgotten = secateur.cut(model, replace(plan, renorms=()))
    assert secateur.verify(model, forgotten, plan, IMAGE).silence > 1e-3
    assert secateur.verify(model, secateur.cut(model, plan), plan, IMAGE).passed


def test_dropping_outputs_alone_rescales_nothing() -> None:
    model = masked(new.weight_norm)
    plan = secateur.plan(secateur.trace(model, IMAGE), drop={"a": [0]})
    assert [renorm.of for renorm in plan.renorms] == ["b.parametrizations.weight.original1"]


def test_importance_is_that_of_the_weight_as_it_works() -> None:
    plain = masked(lambda layer: layer)
    model = copy.deepcopy(plain)
    for layer in (model.a, model.b, model.c):
        new.weight_norm(layer)
        layer.parametrizations.weight.original1.data.mul_(torch.rand(layer.weight.shape[0], 1) + 0.5)
    wanted, found = (score(secateur.trace(m, IMAGE), "l2")["a"] for m in (plain, model))
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=0)


def attention() -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (2, -1)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))

    layers = {name: new.weight_norm(nn.Linear(6, 16)) for name in "qkv"}
    return Parts(run, **layers, out=nn.Linear(16, 4))


def test_a_head_size_is_made_up_for_in_the_gain(tmp_path: Path) -> None:
    plan = laws.check_all(attention, torch.randn(2, 5, 6), tmp_path / "x.safetensors", target="channels=0.6")
    assert {scale.name for scale in plan.scales} == {"q.parametrizations.weight.original0", "q.bias"}


STAY: dict[str, tuple[Wrap, str]] = {
    "spectral_norm": (new.spectral_norm, r"an estimate of its norm.*remove_parametrizations\(module, 'weight'\)"),
    "spectral_norm by a hook": (old_spectral_norm, r"an estimate of its norm.*remove_spectral_norm\(module\)"),
    "orthogonal": (
        lambda m: new.orthogonal(m, use_trivialization=False),
        r"(no rule for aten::linalg|values are written at fixed positions).*remove_parametrizations",
    ),
    "one norm of all": (lambda m: new.weight_norm(m, dim=None), r"over the whole weight.*remove_parametrizations"),
}


@pytest.mark.parametrize("name", STAY)
def test_what_a_cut_would_invalidate_is_frozen_and_names_the_remedy(name: str) -> None:
    wrap, reason = STAY[name]
    model = masked(lambda layer: wrap(layer) if layer.in_features == 8 else layer)  # type: ignore[operator]
    graph = secateur.trace(model, IMAGE)
    assert not graph.axes
    frozen = {f"{f.name}[{f.dim}]": f.reason for f in graph.frozen}
    for place in ("a.weight[0]", "c.weight[1]"):
        assert re.search(reason, frozen[place])


def test_plans_with_renorms_are_data_and_are_checked() -> None:
    plan = secateur.plan(secateur.trace(convolutions(new.weight_norm), IMAGE), "channels=0.6")
    assert Plan.from_json(plan.to_json()) == plan
    assert "gains of normalised weights rescaled: " in str(plan)
    check_plan(plan)
    data = json.loads(plan.to_json())
    for bad in (["g", "nothing", 0], ["g", plan.renorms[0].of, 4], [3, plan.renorms[0].of, 0]):
        data["renorms"] = [bad]
        with pytest.raises(FileError, match=r"takes norms of .*, which is not one of its sites"):
            check_plan(Plan.from_json(json.dumps(data)))
    del data["renorms"]
    assert Plan.from_json(json.dumps(data)).renorms == ()
