"""Rules: what an op says about the terms of its operands. One decorated function an op, in `rules/`.

A rule is keyed by an aten op (`"aten::permute"`) or by a torch function (`F.layer_norm`), whichever is the outermost
that is seen. It receives an `Op`. Three states and no fourth: coupled by a rule; opaque on purpose (`op.opaque`);
unknown, which freezes what the op touches and is reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

OpRule: TypeAlias = "Callable[[Any], None]"
"""What an op says: it receives an `Op`."""
Decorator: TypeAlias = "Callable[[Callable[..., Any]], Callable[..., Any]]"

ATEN: dict[str, OpRule] = {}
FUNCTIONS: dict[Callable[..., Any], tuple[OpRule, tuple[str, ...]]] = {}
# Torch functions that are Python inside, replaced by an equivalent of plain ops while a trace runs.
PLAIN: dict[Callable[..., Any], Callable[..., Any]] = {}
# Torch functions whose arguments are put in a plainer way first.
PLAINER: dict[Callable[..., Any], Callable[..., tuple[Any, ...]]] = {}
# What stands in for torch functions without a float64 form where everything is lifted to float64.
IN_DOUBLE: dict[Callable[..., Any], Callable[..., Any]] = {}


def rule(*names: str) -> Callable[[OpRule], OpRule]:
    """Register a rule for aten ops, named without overload; it also serves their in-place forms."""

    def register(function: OpRule) -> OpRule:
        for name in names:
            if name in ATEN:
                raise ValueError(f"two rules for {name}")
            ATEN[name] = function
        return function

    return register


def function_rule(function: Callable[..., Any], parameters: str) -> Callable[[OpRule], OpRule]:
    """Register a rule for a torch function whose inside is not to be looked at; `parameters` names its arguments."""

    def register(body: OpRule) -> OpRule:
        if function in FUNCTIONS:
            raise ValueError(f"two rules for {function}")
        FUNCTIONS[function] = (body, tuple(parameters.split()))
        return body

    return register


def _filed(table: dict[Callable[..., Any], Any], function: Callable[..., Any], what: str) -> Decorator:
    def register(body: Callable[..., Any]) -> Callable[..., Any]:
        if function in table:
            raise ValueError(f"two {what} {function}")
        table[function] = body
        return body

    return register


def plain_form(function: Callable[..., Any]) -> Decorator:
    """Register an equivalent of plain ops for a torch function that is Python inside."""
    return _filed(PLAIN, function, "plain forms for")


def plainer(function: Callable[..., Any]) -> Decorator:
    """Register what gives the arguments of a torch function in a plainer way, of the same meaning."""
    return _filed(PLAINER, function, "ways to put the arguments of")


def in_double(function: Callable[..., Any]) -> Decorator:
    """Register a float64 form of a torch function that has none."""
    return _filed(IN_DOUBLE, function, "float64 forms of")
