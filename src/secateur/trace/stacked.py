"""Tensors whose rows have different axes, such as the last states of all layers of a recurrent network.

An op that reads such a tensor as a whole unifies the units of its rows (`Typed.found`). For ops that select rows or
keep them separate, this module states what happens to the rows, so that `h[-1]` concerns only the last layer.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from secateur.base.table import Table
from secateur.terms import settle
from secateur.trace.op import Op
from secateur.trace.registry import OpRule
from secateur.trace.typed import Rows, Typed, get, leaves

Carry: TypeAlias = "Callable[[Op, list[Rows]], list[Rows] | None]"
CARRIES: Table[str, Carry] = Table("ways to carry rows through")


def carry(*names: str) -> Callable[[Carry], Carry]:
    """Register a function for aten ops that returns the rows of each result, or None if they must be unified."""
    return CARRIES.register(*names)


def stack(out: torch.Tensor, rows: list[Rows]) -> None:
    """Record that a typed tensor stacks tensors with these last dimensions."""
    typed = get(out)
    assert typed is not None
    typed.rows = rows


def apply(rule: OpRule, op: Op) -> None:
    """Run a rule; if the op keeps the rows of a stacked operand separate, the rule sees the first of them."""
    source = op["self"]
    typed = get(source) if op.name in CARRIES and isinstance(source, torch.Tensor) else None
    made = CARRIES[op.name](op, typed.rows) if typed is not None and typed.rows is not None else None
    if typed is None or made is None:
        return rule(op)
    rows, typed.rows = typed.rows, None
    try:
        rule(op)
    finally:
        typed.rows = rows
    for out, row in zip(op.outs, made, strict=True):
        _set_rows(get(out), row)


def _set_rows(typed: Typed | None, row: Rows) -> None:
    assert typed is not None
    if isinstance(row, list):
        typed.rows = row
    typed.dims[-1] = next(leaves(row))
    settle(typed.dims)


@carry("aten::select")
def _select(op: Op, rows: list[Rows]) -> list[Rows] | None:
    return [rows[op["index"]]] if op["dim"] % op["self"].dim() == 0 else _between(op, op["dim"], rows)


@carry("aten::unbind")
def _unbind(op: Op, rows: list[Rows]) -> list[Rows] | None:
    return rows if op.get("dim", 0) % op["self"].dim() == 0 else None


@carry("aten::slice")
def _slice(op: Op, rows: list[Rows]) -> list[Rows] | None:
    dim = op.get("dim", 0) % op["self"].dim()
    taken = rows[slice(op["start"], op["end"], op["step"])]
    return _between(op, dim, rows) if dim else ([taken] if taken else None)


@carry("aten::index_select", "aten::squeeze")
def _along(op: Op, rows: list[Rows]) -> list[Rows] | None:
    dims = op["dim"] if isinstance(op["dim"], (tuple, list)) else [op["dim"]]
    kept = all(isinstance(dim, int) and _between(op, dim, rows) for dim in dims)
    return [rows] if kept else None


def _between(op: Op, dim: int, rows: list[Rows]) -> list[Rows] | None:
    """Return the rows unchanged if an op concerns a dimension between the rows and their units, else None."""
    source = op["self"]
    return [rows] if _depth(rows) <= dim % source.dim() < source.dim() - 1 else None


def _depth(rows: Rows) -> int:
    return 1 + _depth(rows[0]) if isinstance(rows, list) else 0


@carry("aten::clone", "aten::alias", "aten::detach", "aten::_to_copy", "aten::native_dropout", "aten::dropout")
def _same(op: Op, rows: list[Rows]) -> list[Rows] | None:
    return [rows for _ in op.outs]


@carry("aten::view", "aten::_unsafe_view", "aten::reshape")
def _view(op: Op, rows: list[Rows]) -> list[Rows] | None:
    """[l*d, n, h] -> [l, d, n, h]"""
    source, shape = op["self"], op.outs[0].shape
    behind = source.dim() - _depth(rows)
    lead = shape[: len(shape) - behind]
    terms = list(leaves(rows))
    whole = shape[len(lead) :] == source.shape[_depth(rows) :] and math.prod(lead) == len(terms) and lead
    return [_nested(terms, lead)] if whole else None


def _nested(terms: Sequence[Rows], lead: Sequence[int]) -> list[Rows]:
    """Return rows in row-major order as nested lists of the sizes `lead`."""
    rows: list[Rows] = list(terms)
    for n in reversed(lead[1:]):
        rows = [rows[i : i + n] for i in range(0, len(rows), n)]
    return rows
