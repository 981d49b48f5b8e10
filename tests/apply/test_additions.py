"""Parameters that recovery adds, and its steps: all laws that hold for a cut hold with them."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm

import laws
import secateur
from secateur import FileError, InputError, Plan
from secateur.anatomy.structure import difference
from secateur.apply import recovered_
from secateur.apply.ready import plans_of
from secateur.errors import PruningError
from secateur.export.loader import loader_source
from secateur.files.model_file import read_plans
from secateur.plan.check import check_plan
from secateur.plan.parts import Added, Recovery, Scale

LSQ = Recovery("lsq", {"ridge": 0.01, "images": 1024, "layerwise": True, "data": None, "solver": "qr"})


class Attention(nn.Module):
    """Two heads, projections without biases."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Linear(5, 8, bias=False)
        self.qkv = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(3))
        self.out = nn.Linear(8, 8, bias=False)
        self.up, self.down = nn.Linear(8, 12, bias=False), nn.Linear(12, 8, bias=False)
        self.norm = nn.LayerNorm(8, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed(x)
        q, k, v = (layer(x).unflatten(-1, (2, -1)).transpose(1, 2) for layer in self.qkv)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return self.down(F.gelu(self.up(self.norm(x))))


class Twice(nn.Module):
    """One layer under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(6, 6, bias=False)
        self.again, self.up, self.down = self.a, nn.Linear(4, 6, bias=False), nn.Linear(6, 3, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down(self.again(self.a(self.up(x).relu()).relu()).relu())


@dataclass(frozen=True, slots=True)
class Case:
    """A network of layers without biases, and where recovery adds some."""

    build: Callable[[], nn.Module]
    inputs: tuple[int, ...]
    added: Sequence[Added]

    def example(self) -> torch.Tensor:
        return torch.randn(self.inputs, generator=torch.Generator().manual_seed(0))


def linear() -> nn.Module:
    return nn.Sequential(
        nn.Linear(5, 8), nn.ReLU(), nn.Linear(8, 8, bias=False), nn.ReLU(), nn.Linear(8, 3, bias=False)
    )


def conv() -> nn.Module:
    layers = (nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, bias=False), nn.ReLU())
    return nn.Sequential(*layers, nn.ConvTranspose2d(8, 4, 2, bias=False), nn.ReLU(), nn.Conv2d(4, 2, 1, bias=False))


def grouped() -> nn.Module:
    layers = (nn.Conv2d(3, 12, 1, bias=False), nn.ReLU(), nn.Conv2d(12, 8, 3, groups=2, bias=False), nn.ReLU())
    depthwise = nn.Conv2d(8, 8, 3, groups=8, bias=False)
    return nn.Sequential(*layers, depthwise, nn.ReLU(), nn.Conv2d(8, 3, 1, bias=False))


def biases(*layers: str, dim: int = 0) -> list[Added]:
    return [Added(f"{layer}.bias", f"{layer}.weight", dim) for layer in layers]


CASES: dict[str, Case] = {
    "linear": Case(linear, (2, 5), biases("2", "4")),
    "conv": Case(conv, (2, 3, 8, 8), [*biases("0", "3", "7"), *biases("5", dim=1)]),
    "grouped": Case(grouped, (2, 3, 6, 6), biases("2", "4", "6")),
    "transformer": Case(Attention, (2, 4, 5), biases("qkv.0", "qkv.2", "out", "up", "down")),
    "one layer twice": Case(Twice, (2, 4), biases("again", "down")),
}
each = pytest.mark.parametrize("name", CASES)


def cut(case: Case, target: str = "channels=0.6") -> tuple[nn.Module, nn.Module]:
    """An original with random weights, and its cut."""
    model = laws.randomized(case.build())
    plan = secateur.plan(secateur.trace(model, case.example()), target, importance="random")
    return model, secateur.cut(model, plan)


def recovered(case: Case) -> tuple[nn.Module, nn.Module, Plan]:
    """An original, a cut of it whose weights are all others than the original's, and the plan."""
    model, small = cut(case)
    plan = recovered_(small, case.added, [LSQ])
    return model, laws.randomized(small, seed=1), plan


def fresh(case: Case) -> nn.Module:
    return laws.randomized(case.build(), seed=2)


def same(case: Case, model: nn.Module, other: nn.Module) -> bool:
    with torch.no_grad():
        return torch.equal(model.eval()(case.example()), other.eval()(case.example()))


@each
def test_zeros_change_nothing_and_values_do(name: str) -> None:
    case = CASES[name]
    _, small = cut(case)
    with torch.no_grad():
        before = small(case.example())
        recovered_(small, case.added)
        torch.testing.assert_close(small(case.example()), before)
        for added in case.added:
            nn.init.ones_(small.get_parameter(added.name))
        assert not torch.allclose(small(case.example()), before)


@each
def test_cost(name: str) -> None:
    _, small, plan = recovered(CASES[name])
    laws.check_cost(small, plan, CASES[name].example())
    assert secateur.trace(small, CASES[name].example()).memory == plan.after.memory
    laws.check_trains(small, CASES[name].example())


@each
def test_round_trip(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    _, small, plan = recovered(case)
    laws.check_round_trip(lambda: fresh(case), small, plan, case.example(), tmp_path / "m.safetensors")
    again = secateur.load(fresh(case), tmp_path / "m.safetensors")
    assert plans_of(again) == read_plans(tmp_path / "m.safetensors") == (plan,)
    assert plan.recovery == (LSQ,)
    assert difference(again, small) is None


@each
def test_the_printed_loader(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    _, small, _ = recovered(case)
    model = printed(small, tmp_path)(fresh(case), str(tmp_path / "m.safetensors"))
    assert same(case, model, small)
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in small.named_parameters()]


def printed(model: nn.Module, folder: Path) -> Callable[..., nn.Module]:
    """The loader of a model's file `m.safetensors`."""
    secateur.save(model, folder / "m.safetensors")
    namespace: dict[str, Any] = {}
    exec(loader_source(folder / "m.safetensors"), namespace)
    return namespace["load_pruned"]


@each
def test_a_cut_by_the_plan_adds_zeros_and_recovers_nothing(name: str) -> None:
    case = CASES[name]
    model, small, plan = recovered(case)
    laws.check_purity(model, plan, case.example())
    again = secateur.cut(model, plan)
    assert difference(again, small) is None
    assert all(not again.get_parameter(added.name).any() for added in case.added)
    assert plans_of(again) == (replace(plan, recovery=()),)
    laws.check_verified(model, again, replace(plan, recovery=()), case.example())


@each
def test_the_same_object_is_cut_in_place(name: str) -> None:
    model, small, plan = recovered(CASES[name])
    twin = secateur.cut_(model, plan)
    assert twin is model
    assert difference(twin, small) is None


@each
@pytest.mark.parametrize("way", ["load", "loader", "cut"])
def test_two_cuts_in_turn(name: str, way: str, tmp_path: Path) -> None:
    """The second cut takes units of what the first added, and adds nothing."""
    case = CASES[name]
    model, once, first = recovered(case)
    second = secateur.plan(secateur.trace(once, case.example()), "channels=0.7", importance="random", seed=1)
    twice = secateur.cut(once, second)
    if way == "load":
        secateur.save(twice, tmp_path / "m.safetensors")
        assert same(case, secateur.load(fresh(case), tmp_path / "m.safetensors"), twice)
    elif way == "loader":
        assert same(case, printed(twice, tmp_path)(fresh(case), str(tmp_path / "m.safetensors")), twice)
    else:
        composed = first.then(second)
        assert (composed.after, composed.recovery) == (second.after, (LSQ,))
        assert Plan.from_json(composed.to_json()) == composed
        assert difference(secateur.cut(model, composed), twice) is None


def test_steps_of_both_plans_in_their_order() -> None:
    case = CASES["linear"]
    _, once, first = recovered(case)
    twice = secateur.cut(once, secateur.plan(secateur.trace(once, case.example()), "channels=0.7"))
    second = recovered_(twice, [], [Recovery("norms"), Recovery("mean")])
    assert [step.step for step in first.then(second).recovery] == ["lsq", "norms", "mean"]


def test_a_recovered_cut_without_additions_composes_as_any_other() -> None:
    case = CASES["conv"]
    model, once = cut(case)
    second = secateur.plan(secateur.trace(once, case.example()), "channels=0.7", importance="random", seed=1)
    twice = secateur.cut(once, second)
    second = recovered_(twice, case.added)
    composed = plans_of(once)[0].then(second)
    assert composed.added == tuple(case.added)
    torch.testing.assert_close(secateur.cut(model, composed)(case.example()), twice(case.example()))


def test_what_a_second_plan_removes_is_not_added() -> None:
    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 4, bias=False))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + self.inner(x)

    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(3, 4), Residual(), Residual(), nn.Linear(4, 2))

    case = Case(build, (2, 3), biases("1.inner.2", "2.inner.2"))
    model, once, first = recovered(case)
    second = secateur.plan(secateur.trace(once, case.example()), drop={"1": "all"})
    composed = first.then(second)
    assert composed.added == (case.added[1],)
    assert difference(secateur.cut(model, composed), secateur.cut(once, second)) is None


