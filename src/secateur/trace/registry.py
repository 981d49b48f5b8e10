"""Rules: what an op says about the terms of its operands. One decorated function an op, in `rules/`.

A rule is keyed by an aten op (`"aten::permute"`) or by a torch function (`F.layer_norm`), whichever is the outermost
that is seen. It receives an `Op`. Three states and no fourth: coupled by a rule; opaque on purpose (`op.opaque`);
unknown, which freezes what the op touches and is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from secateur.base.table import Table

OpRule: TypeAlias = "Callable[[Any], None]"
"""What an op says: it receives an `Op`."""
Decorator: TypeAlias = "Callable[[Callable[..., Any]], Callable[..., Any]]"

ATEN: Table[str, OpRule] = Table("rules for")
FUNCTIONS: Table[Callable[..., Any], tuple[OpRule, tuple[str, ...]]] = Table("rules for")
# Torch functions that are Python inside, replaced by an equivalent of plain ops while a trace runs.
PLAIN: Table[Callable[..., Any], Callable[..., Any]] = Table("plain forms for")
# Torch functions whose arguments are put in a plainer way first.
PLAINER: Table[Callable[..., Any], Callable[..., tuple[Any, ...]]] = Table("ways to put the arguments of")
# What stands in for torch functions without a float64 form where everything is lifted to float64.
IN_DOUBLE: Table[Callable[..., Any], Callable[..., Any]] = Table("float64 forms of")


def rule(*names: str) -> Callable[[OpRule], OpRule]:
    """Register a rule for aten ops, named without overload; it also serves their in-place forms."""
    return ATEN.register(*names)


def function_rule(function: Callable[..., Any], parameters: str) -> Callable[[OpRule], OpRule]:
    """Register a rule for a torch function whose inside is not to be looked at; `parameters` names its arguments."""

    def register(body: OpRule) -> OpRule:
        FUNCTIONS[function] = (body, tuple(parameters.split()))
        return body

    return register


def plain_form(function: Callable[..., Any]) -> Decorator:
    """Register an equivalent of plain ops for a torch function that is Python inside."""
    return PLAIN.register(function)


def plainer(function: Callable[..., Any]) -> Decorator:
    """Register what gives the arguments of a torch function in a plainer way, of the same meaning."""
    return PLAINER.register(function)


def in_double(function: Callable[..., Any]) -> Decorator:
    """Register a float64 form of a torch function that has none."""
    return IN_DOUBLE.register(function)
