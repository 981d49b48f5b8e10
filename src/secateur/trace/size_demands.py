"""The table of torch functions that take or return sizes, and how their handlers require a size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch

from secateur.base.table import Table
from secateur.graph.sizes import Arithmetic, Dim, SizeEquation, SizeGuard
from secateur.terms import Term, cut, freeze
from secateur.trace.notes import Notes
from secateur.trace.tracked_ints import Num, escape, expression, plain
from secateur.trace.typed import get

Args: TypeAlias = "tuple[Any, ...]"
Handler: TypeAlias = "Callable[[Notes, Args, dict[str, Any], Any], Any]"
SIZED: Table[str, Handler] = Table("handlers for")


def sized(*names: str) -> Callable[[Handler], Handler]:
    """Register a handler for the torch functions and methods of these names."""
    return SIZED.register(*names)


def argument(args: Args, kwargs: dict[str, Any], place: int, name: str, default: Any = None) -> Any:
    """Return an argument that was passed by position or by name."""
    return args[place] if len(args) > place else kwargs.get(name, default)


def demand(recorder: Notes, wanted: Any, term: Term, name: str) -> None:
    """Require that a dimension has the wanted size: by an equation if the number has a history, else by freezing it."""
    if isinstance(wanted, torch.Tensor):
        return freeze(term, lambda: f"a size computed from data at {recorder.where()}")
    if isinstance(wanted, Num):
        if plain(wanted) != -1:
            recorder.ledger.equations.append(SizeEquation(wanted.expr, Dim(term), f"{name} at {recorder.where()}"))
    elif wanted != -1 and term.n != 1:
        freeze(term, lambda: f"{name}(..., {wanted}) is written at {recorder.where()}")


def demand_shape(recorder: Notes, shape: Sequence[Any], out: torch.Tensor, name: str) -> None:
    """Require that a result has the wanted shape."""
    typed = get(out)
    if typed is not None:
        for wanted, term in zip(shape, typed.counted(), strict=True):
            demand(recorder, wanted, term, name)


def demand_span(recorder: Notes, source: torch.Tensor, dim: int, start: Any, stop: Any) -> None:
    """Require for `source[start:stop]` that `start`, and `stop`, are the numbers of units before them.

    A negative bound must be the number of units after it; a bound beyond an end must stay beyond it.
    """
    term = recorder.typed(source).counted()[dim]
    for bound in (start, stop):
        if bound is None or isinstance(bound, torch.Tensor):
            continue
        at = plain(bound)
        offset = at + term.n if at < 0 else at
        if not 0 < offset < term.n:
            _beyond(recorder, bound, at, term)
            continue
        pieces = cut(term, [offset, term.n])
        if pieces is None:
            escape(bound, "used in a slice that cuts through units")
        elif at < 0:
            wanted = Num(-at, Arithmetic("-", 0, expression(bound))) if isinstance(bound, Num) else -at
            demand(recorder, wanted, pieces[1], "slice")
        else:
            demand(recorder, bound, pieces[0], "slice")


def _beyond(recorder: Notes, bound: Any, at: int, term: Term) -> None:
    """Require that a computed bound at or past an end stays there."""
    if not isinstance(bound, Num):
        return
    if at == term.n:
        demand(recorder, bound, term, "slice")
    elif at > term.n:
        recorder.ledger.guards.append(SizeGuard(">=", bound.expr, Dim(term), True, recorder.where()))
    else:
        escape(bound, "used as a slice bound at the front")


def shape_args(args: Sequence[Any], kwargs: dict[str, Any]) -> Sequence[Any]:
    """Return the sizes in `f(2, 3)`, `f((2, 3))`, `f(size=...)` or `f(shape=...)`."""
    sizes = args or kwargs.get("size") or kwargs.get("shape") or ()
    return sizes[0] if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes


def let_escape(args: Sequence[Any], name: str) -> None:
    """Let every Num among the arguments of a function escape."""
    for value in args:
        if isinstance(value, Num):
            escape(value, f"used in {name}")
        elif isinstance(value, (tuple, list)) and len(value) < 16:
            let_escape(value, name)
