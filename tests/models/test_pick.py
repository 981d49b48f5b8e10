"""Layers that pick channels from a shared stream."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import laws
import secateur
from secateur.errors import InputError
from secateur.models.densenet import STREAM as DENSE
from secateur.models.densenet import densenet
from secateur.models.pick import ChannelPick, with_picks
from secateur.models.preresnet import STREAM, preresnet

IMAGE = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
NETS = {
    "preresnet": (lambda: preresnet(11, width=0.25), STREAM),
    "densenet": (lambda: densenet(10, width=0.25), DENSE),
}


@pytest.mark.parametrize("name", NETS)
def test_with_picks_computes_the_same_and_leaves_the_model_alone(name: str) -> None:
    build, norms = NETS[name]
    model = laws.randomized(build())
    before = list(model.state_dict())
    assert torch.equal(with_picks(model, *norms)(IMAGE), model(IMAGE))
    assert list(model.state_dict()) == before


@pytest.mark.parametrize("name", NETS)
def test_every_reader_chooses_alone_and_what_is_picked_from_stays(name: str) -> None:
    build, norms = NETS[name]
    graph = secateur.trace(with_picks(build(), *norms), IMAGE)
    sizes = [axis.size for axis in graph.axes if axis.name.endswith(".index")]
    picks = [m for m in graph.model.modules() if isinstance(m, ChannelPick)]
    assert sizes == [len(pick.index) for pick in picks]
    assert "units are selected by position" in str(graph.why("conv1.weight"))


def test_a_cut_shortens_the_list_and_the_norm_behind_it() -> None:
    model = with_picks(preresnet(11, width=0.25), "layer2.0.bn1")
    plan = secateur.plan(secateur.trace(model, IMAGE), drop={"layer2.0.bn1.0.index": [0, 3]})
    pick, norm = secateur.cut(model, plan).get_submodule("layer2.0.bn1").children()
    assert pick.index.tolist() == [i for i in range(16) if i not in (0, 3)]
    assert norm.num_features == len(norm.weight) == 14


def test_scales_judge_what_is_picked() -> None:
    model = with_picks(preresnet(11, width=0.25), "layer2.0.bn1")
    gamma = torch.linspace(1, 0, 16)
    model.get_submodule("layer2.0.bn1.1").weight.data.copy_(gamma)
    scores = secateur.importance.score(secateur.trace(model, IMAGE), "bn_scale/none")
    torch.testing.assert_close(scores["layer2.0.bn1.0.index"], gamma.double())


def test_a_list_that_is_an_attribute_picks_nothing_of_its_own() -> None:
    """Only what the model saves with its weights can be cut."""

    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.c, self.list = nn.Conv2d(3, 8, 1), nn.Conv2d(5, 4, 1), torch.arange(5)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(self.a(x).index_select(1, self.list))

    assert not secateur.trace(Fixed(), IMAGE).axes


@pytest.mark.parametrize(
    ("norm", "told"),
    [
        ("layer1.0.bn7", "no module is named 'layer1.0.bn7'; did you mean 'layer1.0.bn"),
        ("layer1.0.conv1", "'layer1.0.conv1' is a Conv2d; a pick stands before a batch norm"),
    ],
)
def test_what_is_no_norm_is_refused(norm: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        with_picks(preresnet(11), norm)