def test_dtype_device_and_requires_grad_are_those_of_what_it_is_like() -> None:
    net = nn.Sequential(nn.Linear(3, 4, dtype=torch.float64), nn.Linear(4, 2, bias=False, dtype=torch.float64))
    net[1].weight.requires_grad_(False)
    plan = secateur.plan(secateur.trace(net, torch.zeros(1, 3, dtype=torch.float64)), "channels=0.5")
    small = secateur.cut(net, replace(plan, added=tuple(biases("1")))).to("meta")
    bias = secateur.cut(net, replace(plan, added=tuple(biases("1"))))[1].bias  # type: ignore[index]
    assert (bias.dtype, bias.requires_grad, type(bias)) == (torch.float64, False, nn.Parameter)
    assert small[1].bias.is_meta  # type: ignore[index]


def test_what_is_like_a_buffer_is_a_parameter_all_the_same(tmp_path: Path) -> None:
    def build() -> nn.Module:
        net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
        net.register_buffer("table", torch.zeros(2, 5))
        return net

    small = secateur.cut(build(), secateur.plan(secateur.trace(build(), torch.zeros(1, 3)), "channels=0.5"))
    recovered_(small, [Added("1.bias", "table", 0)])
    nn.init.ones_(small.get_parameter("1.bias"))
    for again in (
        printed(small, tmp_path)(build(), str(tmp_path / "m.safetensors")),
        secateur.load(build(), tmp_path / "m.safetensors"),
    ):
        assert again.get_parameter("1.bias").tolist() == [1, 1]
        assert not again.get_parameter("1.bias").requires_grad


