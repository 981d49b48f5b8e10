from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import secateur
from nets import NETS
from secateur.anatomy.calls import Call
from secateur.cost.count import count
from secateur.errors import InputError


@pytest.mark.parametrize("name", NETS)
def test_counts_are_those_of_the_formulas(name: str) -> None:
    counted = count(NETS[name].make(), NETS[name].example())
    assert (counted.params, counted.macs) == (NETS[name].params, NETS[name].macs)


@pytest.mark.parametrize("name", [name for name, net in NETS.items() if net.axes])
def test_a_pruned_model_costs_what_its_plan_says(name: str) -> None:
    model, inputs = NETS[name].make(), NETS[name].example()
    plan = secateur.plan(secateur.trace(model, inputs), "channels=0.7", importance="random")
    counted = count(secateur.cut_(model, plan), inputs)
    assert (counted.params, counted.macs) == (plan.after.params, plan.after.macs)


ZOO = ["resnet18", "mobilenet_v2", "vit_b_32"]


@pytest.mark.parametrize("name", ZOO)
def test_the_graph_predicts_the_count_of_torchvision_models(name: str) -> None:
    models: Any = pytest.importorskip("torchvision").models
    with torch.device("meta"):
        model = models.get_model(name, weights=None).eval()
    inputs = torch.zeros(1, 3, 224, 224)
    graph, counted = secateur.trace(model, inputs), count(model, inputs)
    assert (graph.params, graph.total_macs) == (counted.params, counted.macs)


def test_operations_are_those_of_pytorchs_counter() -> None:
    model, inputs = NETS["plain_cnn"].make(), NETS["plain_cnn"].example()
    with FlopCounterMode(display=False) as counter:
        model(*inputs)
    assert 2 * count(model, inputs).macs == counter.get_total_flops() > 0


