"""`check_rule`: check that a rule describes its op correctly.

The checks are those of `secateur.verify`, on a small network around the op. The arguments of the op are parameters, so
all of their units can be removed; its results are weighted unit by unit, or summed, so each unit affects the output.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from secateur.apply import cut
from secateur.errors import InputError, PruningError
from secateur.graph.graph import Graph
from secateur.graph.parts import PrunableAxis
from secateur.planning import plan
from secateur.proof.verification import TOLERANCE, Verification
from secateur.proof.verify import verify
from secateur.trace.tracing import trace

Alteration: TypeAlias = "Callable[[Tensor], Tensor]"
ResultReader: TypeAlias = "Callable[[Tensor, Sequence[Tensor]], Tensor]"
EXAMPLE = torch.ones(1)


def check_rule(op: Callable[..., Any], *args: Any, **kwargs: Any) -> tuple[str, ...]:
    """Check that the rule of `op` is correct on these arguments, and return the dimensions that it leaves prunable.

    Each set of units that the rule couples is dropped by itself. The smaller network must compute what the whole
    network computes with these units set to zero, both if zero operands stay zero and if they do not, and reordering
    units must not change the outputs. A rule that freezes more than it must is not an error.

    Args:
        op: The op, which must accept float64.
        args: The positional arguments. Every dimension of a float tensor should have 2 or more units, and dimensions
            with different letters should have different sizes.
        kwargs: The keyword arguments.

    Returns:
        The prunable dimensions, coupled ones together: 'arg0[1], arg1[0]' are dimension 1 of the first tensor and
        dimension 0 of the second.

    Raises:
        AssertionError: The rule is wrong about some dimensions, or leaves nothing prunable.
        InputError: The op cannot be checked in this way.

    Example:
        >>> import secateur
        >>> @secateur.rule("n c, c -> n c")
        ... def shifted(x, w):
        ...     return torch.from_numpy(x.detach().numpy() + w.detach().numpy())
        >>> check_rule(shifted, torch.randn(3, 8), torch.randn(8))
        ('arg0[0]', 'arg0[1], arg1[0]')
    """
    free: dict[str, None] = {}
    for change, read in itertools.product((_as_is, torch.cos), (_by_unit, _summed)):
        net = _Around(op, (args, kwargs), change, read)
        graph = trace(net, EXAMPLE)
        found = [axis for axis in graph.axes if _places(axis)]
        _check(net, graph, found)
        free.update(dict.fromkeys(map(_places, found)))
    if not free:
        frozen = trace(_Around(op, (args, kwargs), _as_is, _by_unit), EXAMPLE).frozen
        reasons = "\n".join(f"  {stays.name}[{stays.dim}]: {stays.reason}" for stays in frozen)
        raise AssertionError(f"the rule leaves no units prunable, so nothing can be checked\n{reasons}")
    return tuple(free)


def _as_is(x: Tensor) -> Tensor:
    """Return the same values: zero for silenced units. (`torch.cos`, the alternative, makes them one.)"""
    return x * 1.0


def _summed(result: Tensor, weights: Sequence[Tensor]) -> Tensor:
    return result.sum()


def _by_unit(result: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Weight every unit of every dimension by a different number, and sum."""
    for weight in reversed(weights):
        result = (result * weight).sum(-1)
    return result


class _Around(nn.Module):
    """A network around one op: its float arguments are parameters, and its float results are reduced to one number."""

    def __init__(self, op: Callable[..., Any], call: tuple[Any, Any], change: Alteration, read: ResultReader):
        super().__init__()
        self._op = lambda *args, **kwargs: op(*args, **kwargs)  # a function is copied with the network; an op is not
        self._change, self._read = change, read
        leaves, self._spec = pytree.tree_flatten(call)
        self._rest = [None if _is_float(leaf) else leaf for leaf in leaves]
        for i, leaf in enumerate(leaves):
            if _is_float(leaf):
                self.register_parameter(f"arg{i}", nn.Parameter(leaf.detach().clone()))
        self._shapes = [tuple(result.shape) for result in self._results()]
        generator = torch.Generator().manual_seed(0)
        for number, shape in enumerate(self._shapes):
            for dim, n in enumerate(shape):
                weight = torch.rand(n, generator=generator) + 0.5
                self.register_parameter(f"weight{number}_{dim}", nn.Parameter(weight))

    def forward(self, start: Tensor) -> Tensor:
        total = start.sum()
        for number, result in enumerate(self._results()):
            weights = [self._parameters[f"weight{number}_{dim}"] for dim in range(result.dim())]
            total = total + self._read(result, [weight for weight in weights if weight is not None])
        return total

    def _results(self) -> list[Tensor]:
        given = [self._parameters.get(f"arg{i}") for i in range(len(self._rest))]
        pairs = zip(given, self._rest, strict=True)
        leaves = [self._change(mine) if mine is not None else other for mine, other in pairs]
        args, kwargs = pytree.tree_unflatten(leaves, self._spec)
        found = [leaf for leaf in pytree.tree_leaves(self._op(*args, **kwargs)) if _is_float(leaf)]
        if not found:
            raise InputError("the op returns no float tensor, so there is nothing to compare")
        return found


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _check(net: nn.Module, graph: Graph, found: Sequence[PrunableAxis]) -> None:
    """Drop half of the units of each axis by itself, then check the order of units, which concerns several axes."""
    results = {_places(axis): _without_half(net, graph, axis) for axis in found}
    wrong = {where: result.silence for where, result in results.items() if result.silence > TOLERANCE}
    if wrong:
        errors = "\n".join(f"  {where}: by {error:.1e}" for where, error in wrong.items())
        raise AssertionError(
            f"the rule is wrong about units that are coupled:\n{errors}\n"
            "without some of them the op returns other values than with these set to zero"
        )
    moved = max((result.permutation for result in results.values()), default=0.0)
    if moved > TOLERANCE:
        raise AssertionError(
            f"the rule is wrong about the order of units: reordering them changes the values ({moved:.1e})"
        )


def _without_half(net: nn.Module, graph: Graph, axis: PrunableAxis) -> Verification:
    steps = graph.groups[axis.group].steps
    gone = range(1, axis.size, 2) if steps == axis.size else range(axis.size // steps)
    made = plan(graph, drop={axis.name: list(gone)})
    try:
        return verify(net, cut(net, made), made, EXAMPLE)
    except PruningError as error:
        raise AssertionError(f"the rule is wrong about {_places(axis)}: {error}") from error


def _places(axis: PrunableAxis) -> str:
    return ", ".join(f"{use.name}[{use.dim}]" for use in axis.sites if use.name.startswith("arg"))
