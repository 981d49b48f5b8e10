from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from nets import NETS, Parts
from secateur.errors import InputError, PruningError, TraceError
from secateur.graph.graph import Graph

ALL = pytest.mark.parametrize("name", NETS)
RUNS = pytest.mark.parametrize("run", ["meta", "real", "fake"])


def traced(name: str, run: str = "auto") -> Graph:
    net = NETS[name]
    return secateur.trace(net.make(), net.example(), run=run)


@ALL
def test_prunable_axes(name: str) -> None:
    graph = traced(name)
    assert {axis.name: axis.size for axis in graph.axes} == NETS[name].axes
    assert {axis.name for axis in graph.axes if axis.inexact} == set(NETS[name].inexact)


@ALL
def test_costs(name: str) -> None:
    graph = traced(name)
    assert (graph.params, graph.total_macs) == (NETS[name].params, NETS[name].macs)


@pytest.mark.parametrize(("name", "dim"), [(name, dim) for name, net in NETS.items() for dim in net.frozen])
def test_reasons(name: str, dim: str) -> None:
    reasons = {f"{frozen.name}[{frozen.dim}]": frozen.reason for frozen in traced(name).frozen}
    assert NETS[name].frozen[dim] in reasons[dim]


@ALL
def test_what_no_call_reached_and_no_rule_knew(name: str) -> None:
    graph = traced(name)
    assert graph.unreached == tuple(NETS[name].unreached)
    assert list(graph.unknown) == list(NETS[name].unknown)


@ALL
def test_every_dimension_is_prunable_or_explained(name: str) -> None:
    graph = traced(name)
    told = {(use.name, use.dim) for axis in graph.axes for use in axis.sites}
    told |= {(frozen.name, frozen.dim) for frozen in graph.frozen if frozen.reason}
    parameters = [site for site in graph.sites.values() if site.kind == "parameter"]
    assert {(site.name, d) for site in parameters for d, n in enumerate(site.shape) if n > 1} <= told


def test_reasons_name_a_line_of_the_users_code() -> None:
    reasons = [frozen.reason for frozen in traced("literal_view").frozen]
    assert any("is written at nets/frozen.py:" in reason for reason in reasons)


@pytest.mark.parametrize(("name", "params", "macs"), [("unused", 56 + 40, 80 * 11), ("literal_view", 24 + 24, 16 * 42)])
def test_coverage(name: str, params: int, macs: int) -> None:
    coverage = traced(name).coverage
    assert coverage.params == pytest.approx(params / NETS[name].params)
    assert coverage.macs == pytest.approx(macs / NETS[name].macs)


def told(graph: Graph) -> dict[str, Any]:
    return {
        "axes": [(a.name, a.size, a.least, a.group, a.sites, a.outer is None, bool(a.inexact)) for a in graph.axes],
        "frozen": [(frozen.name, frozen.dim) for frozen in graph.frozen],
        "costs": (graph.params, graph.total_macs),
        "attributes": sorted(map(str, graph.sizes.attributes)),
        "unreached": graph.unreached,
    }


@ALL
def test_meta_real_and_fake_runs_give_one_graph(name: str) -> None:
    meta, real, fake = (told(traced(name, run)) for run in ("meta", "real", "fake"))
    assert meta == real
    assert meta == fake


@ALL
def test_frozen_weights_training_mode_and_precision_change_nothing(name: str) -> None:
    net = NETS[name]
    model = net.make().train().requires_grad_(False)
    assert told(secateur.trace(model, net.example())) == told(traced(name))


def _mark(value: Any) -> Any:
    """What must be found again: the same object, and for numbers and lists of them the same values and types."""
    if isinstance(value, (tuple, list)):
        return type(value), [_mark(v) for v in value]
    if isinstance(value, dict):
        return type(value), {key: _mark(v) for key, v in value.items()}
    if isinstance(value, Tensor):
        return id(value), value.requires_grad, value._version, dict(value.__dict__), value.detach().clone().tolist()
    return (type(value), value) if isinstance(value, (int, float, str)) else id(value)


def as_found(model: nn.Module) -> dict[str, Any]:
    found = {name: _mark(module.__dict__) for name, module in model.named_modules()}
    return {**found, "random state": torch.get_rng_state().tolist()}


@ALL
@RUNS
def test_a_trace_leaves_the_model_as_found(name: str, run: str) -> None:
    net = NETS[name]
    model, example = net.make(), net.example()
    next(model.children(), model).train()
    next(model.parameters()).requires_grad_(False)
    before, inputs = as_found(model), _mark(example)
    secateur.trace(model, example, run=run)
    assert as_found(model) == before
    assert _mark(example) == inputs


def careless() -> nn.Module:
    """Counts its calls, keeps a cache, draws random numbers, changes a buffer, and then fails."""

    def run(self: Any, x: Tensor) -> Tensor:
        self.calls += 1
        self.cache = self.a(x) + torch.rand(8)
        self.buffer_seen.add_(1)
        self.sizes.append(x.shape[1])
        raise self.error

    return Parts(run, calls=0, sizes=[3, 4], a=nn.Linear(6, 8), buffer_seen=torch.zeros(3), error=RuntimeError("no"))


