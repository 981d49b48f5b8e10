"""Building a model again from its config, as Hugging Face's classes do."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from secateur.anatomy.slots import Slot, slots
from secateur.errors import InputError


def is_pretrained(model: nn.Module) -> bool:
    """Return whether a model is a Hugging Face model, which its class builds from a config."""
    return _is_a(model, "transformers", "PreTrainedModel")


def saves_arguments(model: nn.Module) -> bool:
    """Return whether `from_pretrained` builds a model from the arguments of its constructor: the hub's mixins."""
    return _is_a(model, "huggingface_hub", "ModelHubMixin")


def _is_a(model: nn.Module, package: str, name: str) -> bool:
    """Return whether a model is of a class, without importing its package."""
    kinds = ((kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__)
    return (package, name) in kinds


def anew(model: nn.Module, config: Any) -> Any:
    """Build a model from a config by its class, on the meta device and without values. Raises `InputError`."""
    with refusing(model):
        return made_from(model, config)


def made_from(model: nn.Module, config: Any) -> Any:
    """Build a model without initial values: their spread is computed from sizes, and would tie these."""
    from transformers.initialization import no_init_weights

    with no_init_weights(), torch.device("meta"):
        return type(model)(config)


def reloaded(config: Any) -> Any:
    """Return a config as reloaded from its file: some of its values are computed when it is made."""
    return type(config).from_dict(json.loads(config.to_json_string()))


@contextmanager
def refusing(model: nn.Module) -> Iterator[None]:
    """Raise `InputError` for any error within: the model cannot be built from its config."""
    try:
        yield
    except Exception as error:
        cause = cause_of(error)
        raise InputError(
            f"{type(model).__name__} cannot be built from its config: {type(cause).__name__}: {cause}\n"
            "leave uniform out, and save with secateur.save"
        ) from error


def cause_of(error: BaseException) -> BaseException:
    """Return the error of a config that refuses its values, which huggingface_hub wraps in another one."""
    return error.__cause__ or error


def other_shapes(held: Iterable[Slot], other: nn.Module) -> Iterator[str]:
    """Yield the tensors of a model that another one, built from its config, has in another shape or not at all."""
    theirs = {slot.name: tuple(slot.tensor.shape) for slot in slots(other)}
    for slot in held:
        shape = tuple(slot.tensor.shape)
        if theirs.get(slot.name) != shape:
            yield f"{slot.name} is {shape}, the constructor makes {theirs.get(slot.name)}"
