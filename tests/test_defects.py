"""What the incumbent gets wrong, one named test each (numbers as in the list that the design keeps)."""

from __future__ import annotations

import copy
import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import laws
import secateur
from nets import NETS
from secateur.apply.tensors import Cutter
from secateur.statistics.calibration import calibrate
from secateur.train.penalties import GroupLasso, GrowingL2


def cut_and_verified(model: nn.Module, inputs: object, target: str = "channels=0.5") -> secateur.Pruned:
    result = secateur.prune(laws.randomized(model), inputs, target, importance="random", verify=True)
    assert result.verification is not None
    assert result.verification.passed
    return result


@pytest.mark.parametrize("share", ["0.3", "0.2", "0.1"])
def test_01_layer_norm_weights_keep_their_order(share: str) -> None:
    net = nn.Sequential(nn.Linear(8, 64), nn.LayerNorm(64), nn.Linear(64, 8))
    result = cut_and_verified(net, torch.randn(2, 8), f"channels={share}")
    kept = list(result.plan.axes["0"].kept or ())
    assert kept == sorted(kept)
    assert torch.equal(result.model[1].weight, net[1].weight[kept])


@pytest.mark.parametrize("name", ["channel_shuffle", "windows"])
def test_02_views_and_transposes_map_units_rightly(name: str) -> None:
    cut_and_verified(NETS[name].make(), NETS[name].example())


class ChannelsLastFlatten(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = nn.Conv2d(3, 8, 3), nn.Linear(8 * 36, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.conv(x).permute(0, 2, 3, 1).flatten(1))


def test_02_flatten_of_channels_last() -> None:
    result = cut_and_verified(ChannelsLastFlatten(), torch.randn(1, 3, 8, 8))
    assert result.model.fc.in_features == 4 * 36


@pytest.mark.parametrize("name", ["channel_shuffle", "c2f", "gated", "ibnorm", "attention"])
def test_03_split_and_chunk_survive_a_second_step(name: str) -> None:
    once = cut_and_verified(NETS[name].make(), NETS[name].example(), "channels=0.7")
    twice = secateur.prune(once.model, NETS[name].example(), "channels=0.7", importance="random", verify=True)
    assert twice.plan.before == once.plan.after


def test_04_chunk_append_cat() -> None:
    result = cut_and_verified(NETS["c2f"].make(), NETS["c2f"].example())
    assert result.plan.after.params < result.plan.before.params


@pytest.mark.parametrize("name", ["grouped_queries", "attention", "attention_by_hand", "multihead"])
def test_05_heads_need_no_declaration(name: str) -> None:
    result = cut_and_verified(NETS[name].make(), NETS[name].example())
    assert not result.plan.is_empty


@pytest.mark.parametrize("target", ["channels=0.5", "params=0.5", "macs=0.5"])
def test_06_floors_and_alignment_hold(target: str) -> None:
    net = nn.Sequential(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.Conv2d(64, 8, 1))
    select = secateur.Select(floor=0.25, align=8)
    plan = secateur.plan(secateur.trace(net, torch.zeros(1, 3, 8, 8)), target, select=select)
    for axis in plan.axes.values():
        assert axis.kept_count >= axis.size // 4
        assert axis.kept_count % 8 == 0


def test_07_a_plan_replays_after_a_partial_cut(tmp_path: Path) -> None:
    model = NETS["residual"].make()
    twice = copy.deepcopy(model)
    for seed in range(2):
        secateur.cut_(twice, secateur.prune(twice, NETS["residual"].example(), "channels=0.8", seed=seed).plan)
    secateur.save(twice, tmp_path / "twice.safetensors")
    again = secateur.load(NETS["residual"].make(), tmp_path / "twice.safetensors")
    inputs = NETS["residual"].example()
    assert torch.equal(again(*inputs), twice(*inputs))


def test_08_duplicate_units_count_once() -> None:
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3))
    result = secateur.prune(net, torch.zeros(1, 3, 8, 8), drop={"0": [2, 2, 5, 5, 5]}, verify=True)
    assert result.model[0].out_channels == result.model[0].weight.shape[0] == result.model[1].in_channels == 6


def test_09_nothing_is_shared_between_two_calls() -> None:
    for function in (secateur.trace, secateur.plan, secateur.prune, secateur.verify, secateur.Select):
        for parameter in inspect.signature(function).parameters.values():
            assert not isinstance(parameter.default, (list, dict, set))
    first, second = secateur.Select(), secateur.Select()
    assert first.widths is not second.widths


