"""What a trace knows of one tensor, carried by the tensor itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeAlias

import torch

from secateur.terms import ONE, Axis, Term, find, freeze, unify
from secateur.trace.tracked_ints import source_line

_SLOT = "_secateur_type"


class Place(NamedTuple):
    """A dimension of a parameter, buffer or plain tensor attribute, from position `start` on.

    `gain`: the tensor that scales its rows, where its own length does not count ("" if none does).
    """

    name: str
    dim: int
    start: int = 0
    gain: str | None = None

    @property
    def scaled(self) -> Place | None:
        """Where its rows can be scaled."""
        return self if self.gain is None else Place(self.gain, self.dim, self.start) if self.gain else None


@dataclass(frozen=True, slots=True)
class Origin:
    """One way in which a tensor is made of parameters: scaling the rows it was made of scales it by the same factor.

    A layer's output has a shape, of which dimension `channel` counts the rows of `parameters` (its weight and bias);
    `steps` are the ops from there on that moved, joined or rescaled elements. Without parameters the elements come
    from elsewhere, and nothing scales them. A tensor may have several: the terms of a sum, the parts of a `cat`.
    """

    shape: tuple[int, ...]
    channel: int
    parameters: tuple[Place, ...]
    steps: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def then(self, name: str, *arguments: Any) -> Origin:
        """The same after one more op."""
        return Origin(self.shape, self.channel, self.parameters, (*self.steps, (name, arguments)))


def elsewhere(shape: Sequence[int]) -> Origin:
    """The origin of elements that nothing scales."""
    return Origin(tuple(shape), 0, ())


Origins: TypeAlias = "tuple[Origin, ...]"


Rows: TypeAlias = "Term | list[Rows]"


class Typed:
    """The term of every dimension; whether silenced units hold zeros there; the parameter dimension it is, if any.

    `groups` is the term of its groups, if the tensor is the weight of a grouped convolution; `numbers` the term whose
    units its values number, if it says which were chosen. `rows`: the tensor stacks, along its first dimensions,
    tensors whose last dimensions have these terms; until something reads that dimension as one (`found`), they share no
    more than their count. `blank`: its version while it held nothing but zeros. `summed`: it is the sum over this term.
    `weighed`: it is a matrix times a tensor of the model, over this term. `read`: whether anything has looked at it.
    `picks`: it is a list of whole numbers that the model holds, which stays whole, for this reason, as soon as anything
    but a pick reads it (`rules/index.py`). `name`: the tensor of the model that it is, whole and as it is stored.
    """

    __slots__ = (
        *("at", "blank", "dims", "groups", "name", "numbers", "origins", "picks", "read", "rows", "summed", "weighed"),
        "zero",
    )

    def __init__(
        self,
        dims: Sequence[Term],
        zero: Sequence[bool] | None = None,
        at: Sequence[Place | None] | None = None,
        origins: Origins = (),
    ):
        self.dims = list(dims)
        self.zero = list(zero) if zero is not None else [True] * len(self.dims)
        self.at = list(at) if at is not None else None
        self.origins = origins
        self.groups: Term | None = None
        self.numbers: Term | None = None
        self.rows: list[Rows] | None = None
        self.blank: int | None = None
        self.summed: Term | None = None
        self.read = False
        self.weighed: Term | None = None
        self.picks: str | None = None
        self.name: str | None = None

    def __deepcopy__(self, memo: object) -> Typed:
        return self  # copies of a tensor are of the same units

    def __reduce__(self) -> tuple[type[torch.Size], tuple[()]]:
        """Nothing of a trace is written to a file, so what is read from there is a constant."""
        for dim in self.found():
            freeze(dim, lambda: f"its values left PyTorch at {source_line()}")
        return torch.Size, ()

    def found(self) -> list[Term]:
        """The terms as they are now, the same for all that is stacked."""
        if self.rows is not None:
            for term in leaves(self.rows):
                unify(self.dims[-1], term, "stacked states without a common refinement")
            self.rows = None
        return self.counted()

    def counted(self) -> list[Term]:
        """The terms as they are now, for who asks for no more than sizes and leaves the last dimension alone."""
        self.dims = [find(dim) for dim in self.dims]
        return self.dims


def leaves(rows: Rows) -> Iterator[Term]:
    """The terms that are stacked, first to last."""
    if isinstance(rows, list):
        for row in rows:
            yield from leaves(row)
    else:
        yield rows


def fresh(shape: Sequence[int], frozen: str | None) -> list[Term]:
    """New axes of the given sizes."""
    return [Axis(int.__index__(n), frozen) if n != 1 else ONE for n in shape]


def get(tensor: torch.Tensor) -> Typed | None:
    """The type a tensor carries, if a trace gave it one."""
    return vars(tensor).get(_SLOT) or None  # of what was pickled an empty one comes back


def put(tensor: torch.Tensor, typed: Typed) -> None:
    """Give a tensor its type."""
    vars(tensor)[_SLOT] = typed


def mark_blank(tensor: torch.Tensor) -> None:
    """Note that a tensor holds nothing but zeros, as long as nothing is written to it (through whatever view)."""
    typed = get(tensor)
    if typed is not None and not tensor.is_inference():
        typed.blank = tensor._version
        typed.zero = [True] * len(typed.zero)


def is_blank(tensor: torch.Tensor) -> bool:
    """Whether a tensor is known to hold nothing but zeros."""
    typed = get(tensor)
    return typed is not None and typed.blank is not None and typed.blank == tensor._version


def beside(tensor: torch.Tensor) -> dict[str, Any]:
    """What else a tensor carries."""
    return {name: value for name, value in vars(tensor).items() if name != _SLOT}


def drop(tensor: torch.Tensor) -> None:
    """Take the type away."""
    vars(tensor).pop(_SLOT, None)
