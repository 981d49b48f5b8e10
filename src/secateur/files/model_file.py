"""Save a pruned model to one safetensors file: its weights, and in the metadata the plans that cut it.

    save(pruned, "small.safetensors")
    again = load(build_model(), "small.safetensors")       # a freshly built original becomes the pruned model

Metadata, all of them strings: `secateur_format`, the version; `secateur_plans`, a JSON list of plans, oldest first;
`secateur_aliases`, a JSON object from further names of shared tensors to the one they are stored under;
`secateur_masks`, if weights have masks (see `secateur.files.stored_masks`); `secateur_extra`, what modules return from
`get_extra_state` (see `secateur.files.extra_state`). Tensors are stored by dotted name: all parameters and persistent
buffers, and any other tensor that a plan cut; masked weights by the names that they have without masks. Nothing is ever
unpickled.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from secateur.anatomy.checks import check_model
from secateur.anatomy.masked import masked_names, worn
from secateur.anatomy.masked_names import plain, plain_slots
from secateur.anatomy.slots import Slot, slots
from secateur.apply.ready import plans_of
from secateur.base.paths import PathLike
from secateur.base.process import trainable
from secateur.base.text import listed
from secateur.base.writing import apart, opened_tensors, replacing, write_tensors
from secateur.errors import FileError, InputError
from secateur.files.extra_state import check_extra, extra_names, give_extra, stored_extra, taken_extra
from secateur.files.fitting import Stored, fit
from secateur.files.replaced import check_reloads
from secateur.files.stored_masks import fitted_masks, stored_masks, taken_out, wear
from secateur.plan.later_names import cut_names
from secateur.plan.plan import Plan

FORMAT = 1
VERSION, PLANS, ALIASES = "secateur_format", "secateur_plans", "secateur_aliases"


@trainable
def save(model: nn.Module, path: PathLike) -> None:
    """Write the weights of `model`, its masks and the plans that cut it to one safetensors file.

    The file is written completely or not at all. Shared tensors are stored once.

    Args:
        model: A pruned model; a model that was never cut is saved too, with no plans.
        path: The file to write.

    Raises:
        InputError: The path cannot be written to; a tensor has no values (meta), is sparse, or has a dtype that
            safetensors does not know; a module has extra state that only a pickle could hold; or a layer that was cut
            was replaced since by one that `load` could not make.

    Example:
        >>> import secateur, tempfile
        >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
        >>> _ = secateur.cut_(net, secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]}))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save(net, f"{folder}/small.safetensors")
        ...     again = load(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), f"{folder}/small.safetensors")
        >>> again[0].out_features, bool((again[1].weight == net[1].weight).all())
        (6, True)
    """
    check_model(model)
    _check_saved_whole(model)
    masked = masked_names(model)
    plans = tuple(plain(plan, masked) for plan in plans_of(model))
    check_reloads(type(model).__name__, plain_slots(model, masked), plans)
    tensors, aliases = _stored(model, plans, masked)
    bits, patterns = stored_masks(worn(model))
    held, extra = stored_extra(model)
    tensors |= bits | held
    metadata = {
        "format": "pt",  # what the safetensors readers of other libraries look for
        VERSION: str(FORMAT),
        PLANS: f"[{','.join(plan.to_json() for plan in plans)}]",
        ALIASES: json.dumps(aliases),
        **patterns,
        **extra,
    }
    with replacing(path) as temporary:
        write_tensors(tensors, temporary, metadata)


@trainable
def load(model: nn.Module, path: PathLike, *, device: torch.device | str | None = None) -> nn.Module:
    """Turn `model`, freshly built as it was before pruning, into the model saved at `path`.

    The plans of the file are applied in order, then every name and shape of the file is compared with the model; the
    model does not change unless everything fits. Plans that the model went through already are not applied twice.
    Values keep the dtype of the file. Parameters are new objects, so build the optimizer afterwards. A config that the
    plans change is copied first, so another model that holds it too does not change.

    Args:
        model: The original model, as its constructor builds it.
        path: A file that `secateur.save` wrote.
        device: Where the tensors go. Default: None, where the model's tensors are (from the meta device: to the CPU).

    Returns:
        The same object, now the pruned model.

    Raises:
        FileError: The file is missing, damaged or hostile, of a newer format, or of another architecture; the message
            names the parameters that differ, with both shapes.
        InputError: The model cannot be loaded into.

    Example:
        >>> load(nn.Linear(2, 2), "nowhere.safetensors")
        Traceback (most recent call last):
            ...
        secateur.errors.FileError: no file nowhere.safetensors
    """
    check_model(model)
    target = _device(device)
    if masked_names(model):
        raise InputError(
            "the model has masks already; load into a freshly built one, or remove them first with "
            "secateur.masks.masks_of(model).remove()"
        )
    with opened_tensors(path) as file:
        plans, aliases = _metadata(path, file)
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        try:
            bits = taken_out(tensors, file.metadata())
            extra = taken_extra(tensors, file.metadata())
        except FileError as error:
            raise FileError(f"{path}: {error}") from error
        try:
            fitted = fit(model, plans, Stored(tensors, aliases), target)
            masks = fitted_masks(fitted, bits)
            check_extra(model, extra)
        except FileError as error:
            raise FileError(f"{path} {error}") from error
    fitted.put()
    wear(model, masks, bits)
    give_extra(model, extra, target)
    return model


def read_plans(path: PathLike) -> tuple[Plan, ...]:
    """Return the plans that cut the model in a file, oldest first; no weights are read.

    Raises `FileError` as `load` does.

    >>> read_plans("nowhere.safetensors")
    Traceback (most recent call last):
        ...
    secateur.errors.FileError: no file nowhere.safetensors
    """
    with opened_tensors(path) as file:
        return _metadata(path, file)[0]


def _check_saved_whole(model: nn.Module) -> None:
    """Raise `InputError` for what a file would lose: plans of a part, and entries of the state dict without tensors."""
    for name, module in model.named_modules():
        if name and plans_of(module):
            raise InputError(
                f"it is {name} that was cut, not the model around it\nsave that part: secateur.save(model.{name}, path)"
            )
    known = {slot.name for slot in slots(model)} | extra_names(model)
    for name, value in model.state_dict(keep_vars=True).items():
        if name not in known:
            raise InputError(
                f"the state dict holds {name!r} ({type(value).__name__}), which is not a parameter or buffer\n"
                "secateur.save stores tensors only: take it out of the state dict, or save it separately"
            )


def _stored(
    model: nn.Module, plans: tuple[Plan, ...], masked: set[str]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return tensors by the first of their names, and that name by each further one; without masks."""
    cut = cut_names(plans)
    first: dict[int, str] = {}
    tensors: dict[str, torch.Tensor] = {}
    aliases: dict[str, str] = {}
    for slot in plain_slots(model, masked):
        if slot.persistent or slot.name in cut:
            if id(slot.tensor) in first:
                aliases[slot.name] = first[id(slot.tensor)]
            else:
                first[id(slot.tensor)] = slot.name
                tensors[slot.name] = _plain(slot)
    return apart(tensors), aliases