def test_beside_a_weight_that_is_computed(tmp_path: Path) -> None:
    def build() -> nn.Module:
        return nn.Sequential(nn.Linear(5, 8), nn.ReLU(), weight_norm(nn.Linear(8, 8, bias=False)), nn.Linear(8, 3))

    case = Case(build, (2, 5), [Added("2.bias", "2.parametrizations.weight.original1", 0)])
    _, small, plan = recovered(case)
    laws.check_round_trip(lambda: fresh(case), small, plan, case.example(), tmp_path / "m.safetensors")
    assert same(case, printed(small, tmp_path)(fresh(case), str(tmp_path / "m.safetensors")), small)


def test_into_a_model_on_the_meta_device(tmp_path: Path) -> None:
    case = CASES["linear"]
    _, small, _ = recovered(case)
    secateur.save(small, tmp_path / "m.safetensors")
    with torch.device("meta"):
        empty = case.build()
    assert same(case, secateur.load(empty, tmp_path / "m.safetensors"), small)


def test_a_plan_prints_what_recovery_did() -> None:
    _, _, plan = recovered(CASES["linear"])
    last = str(plan).splitlines()[-2:]
    assert "2 parameters added: 2.bias, 4.bias" in str(plan)
    assert "weights recovered by lsq (ridge 0.01, images 1024, layerwise True, data None, solver qr)" in " ".join(last)


@each
def test_a_recovered_model_is_verified_by_its_cut(name: str) -> None:
    case = CASES[name]
    model, small, plan = recovered(case)
    found = secateur.verify(model, small, plan, case.example())
    assert found.passed, str(found)
    assert "weights were recovered by lsq; the cut before it was checked" in str(found)
    assert found.as_dict()["recovered"] == ("lsq",)
    without = secateur.verify(model, small, replace(plan, recovery=()), case.example())
    assert not without.passed
    assert "FAILED" in str(without)


def tampered_shape(net: Any) -> None:
    net[2].weight = nn.Parameter(net[2].weight[:, 1:].detach())


def tampered_integer(net: Any) -> None:
    net[2].in_features += 1


def tampered_bias(net: Any) -> None:
    net[2].bias = None


def tampered_layer(net: Any) -> None:
    net[1] = nn.GELU()


