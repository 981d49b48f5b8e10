"""Hugging Face models in and out: a config that describes a pruned model, and a folder for `from_pretrained`.

A model that was traced with `uniform=True` has the right config already. For any other model, the config is solved for:
the constructor is traced with the integers of the config as unknowns, and the shapes that it makes must equal those of
the model. Other values that a constructor computes (the scale of attention scores, rotary frequencies) must also equal
those of the pruned model: the written folder is loaded and compared with the pruned model before it gets its name.
"""

from __future__ import annotations

import copy
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from secateur.anatomy.building import anew, cause_of, config_of, other_shapes
from secateur.anatomy.calls import Call
from secateur.anatomy.counting import renumbering
from secateur.anatomy.guard import INSTEAD, bypassed, check_added, check_bare
from secateur.anatomy.holders import Holder, assign, holders, values
from secateur.anatomy.lists import close
from secateur.anatomy.masked import masked_names
from secateur.anatomy.masked_names import plain_slots
from secateur.anatomy.slots import slots
from secateur.anatomy.structure import distance
from secateur.apply.ready import plans_of, put
from secateur.base.names import is_public
from secateur.base.text import first_line, listed
from secateur.errors import InputError, PruningError
from secateur.graph.sizes import Attribute, Expr, evaluate, leaves
from secateur.plan.parts import AttributeChange
from secateur.proof.replay import in_float64, run
from secateur.trace.constructing import Built, check_config, rebuilt
from secateur.trace.staging import StandIns, tag
from secateur.trace.tracked_ints import Num

SHOWN = 4
TOLERANCE = 1e-9
BOUND = 8  # a number of the config is tried up to this many times the size that it makes


def check_rebuilds(model: nn.Module) -> None:
    """Raise `PruningError` if the class of a uniform model does not build the same model from its config."""
    other = rebuilt(model, copy.deepcopy(config_of(model)))
    wrong = [*_shapes(model, other), *_numbers(model, other)]
    if wrong:
        raise PruningError(
            f"{type(model).__name__} does not follow its config: {listed(wrong, SHOWN)}\n"
            "its constructor computes a size in a way that cannot be followed; leave uniform out, and report it"
        )


def _check_valid(model: nn.Module, config: Any) -> None:
    """Raise `InputError` if the config, which checks itself when it is saved, refuses the new sizes."""
    try:
        check_config(config)
    except Exception as error:
        said = first_line(cause_of(error))
        name = type(model).__name__
        raise InputError(f"the config of {name} does not take the new sizes: {said}\n{INSTEAD}") from error


def _shapes(model: nn.Module, other: nn.Module) -> Iterator[str]:
    return other_shapes(plain_slots(model, masked_names(model)), other)  # the config does not describe masks


def _numbers(model: nn.Module, other: nn.Module, kinds: tuple[type, ...] = (int, float)) -> Iterator[str]:
    """Describe the public numbers of modules that differ."""
    theirs = {holder.module: values(holder.owner) for holder in holders(other) if not holder.path}
    for holder in holders(model):
        if not holder.path:
            for name, value in values(holder.owner).items():
                its = theirs.get(holder.module, {}).get(name)
                if is_public(name) and type(value) in kinds and type(its) in kinds and value != its:
                    path = f"{holder.module}.{name}".lstrip(".")
                    yield f"{path} is {value:.6g}, the constructor makes {its:.6g}"


def described(model: nn.Module) -> Any:
    """Return a config from which the class of a pruned model makes its shapes.

    Raises `InputError` if two layers need different values of one number of the config, or if no config makes a shape.
    """
    config = _original(model)
    unknown = copy.deepcopy(config)
    for holder in list(_of_config(unknown)):
        tag(holder, StandIns())
    found = _solved(list(_wanted(model, Built.of(model, unknown))))
    for holder in list(_of_config(config)):
        for name, value in list(values(holder.owner).items()):
            assign(holder.owner, name, _replaced(value, Attribute("", holder.name(name)), found))
    wrong = list(_shapes(model, anew(model, copy.deepcopy(config))))
    if wrong:
        raise InputError(f"no config fits this {type(model).__name__}: {listed(wrong, SHOWN)}\n{INSTEAD}")
    return config


def _original(model: nn.Module) -> Any:
    """Return a copy of the config as it was before the plans that cut the model."""
    held: Any = nn.Module()
    held.config = copy.deepcopy(config_of(model))
    for plan in reversed(plans_of(model)):
        for change in plan.attributes:
            if not change.module and change.name.startswith("config."):
                put(held, AttributeChange("", change.name, change.index, change.new, change.old))
    return held.config


def _of_config(config: Any) -> Iterator[Holder]:
    held: Any = nn.Module()
    held.config = config
    return (holder for holder in holders(held) if holder.path)


@dataclass(frozen=True, slots=True)
class Wanted:
    """The value that an expression over the config must have, and the tensor that it is a size of."""

    expr: Expr
    value: int
    where: str


