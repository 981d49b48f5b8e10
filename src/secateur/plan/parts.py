"""The parts of a plan: plain values, without tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeAlias


class Cache(NamedTuple):
    """A dict or list that a module holds as an attribute."""

    module: str
    name: str


Code: TypeAlias = "str | int | Mapping[str, Sequence[Code]]"

# Which of its arguments a block returned, by position or keyword: one, or a tuple of them with None for other outputs.
# None alone: its only argument.
Gives: TypeAlias = "int | str | tuple[int | str | None, ...] | None"

# A plain value of JSON, for an option of a recovery step.
Option: TypeAlias = "str | int | float | bool | None"


@dataclass(frozen=True, slots=True)
class AxisPlan:
    """The units of an axis that stay.

    Attributes:
        size: The number of units before the cut.
        kept: The units that stay, ascending; one tuple per unit of `outer` if the axis has one; None if all stay.
        outer: The term whose units choose units of this axis separately, such as heads with channels of their own.
    """

    size: int
    kept: tuple[int, ...] | tuple[tuple[int, ...], ...] | None
    outer: Code | None = None

    @property
    def kept_count(self) -> int:
        """The number of units that stay, for each outer unit if there are."""
        if self.kept is None:
            return self.size
        return len(self.kept[0]) if self.outer is not None else len(self.kept)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class AttributeChange:
    """A change of an integer attribute of a module, or of one entry of a tuple or list of integers."""

    module: str
    name: str
    index: int | None
    old: int
    new: int


@dataclass(frozen=True, slots=True)
class Scale:
    """A factor for rows of a parameter: half-open ranges of positions of dimension `dim`."""

    name: str
    dim: int
    rows: tuple[tuple[int, int], ...]
    factor: float


@dataclass(frozen=True, slots=True)
class Renorm:
    """A gain of weight norm that a cut changes.

    The gain `name` scales the weight `of` after each slice along `dim` is divided by its norm. A cut makes the slices
    shorter, so the gain is multiplied by the share of the norm that is left, and the kept weights keep their values.
    """

    name: str
    of: str
    dim: int


@dataclass(frozen=True, slots=True)
class Added:
    """A parameter of zeros, such as `conv2.bias`, that the cut model has in addition to the original ones.

    It is as long as dimension `dim` of `like` after the cut, and has its dtype, device and `requires_grad`. The module
    must have been built without it (`bias=False`): it runs the same, and recovery can write to the new parameter.
    """

    name: str
    like: str
    dim: int


@dataclass(frozen=True, slots=True)
class Recovery:
    """A step that changed weights after the cut, such as `lsq`, with its options.

    The weights themselves are in the saved file only: a plan cannot restore them.
    """

    step: str
    options: Mapping[str, Option] = field(default_factory=dict)


HEADINGS = {"params": "parameters", "macs": "MACs", "memory": "memory (bytes)"}
"""The costs that every plan counts, with their headings in tables. Further kinds have their own headings."""


class Amount(NamedTuple):
    """The amount of a kind of cost (None if unknown), and its heading in tables."""

    value: int | float | None
    heading: str


@dataclass(frozen=True, slots=True)
class Totals:
    """The total of each kind of cost of a model (see `secateur.cost.kinds`); `totals[kind]` is None if unknown.

    Every plan counts parameters, multiply-adds, and bytes at the peak of a call; `more` holds all further kinds, with
    their headings, so that a plan can also be read where a kind is not registered.

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
        """Return totals from amounts by kind, the inverse of `amounts`."""
        first = {kind: amounts[kind].value for kind in HEADINGS}
        more = {kind: amount for kind, amount in amounts.items() if kind not in HEADINGS}
        return Totals(**first, more=more)  # type: ignore[arg-type]

    @staticmethod
    def read(params: int, macs: int, memory: int | None = None, more: Mapping[str, Any] | None = None) -> Totals:
        """Return totals from plain data, the inverse of `as_list`."""
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
        """Return the values by kind, as plain data."""
        return {kind: amount.value for kind, amount in self.amounts.items()}

    def as_list(self) -> list[Any]:
        """Return plain data for JSON, without an unknown value at the end."""
        if self.more:
            return [self.params, self.macs, self.memory, dict(self.more)]
        return [self.params, self.macs, *([self.memory] if self.memory is not None else [])]


@dataclass(frozen=True, slots=True)
class Pick:
    """The entries that stay of a list or tuple that a module, or an object below it, holds."""

    module: str
    name: str
    old: tuple[Any, ...]
    kept: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Renumbering:
    """What closing the gaps in lists of layers changes.

    Attributes:
        lists: The modules whose members get new numbers.
        numbers: Integers that change with them, such as the index or the number of layers.
        picks: Lists with one entry per layer that lose the entries of removed layers.
    """

    lists: tuple[str, ...]
    numbers: tuple[AttributeChange, ...] = ()
    picks: tuple[Pick, ...] = ()
