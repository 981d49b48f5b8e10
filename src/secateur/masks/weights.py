"""The parameters of a model that can be masked, those that are by default, and why the others are not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from secateur.anatomy.masked import lists, mask_in
from secateur.anatomy.masked_layout import MaskedLayout, layout_of
from secateur.anatomy.slots import NESTED
from secateur.base.names import means
from secateur.base.text import listed
from secateur.errors import InputError, nearest

SHOWN = 5
_NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)
_TABLES = (nn.Embedding, nn.EmbeddingBag)
_LAYERS = (
    *(nn.Linear, nn.Bilinear, nn.modules.conv._ConvNd, nn.RNNBase, nn.modules.rnn.RNNCellBase),
    nn.MultiheadAttention,
)
# What hooks of torch.nn.utils add to the name of a parameter that a weight is computed from.
_HOOKED = {"_v": "weight_norm", "_g": "weight_norm", "_orig": "torch.nn.utils.prune or spectral_norm"}


@dataclass(frozen=True, slots=True)
class Weight:
    """A parameter to be masked.

    names: all of its names; the first is the one that is reported. places: the modules that hold it, each with the name
    of the parameter there.
    """

    names: tuple[str, ...]
    parameter: nn.Parameter
    places: tuple[tuple[nn.Module, str], ...]

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def layout(self) -> MaskedLayout:
        return layout_of(module for module, _ in self.places)

    @property
    def directed(self) -> bool:
        """Whether it is known which dimensions are outputs and which are inputs.

        Three dimensions in a module of unknown kind may be a stack of experts, (e, o, i) or (e, i, o).
        """
        known = any(isinstance(module, _LAYERS) for module, _ in self.places)
        return known or self.parameter.dim() != 3


def chosen(model: nn.Module, protect: str | Sequence[str] = (), only: str | Sequence[str] = ()) -> list[Weight]:
    """Return the weights to be masked.

    Raises `InputError` for a name that matches nothing, for weights that are computed from other parameters, and where
    no weight is left.
    """
    weights = list(all_weights(model))
    protect, only = (_several(word, given) for word, given in (("protect", protect), ("only", only)))
    _check_names(model, (*protect, *only))
    wanted = [w for w in weights if (_meant(w, only) if only else True) and not _meant(w, protect)]
    _check_free(model, protect, only)
    found = [w for w in wanted if _reason(w, only) is None]
    if not found:
        if not wanted:
            why = "protect= leaves none" if weights else f"this {type(model).__name__} has no parameters"
            raise InputError(f"no weight is left to mask: {why}")
        reasons = listed([f"{w.name}: {_reason(w, only)}" for w in wanted], SHOWN)
        raise InputError(
            f"no weight is left to mask; {reasons}\n"
            f"a parameter whose own name is in only= is masked all the same: only={wanted[0].name!r}"
        )
    held = _held_elsewhere(model)
    for weight in found:
        _check_values(weight)
        if id(weight.parameter) in held:
            raise InputError(
                f"{weight.name} is also held by {held[id(weight.parameter)]}, and would be read there without its mask"
                "\n"
                f"let forward read it from the module, or leave it out with protect={weight.name!r}"
            )
    return found


def all_weights(model: nn.Module) -> Iterator[Weight]:
    """Yield every plain parameter once, with all of its names."""
    found: dict[int, Weight] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        if f".{path}.".find(".parametrizations.") >= 0 or isinstance(module, torch.jit.ScriptModule):
            continue
        hooked = {leaf for leaf, *_ in _hooked(module)}
        for leaf, parameter in module._parameters.items():
            if parameter is not None and leaf not in hooked:
                name, old = f"{path}.{leaf}" if path else leaf, found.get(id(parameter))
                names, places = (old.names, old.places) if old else ((), ())
                here = () if any(m is module and n == leaf for m, n in places) else ((module, leaf),)
                found[id(parameter)] = Weight((*names, name), parameter, (*places, *here))
    yield from found.values()


def _reason(weight: Weight, only: Sequence[str]) -> str | None:
    """Return why a parameter is not masked; None where it is. Vectors, norms and tables must be named in `only`."""
    modules = [module for module, _ in weight.places]
    if not weight.parameter.is_floating_point():
        return f"it is {str(weight.parameter.dtype).removeprefix('torch.')}"
    if any(name in only for name in weight.names):
        return None
    layer = any(isinstance(module, _LAYERS) for module in modules) and weight.parameter.dim() > 1
    if not layer and sum(n > 1 for n in weight.parameter.shape) < 2:
        return "it is a vector"
    if any(isinstance(module, _NORMS) for module in modules):
        return "it belongs to a norm"
    named = any(name.rpartition(".")[0] in only for name in weight.names)
    if not named and any(isinstance(module, _TABLES) for module in modules):
        return "it is an embedding"
    if not named and any("embed" in leaf or "bias" in leaf for _, leaf in weight.places):
        return "it is added, not multiplied"
    return None


def _several(word: str, given: str | Sequence[str]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given)
    for name in names:
        if not isinstance(name, str):
            raise InputError(f"{word} holds {name!r}\npass names of modules or parameters, or globs of them")
    return names


def _meant(weight: Weight, patterns: Sequence[str]) -> bool:
    return any(means(pattern, name) for pattern in patterns for name in weight.names)


def _check_names(model: nn.Module, patterns: Sequence[str]) -> None:
    known = [name for name, _ in model.named_modules(remove_duplicate=False) if name]
    known += [name for name, _ in model.named_parameters(remove_duplicate=False)]
    known += [name for name, *_ in _computed(model)]
    for pattern in patterns:
        if not any(means(pattern, name) for name in known):
            raise InputError(f"nothing in this model is named {pattern!r}{nearest(pattern, known)}")


def _check_free(model: nn.Module, protect: Sequence[str], only: Sequence[str]) -> None:
    """Raise `InputError` for a weight to be masked that is already computed from other parameters."""
    for name, kind, remedy in _computed(model):
        asked = not only or any(means(pattern, name) for pattern in only)
        if asked and not any(means(pattern, name) for pattern in protect):
            raise InputError(f"{name} {kind}\n{remedy}, or leave it out with protect={name!r}")


def _computed(model: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Yield the weights that are computed: the name, what computes it, and how to make it plain."""
    for name, _, leaf, held in lists(model):
        if mask_in(held) is not None:
            remedy = "change its mask with secateur.masks.masks_of(model).update(sparsity)"
            yield name, "has a mask already", remedy
        else:
            kinds = ", ".join(type(inner).__name__.lstrip("_") for inner in held.children())
            remedy = f"make it plain with torch.nn.utils.parametrize.remove_parametrizations(module, {leaf!r})"
            yield name, f"is already computed from other parameters, by {kinds}", remedy
    for path, module in model.named_modules():
        for leaf, base, kind in _hooked(module):
            remedy = "make it plain with the remove function of torch.nn.utils that belongs to it"
            yield f"{path}.{base}" if path else base, f"is already computed from {leaf}, by a hook ({kind})", remedy


