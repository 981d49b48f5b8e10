"""Extra state in a file: what modules return from `get_extra_state` and take back in `set_extra_state`.

The metadata key `secateur_extra` holds a JSON object from the paths of modules to their extra state. JSON has no
tuples, no tensors and only strings as keys: such values are objects with one key that begins with `$`. Tensors are
stored next to the others, under `<path>.secateur_extra.<number>`. Nothing else is stored, because only a pickle could
hold it.
"""

from __future__ import annotations

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from secateur.base.nested import changed
from secateur.errors import FileError, InputError

EXTRA = "secateur_extra"
PLAIN = (type(None), bool, int, float, str)


def extra_names(model: nn.Module) -> set[str]:
    """Return the names of extra state in the model's state dict."""
    return {f"{path}.{_KEY}" if path else _KEY for path, module in model.named_modules() if _gives(module)}


_KEY = "_extra_state"  # torch.nn.modules.module._EXTRA_STATE_KEY_SUFFIX


def _gives(module: nn.Module) -> bool:
    return type(module).get_extra_state is not nn.Module.get_extra_state


def _takes(module: nn.Module) -> bool:
    return type(module).set_extra_state is not nn.Module.set_extra_state


def stored_extra(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata that a file stores; both are empty if no module has extra state.

    Raises `InputError`, with the name of the module, for values that only a pickle could hold, and for a module without
    `set_extra_state`.
    """
    tensors: dict[str, Tensor] = {}
    found = {}
    for path, module in model.named_modules():
        if _gives(module):
            found[path] = _Writer(path, module, tensors).written(module.get_extra_state())
    return tensors, {EXTRA: json.dumps(found)} if found else {}


class _Writer:
    """Converts the values of one module to JSON, and collects their tensors."""

    def __init__(self, path: str, module: nn.Module, tensors: dict[str, Tensor]):
        self.path, self.tensors, self.count = path, tensors, 0
        self.module = f"{type(module).__name__} {path!r}" if path else f"the model, a {type(module).__name__},"
        if not _takes(module):
            raise InputError(
                f"{self.module} has get_extra_state, but no set_extra_state, so its extra state could not be loaded\n"
                "define that method too, then save"
            )

    def written(self, value: Any) -> Any:
        kind = type(value)
        if kind in PLAIN:
            return value
        if kind in (Tensor, nn.Parameter):
            return {"$tensor": self._aside(value.detach())}
        if kind is list:
            return [self.written(item) for item in value]
        if kind is tuple:
            return {"$tuple": [self.written(item) for item in value]}
        if kind is dict and all(type(key) is str and not key.startswith("$") for key in value):
            return {key: self.written(item) for key, item in value.items()}
        if kind in (dict, OrderedDict):
            pairs = [[self.written(key), self.written(item)] for key, item in value.items()]
            return {"$ordered" if kind is OrderedDict else "$items": pairs}
        raise InputError(
            f"the extra state of {self.module} holds a {kind.__name__}: {value!r}\n"
            "secateur.save stores numbers, strings, tensors, lists, tuples and dicts of them, never a pickle: let\n"
            "get_extra_state return those, and let set_extra_state convert them"
        )

    def _aside(self, tensor: Tensor) -> str:
        if tensor.is_meta or tensor.layout != torch.strided:
            raise InputError(f"the extra state of {self.module} holds a tensor without plain values; see secateur.save")
        name = f"{self.path}.{EXTRA}.{self.count}".lstrip(".")
        self.count += 1
        self.tensors[name] = tensor.clone().contiguous()
        return name


def taken_extra(tensors: dict[str, Tensor], metadata: Mapping[str, str]) -> dict[str, Any]:
    """Return the extra state of a file by module, and remove its tensors from `tensors`.

    Raises `FileError`, whose message continues "<path>: ...".
    """
    if EXTRA not in metadata:
        return {}
    try:
        found = json.loads(metadata[EXTRA])
        if not isinstance(found, dict):
            raise TypeError(f"a {type(found).__name__}, not an object")
        return {path: _read(value, tensors) for path, value in found.items()}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise FileError(f"its metadata are damaged: {EXTRA}: {error or type(error).__name__}") from error


def _read(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, list):
        return [_read(item, tensors) for item in value]
    if not isinstance(value, dict):
        return value
    tag = next(iter(value), "") if len(value) == 1 else ""
    if tag in _TAGS:
        return _TAGS[tag](value[tag], tensors)
    return {key: _read(item, tensors) for key, item in value.items()}


_TAGS: dict[str, Callable[[Any, dict[str, Tensor]], Any]] = {
    "$tensor": lambda name, tensors: tensors.pop(name),
    "$tuple": lambda items, tensors: tuple(_read(item, tensors) for item in items),
    "$items": lambda pairs, tensors: {_read(key, tensors): _read(item, tensors) for key, item in pairs},
    "$ordered": lambda pairs, tensors: OrderedDict((_read(k, tensors), _read(v, tensors)) for k, v in pairs),
}


def check_extra(model: nn.Module, found: Mapping[str, Any]) -> None:
    """Raise `FileError`, whose message continues "<path> ...", for extra state that no module of the model takes."""
    modules = dict(model.named_modules())
    for path in found:
        if path not in modules or not _takes(modules[path]):
            place = f"{path!r} of this {type(model).__name__}" if path else f"this {type(model).__name__}"
            raise FileError(f"holds extra state for {place}, which takes none (no set_extra_state)")


def give_extra(model: nn.Module, found: Mapping[str, Any], device: torch.device | None) -> None:
    """Pass each module its extra state."""
    modules = dict(model.named_modules())
    for path, value in found.items():
        modules[path].set_extra_state(_on(value, device))


def _on(value: Any, device: torch.device | None) -> Any:
    return value if device is None else changed(value, lambda tensor: tensor.to(device))


__all__ = ["EXTRA", "check_extra", "extra_names", "give_extra", "stored_extra", "taken_extra"]
