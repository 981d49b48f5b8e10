"""Which number of a config counts the layers of a list, and what else changes when the list gets shorter.

No model family is known by name. A number counts a list if the class of the model, built on the meta device with that
number reduced by one, makes this list one shorter and no other. What else changes is found in the same way: the model
from the shorter config is compared with the one from the present config, each remaining layer with itself. Integers
that are the index of a layer or the number of layers change, and lists with one entry per layer lose entries. Any
other difference means that the class would make other layers of those that stay, and closing the gap is refused.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from secateur.anatomy.building import anew, reloaded
from secateur.anatomy.holders import Holder, holders, put_at, values
from secateur.anatomy.slots import slots
from secateur.base.names import is_public
from secateur.base.text import first_line, listed
from secateur.errors import InputError
from secateur.plan.parts import AttributeChange, Pick, Renumbering
from secateur.plan.renumbering import Names

TRIES = 64  # tried assignments of lists of a config, with one entry per layer, to lists of the model
SHOWN = 3
PLAIN = (bool, int, float, str, type(None))


@dataclass(frozen=True, slots=True)
class Number:
    """An integer of a config, or one entry of a list in it: the dotted name from the model on, and the index."""

    name: str
    index: int | None
    value: int


@dataclass(frozen=True, slots=True)
class Counters:
    """The number of a config that counts each list, and the error of the class where it refuses one less."""

    numbers: Mapping[str, Number]
    refused: Mapping[str, str]

    def why_not(self, holder: str) -> str | None:
        """Return the error for which no number counts a list, if there is one."""
        return self.refused.get(holder) if holder not in self.numbers else None


def counters(model: nn.Module, config: Any, wanted: Collection[str]) -> Counters:
    """Return the numbers of the config that count these lists, without lists that no number counts."""
    before = _lengths(anew(model, copy.deepcopy(config)))
    sizes = {before[name] for name in wanted if name in before}
    found: dict[str, Number] = {}
    refused: dict[str, str] = {}
    for number in _numbers(config):
        if number.value not in sizes:
            continue
        try:
            shorter = _shorter_by_one(model, config, number)
        except Exception as error:  # noqa: BLE001 - of the config's or the model's own checks
            place = number.name if number.index is None else f"{number.name}[{number.index}]"
            refusal = f"its class refuses {place}={number.value - 1}: {type(error).__name__}: {first_line(error)}"
            refused = {name: refusal for name in wanted if before.get(name) == number.value} | refused
            continue
        changed = [name for name, n in before.items() if shorter.get(name, n) != n]
        if len(changed) == 1 and shorter[changed[0]] == number.value - 1:
            found.setdefault(changed[0], number)
    return Counters({name: number for name, number in found.items() if name in wanted}, refused)


def _shorter_by_one(model: nn.Module, config: Any, number: Number) -> dict[str, int]:
    """Return the lengths of all lists with a number reduced by one. Raises what the class raises if it refuses."""
    changed = copy.deepcopy(config)
    _put(changed, number.name, number.index, number.value - 1)
    try:
        return _lengths(anew(model, reloaded(model, changed)))
    except Exception:  # noqa: BLE001 - of the config's or the model's own checks
        for name, held in _lists(changed):  # a list of the config may need one entry per layer
            if len(held) == number.value:
                _put(changed, name, None, type(held)(held[:-1]))
        return _lengths(anew(model, reloaded(model, changed)))


def renumbering(model: nn.Module, removed: Collection[str], config: Any, remedy: str) -> Renumbering:
    """Return what closes the gaps that blocks leave. Raises `InputError` if no config describes the shorter model."""
    fault = f"no config fits this {type(model).__name__} without {listed(removed, SHOWN)}"
    lists = sorted({name.rpartition(".")[0] for name in removed})
    counters_of = counters(model, config, lists)
    counted = counters_of.numbers
    alone = [name for name in removed if name.rpartition(".")[0] not in counted]
    if alone:
        why = counters_of.why_not(alone[0].rpartition(".")[0])
        raise InputError(
            f"{fault}: {why or f'no number in it counts {listed(alone, SHOWN)} and nothing else'}\n{remedy}"
        )
    base = anew(model, reloaded(model, config))
    lengths, names = _lengths(base), Names(removed, lists)
    faults: list[str] = []
    for picked in itertools.islice(_readings(config, {name: lengths[name] for name in lists}, counted), TRIES):
        try:
            shorter = _shortened(config, counted, picked, removed, lengths)
            difference = _Difference(names, lengths, base, anew(model, reloaded(model, shorter)))
        except Exception as error:  # noqa: BLE001 - of the config's or the model's own checks
            faults = faults or [f"{type(error).__name__}: {error}".partition("\n")[0]]
            continue
        if not difference.faults:
            return Renumbering(tuple(lists), tuple(difference.numbers), tuple(difference.picks))
        faults = difference.faults if not faults or len(difference.faults) < len(faults) else faults
    raise InputError(f"{fault}: {listed(faults, SHOWN)}\n{remedy}")


def _of(config: Any) -> Iterator[Holder]:
    held: Any = nn.Module()
    held.config = config
    return (holder for holder in holders(held) if holder.path)


def _numbers(config: Any) -> Iterator[Number]:
    for holder in _of(config):
        for name, value in values(holder.owner).items():
            if is_public(name):
                for index, one in enumerate(value) if type(value) in (list, tuple) else [(None, value)]:
                    if type(one) is int and one > 0:
                        yield Number(holder.name(name), index, one)


def _lists(config: Any) -> Iterator[tuple[str, Any]]:
    for holder in _of(config):
        for name, value in values(holder.owner).items():
            if is_public(name) and type(value) in (list, tuple):
                yield holder.name(name), value


def _put(config: Any, dotted: str, index: int | None, value: Any) -> None:
    path, _, leaf = dotted.rpartition(".")
    owner = next(holder.owner for holder in _of(config) if holder.path == path)
    put_at(owner, leaf, index, value)


def _lengths(model: nn.Module) -> dict[str, int]:
    """Return the number of members of each list of a model."""
    return {name: len(m._modules) for name, m in model.named_modules() if isinstance(m, (nn.ModuleList, nn.Sequential))}


def _readings(config: Any, lengths: Mapping[str, int], counted: Mapping[str, Number]) -> Iterator[dict[str, str]]:
    """Yield which lists of the config have one entry per layer of which list of the model, the most likely first."""
    own = {number.name for number in counted.values() if number.index is not None}
    known = {name: len(held) for name, held in _lists(config) if name not in own}
    choices = [[*(of for of, n in lengths.items() if n == known[name]), ""] for name in known]
    for choice in itertools.product(*choices):
        yield {name: of for name, of in zip(known, choice, strict=True) if of}


def _shortened(
    config: Any,
    counted: Mapping[str, Number],
    picked: Mapping[str, str],
    removed: Collection[str],
    lengths: Mapping[str, int],
) -> Any:
    new = copy.deepcopy(config)
    held = dict(_lists(new))
    for name, of in picked.items():
        _put(new, name, None, type(held[name])(held[name][i] for i in _kept(of, removed, lengths)))
    for of, number in counted.items():
        _put(new, number.name, number.index, len(_kept(of, removed, lengths)))
    return new


def _kept(holder: str, removed: Collection[str], lengths: Mapping[str, int]) -> list[int]:
    return [i for i in range(lengths[holder]) if f"{holder}.{i}" not in removed]


class _Difference:
    """How the model of a shorter config differs from the present one without the removed blocks."""

    def __init__(self, names: Names, lengths: Mapping[str, int], base: nn.Module, small: nn.Module):
        self.names = names
        self.lengths = lengths
        self.after = _lengths(small)
        self.numbers: list[AttributeChange] = []
        self.picks: list[Pick] = []
        self.faults: list[str] = []
        kinds = {name: type(module).__name__ for name, module in small.named_modules()}
        self._all({n: type(m).__name__ for n, m in base.named_modules() if not self._goes(n)}, kinds)
        shapes = {slot.name: tuple(slot.tensor.shape) for slot in slots(small)}
        self._all({s.name: tuple(s.tensor.shape) for s in slots(base) if not self._goes(s.name)}, shapes)
        self._values(base, small)

    def _goes(self, name: str) -> bool:
        return self.names.removes(name)

    def _all(self, base: Mapping[str, Any], small: Mapping[str, Any]) -> None:
        """Record differences in the kinds of modules and the shapes of tensors."""
        for name, have in base.items():
            want = small.get(self.names.after(name))
            if have != want:
                self.faults.append(f"{name} is {have}, the constructor makes {'nothing' if want is None else want}")

    def _values(self, base: nn.Module, small: nn.Module) -> None:
        theirs = {(holder.module, holder.path): values(holder.owner) for holder in holders(small)}
        for holder in holders(base):
            if not self._goes(holder.module):
                its = theirs.get((self.names.after(holder.module), holder.path), {})
                for name, have in values(holder.owner).items():
                    if is_public(name) and _is_plain(have) and have != its.get(name):
                        self._value(holder, name, have, its.get(name))

    def _value(self, holder: Holder, name: str, have: Any, want: Any) -> None:
        kinds = type(have), type(want)
        listlike = kinds in ((list, list), (tuple, tuple))
        if kinds == (int, int) and self._follows(holder, have, want):
            self.numbers.append(AttributeChange(holder.module, holder.name(name), None, have, want))
        elif listlike and len(have) == len(want) and all(type(v) is int for v in (*have, *want)):
            changed = [(i, a, b) for i, (a, b) in enumerate(zip(have, want, strict=True)) if a != b]
            self.numbers += [AttributeChange(holder.module, holder.name(name), *one) for one in changed]
        elif listlike and all(isinstance(v, PLAIN) for v in have) and (kept := self._within(have, want)) is not None:
            self.picks.append(Pick(holder.module, holder.name(name), tuple(have), kept))
        else:
            path = f"{holder.module}.{holder.name(name)}".lstrip(".")
            self.faults.append(f"{path} is {have!r}, the constructor makes {want!r}")

    def _follows(self, holder: Holder, have: int, want: int) -> bool:
        """Return whether an integer belongs to a config, is the index of a layer, or is a number of layers."""
        if holder.path:
            return True
        places = self.names.places(holder.module)
        counts = [
            (n, self.after[self.names.after(name)]) for name, n in self.lengths.items() if self.names.shortens(name)
        ]
        return (have, want) in [*places, *counts]

    def _within(self, have: Sequence[Any], want: Sequence[Any]) -> tuple[int, ...] | None:
        """Return the indices of the entries that are left of a list: those of the layers, else the first that fit."""
        for name, n in self.lengths.items():
            kept = [i for i in range(n) if not self._goes(f"{name}.{i}")]
            if n == len(have) and [have[i] for i in kept] == list(want):
                return tuple(kept)
        found, at = [], 0
        for one in want:
            while at < len(have) and have[at] != one:
                at += 1
            if at == len(have):
                return None
            found.append(at)
            at += 1
        return tuple(found)


def _is_plain(value: Any) -> bool:
    return isinstance(value, PLAIN) or (type(value) in (list, tuple) and all(_is_plain(one) for one in value))