def _hooked(module: nn.Module) -> Iterator[tuple[str, str, str]]:
    """Yield the parameters that a hook computes a weight from: the parameter, the weight, and the kind of hook."""
    for leaf in module._parameters:
        for suffix, kind in _HOOKED.items():
            base = leaf.removesuffix(suffix)
            if base != leaf and base not in module._parameters and isinstance(getattr(module, base, None), Tensor):
                yield leaf, base, kind


def _check_values(weight: Weight) -> None:
    if weight.parameter.is_meta:
        raise InputError(f"{weight.name} is on the meta device and has no values\nload weights into the model first")


def _held_elsewhere(model: nn.Module) -> dict[int, str]:
    """Return where modules keep tensors in lists, tuples, dicts and plain attributes, by the id of the tensor.

    The list of a recurrent layer does not count: it holds masked weights while the layer runs.
    """
    found: dict[int, str] = {}
    for path, module in model.named_modules():
        for name, value in vars(module).items():
            if name not in ("_parameters", "_buffers", "_modules") and not isinstance(module, nn.RNNBase):
                place = f"{path}.{name}" if path else name
                found.update((id(tensor), place) for tensor in _tensors_in(value, NESTED))
    return found


def _tensors_in(value: Any, depth: int) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif depth and type(value) in (dict, list, tuple):
        for item in value.values() if type(value) is dict else value:
            yield from _tensors_in(item, depth - 1)


__all__ = ["Weight", "all_weights", "chosen"]
