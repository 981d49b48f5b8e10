"""`check_criterion`: check that a criterion obeys the laws of criteria.

1. It returns one finite number, not negative, for each unit.
2. It returns the same numbers when it is called again.
3. It does not change the model: parameters, gradients, modes, random state.
4. Permuted units have permuted scores.
5. A unit whose slices are all zero has the lowest score.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.anatomy.calls import Call
from secateur.base.nested import tensors_in
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.graph.units import positions_by_unit, shape_of
from secateur.importance import Criterion, score
from secateur.proof.silencing import orders
from secateur.proof.verify import permutation_of
from secateur.pruning import calibrated
from secateur.trace.tracing import trace

Loss = Callable[[Any, Any], Tensor]
TOLERANCE = 1e-6


def check_criterion(
    importance: str | Criterion,
    model: nn.Module | None = None,
    example_inputs: Any = None,
    *,
    loss: Loss | None = None,
    ordered: bool = True,
    lowest: bool = True,
) -> None:
    """Check that a criterion obeys five laws, on a small network or on `model`, in float64.

    The laws: (1) one finite number, not negative, for each unit; (2) the same numbers when called again; (3) the model
    and the random state do not change; (4) permuted units have permuted scores; (5) a unit of zeros scores lowest. A
    criterion that needs data is calibrated on the example inputs with noise.

    Args:
        importance: A criterion, or the name of one.
        model: The model to score. Default: None, a small convolutional network.
        example_inputs: The inputs of `model`.
        loss: A function (output, targets) -> scalar; targets are None. Default: None, the mean of squared outputs.
        ordered: Whether to check law 4; False for criteria that draw random numbers. Default: True.
        lowest: Whether to check law 5; False for criteria that do not measure how much a unit contributes. Default:
            True.

    Raises:
        AssertionError: A law does not hold; the message names the law and the axis.

    Example:
        >>> check_criterion(lambda axis: axis.power_sum("output", 2))
        >>> check_criterion(lambda axis: -axis.power_sum("output", 2))
        Traceback (most recent call last):
            ...
        AssertionError: law 1: a score of 'conv1' is negative: ...
    """
    if model is None:
        model, example_inputs = _small_net(), torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    subject = _Subject(importance, Call.of(example_inputs).map(_doubled), loss or _mean_square)
    model = copy.deepcopy(model).double().eval()
    graph = subject.traced(model)
    scores = _checked_alone(subject, graph)
    if ordered:
        _check_order(subject, graph, scores)
    for axis in graph.axes if lowest else ():
        _check_lowest(subject, graph, axis)


def _small_net() -> nn.Module:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv1, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
            self.conv2, self.conv3 = nn.Conv2d(8, 6, 3, padding=1), nn.Conv2d(6, 8, 1)
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.norm(self.conv1(x)).relu()
            x = x + self.conv3(nn.functional.gelu(self.conv2(x)))
            return self.head(x.relu().mean((2, 3)))

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Net()


class _Subject:
    """A criterion, and the data that it is calibrated on."""

    def __init__(self, importance: str | Criterion, call: Call, loss: Loss):
        self._importance, self._call, self._loss = importance, call, loss
        generator = torch.Generator().manual_seed(1)
        self._data = [(call.map(lambda t: _noisy(t, generator)), None) for _ in range(2)]

    def traced(self, model: nn.Module) -> Graph:
        return trace(model, self._call)

    def scores(self, graph: Graph) -> dict[str, Tensor]:
        return score(graph, self._importance, statistics=calibrated(graph, self._importance, self._data, self._loss))


def _checked_alone(subject: _Subject, graph: Graph) -> dict[str, Tensor]:
    """Check laws 1 to 3, and return the scores."""
    before, random = _state(graph.model), torch.get_rng_state()
    scores, again = subject.scores(graph), subject.scores(graph)
    for axis in graph.axes:
        found = scores[axis.name]
        assert found.shape == shape_of(axis), f"law 1: {axis.name!r} has scores of shape {tuple(found.shape)}"
        assert bool(torch.isfinite(found).all()), f"law 1: a score of {axis.name!r} is not finite"
        assert bool((found >= 0).all()), f"law 1: a score of {axis.name!r} is negative: {float(found.min()):.3g}"
        assert torch.equal(found, again[axis.name]), f"law 2: {axis.name!r} has other scores the second time"
    changed = [name for name, value in _state(graph.model).items() if value != before[name]]
    assert not changed, f"law 3: scoring changed {', '.join(changed[:5])}"
    assert torch.equal(torch.get_rng_state(), random), "law 3: scoring drew from the global random state"
    return scores


def _state(model: nn.Module) -> dict[str, Any]:
    held = model.state_dict(keep_vars=True).items()
    tensors = {name: (id(t), t._version, t.grad, t.detach().cpu().numpy().tobytes()) for name, t in held}
    return {**tensors, **{f"the mode of {name or 'the model'}": m.training for name, m in model.named_modules()}}


def _check_order(subject: _Subject, graph: Graph, scores: Mapping[str, Tensor]) -> None:
    """Check law 4."""
    moved = subject.scores(subject.traced(permutation_of(graph.model, graph)))
    for axis in graph.axes:
        expected, found = scores[axis.name], moved[axis.name]
        if axis.outer is None:
            expected = expected[list(orders(graph)[axis.name])]
        else:  # its outer units change places too
            expected, found = expected.sort(-1).values.sort(0).values, found.sort(-1).values.sort(0).values
        largest = max(float(expected.abs().max()), 1e-300)
        wrong = float((found - expected).abs().max()) / largest
        assert wrong < TOLERANCE, f"law 4: permuted units of {axis.name!r} have other scores, by {wrong:.1e}"


def _check_lowest(subject: _Subject, graph: Graph, axis: PrunableAxis, unit: int = 1) -> None:
    """Check law 5."""
    model = copy.deepcopy(graph.model)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for use in axis.sites:
            if use.name in parameters:
                at = positions_by_unit(graph.sites[use.name].dims[use.dim], axis.term)
                gone = at.view(*shape_of(axis), -1)[..., unit, :].flatten()
                parameters[use.name].index_fill_(use.dim, gone, 0.0)
    found = subject.scores(subject.traced(model))[axis.name]
    lowest = bool((found[..., unit] <= found.amin(-1) + TOLERANCE * found.abs().max()).all())
    assert lowest, (
        f"law 5: a unit of zeros scores {found[..., unit].max():.3g} in {axis.name!r}, others {found.min():.3g}"
    )


def _doubled(tensor: Tensor) -> Tensor:
    return tensor.double() if tensor.is_floating_point() else tensor


def _noisy(tensor: Tensor, generator: torch.Generator) -> Tensor:
    noise = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
    return tensor + noise.to(tensor) if tensor.is_floating_point() else tensor


def _mean_square(output: Any, targets: Any) -> Tensor:
    found = [t.square().mean() for t in tensors_in(output) if t.is_floating_point()]
    return torch.stack(found).sum()