def _wanted(model: nn.Module, built: Built) -> Iterator[Wanted]:
    """Yield what shapes require, then what integers of modules require: only shapes must be met."""
    theirs = {slot.name: slot.tensor for slot in slots(built.model)}
    for slot in slots(model):
        if slot.name in theirs:
            for size, n in zip(built.sizes.of(theirs[slot.name]), slot.tensor.shape, strict=False):
                yield Wanted(size, n, slot.name)
    numbers = {holder.module: values(holder.owner) for holder in holders(built.model) if not holder.path}
    for holder in holders(model):
        for name, its in numbers.get(holder.module, {}).items() if not holder.path else ():
            mine = values(holder.owner).get(name)
            if isinstance(its, Num) and type(mine) is int:
                yield Wanted(its.expr, mine, "")


def _solved(wanted: Sequence[Wanted]) -> dict[Attribute, int]:
    """Solve for numbers of the config: first those that are a size, then the last unknown of each expression."""
    found: dict[Attribute, tuple[int, str]] = {}
    for want in wanted:
        if isinstance(want.expr, Attribute):
            value, where = found.setdefault(want.expr, (want.value, want.where))
            if value != want.value and want.where:
                raise InputError(
                    f"the layers differ: {want.expr} would have to be {value} for {where}, "
                    f"and {want.value} for {want.where}\n{INSTEAD}"
                )
    known = {attribute: value for attribute, (value, _) in found.items()}
    for want in wanted:
        unknown = {leaf for leaf in leaves(want.expr) if isinstance(leaf, Attribute)} - known.keys()
        if len(unknown) == 1:
            (attribute,) = unknown
            fits = [n for n in range(1, BOUND * want.value + 1) if _fits(want, {**known, attribute: n})]
            if len(fits) == 1:
                known[attribute] = fits[0]
    return known


def _fits(want: Wanted, known: dict[Attribute, int]) -> bool:
    try:
        return evaluate(want.expr, lambda leaf: known[leaf]) == want.value  # type: ignore[index]
    except ZeroDivisionError:
        return False


def _replaced(value: Any, of: Attribute, found: dict[Attribute, int]) -> Any:
    if type(value) is int:
        return found.get(of, value)
    if type(value) in (tuple, list):
        return type(value)(found.get(of._replace(at=i), v) for i, v in enumerate(value))
    return value


def save_folder(model: nn.Module, folder: str | os.PathLike[str], calls: Sequence[Call], outputs: Any = None) -> None:
    """Write a folder from which `from_pretrained` loads a model that computes what `model` computes.

    The folder is written completely or not at all.

    Args:
        model: A pruned Hugging Face model.
        folder: A new or empty folder.
        calls: The calls on which the loaded model is compared with `model`.
        outputs: A function that picks the part of the outputs to compare. Default: None, all of it.

    Raises:
        InputError: The folder is not empty, no config describes the model, or the class computes something from the
            config that differs in the pruned model.
    """
    target = Path(folder)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise InputError(f"{folder} exists and is not empty; name a new folder")
    here = {slot.name for slot in slots(model)}
    check_added(model, [one.name for plan in plans_of(model) for one in plan.added if one.name in here])
    check_bare(model)
    whole = _closed(model)
    config = described(whole)
    _check_valid(model, config)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        _filled(whole, config).save_pretrained(temporary)
        kind: Any = type(model)
        _check_same(model, kind.from_pretrained(temporary), calls, outputs)
        temporary.replace(target)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _closed(model: nn.Module) -> nn.Module:
    """Return the model, or if blocks are bypassed a copy without them that holds the same tensors."""
    gaps = [*bypassed(model)]
    if not gaps:
        return model
    closing = renumbering(model, gaps, _original(model), INSTEAD)
    copied = copy.deepcopy(model, {id(slot.tensor): slot.tensor for slot in slots(model)})
    close(dict(copied.named_modules(remove_duplicate=False)), closing, gaps)
    return copied


def _filled(model: nn.Module, config: Any) -> Any:
    """Return the model that the class makes from the config, with the pruned model's tensors."""
    other = anew(model, copy.deepcopy(config))
    tensors = {slot.name: slot.tensor for slot in slots(model)}
    for slot in slots(other):
        slot.table[slot.leaf] = tensors[slot.name]
    if hasattr(model, "generation_config"):
        other.generation_config = model.generation_config
    return other


def _check_same(model: nn.Module, again: nn.Module, calls: Sequence[Call], outputs: Any) -> None:
    wanted = [call.map(lambda t: t.double() if t.is_floating_point() else t) for call in calls]
    one, two = (run(in_float64(m.eval()), wanted, outputs=outputs) for m in (model, again))
    error = distance(one, two)
    if not error < TOLERANCE:
        causes = [*_numbers(model, again, (float,)), *_buffers(model, again), *_numbers(model, again, (int,))]
        raise InputError(
            f"from_pretrained would load another function (outputs differ by {error:.1e}): the constructor\n"
            "computes from the config values that the pruned model keeps as they were\n"
            + "\n".join(f"  {cause}" for cause in causes[:SHOWN])
            + f"\n{INSTEAD}"
        )


def _buffers(model: nn.Module, other: nn.Module) -> Iterator[str]:
    theirs = {slot.name: slot for slot in slots(other)}
    for slot in slots(model):
        its = theirs.get(slot.name)
        if not slot.persistent and its is not None and not torch.allclose(slot.tensor.double(), its.tensor.double()):
            yield f"{slot.name} holds other numbers"
