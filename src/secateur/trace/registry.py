"""The tables of rules. A rule is a function in `rules/` that states how an op relates the terms of its tensors.

A rule is keyed by an aten op (`"aten::permute"`) or by a torch function (`F.layer_norm`), whichever is seen first, and
receives an `Op`. An op is in one of three states: it has a rule; its rule makes it opaque (`op.opaque`); or it is
unknown, which freezes the dimensions of its tensors and is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from secateur.base.table import Table

OpRule: TypeAlias = "Callable[[Any], None]"
"""A rule, which receives an `Op`."""
Decorator: TypeAlias = "Callable[[Callable[..., Any]], Callable[..., Any]]"

ATEN: Table[str, OpRule] = Table("rules for")
FUNCTIONS: Table[Callable[..., Any], tuple[OpRule, tuple[str, ...]]] = Table("rules for")
# Torch functions written in Python that are replaced by equivalent plain ops during a trace.
PLAIN: Table[Callable[..., Any], Callable[..., Any]] = Table("plain forms for")
# Torch functions whose arguments are rewritten first.
PLAINER: Table[Callable[..., Any], Callable[..., tuple[Any, ...]]] = Table("ways to put the arguments of")
# Replacements for torch functions without a float64 kernel, used when everything is lifted to float64.
IN_DOUBLE: Table[Callable[..., Any], Callable[..., Any]] = Table("float64 forms of")


def rule(*names: str) -> Callable[[OpRule], OpRule]:
    """Register a rule for aten ops, named without overload; it also serves their in-place forms."""
    return ATEN.register(*names)


def function_rule(function: Callable[..., Any], parameters: str) -> Callable[[OpRule], OpRule]:
    """Register a rule for a torch function that is not traced into; `parameters` names its arguments."""

    def register(body: OpRule) -> OpRule:
        FUNCTIONS[function] = (body, tuple(parameters.split()))
        return body

    return register


def plain_form(function: Callable[..., Any]) -> Decorator:
    """Register an equivalent in plain ops for a torch function that is written in Python."""
    return PLAIN.register(function)


def plainer(function: Callable[..., Any]) -> Decorator:
    """Register a function that rewrites the arguments of a torch function in a simpler, equivalent form."""
    return PLAINER.register(function)


def in_double(function: Callable[..., Any]) -> Decorator:
    """Register a float64 form of a torch function that has no float64 kernel."""
    return IN_DOUBLE.register(function)
