"""What recovery promises, over networks of every kind."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import secateur
from secateur.apply.ready import plans_of
from secateur.graph.graph import Graph
from secateur.plan.plan import Plan
from secateur.recover import STEPS, LeastSquares, MeanShift, recover_
from secateur.recover.layerwise import Layerwise
from secateur.statistics.calibration import calibrate
from secateur.statistics.sums import Statistics


class Residual(nn.Module):
    """A residual block with batch norms; the sum is written in place where asked for, from either side."""

    def __init__(self, way: str = "plain"):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a, self.na = nn.Conv2d(8, 12, 3, padding=1, bias=False), nn.BatchNorm2d(12)
        self.b, self.nb = nn.Conv2d(12, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8)
        self.side = nn.Conv2d(8, 8, 1) if way == "side" else nn.Identity()
        self.head = nn.Linear(8, 4)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem(x))
        y = self.nb(self.b(F.relu(self.na(self.a(x)))))
        x = self.side(x)
        if self.way == "over":
            y += x
        elif self.way == "under":
            x = x.clone()
            x += y
            y = x
        else:
            y = x + y
        return self.head(F.relu(y).mean((2, 3)))


class Product(nn.Module):
    """Weights that are parameters of no layer, and a functional call by keywords."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(6, 24) / 3)
        self.second = nn.Parameter(torch.randn(10, 24) / 5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(input=F.gelu(x @ self.first), weight=self.second)


def sequence() -> nn.Module:
    layer = nn.TransformerEncoderLayer(16, 4, 32, dropout=0.0, batch_first=True)
    return nn.Sequential(
        nn.Linear(5, 16), nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(16, 3)
    )


class Routed(nn.Module):
    """Values decide which of two ways a batch goes, and which rows a third layer reads."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.a, self.b = nn.Linear(6, 24), nn.Linear(24, 12), nn.Linear(24, 12)
        self.some, self.head = nn.Linear(12, 12), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        h = F.relu(self.stem(x))
        h = F.relu(self.a(h) if bool(x[0, 0] > 0) else self.b(h))
        chosen = h.sum(1) > h.sum(1).mean()
        return self.head(h.index_put((chosen.nonzero()[:, 0],), self.some(h[chosen])))


def image(*layers: nn.Module) -> nn.Module:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(4))


@dataclass(frozen=True)
class Case:
    make: Callable[[], nn.Module]
    shape: tuple[int, ...]


IMAGE = (3, 10, 10)
CASES = {
    "mlp": Case(lambda: nn.Sequential(nn.Linear(6, 32, bias=False), nn.ReLU(), nn.Linear(32, 4, bias=False)), (6,)),
    "product": Case(Product, (6,)),
    "plain": Case(Residual, IMAGE),
    "over": Case(lambda: Residual("over"), IMAGE),
    "under": Case(lambda: Residual("under"), IMAGE),
    "side": Case(lambda: Residual("side"), IMAGE),
    "grouped": Case(
        lambda: image(
            nn.Conv2d(3, 16, 3), nn.ReLU(), nn.Conv2d(16, 24, 3, groups=4, padding="same", dilation=2), nn.ReLU()
        ),
        IMAGE,
    ),
    "depthwise": Case(
        lambda: image(
            nn.Conv2d(3, 16, 1),
            nn.ReLU6(),
            nn.Conv2d(16, 16, 3, 2, 1, groups=16),
            nn.ReLU6(),
            nn.Conv2d(16, 8, 1, bias=False),
            nn.BatchNorm2d(8),
        ),
        IMAGE,
    ),
    "volume": Case(lambda: nn.Sequential(nn.Conv3d(2, 8, 2), nn.ReLU(), nn.Conv3d(8, 3, 2, bias=False)), (2, 4, 4, 4)),
    "upwards": Case(
        lambda: nn.Sequential(
            nn.Conv1d(3, 16, 3), nn.ReLU(), nn.ConvTranspose1d(16, 8, 2, 2), nn.ReLU(), nn.Conv1d(8, 3, 3)
        ),
        (3, 12),
    ),
    "sequence": Case(sequence, (7, 5)),
    "routed": Case(Routed, (6,)),
}


@dataclass(frozen=True)
class Setting:
    """A network that was traced and calibrated, a plan for it, and data."""

    graph: Graph
    plan: Plan
    data: list[Tensor]
    statistics: Statistics

    def cut(self) -> nn.Module:
        return secateur.cut(self.graph.model, self.plan).eval()

    def recovered(self, step: Any) -> tuple[nn.Module, Plan]:
        model = self.cut()
        return model, recover_(model, self.graph, self.plan, self.data, step, statistics=self.statistics)

    def error(self, model: nn.Module) -> float:
        with torch.no_grad():
            pairs = [(model(x), self.graph.model(x)) for x in self.data]
        return float(sum((a - b).square().sum() for a, b in pairs) / sum(b.square().sum() for _, b in pairs))


def setting(name: str, target: str = "channels=0.6") -> Setting:
    torch.manual_seed(0)
    case = CASES[name]
    model = case.make().eval()
    data = [torch.randn(16, *case.shape) for _ in range(3)]
    model(data[0])
    graph = secateur.trace(model, data[0][:1], calls=[-data[0][:1]])  # both ways, where values decide
    found = calibrate(graph, data, needs=["moments", "gram"])
    return Setting(graph, secateur.plan(graph, target), data, found)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("step", ["lsq", "lsq_moments", "shift"])
def test_the_outputs_come_nearer_to_those_of_the_dense_model(name: str, step: str) -> None:
    s = setting(name)
    model, plan = s.recovered(step)
    share = {"lsq": 0.7, "lsq_moments": 0.95, "shift": 0.999 if name != "product" else 1.01}  # no place for a constant
    assert s.error(model) < share[step] * s.error(s.cut())
    assert [r.step for r in plan.recovery] == [step]


@pytest.mark.parametrize("name", CASES)
def test_a_recovered_model_is_saved_and_loaded(name: str, tmp_path: Any) -> None:
    s = setting(name)
    model, plan = s.recovered(["shift", "lsq"])
    secateur.save(model, tmp_path / "small.safetensors")
    fresh = CASES[name].make().eval()
    fresh(s.data[0])
    again = secateur.load(fresh, tmp_path / "small.safetensors")
    assert torch.equal(again(s.data[0]), model(s.data[0]))
    assert plans_of(again) == (plan,)
    assert plan.after.params == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", ["mlp", "product", "plain", "over", "side", "grouped", "volume"])
def test_units_that_others_can_replace_are_not_missed(name: str) -> None:
    """Each even unit of the first prunable axis repeats the one before it; least squares finds the missing weight."""
    s = setting(name)
    axis = s.graph.axes[0] if name not in ("plain", "over", "side") else s.graph.axis("a")
    repeated = secateur.cut(s.graph.model, _repeating(s.graph, axis.name)).eval()
    graph = secateur.trace(repeated, s.data[0][:1])
    plan = secateur.plan(graph, drop={axis.name: list(range(1, axis.size, 2))})
    small = secateur.cut(repeated, plan).eval()
    found = calibrate(graph, s.data, needs=["gram"])
    before = _distance(small, repeated, s.data)
    recover_(small, graph, plan, s.data, LeastSquares(places=500), statistics=found)
    assert before > 1e-2
    assert _distance(small, repeated, s.data) < 1e-4


def _repeating(graph: Graph, name: str) -> Plan:
    """A plan that keeps every even unit of an axis twice."""
    from dataclasses import replace

    plan = secateur.plan(graph, select=secateur.Select(widths={name: graph.axis(name).size}))
    axis = plan.axes[name]
    kept = tuple(unit - unit % 2 for unit in range(axis.size))
    return replace(plan, axes={**plan.axes, name: replace(axis, kept=kept)})


def _distance(a: nn.Module, b: nn.Module, data: list[Tensor]) -> float:
    with torch.no_grad():
        return max(float((a(x) - b(x)).norm() / b(x).norm()) for x in data)


@pytest.mark.parametrize("step", STEPS)
def test_the_dense_model_is_only_read(step: str) -> None:
    s = setting("plain")
    s.graph.model.train()
    before = copy.deepcopy(s.graph.model.state_dict())
    state = torch.get_rng_state()
    s.recovered(step)
    assert all(torch.equal(before[name], value) for name, value in s.graph.model.state_dict().items())
    assert all(module.training for module in s.graph.model.modules())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in s.graph.model.parameters())


def test_norms_are_those_of_the_calibration_data() -> None:
    s = setting("plain")
    model, _ = s.recovered("norms")
    whole = copy.deepcopy(s.cut())
    whole.na.train()  # type: ignore[union-attr]
    whole.na.momentum = 1.0  # type: ignore[union-attr]
    whole(torch.cat(s.data))
    torch.testing.assert_close(model.na.running_mean, whole.na.running_mean)  # type: ignore[union-attr]
    assert model.na.momentum == 0.1
    assert not model.na.training


@pytest.mark.parametrize("depth", [2, 8])
def test_layers_run_once_in_each_model_and_batch_whatever_the_depth(
    depth: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(12, 12), nn.ReLU()) for _ in range(depth)), nn.Linear(12, 2)).eval()
    data = [torch.randn(8, 12) for _ in range(3)]
    graph = secateur.trace(model, data[0][:1])
    plan = secateur.plan(graph, "channels=0.5")
    small = secateur.cut(model, plan).eval()
    runs: list[str] = []
    original = Layerwise.run

    def run(self: Layerwise) -> Any:
        for net in (model, small):
            net[depth].register_forward_hook(lambda *_: runs.append("run"))
        return original(self)

    monkeypatch.setattr(Layerwise, "run", run)
    recover_(small, graph, plan, data)
    assert len(runs) == 2 * len(data)


def test_layers_without_a_bias_get_one_only_where_they_may(tmp_path: Any) -> None:
    s = setting("mlp")
    _, plan = s.recovered("lsq")
    assert [added.name for added in plan.added] == ["2.bias"]
    model, plain = s.recovered([MeanShift(add_bias=False), LeastSquares(add_bias=False)])
    assert plain.added == ()
    assert model[2].bias is None


def test_a_norm_behind_a_layer_takes_the_constant() -> None:
    s = setting("plain")
    model, plan = s.recovered("lsq")
    assert plan.added == ()
    assert not torch.equal(model.nb.running_mean, s.cut().nb.running_mean)


def test_weights_stay_where_least_squares_would_not_help(monkeypatch: pytest.MonkeyPatch) -> None:
    import secateur.recover.layerwise as layerwise

    s = setting("mlp")
    monkeypatch.setattr(layerwise, "solved", lambda rows, start, constant: (torch.zeros_like(start), 1.0))
    monkeypatch.setattr(layerwise, "matrix_of", lambda *args: layerwise_matrix(*args) * 100)
    from secateur.graph.consumers import matrix_of as layerwise_matrix

    model, plan = s.recovered("lsq")
    assert plan.recovery[0].options["weights"] == 0
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), s.cut().parameters(), strict=True))


def test_a_step_that_fails_leaves_the_model_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    s = setting("mlp")
    model = s.cut()
    before, plans = copy.deepcopy(model.state_dict()), plans_of(model)

    def fail(self: Any, task: Any) -> Any:
        task.model[2].weight.data.zero_()
        raise RuntimeError("no memory")

    monkeypatch.setattr(STEPS["norms"], "__call__", fail)
    with pytest.raises(RuntimeError, match="no memory"):
        recover_(model, s.graph, s.plan, s.data, ["lsq", "norms"])
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert plans_of(model) == plans
    assert model[2].bias is None


@pytest.mark.parametrize(
    ("recover", "data", "message"),
    [
        ("lsqq", [torch.ones(4, 6)], "unknown recovery step 'lsqq'; did you mean 'lsq'.*\nknown: norms, shift, lsq"),
        (3, [torch.ones(4, 6)], "recover=3"),
        ("shift", [torch.ones(4, 6)], "the recovery step 'shift' needs 'moments'\ngive statistics="),
        ("lsq", [], "data contains no batches"),
    ],
)
def test_what_cannot_be_recovered(recover: Any, data: list[Tensor], message: str) -> None:
    s = setting("mlp")
    with pytest.raises(secateur.InputError, match=message):
        recover_(s.cut(), s.graph, s.plan, data, recover)
