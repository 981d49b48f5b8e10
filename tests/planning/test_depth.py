"""Blocks that are dropped whole: found, refused with a reason, and every law on what is left."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import laws
import secateur
from nets import NETS, Parts
from secateur.anatomy.bypass import Bypass
from secateur.anatomy.calls import Call
from secateur.errors import FileError
from secateur.export.loader import loader_source
from secateur.graph.blocks import without
from secateur.graph.graph import Graph
from secateur.plan.check import check_plan
from secateur.plan.parts import Totals
from secateur.plan.plan import Plan

IMAGE = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(3))
TOKENS = torch.randn(2, 5, 6, generator=torch.Generator().manual_seed(4))


class Mlp(nn.Module):
    """x + b(gelu(a(norm(x)))), or norm(x + ...)."""

    def __init__(self, width: int = 8, hidden: int = 12, *, post: bool = False):
        super().__init__()
        self.norm, self.a, self.b = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)
        self.post = post

    def branch(self, x: Tensor) -> Tensor:
        return self.b(F.gelu(self.a(x)))

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x + self.branch(x)) if self.post else x + self.branch(self.norm(x))


class Telling(Mlp):
    """Returns a tuple, as Hugging Face's layers do: what it made, attention weights that are None, the mask it got."""

    def forward(self, x: Tensor, mask: Tensor | None = None, *, cache: Any = None) -> tuple[Any, ...]:  # type: ignore[override]
        x = x + self.branch(self.norm(x)) * (1 if mask is None else mask)
        return x, None, mask


class Indexed(Mlp):
    """Knows its place in the list, and keeps what it saw there."""

    def __init__(self, place: int):
        super().__init__()
        self.layer_idx = place

    def forward(self, x: Tensor, memory: dict[int, Tensor]) -> Tensor:  # type: ignore[override]
        memory[self.layer_idx] = x
        return super().forward(x)


class Conv(nn.Module):
    """A basic block of a ResNet."""

    def __init__(self, ins: int, outs: int, stride: int = 1):
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(ins, outs, 3, stride, 1, bias=False), nn.Conv2d(outs, outs, 3, padding=1)
        self.bn1, self.bn2 = nn.BatchNorm2d(outs), nn.BatchNorm2d(outs)
        self.shortcut = nn.Conv2d(ins, outs, 1, stride) if ins != outs else None

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.bn1(self.conv1(x)).relu_()))
        out += x if self.shortcut is None else self.shortcut(x)
        return out.relu_()


def in_a_list(self: Any, x: Tensor) -> Tensor:
    x = self.stem(x)
    for layer in self.layers:
        x = layer(x)
    return self.head(x)


def with_tuples(self: Any, x: Tensor) -> Tensor:
    x, mask = self.stem(x), (x[..., :1] > 0).to(x.dtype)
    for i, layer in enumerate(self.layers):
        x, _, mask = layer(x, mask=mask, cache=None) if i else layer(x, mask)
    return self.head(x * mask)


def with_memory(self: Any, x: Tensor) -> Tensor:
    x, memory = self.stem(x), {}
    for layer in self.layers:
        x = layer(x, memory)
    return self.head(x)


def ends(**parts: Any) -> dict[str, nn.Module]:
    return {"stem": nn.Linear(6, 8), **parts, "head": nn.Linear(8, 3)}


@dataclass(frozen=True)
class Deep:
    """A network with its blocks: what they give (`free`), or part of the reason why they must stay."""

    build: Callable[[], nn.Module]
    inputs: Tensor
    free: Mapping[str, Any] = field(default_factory=dict)
    stay: Mapping[str, str] = field(default_factory=dict)


def shared() -> nn.Module:
    first, second, third = Mlp(), Mlp(), Mlp()
    first.a.weight = second.a.weight
    return nn.Sequential(nn.Linear(6, 8), first, second, third, nn.Linear(8, 3))


def held_in_common() -> nn.Module:
    """Heads come from an object that the blocks share."""

    class Sizes:
        def __init__(self) -> None:
            self.width = 12

    layers, sizes = nn.ModuleList([Mlp(), Mlp(), Mlp()]), Sizes()
    layers[0].sizes = layers[1].sizes = sizes  # type: ignore[assignment]
    return Parts(in_a_list, **ends(layers=layers))


