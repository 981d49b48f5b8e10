"""Find the blocks of a model that can be bypassed, while it runs.

A block is a module that returns what it is given with something added. What makes it one, and what lets it go:

1. Its first tensor argument and the first tensor of its output have the same terms at the moment it returns: a sum
   within made them so. (The branch f of x + f(x) returns units of its own; it is the sum around it that unifies them.)
2. Within, tensors as large as that argument are added up, and multiply-adds are spent. A gate multiplies; a table of
   positions adds, but spends nothing.
3. Whatever is silenced and still zero in its output is so in that argument too.
4. Its output is that tensor, or a tuple of it with None, arguments as they came, and tensors that nothing reads.
5. It is called once in a call, known by one name, and shares no tensor, and no object first met in it, with the rest.
6. It is not the first of its kind in a list whose members know their place in it (layer_idx): caches are kept by that
   place, and their length is read off the first.
7. The model runs without it, and gives as many outputs (`trace.bypassing`).
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
from secateur.base.names import above, inside
from secateur.base.process import every_module_hooked
from secateur.graph.blocks import units
from secateur.graph.graph import Graph
from secateur.graph.parts import Block, Range, SiteUse
from secateur.plan.parts import Gives
from secateur.terms import Term, axes, same
from secateur.trace.typed import Typed, get

_NOWHERE = Range(0, 0)
SUMS = frozenset({"aten::add", "aten::add_", "aten::sub", "aten::sub_"})


@dataclass(slots=True)
class _Visit:
    """A module that is running."""

    module: nn.Module
    spent: int
    walked: int
    sums: set[int] = field(default_factory=set)  # how many elements the sums within have


@dataclass(slots=True)
class _Passage:
    """What one call of a module showed. `residual`: rules 1 and 2. `fault`: the first of the other rules it breaks."""

    call: int
    gives: Gives = None
    residual: bool = False
    fault: str | None = None
    spent: Range = _NOWHERE
    walked: Range = _NOWHERE
    unread: tuple[Typed, ...] = ()  # further tensors that it gave, marked once something reads them


@dataclass(frozen=True, slots=True)
class RanCall:
    """A call that was recorded, and how many tensors it gave."""

    call: Call
    outputs: int


class CallWatch:
    """Follows the calls of modules while a recorder runs, which notes `macs` and its `path`."""

    def __init__(self, macs: Sequence[object], path: Sequence[object]):
        self._macs = macs
        self._path = path
        self.passages: dict[int, list[_Passage]] = {}
        self.ran: list[RanCall] = []
        self._running: list[_Visit] = []
        self._call = 0

    @contextmanager
    def following(self) -> Iterator[None]:
        """Within, one call of the model."""
        self._running.clear()
        self._call += 1
        with every_module_hooked(self._enter, self._leave):
            yield

    def gave(self, call: Call, tensors: Sequence[torch.Tensor]) -> None:
        """A call has run and given these tensors, which therefore are read."""
        self.ran.append(RanCall(call, len(tensors)))
        for typed in filter(None, map(get, tensors)):
            typed.read = True

    def add(self, out: Any) -> None:
        """Tensors are added up."""
        typed = get(out) if self._running and isinstance(out, torch.Tensor) else None
        if typed is not None:
            elements = math.prod(dim.n for dim in typed.dims)
            for visit in self._running:
                visit.sums.add(elements)

    def _enter(self, module: nn.Module, args: Any) -> None:
        if not _is_leaf(module):
            self._running.append(_Visit(module, len(self._macs), len(self._path)))

    def _leave(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        while self._running and not _is_leaf(module):  # what raised within, and was caught, never left
            visit = self._running.pop()
            if visit.module is module:
                break
        else:
            return
        with torch._C.DisableTorchFunction():  # a look at shapes is no part of what the model does
            passage = _passage(visit, args, kwargs, out)
        passage.call = self._call
        passage.spent = Range(visit.spent, len(self._macs))
        passage.walked = Range(visit.walked, len(self._path))
        self.passages.setdefault(id(module), []).append(passage)


def _is_leaf(module: nn.Module) -> bool:
    """Whether it is one of torch's own layers, which are no blocks."""
    return not module._modules and type(module).__module__.startswith("torch.nn")


