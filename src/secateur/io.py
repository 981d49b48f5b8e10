"""Pruned models in one safetensors file: weights, and in its metadata the plans that the model went through.

    save(pruned, "small.safetensors")
    again = load(build_model(), "small.safetensors")       # a freshly built original becomes the pruned model

Metadata, all of it text: `secateur_format`, the version; `secateur_plans`, a JSON list of plans, oldest first;
`secateur_aliases`, a JSON object from further names of shared tensors to the one they are stored under;
`secateur_masks`, where weights wear masks (see `secateur.masks.stored`); `secateur_extra`, what modules give by
`get_extra_state` (see `secateur.extra_state`). Tensors go by dotted name: all parameters and persistent buffers, and
whatever else a plan cut; masked weights by the names that they have without masks. Nothing is ever unpickled.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .apply.surgery import plans_of
from .errors import FileError, InputError, nearest
from .extra_state import check_extra, extra_names, give_extra, stored_extra, taken_extra
from .fitting import Slot, Stored, fit, slots
from .paths import PathLike, path_of
from .plan import Plan
from .process import trainable
from .renumbering import cut_names
from .text import listed
from .trace import check_model

FORMAT = 1
VERSION, PLANS, ALIASES = "secateur_format", "secateur_plans", "secateur_aliases"


@trainable
def save(model: nn.Module, path: PathLike) -> None:
    """Write the weights of `model`, its masks and the plans it went through to one file, whole or not at all.

    A model that was never cut is saved too, with no plans. Shared tensors are stored once. Raises `InputError` for a
    path that cannot be written to, for tensors that have no values (meta), are sparse, or that safetensors does not
    know, and for extra state that only a pickle could hold.

    >>> import secateur, tempfile
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    >>> _ = secateur.cut_(net, secateur.plan(secateur.trace(net, torch.zeros(1, 4)), drop={"0": [1, 5]}))
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(net, f"{folder}/small.safetensors")
    ...     again = load(nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2)), f"{folder}/small.safetensors")
    >>> again[0].out_features, bool((again[1].weight == net[1].weight).all())
    (6, True)
    """
    from .masks.naming import plain
    from .masks.stored import masked_names, stored_masks
    from .masks.wearing import worn

    check_model(model)
    _check_saved_whole(model)
    masked = masked_names(model)
    plans = tuple(plain(plan, masked) for plan in plans_of(model))
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
    with _replacing(path) as temporary:
        _write(tensors, temporary, metadata)


@trainable
def load(model: nn.Module, path: PathLike, *, device: torch.device | str | None = None) -> nn.Module:
    """Turn `model`, freshly built as it was before pruning, into the model saved at `path`; returns the same object.

    The plans of the file are followed in order, then every name and shape of the file is held against the model;
    nothing of the model is touched before all of it fits. Values keep the dtype of the file. They go to `device`, by
    default to where the model's tensors are (a model on the meta device: to the CPU). Parameters are new objects, so
    an optimizer is to be built afterwards; a config that the plans change is changed in place, so a model that goes on
    being used needs one of its own. Plans that the model went through already are not followed twice.

    Raises `FileError` for a file that is missing, damaged or hostile, of another architecture (which parameter
    differs, with both shapes) or of a newer format; `InputError` for a model that cannot be loaded into.

    >>> load(nn.Linear(2, 2), "nowhere.safetensors")
    Traceback (most recent call last):
        ...
    secateur.errors.FileError: no file nowhere.safetensors
    """
    from .masks.stored import fitted_masks, masked_names, taken_out, wear

    check_model(model)
    target = _device(device)
    if masked_names(model):
        raise InputError(
            "the model wears masks already; load into a freshly built one, or take them off first with "
            "secateur.masks.masks_of(model).remove()"
        )
    with _opened(path) as file:
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
    """The plans that the model in a file went through, oldest first; no weights are read.

    Raises `FileError` as `load` does.

    >>> read_plans("nowhere.safetensors")
    Traceback (most recent call last):
        ...
    secateur.errors.FileError: no file nowhere.safetensors
    """
    with _opened(path) as file:
        return _metadata(path, file)[0]


def save_json(path: PathLike, text: str) -> None:
    """Write text to a file, whole or not at all. Raises `InputError` for a path that cannot be written to.

    >>> save_json("nowhere/report.json", "{}")
    Traceback (most recent call last):
        ...
    secateur.errors.InputError: cannot write nowhere/report.json: there is no folder nowhere
    make it first (mkdir -p nowhere), or write to another one
    """
    with _replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def save_tensors(path: PathLike, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, str]) -> None:
    """Write named tensors and texts to a safetensors file, whole or not at all.

    Raises `InputError` for a path that cannot be written to.
    """
    with _replacing(path) as temporary:
        _write({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, dict(metadata))


def read_tensors(path: PathLike) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors and texts of a safetensors file. Raises `FileError` where it is missing or damaged."""
    with _opened(path) as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


# --- what is stored -------------------------------------------------------------------------------------------------


