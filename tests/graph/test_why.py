from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from nets import NETS, TOKENS, Parts, graph_of
from secateur.errors import InputError
from secateur.graph.frozen_text import ORDINARY
from secateur.graph.why import CHANGED, HOPS, Why, why


def test_why_by_axis_parameter_module_and_glob() -> None:
    def asked(pattern: str) -> str:
        return str(why(graph_of("plain_cnn"), pattern))

    assert asked("conv1.weight").splitlines() == [
        "conv1.weight: 8 x 3 x 3 x 3",
        "  [0] 8  conv1",
        "  [1] 3  frozen: model input",
        "  [2] 3  frozen: kernel size",
        "  [3] 3  frozen: kernel size",
        "",
        "axis conv1: 8 units, exact",
        "  output     conv1.weight[0], conv1.bias[0]",
        "  input      conv2.weight[1]",
        "  scale      bn.weight[0]",
        "  shift      bn.bias[0]",
        "  statistic  bn.running_mean[0], bn.running_var[0]",
    ]
    assert "conv1.bias: 8" in asked("conv1")
    assert "bn.running_mean (buffer): 8" in asked("bn")
    assert {"conv1.weight: 8 x 3 x 3 x 3", "conv2.weight: 12 x 8 x 3 x 3"} <= set(asked("conv*").splitlines())


def test_why_of_an_axis_with_a_number_in_brackets() -> None:
    text = str(why(graph_of("multihead"), "attn.in_proj_weight[1]"))
    assert text.startswith("axis attn.in_proj_weight[1]: 4 head_dims for each of 3, exact\n")
    assert "tied to  embed, attn.in_proj_weight[0]" in text


def test_why_shows_terms_and_the_reasons_of_their_parts() -> None:
    text = str(why(graph_of("multihead"), "attn.out_proj.weight"))
    assert "  [1] 12  3 x attn.in_proj_weight[1]\n          3 frozen: no plan can satisfy the sizes at" in text
    assert "  because  a mean and variance are taken over it (layer_norm" in text


def test_why_of_another_name_of_a_shared_parameter() -> None:
    graph = graph_of("shared")
    alias, first = next(iter(graph.aliases.items()))
    assert str(why(graph, alias)).startswith(f"{first}: ")


def test_an_unknown_name_comes_with_the_nearest() -> None:
    message = r"'conv1.wight' matches no parameter, module or axis; did you mean 'conv1.weight' or 'conv2.weight'"
    with pytest.raises(InputError, match=message):
        graph_of("plain_cnn").why("conv1.wight")


def stream() -> nn.Module:
    """A residual stream that an op without a rule reads at its far end."""

    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        x = x + self.b(x).relu()
        x += self.c(x).relu()
        return self.h(torch.geqrf(x)[0])

    return Parts(run, a=nn.Linear(6, 8), b=nn.Linear(8, 8), c=nn.Linear(8, 8), h=nn.Linear(8, 5))


def asked(model: nn.Module, pattern: str) -> Why:
    return secateur.trace(model, torch.zeros(*TOKENS)).why(pattern)


def ops(chain: Any) -> list[str]:
    return [hop.op for hop in chain]


@pytest.mark.parametrize(("name", "chain"), [("a", 2), ("b", 2), ("c", 1)])
def test_a_chain_leads_through_what_couples_to_the_op_that_froze(name: str, chain: int) -> None:
    stay = asked(stream(), f"{name}.weight").tensors[0].dims[0].stays[0]
    assert "no rule for aten::geqrf" in stay.reason
    assert ops(stay.chain) == ["add"] * chain + ["geqrf"]
    assert all(hop.at.startswith("graph/test_why.py:") for hop in stay.chain)
    assert stay.chain[-1].at in stay.reason


def test_a_chain_takes_no_turn_that_its_dimension_does_not_take() -> None:
    """c reads the stream as well as writing it: its input is in it before its own sum."""
    reads, writes = asked(stream(), "c.weight").tensors[0].dims[1], asked(stream(), "b.weight").tensors[0].dims[1]
    assert ops(reads.stays[0].chain) == ["add", "geqrf"]
    assert ops(writes.stays[0].chain) == ["add", "add", "geqrf"]


def test_a_layer_named_after_another_one_tells_what_ties_them() -> None:
    model = stream()
    del model.h
    model._run = lambda self, x: self.c(self.a(x) + self.b(self.a(x)).relu()).sum(-1)
    text = str(asked(model, "b.weight"))
    assert "  [0] 8  a\n         by add (graph/test_why.py:" in text