DEEP: dict[str, Deep] = {
    "pre-norm in a Sequential": Deep(
        lambda: nn.Sequential(nn.Linear(6, 8), *(Mlp() for _ in range(4)), nn.Linear(8, 3)),
        TOKENS,
        free=dict.fromkeys("1234"),
    ),
    "post-norm in a ModuleList": Deep(
        lambda: Parts(in_a_list, **ends(layers=nn.ModuleList(Mlp(post=True) for _ in range(3)))),
        TOKENS,
        free=dict.fromkeys(["layers.0", "layers.1", "layers.2"]),
    ),
    "attributes": Deep(
        lambda: Parts(lambda self, x: self.head(self.b(self.a(self.stem(x)))), **ends(a=Mlp(), b=Mlp(hidden=5))),
        TOKENS,
        free={"a": None, "b": None},
    ),
    "tuples": Deep(
        lambda: Parts(with_tuples, **ends(layers=nn.ModuleList(Telling() for _ in range(3)))),
        TOKENS,
        free={"layers.0": (0, None, 1), "layers.1": (0, None, "mask"), "layers.2": (0, None, "mask")},
    ),
    "convolutions": Deep(
        lambda: nn.Sequential(
            nn.Conv2d(3, 6, 1), Conv(6, 6), Conv(6, 10, 2), Conv(10, 10), nn.Flatten(), nn.Linear(160, 4)
        ),
        IMAGE,
        free={"1": None, "3": None},
        stay={"2": "its output has a different shape: 2x6x8x8 -> 2x10x4x4"},
    ),
    "called twice": Deep(
        lambda: Parts(lambda self, x: self.head(self.b(self.a(self.a(self.stem(x))))), **ends(a=Mlp(), b=Mlp())),
        TOKENS,
        free={"b": None},
        stay={"a": "it is called 2 times in one call of the model"},
    ),
    "shared parameters": Deep(
        shared,
        TOKENS,
        free={"3": None},
        stay={"1": "it shares 1.a.weight with 2.a.weight", "2": "it shares 2.a.weight"},
    ),
    "shared objects": Deep(
        held_in_common,
        TOKENS,
        free={"layers.1": None, "layers.2": None},
        stay={"layers.0": "it shares layers.0.sizes with layers.1"},
    ),
    "two names": Deep(
        lambda: Parts(
            lambda self, x: self.head(self.b(self.a(self.stem(x)))), **(lambda a: ends(a=a, again=a, b=Mlp()))(Mlp())
        ),
        TOKENS,
        free={"b": None},
        stay={"a": "it is also registered as again"},
    ),
    "known places": Deep(
        lambda: Parts(with_memory, **ends(layers=nn.ModuleList(map(Indexed, range(3))))),
        TOKENS,
        free={"layers.1": 0, "layers.2": 0},
        stay={"layers.0": "its position is read (layer_idx=0)"},
    ),
}


def model_of(name: str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return laws.randomized(DEEP[name].build())


def graph_of(name: str) -> Graph:
    return secateur.trace(model_of(name), DEEP[name].inputs)


@pytest.mark.parametrize("name", DEEP)
@pytest.mark.parametrize("run", ["meta", "real"])
def test_blocks_are_found_or_say_why_not(name: str, run: str) -> None:
    deep = DEEP[name]
    graph = secateur.trace(model_of(name), deep.inputs, run=run)
    assert {block.name: block.gives for block in graph.blocks if block.why is None} == deep.free
    reasons = {block.name: block.why for block in graph.blocks if block.why is not None}
    assert reasons.keys() == deep.stay.keys()
    assert all(part in (reasons[at] or "") for at, part in deep.stay.items())


@pytest.mark.parametrize("name", [name for name in NETS if name != "residual"])
def test_networks_without_residual_blocks_have_none(name: str) -> None:
    assert all(block.counts for block in secateur.trace(NETS[name].make(), NETS[name].example()).blocks)


NOT_BLOCKS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "a branch": lambda self, x: x + self.part(x),
    "a gate": lambda self, x: x * self.part(x).sigmoid(),
}