def test_a_transposed_convolution_spends_by_input_element() -> None:
    counted = count(nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2), torch.zeros(2, 4, 5, 7))
    assert counted.macs == 2 * (5 * 7) * 4 * (6 // 2) * (3 * 3)


class OnlyReal(nn.Module):
    """A module whose forward looks at a value first, which meta tensors do not have."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, x: torch.Tensor, *args: Any) -> Any:
        assert x.abs().sum().item() >= 0
        return self.inner(x, *args)


SEQUENCE = torch.randn(2, 5, 8)
LAYERS: dict[str, tuple[nn.Module, tuple[torch.Tensor, ...], int]] = {
    "multihead attention": (
        nn.MultiheadAttention(8, 2, batch_first=True),
        (SEQUENCE, SEQUENCE, SEQUENCE),
        10 * (8 * 24 + 8 * 8) + 2 * (2 * 2 * 5 * 5 * 4),
    ),
    "encoder layer": (
        nn.TransformerEncoderLayer(8, 2, 16, batch_first=True),
        (SEQUENCE,),
        10 * (8 * 24 + 8 * 8 + 2 * 8 * 16) + 2 * (2 * 2 * 5 * 5 * 4),
    ),
    "lstm": (nn.LSTM(8, 3, batch_first=True, bidirectional=True), (SEQUENCE,), 10 * 2 * 4 * (8 * 3 + 3 * 3)),
    "gru": (nn.GRU(8, 3, batch_first=True), (SEQUENCE,), 10 * 3 * (8 * 3 + 3 * 3)),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("wrap", [nn.Sequential, OnlyReal])
def test_attention_and_recurrence_count_on_meta_and_on_real_tensors(name: str, wrap: Any) -> None:
    layer, inputs, macs = LAYERS[name]
    layer.eval()
    assert count(layer if wrap is nn.Sequential else wrap(layer), inputs).macs == macs


class Products(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = torch.mv(x[0], x[0, 0]) + torch.addmv(x[0, :, 0], x[0], x[0, 0])
        return y.sum() + torch.addbmm(x[0, :, :5], x, x.transpose(1, 2)).sum()


def test_products_that_pytorch_has_no_formula_for() -> None:
    assert count(Products(), SEQUENCE).macs == 2 * (5 * 8) + 2 * 5 * 8 * 5


class Twice(nn.Module):
    """Calls one layer twice, multiplies by itself, and never calls another."""

    def __init__(self) -> None:
        super().__init__()
        self.unused, self.layer = nn.Linear(9, 9), nn.Linear(4, 4)
        self.scale = nn.Parameter(torch.ones(4, 4))

    def forward(self, *, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"y": self.layer(self.layer(x)[:1]) @ self.scale}


def test_layers_have_names_shapes_and_work_of_their_own() -> None:
    layers = {layer.name: layer for layer in count(Twice(), {"x": torch.zeros(3, 4)}).layers}
    assert list(layers) == ["", "layer", "unused"]
    assert (layers[""].params, layers[""].macs, layers[""].input_shape, layers[""].output_shape) == (
        16,
        16,
        (3, 4),
        (1, 4),
    )
    assert (layers["layer"].macs, layers["layer"].input_shape) == (3 * 16 + 16, (3, 4))
    assert (layers["unused"].params, layers["unused"].macs, layers["unused"].input_shape) == (90, 0, None)


def test_shared_parameters_belong_to_the_first_that_holds_them() -> None:
    model = nn.Sequential(nn.Linear(4, 4, bias=False), nn.Linear(4, 4, bias=False))
    model[1].weight = model[0].weight
    counted = count(model, torch.zeros(1, 4))
    assert counted.params == 16
    assert [(layer.name, layer.params, layer.macs) for layer in counted.layers] == [("0", 16, 16), ("1", 0, 16)]


def test_the_table_lines_up() -> None:
    lines = str(count(Twice(), {"x": torch.zeros(3, 4)})).splitlines()
    assert len({line.index(end) + len(end) for line, end in zip(lines[:2], ("params", "16"), strict=True)}) == 1
    assert "(the model itself)" in lines[1]
    assert lines[3].split() == ["unused", "Linear", "-", "-", "90", "0"]
    assert lines[-1].split() == ["3", "layers", "126", "80"]


def test_as_dict_is_plain_data() -> None:
    data = json.loads(json.dumps(count(Twice(), {"x": torch.zeros(3, 4)}).as_dict()))
    assert (data["params"], data["macs"]) == (126, 80)
    assert data["layers"][1] == {
        "name": "layer",
        "type": "Linear",
        "input_shape": [3, 4],
        "output_shape": [3, 4],
        "params": 20,
        "macs": 64,
    }


class Busy(nn.Module):
    """Writes to buffers, caches tensors and draws random numbers; on real tensors only if asked."""

    def __init__(self, real: bool):
        super().__init__()
        self.real, self.bn, self.fc = real, nn.BatchNorm1d(4), nn.Linear(4, 4)
        self.register_buffer("calls", torch.zeros(1))
        self.cache: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert not self.real or x.sum().item() < 1e9
        self.calls += 1
        self.cache = self.bn(x) + torch.rand_like(x)
        return self.fc(self.cache)


@pytest.mark.parametrize("real", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_modes_hooks_buffers_caches_and_random_state_are_as_found(real: bool, training: bool) -> None:
    model = Busy(real).train()
    model.fc.eval()
    seen: list[int] = []
    model.fc.register_forward_hook(lambda *_: seen.append(1))
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    identities = {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    random = torch.random.get_rng_state()
    assert count(model, Call((torch.ones(2, 4),), training=training)).macs == 2 * 16
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert identities == {name: id(tensor) for name, tensor in model.state_dict(keep_vars=True).items()}
    assert torch.equal(random, torch.random.get_rng_state())
    assert (model.training, model.fc.training, model.cache) == (True, False, None)
    assert len(model.fc._forward_hooks) == 1
    assert not torch.nn.modules.module._global_forward_hooks
    assert torch.backends.mha.get_fastpath_enabled()


def test_inputs_that_the_model_refuses() -> None:
    model = NETS["plain_cnn"].make()
    parameters = [id(p) for p in model.parameters()]
    with pytest.raises(
        InputError, match=r"does not run on these example inputs: \(1, 4, 8, 8\) float32\nit says: Runtime"
    ):
        count(model, torch.zeros(1, 4, 8, 8))
    assert [id(p) for p in model.parameters()] == parameters
    assert not torch.nn.modules.module._global_forward_hooks


def test_what_is_no_model_or_no_input() -> None:
    with pytest.raises(InputError, match=r"model is an int, not a torch\.nn\.Module"):
        count(3, torch.zeros(1))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="example_inputs is an int: 3"):
        count(nn.Linear(2, 2), 3)