def tampered_values(net: Any) -> None:
    nn.init.constant_(net[2].weight, float("nan"))


TAMPERED: dict[str, tuple[Callable[[Any], None], str]] = {
    "shape": (tampered_shape, "the shape of 2.weight is (4, 3), the plan produces (4, 4)"),
    "integer": (tampered_integer, "2.in_features is 5, the plan produces 4"),
    "bias": (tampered_bias, "the shape of 2.bias is missing, the plan produces (4,)"),
    "layer": (tampered_layer, "module '1' is GELU, the plan produces ReLU"),
    "values": (tampered_values, "output 0 is not finite"),
}


@pytest.mark.parametrize("how", TAMPERED)
def test_a_recovered_model_of_another_structure_fails(how: str) -> None:
    case = CASES["linear"]
    model, small, plan = recovered(case)
    tamper, said = TAMPERED[how]
    tamper(small)
    found = secateur.verify(model, small, plan, case.example())
    assert not found.passed
    assert f"FAILED: the recovered model is not built like the cut: {said}" in str(found)


def test_the_cut_of_a_wrong_plan_fails_though_the_structure_fits() -> None:
    """The laws are still checked where weights were recovered: a plan that scales a weight is noticed."""
    net = laws.randomized(nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Linear(6, 2)))
    inputs = torch.randn(3, 4)
    plan = secateur.plan(secateur.trace(net, inputs), drop={"0": [1, 2]})
    torn = replace(plan, scales=(Scale("0.weight", 0, ((0, 6),), 2.0),), recovery=(LSQ,))
    found = secateur.verify(net, secateur.cut(net, torn), torn, inputs)
    assert found.structure is None
    assert not found.passed


REFUSED: dict[str, tuple[Added, str]] = {
    "no module": (Added("9.bias", "2.weight", 0), "adds '9.bias', but there is no module '9' in this model"),
    "no place": (
        Added("1.bias", "2.weight", 0),
        "adds '1.bias', but this ReLU has no place for it: its parameters are none",
    ),
    "other leaf": (
        Added("2.scale", "2.weight", 0),
        "adds '2.scale', but this Linear has no place for it: its parameters are 'weight', 'bias'",
    ),
    "taken": (Added("2.weight", "0.weight", 0), "adds '2.weight', "),
    "there": (Added("0.bias", "2.weight", 0), "adds '0.bias', "),
    "unlike": (
        Added("2.bias", "2.wait", 0),
        "adds '2.bias' like '2.wait', which this model does not have; did you mean",
    ),
    "dimension": (Added("2.bias", "2.weight", 2), "adds '2.bias' as long as "),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("verb", [secateur.cut, secateur.cut_])
def test_cut_refuses_and_touches_nothing(case: str, verb: Callable[..., nn.Module]) -> None:
    model, small = cut(CASES["linear"])
    added, said = REFUSED[case]
    before = [id(tensor) for tensor in model.parameters()]
    with pytest.raises(InputError) as caught:
        verb(model, replace(plans_of(small)[0], added=(added,)))
    assert f"the plan {said}" in str(caught.value)
    assert [id(tensor) for tensor in model.parameters()] == before
    assert plans_of(model) == ()


@pytest.mark.parametrize("case", REFUSED)
def test_recovered_refuses_and_touches_nothing(case: str) -> None:
    _, small = cut(CASES["linear"])
    added, said = REFUSED[case]
    plans = plans_of(small)
    with pytest.raises(InputError) as caught:
        recovered_(small, [*biases("4"), added], [LSQ])
    assert said in str(caught.value)
    assert small.get_submodule("4").bias is None
    assert plans_of(small) == plans


def test_one_place_is_filled_once() -> None:
    _, small = cut(CASES["one layer twice"])
    with pytest.raises(FileError, match=r"the plan adds 'a\.bias', which it adds twice"):
        recovered_(small, biases("a", "again"))
    with pytest.raises(InputError, match=r"adds 'again\.bias', which it adds under another name of the same module"):
        secateur.cut(CASES["one layer twice"].build(), replace(plans_of(small)[0], added=tuple(biases("a", "again"))))


def test_the_first_of_several_names_counts() -> None:
    _, small = cut(CASES["one layer twice"])
    plan = recovered_(small, [Added("again.bias", "again.weight", 0)])
    assert plan.added == tuple(biases("a"))
    assert small.get_submodule("again").bias is small.get_submodule("a").bias is not None


def test_a_report_names_what_recovery_did() -> None:
    case = CASES["linear"]
    result = secateur.prune(case.build(), case.example(), "channels=0.6")
    assert (result.report["added"], result.report["recovery"]) == ([], [])
    report = replace(result, plan=recovered_(result.model, case.added, [LSQ])).report
    assert report["added"] == ["2.bias", "4.bias"]
    assert report["recovery"] == [{"step": "lsq", "options": dict(LSQ.options)}]


def test_only_a_cut_model_is_recovered() -> None:
    with pytest.raises(InputError, match="the model was not cut, so there is nothing to recover from"):
        recovered_(linear(), biases("2"))


def test_a_whole_number_is_like_nothing() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2, bias=False))
    net.register_buffer("counts", torch.zeros(4, dtype=torch.long))
    secateur.cut_(net, secateur.plan(secateur.trace(net, torch.zeros(1, 3)), "channels=0.5"))
    with pytest.raises(InputError, match=r"as long as counts\[0\], which is \(4,\) of torch\.int64"):
        recovered_(net, [Added("1.bias", "counts", 0)])


