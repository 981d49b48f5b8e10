"""Put a model back as it was found: attributes, modes, tables of tensors and modules, caches, random state."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from ..holders import assign, holders, remove, values
from ..process import same_random_numbers


@contextmanager
def kept(model: nn.Module) -> Iterator[None]:
    """Whatever happens within, every module's dict and the containers and objects in it get their old content back."""
    dicts = [(module, dict(module.__dict__)) for module in model.modules()]
    containers = [(c, _copied(c)) for _, held in dicts for c in held.values() if isinstance(c, (dict, list, set))]
    objects = [(h.owner, dict(values(h.owner))) for h in holders(model) if h.path]
    with same_random_numbers(_devices(model)):
        try:
            yield
        finally:
            for module, held in dicts:
                module.__dict__.clear()
                module.__dict__.update(held)
            for container, content in containers:
                container.clear()
                container.extend(content) if isinstance(container, list) else container.update(content)
            for owner, held in objects:
                _restore(owner, held)


def _restore(owner: Any, held: dict[str, Any]) -> None:
    for name in [name for name in values(owner) if name not in held]:
        remove(owner, name)
    for name, value in held.items():
        assign(owner, name, value)


def _copied(container: Any) -> Any:
    """The content, in a plain container: subclasses may be made otherwise. Most are empty."""
    if not container:
        return ()
    return next(kind(container) for kind in (dict, list, set) if isinstance(container, kind))


def _devices(model: nn.Module) -> list[torch.device]:
    return list({p.device for p in model.parameters() if p.device.type == "cuda"})


def set_modes(model: nn.Module, training: bool) -> None:
    """Evaluation mode, or training mode for whatever decides what runs.

    Torch's own leaves (dropout, batch norm) stay in evaluation mode: they would draw random numbers, change statistics
    and refuse single values, and run the same ops either way.
    """
    for module in model.modules():
        own_leaf = type(module).__module__.startswith("torch.nn") and not any(True for _ in module.children())
        module.training = training and not own_leaf
