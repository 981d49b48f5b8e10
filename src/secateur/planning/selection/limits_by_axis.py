"""A selection applied to one model: the limits of every axis, and the groups whose size is fixed.

Rules override the general options (`Select(floor=, ceiling=, align=)`); rules that contradict each other are errors.
Protected axes stay whole: other rules skip them, unless they match nothing else or set a width.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from secateur.base.names import inside
from secateur.base.text import listed
from secateur.errors import InputError
from secateur.graph.graph import Graph
from secateur.graph.parts import Group, PrunableAxis
from secateur.planning.selection.catalogue import Catalogue
from secateur.planning.selection.conditions import Conditions
from secateur.planning.selection.rules import SIZES, Rule
from secateur.planning.selection.widths import Floor, products
from secateur.terms import CHANNEL, HEAD_DIM

WIDTHS = (CHANNEL, HEAD_DIM)  # the kinds whose counts are widths of matrices


@dataclass(frozen=True, slots=True)
class Said:
    """A setting of an axis, and the name in messages of the rule that set it."""

    word: str
    value: Any
    by: str


@dataclass(frozen=True, slots=True)
class General:
    """The limits of axes that no rule sets otherwise."""

    floor: float
    ceiling: float
    align: int


@dataclass(frozen=True)
class Wishes:
    """Rules applied to a graph. If two rules set the same for an axis, the later one applies."""

    graph: Graph
    rules: Sequence[Rule]
    general: General

    def least(self, axis: PrunableAxis) -> int:
        """Return the smallest count that an axis may have."""
        floor, ceiling = self._said(axis, "floor"), self._said(axis, "ceiling")
        if axis.name in self._factors:
            return min(axis.size, max(1, axis.least))
        least = max(1, axis.least, _at_least(floor.value if floor else self.general.floor, axis.size))
        if floor is None:  # a ceiling overrides the general floor
            least = min(least, max(self._most(axis, ceiling), axis.least))
        return min(axis.size, least)

    def most(self, axis: PrunableAxis) -> int:
        """Return the greatest count that an axis may have."""
        ceiling = self._said(axis, "ceiling")
        most = self._most(axis, ceiling)
        return most if ceiling else max(most, self.least(axis))

    def align(self, axis: PrunableAxis) -> int:
        """Return the number that the axis' count must be a multiple of, unless the axis stays whole.

        Alignment applies to widths. The number of heads or experts is aligned only by a rule that names their kind or
        the axis.
        """
        said = self._said(axis, "align")
        general = self.general.align if axis.kind in WIDTHS else 1
        return math.lcm(axis.multiple, said.value if said else general)

    @cached_property
    def floors(self) -> list[Floor]:
        """The floors of widths that are products of several axes.

        The general floor, and a rule's floor for all factors, apply to the product. A rule's floor for only some
        factors applies to those axes.
        """
        found = []
        for width in products(self.graph):
            said = [self._said(self.graph.axes[i], "floor") for i in width.axes]
            units = math.prod(self.graph.axes[i].size for i in width.axes)
            value = said[0].value if said[0] and _one(said) else self.general.floor
            found.append(Floor(width.axes, min(units, _at_least(value, units))))
        return found

    @cached_property
    def _factors(self) -> set[str]:
        """Axes without a separate floor: the floor of their product applies."""
        factors: set[str] = set()
        alone: set[str] = set()
        for width in products(self.graph):
            axes = [self.graph.axes[i] for i in width.axes]
            said = [self._said(axis, "floor") for axis in axes]
            factors.update(axis.name for axis in axes)
            alone.update(axis.name for axis, one in zip(axes, said, strict=True) if one and not _one(said))
        return factors - alone

    def _most(self, axis: PrunableAxis, ceiling: Said | None) -> int:
        value = ceiling.value if ceiling else self.general.ceiling
        return min(axis.size, max(1, _share_of(value, axis.size) if value <= 1 else math.floor(value)))

    def _said(self, axis: PrunableAxis, word: str) -> Said | None:
        return self.said[axis.name].get(word)

    @cached_property
    def said(self) -> dict[str, dict[str, Said]]:
        """The setting that applies, by axis and name of the setting."""
        said: dict[str, dict[str, Said]] = {axis.name: {} for axis in self.graph.axes}
        for rule, meant in self._meant:
            for axis in meant:
                for word, value in rule.settings.items():
                    if word == "align" and axis.kind not in WIDTHS and not rule.match.names_kinds:
                        continue
                    for other in SIZES if word in SIZES else ():
                        said[axis.name].pop(other, None)
                    said[axis.name][word] = Said(word, value, rule.name)
        return said

    @cached_property
    def _meant(self) -> list[tuple[Rule, list[PrunableAxis]]]:
        """The rules with settings other than `protect`, with the axes that they match."""
        found = []
        for rule in self.rules:
            settings = {word: value for word, value in rule.settings.items() if word != "protect"}
            if settings:
                found.append((Rule(rule.match, settings, rule.name), self._catalogue.meant(rule.match, rule.name)))
        return found

    @cached_property
    def _catalogue(self) -> Catalogue:
        return Catalogue(self.graph)

    @cached_property
    def conditions(self) -> Conditions:
        """The conditions that the model's code sets on counts."""
        return Conditions(self.graph)

    @cached_property
    def held(self) -> dict[int, str]:
        """Group -> name of the rule that keeps all of its units."""
        held: dict[int, str] = {}
        for rule in self.rules:
            if "protect" in rule.settings:
                touched = self._catalogue.touched(rule.match, rule.name)
                held.update((axis.group, rule.name) for axis in touched if axis.group not in held)
        for axis, by in (*self._of_other_kind(), *self._not_only()):
            held.setdefault(axis.group, by)
        return held

    def _of_other_kind(self) -> Iterator[tuple[PrunableAxis, str]]:
        for rule, meant in self._meant:
            kinds = rule.settings.get("prune", ())
            if kinds and not any(axis.kind in kinds for axis in meant):
                there = listed(dict.fromkeys(f"{axis.name} ({axis.kind})" for axis in meant), 3)
                raise InputError(f"{rule.name} matches no {' and no '.join(kinds)} that can be cut, only {there}")
        for axis in self.graph.axes:
            said = self._said(axis, "prune")
            if said is not None and axis.kind not in said.value:
                yield axis, said.by

    def _not_only(self) -> Iterator[tuple[PrunableAxis, str]]:
        asked = [(rule, meant) for rule, meant in self._meant if "only" in rule.settings]
        inside = {axis.name for _, meant in asked for axis in meant}
        for axis in self.graph.axes if asked else ():
            if axis.name not in inside:
                yield axis, asked[0][0].name

    @cached_property
    def sizes(self) -> dict[int, tuple[PrunableAxis, Said]]:
        """Group -> axis and setting that fix its size. Raises `InputError` for contradictions."""
        sizes: dict[int, tuple[PrunableAxis, Said]] = {}
        for axis in self.graph.axes:
            said = self._said(axis, "width") or self._said(axis, "keep")
            if said is None or (said.word == "keep" and axis.group in self.held):
                continue
            self._check_width(axis, said)
            other, before = sizes.setdefault(axis.group, (axis, said))
            if self.level(axis, said) != self.level(other, before):
                raise InputError(
                    f"{said.by} sets {axis.name!r} to {said.value:g}, but it is tied to another axis with a different "
                    f"share: {before.by} sets {other.name!r} to {before.value:g}"
                )
        return sizes

    def level(self, axis: PrunableAxis, said: Said) -> int:
        """Return how many steps of its group a size leaves."""
        group = self.graph.groups[axis.group]
        if said.word == "keep":
            return _share_of(said.value, group.steps)
        return width_steps(group, axis, said)

    def _check_width(self, axis: PrunableAxis, said: Said) -> None:
        if said.word != "width":
            return
        level = self.level(axis, said)
        if axis.group in self.held and level < self.graph.groups[axis.group].steps:
            raise InputError(
                f"{said.by} sets {axis.name!r} to {said.value}, but {self.held[axis.group]} keeps it as it is"
            )
        for word, broken in WIDTH_BREAKS.items():
            other = self._said(axis, word)
            if other is not None and broken(said.value, other.value, axis.size):
                against = f"{word}={other.value:g} of {other.by}"
                raise InputError(
                    f"{said.by} sets {axis.name!r} to {said.value} of {axis.size} units, against {against}"
                )

    @cached_property
    def together(self) -> list[tuple[set[int], str]]:
        """Sets of groups that keep the same share, each with the name of its rule; no group is in two sets."""
        bundles: list[tuple[set[int], str]] = []
        for rule, meant in self._meant:
            if "together" not in rule.settings:
                continue
            groups = {axis.group for axis in meant} - set(self.held)
            if len(groups) < 2:
                names = listed([axis.name for axis in meant], 3)
                raise InputError(
                    f"{rule.name} matches only one group of tied axes, so there is nothing to keep together: {names}"
                )
            meeting = [bundle for bundle in bundles if bundle[0] & groups]
            bundles = [bundle for bundle in bundles if bundle not in meeting]
            bundles.append((groups.union(*(bundle for bundle, _ in meeting)), rule.name))
        return bundles

    def nothing_left(self, group: Group, axis: PrunableAxis) -> InputError:
        """Return the error for an axis of which no count is within all limits."""
        bounds = (
            ("at most", "ceiling", self.most(axis), axis.size),
            ("at least", "floor", self.least(axis), 1),
            ("a multiple of", "align", self.align(axis), 1),
        )
        said = [f"{how} {count} ({self._who(axis, word)})" for how, word, count, free in bounds if count != free]
        tied = [other.name for other in group.axes if other is not axis]
        share = f"\nit keeps the same share as {listed(tied, 3)}" if tied else ""
        return InputError(f"no count of {axis.name!r}, {axis.size} units, is {', '.join(said)}{share}")

    def _who(self, axis: PrunableAxis, word: str) -> str:
        said = self._said(axis, word)
        return said.by if said else f"{word}={getattr(self.general, word):g}"

    def keeps(self, block: str) -> str | None:
        """Return the rule that keeps a block, or None: it protects a part of the block, or allows only others."""
        sites = [name for name in self.graph.sites if inside(name, {block})]
        for rule in self.rules:
            if "protect" in rule.settings and any(self._catalogue.covers(rule.match, name) for name in sites):
                return rule.name
        only = [rule for rule in self.rules if "only" in rule.settings]
        allowed = not only or all(any(self._catalogue.covers(rule.match, n) for rule in only) for n in sites)
        return None if allowed else only[0].name

    def about(self, graph: Graph) -> Wishes:
        """Return the same rules on a part of the graph, without those that match nothing in it."""
        catalogue = Catalogue(graph)
        left = [(rule, catalogue.left(rule.match, axes=set(rule.settings) != {"protect"})) for rule in self.rules]
        return Wishes(graph, [replace(rule, match=match) for rule, match in left if match is not None], self.general)

    @property
    def act(self) -> bool:
        """Whether something is cut even without a target."""
        words = {word for said in self.said.values() for word in said}
        return self.general.ceiling != 1 or not words.isdisjoint((*SIZES, "ceiling"))

    def check(self) -> None:
        """Raise `InputError` for rules that contradict each other, or that match only protected axes."""
        _ = self.held, self.sizes, self.together  # contradictions raise here
        for rule, meant in self._meant:
            asks = {"keep", "ceiling"} & set(rule.settings)
            if asks and all(axis.group in self.held for axis in meant):
                by = listed(dict.fromkeys(self.held[axis.group] for axis in meant), 2)
                raise InputError(f"{rule.name} changes nothing: {by} keeps every axis that it matches as it is")
            self._check_fits(rule, meant)

    def _check_fits(self, rule: Rule, meant: Sequence[PrunableAxis]) -> None:
        """Raise `InputError` for a floor or an alignment above the number of units."""
        names = {axis.name for axis in meant}
        made = [[self.graph.axes[i] for i in width.axes] for width in products(self.graph)]
        made = [axes for axes in made if names.issuperset(axis.name for axis in axes)]
        sizes = [axis.size for axis in meant] + [math.prod(axis.size for axis in axes) for axes in made]
        for word in ("floor", "align"):
            value = rule.settings.get(word, 0)
            if sizes and value > max(1, *sizes):
                names_told = listed(dict.fromkeys(axis.name for axis in meant), 3)
                raise InputError(
                    f"{rule.name} cannot be met: {word}={value:g} is more than the {max(sizes):g} units of "
                    f"{names_told}\ngive a smaller {word}, or keep all units with protect"
                )


