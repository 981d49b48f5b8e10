"""Rules: a selector, and settings for the axes that it matches. The syntax is the same in Python, YAML and a shell.

    {"match": "layer4.*", "keep": 0.5, "floor": 16}      in Python, and likewise in YAML and JSON
    "layer4.*: keep=0.5 floor=16"                        as one string

`SETTINGS` lists the settings. If two rules set the same for an axis, the later one applies.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from secateur.errors import InputError, nearest
from secateur.planning.selection.selector import Selector, kinds

REMEDY = "write 'layer4.*: keep=0.5', or {'match': 'layer4.*', 'keep': 0.5}"
RuleLike: TypeAlias = "Rule | str | Mapping[str, Any]"


@dataclass(frozen=True, slots=True)
class Setting:
    """A setting: a reader of its value (raises `ValueError` for an invalid one), its meaning, and an example."""

    read: Callable[[Any], Any]
    meaning: str
    example: str


def _number(given: Any) -> float:
    if isinstance(given, bool):
        raise ValueError(given)
    number = float(given)
    if not 0 <= number < math.inf:
        raise ValueError(given)
    return number


def positive(given: Any) -> float:
    """Return a share or a count as a number above 0."""
    number = _number(given)
    if not number:
        raise ValueError(given)
    return number


def whole(given: Any) -> int:
    """Return a whole number of at least 1, passed as a number or a string."""
    number = int(given) if isinstance(given, str) else operator.index(given)
    if isinstance(given, bool) or number < 1:
        raise ValueError(given)
    return number


def _share(given: Any) -> float:
    if (share := positive(given)) > 1:
        raise ValueError(given)
    return share


def _yes(given: Any) -> bool:
    if given is not True:
        raise ValueError(given)
    return True


SETTINGS: dict[str, Setting] = {
    "keep": Setting(_share, "the share of its units that remains, rounded down: above 0, up to 1", "keep=0.5"),
    "width": Setting(whole, "the exact number of units that remain: a whole number from 1 up", "width=48"),
    "floor": Setting(_number, "the least that remains: a share up to 1, or a count above 1", "floor=16"),
    "ceiling": Setting(positive, "the most that remains: a share up to 1, or a count above 1", "ceiling=256"),
    "align": Setting(whole, "widths become multiples of it: a whole number from 1 up", "align=8"),
    "prune": Setting(kinds, "the kinds of axes that may be cut, all others stay", "prune=heads"),
    "protect": Setting(
        _yes,
        "its parameters stay as they are; no later rule can undo this, so the value is true or left out",
        "protect",
    ),
    "only": Setting(_yes, "nothing else is cut; the value is true or left out", "only"),
    "together": Setting(
        _yes, "all its axes keep the same share, rounded to whole units; the value is true or left out", "together"
    ),
}
"""Name of a setting -> how it is read and what it means."""

SIZES = ("keep", "width")  # both set how many units remain, so the later one replaces the other


@dataclass(frozen=True)
class Rule:
    """Settings for the axes that a selector matches.

    Args:
        match: The selector.
        settings: Values by name, with the names of `SETTINGS`.
        source: The rule's name in messages; by default the rule as a string.

    Example:
        >>> Rule.of("type=Linear: floor=16 align=8") == Rule.of({"match": "type=Linear", "floor": 16, "align": 8})
        True
    """

    match: Selector
    settings: Mapping[str, Any]
    source: str = ""

    @staticmethod
    def of(given: RuleLike) -> Rule:
        """Return a rule from a string or a mapping. Raises `InputError` for unknown settings and invalid values."""
        if isinstance(given, Rule):
            return given
        if isinstance(given, str):
            return _from_text(given)
        if not isinstance(given, Mapping):
            raise InputError(f"{given!r} is not a rule\n{REMEDY}")
        if "match" not in given:
            return _from_text(_unquoted(given))
        return _rule(given["match"], {word: value for word, value in given.items() if word != "match"}, repr(given))

    @property
    def name(self) -> str:
        """The rule's name in messages."""
        return self.source or f"rule {str(self)!r}"

    def __str__(self) -> str:
        said = (word if value is True else f"{word}={_written(value)}" for word, value in self.settings.items())
        return f"{self.match}: {' '.join(said)}"


def _unquoted(given: Mapping[Any, Any]) -> str:
    """Return the string of a rule that YAML read as a mapping because it had no quotes."""
    match, said = next(iter(given.items()), (None, None))
    if len(given) != 1 or not isinstance(said, str):
        raise InputError(f"{dict(given)!r} is not a rule\n{REMEDY}")
    return f"{match}: {said}"


def _written(value: Any) -> str:
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return f"{value:.12g}" if isinstance(value, float) else str(value)


def _from_text(text: str) -> Rule:
    match, colon, said = text.rpartition(":")
    if not colon:
        raise InputError(
            f"rule {text!r} has no colon\nwrite a selector, a colon and settings, as in 'layer4.*: keep=0.5'"
        )
    pairs = [word.rstrip(",").partition("=") for word in said.split()]
    words = [word for word, _, _ in pairs]
    if twice := {word for word in words if words.count(word) > 1}:
        raise InputError(f"rule {text!r} sets {min(twice)!r} twice\nkeep one")
    return _rule(match, {word: value if equals else True for word, equals, value in pairs}, repr(text))


def _rule(match: Any, said: Mapping[Any, Any], text: str) -> Rule:
    source = f"rule {text}"
    if not said:
        raise InputError(f"{source} has no settings\nadd one of {', '.join(SETTINGS)}")
    settings = {word: setting(word, value, f"{source}: ") for word, value in said.items()}
    if set(SIZES) <= set(settings):
        raise InputError(f"{source} sets both keep={said['keep']} and width={said['width']}\nkeep one")
    return Rule(Selector.parse(match, source), settings)


def setting(word: Any, value: Any, lead: str = "") -> Any:
    """Return the value of a setting. Raises `InputError`, beginning with `lead`, if it is unknown or invalid."""
    known = SETTINGS.get(word)
    if known is None:
        raise InputError(
            f"{lead}no setting is named {word!r}{nearest(str(word), SETTINGS)}\nknown: {', '.join(SETTINGS)}"
        )
    try:
        return known.read(value)
    except InputError as error:
        raise InputError(f"{lead}{error}") from None
    except (ValueError, TypeError):
        raise InputError(f"{lead}{word}={value!r}: {known.meaning}, as in {known.example}") from None