@pytest.mark.parametrize("name", NOT_BLOCKS)
def test_branches_and_gates_are_no_blocks(name: str) -> None:
    part = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 8))
    inner = Parts(NOT_BLOCKS[name], part=part)
    graph = secateur.trace(nn.Sequential(nn.Linear(6, 8), inner, nn.Linear(8, 3)), TOKENS)
    assert [block.name for block in graph.blocks] == (["1"] if name == "a branch" else [])


class Reading(nn.Module):
    """Gives a further tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(8, 4), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.a(x).relu()
        return x + self.b(hidden), hidden


def reader(used: bool) -> nn.Module:
    def run(self: Any, x: Tensor) -> Tensor:
        x, extra = self.part(self.stem(x))
        return self.head(x) + (extra.mean() if used else 0)

    return Parts(run, **ends(part=Reading()))


def test_a_further_tensor_keeps_a_block_if_something_reads_it() -> None:
    (block,) = secateur.trace(reader(True), TOKENS).blocks
    assert block.why == "it also returns a tensor that something else reads"
    (block,) = secateur.trace(reader(False), TOKENS).blocks
    assert (block.why, block.gives) == (None, (0, None))


class Nosy(nn.Module):
    """Looks at its first layer before it calls it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.head, self.layers = nn.Linear(6, 8), nn.Linear(8, 3), nn.ModuleList(Mlp() for _ in range(5))

    def forward(self, x: Tensor) -> Tensor:
        assert isinstance(self.layers[1].norm, nn.LayerNorm)
        return in_a_list(self, x)


def test_a_block_that_the_model_looks_at_must_stay() -> None:
    blocks = secateur.trace(Nosy(), TOKENS).blocks
    assert [block.name for block in blocks if block.why is not None] == ["layers.1"]
    assert "the model does not run without it: AttributeError" in (blocks[1].why or "")