def test_a_uniform_model_gets_no_biases() -> None:
    _, small = cut(CASES["linear"])
    (plan,) = plans_of(small)
    small.__dict__["_secateur_plans"] = (replace(plan, notes={**plan.notes, "uniform": "yes"}),)
    with pytest.raises(InputError, match=r"'2\.bias', which the config of a uniform model does not know(.|\n)*without"):
        recovered_(small, biases("2"))
    recovered_(small, [], [LSQ])


HOSTILE: dict[str, tuple[dict[str, Any], str]] = {
    "no text": ({"added": (Added(3, "2.weight", 0),)}, "adds a parameter 3; a parameter has a public name"),  # type: ignore[arg-type]
    "dunder": ({"added": (Added("2.__class__", "2.weight", 0),)}, "adds a parameter '2.__class__'"),
    "private": ({"added": (Added("2._parameters", "2.weight", 0),)}, "adds a parameter '2._parameters'"),
    "no leaf": ({"added": (Added("2.", "2.weight", 0),)}, "adds a parameter '2.'"),
    "cut": ({"added": (Added("0.weight", "2.weight", 0),)}, "adds '0.weight', which it cuts"),
    "twice": ({"added": (*biases("2"), *biases("2"))}, "adds '2.bias', which it adds twice"),
    "like itself": ({"added": (Added("2.bias", "2.bias", 0),)}, "as long as '2.bias'[0], which is not a dimension"),
    "like a number": ({"added": (Added("2.bias", 7, 0),)}, "as long as 7[0], which is not a dimension"),  # type: ignore[arg-type]
    "below zero": ({"added": (Added("2.bias", "2.weight", -1),)}, "as long as '2.weight'[-1]"),
    "beyond": ({"added": (Added("2.bias", "2.weight", 2),)}, "as long as '2.weight'[2]"),
    "no whole number": ({"added": (Added("2.bias", "2.weight", 0.5),)}, "as long as '2.weight'[0.5]"),  # type: ignore[arg-type]
    "within removed": (
        {"added": (Added("7.bias", "8.weight", 0),), "removed": {"7": None}},
        "and changes 7.bias inside",
    ),
    "step": ({"recovery": (Recovery(""),)}, "names a recovery step ''; a step is named by a string"),
    "step of a list": ({"recovery": (Recovery(["lsq"]),)}, "names a recovery step ['lsq']"),  # type: ignore[arg-type]
    "option": ({"recovery": (Recovery("lsq", {"ridge": [1]}),)}, "option 'ridge' of recovery step 'lsq' to [1]"),  # type: ignore[dict-item]
    "infinite": ({"recovery": (Recovery("lsq", {"ridge": float("inf")}),)}, "'ridge' of recovery step 'lsq' to inf"),
    "no name": ({"recovery": (Recovery("lsq", {3: 1}),)}, "option 3 of recovery step 'lsq'"),  # type: ignore[dict-item]
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_plans(case: str) -> None:
    _, small = cut(CASES["linear"])
    changes, said = HOSTILE[case]
    with pytest.raises(FileError) as caught:
        check_plan(replace(plans_of(small)[0], **changes))
    assert said in str(caught.value)


def rewritten(path: Path, change: Callable[[dict[str, torch.Tensor], dict[str, Any]], Any]) -> None:
    """The file after a change of its tensors or of its only plan."""
    with safe_open(path, "pt") as file:
        metadata = file.metadata()
    tensors, plans = load_file(path), json.loads(metadata["secateur_plans"])
    change(tensors, plans[0])
    save_file(tensors, path, {**metadata, "secateur_plans": json.dumps(plans)})


# What is done to the file, what `load` says and what the printed loader says.
FILES: dict[str, tuple[Callable[[Any, Any], Any], str, str]] = {
    "no values": (lambda t, p: t.pop("2.bias"), "missing       1  2.bias", "adds 2.bias of shape None"),
    "no addition": (lambda t, p: p.update(added=[]), "unexpected", "the model lacks ['2.bias', '4.bias']"),
    "length": (lambda t, p: t.update({"4.bias": torch.ones(9)}), "4.bias: file (9,)", "4.bias of shape (9,), like 4.w"),
    "kind": (lambda t, p: t.update({"4.bias": torch.ones(3).int()}), "4.bias: file (3,) int32", ""),
    "no module": (
        lambda t, p: p["added"][0].__setitem__(0, "9.bias"),
        "adds '9.bias', but there is no module '9'",
        "it adds 9.bias like 2.weight, the model has no place for it",
    ),
    "a path": (
        lambda t, p: p["added"][0].__setitem__(0, "2._parameters.bias"),
        "there is no module '2._parameters'",
        "it adds 2._parameters.bias like 2.weight, the model has no place for it",
    ),
    "there": (
        lambda t, p: p["added"][0].__setitem__(0, "0.bias"),
        "adds '0.bias'",
        "it adds 0.bias like 2.weight, the model has no place for it",
    ),
    "unlike": (
        lambda t, p: p["added"][1].__setitem__(1, "4.wait"),
        "adds '4.bias' like '4.wait', which this model does not have",
        "it adds 4.bias like 4.wait, the model has no place for it",
    ),
}


def state(model: nn.Module) -> list[Any]:
    return [(name, id(p)) for m in model.modules() for name, p in m._parameters.items()] + [
        vars(m).get("in_features") for m in model.modules()
    ]


@pytest.mark.parametrize("case", FILES)
def test_damaged_files_change_nothing(case: str, tmp_path: Path) -> None:
    _, small, _ = recovered(CASES["linear"])
    load_pruned = printed(small, tmp_path)
    change, load_says, loader_says = FILES[case]
    rewritten(tmp_path / "m.safetensors", change)
    model = linear()
    before = state(model)
    with pytest.raises(FileError) as caught:
        secateur.load(model, tmp_path / "m.safetensors")
    assert load_says in str(caught.value)
    assert state(model) == before
    if loader_says:
        with pytest.raises(ValueError, match="the file is of another model") as refused:
            load_pruned(model, str(tmp_path / "m.safetensors"))
        assert loader_says in str(refused.value)
        assert state(model) == before


def test_what_one_plan_added_the_next_cannot(tmp_path: Path) -> None:
    case = CASES["linear"]
    _, once, first = recovered(case)
    secateur.save(once, tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        metadata = file.metadata()
    second = secateur.plan(secateur.trace(once, case.example()), "channels=1.0")
    plans = [first.to_json(), replace(second, added=tuple(biases("4"))).to_json()]
    metadata["secateur_plans"] = f"[{','.join(plans)}]"
    save_file(load_file(tmp_path / "m.safetensors"), tmp_path / "m.safetensors", metadata)
    with pytest.raises(FileError, match=r"adds '4\.bias', but there is one already, of shape \(3,\)"):
        secateur.load(linear(), tmp_path / "m.safetensors")
    with pytest.raises(PruningError, match=r"does not continue the first: 4\.bias already exists after the first"):
        first.then(replace(second, added=tuple(biases("4"))))


def test_plans_that_cut_an_addition_apart_are_not_one() -> None:
    case = CASES["linear"]
    _, once, first = recovered(case)
    second = secateur.plan(secateur.trace(once, case.example()), "channels=0.7")
    apart = replace(second, sites={n: codes for n, codes in second.sites.items() if n != "2.bias"})
    with pytest.raises(PruningError, match=r"adds 2\.bias, as long as 2\.weight\[0\], and the second cuts them diff"):
        first.then(apart)