@RUNS
@pytest.mark.parametrize(("error", "told"), [(RuntimeError("no"), InputError), (KeyError("no"), TraceError)])
def test_a_failing_forward_leaves_the_model_as_found(run: str, error: Exception, told: type[PruningError]) -> None:
    model = careless()
    model.error = error
    before = as_found(model)
    with pytest.raises(told, match=r"these example inputs: \(2, 5, 6\) float32\n.*no"):
        secateur.trace(model, torch.zeros(2, 5, 6), run=run)
    assert as_found(model) == before


def test_hooks_are_kept() -> None:
    model = NETS["plain_cnn"].make()
    handles = [model.conv1.register_forward_hook(lambda *_: None), model.fc.weight.register_hook(lambda grad: grad)]
    before = as_found(model)
    secateur.trace(model, NETS["plain_cnn"].example())
    assert as_found(model) == before
    assert handles[0].id in model.conv1._forward_hooks


def test_hooks_that_forward_registers_go_away() -> None:
    """A flag next to the hooks says that they are registered; both are restored together, or hooks would be doubled."""

    def run(self: Any, x: Tensor) -> Tensor:
        if not self.hooked:
            self.a.register_forward_hook(lambda module, args, output: self.seen.append(output))
            self.hooked = True
        return self.b(self.a(x))

    model: Any = Parts(run, a=nn.Linear(6, 8), b=nn.Linear(8, 2), hooked=False, seen=[])
    secateur.trace(model, torch.zeros(1, 6))
    assert (len(model.a._forward_hooks), model.hooked, model.seen) == (0, False, [])


@pytest.mark.parametrize(
    "example",
    [
        torch.zeros(1, 3, 8, 8),
        (torch.zeros(1, 3, 8, 8),),
        [torch.zeros(1, 3, 8, 8)],
        secateur.Call((torch.zeros(1, 3, 8, 8),)),
    ],
)
def test_ways_to_give_one_input(example: Any) -> None:
    assert [axis.name for axis in secateur.trace(NETS["plain_cnn"].make(), example).axes] == ["conv1", "conv2"]


def test_one_tensor_is_one_argument() -> None:
    """Defect 14: a (1, 3, 8, 8) input is not first tried as three arguments."""
    model = Parts(lambda self, x, y=None, z=None: self.a(x if y is None else y), a=nn.Conv2d(3, 8, 1))
    graph = secateur.trace(model, torch.zeros(1, 3, 8, 8))
    assert (graph.total_macs, graph.axes) == (64 * 24, ())


def test_keyword_arguments_and_further_calls() -> None:
    model = Parts(
        lambda self, *, x, more=False: self.b(self.a(x)) if more else self.a(x), a=nn.Linear(6, 8), b=nn.Linear(8, 5)
    )
    brief, full = {"x": torch.zeros(1, 6)}, {"x": torch.zeros(1, 6), "more": True}
    assert secateur.trace(model, brief).unreached == ("b.weight", "b.bias")
    graph = secateur.trace(model, brief, calls=[full], outputs=lambda y: y if y.shape[-1] == 5 else None)
    assert ({a.name: a.size for a in graph.axes}, graph.unreached, graph.total_macs) == ({"a": 8}, (), 48)


@pytest.mark.parametrize(
    ("example", "message"),
    [
        (3, "example_inputs is an int: 3\npass what the model is called with"),
        ("image", "example_inputs is a str: 'image'"),
        ((1, 2), "example_inputs hold no tensor: \\(1, 2\\)"),
        ({}, "does not run on these example inputs: none"),
        (
            torch.zeros(1, 4, 8, 8),
            "does not run on these example inputs: \\(1, 4, 8, 8\\) float32\nit says: RuntimeError",
        ),
        (torch.zeros(1, 3, 8, 8, dtype=torch.long), "\\(1, 3, 8, 8\\) int64"),
        ((torch.zeros(1, 3, 8, 8), torch.zeros(1)), "\\(1, 3, 8, 8\\) float32, \\(1,\\) float32\nit says: TypeError"),
    ],
)
def test_inputs_that_cannot_be_used(example: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        secateur.trace(NETS["plain_cnn"].make(), example)


def test_an_unknown_way_to_run() -> None:
    with pytest.raises(InputError, match="run='cuda'\nknown: 'auto', 'meta', 'real', 'fake'"):
        traced("plain_cnn", "cuda")


@pytest.mark.parametrize(
    ("asked", "found"), [("conv1", "conv1"), ("bias", "bias"), ("up", "bias"), ("down", "a"), ("shortcut", "b")]
)
def test_an_axis_by_any_module_that_puts_it_out(asked: str, found: str) -> None:
    names = {"conv1": "plain_cnn", "shortcut": "residual"}
    assert traced(names.get(asked, "shared")).axis(asked).name == found


def test_an_unknown_axis_names_the_nearest() -> None:
    with pytest.raises(InputError, match="no prunable axis is named 'conv11'; did you mean 'conv1' or 'conv2'\\?"):
        traced("plain_cnn").axis("conv11")


def test_a_squeezed_axis_keeps_two_units() -> None:
    assert {axis.name: axis.least for axis in traced("squeezed").axes} == {"a": 1, "b": 2}
