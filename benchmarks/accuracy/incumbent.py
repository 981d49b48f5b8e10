"""Torch-Pruning 1.6.1 at a MACs target: each of its criteria, in each of its scopes.

Every score is computed once, by its own code on the dense model with the task's calibration data, and handed back to
its pruner for each scope and ratio. The ratio is the smallest of a grid whose model is at or below the target: its
`global` ranking is not monotone, since it leaves a layer whole in silence where all units of it are to go.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch_pruning as tp
from torch import Tensor, nn
from torch_pruning.pruner import importance as theirs

from .task import Task, run

SCOPES: dict[str, dict[str, Any]] = {
    "local": {},
    "global": {"global_pruning": True},
    "isomorphic": {"global_pruning": True, "isomorphic": True},  # without `global` it removes the wrong units
}
SLACK = {"local": 0.02, "global": 0.0, "isomorphic": 0.0}
"""MACs above the target, in its favour: `local` takes the same share of every layer, so its steps are coarse."""

GRID = 64
Scores = Mapping[str, Tensor]


@dataclass(frozen=True, slots=True)
class Criterion:
    """`make` gives its importance; `feed` shows it the calibration data. Where each layer is ranked alone (`local`),
    another normalisation is another name for the same choice.
    """

    make: Callable[[], Any]
    feed: Callable[[Task, nn.Module, Any], None] | None = None
    scopes: tuple[str, ...] = tuple(SCOPES)


def _gradients(task: Task, model: nn.Module, importance: Any) -> None:
    """Compute the gradient of the loss as in its examples, here over all calibration batches."""
    model.zero_grad()
    for inputs, targets in task.batches:
        task.loss(run(model, inputs), targets).backward()


def _per_example(task: Task, model: nn.Module, importance: Any) -> None:
    """Compute one gradient per example, as in its docstring."""
    for inputs, targets in task.batches[:HESSIAN_BATCHES]:
        for i in range(len(targets)):
            one = {k: v[i : i + 1] for k, v in inputs.items()} if isinstance(inputs, Mapping) else inputs[i : i + 1]
            model.zero_grad()
            task.loss(run(model, one), targets[i : i + 1]).backward()
            importance.accumulate_grad(model)


HESSIAN_BATCHES = 1
"""It keeps the squared gradients of the last example only, so more examples would change nothing."""


def _fisher(task: Task, model: nn.Module, importance: Any) -> None:
    """Step after every backward pass with sampled labels, as in its benchmark.

    The hooks are those of its `_prepare_model`, which in 1.6.1 itself fails on every model without attention.
    """
    hooks = []
    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            importance.modules.append(module)
            hooks.append(module.register_forward_pre_hook(importance._save_input))
            hooks.append(module.register_full_backward_hook(importance._save_grad_output))
    for inputs, _ in task.batches:
        outputs = run(model, inputs)
        sampled = torch.multinomial(outputs.detach().softmax(1), 1).flatten()
        model.zero_grad()
        task.loss(outputs, sampled).backward()
        importance.step()
    for hook in hooks:
        hook.remove()


def _activations(task: Task, model: nn.Module, importance: Any) -> None:
    """Run all examples in one forward pass, because it keeps the last one only."""
    kinds = [inputs for inputs, _ in task.batches]
    with importance.compute_importance(model), torch.no_grad():
        run(model, _joined(kinds))


def _joined(inputs: list[Any]) -> Any:
    if isinstance(inputs[0], Mapping):
        return {key: torch.cat([i[key] for i in inputs]) for key in inputs[0]}
    return torch.cat(inputs)


_magnitude: Any = theirs.GroupMagnitudeImportance
_taylor: Any = theirs.GroupTaylorImportance
_slimming: Any = theirs.BNScaleImportance
_ACROSS = ("global", "isomorphic")
CRITERIA: dict[str, Criterion] = {
    "l1": Criterion(lambda: _magnitude(p=1)),
    "l2": Criterion(lambda: _magnitude(p=2)),
    "l2 raw": Criterion(lambda: _magnitude(p=2, normalizer=None), scopes=_ACROSS),
    "l1 first layer": Criterion(lambda: _magnitude(p=1, normalizer=None, group_reduction="first")),
    "l2 max": Criterion(lambda: _magnitude(p=2, normalizer="max"), scopes=_ACROSS),
    "bn scale": Criterion(theirs.BNScaleImportance),
    "bn scale raw": Criterion(lambda: _slimming(normalizer=None), scopes=_ACROSS),
    "lamp": Criterion(theirs.LAMPImportance),
    "fpgm": Criterion(theirs.FPGMImportance),
    "random": Criterion(theirs.RandomImportance),
    "taylor": Criterion(theirs.GroupTaylorImportance, _gradients),
    "taylor raw": Criterion(lambda: _taylor(normalizer=None), _gradients, _ACROSS),
    "taylor multivariable": Criterion(lambda: theirs.GroupTaylorImportance(multivariable=True), _gradients),
    "hessian": Criterion(theirs.GroupHessianImportance, _per_example),
    "obd-c": Criterion(lambda: theirs.OBDCImportance(num_classes=-1), _fisher),
    "activation": Criterion(theirs.ActivationImportance, _activations),
}


def scores(task: Task, name: str, widths: str) -> Scores:
    """Return its scores of the units of every group of a copy of the dense model, by the group's first layer."""
    torch.manual_seed(task.seed)
    criterion, model = CRITERIA[name], copy.deepcopy(task.model).eval()
    importance = criterion.make()
    if criterion.feed is not None:
        criterion.feed(task, model, importance)
    names = {module: name for name, module in model.named_modules()}
    found: dict[str, Tensor] = {}

    def asked(group: Any) -> Tensor | None:
        given = importance(group)
        if given is not None:
            found[_key(group, names)] = given.detach()
        return given

    for _ in _pruner(task, model, asked, 0.5, "local", widths).step(interactive=True):
        pass  # its groups, none of them cut
    return found


