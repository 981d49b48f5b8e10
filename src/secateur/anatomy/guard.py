"""A guard on `save_pretrained` of a cut model, which refuses where `from_pretrained` would load something else.

`from_pretrained` builds a model from its config and fills it from the file by name. Weights that the file lacks, such
as those of a bypassed block, are initialised at random; weights that the config does not know, such as a bias that
recovery added, are dropped; both with only a line in a log. Where a shape differs it stops, and advises an option that
initialises those weights at random too. So such a model refuses `save_pretrained`, also through `push_to_hub` and
`Trainer.save_model`. Copies and pickles of the model keep the guard.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any
from weakref import WeakSet

from torch import nn

from secateur.anatomy.building import (
    cause_of,
    config_of,
    is_pretrained,
    made_from,
    other_shapes,
    reloaded,
    saves_adapters,
    saves_arguments,
)
from secateur.anatomy.bypass import is_bypass
from secateur.anatomy.masked import masked_names
from secateur.anatomy.slots import Slot, slots
from secateur.base.names import inside
from secateur.base.text import first_line, listed
from secateur.errors import InputError

SAVING = ("save_pretrained", "push_to_hub")  # the second creates a repository before it saves
SHOWN = 4
_trained: WeakSet[nn.Module] = WeakSet()  # models whose checkpoints are written for `secateur.load`
INSTEAD = "save it with secateur.save(model, 'small.safetensors'), or prune it with uniform=True"


class SavingGuard:
    """A saving method of a module that refuses what could not be loaded again.

    added: the parameters that recovery added.
    cut: the parameters and buffers that were cut.
    """

    __slots__ = ("_added", "_cut", "_model", "_name")

    def __init__(self, model: nn.Module, name: str, added: tuple[str, ...], cut: tuple[str, ...]):
        self._model = model
        self._name = name
        self._added = added
        self._cut = cut

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the method, which pipelines of diffusers read to choose the arguments."""
        return inspect.signature(getattr(type(self._model), self._name).__get__(self._model))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Save, or raise `InputError` before anything is written."""
        if not saves_adapters(self._model) and self._model not in _trained:
            check_saves(self._model, self._added, self._cut)
        return getattr(type(self._model), self._name)(self._model, *args, **kwargs)


def guard(model: nn.Module, added: Iterable[str] = (), cut: Iterable[str] = ()) -> None:
    """Guard the saving methods of a model, and of the parts of it that can be saved separately."""
    names = ([*added], [*cut])
    for path, module in model.named_modules():
        own = [_below(path, some) for some in names]
        for method in SAVING:
            if callable(getattr(type(module), method, None)):
                earlier = module.__dict__.get(method)
                known = (earlier._added, earlier._cut) if isinstance(earlier, SavingGuard) else ((), ())
                both = (tuple(dict.fromkeys((*old, *new))) for old, new in zip(known, own, strict=True))
                module.__dict__[method] = SavingGuard(module, method, *both)


def _below(path: str, names: Iterable[str]) -> list[str]:
    """Return the names below a module as that module knows them."""
    return [name[len(path) + 1 :] for name in names if inside(name, {path})] if path else [*names]


def unguard(model: nn.Module) -> None:
    """Remove the guards."""
    for module in model.modules():
        for method in SAVING:
            if isinstance(module.__dict__.get(method), SavingGuard):
                del module.__dict__[method]


def allow_checkpoints(model: nn.Module, allow: bool) -> None:
    """Allow saving a model that would come back as another one, for a caller that saves the plans as well."""
    if allow:
        _trained.add(model)
    else:
        _trained.discard(model)


def check_saves(model: nn.Module, added: Iterable[str] = (), cut: Iterable[str] = ()) -> None:
    """Raise `InputError` where `from_pretrained` would not restore what `save_pretrained` writes."""
    kind = type(model).__name__
    gaps = [*bypassed(model)]
    if gaps:
        raise InputError(
            f"this {kind} runs without {listed(gaps, SHOWN)}, which its config still counts, and from_pretrained "
            f"would fill them with random weights\n{INSTEAD}; the result of prune has save('folder'), which "
            "renumbers the layers where it can"
        )
    check_bare(model)
    here = dict(model.named_parameters(remove_duplicate=False))
    check_added(model, [name for name in added if name in here])
    if is_pretrained(model):
        check_described(model)
    elif saves_arguments(model):
        check_uncut(model, cut)


def check_uncut(model: nn.Module, cut: Iterable[str]) -> None:
    """Raise `InputError` for a model that was cut, and comes back as its constructor makes it from its arguments."""
    names = sorted(cut)
    if names:
        kind = type(model).__name__
        raise InputError(
            f"save_pretrained of {kind} writes the arguments of its constructor, from which from_pretrained builds the "
            f"model as it was before the cut; cut were {listed(names, SHOWN)}\n"
            f"save it with secateur.save(model, 'small.safetensors'), and load it with "
            f"secateur.load({kind}(...), 'small.safetensors')"
        )


def check_described(model: Any) -> None:
    """Raise `InputError` where the class makes tensors of other shapes from the config as reloaded from its file."""
    fault = f"the config of this {type(model).__name__} does not describe it"
    remedy = f"{INSTEAD}; the result of prune has save('folder'), which looks for a config that does"
    try:
        other = made_from(model, reloaded(model, config_of(model)))
    except Exception as error:
        cause = cause_of(error)
        raise InputError(f"{fault}: {type(cause).__name__}: {first_line(cause)}\n{remedy}") from error
    wrong = [*other_shapes(_saved_by_both(model, other), other)]
    if wrong:
        raise InputError(f"{fault}: {listed(wrong, SHOWN)}\n{remedy}")


def _saved_by_both(model: nn.Module, other: nn.Module) -> Iterator[Slot]:
    """Return the saved tensors that both models have. Others were added or removed; shards may be empty."""
    theirs = {slot.name for slot in slots(other)}
    return (slot for slot in slots(model) if slot.persistent and slot.tensor.numel() and slot.name in theirs)


def bypassed(model: nn.Module) -> Iterator[str]:
    """Return the names of the modules that bypass removed blocks."""
    return (name for name, module in model.named_modules() if is_bypass(module))


def check_bare(model: nn.Module) -> None:
    """Raise `InputError` for masks, which `from_pretrained` does not know."""
    if masked_names(model):
        raise InputError(
            f"this {type(model).__name__} has masks, and from_pretrained knows plain weights only\n"
            "make the zeros permanent, secateur.masks.masks_of(model).harden(), or keep the masks with "
            "secateur.save(model, 'small.safetensors')"
        )


def check_added(model: nn.Module, added: Iterable[str]) -> None:
    """Raise `InputError` for parameters that recovery added, which the class does not build."""
    names = [*added]
    if names:
        raise InputError(
            f"recovery added parameters that {type(model).__name__} does not build from a config, so from_pretrained "
            f"would drop them: {listed(names, SHOWN)}\nrecover without adding biases, or save it with "
            "secateur.save(model, 'small.safetensors')"
        )
