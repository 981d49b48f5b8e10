"""The names in a model, and which axes and parameters a selector matches among them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property

from torch import nn

from secateur.base.names import enclosing, means
from secateur.base.text import listed
from secateur.errors import InputError, nearest
from secateur.graph.graph import Graph
from secateur.graph.parts import Frozen, PrunableAxis
from secateur.planning.selection.selector import NAME, Condition, Conditions, Selector
from secateur.terms import CHANNEL, axes


@dataclass(frozen=True)
class Catalogue:
    """Index of the axes, parameters and modules of a graph by name, and of the classes of the modules."""

    graph: Graph

    def meant(self, selector: Selector, source: str) -> list[PrunableAxis]:
        """Return the axes that a selector matches, in the order of the graph.

        Raises `InputError`, beginning with `source`, for an alternative that matches none. The message names the
        nearest names, or the reason why nothing there can be cut.
        """
        found: set[str] = set()
        for conditions in selector.alternatives:
            hit = self._meant(conditions)
            if not hit:
                raise self._nothing(conditions, source)
            found.update(hit)
        return [axis for axis in self.graph.axes if axis.name in found]

    def touched(self, selector: Selector, source: str) -> list[PrunableAxis]:
        """Return the axes that occur in a parameter that a selector matches. Raises `InputError` if it matches none."""
        found: set[str] = set()
        for conditions in selector.alternatives:
            sites = {site for name, site in self.sites.items() if self._lies(conditions, name)}
            hit = {axis.name for axis in self.graph.axes if self._touches(conditions, axis, sites)}
            if not hit and (not sites or any(c.form in ("axis", "kind") for c in conditions)):
                raise self._nothing(conditions, source)
            found.update(hit)
        return [axis for axis in self.graph.axes if axis.name in found]

    def covers(self, selector: Selector, name: str) -> bool:
        """Return whether a selector matches a parameter by name or type, not only by axis or kind."""
        alternatives = [c for c in selector.alternatives if any(one.form not in ("axis", "kind") for one in c)]
        return any(self._lies(conditions, name) for conditions in alternatives)

    def left(self, selector: Selector, *, axes: bool) -> Selector | None:
        """Return the alternatives of a selector that match something here (an axis, or any parameter), or None."""
        left = tuple(conditions for conditions in selector.alternatives if self._means_some(conditions, axes))
        return Selector(left) if left else None

    def _means_some(self, conditions: Conditions, axes: bool) -> bool:
        try:
            return bool(self._meant(conditions)) or (not axes and any(self._lies(conditions, n) for n in self.sites))
        except InputError:  # the condition names an axis that no longer exists
            return False

    def _lie_somewhere(self, conditions: Conditions) -> bool:
        return any(self._lies(conditions, name) for name in self.sites)

    def _meant(self, conditions: Conditions) -> set[str]:
        exact = next((condition.pattern for condition in conditions if condition.form == "axis"), None)
        axes = self.graph.axes if exact is None else (self.graph.axis(exact),)
        for names in (self._own, self._others):
            found = {a.name for a in axes if any(self._hold(conditions, a, name) for name in names(a))}
            if found:
                return found
        return self._by_tensor(conditions)

    def _by_tensor(self, conditions: Conditions) -> set[str]:
        """Return the axis of a tensor, or of one of its dimensions, that is named in full (not by a glob)."""
        names = [condition.pattern for condition in conditions if condition.form == NAME]
        if len(names) != 1 or names[0].partition("[")[0] not in self.sites:
            return set()
        try:
            axis = self.graph.axis(names[0])
        except InputError:
            return set()
        others = (condition for condition in conditions if condition.form != NAME)
        return {axis.name} if all(self._holds(condition, axis, names[0]) for condition in others) else set()

    def _touches(self, conditions: Conditions, axis: PrunableAxis, sites: set[str]) -> bool:
        about = [c for c in conditions if c.form in ("axis", "kind")]
        here = any(use.name in sites for use in axis.sites) or self._hold(conditions, axis, home(axis))
        return here and all(self._holds(condition, axis, "") for condition in about)

    def _hold(self, conditions: Conditions, axis: PrunableAxis, name: str) -> bool:
        return all(self._holds(condition, axis, name) for condition in conditions)

    def _holds(self, condition: Condition, axis: PrunableAxis, name: str) -> bool:
        """Return whether a condition holds for an axis that `name` produces."""
        if condition.form == "axis":
            return self.graph.axis(condition.pattern) is axis
        if condition.form == "kind":
            return axis.kind == condition.pattern
        return self._means(condition, name) or (condition.form == NAME and means(condition.pattern, axis.name))

    def _lies(self, conditions: Conditions, name: str) -> bool:
        """Return whether the conditions on names hold for a parameter."""
        return all(self._means(c, name) for c in conditions if c.form not in ("axis", "kind"))

    def _means(self, condition: Condition, name: str) -> bool:
        if condition.form == NAME:
            return means(condition.pattern, name)
        return any(
            fnmatchcase(kind, condition.pattern) for path in enclosing(name) for kind in self.types.get(path, ())
        )

    def _own(self, axis: PrunableAxis) -> Iterator[str]:
        yield home(axis)

    def _others(self, axis: PrunableAxis) -> Iterator[str]:
        """Return all names of the other parameters that produce the axis."""
        made = {use.name for use in axis.sites if use.role == "output"}
        return (name for name, site in self.sites.items() if site in made)

    @cached_property
    def sites(self) -> dict[str, str]:
        """The sites by all of their names: shared tensors, and tensors of shared modules, have several."""
        model = self.graph.model
        named = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
        first: dict[int, str] = {}
        for name, tensor in named:
            if name in self.graph.sites:
                first.setdefault(id(tensor), name)
        known = {name: name for name in self.graph.sites}
        return {**known, **{name: first[id(t)] for name, t in named if id(t) in first}}

    @cached_property
    def types(self) -> dict[str, tuple[str, ...]]:
        """The names of a module's class and base classes, by the module's path."""
        return {
            path: tuple(kind.__name__ for kind in type(module).__mro__[: type(module).__mro__.index(nn.Module)])
            for path, module in self.graph.model.named_modules(remove_duplicate=False)
            if path
        }

    def _nothing(self, conditions: Conditions, source: str) -> InputError:
        for condition in conditions:
            if condition.form == "axis":
                self.graph.axis(condition.pattern)  # raises if there is no such axis
            if condition.form == "type" and not any(self._means(condition, name) for name in self.types):
                known = dict.fromkeys(kind for kinds in self.types.values() for kind in kinds)
                near = nearest(condition.pattern, known) or f"; its types are {listed(known, 8)}"
                return InputError(f"{source} names {str(condition)!r}, but no module of this model has that type{near}")
            if condition.form == NAME and not any(self._means(condition, name) for name in self._all_names):
                near = nearest(condition.pattern, self._modules)
                return InputError(f"{source} names {condition.pattern!r}, which matches no parameter{near}")
        text = " ".join(map(str, conditions))
        return InputError(f"{source} names {text!r}, where nothing can be cut{self._because(conditions)}")

    def _because(self, conditions: Conditions) -> str:
        kinds = [c.pattern for c in conditions if c.form == "kind"]
        found = [f for f in self.graph.frozen if self._lies(conditions, f.name) and self._of_kind(f, kinds)]
        found.sort(key=lambda frozen: frozen.dim)
        if found:
            return f"\n{found[0].name}[{found[0].dim}] is frozen: {found[0].reason}"
        if kinds:
            have = Counter(axis.kind for axis in self.graph.axes)
            return f"; the kinds of its axes are {', '.join(f'{kind}s ({n})' for kind, n in have.items())}"
        sites = {site for name, site in self.sites.items() if self._lies(conditions, name)}
        there = [axis.name for axis in self.graph.axes if any(use.name in sites for use in axis.sites)]
        return f"; the units there belong to {listed(there, 3)}" if there else ""

    def _of_kind(self, frozen: Frozen, kinds: Sequence[str]) -> bool:
        there = list(axes(self.graph.sites[frozen.name].dims[frozen.dim]))
        return all(any((axis.kind or CHANNEL) == kind for axis in there) for kind in kinds)

    @cached_property
    def _all_names(self) -> set[str]:
        return {*self.sites, *(axis.name for axis in self.graph.axes)}

    @cached_property
    def _modules(self) -> Iterable[str]:
        names = (name for site in self.sites for name in enclosing(site.rpartition(".")[0]) if name)
        return dict.fromkeys([*(axis.name for axis in self.graph.axes), *names])


def home(axis: PrunableAxis) -> str:
    """Return the module or parameter that an axis is named after.

    `attn.qkv[1]` is an output of `attn.qkv`: the brackets only distinguish the axes of one module.
    """
    return axis.name[: axis.name.rindex("[")] if axis.name.endswith("]") else axis.name
