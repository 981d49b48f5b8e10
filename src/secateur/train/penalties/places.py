"""Where the units of prunable axes lie in the parameters of a model, found once so that a step is cheap."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from secateur.errors import InputError, PruningError
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.graph.units import positions_by_unit
from secateur.planning.selection.select import Select, SelectLike


@dataclass(frozen=True, slots=True)
class HeldUnits:
    """A parameter by its place in a model; whoever replaces it is noticed."""

    name: str
    module: nn.Module
    leaf: str
    shape: torch.Size

    @staticmethod
    def of(model: nn.Module, name: str) -> HeldUnits:
        """The parameter of that name."""
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        parameter = module._parameters[leaf]
        assert parameter is not None, name
        return HeldUnits(name, module, leaf, parameter.shape)

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter. Raises `PruningError` where it has another shape than it had."""
        parameter = self.module._parameters.get(self.leaf)
        if parameter is None or parameter.shape != self.shape:
            now = "gone" if parameter is None else f"of shape {tuple(parameter.shape)}"
            raise PruningError(
                f"{self.name} was of shape {tuple(self.shape)} when the penalty was made, and is {now}\n"
                "the model was cut since: make the penalty anew on a trace of the model as it is"
            )
        return parameter

    @property
    def gradient(self) -> Tensor:
        """Its gradient, made of zeros where there is none."""
        parameter = self.parameter
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        return parameter.grad


@dataclass(frozen=True, slots=True)
class UnitPlace:
    """Where an axis lies in one dimension of a parameter. positions: (units, positions of each unit)."""

    held: HeldUnits
    dim: int
    role: str
    positions: Tensor


def chosen(graph: Graph, select: SelectLike) -> list[PrunableAxis]:
    """The axes that a selection leaves free to be cut. Raises `InputError` where it leaves none."""
    if not isinstance(graph, Graph):
        raise InputError(f"graph is a {type(graph).__name__}; make one first: secateur.trace(model, example_inputs)")
    held = Select.of(select).on(graph).held
    axes = [axis for axis in graph.axes if axis.group not in held]
    if not axes:
        raise InputError("the penalty has no axis to act on: the model has none that is prunable, or select keeps all")
    return axes


def places_of(graph: Graph, axis: PrunableAxis) -> list[UnitPlace]:
    """Where an axis lies in parameters that are trained."""
    found = []
    for use in axis.sites:
        site = graph.sites[use.name]
        if site.kind == "parameter":
            held = HeldUnits.of(graph.model, use.name)
            if held.parameter.requires_grad:
                positions = positions_by_unit(site.dims[use.dim], axis.term)
                found.append(UnitPlace(held, use.dim, use.role, positions))
    return found


def along(values: Tensor, dim: int, dims: int) -> Tensor:
    """Values of the positions of one dimension, to be multiplied by a tensor of so many dimensions."""
    return values.view([-1 if d == dim else 1 for d in range(dims)])


__all__ = ["HeldUnits", "UnitPlace", "along", "chosen", "places_of"]