def _key(group: Any, names: Mapping[nn.Module, str]) -> str:
    return names[group[0].dep.target.module]


def _pruner(task: Task, model: nn.Module, importance: Any, ratio: float, scope: str, widths: str) -> Any:
    """Return every hint explicitly: its defaults are mutable and shared between pruners."""
    heads = {model.get_submodule(name): count for name, count in task.hints.heads.items()}
    example: Any = task.example
    hints: dict[str, Any] = {
        "pruning_ratio": ratio,
        "ignored_layers": [model.get_submodule(name) for name in task.hints.ignored[widths]],
        "in_channel_groups": {},
        "out_channel_groups": {},
        "num_heads": heads,
        "prune_num_heads": bool(heads),
        "prune_head_dims": not heads,
        "head_pruning_ratio": ratio if heads else 0.0,
        "output_transform": (lambda out: out.last_hidden_state.sum()) if isinstance(task.example, Mapping) else None,
    }
    return tp.pruner.BasePruner(model, example, importance=importance, **hints, **SCOPES[scope])


def cut(task: Task, ready: Scores, scope: str, widths: str, ratio: float) -> nn.Module:
    """Return a copy of the dense model without `ratio` of its units."""
    model = copy.deepcopy(task.model).eval()
    names = {module: name for name, module in model.named_modules()}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = _pruner(task, model, lambda group: ready.get(_key(group, names)), ratio, scope, widths)
        pruner.step()
    if task.hints.repair is not None:
        task.hints.repair(model, {names[module]: count for module, count in pruner.num_heads.items()})
    return model.eval()


def fitted(task: Task, ready: Scores, scope: str, widths: str, share: float) -> tuple[nn.Module, float]:
    """Return the model with the most MACs at or below `share` of dense that a ratio reaches, and that ratio.

    Raises `ValueError` if no ratio reaches it.
    """
    if not task.by_macs:
        return cut(task, ready, scope, widths, 1 - share), 1 - share
    limit = share * task.macs(task.model) * (1 + SLACK[scope])
    for ratio in _candidates(task, ready, scope, widths, limit):
        model = cut(task, ready, scope, widths, ratio)
        if task.macs(model) <= limit:
            return model, ratio
    raise ValueError(f"no ratio of {scope} gives {share:.0%} of the MACs")


def _candidates(task: Task, ready: Scores, scope: str, widths: str, limit: float) -> Iterator[float]:
    """At most ten halvings, as if MACs fell with the ratio; then a grid, where they did not lead there."""
    low, high = 0.0, 1.0
    for _ in range(10):
        middle = (low + high) / 2
        macs = task.macs(cut(task, ready, scope, widths, middle))
        low, high = (low, middle) if macs <= limit else (middle, high)
        if 0.997 * limit <= macs <= limit:
            break
    yield high
    yield from (i / GRID for i in range(1, GRID))
