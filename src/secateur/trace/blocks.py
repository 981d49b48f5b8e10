"""Finds the blocks of a model that can be bypassed, while the model runs.

A block is a module that adds something to its input and returns the sum. These rules must hold:

1. Its first tensor argument and the first tensor of its output have the same terms when it returns, because of a sum
   inside. (The branch f of x + f(x) returns its own units, which the sum outside of it unifies.)
2. Inside, tensors of the size of that argument are added, and there are multiply-adds. A gate multiplies; a positional
   embedding adds, but has no multiply-adds.
3. Silenced units that are zero in its output are also zero in that argument.
4. Its output is that tensor, or a tuple of it with None, unchanged arguments, and tensors that nothing reads.
5. It runs once per call of the model, is registered under one name, and shares no tensor, and no object found in it
   first, with other modules.
6. It is not the first of its kind in a list whose members store their position (layer_idx): caches are indexed by that
   position, and their length is read from the first.
7. Without it the model runs, and returns the same number of tensors (`trace.bypassing`).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from itertools import takewhile
from typing import Any

import torch
from torch import nn

from secateur.anatomy.calls import Call
from secateur.anatomy.holders import Holder, holders
from secateur.base.names import above, inside, may_count
from secateur.base.process import every_module_hooked
from secateur.graph.blocks import units
from secateur.graph.graph import Graph
from secateur.graph.parts import Block, Range, SiteUse
from secateur.plan.parts import Gives
from secateur.terms import Term, alike, axes
from secateur.trace.module_widths import Widths, widths
from secateur.trace.typed import Typed, get

_NOWHERE = Range(0, 0)
SUMS = frozenset({"aten::add", "aten::add_", "aten::sub", "aten::sub_"})


@dataclass(slots=True)
class _Visit:
    """A module that is running."""

    module: nn.Module
    spent: int
    walked: int
    sums: set[int] = field(default_factory=set)  # the numbers of elements of the sums inside


@dataclass(slots=True)
class _Passage:
    """One call of a module. `residual`: rules 1 and 2 hold. `fault`: how it breaks the first of the other rules."""

    call: int
    gives: Gives = None
    residual: bool = False
    fault: str | None = None
    spent: Range = _NOWHERE
    walked: Range = _NOWHERE
    unread: tuple[Typed, ...] = ()  # further tensors that it returned, marked once something reads them


@dataclass(frozen=True, slots=True)
class RanCall:
    """A recorded call, and the number of tensors that it returned."""

    call: Call
    outputs: int


class CallWatch:
    """Follows the calls of modules while a recorder appends to the lists `macs` and `path`."""

    def __init__(self, macs: Sequence[object], path: Sequence[object]):
        self._macs = macs
        self._path = path
        self.passages: dict[int, list[_Passage]] = {}
        self.ran: list[RanCall] = []
        self.widths: dict[int, list[Widths]] = {}
        self._running: list[_Visit] = []
        self._call = 0

    @contextmanager
    def following(self) -> Iterator[None]:
        """Follow one call of the model."""
        self._running.clear()
        self._call += 1
        with every_module_hooked(self._enter, self._leave):
            yield

    def gave(self, call: Call, tensors: Sequence[torch.Tensor]) -> None:
        """Record that a call has returned these tensors, and mark them as read."""
        self.ran.append(RanCall(call, len(tensors)))
        for typed in filter(None, map(get, tensors)):
            typed.read = True

    def add(self, out: Any) -> None:
        """Record a sum of tensors."""
        typed = get(out) if self._running and isinstance(out, torch.Tensor) else None
        if typed is not None:
            elements = math.prod(dim.n for dim in typed.dims)
            for visit in self._running:
                visit.sums.add(elements)

    def _enter(self, module: nn.Module, args: Any) -> None:
        if not _is_leaf(module):
            self._running.append(_Visit(module, len(self._macs), len(self._path)))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        while self._running and not _is_leaf(module):  # modules that raised inside, which was caught, never left
            visit = self._running.pop()
            if visit.module is module:
                break
        else:
            return
        with torch._C.DisableTorchFunction():  # reading shapes here is not an op of the model
            passage = _passage(visit, args, kwargs, out)
            if (width := widths(module, (args, kwargs), out)) is not None:
                self.widths.setdefault(id(module), []).append(width)
        passage.call = self._call
        passage.spent = Range(visit.spent, len(self._macs))
        passage.walked = Range(visit.walked, len(self._path))
        self.passages.setdefault(id(module), []).append(passage)


def _is_leaf(module: nn.Module) -> bool:
    """Return whether a module is a layer of torch itself, which is never a block."""
    return not module._modules and type(module).__module__.startswith("torch.nn")


def _passage(visit: _Visit, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> _Passage:
    given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
    parts = out if type(out) in (tuple, list) else (out,)
    main = next((part for part in parts if isinstance(part, torch.Tensor)), None)
    tensors = {key: value for key, value in given.items() if isinstance(value, torch.Tensor)}
    if main is None or not tensors or not main.numel():
        return _Passage(0, fault="it does not return a tensor for a tensor")
    stream = next(iter(tensors))
    unlike = _unlike(tensors[stream], main)
    if unlike is not None:
        return _Passage(0, fault=unlike)
    found = _Passage(0, residual=main.numel() in visit.sums, fault=_lively(tensors[stream], main))
    if out is main:
        found.gives = None if len(given) == 1 and args else stream
    elif type(out) is tuple:
        _arrange(found, given, stream, main, out)
    else:
        found.fault = found.fault or f"it returns a {type(out).__name__}"
    return found


def _unlike(x: torch.Tensor, y: torch.Tensor) -> str | None:
    """Return how a module breaks rule 1. Dimensions that are frozen on both sides may differ."""
    if x.shape != y.shape:
        return f"its output has a different shape: {_shape(x)} -> {_shape(y)}"
    if x.dtype != y.dtype:
        return f"its output is {y.dtype}, its input {x.dtype}"
    a, b = get(x), get(y)
    pairs = list(zip(a.counted(), b.counted(), strict=True)) if a is not None and b is not None else []
    equal = [alike(one, other) for one, other in pairs]
    fits = all(ok or (_stays(one) and _stays(other)) for ok, (one, other) in zip(equal, pairs, strict=True))
    telling = all(equal) or any(ok and not _stays(one) for ok, (one, _) in zip(equal, pairs, strict=True))
    return None if pairs and fits and telling else "its output does not have the units of its input"


def _stays(term: Term) -> bool:
    return all(axis.frozen is not None or axis.n == 1 for axis in axes(term))


def _shape(x: torch.Tensor) -> str:
    return "x".join(map(str, map(int, x.shape)))


def _lively(x: torch.Tensor, y: torch.Tensor) -> str | None:
    """Return how a module breaks rule 3."""
    a, b = get(x), get(y)
    assert a is not None
    assert b is not None
    for dim, was, now in zip(a.dims, a.zero, b.zero, strict=True):
        if now and not was and not _stays(dim):
            return "silenced units are zero in its output, but not in its input"
    return None


def _arrange(
    found: _Passage, given: Mapping[int | str, Any], stream: int | str, main: torch.Tensor, out: tuple[Any, ...]
) -> None:
    """Set what a tuple output consists of, or the fault by rule 4."""
    places: list[int | str | None] = []
    for part in out:
        place = stream if part is main else next((key for key, value in given.items() if value is part), None)
        if part is None or isinstance(part, (bool, int, float, str)):  # equal objects by chance
            place = None
        if place is None and part is not None:
            typed = get(part) if isinstance(part, torch.Tensor) else None
            if typed is None:
                found.fault = found.fault or f"it also returns a {type(part).__name__}"
                return
            typed.read = False
            found.unread += (typed,)
        places.append(place)
    found.gives = tuple(places)


def blocks_of(
    model: nn.Module, graph: Graph, watch: CallWatch, roles: Mapping[tuple[str, int], str]
) -> tuple[Block, ...]:
    """Return the blocks in the order of the model, and modules of the same classes with the rule that they break."""
    names: dict[int, list[str]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        names.setdefault(id(module), []).append(name)
    modules = {names[id(module)][0]: module for module in model.modules() if id(module) in watch.passages}
    modules.pop("", None)
    residual = {n for n, m in modules.items() if _is_residual(watch.passages[id(m)], graph)}
    kinds = {type(modules[name]) for name in residual}
    kinds = {kind for kind in kinds if not kind.__module__.startswith("torch.nn")}
    listed = [name for name, module in modules.items() if name in residual or type(module) in kinds]
    counted = set(units(listed))
    holdings = _Holdings(model, graph)
    places = _Places(model, listed)
    found = []
    for name in listed:
        module = modules[name]
        passages = watch.passages[id(module)]
        why = _why(passages, names[id(module)]) or holdings.shared(name) or places.why(name, module)
        if (
            why is None or name in counted or graph.run.source.uniform
        ):  # in a uniform model, other modules may be counted
            found.append(_block(graph, holdings, name, module, passages[0], roles, name in counted, why))
    return tuple(found)


def _is_residual(passages: Sequence[_Passage], graph: Graph) -> bool:
    """Return whether rules 1 and 2 hold."""
    spent = passages[0].spent
    return passages[0].residual and any(macs.coefficient for macs in graph.macs[spent.start : spent.stop])


def _why(passages: Sequence[_Passage], names: Sequence[str]) -> str | None:
    """Return how a module breaks rules 3, 4 or 5, or None."""
    times = max(Counter(passage.call for passage in passages).values())
    if times > 1:
        return f"it is called {times} times in one call of the model"
    if len(names) > 1:
        return f"it is also registered as {names[1]}"
    fault = next((passage.fault for passage in passages if passage.fault is not None), None)
    if fault is not None:
        return fault
    if any(typed.read for passage in passages for typed in passage.unread):
        return "it also returns a tensor that something else reads"
    if any(passage.gives != passages[0].gives for passage in passages):
        return "it is called in different ways"
    return None if all(passage.residual for passage in passages) else "it is not residual in another call"


class _Holdings:
    """The tensors that each module contains, and the objects that modules share."""

    def __init__(self, model: nn.Module, graph: Graph):
        self.model = model
        self.graph = graph
        self.groups: dict[str, list[str]] = {}
        for alias, first in graph.aliases.items():
            self.groups.setdefault(first, [first]).append(alias)

    def of(self, name: str) -> list[str]:
        """Return the tensors inside a module."""
        return [site for site in self.graph.sites if inside(site, {name})]

    def shared(self, name: str) -> str | None:
        """Return how a module breaks rule 5, or None."""
        for group in self.groups.values():
            here = [tensor for tensor in group if inside(tensor, {name})]
            there = [tensor for tensor in group if tensor not in here]
            if here and there:
                return f"it shares {here[0]} with {there[0]}"
        return self._shared_object(name)

    def _shared_object(self, name: str) -> str | None:
        """Return which object is shared: its integers are named after its first module, which must stay."""
        own = {id(h.owner): f"{h.module}.{h.path}" for h in self._objects if inside(h.module, {name})}
        for path, module in self.model.named_modules() if own else ():
            if not inside(path, {name}) and not inside(name, {path}):
                held = takewhile(lambda h: not h.module, holders(module))
                other = next((h for h in held if id(h.owner) in own), None)
                if other is not None:
                    return f"it shares {own[id(other.owner)]} with {path}"
        return None

    @cached_property
    def _objects(self) -> list[Holder]:
        return [holder for holder in holders(self.model) if holder.path]


class _Places:
    """Rule 6: the members of lists that must stay, by name, with the attributes that hold their position."""

    def __init__(self, model: nn.Module, listed: Sequence[str]):
        self.pinned: dict[str, tuple[int, set[str]]] = {}
        for holder in sorted({holder for name in listed for holder in (*above(name), "")}):
            self._pin(model.get_submodule(holder), f"{holder}." if holder else "")

    def _pin(self, holder: nn.Module, prefix: str) -> None:
        members = {int(n): m for n, m in holder._modules.items() if n.isdecimal() and m is not None}
        knowing = [_numbers(module, place) for place, module in members.items()]
        names = set.intersection(*knowing) if len(knowing) > 1 else set()
        if names:
            firsts: dict[Any, int] = {}
            for place, module in members.items():
                firsts.setdefault(_kind(module), place)
            self.pinned |= {f"{prefix}{place}": (place, names) for place in firsts.values()}

    def why(self, name: str, module: nn.Module) -> str | None:
        """Return why a block must stay: it is such a member, contains one, or is a part that stores its position."""
        for member, (place, names) in self.pinned.items():
            within = inside(member, {name})
            known = names & (_numbers(module, place) if within or inside(name, {member}) else set())
            if known:
                return (
                    f"its position is read ({min(known)}={place}), and caches read their length from the first block of"
                    " each kind"
                )
        return None


def _numbers(module: nn.Module, value: int) -> set[str]:
    """Return the names of attributes, anywhere inside, that hold this integer."""
    held = (item for part in module.modules() for item in vars(part).items())
    return {name for name, number in held if type(number) is int and number == value and may_count(name)}


def _kind(module: nn.Module) -> tuple[Any, ...]:
    """Return the classes, strings and flags in a module and its submodules; of other attributes only the types."""
    return tuple(
        (path, type(part), tuple((name, _trait(value)) for name, value in sorted(vars(part).items()) if name[0] != "_"))
        for path, part in module.named_modules()
    )


def _trait(value: Any) -> Any:
    return value if isinstance(value, (str, bool)) else type(value)


def _block(
    graph: Graph,
    holdings: _Holdings,
    name: str,
    module: nn.Module,
    passage: _Passage,
    roles: Mapping[tuple[str, int], str],
    counts: bool,
    why: str | None,
) -> Block:
    sites = [graph.sites[site] for site in holdings.of(name)]
    params = sum(math.prod(site.shape) for site in sites if site.kind == "parameter")
    spent = graph.macs[passage.spent.start : passage.spent.stop]
    macs = sum(m.coefficient * math.prod(term.n for term in m.terms) for m in spent)
    uses = [
        SiteUse(site.name, dim, roles[site.name, dim])
        for site in sites
        for dim in range(len(site.dims))
        if site.kind == "parameter" and (site.name, dim) in roles
    ]
    kind = type(module).__name__
    return Block(name, kind, params, macs, passage.gives, tuple(uses), passage.spent, passage.walked, counts, why)
