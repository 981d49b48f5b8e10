"""The user's limits on a plan: what to keep, what to cut, alignment and exact widths."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeAlias

from secateur.base.paths import PathLike
from secateur.errors import InputError, nearest
from secateur.graph.graph import Graph
from secateur.planning.selection.limits_by_axis import General, Wishes
from secateur.planning.selection.rules import SETTINGS, Rule, RuleLike, setting
from secateur.planning.selection.selector import Condition, Selector

GENERAL = ("align", "floor", "ceiling")  # options for axes that no rule sets otherwise
SelectLike: TypeAlias = "Select | RuleLike | Sequence[RuleLike] | None"


@dataclass(frozen=True)
class Select:
    """Limits on a plan. Short form: `Select.of(["layer4.*: keep=0.5", "type=Linear: floor=16 align=8"])`.

    Rules override `align`, `floor` and `ceiling`; of two rules the later one applies, and `widths` come last.

    Args:
        protect: Modules or parameters (names or globs) that stay as they are.
        align: Widths become multiples of this number. Counts of heads and of experts do not.
        floor: The least that stays of every width: a share up to 1, or a count above 1.
        widths: Exact numbers of units by axis name.
        ceiling: The most that stays of every axis: a share up to 1, or a count above 1.
        only: Modules or parameters (names or globs) outside which nothing is cut.
        rules: Settings for chosen axes; `secateur.planning.selection.rules` describes them.

    Raises:
        InputError: An option is unknown or its value is invalid.

    Example:
        >>> Select(protect="fc*", align=8, widths={"conv1": 16}).align
        8
    """

    protect: str | Sequence[str] = ()
    align: int = 1
    floor: float = 0.1
    widths: Mapping[str, int] = field(default_factory=dict)
    ceiling: float = 1.0
    only: str | Sequence[str] = ()
    rules: Sequence[RuleLike] = ()

    def __new__(cls, *_: Any, **words: Any) -> Select:
        """Raise `InputError` for an unknown option."""
        _check_words(words, {option.name for option in fields(cls)}, "Select")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for word in GENERAL:
            _checked(word, getattr(self, word))
        same = (self.floor <= 1) == (self.ceiling <= 1)
        if same and self.floor > self.ceiling:
            raise InputError(
                f"floor={self.floor:g} is above ceiling={self.ceiling:g}\nthe floor may not exceed the ceiling"
            )
        object.__setattr__(self, "rules", tuple(map(Rule.of, _several("rules", self.rules))))
        for word in ("protect", "only"):
            object.__setattr__(self, word, _several(word, getattr(self, word)))
        if not isinstance(self.widths, Mapping):
            raise InputError(
                f"widths={self.widths!r} is not a mapping\ngive counts by axis name, as in {{'conv1': 48}}"
            )
        for name in self.widths:
            if not isinstance(name, str):
                raise InputError(f"widths names {name!r}; the name of an axis is a string, as in {{'conv1': 48}}")
        self._all()  # reports invalid names before there is a model

    @staticmethod
    def of(given: SelectLike | Mapping[str, Any]) -> Select:
        """Return a Select from rules, or from a mapping with the options of the constructor.

        Args:
            given: A Select, a rule (a string or a mapping with "match"), a list of rules, or None for no limits.

        Returns:
            The Select; one that is passed is returned as it is.

        Raises:
            InputError: An option, rule or value is invalid.

        Example:
            >>> Select.of("conv1: width=16") == Select.of({"select": ["conv1: width=16"]})
            True
        """
        if isinstance(given, Select):
            return given
        if isinstance(given, Mapping) and "match" not in given:
            return _from_words(given)
        return Select(rules=_several("select", given))

    @staticmethod
    def read(path: PathLike) -> Select:
        """Return a Select from a YAML or JSON file: a list of rules, or a mapping with the options of the constructor.

        Raises:
            FileError: The file is missing, or is not a YAML or JSON file.
            InputError: An option, rule or value in the file is invalid.
        """
        from secateur.planning.selection.selection_file import read

        given = read(path)
        try:
            return Select.of(given)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error

    def then(self, other: Select) -> Select:
        """Return both selections as one, in which `other` comes later and so takes precedence.

        Example:
            >>> Select(floor=0.2, align=8).then(Select.of("conv1: width=16")).floor
            0.2
        """
        usual = Select()
        later = {word: getattr(other, word) for word in GENERAL if getattr(other, word) != getattr(usual, word)}
        added = {word: (*getattr(self, word), *getattr(other, word)) for word in ("protect", "only", "rules")}
        return replace(self, widths={**self.widths, **other.widths}, **added, **later)

    def on(self, graph: Graph) -> Wishes:
        """Return the selection applied to a graph.

        Raises:
            InputError: A name matches nothing in the graph.
        """
        return Wishes(graph, self._all(), General(self.floor, self.ceiling, self.align))

    def _all(self) -> tuple[Rule, ...]:
        return (*self._named("protect"), *self._named("only"), *self.rules, *self._widths())  # type: ignore[misc]

    def _named(self, word: str) -> Iterator[Rule]:
        for pattern in getattr(self, word):
            yield Rule(Selector.parse(pattern, word), {word: True}, word)

    def _widths(self) -> Iterator[Rule]:
        for name, width in self.widths.items():
            yield Rule(Selector(((Condition("axis", name),),)), {"width": width}, "widths")


def _checked(word: str, value: Any) -> None:
    """Raise `InputError` for an invalid value of a general option; strings are not accepted here."""
    if isinstance(value, str):
        raise InputError(f"{word}={value!r} is a string: {SETTINGS[word].meaning}, as in {SETTINGS[word].example}")
    setting(word, value)


def _several(word: str, given: Any) -> tuple[Any, ...]:
    """Return one item or several as a tuple."""
    if given is None:
        return ()
    if isinstance(given, (str, Mapping, Rule)):
        return (given,)
    if not isinstance(given, (list, tuple)):
        raise InputError(
            f"{word}={given!r} is not a string or a list\ngive a string such as 'layer4.*: keep=0.5', or a list of them"
        )
    return tuple(given)


def _from_words(given: Mapping[str, Any]) -> Select:
    words = {"rules" if word == "select" else word: value for word, value in given.items()}
    _check_words(given, {"select", *(option.name for option in fields(Select))}, "a selection")
    return Select(**words)


def _check_words(given: Mapping[str, Any], known: set[str], who: str) -> None:
    for word in given:
        if word not in known:
            raise InputError(
                f"{who} has no option {word!r}{nearest(str(word), known)}\nknown: {', '.join(sorted(known))}"
            )


__all__ = ["Select", "SelectLike"]
