"""Selectors: strings that choose the axes of a rule. They need no quotes in YAML and one pair of quotes in a shell.

    selector    := alternative, alternative, ...    axes that any alternative matches
    alternative := condition condition ...          axes that all conditions match
    condition   := GLOB         a module, parameter or axis as print(graph) names it; a module matches all inside it
                 | type=GLOB    the class, or a base class, of a module; matches all inside it
                 | axis=NAME    exactly the axis of that name
                 | kind=KIND    axes of channels, of attention heads, or of dimensions inside a head

An axis belongs to the module that it is named after. Several modules produce the units of a residual sum. A module that
the axis is not named after matches it only if nothing else matches (`layer1.*.conv2`, but not `layer1`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from secateur.errors import InputError, nearest
from secateur.terms import KINDS

NAME = "name"


@dataclass(frozen=True, slots=True)
class Condition:
    """A condition on an axis; `form` is one of `FORMS`, or "name" for a plain glob."""

    form: str
    pattern: str

    def __str__(self) -> str:
        return self.pattern if self.form == NAME else f"{self.form}={self.pattern}"


Conditions = tuple[Condition, ...]


@dataclass(frozen=True, slots=True)
class Selector:
    """A choice of axes by name, type or kind.

    Example:
        >>> str(Selector.parse(["layer4.*", "type=Attention kind=head"]))
        'layer4.*, type=Attention kind=head'
    """

    alternatives: tuple[Conditions, ...]

    @staticmethod
    def parse(given: str | Sequence[str] | Selector, source: str = "match") -> Selector:
        """Return a Selector of what any of the given strings matches. Raises `InputError`, beginning with `source`."""
        if isinstance(given, Selector):
            return given
        texts = [given] if isinstance(given, str) else given
        if not isinstance(texts, (list, tuple)) or not texts or not all(isinstance(text, str) for text in texts):
            raise InputError(f"{source} names {given!r}; write a name, a glob or a list of them, as in 'layer4.*'")
        return Selector(tuple(_conditions(part, source) for text in texts for part in text.split(",")))

    @property
    def names_kinds(self) -> bool:
        """Whether a condition is on the kind or the exact name of an axis, rather than on a module."""
        return any(one.form in ("kind", "axis") for conditions in self.alternatives for one in conditions)

    def __str__(self) -> str:
        return ", ".join(" ".join(map(str, conditions)) for conditions in self.alternatives)


def _conditions(text: str, source: str) -> Conditions:
    words = text.split()
    if not words:
        raise InputError(f"{source} names '', which matches no parameter")
    return tuple(_condition(word, source) for word in words)


def _condition(word: str, source: str) -> Condition:
    form, equals, pattern = word.partition("=")
    if not equals:
        return Condition(NAME, word)
    if form not in FORMS or not pattern:
        known = ", ".join(f"{known}=..." for known in FORMS)
        raise InputError(f"{source} names {word!r}{nearest(form, FORMS)}\na selector is a name, a glob, {known}")
    return Condition(form, FORMS[form](pattern, source))


def kinds(given: str | Iterable[str], source: str = "prune") -> tuple[str, ...]:
    """Return kinds of axes from one or several names. Raises `InputError` that names the nearest kinds.

    >>> kinds("heads"), kinds(["channels", "head_dim"])
    (('head',), ('channel', 'head_dim'))
    """
    words = given.split(",") if isinstance(given, str) else list(given)
    return tuple(_kind(str(word).strip(), source) for word in words)


def _kind(word: str, source: str) -> str:
    found = word.removesuffix("s")
    if found not in KINDS:
        raise InputError(f"{source} names the kind {word!r}{nearest(word, KINDS)}\nknown: {', '.join(KINDS)}")
    return found


def _as_it_is(pattern: str, source: str) -> str:
    return pattern


FORMS: dict[str, Callable[[str, str], str]] = {"type": _as_it_is, "axis": _as_it_is, "kind": _kind}
"""Word before the `=` of a condition -> reader of the pattern after it."""
