"""The seven laws of design.md, each one function that asserts. `check_all` runs them on one model."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

import secateur
from secateur.anatomy.calls import Call
from secateur.base.nested import tensors_in
from secateur.cost.count import count
from secateur.graph.graph import Graph
from secateur.plan.plan import Plan
from secateur.trace.tracing import trace_calls


def randomized(model: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and buffers of a size that keeps activations alive through deep networks."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(_values(name, tensor, generator))
    return model.eval()


def _values(name: str, tensor: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    if name.endswith("running_var"):
        return torch.rand(tensor.shape, generator=generator) + 0.5
    noise = torch.randn(tensor.shape, generator=generator)
    if tensor.dim() > 1:
        return noise / max(tensor[0].numel(), 1) ** 0.5
    return noise * 0.3 + (1.0 if name.endswith("weight") else 0.0)


def axes_of(graph: Graph) -> list[tuple[Any, ...]]:
    """What must be equal for two graphs to be the same Graph."""
    return [(a.name, a.size, a.least, a.group, sorted(map(str, a.sites))) for a in graph.axes]


def outputs(model: nn.Module, call: Call) -> list[torch.Tensor]:
    model.eval()
    with torch.no_grad():
        return tensors_in(model(*call.args, **call.kwargs))


def check_verified(model: nn.Module, pruned: nn.Module, plan: Plan, inputs: Any, calls: Sequence[Call] = ()) -> None:
    """Laws 1 and 2."""
    verification = secateur.verify(model, pruned, plan, inputs, calls=calls)
    assert verification.passed, str(verification)


def check_cost(pruned: nn.Module, plan: Plan, inputs: Any) -> None:
    """Law 3."""
    counted = count(pruned, inputs)
    assert (counted.params, counted.macs) == (plan.after.params, plan.after.macs)


def check_round_trip(build: Callable[[], nn.Module], pruned: nn.Module, plan: Plan, inputs: Any, path: Path) -> None:
    """Law 4."""
    assert Plan.from_json(plan.to_json()) == plan
    secateur.save(pruned, path)
    again = secateur.load(build(), path)
    for a, b in zip(outputs(pruned, Call.of(inputs)), outputs(again, Call.of(inputs)), strict=True):
        assert torch.equal(a, b)


def check_purity(model: nn.Module, plan: Plan, inputs: Any) -> None:
    """Law 5."""
    before = {name: (id(t), t._version, t.shape) for name, t in model.state_dict(keep_vars=True).items()}
    pruned = secateur.cut(model, plan)
    assert before == {n: (id(t), t._version, t.shape) for n, t in model.state_dict(keep_vars=True).items()}
    check_trains(pruned, inputs)
    twin = copy.deepcopy(model)
    assert secateur.cut_(twin, plan) is twin


def check_trains(model: nn.Module, inputs: Any) -> None:
    """One step of training changes a weight and leaves all of them finite."""
    call = Call.of(inputs).map(lambda t: torch.cat([t, t]) if t.dim() and t.shape[0] == 1 else t)
    model.train()
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    floats = [t for t in tensors_in(model(*call.args, **call.kwargs)) if t.is_floating_point()]
    sum(t.square().mean() for t in floats).backward()  # type: ignore[union-attr]
    optimizer.step()
    assert any(not torch.equal(before[n], p) for n, p in model.named_parameters())
    model.eval()


def check_conservation(model: nn.Module, graph: Graph, plan: Plan, inputs: Any) -> None:
    """Law 6."""
    everything = secateur.plan(graph, "channels=1.0")
    assert everything.is_empty
    assert everything.after == everything.before
    whole = secateur.cut(model, everything)
    for a, b in zip(outputs(model, Call.of(inputs)), outputs(whole, Call.of(inputs)), strict=True):
        assert torch.equal(a, b)
    check_composition(model, plan, inputs)


def check_composition(model: nn.Module, first: Plan, inputs: Any) -> None:
    once = secateur.cut(model, first)
    graph = secateur.trace(once, inputs)
    if not graph.axes:
        return
    second = secateur.plan(graph, "channels=0.8", importance="random", seed=1)
    twice, composed = secateur.cut(once, second), secateur.cut(model, first.then(second))
    for (name, a), (other, b) in zip(twice.state_dict().items(), composed.state_dict().items(), strict=True):
        assert name == other
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    for a, b in zip(outputs(twice, Call.of(inputs)), outputs(composed, Call.of(inputs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


def check_one_graph(model: nn.Module, inputs: Any, calls: Sequence[Call] = (), runs: Sequence[str] = ("real",)) -> None:
    """Law 7."""
    wanted = [Call.of(inputs), *calls]
    meta = axes_of(trace_calls(model, wanted, run="meta"))
    for run in runs:
        assert axes_of(trace_calls(model, wanted, run=run)) == meta


def check_all(
    build: Callable[[], nn.Module],
    inputs: Any,
    path: Path,
    *,
    calls: Sequence[Call] = (),
    target: str = "channels=0.7",
) -> Plan:
    """All seven laws on one model with random weights, buffers and choice of units; gives the plan."""
    model = randomized(build())
    graph = secateur.trace(model, inputs, calls=calls)
    plan = secateur.plan(graph, target, importance="random")
    pruned = secateur.cut(model, plan)
    check_verified(model, pruned, plan, inputs, calls)
    check_cost(pruned, plan, inputs)
    check_round_trip(build, pruned, plan, inputs, path)
    check_purity(model, plan, inputs)
    check_conservation(model, graph, plan, inputs)
    check_one_graph(model, inputs, calls)
    return plan
