"""Building a model again from its config, as the classes of transformers and diffusers do."""

from __future__ import annotations

import importlib
import inspect
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from secateur.anatomy.slots import Slot, slots
from secateur.base.names import is_public
from secateur.errors import InputError


class _Transformers:
    """Models of transformers: the class is called with a config, an object."""

    def config(self, model: Any) -> Any:
        return model.config

    def made(self, kind: Any, config: Any) -> Any:
        from transformers.initialization import no_init_weights

        with no_init_weights():
            return kind(config)

    def reloaded(self, config: Any) -> Any:
        return type(config).from_dict(json.loads(config.to_json_string()))

    def saved(self, config: Any) -> dict[str, Any]:
        return config.to_dict()

    def read(self, kind: Any, saved: dict[str, Any]) -> Any:
        return kind(**saved)


class _Diffusers:
    """Models of diffusers: the class is called with the entries of a config, a dict, that its constructor takes."""

    def config(self, model: Any) -> Any:
        return model._internal_dict

    def made(self, kind: Any, config: Any) -> Any:
        library: Any = importlib.import_module("diffusers.models.modeling_utils")
        taken = inspect.signature(kind.__init__).parameters
        with library.no_init_weights():
            return kind(**{name: config[name] for name in taken if name in config})

    def reloaded(self, config: Any) -> Any:
        return type(config)(json.loads(json.dumps(self.saved(config), default=lambda value: value.tolist())))

    def saved(self, config: Any) -> dict[str, Any]:
        return {name: value for name, value in config.items() if is_public(name)}

    def read(self, kind: Any, saved: dict[str, Any]) -> Any:
        return kind(saved)


def _kinds(model: nn.Module) -> set[tuple[str, str]]:
    """Return the libraries and names of the classes of a model."""
    return {(kind.__module__.partition(".")[0], kind.__name__) for kind in type(model).__mro__}


def _is_of_diffusers(model: nn.Module) -> bool:
    return {("diffusers", "ModelMixin"), ("diffusers", "ConfigMixin")} <= _kinds(model) and "_internal_dict" in vars(
        model
    )


def is_pretrained(model: nn.Module) -> bool:
    """Return whether this is a model of transformers or diffusers, which its class builds from a config."""
    return _is_of_diffusers(model) or ("transformers", "PreTrainedModel") in _kinds(model)


def saves_arguments(model: nn.Module) -> bool:
    """Return whether `from_pretrained` builds a model from the arguments of its constructor: the hub's mixins."""
    return ("huggingface_hub", "ModelHubMixin") in _kinds(model)


def _library(model: nn.Module) -> _Transformers | _Diffusers:
    """Return how the library of a model builds it from a config."""
    return _Diffusers() if _is_of_diffusers(model) else _Transformers()


def saves_adapters(model: nn.Module) -> bool:
    """Return whether a model saves adapters alone, as those of transformers do that hold some."""
    return bool(getattr(model, "_hf_peft_config_loaded", False)) and not _is_of_diffusers(model)


def config_of(model: nn.Module) -> Any:
    """Return the config that the class of a model builds it from."""
    return _library(model).config(model)


def anew(model: nn.Module, config: Any) -> Any:
    """Build a model from a config by its class, on the meta device and without values. Raises `InputError`."""
    with refusing(model):
        return made_from(model, config)


def made_from(model: nn.Module, config: Any) -> Any:
    """Build a model without initial values: their spread is computed from sizes, and would tie these."""
    with torch.device("meta"):
        return _library(model).made(type(model), config)


def reloaded(model: nn.Module, config: Any) -> Any:
    """Return a config as reloaded from its file: some of its values are computed when it is made."""
    return _library(model).reloaded(config)


def saved(model: nn.Module, config: Any) -> dict[str, Any]:
    """Return the values of a config that are saved."""
    return _library(model).saved(config)


def read(model: nn.Module, config: Any, values: dict[str, Any]) -> Any:
    """Return the config of the same class as `config` that saved values make."""
    return _library(model).read(type(config), values)


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