def test_inexact_axes_tell_what_reads_them() -> None:
    model = stream()
    model._run = lambda self, x: self.h(self.n(self.a(x) + self.b(x)))
    model.b, model.n = nn.Linear(6, 8), nn.LayerNorm(8)
    (told,) = asked(model, "a").axes
    assert ops(told.chain) == ["add", "layer_norm"]
    assert told.chain[-1].at in (told.axis.inexact or "")


def test_a_size_that_must_equal_one_that_stays_leads_on_to_its_chain() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        a, b = self.a(x).chunk(2, -1)
        return self.c(a.relu()) + torch.geqrf(b)[0][..., :5]

    model = Parts(run, a=nn.Linear(6, 16), c=nn.Linear(8, 5))
    (stay,) = asked(model, "c.weight").tensors[0].dims[1].stays
    assert stay.reason.startswith("no plan can satisfy the sizes at chunk at graph/test_why.py:")
    assert ops(stay.chain) == ["chunk", "geqrf"]


def test_a_size_that_must_equal_that_of_an_input_says_so() -> None:
    model = Parts(lambda self, x: self.c(self.a(x) * x.new_ones(x.shape[-1])), a=nn.Linear(6, 6), c=nn.Linear(6, 5))
    (stay,) = asked(model, "c.weight").tensors[0].dims[1].stays
    assert ops(stay.chain)[-1] == "model input"


@pytest.mark.parametrize("name", NETS)
def test_every_chain_ends_where_its_reason_says(name: str) -> None:
    """On all networks: the last op is the one that the reason names, if it names one."""
    told = graph_of(name).why("*")
    assert told.complete
    stays = [s for t in told.tensors for d in t.dims for s in d.stays if s.chain and s.reason not in ORDINARY]
    ends = [(told.axis.inexact or "", told.chain) for told in told.axes if told.chain]
    for reason, chain in [*((s.reason, s.chain) for s in stays), *ends]:
        assert ".py:" not in reason or chain[-1].at in reason


def test_long_chains_are_cut_in_the_middle() -> None:
    def run(self: Any, x: Tensor) -> Tensor:
        x = self.a(x)
        for layer in self.layers:
            x = layer(x)
        return torch.geqrf(x)[0]

    model = Parts(run, a=nn.Linear(6, 8), layers=nn.Sequential(*(Step() for _ in range(12))))
    told = asked(model, "a.weight")
    assert len(told.tensors[0].dims[0].stays[0].chain) > HOPS
    assert "more ..." in str(told)


class Step(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up, self.down = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(self.up(x).relu())


def test_a_model_that_was_changed_since_is_recognised() -> None:
    model = NETS["plain_cnn"].make()
    graph = secateur.trace(model, NETS["plain_cnn"].example())
    secateur.cut_(model, secateur.plan(graph, "channels=0.5"))
    told = graph.why("conv1.weight")
    assert not told.complete
    assert str(told).startswith("conv1.weight: 8 x 3 x 3 x 3\n")
    assert str(told).endswith(CHANGED)


def test_asking_leaves_the_model_and_the_graph_as_they_were() -> None:
    graph = graph_of("multihead")
    before = {n: (id(t), t._version) for n, t in graph.model.state_dict(keep_vars=True).items()}, str(graph)
    graph.why("*")
    after = {n: (id(t), t._version) for n, t in graph.model.state_dict(keep_vars=True).items()}, str(graph)
    assert before == after


def test_the_answer_as_data() -> None:
    data = json.loads(json.dumps(asked(stream(), "a.weight").as_dict()))
    (tensor,) = data["tensors"]
    assert (tensor["name"], tensor["dims"][0]["stays"][0]["chain"][-1]["op"]) == ("a.weight", "geqrf")
    assert data["complete"]


@pytest.mark.parametrize("name", NETS)
def test_what_why_tells_the_frozen_list_tells_too(name: str) -> None:
    graph = graph_of(name)
    parameters = [tensor for tensor in graph.why("*").tensors if tensor.kind == "parameter"]
    told = {(t.name, i, stay.reason) for t in parameters for i, dim in enumerate(t.dims) for stay in dim.stays}
    listed = {(f.name, f.dim, f.reason) for f in graph.frozen}
    assert listed <= told
    assert {reason for *_, reason in told - listed} <= {"one unit by itself"}
