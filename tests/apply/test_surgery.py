from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import secateur
from nets import NETS, Parts, graph_of
from secateur import InputError, Plan
from secateur.anatomy.holders import holders, values
from secateur.anatomy.slots import slots
from secateur.apply.ready import plans_of
from secateur.base.nested import tensors_in
from secateur.plan.parts import AttributeChange

CUT = [name for name, net in NETS.items() if net.axes]
BOTH = pytest.mark.parametrize("function", [secateur.cut, secateur.cut_])
Cut = Callable[[nn.Module, Plan], Any]


def planned(name: str, target: str = "channels=0.5") -> Plan:
    return secateur.plan(graph_of(name), target, importance="random")


def tensors_of(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, buffers and plain tensor attributes by name."""
    return {slot.name: slot.tensor for slot in slots(model)}


def as_found(model: nn.Module) -> dict[str, Any]:
    """What must not change: objects, values and the numbers of every module."""
    found: dict[str, Any] = {n: (id(t), t.tolist(), t.requires_grad) for n, t in tensors_of(model).items()}
    for holder in holders(model):
        table = values(holder.owner)
        path = f"{holder.module}.{holder.path}"
        found |= {f"{path}.{k}": (type(v), v) for k, v in table.items() if isinstance(v, (int, tuple, list))}
        found[f"{path} has"] = sorted(table)
    return found


@BOTH
@pytest.mark.parametrize("name", CUT)
def test_sites_hold_the_kept_positions_and_no_others(name: str, function: Cut) -> None:
    model, plan = NETS[name].make(), planned(name)
    before = {name: t.detach().clone() for name, t in tensors_of(model).items()}
    after = tensors_of(function(model, plan))
    scaled = {scale.name for scale in plan.scales}
    for site in set(before) & set(plan.sites) - scaled:
        places = [slice(None) if kept is None else kept for kept in plan.positions(site)]
        expected = before[site]
        for dim, place in enumerate(places):
            expected = expected[(slice(None),) * dim + (place,)]
        assert torch.equal(after[site], expected)


@BOTH
@pytest.mark.parametrize("name", CUT)
def test_dropping_nothing_changes_nothing(name: str, function: Cut) -> None:
    model, plan = NETS[name].make(), planned(name, "channels=1.0")
    twin = copy.deepcopy(model)
    after = tensors_of(function(model, plan))
    assert plan.is_empty
    assert all(torch.equal(after[name], t) for name, t in tensors_of(twin).items())


@BOTH
@pytest.mark.parametrize("name", CUT)
def test_one_step_of_training_after_a_cut(name: str, function: Cut) -> None:
    model = function(NETS[name].make(), planned(name)).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    loss = sum(out.square().mean() for out in tensors_in(model(*NETS[name].example())))
    assert isinstance(loss, Tensor)
    loss.backward()
    optimizer.step()
    assert all(bool(parameter.isfinite().all()) for parameter in model.parameters())
    assert {n for n, p in model.named_parameters() if p.grad is None} <= set(NETS[name].unreached)


@pytest.mark.parametrize("name", CUT)
def test_modules_say_the_sizes_of_their_weights(name: str) -> None:
    for module in secateur.cut(NETS[name].make(), planned(name)).modules():
        if isinstance(module, nn.Linear):
            assert tuple(module.weight.shape) == (module.out_features, module.in_features)
        elif isinstance(module, nn.Conv2d):
            assert tuple(module.weight.shape[:2]) == (module.out_channels, module.in_channels // module.groups)
        elif isinstance(module, nn.LayerNorm):
            assert tuple(module.weight.shape) == tuple(module.normalized_shape)


@pytest.mark.parametrize("name", ["channel_shuffle", "c2f", "gated", "ibnorm", "attention", "grouped_queries"])
def test_two_cuts_in_turn(name: str) -> None:
    """Defect 3: split and chunk survive a second step."""
    model, example = NETS[name].make(), NETS[name].example()
    for share in (0.8, 0.5):
        before = sum(parameter.numel() for parameter in model.parameters())
        model = secateur.cut(model, secateur.plan(secateur.trace(model, example), f"channels={share}"))
        assert sum(parameter.numel() for parameter in model.parameters()) < before
    assert len(plans_of(model)) == 2
    assert all(bool(out.isfinite().all()) for out in tensors_in(model(*example)))


@pytest.mark.parametrize("name", CUT)
def test_cut_leaves_the_model_untouched(name: str) -> None:
    model = NETS[name].make()
    before = as_found(model)
    pruned = secateur.cut(model, planned(name))
    assert as_found(model) == before
    assert {id(t) for t in tensors_of(model).values()}.isdisjoint(id(t) for t in tensors_of(pruned).values())
    assert {id(m) for m in model.modules()}.isdisjoint(id(m) for m in pruned.modules())


@pytest.mark.parametrize("name", CUT)
def test_no_memory_is_shared_between_a_model_and_its_copy(name: str) -> None:
    model = NETS[name].make()
    pruned = secateur.cut(model, planned(name))
    places = {t.untyped_storage().data_ptr() for t in tensors_of(model).values()}
    assert places.isdisjoint(t.untyped_storage().data_ptr() for t in tensors_of(pruned).values())


@pytest.mark.parametrize("name", CUT)
def test_cut_in_place_keeps_every_object_that_need_not_change(name: str) -> None:
    model, plan = NETS[name].make(), planned(name)
    before, modules = tensors_of(model), list(model.modules())
    after = tensors_of(secateur.cut_(model, plan))
    smaller = {id(before[site]) for site in plan.sites if plan.shape(site) != plan.old_shape(site)}
    assert list(model.modules()) == modules
    assert {id(before[name]) for name, t in after.items() if t is not before[name]} == smaller


def test_cut_in_place_gives_the_same_object() -> None:
    model = NETS["plain_cnn"].make()
    assert secateur.cut_(model, planned("plain_cnn")) is model


@BOTH
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("name", ["plain_cnn", "attention", "followers"])
def test_dtype(name: str, dtype: torch.dtype, function: Cut) -> None:
    pruned = function(NETS[name].make().to(dtype), planned(name))
    assert {t.dtype for t in tensors_of(pruned).values() if t.is_floating_point()} <= {dtype, torch.float32}
    assert {p.dtype for p in pruned.parameters()} == {dtype}


@BOTH
@pytest.mark.parametrize(
    ("memory", "name"),
    [(torch.channels_last, "plain_cnn"), (torch.contiguous_format, "plain_cnn"), (torch.channels_last, "grouped")],
)
def test_memory_format(memory: torch.memory_format, name: str, function: Cut) -> None:
    model = NETS[name].make().to(memory_format=memory)
    pruned = function(model, planned(name))
    assert all(p.is_contiguous(memory_format=memory) for p in pruned.parameters() if p.dim() == 4)


@BOTH
def test_requires_grad(function: Cut) -> None:
    model = NETS["plain_cnn"].make()
    model.conv1.requires_grad_(False)
    model.fc.weight.requires_grad_(False)
    pruned = function(model, planned("plain_cnn"))
    frozen = {name for name, p in pruned.named_parameters() if not p.requires_grad}
    assert frozen == {"conv1.weight", "conv1.bias", "fc.weight"}


@BOTH
def test_shared_tensors_stay_shared(function: Cut) -> None:
    pruned = function(NETS["shared"].make(), planned("shared"))
    assert pruned.up is pruned.again
    assert pruned.bias is pruned.up.bias
    assert sum(1 for _ in pruned.parameters()) == sum(1 for _ in NETS["shared"].make().parameters())


@BOTH
@pytest.mark.parametrize("kind", [list, tuple, lambda held: {"nested": [tuple(held)]}])
def test_containers_of_the_models_own_tensors_hold_the_new_ones(kind: Callable[..., Any], function: Cut) -> None:
    model, plan = NETS["weights_in_a_list"].make(), planned("weights_in_a_list")
    model.weights = kind([model.a, model.b, model.c])
    pruned = function(model, plan)
    expected = kind([pruned.a, pruned.b, pruned.c])
    assert type(pruned.weights) is type(expected)
    for held, tensor in zip(tree_leaves(pruned.weights), tree_leaves(expected), strict=True):
        assert held is tensor


@BOTH
def test_a_recurrent_layer_holds_its_new_weights(function: Cut) -> None:
    pruned = function(NETS["tagger"].make(), planned("tagger"))
    assert all(held is own for held, own in zip(pruned.rnn._flat_weights, pruned.rnn.parameters(), strict=True))


@BOTH
def test_modes_device_and_buffers_that_are_not_saved(function: Cut) -> None:
    model = NETS["plain_cnn"].make().train()
    model.bn.eval()
    model.conv1.register_buffer("seen", torch.ones(3), persistent=False)
    pruned = function(model, planned("plain_cnn"))
    assert (pruned.training, pruned.bn.training, "conv1.seen" in pruned.state_dict()) == (True, False, False)
    assert {t.device.type for t in tensors_of(pruned).values()} == {"cpu"}


class Marked(nn.Parameter):
    """A Parameter of another class, as peft and optimizers make them."""


@BOTH
def test_classes_and_attributes_of_parameters(function: Cut) -> None:
    model = NETS["plain_cnn"].make()
    model.conv1.weight = Marked(model.conv1.weight.data)
    model.conv1.weight.decay = 0.0
    pruned = function(model, planned("plain_cnn"))
    assert type(pruned.conv1.weight) is Marked
    assert (pruned.conv1.weight.decay, type(pruned.conv2.weight)) == (0.0, nn.Parameter)


@BOTH
def test_module_hooks_are_kept(function: Cut) -> None:
    model, seen = NETS["plain_cnn"].make(), []
    model.conv1.register_forward_hook(lambda module, inputs, out: seen.append(tuple(out.shape)))
    model.conv2.register_forward_pre_hook(lambda module, inputs: seen.append(tuple(inputs[0].shape)))
    function(model, planned("plain_cnn"))(*NETS["plain_cnn"].example())
    assert seen == [(1, 4, 8, 8), (1, 4, 4, 4)]


def backward(model: nn.Module) -> None:
    model(*NETS["plain_cnn"].example()).sum().backward()


@BOTH
@pytest.mark.parametrize("parameter", ["conv1.weight", "fc.bias"])  # one that is cut, and one that is not
def test_hooks_on_gradients_are_kept(parameter: str, function: Cut) -> None:
    model, seen = NETS["plain_cnn"].make(), []
    tensor = model.get_parameter(parameter)
    tensor.register_hook(lambda grad: seen.append(tuple(grad.shape)))
    tensor.register_post_accumulate_grad_hook(lambda p: seen.append(p.grad is not None))
    pruned = function(model, planned("plain_cnn"))
    backward(pruned)
    assert seen == [tuple(pruned.get_parameter(parameter).shape), True]


@pytest.mark.parametrize("parameter", ["conv1.weight", "fc.bias"])
def test_hooks_on_a_copy_do_not_reach_the_model(parameter: str) -> None:
    model, seen = NETS["plain_cnn"].make(), []
    model.get_parameter(parameter).register_hook(lambda grad: seen.append("both"))
    pruned = secateur.cut(model, planned("plain_cnn"))
    pruned.get_parameter(parameter).register_hook(lambda grad: seen.append("copy"))
    backward(model)
    assert seen == ["both"]


def test_the_handle_of_a_hook_removes_it_after_a_cut_in_place() -> None:
    model, seen = NETS["plain_cnn"].make(), []
    handle = model.conv1.weight.register_hook(lambda grad: seen.append(grad))
    secateur.cut_(model, planned("plain_cnn"))
    handle.remove()
    backward(model)
    assert seen == []


def wrong_plans() -> dict[str, tuple[Plan, str]]:
    plan = planned("plain_cnn")
    attribute = AttributeChange("conv1", "out_channels", None, 9, 4)
    missing = AttributeChange("conv3", "out_channels", None, 8, 4)
    renamed = {("conv3.weight" if site == "conv1.weight" else site): codes for site, codes in plan.sites.items()}
    return {
        "another model": (planned("residual"), "the plan cuts 'stem.weight', which this model does not have"),
        "a missing site": (
            replace(plan, sites=renamed),
            "the plan cuts 'conv3.weight', which this model does not have; did you mean 'conv",
        ),
        "another shape": (
            replace(plan, sites={**plan.sites, "conv2.weight": plan.sites["conv1.weight"]}),
            "not of this model: conv2.weight\n  plan   \\(8, 3, 3, 3\\)\n  model  \\(12, 8, 3, 3\\)\nmake a plan",
        ),
        "another attribute": (
            replace(plan, attributes=(attribute,)),
            "conv1.out_channels is 8, the plan expects 9",
        ),
        "a missing module": (
            replace(plan, attributes=(missing,)),
            "the plan sets conv3.out_channels, which this model does not have",
        ),
    }


@BOTH
@pytest.mark.parametrize("case", wrong_plans())
def test_a_plan_of_another_model_is_refused_and_nothing_changes(case: str, function: Cut) -> None:
    model, (plan, message) = NETS["plain_cnn"].make(), wrong_plans()[case]
    before = as_found(model)
    with pytest.raises(InputError, match=message):
        function(model, plan)
    assert as_found(model) == before


class Deeper(nn.Module):
    """Two layers, or one more between them: the second has all that a plan of the first names."""

    def __init__(self, deeper: bool = False, free: bool = False) -> None:
        super().__init__()
        self.a, self.b, self.out = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)
        if deeper:
            self.extra = nn.Linear(8, 8)
        if free:
            self.shift = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.a(x)
        x = self.extra(x) if hasattr(self, "extra") else x
        out: Tensor = self.out(self.b(x))
        return out + self.shift if hasattr(self, "shift") else out


def forms_of(plan: Plan) -> list[Plan]:
    """A plan, as a file gives it back, and as an earlier version wrote it."""
    return [plan, Plan.from_json(plan.to_json()), replace(plan, uncut=None)]


@BOTH
def test_a_plan_of_a_part_of_the_model_is_refused_and_nothing_changes(function: Cut) -> None:
    plan = secateur.plan(secateur.trace(Deeper(), torch.zeros(1, 4)), "channels=0.5")
    for one in forms_of(plan):
        model = Deeper(deeper=True)
        before = as_found(model)
        with pytest.raises(InputError, match=r"the plan is not of this model: .*extra.weight|it has 187 parameters"):
            function(model, one)
        assert as_found(model) == before
        assert function(Deeper(), one).out.in_features == 3


@BOTH
def test_a_plan_of_a_model_with_more_parameters_is_refused(function: Cut) -> None:
    plan = secateur.plan(secateur.trace(Deeper(free=True), torch.zeros(1, 4)), "channels=0.5")
    assert plan.uncut == {"shift": (3,), "out.bias": (3,)}
    for one in forms_of(plan):
        with pytest.raises(InputError, match=r"not of this model, which has no 'shift'|it has 115 parameters"):
            function(Deeper(), one)


def test_a_composed_plan_knows_the_other_parameters() -> None:
    model, x = Deeper(free=True), torch.zeros(1, 4)
    first = secateur.plan(secateur.trace(model, x), drop={"a": [0, 1]})
    second = secateur.plan(secateur.trace(secateur.cut(model, first), x), drop={"b": [0, 1]})
    whole = first.then(second)
    assert whole.uncut == first.uncut
    secateur.cut(model, whole)
    with pytest.raises(InputError, match="the plan is not of this model"):
        secateur.cut(Deeper(deeper=True, free=True), whole)


@BOTH
def test_a_plan_is_not_carried_out_twice(function: Cut) -> None:
    plan = planned("plain_cnn")
    once = secateur.cut(NETS["plain_cnn"].make(), plan)
    with pytest.raises(InputError, match="the plan is not of this model"):
        function(once, plan)


def on_two_devices() -> nn.Module:
    model = NETS["plain_cnn"].make()
    model.fc.to("meta")
    return model


def lazy() -> nn.Module:
    return nn.Sequential(nn.LazyLinear(8), nn.Linear(8, 2))


def quantised() -> nn.Module:
    model = NETS["plain_cnn"].make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.register_buffer("table", torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8))
    return model


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "data parallel": (
        lambda: nn.DataParallel(NETS["plain_cnn"].make()),
        "the model is wrapped in DataParallel; prune model.module and wrap the result again",
    ),
    "compiled": (
        lambda: torch.compile(NETS["plain_cnn"].make()),
        "the model is compiled; prune model._orig_mod and compile the result again",
    ),
    "several devices": (
        on_two_devices,
        "is on several devices: conv1.weight on cpu, fc.weight on meta\nmove it",
    ),
    "lazy": (lazy, "0.weight is not initialised yet; run the model once on its input"),
    "quantised": (quantised, "table is quantised \\(torch.qint8\\); prune the float model, then quantise it"),
    "no module": (lambda: {"conv1.weight": torch.ones(3)}, "model is a dict, not a torch.nn.Module"),
}


def traced(model: nn.Module, plan: Plan) -> Any:
    return secateur.trace(model, torch.ones(1))


@pytest.mark.parametrize("function", [secateur.cut, secateur.cut_, traced])
@pytest.mark.parametrize("case", REFUSED)
def test_models_that_cannot_be_cut_as_they_are(case: str, function: Cut) -> None:
    build, message = REFUSED[case]
    with pytest.raises(InputError, match=message):
        function(build(), planned("plain_cnn"))


def test_a_model_that_cannot_be_copied() -> None:
    model = NETS["plain_cnn"].make()
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(InputError, match=r"the model cannot be copied: TypeError: .*\nuse secateur\.cut_"):
        secateur.cut(model, planned("plain_cnn"))
    assert secateur.cut_(model, planned("plain_cnn")).conv1.out_channels == 4


@BOTH
@pytest.mark.parametrize("sizes", [(4, 4), [4, 4]])
def test_sizes_in_tuples_and_lists_follow(sizes: Any, function: Cut) -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        a, b = self.a(x).split(self.sizes, -1)
        return self.c(a.relu()) + self.d(b)

    model = Parts(run, sizes=sizes, a=nn.Linear(3, 8), c=nn.Linear(4, 2), d=nn.Linear(4, 2))
    graph = secateur.trace(model, torch.zeros(1, 3))
    pruned = function(model, secateur.plan(graph, drop={"a[0]": [0]}))
    assert (type(pruned.sizes), list(pruned.sizes)) == (type(sizes), [3, 4])
    assert pruned(torch.zeros(1, 3)).shape == (1, 2)