def _one(said: Sequence[Said | None]) -> bool:
    """Return whether a single rule set all of these."""
    return len({one and one.by for one in said}) == 1


def _share_of(share: float, n: int) -> int:
    return math.floor(share * n + 1e-9)


def _at_least(value: float, size: int) -> int:
    return math.ceil(value * size - 1e-9) if value <= 1 else math.ceil(value)


WIDTH_BREAKS: dict[str, Callable[[int, Any, int], bool]] = {
    "floor": lambda width, floor, size: width < min(_at_least(floor, size), size),
    "ceiling": lambda width, ceiling, size: width > (_share_of(ceiling, size) if ceiling <= 1 else ceiling),
    "align": lambda width, align, size: width % align != 0 and width != size,
}
"""Name of a setting -> whether a width contradicts its value, as a function of (width, value, units)."""


def width_steps(group: Group, axis: PrunableAxis, said: Said) -> int:
    """Return how many steps of a group leave a width of one of its axes. Raises `InputError` if no number does."""
    step, width = axis.size // group.steps, said.value
    if type(width) is not int or not axis.least <= width <= axis.size:
        raise InputError(
            f"{said.by} sets {axis.name!r} to {width!r}; it has {axis.size} units and keeps {axis.least} or more"
        )
    if width % axis.multiple and width != axis.size:
        below = max(width // axis.multiple, 1) * axis.multiple
        raise InputError(
            f"{said.by} sets {axis.name!r} to {width}, but a kernel requires multiples of {axis.multiple} there\n"
            f"the nearest widths are {below} and {below + axis.multiple}"
        )
    if width % step:
        tied = ", ".join(a.name for a in group.axes if a is not axis)
        below = max(width // step, 1) * step
        raise InputError(
            f"{said.by} sets {axis.name!r} to {width}, but it is tied to {tied} and moves in steps of {step}\n"
            f"the nearest widths are {below} and {below + step}"
        )
    return width // step


__all__ = ["General", "Said", "Wishes"]
