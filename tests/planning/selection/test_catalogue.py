"""What selectors mean in a model."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import secateur
from nets import Parts, graph_of
from secateur import InputError
from secateur.graph.graph import Graph
from secateur.planning.selection.catalogue import Catalogue
from secateur.planning.selection.selector import Selector


class Wide(nn.Linear):
    """A class of one's own."""


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc2, self.norm = nn.Linear(8, 16), Wide(16, 8), nn.LayerNorm(8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.fc2(self.fc1(self.norm(x)).relu())


def stack() -> Graph:
    def run(self: Any, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x)))

    blocks = nn.Sequential(*(Block() for _ in range(11)))
    model = Parts(run, embed=nn.Linear(5, 8), blocks=blocks, head=nn.Linear(8, 3))
    return secateur.trace(model, torch.zeros(1, 5))


STACK = stack()
HIDDEN = [f"blocks.{i}.fc1" for i in range(11)]


def meant(graph: Graph, *texts: str) -> list[str]:
    return [axis.name for axis in Catalogue(graph).meant(Selector.parse(list(texts)), "it")]


@pytest.mark.parametrize(
    ("texts", "names"),
    [
        (["*"], ["embed", *HIDDEN]),
        (["blocks"], HIDDEN),
        (["blocks.*"], HIDDEN),
        (["blocks.1"], ["blocks.1.fc1"]),
        (["blocks.1*"], ["blocks.1.fc1", "blocks.10.fc1"]),
        (["blocks.[23].fc1"], ["blocks.2.fc1", "blocks.3.fc1"]),
        (["*.fc1.weight"], HIDDEN),
        (["blocks.10, embed"], ["embed", "blocks.10.fc1"]),
        (["blocks.10", "embed", "blocks.10.fc1"], ["embed", "blocks.10.fc1"]),
        (["blocks.*.fc2"], ["embed"]),  # they give no axis its name
        (["blocks.4.fc2.bias"], ["embed"]),
        (["type=Block"], HIDDEN),
        (["type=Linear"], ["embed", *HIDDEN]),
        (["type=Wide"], ["embed"]),
        (["type=Lin*"], ["embed", *HIDDEN]),
        (["blocks.3.* type=Linear"], ["blocks.3.fc1"]),
        (["embed type=Block"], ["embed"]),  # it comes out of blocks too
        (["type=Block type=Linear"], HIDDEN),
        (["axis=blocks.3.fc1"], ["blocks.3.fc1"]),
        (["axis=blocks.3.fc2"], ["embed"]),
        (["kind=channel"], ["embed", *HIDDEN]),
    ],
)
def test_meant(texts: Sequence[str], names: Sequence[str]) -> None:
    assert meant(STACK, *texts) == names


@pytest.mark.parametrize(
    ("name", "text", "names"),
    [
        ("grouped_queries", "q", ["q[0]", "q[1]", "q[2]"]),
        ("grouped_queries", "q[1]", ["q[1]"]),
        ("grouped_queries", "kind=heads", ["q[0]", "q[1]"]),
        ("grouped_queries", "q kind=head_dim", ["q[2]"]),
        ("grouped_queries", "k", ["q[0]", "q[2]"]),
        ("multihead", "type=MultiheadAttention", ["attn.in_proj_weight[0]", "attn.in_proj_weight[1]"]),
        ("shared", "again", ["bias"]),
        ("plain_cnn", "type=_ConvNd", ["conv1", "conv2"]),
    ],
)
def test_meant_in_other_networks(name: str, text: str, names: Sequence[str]) -> None:
    assert meant(graph_of(name), text) == names


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("head", ["embed"]),
        ("blocks.2", ["embed", "blocks.2.fc1"]),
        ("type=LayerNorm", ["embed"]),
        ("type=LayerNorm, blocks.2.fc1.bias", ["embed", "blocks.2.fc1"]),
        ("head.bias", []),  # frozen: it stays as it is
        ("blocks.2 axis=embed", ["embed"]),
    ],
)
def test_touched(text: str, names: Sequence[str]) -> None:
    assert [axis.name for axis in Catalogue(STACK).touched(Selector.parse(text), "it")] == names


NOTHING = {
    "embd": "it names 'embd', which matches no parameter; did you mean 'embed'",
    "block.*": "it names 'block.*', which matches no parameter; did you mean 'blocks.",
    "embed, blocks.11": "it names 'blocks.11', which matches no parameter; did you mean 'blocks.1",
    "type=Conv2d": "it names 'type=Conv2d', but no module of this model has that type; its types are Linear, Seq",
    "type=linear": "did you mean 'Linear'?",
    "head": "it names 'head', where nothing can be cut\nhead.weight[0] is frozen: model output",
    "blocks.0.norm": "it names 'blocks.0.norm', where nothing can be cut; the units there belong to embed",
    "embed type=LayerNorm": "it names 'embed type=LayerNorm', where nothing can be cut",
    "kind=head": "it names 'kind=head', where nothing can be cut; the kinds of its axes are channels (12)",
    "axis=fc1": "no prunable axis is named 'fc1'",
}


@pytest.mark.parametrize("text", NOTHING)
def test_a_selector_that_means_nothing(text: str) -> None:
    with pytest.raises(InputError, match=re.escape(NOTHING[text])):
        meant(STACK, text)


def test_heads_that_are_there_but_frozen() -> None:
    with pytest.raises(InputError, match=r"qkv\.weight\[0\] is frozen: .*reshape"):
        meant(graph_of("attention"), "kind=head")


def test_a_module_of_several_axes_is_no_axis() -> None:
    message = "'q' has several axes, so name one of them: q[0] (2 heads), q[1] (2 heads), q[2] (4 head_dims)"
    with pytest.raises(InputError, match=re.escape(message)):
        graph_of("grouped_queries").axis("q")
