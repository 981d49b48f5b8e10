"""Build a model anew from its config, as Hugging Face's classes do."""

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
    """Whether a model is one of Hugging Face's, which their class builds from a config."""
    kinds = ((kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__)
    return ("transformers", "PreTrainedModel") in kinds


def anew(model: nn.Module, config: Any) -> Any:
    """What the class of a model makes of a config, on the meta device and without values. Raises `InputError`."""
    with refusing(model):
        return made_from(model, config)


def made_from(model: nn.Module, config: Any) -> Any:
    """Random values have a spread that is computed from sizes, which would bind them."""
    from transformers.initialization import no_init_weights

    with no_init_weights(), torch.device("meta"):
        return type(model)(config)


def reloaded(config: Any) -> Any:
    """A config as it comes back from its file: some of it is computed when it is made."""
    return type(config).from_dict(json.loads(config.to_json_string()))


@contextmanager
def refusing(model: nn.Module) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        cause = cause_of(error)
        raise InputError(
            f"{type(model).__name__} cannot be built from its config: {type(cause).__name__}: {cause}\n"
            "leave uniform out, and save with secateur.save"
        ) from error


def cause_of(error: BaseException) -> BaseException:
    """What a config says when it refuses its values: huggingface_hub wraps it in an error of its own."""
    return error.__cause__ or error


def other_shapes(held: Iterable[Slot], other: nn.Module) -> Iterator[str]:
    """Those tensors of a model that another one, built from its config, holds in another shape or not at all."""
    theirs = {slot.name: tuple(slot.tensor.shape) for slot in slots(other)}
    for slot in held:
        shape = tuple(slot.tensor.shape)
        if theirs.get(slot.name) != shape:
            yield f"{slot.name} is {shape}, the constructor makes {theirs.get(slot.name)}"
