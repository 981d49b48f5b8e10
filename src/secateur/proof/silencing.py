"""The tensors of a model with its dropped units silenced, or with the units of every axis reordered.

Both are functions for `lifted.swapped`, which write the tensor that a run computes with from one of the model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from secateur.anatomy.slots import slots
from secateur.apply.kept_by_axis import kept_by_axis
from secateur.apply.tensors import Cutter
from secateur.base.modes import unseen
from secateur.graph.graph import Graph
from secateur.plan.parts import AxisPlan, Gives
from secateur.plan.plan import Plan
from secateur.planning.building import build_plan
from secateur.proof.ondemand import Fill
from secateur.proof.units import Units, by_axis
from secateur.terms import PerUnit


@dataclass(frozen=True)
class Silencing:
    """A model with the units that a plan drops silenced. `shuffled`: with the units of all axes reordered."""

    graph: Graph
    plan: Plan
    shuffled: bool = False

    @cached_property
    def units(self) -> Units:
        """The units that stay, and their order."""
        keep = _keep(self.graph, self.plan)
        terms = {axis.name: axis.term for axis in self.graph.axes}
        return Units(keep, by_axis(orders(self.graph), terms) if self.shuffled else {})

    @cached_property
    def fill(self) -> Fill:
        """The function that writes the tensors to run with."""
        sites = {*self.plan.sites, *self.graph.sites}
        names = {id(slot.tensor): slot.name for slot in slots(self.graph.model) if slot.name in sites}
        order = Cutter(permutation_plan(self.graph)) if self.shuffled else None

        def fill(tensor: Tensor, into: Tensor) -> None:
            name = names.get(id(tensor))
            sources = order.kept(name) if order is not None and name is not None else None
            if order is None or sources is None:
                into.copy_(tensor.detach())
            else:
                order.sliced(tensor.detach(), sources, into)
            if name is not None:
                self._silence(into, name, sources or [None] * tensor.dim())

        return fill

    def _silence(self, tensor: Tensor, name: str, sources: Sequence[list[int] | None]) -> None:
        """Zero the slices of dropped units. `sources`: the order of the positions of each dimension.

        Not in a weight that is divided by its norm, where the quotient is zeroed, and not in tensors of integers, which
        are positions: what they index is silenced where it is read.
        """
        floating = tensor.is_floating_point() or tensor.is_complex()
        if name not in self.plan.sites or name in self._divided or not floating:
            return
        for dim, places in enumerate(self.plan.positions(name)):
            if places is not None:
                tensor.index_fill_(dim, self._gone(places, sources[dim], tensor.shape[dim]).to(tensor.device), 0)

    def _gone(self, places: list[int], order: list[int] | None, size: int) -> Tensor:
        """Return the positions, in this order, of dropped units; cached, since many tensors share the lists."""
        key = id(places), id(order), size
        if key not in self._found:
            stay = set(places)
            gone = [place for place, source in enumerate(order or range(size)) if source not in stay]
            self._found[key] = torch.tensor(gone, dtype=torch.long)
        return self._found[key]

    @cached_property
    def _found(self) -> dict[tuple[int, int, int], Tensor]:
        return {}

    @cached_property
    def _divided(self) -> set[str]:
        return {renorm.of for renorm in self.graph.effects.renorms}

    def bypass(self) -> None:
        """Make removed blocks return their input; they still run, for their other effects."""
        for name, gives in self.plan.removed.items():
            self.graph.model.get_submodule(name).register_forward_hook(_giving_back(gives), with_kwargs=True)


def _keep(graph: Graph, plan: Plan) -> dict[Any, Any]:
    """Return the kept units of the axes that a plan cuts. Raises `InputError` for an axis that the graph lacks."""
    kept = kept_by_axis(graph, plan)
    return {a.term: kept[a.term] for a in graph.axes if a.name in plan.axes and _cuts(plan.axes[a.name])}


def _cuts(axis: AxisPlan) -> bool:
    return axis.kept is not None and axis.kept_count != axis.size


def _giving_back(gives: Gives) -> Callable[..., Any]:
    """Return a hook that replaces the output of a block with its input."""

    def hook(module: nn.Module, args: Any, kwargs: Any, out: Any) -> Any:
        def given(key: int | str) -> torch.Tensor:
            tensor = kwargs[key] if isinstance(key, str) else args[key]
            with unseen():  # a replay counts what the model does
                return tensor.clone()

        if not isinstance(gives, tuple):
            return given(gives or 0)
        at = next(i for i, part in enumerate(out) if isinstance(part, torch.Tensor))
        key = gives[at]
        return (*out[:at], given(0 if key is None else key), *out[at + 1 :])

    return hook


def with_others(plan: Plan) -> Plan:
    """Return the plan that, on the axes that are cut, drops the kept units and keeps the dropped ones."""

    def others(kept: tuple[int, ...], n: int) -> tuple[int, ...]:
        return tuple(sorted(set(range(n)).difference(kept)))

    def changed(axis: AxisPlan) -> AxisPlan:
        rows: Any = axis.kept if axis.outer is not None else (axis.kept,)
        found = tuple(others(row, axis.size) for row in rows)
        return replace(axis, kept=found if axis.outer is not None else found[0])

    return replace(plan, axes={**plan.axes, **{name: changed(axis) for name, axis in plan.dropped()}})


def nothing_of(plan: Plan) -> Plan:
    """Return the plan with all units kept."""
    return replace(plan, axes={name: replace(a, kept=None) for name, a in plan.axes.items()}, removed={}, sites={})


def permutation_plan(graph: Graph, *, seed: int = 0) -> Plan:
    """Return the plan that keeps all units of a model, in the order that `orders` returns."""
    return build_plan(graph, orders(graph, seed=seed), graph.cost.full)


def orders(graph: Graph, *, seed: int = 0) -> dict[str, Any]:
    """Return a random order of the units of every axis, for each outer unit if there are."""
    random = np.random.default_rng(seed)
    kept: dict[str, Any] = {}
    for axis in graph.axes:
        inner = isinstance(axis.term, PerUnit) and axis.term.outer is not None
        rows = [_shuffled(axis.size, random) for _ in range(axis.outer.n if axis.outer else 1)]
        kept[axis.name] = tuple(rows) if inner else rows[0]
    return kept


def _shuffled(n: int, random: np.random.Generator) -> tuple[int, ...]:
    """Return a random order in which no unit stays in place: in a shuffled ring, each takes the place of the next."""
    ring = random.permutation(n)
    order = np.empty(n, dtype=np.int64)
    order[ring] = np.roll(ring, 1)
    return tuple(order.tolist())
