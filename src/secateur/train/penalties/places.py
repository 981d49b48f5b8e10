"""The positions of the units of prunable axes in parameters, computed once so that a step is cheap."""

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
    """A parameter by its place in a model; a parameter that was replaced by one of another shape is an error."""

    name: str
    module: nn.Module
    leaf: str
    shape: torch.Size

    @staticmethod
    def of(model: nn.Module, name: str) -> HeldUnits:
        """Find the parameter of a name."""
        path, _, leaf = name.rpartition(".")
        module = model.get_submodule(path)
        parameter = module._parameters[leaf]
        assert parameter is not None, name
        return HeldUnits(name, module, leaf, parameter.shape)

    @property
    def parameter(self) -> nn.Parameter:
        """The parameter. Raises `PruningError` if its shape has changed."""
        parameter = self.module._parameters.get(self.leaf)
        if parameter is None or parameter.shape != self.shape:
            now = "gone" if parameter is None else f"of shape {tuple(parameter.shape)}"
            raise PruningError(
                f"{self.name} was of shape {tuple(self.shape)} when the penalty was made, and is {now}\n"
                "the model was cut since: make a new penalty on a trace of the model as it is now"
            )
        return parameter

    @property
    def gradient(self) -> Tensor:
        """Its gradient; zeros are created if there is none."""
        parameter = self.parameter
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
        return parameter.grad


@dataclass(frozen=True, slots=True)
class UnitPlace:
    """The positions of an axis in one dimension of a parameter. positions: (units, positions of each unit)."""

    held: HeldUnits
    dim: int
    role: str
    positions: Tensor


def chosen(graph: Graph, select: SelectLike) -> list[PrunableAxis]:
    """Return the axes that a selection allows to be cut. Raises `InputError` if there are none."""
    if not isinstance(graph, Graph):
        raise InputError(f"graph is a {type(graph).__name__}; make one first: secateur.trace(model, example_inputs)")
    held = Select.of(select).on(graph).held
    axes = [axis for axis in graph.axes if axis.group not in held]
    if not axes:
        raise InputError("the penalty has no axis to act on: the model has no prunable axis, or select keeps all")
    return axes


def places_of(graph: Graph, axis: PrunableAxis) -> list[UnitPlace]:
    """Return the places of an axis in parameters that are trained. Raises `InputError` if one is complex."""
    found = []
    for use in axis.sites:
        site = graph.sites[use.name]
        if site.kind == "parameter":
            held = HeldUnits.of(graph.model, use.name)
            if held.parameter.requires_grad:
                check_real(held)
                positions = positions_by_unit(site.dims[use.dim], axis.term)
                found.append(UnitPlace(held, use.dim, use.role, positions))
    return found


def check_real(held: HeldUnits) -> None:
    """Raise `InputError` if a parameter is complex: its absolute values are not what penalties are made of."""
    if held.parameter.is_complex():
        path = held.name.rpartition(".")[0] or held.name
        raise InputError(
            f"{held.name} is complex ({held.parameter.dtype}), and penalties are defined for real weights\n"
            f"leave its units out, of the penalty and of its plan: select={f'{path}: protect'!r}"
        )


def along(values: Tensor, dim: int, dims: int) -> Tensor:
    """Reshape the values of one dimension's positions so that they broadcast over a tensor of `dims` dimensions."""
    return values.view([-1 if d == dim else 1 for d in range(dims)])


__all__ = ["HeldUnits", "UnitPlace", "along", "check_real", "chosen", "places_of"]
