"""What a trace knows about one tensor; the tensor itself carries it."""

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

    `gain`: the tensor that scales its rows, if it is normalised itself ("" if no tensor does).
    """

    name: str
    dim: int
    start: int = 0
    gain: str | None = None

    @property
    def scaled(self) -> Place | None:
        """The place where its rows can be scaled."""
        return self if self.gain is None else Place(self.gain, self.dim, self.start) if self.gain else None


@dataclass(frozen=True, slots=True)
class Origin:
    """Parameters that a tensor is computed from: scaling their rows scales the tensor by the same factor.

    `shape` is the shape of a layer's output, and its dimension `channel` runs over the rows of `parameters` (the weight
    and bias); `steps` are the ops since then, which moved, joined or rescaled elements. Without parameters the elements
    cannot be scaled. A tensor may have several origins: the terms of a sum, the parts of a `cat`.
    """

    shape: tuple[int, ...]
    channel: int
    parameters: tuple[Place, ...]
    steps: tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def then(self, name: str, *arguments: Any) -> Origin:
        """Return the origin after one more op."""
        return Origin(self.shape, self.channel, self.parameters, (*self.steps, (name, arguments)))


def elsewhere(shape: Sequence[int]) -> Origin:
    """Return the origin of elements that cannot be scaled."""
    return Origin(tuple(shape), 0, ())


Origins: TypeAlias = "tuple[Origin, ...]"


Rows: TypeAlias = "Term | list[Rows]"


class Typed:
    """The type of a tensor: the term of each dimension, whether silenced units are zero there, and what else is known.

    Attributes:
        dims: the term of each dimension.
        zero: per dimension, whether silenced units are zero.
        at: per dimension, the dimension of a parameter that it is, or None.
        origins: the parameters that the tensor is computed from.
        groups: the term of the groups, if the tensor is the weight of a grouped convolution.
        numbers: the term whose units the values are indices of, if the tensor says which units were selected.
        rows: if the tensor stacks others along its first dimensions, the terms of their last dimensions. They share
            only their size until something reads that dimension as a whole (`found`).
        blank: the version of the tensor at which it held only zeros.
        summed: the term that the tensor is a sum over.
        weighed: the term over which the tensor is a product of a matrix and a tensor of the model.
        read: whether anything has used the tensor.
        picks: for a buffer of integers, the reason for which it is frozen as soon as anything but a pick reads it
            (`rules/index.py`).
        name: the name of the tensor of the model that this is, unchanged and complete.
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
        return self  # copies of a tensor have the same units

    def __reduce__(self) -> tuple[type[torch.Size], tuple[()]]:
        """Freeze the dimensions, because a tensor that is read back from a pickle is a constant."""
        for dim in self.found():
            freeze(dim, lambda: f"its values left PyTorch at {source_line()}")
        return torch.Size, ()

    def found(self) -> list[Term]:
        """Return the current terms, after unifying the last dimensions of stacked tensors."""
        if self.rows is not None:
            for term in leaves(self.rows):
                unify(self.dims[-1], term, "stacked states split this dimension in incompatible ways")
            self.rows = None
        return self.counted()

    def counted(self) -> list[Term]:
        """Return the current terms without unifying stacked tensors, for callers that need only sizes."""
        self.dims = [find(dim) for dim in self.dims]
        return self.dims


def leaves(rows: Rows) -> Iterator[Term]:
    """Yield the terms that are stacked, first to last."""
    if isinstance(rows, list):
        for row in rows:
            yield from leaves(row)
    else:
        yield rows


def fresh(shape: Sequence[int], frozen: str | None) -> list[Term]:
    """Return new axes of the given sizes."""
    return [Axis(int.__index__(n), frozen) if n != 1 else ONE for n in shape]


def get(tensor: torch.Tensor) -> Typed | None:
    """Return the type that a tensor carries, or None."""
    return vars(tensor).get(_SLOT) or None  # a pickled type comes back empty


def put(tensor: torch.Tensor, typed: Typed) -> None:
    """Set the type of a tensor."""
    vars(tensor)[_SLOT] = typed


def mark_blank(tensor: torch.Tensor) -> None:
    """Record that a tensor holds only zeros, until something is written to it or to a view of it."""
    typed = get(tensor)
    if typed is not None and not tensor.is_inference():
        typed.blank = tensor._version
        typed.zero = [True] * len(typed.zero)


def is_blank(tensor: torch.Tensor) -> bool:
    """Return whether a tensor is known to hold only zeros."""
    typed = get(tensor)
    return typed is not None and typed.blank is not None and typed.blank == tensor._version


def beside(tensor: torch.Tensor) -> dict[str, Any]:
    """Return the other attributes of a tensor."""
    return {name: value for name, value in vars(tensor).items() if name != _SLOT}


def drop(tensor: torch.Tensor) -> None:
    """Remove the type of a tensor."""
    vars(tensor).pop(_SLOT, None)
