"""Explains marks: the chain of ops through which a layer is frozen because of something far away in the model.

An explaining trace records, for each op, its tensors and the axes of their dimensions right after it. A mark (frozen,
inexact) originates in an op if no operand had it before. A chain is the shortest path from a parameter's dimension to
such an op, through ops whose tensors contain the axis. An ordinary trace records none of this, so it costs nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import torch

from secateur.graph.graph import Graph
from secateur.graph.parts import Hop
from secateur.graph.sizes import Dim, leaves
from secateur.terms import Axis, axes
from secateur.trace.op import Op
from secateur.trace.recorder import Recorder
from secateur.trace.registry import OpRule
from secateur.trace.size_demands import SIZED
from secateur.trace.tracked_ints import source_line
from secateur.trace.typed import Typed, get

Node: TypeAlias = "tuple[Typed, int]"  # a dimension of a tensor
MARKS = ("frozen", "inexact")
RETURN = "return"


@dataclass(frozen=True, slots=True)
class _Met:
    """A tensor of an op, and the axes of its dimensions right after the op."""

    typed: Typed
    axes: tuple[frozenset[Axis], ...]
    made: bool  # it is the op's result


@dataclass(slots=True)
class _Seen:
    """One op and its tensors. `origins`: the axes that were first marked here, with the string of the mark."""

    hop: Hop
    met: list[_Met]
    origins: list[tuple[Axis, str]] = field(default_factory=list)


class Explainer(Recorder):
    """A recorder that also records the data for chains."""

    def __init__(self, module_names: dict[int, str], device: torch.device | None, *, lift: bool = False):
        super().__init__(module_names, device, lift=lift)
        self.seen: list[_Seen] = []
        self._known: set[tuple[Axis, str]] = set()

    def _apply(self, rule: OpRule | None, op: Op) -> None:
        before = _Before(op.tensors())
        super()._apply(rule, op)
        self._note(op.name, before, op.outs)

    def after(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Any:
        name = getattr(func, "__name__", "")
        if self.quiet or name not in SIZED:
            return super().after(func, args, kwargs, out)
        before = _Before(_tensors((args, tuple(kwargs.values()))))
        out = super().after(func, args, kwargs, out)
        self._note(name, before, _tensors(out))
        return out

    def returned(self, tensors: Sequence[torch.Tensor]) -> None:
        before = _Before(tensors)
        super().returned(tensors)
        self._note(RETURN, before, [])

    def _note(self, name: str, before: _Before, results: Iterable[torch.Tensor]) -> None:
        hop = Hop(RETURN, "", "") if name == RETURN else Hop(_plain(name), source_line(), self.module_path())
        made = {typed for typed in map(get, results) if typed is not None}
        operands = before.types() - made
        seen = _Seen(hop, [_met(typed, False) for typed in operands] + [_met(typed, True) for typed in made])
        for axis in {axis for m in seen.met for dim in m.axes for axis in dim}:
            for text in (getattr(axis, mark) for mark in MARKS):
                if text is not None and (axis, text) not in self._known:
                    self._known.add((axis, text))
                    if not before.passed_on(axis, text):
                        seen.origins.append((axis, text))
        self.seen.append(seen)


def _plain(name: str) -> str:
    return name.removeprefix("aten::").rstrip("_")


def _tensors(values: Any) -> Iterator[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        yield values
    elif isinstance(values, (tuple, list)):
        for value in values:
            yield from _tensors(value)


def _met(typed: Typed, made: bool) -> _Met:
    return _Met(typed, tuple(frozenset(axes(dim)) for dim in typed.dims), made)


class _Before:
    """The operands of an op and their marks before it, because an in-place op changes the type of its tensor."""

    def __init__(self, operands: Iterable[torch.Tensor]):
        self._operands = [(tensor, get(tensor)) for tensor in operands]
        dims = [dim for _, typed in self._operands if typed is not None for dim in typed.dims]
        self._marks = {a: tuple(getattr(a, mark) for mark in MARKS) for dim in dims for a in axes(dim)}

    def types(self) -> set[Typed]:
        """Return the types of the operands; by now, constants have one too."""
        return {typed for typed in (old or get(tensor) for tensor, old in self._operands) if typed is not None}

    def passed_on(self, axis: Axis, text: str) -> bool:
        """Return whether another axis passed the mark on. An axis that first appears with a mark did not receive it."""
        return any(text in marks and old is not axis and axis in axes(old) for old, marks in self._marks.items())


class Explanation:
    """The chains that an explaining trace recorded."""

    def __init__(self, graph: Graph, recorder: Explainer):
        self.graph = graph
        self._seen = recorder.seen
        self._demands = [*recorder.ledger.equations, *recorder.ledger.guards]
        self._at: dict[tuple[int, int], list[int]] = {}  # the ops that a dimension of a tensor took part in
        self._places: dict[tuple[str, int], list[Node]] = {}
        for number, one in enumerate(recorder.seen):
            for met in one.met:
                for dim in range(len(met.axes)):
                    self._at.setdefault((id(met.typed), dim), []).append(number)
                    self._place(met.typed, dim)

    def _place(self, typed: Typed, dim: int) -> None:
        place = typed.at[dim] if typed.at is not None else None
        if place is not None:
            self._places.setdefault((place.name, place.dim), []).append((typed, dim))

    def chain(self, name: str, dim: int, axis: Axis, *, sizes: bool = True) -> list[Hop]:
        """Return the ops between a dimension of a parameter and the op that froze this axis or made it inexact.

        `sizes`: also follow one equation between sizes.
        """
        text = axis.frozen or axis.inexact
        if text is None:
            return []

        def makes_it(_: Node, seen: _Seen, here: set[Axis]) -> bool:
            return any(axis in here and said == text for axis, said in seen.origins)

        found = self._search((name, dim), axis, makes_it)
        return self._demanded(axis, text) if sizes and not found else found

    def _demanded(self, axis: Axis, text: str) -> list[Hop]:
        """Return the chain of sizes that no plan can satisfy: the code that requires them, then the other side."""
        for demand in self._demands:
            read = {a for leaf in (*leaves(demand.left), *leaves(demand.right)) for a in _axes_of(leaf)}
            held = next((a for a in read if a.frozen not in (None, text)), None)
            if axis in read and held is not None and text.endswith(f" at {demand.where}"):
                what, _, where = demand.where.rpartition(" at ")
                return [Hop(what or "compared", where, ""), *self._held(held)]
        return []

    def _held(self, axis: Axis) -> list[Hop]:
        """Return the chain of an axis through some parameter that has it, or else only its reason."""
        for site in self.graph.sites.values():
            for dim, term in enumerate(site.dims):
                if axis in axes(term) and (found := self.chain(site.name, dim, axis, sizes=False)):
                    return found
        return [Hop(axis.frozen or "", "", "")]

    def between(self, name: str, dim: int, other: tuple[str, int], axis: Axis) -> list[Hop]:
        """Return the ops through which two dimensions of parameters share an axis."""
        ends = {(id(typed), d) for typed, d in self._places.get(other, [])}
        return self._search((name, dim), axis, lambda node, *_: (id(node[0]), node[1]) in ends)

    def _search(self, start: tuple[str, int], axis: Axis, done: Callable[[Node, _Seen, set[Axis]], bool]) -> list[Hop]:
        """Search breadth-first, so that the chain is as short as possible."""
        starts = self._places.get(start, [])
        came: dict[tuple[int, int], tuple[Node, int] | None] = {(id(t), d): None for t, d in starts}
        queue = deque(starts)
        while queue:
            node = queue.popleft()
            for number in self._at[id(node[0]), node[1]]:
                seen = self._seen[number]
                here = self._axes_at(node, seen, axis)
                if done(node, seen, here):
                    return self._path(node, number, came, axis)
                for met in seen.met:
                    for dim, held in enumerate(met.axes):
                        if (id(met.typed), dim) not in came and not here.isdisjoint(held):
                            came[id(met.typed), dim] = node, number
                            queue.append((met.typed, dim))
        return []

    def _axes_at(self, node: Node, seen: _Seen, axis: Axis) -> set[Axis]:
        """Return the axes that a dimension held at that time and that are now part of `axis`."""
        typed, dim = node
        return {a for m in seen.met if m.typed is typed for a in m.axes[dim] if axis in axes(a)}

    def _path(
        self, node: Node, last: int, came: Mapping[tuple[int, int], tuple[Node, int] | None], axis: Axis
    ) -> list[Hop]:
        """Return the last op of the path, and those that combine several tensors that have the axis."""
        hops = [self._seen[last].hop]
        before = came[id(node[0]), node[1]]
        while before is not None:
            node, number = before
            if self._couples(self._seen[number], axis):
                hops.append(self._seen[number].hop)
            before = came[id(node[0]), node[1]]
        return list(dict.fromkeys(reversed(hops)))

    def _couples(self, seen: _Seen, axis: Axis) -> bool:
        """Return whether the op combines several activations that have this axis; parameters do not count."""
        met = {id(m.typed) for m in seen.met if not m.made and m.typed.at is None and _holds(m, axis)}
        return len(met) > 1


def _holds(met: _Met, axis: Axis) -> bool:
    return any(axis in axes(a) for dim in met.axes for a in dim)


def _axes_of(leaf: Any) -> set[Axis]:
    return set(axes(leaf.term)) if isinstance(leaf, Dim) else set()