@pytest.mark.parametrize("importance", ["hessian", "obd", "fisher", "taylor"])
def test_10_every_sample_counts(importance: str) -> None:
    graph = secateur.trace(NETS["plain_cnn"].make(), NETS["plain_cnn"].example())
    x, y = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([1, 3])

    def scores(*samples: int) -> torch.Tensor:
        batches = [(x[list(samples)], y[list(samples)])]
        needs = secateur.importance.needs_of_importance(importance)
        statistics = calibrate(graph, batches, needs=needs, loss=F.cross_entropy)
        return secateur.importance.score(graph, importance, statistics=statistics)["conv1"]

    torch.testing.assert_close(scores(0, 1), scores(1, 0), rtol=1e-3, atol=1e-7)
    assert not torch.allclose(scores(0, 1), scores(1, 1), rtol=1e-2)


@pytest.mark.parametrize("importance", ["taylor", "taylor_batch", "fisher"])
def test_11_taylor_sees_batch_norm(importance: str) -> None:
    """Weights that a norm divides away change nothing; a scale of zero silences a unit, whatever its weights."""
    net = NETS["plain_cnn"].make()
    batches = [(torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 5)]

    def measured() -> torch.Tensor:
        graph = secateur.trace(net, NETS["plain_cnn"].example())
        statistics = calibrate(graph, batches, needs=["gates"], loss=F.cross_entropy)
        return secateur.importance.score(graph, importance, statistics=statistics)["conv1"]

    before = measured()
    with torch.no_grad():
        for tensor in (net.conv1.weight, net.conv1.bias, net.bn.running_mean):
            tensor[2] *= 4
        net.bn.running_var[2] = (net.bn.running_var[2] + net.bn.eps) * 16 - net.bn.eps
    torch.testing.assert_close(measured(), before, rtol=1e-3, atol=1e-6)
    with torch.no_grad():
        net.bn.weight[2] = net.bn.bias[2] = 0.0
    assert float(measured()[2]) == 0.0 < float(before[2])


def test_12_growing_regularisation_reaches_the_gradient() -> None:
    """All of a dropped unit is pulled, in every parameter and in `.grad` itself, ever harder, and nothing else."""
    net = NETS["plain_cnn"].make()
    graph = secateur.trace(net, NETS["plain_cnn"].example())
    plan = secateur.plan(graph, drop={"conv1": [2, 5]})
    penalty = GrowingL2(graph, plan, delta=0.5, every=1)
    for strength in (0.5, 1.0):
        net.zero_grad()
        penalty.add_gradients_()
        for weight, dim in ((net.conv1.weight, 0), (net.conv1.bias, 0), (net.bn.weight, 0), (net.conv2.weight, 1)):
            units, gradients = weight.movedim(dim, 0), weight.grad.movedim(dim, 0)
            torch.testing.assert_close(gradients[[2, 5]], strength * units[[2, 5]])
            assert not gradients[[0, 1, 3, 4, 6, 7]].any()
        assert net.fc.weight.grad is None


@pytest.mark.parametrize("protected", ["conv1", "fc"])
def test_13_a_group_penalty_leaves_ignored_layers_alone(protected: str) -> None:
    net = NETS["plain_cnn"].make()
    graph = secateur.trace(net, NETS["plain_cnn"].example())
    GroupLasso(graph, 0.1, select=secateur.Select(protect=protected)).add_gradients_()
    assert all(p.grad is None for p in net.get_submodule(protected).parameters())
    assert bool(net.conv2.weight.grad.any())
    assert net.fc.bias.grad is None  # classes are never cut


def test_14_an_image_is_one_argument() -> None:
    seen: list[tuple[int, ...]] = []

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)

        def forward(self, *images: torch.Tensor) -> torch.Tensor:
            seen.append(tuple(len(image.shape) for image in images))
            return self.b(self.a(images[0]))

    secateur.trace(Net(), torch.zeros(1, 3, 8, 8))
    assert set(seen) == {(4,)}


@pytest.mark.parametrize("function", [secateur.cut, secateur.cut_])
def test_15_an_error_leaves_the_model_whole(function: object, monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 2))
    plan = secateur.plan(secateur.trace(net, torch.zeros(1, 4)), "channels=0.5")
    before = {name: (id(p), p.shape) for name, p in net.named_parameters()}
    calls = iter([None, None, RuntimeError("out of memory")])
    real = Cutter.sliced

    def failing(*args: object) -> object:
        if error := next(calls):
            raise error
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(Cutter, "sliced", failing)
    with pytest.raises(RuntimeError, match="out of memory"):
        function(net, plan)  # type: ignore[operator]
    assert before == {name: (id(p), p.shape) for name, p in net.named_parameters()}
    assert net[0].out_features == net[2].in_features == 8


def test_slow_imports_stay_out() -> None:
    heavy = ("torchvision", "timm", "onnx", "matplotlib", "pandas", "sympy", "typer")
    code = f"import torch, sys; b = {{*sys.modules}}; import secateur; print({{*{heavy!r}}} & {{*sys.modules}} - b)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "set()"