def _plain(slot: Slot) -> torch.Tensor:
    tensor = slot.tensor.detach()
    if tensor.is_meta:
        raise InputError(
            f"{slot.name} is on the meta device and has no values; load weights into the model, then save it"
        )
    if tensor.layout != torch.strided:
        raise InputError(
            f"{slot.name} is sparse ({tensor.layout}); make it dense with .to_dense(), then save the model"
        )
    return tensor.contiguous()


def _device(device: torch.device | str | None) -> torch.device | None:
    try:
        return None if device is None else torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device={device!r}: {str(error).splitlines()[0]}") from error


def _metadata(path: PathLike, file: Any) -> tuple[tuple[Plan, ...], dict[str, str]]:
    """Read and check the plans and aliases of an open file."""
    data: Mapping[str, str] = file.metadata() or {}
    if VERSION not in data:
        raise FileError(
            f"{path} was not written by secateur.save: it has no {VERSION!r} in its metadata\n"
            "load plain weights with model.load_state_dict(safetensors.torch.load_file(path))"
        )
    if data[VERSION] != str(FORMAT):
        raise FileError(f"{path} is of format {data[VERSION]}; this secateur reads format {FORMAT}: update secateur")
    try:
        plans = tuple(map(_plan, _json_list(data[PLANS])))
        return plans, _aliases(json.loads(data[ALIASES]), set(file.keys()))
    except KeyError as error:
        raise FileError(f"{path}: its metadata have no {error}") from error
    except (ValueError, RecursionError) as error:  # a FileError is a ValueError
        raise FileError(f"{path}: its metadata are damaged: {error or type(error).__name__}") from error


def _json_list(text: str) -> list[Any]:
    data = json.loads(text)
    if not isinstance(data, list):
        raise FileError(f"{PLANS} is a {type(data).__name__}, not a list")
    return data


def _plan(data: Any) -> Plan:
    return Plan.from_json(json.dumps(data))


def _aliases(data: Any, names: set[str]) -> dict[str, str]:
    if not isinstance(data, dict):
        raise FileError(f"{ALIASES} is a {type(data).__name__}, not an object")
    for name, first in data.items():
        if not isinstance(first, str) or first not in names or name in names:
            raise FileError(f"{ALIASES} calls {name!r} another name of {first!r}: {listed(sorted(names), 3)}")
    return data