def _passage(visit: _Visit, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> _Passage:
    given: dict[int | str, Any] = {**dict(enumerate(args)), **kwargs}
    parts = out if type(out) in (tuple, list) else (out,)
    main = next((part for part in parts if isinstance(part, torch.Tensor)), None)
    tensors = {key: value for key, value in given.items() if isinstance(value, torch.Tensor)}
    if main is None or not tensors or not main.numel():
        return _Passage(0, fault="it gives no tensor for a tensor")
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
        found.fault = found.fault or f"it gives a {type(out).__name__}"
    return found


def _unlike(x: torch.Tensor, y: torch.Tensor) -> str | None:
    """Rule 1. What cannot move on either side need not be the same."""
    if x.shape != y.shape:
        return f"its output has another shape: {_shape(x)} -> {_shape(y)}"
    if x.dtype != y.dtype:
        return f"its output is {y.dtype}, its input {x.dtype}"
    a, b = get(x), get(y)
    pairs = list(zip(a.counted(), b.counted(), strict=True)) if a is not None and b is not None else []
    alike = [same(one, other) for one, other in pairs]
    fits = all(ok or (_stays(one) and _stays(other)) for ok, (one, other) in zip(alike, pairs, strict=True))
    telling = all(alike) or any(ok and not _stays(one) for ok, (one, _) in zip(alike, pairs, strict=True))
    return None if pairs and fits and telling else "its output has other units than its input"


def _stays(term: Term) -> bool:
    return all(axis.frozen is not None or axis.n == 1 for axis in axes(term))


def _shape(x: torch.Tensor) -> str:
    return "x".join(map(str, map(int, x.shape)))


def _lively(x: torch.Tensor, y: torch.Tensor) -> str | None:
    """Rule 3."""
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
    """Rule 4."""
    places: list[int | str | None] = []
    for part in out:
        place = stream if part is main else next((key for key, value in given.items() if value is part), None)
        if part is None or isinstance(part, (bool, int, float, str)):  # which are the same by chance
            place = None
        if place is None and part is not None:
            typed = get(part) if isinstance(part, torch.Tensor) else None
            if typed is None:
                found.fault = found.fault or f"it also gives a {type(part).__name__}"
                return
            typed.read = False
            found.unread += (typed,)
        places.append(place)
    found.gives = tuple(places)


# --- after the runs ---------------------------------------------------------------------------------------------------


def blocks_of(
    model: nn.Module, graph: Graph, watch: CallWatch, roles: Mapping[tuple[str, int], str]
) -> tuple[Block, ...]:
    """The blocks, in the order of the model, and modules of the same classes with what keeps them from being one."""
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
        if why is None or name in counted or graph.run.source.uniform:  # of a uniform model others may count
            found.append(_block(graph, holdings, name, module, passages[0], roles, name in counted, why))
    return tuple(found)


def _is_residual(passages: Sequence[_Passage], graph: Graph) -> bool:
    """Rules 1 and 2."""
    spent = passages[0].spent
    return passages[0].residual and any(macs.coefficient for macs in graph.macs[spent.start : spent.stop])


def _why(passages: Sequence[_Passage], names: Sequence[str]) -> str | None:
    """Rules 3, 4 and 5."""
    times = max(Counter(passage.call for passage in passages).values())
    if times > 1:
        return f"it is called {times} times in a call"
    if len(names) > 1:
        return f"it is also {names[1]}"
    fault = next((passage.fault for passage in passages if passage.fault is not None), None)
    if fault is not None:
        return fault
    if any(typed.read for passage in passages for typed in passage.unread):
        return "it also gives a tensor that something else reads"
    if any(passage.gives != passages[0].gives for passage in passages):
        return "it is called in several ways"
    return None if all(passage.residual for passage in passages) else "it gives something else in another call"


class _Holdings:
    """Which tensors lie in which module, and which objects modules share."""

    def __init__(self, model: nn.Module, graph: Graph):
        self.model = model
        self.graph = graph
        self.groups: dict[str, list[str]] = {}
        for alias, first in graph.aliases.items():
            self.groups.setdefault(first, [first]).append(alias)

    def of(self, name: str) -> list[str]:
        """The tensors within a module."""
        return [site for site in self.graph.sites if inside(site, {name})]

    def shared(self, name: str) -> str | None:
        """Rule 5."""
        for group in self.groups.values():
            here = [tensor for tensor in group if inside(tensor, {name})]
            there = [tensor for tensor in group if tensor not in here]
            if here and there:
                return f"it shares {here[0]} with {there[0]}"
        return self._shared_object(name)

    def _shared_object(self, name: str) -> str | None:
        """Integers of an object that several modules hold go by the first of them, so that one must stay."""
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
    """Rule 6: members of lists that must stay, by name, with the attributes that hold their place."""

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
        """Why a block must stay that is such a member, holds one, or is the part of one that knows its place."""
        for member, (place, names) in self.pinned.items():
            within = inside(member, {name})
            known = names & (_numbers(module, place) if within or inside(name, {member}) else set())
            if known:
                return f"its place is read: {min(known)}={place}, and caches are measured by the first of each kind"
        return None


def _numbers(module: nn.Module, value: int) -> set[str]:
    """The names of attributes, anywhere within, that hold this integer."""
    held = (item for part in module.modules() for item in vars(part).items())
    return {name for name, number in held if type(number) is int and number == value and not name.startswith("_")}


def _kind(module: nn.Module) -> tuple[Any, ...]:
    """Classes, words and flags of a module and all within; of anything else the type alone."""
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
