"""The table that `print(masks)` shows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from secateur.base.text import counted, folded, listed, paged, share, times
from secateur.masks.criteria import Measure
from secateur.masks.sparsify import Rules

HEAD = ("weight", "shape", "of", "kept", "zero")
SHOWN = 5
FOLD_ABOVE = 40  # up to this many weights are listed one by one


class Printed(Protocol):
    """What `table` reads of `Masks`."""

    @property
    def masks(self) -> Mapping[str, Tensor]: ...
    @property
    def density(self) -> Mapping[str, float]: ...
    @property
    def sparsity(self) -> float: ...
    @property
    def left_out(self) -> Mapping[str, str]: ...
    @property
    def measure(self) -> Measure: ...
    @property
    def rules(self) -> Rules: ...


def table(masks: Printed) -> str:
    """Return what is kept of each weight, and in total, as text.

    >>> import torch
    >>> from secateur.masks import mask
    >>> print(table(mask(torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)), 0.5, scope="layer")))
    50.0 % of 48 weights are zero: unstructured, by magnitude, share of each layer
    <BLANKLINE>
    weight    shape  of  kept    zero
    0.weight    8x4  32    16  50.0 %
    1.weight    2x8  16     8  50.0 %
    """
    rows = _rows(masks)
    total, zero = sum(mask.numel() for mask in masks.masks.values()), masks.sparsity
    head = f"{share(zero)} of {counted(total, 'weight')} are zero: {_how(masks)}"
    left = [f"{name} has no mask: {why}" for name, why in masks.left_out.items()]
    extra = [*left, *_blocked(masks)]
    return "\n".join([head, "", *paged([HEAD, *rows], right=range(1, len(HEAD))), *(["", *extra] if extra else [])])


def _blocked(masks: Printed) -> list[str]:
    """Return a warning for layers without any weight left, which scope="global" may produce."""
    empty = [name for name, kept in masks.masks.items() if kept.dim() > 1 and not kept.any()]
    if not empty:
        return []
    return [
        f"every weight is zero in {listed(empty, SHOWN)}: its inputs have no effect any more",
        "use scope='layer' or a lower sparsity, or protect it",
    ]


def _how(masks: Printed) -> str:
    criterion = masks.measure.criterion
    by = criterion if isinstance(criterion, str) else getattr(criterion, "__name__", type(criterion).__name__)
    spread = {"global": "over the network", "layer": "share of each layer", "output": "share of each output"}
    scope = f", {spread[masks.rules.scope]}" if masks.rules.pattern != "2:4" else ""
    return f"{masks.rules.pattern}, by {by}{scope}"


def _rows(masks: Printed) -> list[tuple[str, ...]]:
    found = masks.masks
    rows = [
        (
            name,
            "x".join(map(str, mask.shape)),
            f"{mask.numel():,}",
            f"{int(mask.count_nonzero()):,}",
            share(1 - density),
        )
        for (name, mask), density in zip(found.items(), masks.density.values(), strict=True)
    ]
    if len(rows) <= FOLD_ABOVE:
        return rows
    groups = folded([row[0] for row in rows], [row[1:] for row in rows])
    return [(times(name, len(places)), *rows[places[0]][1:]) for name, places in groups]


__all__ = ["table"]
