"""The laws on every tiny network, and proof that their checkers can fail."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import laws
import secateur
from nets import NETS, Parts
from secateur.anatomy.calls import Call
from secateur.graph.graph import Graph
from secateur.proof.replay import in_float64, run
from secateur.proof.verify import permutation_of
from secateur.terms import Axis
from secateur.trace.tracing import trace_calls

CUT = [name for name, net in NETS.items() if net.axes]
# Sites whose permutation alone cancels: they cannot break the function, so nothing can notice their absence.
CANCEL = {
    "grouped_queries": {"k.bias[0] output"},  # adds the same to every score of a query, and softmax takes it out
    "normed_queries": {"k.bias[0] output"},
    "position_table": {"patch.weight[0] output", "patch.bias[0] output"},  # only the class token is read
}
TRAINED_ONLY = {"auxiliary"}  # a part of the network that runs in training mode


@pytest.mark.parametrize("name", CUT)
def test_all_laws(name: str, tmp_path: Path) -> None:
    net = NETS[name]
    plan = laws.check_all(net.make, net.example(), tmp_path / "pruned.safetensors", target="channels=0.6")
    assert plan.after.params < plan.before.params


@pytest.mark.parametrize("name", CUT)
def test_real_meta_and_fake_runs_give_one_graph(name: str) -> None:
    net = NETS[name]
    laws.check_one_graph(net.make(), net.example(), runs=("real", "fake"))
    assert laws.axes_of(secateur.trace(net.make(), net.example()))


@pytest.mark.parametrize("name", CUT)
def test_leaving_out_any_site_breaks_the_permutation(name: str) -> None:
    """Law 2, the other way: each site matters, but for the few whose effect cancels."""
    net = NETS[name]
    model, call = in_float64(laws.randomized(net.make())), Call.of(net.example()).map(_double)
    calls = [call, Call(call.args, training=True)] if name in TRAINED_ONLY else [call]
    graph = trace_calls(model, calls, run="real", lift=True)
    reference = run(model, calls, {}, {})
    silent = {str(use) for axis in graph.axes for use in axis.sites if not _breaks(model, graph, use, calls, reference)}
    assert silent == CANCEL.get(name, set())


def _double(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _breaks(model: nn.Module, graph: Graph, use: Any, calls: list[Call], reference: list[torch.Tensor]) -> bool:
    """Whether the outputs change when all sites are permuted but this one."""
    sites = dict(graph.sites)
    site = sites[use.name]
    whole = tuple(Axis(d.n) if i == use.dim else d for i, d in enumerate(site.dims))
    sites[use.name] = dataclasses.replace(site, dims=whole)
    outputs = run(permutation_of(model, dataclasses.replace(graph, sites=sites)), calls, {}, {})
    return any(not torch.allclose(a, b, rtol=1e-9, atol=1e-12) for a, b in zip(reference, outputs, strict=True))


def test_a_wrong_cut_fails_the_silence_law() -> None:
    net = NETS["plain_cnn"]
    model = laws.randomized(net.make())
    plan = secateur.plan(secateur.trace(model, net.example()), "channels=0.6")
    pruned = secateur.cut(model, plan)
    next(p for p in pruned.parameters() if p.dim() > 1).data.mul_(1.001)
    assert not secateur.verify(model, pruned, plan, net.example()).passed


def test_a_cut_that_cannot_be_seen_proves_nothing() -> None:
    net = NETS["plain_cnn"]
    model = laws.randomized(net.make())
    plan = secateur.plan(secateur.trace(model, net.example()), "channels=1.0")
    verification = secateur.verify(model, secateur.cut(model, plan), plan, net.example())
    assert verification.silence < 1e-9
    assert not verification.passed


def test_chosen_outputs_are_what_is_verified() -> None:
    """What is left out of the outputs may change its width."""
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 6), nn.Tanh(), nn.Linear(6, 2))
    both = Parts(lambda self, x: (self.net(x), self.net[:2](x)), net=net)
    x = torch.randn(3, 4)
    result = secateur.prune(both, x, "channels=0.5", outputs=lambda out: out[0], verify=True)
    assert result.verification is not None
    assert result.model(x)[1].shape == (3, 4)
    everything = secateur.prune(both, x, "channels=0.5", verify=True)
    assert everything.model(x)[1].shape == (3, 8)


def test_a_path_holds_no_ops_of_our_own() -> None:
    """With as many heads of queries as of keys another shortcut serves; the pruned model walks the same path."""
    net = NETS["grouped_queries"]
    graph = secateur.trace(net.make(), net.example())
    assert {name for name, _ in graph.run.path} == {"linear", "scaled_dot_product_attention"}
    result = secateur.prune(net.make(), net.example(), "channels=0.5")
    assert secateur.trace(result.model, net.example()).run.path == graph.run.path