class Collecting(nn.Module):
    """Hooks of its own collect what blocks of a class give; fewer blocks, fewer outputs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.layers = nn.Linear(6, 8), nn.ModuleList(Mlp() for _ in range(3))

    def forward(self, x: Tensor) -> list[Tensor]:
        x, found = self.stem(x), []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, Mlp):
                found.append(x)
        return found


def test_a_block_without_which_outputs_are_missing_must_stay() -> None:
    reasons = {block.why for block in secateur.trace(Collecting(), TOKENS).blocks}
    assert reasons == {"without it the model returns 2 tensors, not 3"}


CHOICES = [
    (name, drop)
    for name, deep in DEEP.items()
    for size in (1, 2)
    for drop in itertools.islice(itertools.combinations(deep.free, size), 3)
]


def check_laws(build: Callable[[], nn.Module], model: nn.Module, plan: Plan, inputs: Any, path: Path) -> None:
    check_plan(plan)
    pruned = secateur.cut(model, plan)
    laws.check_verified(model, pruned, plan, inputs)
    laws.check_cost(pruned, plan, inputs)
    laws.check_round_trip(build, pruned, plan, inputs, path)
    laws.check_purity(model, plan, inputs)
    laws.check_composition(model, plan, inputs)
    assert not any(name.startswith(f"{gone}.") for name in pruned.state_dict() for gone in plan.removed)


@pytest.mark.parametrize(("name", "drop"), CHOICES, ids=str)
def test_laws_without_blocks(name: str, drop: tuple[str, ...], tmp_path: Path) -> None:
    graph = graph_of(name)
    plan = secateur.plan(graph, drop=dict.fromkeys(drop, "all"))
    assert tuple(plan.removed) == drop
    saved = sum(block.params for block in graph.blocks if block.name in drop)
    assert plan.after.params == plan.before.params - saved
    check_laws(DEEP[name].build, model_of(name), plan, DEEP[name].inputs, tmp_path / "pruned.safetensors")


@pytest.mark.parametrize(("name", "drop"), CHOICES, ids=str)
def test_laws_without_blocks_and_with_fewer_units(name: str, drop: tuple[str, ...], tmp_path: Path) -> None:
    plan = secateur.plan(graph_of(name), "channels=0.7", importance="random", drop=dict.fromkeys(drop, "all"))
    check_laws(DEEP[name].build, model_of(name), plan, DEEP[name].inputs, tmp_path / "pruned.safetensors")


@pytest.mark.parametrize("name", DEEP)
def test_blocks_after_units_equal_their_composition(name: str, tmp_path: Path) -> None:
    model, inputs = model_of(name), DEEP[name].inputs
    first = secateur.plan(secateur.trace(model, inputs), "channels=0.7", importance="random")
    once = secateur.cut(model, first)
    second = secateur.plan(secateur.trace(once, inputs), drop={next(iter(DEEP[name].free)): "all"})
    twice, composed = secateur.cut(once, second), secateur.cut(model, first.then(second))
    laws.check_verified(model, composed, first.then(second), inputs)
    assert laws.outputs(twice, Call.of(inputs))[0].equal(laws.outputs(composed, Call.of(inputs))[0])
    secateur.save(twice, tmp_path / "twice.safetensors")
    again = secateur.load(DEEP[name].build(), tmp_path / "twice.safetensors")
    assert again.state_dict().keys() == twice.state_dict().keys()
    assert laws.outputs(twice, Call.of(inputs))[0].equal(laws.outputs(again, Call.of(inputs))[0])


def test_prune_takes_the_same_path_but_for_the_blocks() -> None:
    result = secateur.prune(model_of("tuples"), TOKENS, ["depth=0.4", "channels=0.7"], importance="random", verify=True)
    assert len(result.report["removed"]) == 2


def test_a_wrong_bypass_fails_the_silence_law() -> None:
    name = "post-norm in a ModuleList"
    model, plan = model_of(name), secateur.plan(graph_of(name), drop={"layers.1": "all"})
    wrong = secateur.cut(model, secateur.plan(graph_of(name), drop={"layers.2": "all"}))
    assert not secateur.verify(model, wrong, plan, TOKENS).passed


def test_the_cost_of_a_graph_without_blocks_is_that_of_its_plan() -> None:
    graph = graph_of("convolutions")
    less = without(graph, ["1"])
    cost = less.cost
    plan = secateur.plan(graph, drop={"1": "all"})
    assert plan.after == Totals(cost.params(cost.full), cost.macs(cost.full))
    assert less.totals == plan.before == Totals(graph.params, graph.total_macs, graph.memory)


@pytest.mark.parametrize(("target", "left"), [("depth=0.75", 3), ("depth=0.74", 2), ("depth=3", 3), ("depth=1", 4)])
def test_a_depth_is_a_share_of_the_blocks_or_their_number(target: str, left: int) -> None:
    plan = secateur.plan(graph_of("pre-norm in a Sequential"), target)
    assert 4 - len(plan.removed) == left


def test_the_least_important_block_goes_first() -> None:
    name = "pre-norm in a Sequential"
    model = model_of(name)
    model[3].b.weight.data.mul_(0.1)  # type: ignore[index, union-attr]
    graph = secateur.trace(model, TOKENS)
    assert list(secateur.plan(graph, "depth=3").removed) == ["3"]
    scores = {"1": 3.0, "2": 1.0, "3": 2.0, "4": 4.0}
    assert list(secateur.plan(graph, "depth=2", importance=scores).removed) == ["2", "3"]  # type: ignore[arg-type]
    assert list(secateur.plan(graph, "depth=3", select=secateur.Select(protect=["3.b"])).removed) != ["3"]


def test_both_targets_are_met() -> None:
    plan = secateur.plan(graph_of("convolutions"), ["depth=2", "params=0.4"])
    assert len(plan.removed) == 1
    assert plan.after.params <= 0.4 * plan.before.params


@pytest.mark.parametrize("criterion", ["l1", "l2", "bn_scale", "group_l2", "random"])
def test_criteria_score_blocks(criterion: str) -> None:
    graph = graph_of("convolutions")
    assert len(secateur.plan(graph, "depth=2", importance=criterion).removed) == 1


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "too deep a cut": (
        {"target": "depth=0.3"},
        r"target depth=0.3 cannot be reached: at least 1 of 3 blocks must stay",
    ),
    "an unknown block": ({"drop": {"7": "all"}}, r"'7' is not a block that can be bypassed; blocks that can go: 1, 3"),
    "a block that stays": ({"drop": {"2": "all"}}, r"the block '2' must stay: its output has a different shape"),
    "another word": (
        {"drop": {"1": "half"}},
        r"drop=\{'1': 'half'\}: the value is unknown\ngive a list of units, or 'all' for a block",
    ),
    "a protected block": (
        {"drop": {"1": "all"}, "select": secateur.Select(protect=["1.conv1"])},
        r"drop removes the block '1', which protect keeps as it is",
    ),
    "units of a dropped block": (
        {"drop": {"1": "all", "1.conv1": [0]}},
        r"'1.conv1' is in the block '1', which is dropped",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_go_is_refused(case: str) -> None:
    options, message = REFUSED[case]
    with pytest.raises(secateur.InputError, match=message):
        secateur.plan(graph_of("convolutions"), **options)


def test_a_model_without_blocks_has_no_depth() -> None:
    graph = secateur.trace(NETS["plain_cnn"].make(), NETS["plain_cnn"].example())
    with pytest.raises(secateur.TargetError, match=r"target depth=0.5: this model has no block that can be bypassed"):
        secateur.plan(graph, "depth=0.5")


@pytest.mark.parametrize("name", ["tuples", "convolutions"])
def test_the_printed_loader_bypasses_blocks_by_itself(name: str, tmp_path: Path) -> None:
    path, loader = tmp_path / "pruned.safetensors", {}
    once = secateur.cut(model_of(name), secateur.plan(graph_of(name), "channels=0.7", importance="random"))
    graph = secateur.trace(once, DEEP[name].inputs)
    pruned = secateur.cut(once, secateur.plan(graph, drop={next(iter(DEEP[name].free)): "all"}))
    secateur.save(pruned, path)
    exec(loader_source(path), loader)
    again = loader["load_pruned"](DEEP[name].build(), str(path)).eval()
    assert again.state_dict().keys() == pruned.state_dict().keys()
    assert not any(type(module).__module__.startswith("secateur") for module in again.modules())
    assert laws.outputs(pruned, Call.of(DEEP[name].inputs))[0].equal(laws.outputs(again, Call.of(DEEP[name].inputs))[0])
    with pytest.raises(ValueError, match="the file is of another model: "):
        loader["load_pruned"](DEEP["attributes"].build(), str(path))


def test_a_plan_without_the_field_still_loads() -> None:
    plan = secateur.plan(graph_of("convolutions"), "channels=0.7")
    assert '"removed"' not in plan.to_json()
    assert Plan.from_json(plan.to_json()) == plan


HOSTILE: dict[str, Mapping[Any, Any]] = {
    "the model itself": {"": None},
    "a place below zero": {"1": -1},
    "no place": {"1": 1.5},
    "something cut within": {"3": None},
    "one within another": {"1": None, "1.bn1": None},
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_removals_are_refused(case: str) -> None:
    plan = replace(secateur.plan(graph_of("convolutions"), "channels=0.7"), removed=HOSTILE[case])
    if case == "one within another":
        plan = replace(plan, sites={}, scales=(), attributes=())
    with pytest.raises(FileError, match=r"the plan removes '.*"):
        check_plan(plan)


def test_a_file_of_another_model_is_refused(tmp_path: Path) -> None:
    model = model_of("convolutions")
    secateur.save(secateur.cut(model, secateur.plan(graph_of("convolutions"), drop={"3": "all"})), tmp_path / "x")
    with pytest.raises(FileError, match="removes '3', which this Parts does not have"):
        secateur.load(DEEP["attributes"].build(), tmp_path / "x")
    with pytest.raises(secateur.InputError, match="the plan removes '3', which this model does not have"):
        secateur.cut(
            model_of("attributes"),
            replace(
                secateur.plan(graph_of("attributes"), "channels=0.7"), sites={}, attributes=(), removed={"3": None}
            ),
        )


def test_a_bypass_gives_its_arguments_back() -> None:
    assert Bypass(("x", None))(x=1) == (1, None)
    assert Bypass("x")(0, x=2) == 2
    assert repr(Bypass(0)) == "Bypass(gives=0)"