def _check_saved_whole(model: nn.Module) -> None:
    """A part that was cut on its own, and what a state dict holds beside tensors, would be lost."""
    for name, module in model.named_modules():
        if name and plans_of(module):
            raise InputError(
                f"it is {name} that was cut, not the model around it\nsave that part: secateur.save(model.{name}, path)"
            )
    known = {slot.name for slot in slots(model)} | extra_names(model)
    for name, value in model.state_dict(keep_vars=True).items():
        if name not in known:
            raise InputError(
                f"the state dict holds {name!r} ({type(value).__name__}), which is no parameter or buffer\n"
                "secateur.save stores tensors only: take it out of the state dict, or save it beside"
            )


def _stored(
    model: nn.Module, plans: tuple[Plan, ...], masked: set[str]
) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Tensors by the first of their names, and the first name by each further one; without masks."""
    from .masks.naming import plain_slots

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
    return _apart(tensors), aliases


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


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors that are views of one memory are copied, for a file holds each by itself."""
    seen: set[tuple[torch.device, int]] = set()
    apart: dict[str, torch.Tensor] = {}
    for name, tensor in tensors.items():
        memory = (tensor.device, tensor.untyped_storage().data_ptr())
        apart[name] = tensor.clone() if memory in seen else tensor
        seen.add(memory)
    return apart


# --- reading --------------------------------------------------------------------------------------------------------


def _device(device: torch.device | str | None) -> torch.device | None:
    try:
        return None if device is None else torch.device(device)
    except RuntimeError as error:
        raise InputError(f"device={device!r}: {str(error).splitlines()[0]}") from error


@contextmanager
def _opened(path: PathLike) -> Iterator[Any]:
    """The safetensors file at a path. Raises `FileError` where there is none."""
    from safetensors import safe_open

    file = path_of(path)
    if file.is_dir():
        raise FileError(f"{path} is a folder\nname the file in it, such as {file / 'model.safetensors'}")
    if not file.is_file():
        near = nearest(file.name, (other.name for other in file.parent.glob("*")))
        raise FileError(f"no file {path}{near}")
    try:
        opened = safe_open(file, framework="pt")
    except Exception as error:  # damaged bytes fail in whichever way the byte demands
        raise FileError(
            f"{path} ({file.stat().st_size:,} bytes) cannot be read: {type(error).__name__}: {error}\n"
            f"cause: {_cause(file)}\nmend:  copy it again, or save the model again with secateur.save"
        ) from error
    with opened as content:
        yield content


def _cause(file: Path) -> str:
    with file.open("rb") as stream:
        head = stream.read(4)
    if head[:2] == b"PK" or head[:1] == b"\x80":
        return "it is a pickle, as torch.save writes it, and could run code; only safetensors files are read"
    return "it is truncated, damaged, or no safetensors file"


def _metadata(path: PathLike, file: Any) -> tuple[tuple[Plan, ...], dict[str, str]]:
    """Plans and aliases of an open file, checked."""
    data: Mapping[str, str] = file.metadata() or {}
    if VERSION not in data:
        raise FileError(
            f"{path} was not written by secateur.save: it has no {VERSION!r} in its metadata\n"
            "plain weights go into a model with model.load_state_dict(safetensors.torch.load_file(path))"
        )
    if data[VERSION] != str(FORMAT):
        raise FileError(f"{path} is of format {data[VERSION]}; this secateur reads format {FORMAT}: update secateur")
    try:
        plans = tuple(map(_plan, _json_list(data[PLANS])))
        return plans, _aliases(json.loads(data[ALIASES]), set(file.keys()))
    except KeyError as error:
        raise FileError(f"{path}: its metadata lack {error}") from error
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


# --- writing whole or not at all ------------------------------------------------------------------------------------


def _write(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:  # it writes by itself, and wraps what the system says
        raise OSError(str(error)) from error
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"these tensors cannot be stored as safetensors: {type(error).__name__}: {error}") from error


@contextmanager
def _replacing(path: PathLike) -> Iterator[Path]:
    """A new file beside `path` to write to, which takes its place in the end; nothing is left of it on a failure."""
    target = path_of(path)
    if target.is_dir():
        raise InputError(
            f"cannot write {path}: it is a folder\nname a file in it, such as {target / 'model.safetensors'}"
        )
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.touch(exist_ok=False)
        rights = temporary.stat().st_mode
        yield temporary
        temporary.chmod(rights)  # safetensors puts a file of its own in the place of the one that it is given
        _flush(temporary)
        temporary.replace(target)
        with suppress(OSError):  # not every system lets a folder be flushed
            _flush(target.parent)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _unwritable(target: Path, error: OSError) -> InputError:
    folder = target.parent
    if not folder.exists():
        fact, mend = f"there is no folder {folder}", f"make it first (mkdir -p {folder}), or write to another one"
    elif not folder.is_dir():
        fact, mend = f"{folder} is a file, not a folder", "write to a folder"
    elif isinstance(error, PermissionError):
        fact, mend = (
            f"the folder {folder} is not writable",
            f"change its rights (chmod u+w {folder}), or write to another one",
        )
    else:
        fact, mend = f"{error.strerror or error}", f"make room in {folder}, or write to another folder"
    return InputError(f"cannot write {target}: {fact}\n{mend}")
