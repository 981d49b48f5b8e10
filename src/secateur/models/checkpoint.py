"""Loading weights from a file into a model that is already built: safetensors, or a torch file without code.

A file is checked completely before any of it is used, so a rejected file leaves the model unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from secateur.base.paths import PathLike, path_of
from secateur.errors import FileError, nearest

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Keys under which training scripts store the state dict, next to the epoch and the optimizer."""

PREFIXES = ("module.", "_orig_mod.")
"""Prefixes that DataParallel, DDP and torch.compile add to every name."""

SHOWN = 5
"""Names listed of each kind of mismatch."""


def load_weights(model: nn.Module, path: PathLike) -> None:
    """Copy the weights of `path` into `model`. Every name and shape must match, or nothing changes.

    A `.safetensors` file, or a torch file that is read with `weights_only=True`, so that no code in it runs. State
    dicts are found under the keys `WRAPPERS`, and the prefixes `PREFIXES` stripped. Values are converted to the
    model's own dtype and device. For shared parameters, one name is enough. Raises `FileError` when the file
    is missing, damaged, holds anything but tensors, or belongs to another architecture.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = f"{folder}/w.pt"
    ...     torch.save({"state_dict": {"module.weight": torch.ones(1, 2), "module.bias": torch.zeros(1)}}, path)
    ...     model = nn.Linear(2, 1)
    ...     load_weights(model, path)
    >>> model.weight.tolist()
    [[1.0, 1.0]]
    """
    file = path_of(path)
    own = model.state_dict(keep_vars=True)
    state = _strip_prefixes(_check_tensors(_unwrap(_read(file)), file), own)
    state = _complete(state, own)
    mismatch = _compare(state, own)
    if mismatch.lines:
        raise FileError(mismatch.message(file, model))
    # Not the state dict itself: a model may still need its own rules for old or shared names.
    model.load_state_dict(state)


def load_matching(model: nn.Module, path: PathLike) -> int:
    """Copy the weights of `path` that match by name and shape, as for transfer learning, and return their number.

    The file is read as by `load_weights`. Also raises `FileError` if no parameter matches.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     torch.save({"0.weight": torch.ones(3, 2), "1.weight": torch.ones(9, 3)}, f"{folder}/w.pt")
    ...     load_matching(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 2)), f"{folder}/w.pt")
    1
    """
    file = path_of(path)
    own = model.state_dict(keep_vars=True)
    state = _strip_prefixes(_check_tensors(_unwrap(_read(file)), file), own)
    parameters = dict(model.named_parameters())
    if not any(name in parameters and parameters[name].shape == value.shape for name, value in state.items()):
        raise FileError(f"nothing in {file} fits {type(model).__name__} by name and shape; is it another architecture?")
    return copy_matching(model, state)


def copy_matching(model: nn.Module, state: Mapping[str, Tensor]) -> int:
    """Copy the tensors of a state dict that match the model's by name and shape, and return their number."""
    own = model.state_dict(keep_vars=True)
    fitting = {key: value for key, value in state.items() if key in own and own[key].shape == value.shape}
    model.load_state_dict(fitting, strict=False)
    return len(fitting)


def _read(path: Path) -> object:
    if path.is_dir():
        raise FileError(f"{path} is a folder\nname the file in it that holds the weights")
    if not path.is_file():
        near = nearest(path.name, (file.name for file in path.parent.glob("*")))
        raise FileError(f"there is no weights file {path}{near}")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    # Damaged bytes may raise anything; every failure here is caused by the file.
    except Exception as error:
        raise FileError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as weights: {_fact(error)}\n"
            "cause: it is truncated, not a weights file, or a pickle that would run code\n"
            "fix:   copy it again, or save the state dict alone: torch.save(model.state_dict(), path)"
        ) from error


def _fact(error: Exception) -> str:
    # PyTorch also explains how to run the code anyway: its first sentence, or the rejected name, is enough.
    refused = re.search(r"GLOBAL ([\w.]+)", str(error))
    first = re.split(r"\.\s|\n", str(error))[0] or "the file ends too early"
    return f"it refers to {refused[1]}" if refused else f"{type(error).__name__}: {first}"


def _unwrap(content: object) -> object:
    while isinstance(content, Mapping):
        inner = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), None)
        if inner is None:
            break
        content = inner
    return content


def _check_tensors(content: object, path: Path) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise FileError(f"{path} holds {type(content).__name__}, not a state dict (names -> tensors)")
    strange = {k: v for k, v in content.items() if not (isinstance(k, str) and isinstance(v, Tensor))}
    if strange or not content:
        found = _first(f"{key}: {type(value).__name__}" for key, value in strange.items()) or "nothing"
        raise FileError(
            f"{path} holds {found} where a state dict has tensors; save model.state_dict() itself, or under the key "
            f"{WRAPPERS[0]!r}"
        )
    return dict(content)


def _strip_prefixes(state: dict[str, Tensor], own: Mapping[str, Any]) -> dict[str, Tensor]:
    for prefix in _leading(state):
        # A model may have a child that is really called `module`.
        if not all(name.startswith(prefix) for name in own):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state


def _leading(state: Mapping[str, Tensor]) -> list[str]:
    """Return the prefixes, outermost first, that all names of `state` start with."""
    names, found = list(state), list[str]()
    while prefix := next((p for p in PREFIXES if all(name.startswith(p) for name in names)), None):
        found.append(prefix)
        names = [name.removeprefix(prefix) for name in names]
    return found


def _complete(state: dict[str, Tensor], own: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return `state` with missing names added if it holds their value under another name, or none is needed."""
    by_tensor = {id(own[name]): tensor for name, tensor in state.items() if name in own}
    # safetensors stores a shared tensor under one of its names; PyTorch before 0.4.1 had no batch counters.
    shared = {name: by_tensor[id(tensor)] for name, tensor in own.items() if id(tensor) in by_tensor}
    counters = {name: tensor for name, tensor in own.items() if name.endswith("num_batches_tracked")}
    return counters | shared | state


@dataclass(frozen=True, slots=True)
class _Mismatch:
    """How the names and shapes of a file differ from those of a model."""

    missing: list[str]
    unexpected: list[str]
    different: list[str]

    @property
    def lines(self) -> list[str]:
        kinds = {"missing": self.missing, "unexpected": self.unexpected, "different": self.different}
        return [f"{kind:<10} {len(names):>4}  {_first(names)}" for kind, names in kinds.items() if names]

    def message(self, path: Path, model: nn.Module) -> str:
        rows = "\n".join(f"  {line}" for line in self.lines)
        return (
            f"{path} does not fit the model {type(model).__name__}:\n{rows}\n"
            "cause: this checkpoint is of another architecture, or of this one built with other arguments\n"
            "fix:   build the model with the arguments of the checkpoint (--model-arg NAME=VALUE), or name another file"
        )


def _compare(state: Mapping[str, Tensor], own: Mapping[str, Any]) -> _Mismatch:
    return _Mismatch(
        missing=[name for name in own if name not in state],
        unexpected=[name for name in state if name not in own],
        different=[
            f"{name}: file {_describe(state[name])}, model {_describe(tensor)}"
            for name, tensor in own.items()
            if name in state and not _fits(state[name], tensor)
        ],
    )


def _fits(saved: Tensor, own: Tensor) -> bool:
    # An int8 tensor of the right shape is a quantised weight without its scale.
    return saved.shape == own.shape and saved.is_floating_point() == own.is_floating_point()


def _describe(tensor: Tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"


def _first(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f", ... ({len(names) - SHOWN} more)" if len(names) > SHOWN else "")
