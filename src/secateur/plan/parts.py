"""The parts of a plan: plain values, without tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias


class Cache(NamedTuple):
    """A dict or list that a module holds under a name of its own."""

    module: str
    name: str


Code: TypeAlias = "str | int | Mapping[str, Sequence[Code]]"

# What a block gave of its arguments, by position or keyword: one, or a tuple of them and None for what else it gave.
# None alone: the only argument it had.
Gives: TypeAlias = "int | str | tuple[int | str | None, ...] | None"

# A plain value of JSON: what an option of a recovery step is set to.
Option: TypeAlias = "str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """Of `size` units these stay: a list, or one list per unit of `outer` if each of those chooses its own."""

    size: int
    kept: tuple[int, ...] | tuple[tuple[int, ...], ...] | None
    outer: Code | None = None

    @property
    def kept_count(self) -> int:
        """How many units stay (for each outer unit)."""
        if self.kept is None:
            return self.size
        return len(self.kept[0]) if self.outer is not None else len(self.kept)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """An integer attribute of a module, or one place of a tuple or list of them."""

    module: str
    name: str
    index: int | None
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Scale:
    """Rows of a parameter dimension, as half-open ranges, are multiplied by `factor`."""

    name: str
    dim: int
    rows: tuple[tuple[int, int], ...]
    factor: float


@dataclass(frozen=True, slots=True)
class Renorm:
    """A gain `name` scales a weight `of` after each slice along `dim` was divided by its norm (weight norm). What is
    dropped of the slices shortens them: the gain is multiplied by what is left of their norm, so that what is kept of
    the weight stays what it was."""

    name: str
    of: str
    dim: int


@dataclass(frozen=True, slots=True)
class Added:
    """A parameter of zeros, `conv2.bias`, that the cut model has in addition to the original ones. It is as long as
    dimension `dim` of `like` after the cut, and of its dtype, device and `requires_grad`. Its module must have been
    built without it, as `bias=False` does: then it runs the same, and recovery has somewhere to write to."""

    name: str
    like: str
    dim: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """A step that changed weights after the cut, as `lsq`, and the options it was taken with. The weights themselves
    are in the saved file: a plan cannot give them again."""

    step: str
    options: Mapping[str, Option] = field(default_factory=dict)


HEADINGS = {"params": "parameters", "macs": "MACs", "memory": "memory (bytes)"}
"""What every plan counts, as tables print it. Further kinds bring their own headings."""


class Amount(NamedTuple):
    """How much there is of a kind (None if unknown), and how tables call it."""

    value: int | float | None
    heading: str


@dataclass(frozen=True, slots=True)
class Totals:
    """What a model has of each kind of cost (see `secateur.cost.kinds`); `totals["macs"]` is None if unknown.

    Every plan knows parameters, multiply-adds, and bytes at the peak of a call; `more` holds all further kinds. It says
    by itself how they print, so that a plan can be read where the table has no such row.

    >>> totals = Totals(58, 48, None, {"units": Amount(8, "units")})
    >>> totals["macs"], totals["units"], totals["memory"], totals["watts"]
    (48, 8, None, None)
    """

    params: int
    macs: int
    memory: int | None = None
    more: Mapping[str, Amount] = field(default_factory=dict, hash=False)

    @staticmethod
    def of(amounts: Mapping[str, Amount]) -> Totals:
        """From amounts by kind; `amounts` gives them back."""
        first = {kind: amounts[kind].value for kind in HEADINGS}
        more = {kind: amount for kind, amount in amounts.items() if kind not in HEADINGS}
        return Totals(**first, more=more)  # type: ignore[arg-type]

    @staticmethod
    def read(params: int, macs: int, memory: int | None = None, more: Mapping[str, Any] | None = None) -> Totals:
        """From plain data, as `as_list` writes it."""
        return Totals(params, macs, memory, {kind: Amount(*amount) for kind, amount in (more or {}).items()})

    @property
    def amounts(self) -> dict[str, Amount]:
        """All amounts by kind."""
        first = {kind: Amount(getattr(self, kind), heading) for kind, heading in HEADINGS.items()}
        return {**first, **self.more}

    def __getitem__(self, kind: str) -> int | float | None:
        amount = self.amounts.get(kind)
        return None if amount is None else amount.value

    def as_dict(self) -> dict[str, int | float | None]:
        """Plain data: the values by kind."""
        return {kind: amount.value for kind, amount in self.amounts.items()}

    def as_list(self) -> list[Any]:
        """Plain data for JSON, what is unknown left out where nothing follows."""
        if self.more:
            return [self.params, self.macs, self.memory, dict(self.more)]
        return [self.params, self.macs, *([self.memory] if self.memory is not None else [])]


@dataclass(frozen=True, slots=True)
class Pick:
    """Of a list or tuple that a module (or an object below it) holds, with these entries, some stay."""

    module: str
    name: str
    old: tuple[Any, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Renumbering:
    """What closing gaps changes. lists: the modules whose members get new numbers; numbers: integers that follow."""

    lists: tuple[str, ...]
    numbers: tuple[AttributeChange, ...] = ()
    picks: tuple[Pick, ...] = ()
