"""Fit a file to a freshly built model: apply its plans to shapes and integers, compare, and find where tensors go.

Only shapes are computed, so weights that are about to be replaced are never cut. The model does not change before
`FittedFile.put`, which only assigns values that are ready, and so cannot fail.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from secateur.anatomy.bypass import put_bypasses
from secateur.anatomy.caches import forget
from secateur.anatomy.guard import guard
from secateur.anatomy.holders import owner_of, put_at, values
from secateur.anatomy.lists import drop, is_list, pick_at
from secateur.anatomy.own_objects import own_objects
from secateur.anatomy.slots import Slot, replace_held, slots
from secateur.apply.additions import places
from secateur.apply.ready import PLANS, plans_of
from secateur.apply.tensors import alike
from secateur.base.names import inside
from secateur.base.text import listed
from secateur.errors import FileError, InputError, nearest
from secateur.files.replaced import fits, is_whole
from secateur.plan.later_names import added_names, cut_names, smaller_names
from secateur.plan.parts import Added, AttributeChange, Gives, Pick, Renumbering
from secateur.plan.plan import Plan
from secateur.plan.renumbering import Names

SHOWN = 5
OTHER = (
    "cause: the file is of another architecture, or the model was built with other arguments\n"
    "fix:   build the model as it was before it was pruned"
)


@dataclass(frozen=True)
class Stored:
    """The tensors of a file by name, and further names for them."""

    tensors: Mapping[str, torch.Tensor]
    aliases: Mapping[str, str]

    def __contains__(self, name: str) -> bool:
        return name in self.tensors or name in self.aliases

    def source(self, name: str) -> str:
        """Return the name that a tensor is stored under."""
        return self.aliases.get(name, name)

    @property
    def names(self) -> Iterable[str]:
        return [*self.tensors, *self.aliases]


@dataclass(frozen=True)
class FittedFile:
    """All changes that a load makes, ready to be assigned."""

    model: nn.Module
    tensors: Sequence[tuple[Slot, torch.Tensor]]
    values: Sequence[tuple[Any, str, AttributeChange]]  # the object that holds an attribute, and its name there
    removed: Mapping[str, Gives]
    closed: Mapping[str, Collection[str]]  # of lists by name, the members whose gaps are closed
    picks: Collection[tuple[Any, str, tuple[int, ...]]]  # of lists and tuples that objects hold, the entries that stay
    plans: tuple[Plan, ...]

    def put(self) -> None:
        """Change the model. Only plain dict entries are set, so no code of the model runs and can raise."""
        own = own_objects(self.model, (owner for owner, *_ in (*self.values, *self.picks)))
        own.put()
        modules = dict(self.model.named_modules(remove_duplicate=False))
        put_bypasses(modules, self.removed)
        new = {id(slot.tensor): tensor for slot, tensor in self.tensors}  # an added one is in the place of None
        for slot, tensor in self.tensors:
            slot.table[slot.leaf] = tensor
        for owner, leaf, change in self.values:
            put_at(own.of(owner), leaf, change.index, change.new)
        for holder, members in self.closed.items():
            drop(modules[holder], members)
        for owner, leaf, kept in self.picks:
            pick_at(own.of(owner), leaf, kept)
        replace_held(self.model, new)
        forget(self.model, (cache for plan in self.plans for cache in plan.caches))
        if self.plans:
            guard(self.model, added_names(self.plans), smaller_names(self.plans))
            self.model.__dict__[PLANS] = self.plans


def fit(model: nn.Module, plans: tuple[Plan, ...], stored: Stored, device: torch.device | None) -> FittedFile:
    """Apply the plans to shapes and compare every stored tensor with the result.

    Raises `FileError`, whose message continues "<path> ...", if anything differs; `InputError` if the model was already
    cut by other plans, or keeps tensors without values.
    """
    done = plans_of(model)
    if plans[: len(done)] != done:
        raise InputError(
            "the model was already cut, by other plans than those of the file; load into a freshly built model"
        )
    outline = _Outline(model, stored)
    for plan in plans[len(done) :]:
        outline.follow(plan)
    outline.compare(cut_names(plans))
    tensors = list(_made(outline, device))
    picks = outline.picks.values()
    return FittedFile(model, tensors, outline.changes, outline.removed, outline.closed, picks, plans)


class _Outline:
    """The shapes and integers of a model as plans change them; the model itself is only read.

    Tensors that are shared, in the model or according to the file, have one key: the first of their names.
    """

    def __init__(self, model: nn.Module, stored: Stored):
        self.kind = type(model).__name__
        self.stored = stored
        self.slots = list(slots(model))
        self.modules = dict(model.named_modules(remove_duplicate=False))
        first: dict[int, str] = {}
        self.key = {slot.name: first.setdefault(id(slot.tensor), slot.name) for slot in self.slots}
        self.shapes = {self.key[slot.name]: tuple(slot.tensor.shape) for slot in self.slots}
        self.values: dict[tuple[int, str, int | None], int] = {}
        self.changes: list[tuple[Any, str, AttributeChange]] = []
        self.removed: dict[str, Gives] = {}  # by the names of the model as it is
        self.gone: set[str] = set()  # the same modules, by their names after the plans so far
        self.closed: dict[str, list[str]] = {}
        self.picks: dict[tuple[int, str | None], tuple[Any, str, tuple[int, ...]]] = {}
        self.built = {name: name for name in self.modules}  # the name of each module in the model as it is
        self.tensors = {slot.name: slot.tensor for slot in self.slots}
        for alias, name in stored.aliases.items():
            self._share(alias, name)

    def _share(self, alias: str, name: str) -> None:
        mine, its = self.key.get(alias), self.key.get(name)
        if mine is not None and its is not None and mine != its:
            if self.shapes[mine] != self.shapes[its]:
                raise FileError(
                    f"shares {alias} and {name}, which differ in this {self.kind}:\n"
                    f"  {alias}  {self.shapes[mine]}\n  {name}  {self.shapes[its]}\n{OTHER}"
                )
            self.key = {n: its if key == mine else key for n, key in self.key.items()}

    def follow(self, plan: Plan) -> None:
        """Apply a plan."""
        for name, gives in plan.removed.items():
            self._remove(name, gives)
        for name in plan.sites:
            self._check_site(name, plan)
        self.shapes.update({self.key[name]: self._after(name, plan) for name in plan.sites})
        for change in plan.attributes:
            self._change(change)
        if plan.added:
            self._add(plan.added)
        if plan.renumbered is not None:
            self._renumber(plan.renumbered, plan)

    def _renumber(self, closing: Renumbering, plan: Plan) -> None:
        """Close gaps in lists: later plans, and the file, use the new names of the modules behind a gap."""
        for change in closing.numbers:
            self._change(change)
        for pick in closing.picks:
            self._pick(pick)
        for name in closing.lists:
            if name not in self.modules or not is_list(self.modules[name]):
                raise FileError(f"closes gaps in {name!r}, which is not a list in this {self.kind}\n{OTHER}")
        for name in filter(plan.names.removes, plan.removed):
            holder, _, member = self.built[name].rpartition(".")
            self.closed.setdefault(holder, []).append(member)
        self._rename(plan.names)

    def _rename(self, names: Names) -> None:
        after = names.after
        left = [name for name in self.modules if not names.removes(name)]
        self.modules = {after(name): self.modules[name] for name in left}
        self.built = {after(name): self.built[name] for name in left}
        self.gone = {after(name) for name in self.gone if not names.removes(name)}
        self.slots = [replace(slot, name=after(slot.name)) for slot in self.slots]
        self.key = {after(name): after(key) for name, key in self.key.items()}
        self.shapes = {after(name): shape for name, shape in self.shapes.items() if not names.removes(name)}
        self.tensors = {after(name): tensor for name, tensor in self.tensors.items() if not names.removes(name)}

    def _change(self, change: AttributeChange) -> None:
        picked = self.picks.get((id(self._owner(change)[0]), change.name.rpartition(".")[2]))
        if picked is not None and change.index is not None:
            change = replace(change, index=picked[2][change.index])
        owner, leaf, value = self._read(change)
        place = (id(owner), leaf, change.index)
        have = self.values.get(place, value)
        if have != change.old:
            raise FileError(
                f"does not fit this {self.kind}: {_path(change)}\n  file   {change.old}\n  model  {have}\n{OTHER}"
            )
        self.values[place] = change.new
        self.changes.append((owner, leaf, change))

    def _add(self, added: Sequence[Added]) -> None:
        """Make slots for parameters that the model does not have yet, under each name of their modules."""
        modules = {name: module for name, module in self.modules.items() if not inside(name, self.gone)}
        known = {slot.name: self.tensors[slot.name] for slot in self.slots}
        try:
            found = places(added, modules, known, lambda name: self.shapes[self.key[name]])
        except InputError as error:
            raise FileError(f"{error}\n{OTHER}") from error
        for one, place in zip(added, found, strict=True):
            stand_in = nn.Parameter(place.like.detach().new_empty(0), place.like.requires_grad)
            self.shapes[one.name] = (place.length,)
            for path in (path for path, module in modules.items() if module is place.module):
                name = f"{path}.{place.leaf}" if path else place.leaf
                self.slots.append(Slot(name, place.module._parameters, place.leaf, True))
                self.key[name], self.tensors[name] = one.name, stand_in

    def _remove(self, name: str, gives: Gives) -> None:
        if name not in self.modules:
            raise FileError(
                f"removes {name!r}, which this {self.kind} does not have{nearest(name, self.modules)}\n{OTHER}"
            )
        built = self.built[name]
        self.removed = {**{n: g for n, g in self.removed.items() if not inside(n, {built})}, built: gives}
        self.closed = {n: members for n, members in self.closed.items() if not inside(n, {built})}
        self.gone = {*(n for n in self.gone if not inside(n, {name})), name}
        self.modules = {n: module for n, module in self.modules.items() if n == name or not inside(n, {name})}
        self.slots = [slot for slot in self.slots if not inside(slot.name, {name})]
        self.key = {n: key for n, key in self.key.items() if not inside(n, {name})}

    def _check_site(self, name: str, plan: Plan) -> None:
        if name not in self.key:
            raise FileError(f"cuts {name!r}, which this {self.kind} does not have{nearest(name, self.key)}\n{OTHER}")
        want, have = plan.old_shape(name), self.shapes[self.key[name]]
        if not fits(have, want, plan.sites[name]):
            raise FileError(
                f"does not fit this {self.kind}: {name}\n  file   {want} before the cut\n  model  {have}\n{OTHER}"
            )

    def _after(self, name: str, plan: Plan) -> tuple[int, ...]:
        """Return the shape after a cut; a dimension that no plan can cut is as long as in the model."""
        sizes = zip(plan.sites[name], plan.shape(name), self.shapes[self.key[name]], strict=True)
        return tuple(here if is_whole(code) else left for code, left, here in sizes)

    def _read(self, change: AttributeChange) -> tuple[Any, str, int]:
        """Return the object that holds an attribute, its name there and its integer; no code of the model is run."""
        owner, leaf = self._owner(change)
        held: Any = values(owner)[leaf] if leaf is not None else None
        value = held
        if change.index is not None:
            value = held[change.index] if isinstance(held, (tuple, list)) and change.index < len(held) else None
        if leaf is None or type(value) is not int:
            what = type(held).__name__ if leaf is not None else "missing"
            raise FileError(f"sets {_path(change)}, which is not an integer in this {self.kind} ({what})\n{OTHER}")
        return owner, leaf, value

    def _owner(self, change: AttributeChange | Pick) -> tuple[Any, str | None]:
        module = self.modules.get(change.module)
        if module is None:
            raise FileError(
                f"sets {_path(change)}: this {self.kind} has no module {change.module!r}"
                f"{nearest(change.module, self.modules)}\n{OTHER}"
            )
        return owner_of(module, change.name) or (module, None)

    def _pick(self, pick: Pick) -> None:
        owner, leaf = self._owner(pick)
        held: Any = values(owner)[leaf] if leaf is not None else None
        earlier = self.picks[id(owner), leaf][2] if (id(owner), leaf) in self.picks else None
        now = held if earlier is None else [held[i] for i in earlier]
        if leaf is None or type(held) not in (tuple, list) or tuple(now) != pick.old:
            have = now if leaf is not None else "missing"
            raise FileError(
                f"does not fit this {self.kind}: {_path(pick)}\n  file   {[*pick.old]}\n  model  {have}\n{OTHER}"
            )
        kept = pick.kept if earlier is None else tuple(earlier[i] for i in pick.kept)
        self.picks[id(owner), leaf] = owner, leaf, kept

    def compare(self, cut: set[str]) -> None:
        """Raise `FileError` for names that one side lacks, and for shapes and dtypes that differ in kind."""
        known = {slot.name for slot in self.slots}
        wanted = [slot for slot in self.slots if slot.persistent or slot.name in cut]
        problems = {
            "missing": [slot.name for slot in wanted if slot.name not in self.stored],
            "unexpected": [name for name in self.stored.names if name not in known],
            "different": [text for slot in self.slots if (text := self._difference(slot))],
        }
        lines = [f"  {kind:<10} {len(found):>4}  {listed(found, SHOWN)}" for kind, found in problems.items() if found]
        if lines:
            raise FileError("\n".join([f"does not fit this {self.kind}:", *lines, OTHER]))
        self._check_places()

    def _difference(self, slot: Slot) -> str | None:
        if slot.name not in self.stored:
            return None
        tensor = self.stored.tensors[self.stored.source(slot.name)]
        want = self.shapes[self.key[slot.name]]
        if tuple(tensor.shape) == want and _is_real(tensor) == _is_real(self.tensors[slot.name]):
            return None
        return (
            f"{slot.name}: file {_described(tensor.shape, tensor)}, model {_described(want, self.tensors[slot.name])}"
        )

    def _check_places(self) -> None:
        """Raise `FileError` if two names of one place in the model have different tensors in the file."""
        sources: dict[tuple[int, str], str] = {}
        for slot in self.slots:
            if slot.name in self.stored:
                source = self.stored.source(slot.name)
                other = sources.setdefault(slot.place, source)
                if other != source:
                    raise FileError(
                        f"holds {other} and {slot.name} as two tensors, which are one in this {self.kind}\n{OTHER}"
                    )


def _made(outline: _Outline, device: torch.device | None) -> Iterator[tuple[Slot, torch.Tensor]]:
    """Yield the new tensor of each slot that gets one; a shared tensor is made once."""
    made: dict[tuple[object, bool], torch.Tensor] = {}
    for slot in outline.slots:
        old = outline.tensors[slot.name]
        stored = slot.name in outline.stored
        source = outline.stored.source(slot.name) if stored else id(old)
        value = outline.stored.tensors[outline.stored.source(slot.name)] if stored else old.detach()
        place = device or (old.device if not old.is_meta else torch.device("cpu"))
        if not stored and old.is_meta:
            raise InputError(
                f"{slot.name} is on the meta device, and not in the file: it is not part of the state dict\n"
                "build the model on a real device, then load it"
            )
        if stored or value.device != place:
            key = (source, isinstance(old, nn.Parameter))
            if key not in made:
                made[key] = alike(old, value.to(place, copy=True))
            yield slot, made[key]


def _path(change: AttributeChange | Pick) -> str:
    place = f"[{change.index}]" if isinstance(change, AttributeChange) and change.index is not None else ""
    return f"{change.module}.{change.name}{place}" if change.module else f"{change.name}{place}"


def _is_real(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _described(shape: Sequence[int], tensor: torch.Tensor) -> str:
    return f"{tuple(shape)} {str(tensor.dtype).removeprefix('torch.')}"
