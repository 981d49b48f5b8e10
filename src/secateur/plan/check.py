"""Checks that a plan from outside is consistent in itself, before it is compared with any model.

A plan that `secateur.plan` made always passes; one from a file may be damaged or malicious. The rules:

1. An axis has a positive size. The units it keeps are in range and strictly ascending; at least one stays. An axis
   that is chosen per outer unit has one list for each outer unit, all of one length.
2. A term is an axis of the plan, a positive integer, or a cat or product of terms, nested at most `DEPTH` deep.
3. A scale names a site of the plan, a dimension of it, rows in its range, and a positive finite factor; a renorm names
   a site and a dimension of it.
4. An attribute is a public name, or a dotted one (an attribute of an object that a module holds), and changes from one
   integer to another; none becomes negative.
5. A cache to be emptied is named by two strings: a module and its attribute.
6. A module that is removed has a name, is not inside another removed module, returns arguments by position or keyword
   (or None in a tuple of them), and nothing inside it is cut, scaled, set or added.
7. An added parameter has a public name that is unique in the plan, and is as long as a dimension of a parameter that
   is not added itself.
8. A recovery step has a name, and its options are plain values by name.
9. Gaps are closed only in lists that lose members, which are named by number; the values that change with them are
   integers (rule 4) and lists of plain values that keep some entries in order, none inside a removed module.
10. Totals are integers from 0 up; bytes of memory may be unknown. Totals of further kinds are finite numbers from 0 up,
   or unknown, each with a heading.
11. A parameter that is not cut has a name that no site has, and a shape of integers from 0 up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from secateur.base.names import DEPTH as OBJECTS
from secateur.base.names import inside, is_public, may_count
from secateur.errors import FileError
from secateur.plan.choice import Choice
from secateur.plan.parts import Added, AttributeChange, AxisPlan, Code, Recovery, Renorm, Renumbering, Scale
from secateur.terms import size

DEPTH = 32


def check_plan(plan: Choice) -> None:
    """Raise `FileError` for the first rule that a plan breaks, with the value that breaks it.

    >>> from secateur.plan.parts import Totals
    >>> from secateur.plan.plan import Plan
    >>> check_plan(Plan({"conv1": AxisPlan(4, (0, 9))}, {}, (), (), Totals(1, 1), Totals(1, 1)))
    Traceback (most recent call last):
        ...
    secateur.errors.FileError: the plan keeps unit 9 of axis 'conv1', which has 4: 0 to 3
    """
    for name, axis in plan.axes.items():
        _check_size(name, axis)
    for name, axis in plan.axes.items():
        _check_kept(name, axis, plan)
    for name, codes in plan.sites.items():
        for code in codes:
            _check_code(f"site {name!r}", code, plan)
    for scale in plan.scales:
        _check_scale(scale, plan)
    for renorm in plan.renorms:
        _check_renorm(renorm, plan)
    for change in plan.attributes:
        _check_attribute(change)
    for cache in plan.caches:  # Rule 5
        if not all(isinstance(name, str) for name in cache):
            raise FileError(f"the plan empties a cache {list(cache)!r}; a module and an attribute are named by strings")
    for name, gives in plan.removed.items():
        _check_removed(name, gives, plan)
    for added in plan.added:
        _check_added(added, plan)
    for recovery in plan.recovery:
        _check_recovery(recovery)
    if plan.renumbered is not None:
        _check_renumbered(plan.renumbered, plan)
    for when, totals in (("before", plan.before), ("after", plan.after)):  # Rule 10
        known = (totals.params, totals.macs, 0 if totals.memory is None else totals.memory)
        if not all(map(_is_place, known)):
            amounts = f"{totals.params!r} parameters, {totals.macs!r} MACs and {totals.memory!r} bytes"
            raise FileError(f"the plan counts {amounts} {when} the cut; totals are whole numbers from 0 up")
        for kind, (value, heading) in totals.more.items():
            if not isinstance(heading, str) or not (value is None or _is_amount(value)):
                raise FileError(f"the plan counts {value!r} {kind} {when} the cut; it must be a number from 0 up")
    for name, shape in (plan.uncut or {}).items():  # Rule 11
        if name in plan.sites or not all(map(_is_place, shape)):
            raise FileError(
                f"the plan leaves {name!r} of shape {shape!r} uncut, but it has a site of that name or no valid shape"
            )


def _is_count(value: Any) -> bool:
    return type(value) is int and value > 0


def _is_amount(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf


# Rule 1.
def _check_size(name: str, axis: AxisPlan) -> None:
    if not isinstance(name, str) or not _is_count(axis.size):
        raise FileError(f"the plan has an axis {name!r} of size {axis.size!r}; a size is a whole number from 1 up")


def _check_kept(name: str, axis: AxisPlan, plan: Choice) -> None:
    if axis.kept is None:
        return
    if axis.outer is None:
        _check_units(name, axis.kept, axis.size)
    else:
        _check_kept_each(name, axis, axis.outer, axis.kept, plan)


def _check_kept_each(name: str, axis: AxisPlan, code: Code, kept: Sequence[Any], plan: Choice) -> None:
    _check_code(f"the outer units of axis {name!r}", code, plan)
    outer = plan.term(code).n
    lists = [units for units in kept if isinstance(units, tuple)]
    if len(lists) != len(kept) or len(lists) != outer:
        raise FileError(f"the plan keeps {len(lists)} lists of units of axis {name!r}, which has {outer} outer units")
    if len(set(map(len, lists))) != 1:
        raise FileError(f"the plan keeps unequal numbers of units of axis {name!r} for its outer units")
    for units in lists:
        _check_units(name, units, axis.size)


def _check_units(name: str, units: Sequence[Any], total: int) -> None:
    if not units:
        raise FileError(f"the plan keeps no unit of axis {name!r}")
    for unit in units:
        if type(unit) is not int or not 0 <= unit < total:
            raise FileError(f"the plan keeps unit {unit!r} of axis {name!r}, which has {total}: 0 to {total - 1}")
    for one, two in pairwise(units):
        if one >= two:
            how = "twice" if one == two else "in the wrong order"
            raise FileError(f"the plan keeps units {one} and {two} of axis {name!r} {how}; they must ascend")


# Rule 2.
def _check_code(where: str, code: Any, plan: Choice, depth: int = 0) -> None:
    if _is_count(code) or (isinstance(code, str) and code in plan.axes):
        return
    if isinstance(code, Mapping) and depth < DEPTH and len(code) == 1:
        ((kind, parts),) = code.items()
        if kind in ("cat", "product") and parts:
            for part in parts:
                _check_code(where, part, plan, depth + 1)
            return
    raise FileError(
        f"the plan describes {where} by {str(code)[:80]!r}, which is not an axis, a number, a cat or a product"
    )


# Rules 3 and 4.
def _check_scale(scale: Scale, plan: Choice) -> None:
    codes = plan.sites.get(scale.name)
    if codes is None or type(scale.dim) is not int or not 0 <= scale.dim < len(codes):
        raise FileError(f"the plan scales {scale.name}[{scale.dim}], which is not one of its sites")
    rows = size(plan.term(codes[scale.dim]), {})
    for start, stop in scale.rows:
        if not (type(start) is type(stop) is int and 0 <= start < stop <= rows):
            raise FileError(f"the plan scales rows {start} to {stop} of {scale.name}[{scale.dim}], which has {rows}")
    if not isinstance(scale.factor, (int, float)) or not 0 < scale.factor < math.inf:
        raise FileError(f"the plan scales {scale.name} by {scale.factor!r}; a factor is positive and finite")


def _check_renorm(renorm: Renorm, plan: Choice) -> None:
    codes = plan.sites.get(renorm.of)
    named = codes is not None and isinstance(renorm.name, str)
    if codes is None or not named or type(renorm.dim) is not int or not 0 <= renorm.dim < len(codes):
        raise FileError(f"the plan takes norms of {renorm.of}[{renorm.dim}], which is not one of its sites")


def _check_attribute(change: AttributeChange) -> None:
    # Rule 4: some names belong to Python or PyTorch, such as `__class__` and `_parameters`; so does what is in them.
    name = change.name
    parts = name.split(".") if isinstance(name, str) else [None]
    named = all(map(is_public, parts[:-1])) and may_count(parts[-1])
    if len(parts) > OBJECTS + 1 or not named or not isinstance(change.module, str):
        raise FileError(f"the plan sets an attribute {name!r} of {change.module!r}; plans set integers of its class")
    numbers = (change.old, change.new, 0 if change.index is None else change.index)
    if any(type(number) is not int for number in numbers) or numbers[2] < 0 or change.new < 0 <= change.old:
        raise FileError(f"the plan sets {change.module}.{name}[{change.index!r}] from {change.old!r} to {change.new!r}")


# Rule 6.
def _check_removed(name: str, gives: Any, plan: Choice) -> None:
    places = gives if isinstance(gives, tuple) else (gives,)
    if not name or not all(place is None or isinstance(place, str) or _is_place(place) for place in places):
        raise FileError(
            f"the plan removes {name!r}, to return {gives!r}; a removed module returns some of its arguments"
        )
    touched = [*plan.sites, *(scale.name for scale in plan.scales), *(change.module for change in plan.attributes)]
    if plan.renumbered is not None:
        touched += [change.module for change in (*plan.renumbered.numbers, *plan.renumbered.picks)]
        touched += plan.renumbered.lists
    touched += [name for added in plan.added for name in (added.name, added.like) if isinstance(name, str)]
    others = (other for other in plan.removed if other != name)
    within = next((n for n in (*touched, *others) if inside(n, {name})), None)
    if within is not None:
        raise FileError(f"the plan removes {name!r}, and changes {within} inside it")


def _is_place(value: Any) -> bool:
    return type(value) is int and value >= 0


# Rules 7 and 8.
def _check_added(added: Added, plan: Choice) -> None:
    name, like, dim = added.name, added.like, added.dim
    if not isinstance(name, str) or not is_public(name.rpartition(".")[2]):
        raise FileError(f"the plan adds a parameter {name!r}; a parameter has a public name, such as 'fc.bias'")
    names = [other.name for other in plan.added]
    if name in plan.sites or names.count(name) > 1:
        raise FileError(f"the plan adds {name!r}, which it {'cuts' if name in plan.sites else 'adds twice'}")
    codes = plan.sites.get(like) if isinstance(like, str) and like not in names else ()
    if codes == () or type(dim) is not int or dim < 0 or (codes is not None and dim >= len(codes)):
        raise FileError(f"the plan adds {name!r} as long as {like!r}[{dim!r}], which is not a dimension of a parameter")


def _check_recovery(recovery: Recovery) -> None:
    if not isinstance(recovery.step, str) or not recovery.step:
        raise FileError(f"the plan names a recovery step {recovery.step!r}; a step is named by a string, such as 'lsq'")
    for name, value in recovery.options.items():
        plain = value is None or type(value) in (str, bool, int) or (type(value) is float and math.isfinite(value))
        if not isinstance(name, str) or not plain:
            raise FileError(
                f"the plan sets option {name!r} of recovery step {recovery.step!r} to {value!r}; "
                "an option is a string, a finite number, true, false or null"
            )


# Rule 9.
def _check_renumbered(closing: Renumbering, plan: Choice) -> None:
    for name in closing.lists:
        members = [n.rpartition(".")[2] for n in plan.removed if isinstance(name, str) and n.rpartition(".")[0] == name]
        if not members or not all(member.isdecimal() and member.isascii() for member in members):
            raise FileError(f"the plan closes gaps in {name!r}, but removes no numbered member of it")
    for change in closing.numbers:
        _check_attribute(change)
    for pick in closing.picks:
        _check_attribute(AttributeChange(pick.module, pick.name, None, 0, 0))
        entries = all(one is None or isinstance(one, (str, bool, int, float)) for one in pick.old)
        places = [-1, *pick.kept, len(pick.old)]
        if not entries or not all(type(i) is int for i in places) or any(a >= b for a, b in pairwise(places)):
            raise FileError(f"the plan keeps the entries {[*pick.kept]} of {pick.module}.{pick.name}: {[*pick.old]}")
