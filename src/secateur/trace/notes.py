"""The data that recorded runs collect: sizes, roles, MACs, the readers of units, and reasons for freezing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch.multiprocessing.reductions import StorageWeakRef

from secateur.graph.consumers import Consumer
from secateur.graph.parts import At, Reading, Sample, TracedStep
from secateur.graph.sizes import Dim
from secateur.plan.parts import Renorm
from secateur.terms import Reason, Term, freeze, keep_at_least, mingle, reason, unify
from secateur.trace.attention_heads import Attention
from secateur.trace.attention_scaling import Query
from secateur.trace.interceptor import Interceptor
from secateur.trace.memory import Memory
from secateur.trace.storage_lifetimes import Life
from secateur.trace.tracked_ints import Ledger, Num, Shape, source_line
from secateur.trace.typed import Typed, fresh, get, put

BAKE = "torch.nn.utils.parametrize.remove_parametrizations(module, 'weight') makes it a plain weight"


@dataclass(frozen=True, slots=True)
class Macs:
    """The MACs of one op: one per element of the product of `terms`; `layer` is its weight, or its module."""

    terms: tuple[Term, ...]
    layer: str


class Notes(Interceptor):
    """Everything that one or several recorded runs collect, before the sizes are solved."""

    def __init__(self, module_names: dict[int, str], device: torch.device | None, *, lift: bool = False):
        super().__init__(module_names, device, lift=lift)
        self.ledger = Ledger()
        self.roles: dict[tuple[str, int], str] = {}
        self.macs: list[Macs] = []
        self.counting = True
        self.unknown: Counter[str] = Counter()
        self.untrained: str | None = None  # why a call in training mode failed
        self.renorms: dict[str, Renorm] = {}
        self.readers: dict[str, Consumer] = {}
        self.samples: dict[str, Sample] = {}  # the shapes of the first call of each op without a rule
        self.reached: set[str] = set()
        self.measured: set[str] = set()  # tensors of the model whose size was read
        self.written: dict[int, StorageWeakRef] = {}  # storages that were overwritten in place with non-zero values
        self.path: list[TracedStep] = []
        self.readings: dict[At, Reading] = {}
        self.ran = ""  # the name of the call that just ran
        self.numbered: dict[str, int] = {}  # the ops of each module in the requested calls
        self.attention = Attention()
        self.queries: list[Query] = []
        self.used: list[Typed] = []  # tensors used in ways that are not proportional to them
        self.life = Life()
        self.memory = Memory()

    def known(self, tensor: torch.Tensor) -> Typed | None:
        """Return the type of a tensor if it carries one, or if the type of its memory is known."""
        typed = get(tensor)
        if typed is None:
            typed = self.memory.found(
                tensor, lambda: f"its memory is used outside PyTorch (first seen at {self.where()})"
            )
            if typed is not None:
                put(tensor, typed)
        return typed

    def typed(self, tensor: torch.Tensor) -> Typed:
        """Return the type of a tensor; a constant that no rule has made is frozen."""
        typed = self.known(tensor)
        if typed is not None:
            typed.read = True
            if typed.picks is not None:
                self.keep_whole(typed, typed.picks)
            if typed.name is not None:
                self.reached.add(typed.name)
            elif typed.at is not None:
                self.reached.update(place.name for place in typed.at if place is not None)
            return typed
        typed = Typed(fresh(tensor.shape, f"a constant tensor (first seen at {self.where()})"))
        put(tensor, typed)
        return typed

    def keep_whole(self, typed: Typed, why: str) -> None:
        """Freeze a list of integers that something other than a pick reads."""
        typed.picks = None
        for dim in typed.found():
            freeze(dim, why)

    def where(self) -> str:
        """Return the source line and the module path of the call that is being recorded."""
        path = self.module_path()
        return f"{source_line()} in {path}" if path else source_line()

    def mend(self) -> str:
        """Return a remedy if a parametrization causes the problem, else an empty string."""
        return f" ({BAKE})" if ".parametrizations." in self.module_path() else ""

    def reason(self, why: Reason) -> str:
        return reason(why)

    def keep_two(self, term: Term) -> None:
        """Keep at least two units in a dimension that would be squeezed or broadcast with one."""
        keep_at_least(term, 2)

    def unify(self, x: Term, y: Term) -> None:
        unify(x, y, lambda: f"the operands split this dimension in incompatible ways at {self.where()}")

    def group_term(self, weight: torch.Tensor) -> Term | None:
        """Return the term of the groups of a grouped layer, given its weight."""
        typed = get(weight)
        return typed.groups if typed is not None else None

    def add_macs(self, name: str, weight: torch.Tensor | None, terms: Sequence[Term]) -> None:
        """Add one MAC per element of the product of the terms, for the op of this name and its weight, if any."""
        if self.counting and not self.ledger.uncounted:
            at = self.typed(weight).at if weight is not None else None
            place = next((p for p in at if p is not None), None) if at else None
            self.macs.append(Macs(tuple(terms), place.name if place else f"{self.module_path()} ({name})"))

    def note_read(self, argument: str, tensor: torch.Tensor, dim: int, out: int | None) -> None:
        """Record a reduction over a dimension of an argument; `out`: the same dimension of the result."""
        dim %= tensor.dim()
        reading = self.reading()
        reading.reads.append((argument, dim, out, self.typed(tensor).dims[dim]))
        mingle(self.typed(tensor).found(), dim)

    def note_reader(
        self, channels: Term, weight: tuple[torch.Tensor, int], bias: torch.Tensor | None, groups: int
    ) -> None:
        """Record that a weight sums over channels along one of its dimensions.

        Parts of a parameter, and tensors that are made of several, are not recorded.
        """
        at = self.typed(weight[0]).at
        place = at[weight[1]] if at is not None else None
        if at is None or place is None or any(p is None or p.name != place.name or p.start for p in at):
            return
        held = self.typed(bias).at if bias is not None else None
        name = held[-1].name if held is not None and held[-1] is not None else None
        self.readers.setdefault(place.name, Consumer(place.name, place.dim, channels, name, groups))

    def reading(self) -> Reading:
        """Return the record of the call that just ran."""
        return self.readings.setdefault(self.at, Reading(self.ran))

    def note_resized(self, argument: str, *terms: Term) -> None:
        """Record that an argument of the op that just ran is the size of these terms if only kept units are read."""
        self.reading().resized[argument] = terms

    def retyped(self, out: torch.Tensor) -> None:
        """Update the records after the result of the call that just ran has received other terms."""
        self.life.retyped(out)
        reading = self.readings.get(self.at)
        if reading is not None and reading.drawn is not None:
            reading.drawn = tuple(self.typed(out).found())

    def note_renorm(self, renorm: Renorm, dims: Sequence[Term]) -> None:
        """Record that a weight is divided by its norm: a check must zero the quotient, not the weight."""
        self.renorms[renorm.of] = renorm
        self.reading().masked = tuple(dims)

    def returned(self, tensors: Sequence[torch.Tensor]) -> None:
        """Freeze the dimensions of the tensors that the model returned, and the units that they number."""
        for typed in filter(None, map(self.known, tensors)):
            for dim in typed.found():
                freeze(dim, "model output")
            if typed.numbers is not None:
                freeze(typed.numbers, "the model returns the numbers of selected units")

    def numbers(self, tensor: torch.Tensor) -> tuple[int, ...]:
        """Return the shape of a tensor as Nums."""
        typed = self.known(tensor)
        if typed is None:
            return tensor.shape
        typed.read = True
        if typed.name is not None:
            self.measured.add(typed.name)
        return Shape(Num(int.__index__(n), Dim(d)) for n, d in zip(tensor.shape, typed.dims, strict=True))
