"""Checks that a model can be traced and cut: a plain module, on one device, with ordinary tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import nn

from secateur.base.text import a_kind
from secateur.errors import InputError


def check_model(model: nn.Module) -> None:
    """Raise `InputError` for a model that cannot be pruned as it is, with the remedy."""
    if not isinstance(model, nn.Module):
        raise InputError(_no_model(model))
    kind = type(model).__name__
    if kind in ("DistributedDataParallel", "DataParallel", "FullyShardedDataParallel"):
        raise InputError(f"the model is wrapped in {kind}; prune model.module and wrap the result again")
    if kind == "OptimizedModule":
        raise InputError("the model is compiled; prune model._orig_mod and compile the result again")
    _check_tensors(model)


def _no_model(given: object) -> str:
    if isinstance(given, type):
        return f"model is the class {given.__name__}, not a torch.nn.Module; call it first: {given.__name__}()"
    fact = f"model is {a_kind(given)}, not a torch.nn.Module"
    if isinstance(given, Mapping):
        return f"{fact}; a state dict holds weights alone: build the model and call model.load_state_dict first"
    name = getattr(given, "__name__", "")
    if callable(given):
        return f"{fact}; call it first, as in {name if name.isidentifier() else 'build'}()"
    return f"{fact}; the model comes first, then what it is called with: secateur.prune(model, inputs, 'macs=0.5')"


def _check_tensors(model: nn.Module) -> None:
    devices: dict[str, str] = {}
    for name, tensor in _named_tensors(model):
        if nn.parameter.is_lazy(tensor):
            raise InputError(f"{name} is not initialised yet; run the model once on its input, then prune it")
        if type(tensor).__name__ == "DTensor":
            raise InputError(f"{name} is a DTensor; gather the full model on one device, then prune it")
        if tensor.is_quantized:
            raise InputError(f"{name} is quantised ({tensor.dtype}); prune the float model, then quantise it")
        devices.setdefault(str(tensor.device), name)
    if len(devices) > 1:
        places = ", ".join(f"{name} on {device}" for device, name in devices.items())
        raise InputError(f"the model is on several devices: {places}\nmove it to one with model.to(device)")


def _named_tensors(model: nn.Module) -> Iterator[tuple[str, torch.Tensor]]:
    for path, module in model.named_modules():
        for table in (module._parameters, module._buffers):
            for leaf, tensor in table.items():
                if tensor is not None:
                    yield (f"{path}.{leaf}" if path else leaf), tensor
