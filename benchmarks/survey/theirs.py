"""Torch-Pruning 1.6.1 on a model of the zoo, with the hints that its users pass, checked like secateur.

To find the kept positions, every parameter is overwritten with the indices of its elements after the graph is built.
After the cut, the random weights of the original are written into the remaining positions. As in law 1, the cut model
must compute what the original computes with the dropped slices of every parameter and buffer zeroed; a mean or variance
over units reads the kept ones only, if our trace knows the units.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

import secateur
import zoo
from secateur.anatomy.calls import Call
from secateur.base.nested import tensors_in
from secateur.graph.graph import Graph
from secateur.proof.replay import default_float64, run
from secateur.terms import Axis, Term, axes, find, positions
from secateur.trace.tracing import trace_calls

from . import hints
from .common import KEPT, distance, params_of, subject
from .pool import OutOfTime, limited, told

RATIO = 1 - KEPT
LIMIT = 60.0
Kept = dict[str, list[list[int]]]


def pruner(model: nn.Module, call: Call, known: hints.Known, entry: zoo.Entry, importance: Any) -> Any:
    """Return the pruner of Torch-Pruning, with its graph built; its `step()` prunes `model` in place."""
    import torch_pruning as tp

    hints.prepare(model)
    view = entry.raw(model) if entry.raw else model

    return tp.pruner.BasePruner(
        view,
        call.args,
        importance=importance,
        pruning_ratio=RATIO,
        forward_fn=lambda twin, _: twin(*call.args, **call.kwargs),
        output_transform=_summed,
        **known.on(model).arguments(RATIO),
    )


def _summed(outputs: Any) -> torch.Tensor:
    """Return the sum of all outputs, as in its transformers examples."""
    return sum(t.sum() for t in tensors_in(outputs) if t.is_floating_point())  # type: ignore[return-value]


def examine(name: str) -> dict[str, Any]:
    """Return the results of one model.

    verdict: right, wrong, no run (the cut model does not run forward), crash, over 60 s, nothing cut.
    """
    entry, model, call = subject(name)
    warnings.simplefilter("ignore")
    found: dict[str, Any] = {"params": params_of(model)}
    dense, wide = copy.deepcopy(model).double(), call.map(lambda t: t.double() if t.is_floating_point() else t)
    cut = copy.deepcopy(dense)
    known = hints.known(entry, model, call)
    torch.manual_seed(0)
    try:
        with default_float64(), limited(LIMIT):
            kept = _prune(cut, wide, known, entry)
    except OutOfTime:
        return found | {"verdict": "over 60 s"}
    except Exception as error:
        return found | {"verdict": "crash", **told(error)}
    found["params_left"] = params_of(cut) / found["params"]
    return found | _compared(entry, dense, cut, kept, wide)


def _prune(cut: nn.Module, call: Call, known: hints.Known, entry: zoo.Entry) -> Kept:
    """Cut a model in place; return the kept positions of every parameter and buffer in each dimension."""
    import torch_pruning as tp

    made = pruner(cut, call, known, entry, tp.importance.RandomImportance())
    originals = {name: t.detach().clone() for name, t in _floats(cut).items()}
    with torch.no_grad():
        for tensor in _floats(cut).values():
            tensor.copy_(torch.arange(tensor.numel(), dtype=tensor.dtype).view(tensor.shape))
    made.step()
    kept: Kept = {}
    with torch.no_grad():
        for name, tensor in _floats(cut).items():
            kept[name] = _places(name, tensor, originals[name].shape)
            value = originals[name]
            for dim, places in enumerate(kept[name]):
                value = value.index_select(dim, torch.tensor(places, dtype=torch.long))
            tensor.copy_(value)
    hints.repair(cut, made)
    return kept


def _floats(model: nn.Module) -> dict[str, torch.Tensor]:
    named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    return {name: tensor for name, tensor in named if tensor.is_floating_point()}


def _places(name: str, tags: torch.Tensor, shape: torch.Size) -> list[list[int]]:
    """Return the positions in each dimension that a tensor of element indices was selected from."""
    if tags.dim() != len(shape) or not tags.numel():
        raise ValueError(f"{name} was {tuple(shape)} and is {tuple(tags.shape)}")
    coordinates = torch.unravel_index(tags.detach().long(), shape) if shape else ()
    places = []
    for dim, along in enumerate(coordinates):
        line = along.movedim(dim, 0).reshape(along.shape[dim], -1)
        if not bool((line == line[:, :1]).all()):
            raise ValueError(f"{name} is not a selection of rows and columns any more")
        places.append(line[:, 0].tolist())
    return places


def _compared(entry: zoo.Entry, dense: nn.Module, cut: nn.Module, kept: Kept, call: Call) -> dict[str, Any]:
    raw = entry.raw or (lambda model: model)
    dropped = {name: places for name, places in kept.items() if _drops(places, _floats(dense)[name].shape)}
    if not dropped:
        return {"verdict": "nothing cut"}
    try:
        small = run(raw(cut), [call], {}, {})
    except Exception as error:
        return {"verdict": "no run", **told(error)}
    reference = run(raw(dense), [call], {}, {})
    if [t.shape for t in small] != [t.shape for t in reference]:
        return {"verdict": "no run", "error": "the outputs have other shapes"}
    units, readings, complete = _units(raw(dense), call, kept)
    silenced = run(raw(_silenced(dense, dropped)), [call], readings, units)
    error, visible = distance(silenced, small), distance(reference, silenced)
    verdict = "right" if error < 1e-9 else "wrong"
    return {"verdict": verdict, "silence": error, "visible": visible, "units_known": complete}


def _drops(places: list[list[int]], shape: torch.Size) -> bool:
    return any(len(p) < n for p, n in zip(places, shape, strict=True))


def _silenced(dense: nn.Module, dropped: Kept) -> nn.Module:
    twin = copy.deepcopy(dense)
    floats = _floats(twin)
    with torch.no_grad():
        for name, dims in dropped.items():
            for dim, places in enumerate(dims):
                gone = sorted(set(range(floats[name].shape[dim])) - set(places))
                floats[name].index_fill_(dim, torch.tensor(gone, dtype=torch.long), 0)
    return twin


@dataclass(frozen=True, slots=True)
class _Choice:
    term: Term
    kept: list[int]


def _units(dense: nn.Module, call: Call, kept: Kept) -> tuple[dict[Axis, Any], Mapping[int, Any], bool]:
    """Return the kept units by axis, the readings of our trace, and whether the axes explain all that was dropped."""
    try:
        with default_float64():
            graph = trace_calls(dense, [call], run="real", lift=True)
    except secateur.PruningError:
        return {}, {}, False
    choices = list(_choices(graph, kept))
    units: dict[Axis, Any] = {}
    for choice in choices:
        for axis in dict.fromkeys(axes(choice.term)):
            if axis not in units:
                found = _kept_of(axis, choice)
                if found is not None and len(found) < axis.n:
                    units[axis] = tuple(found)
    complete = all(positions(choice.term, _within(choice.term, units)) == choice.kept for choice in choices)
    return units, graph.run.readings, complete


def _choices(graph: Graph, kept: Kept) -> list[_Choice]:
    """Return the dimensions that lost positions, those with the fewest axes first."""
    found = []
    for name, dims in kept.items():
        site = graph.sites.get(graph.aliases.get(name, name))
        if site is not None and len(site.dims) == len(dims):
            found += [_Choice(find(t), k) for t, k in zip(site.dims, dims, strict=True) if len(k) < t.n]
    return sorted(found, key=lambda choice: len(list(axes(choice.term))))


def _kept_of(axis: Axis, choice: _Choice) -> list[int] | None:
    """Return the units of an axis whose positions in this dimension were all kept; None if some were kept in part."""
    if choice.term is axis:
        return choice.kept
    left, units = set(choice.kept), []
    for unit in range(axis.n):
        places = positions(choice.term, {axis: (unit,)})
        inside = sum(place in left for place in places)
        if inside == len(places):
            units.append(unit)
    dropped = set(range(axis.n)) - set(units)
    touched = any(place in left for unit in dropped for place in positions(choice.term, {axis: (unit,)}))
    return None if touched else units


def _within(term: Term, units: Mapping[Axis, Any]) -> dict[Axis, Any]:
    return {axis: units[axis] for axis in axes(term) if axis in units}
