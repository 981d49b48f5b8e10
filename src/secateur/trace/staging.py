"""Prepares a model for a recorded run, and restores it afterwards, also after errors.

For the run every parameter, buffer and plain tensor attribute is replaced by a stand-in (on the meta device, or sharing
storage) that carries its type, and the integer attributes of modules, and of the objects that they hold, by `Num`s.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from secateur.anatomy.caches import contents, filled
from secateur.anatomy.holders import Holder, assign, holders, values
from secateur.anatomy.keeping import kept
from secateur.anatomy.slots import replace_held
from secateur.base.names import may_count
from secateur.graph.sizes import Arithmetic, Attribute, Dim, Expr, SizeEquation
from secateur.plan.parts import Cache
from secateur.terms import ONE, Axis, Term, product
from secateur.trace.devices import RunDevice
from secateur.trace.tracked_ints import Num, Shape
from secateur.trace.typed import Place, Typed, drop, get, put

# The sizes among the attributes of torch's modules; the others (strides, paddings, ...) are not sizes of parameters.
_TORCH_SIZES = frozenset(
    "d_model groups num_groups normalized_shape num_features num_channels embed_dim num_heads head_dim kdim vdim "
    "in_features out_features in_channels out_channels embedding_dim num_parameters input_size hidden_size "
    "proj_size unflattened_size".split()
)
_SEQUENCES: dict[type, Any] = {tuple: tuple, list: list, torch.Size: Shape}  # the stand-ins for sequences of ints


@dataclass(frozen=True, slots=True)
class Fact:
    """A size or attribute of a module, for which the constructor computes the expression `made` from the config."""

    module: str
    thing: Dim | Attribute
    made: Expr


@dataclass(frozen=True, slots=True)
class Site:
    """A tensor of the model with the term of each of its dimensions."""

    name: str
    kind: str  # "parameter", "buffer" or "attribute"
    dims: tuple[Term, ...]
    floating: bool
    each: int  # bytes of an element


@dataclass
class StandIns:
    """The stand-ins for the tensors and integers of a model."""

    sites: dict[str, Site] = field(default_factory=dict)
    aliases: dict[str, str] = field(default_factory=dict)  # further names of shared tensors
    attributes: dict[Attribute, int] = field(default_factory=dict)
    stand_ins: dict[int, tuple[str, torch.Tensor]] = field(default_factory=dict)
    originals: list[torch.Tensor] = field(default_factory=list)  # kept alive, because `stand_ins` is keyed by id
    caches: list[Cache] = field(default_factory=list)
    unread: list[Attribute] = field(default_factory=list)  # the attributes that no call read
    offered: dict[Attribute, int] = field(default_factory=dict)  # attributes that a config leaves open
    facts: list[Fact] = field(default_factory=list)  # what the constructor computes from the config


@contextmanager
def staged(model: nn.Module, ground: RunDevice, stage: StandIns) -> Iterator[None]:
    """Replace tensors and integers by stand-ins, and restore them on exit."""
    try:
        with kept(model):
            for name, module in model.named_modules():
                _stand_in(name, module, ground, stage)
            replace_held(model, {old: made for old, (_, made) in stage.stand_ins.items()})
            for holder in list(holders(model)):
                tag(holder, stage)
            before = contents(model)
            yield
            stage.caches = filled(model, before)
    finally:
        for _, tensor in stage.stand_ins.values():
            drop(tensor)


def _stand_in(path: str, module: nn.Module, ground: RunDevice, stage: StandIns) -> None:
    prefix = f"{path}." if path else ""
    tables: list[tuple[Any, str]] = [(module._parameters, "parameter"), (module._buffers, "buffer")]
    for table, kind in tables:
        for leaf, tensor in list(table.items()):
            if tensor is not None and isinstance(table, dict):
                table[leaf] = _replaced(prefix + leaf, kind, tensor, ground, stage)
            elif tensor is not None:  # a TorchScript module holds it
                _left(prefix + leaf, kind, tensor, stage)
    for leaf, value in list(module.__dict__.items()):
        if isinstance(value, torch.Tensor):
            module.__dict__[leaf] = _replaced(prefix + leaf, "attribute", value, ground, stage)


def _replaced(name: str, kind: str, tensor: torch.Tensor, ground: RunDevice, stage: StandIns) -> torch.Tensor:
    seen = stage.stand_ins.get(id(tensor))
    if seen is not None:
        first, made = seen
        if name != first:
            stage.aliases[name] = first
        return made
    made = ground.stand_in(tensor, shared=kind == "parameter")
    site = stage.sites[name] = _site(name, kind, tensor)
    typed = Typed(site.dims, at=[Place(name, d) for d in range(tensor.dim())])
    typed.name, typed.picks = name, _whole(name) if _may_pick(kind, tensor) else None
    put(made, typed)
    stage.stand_ins[id(tensor)] = name, made
    stage.originals.append(tensor)
    return made


def _left(name: str, kind: str, tensor: torch.Tensor, stage: StandIns) -> None:
    """Register a tensor that cannot have a stand-in: the run uses the tensor itself, and it is frozen."""
    site = stage.sites[name] = _site(
        name, kind, tensor, f"{name} belongs to a TorchScript module, which is not changed"
    )
    typed = Typed(site.dims, at=[Place(name, d) for d in range(tensor.dim())])
    typed.name = name
    put(tensor, typed)
    stage.stand_ins[id(tensor)] = name, tensor
    stage.originals.append(tensor)


def _site(name: str, kind: str, tensor: torch.Tensor, frozen: str | None = None) -> Site:
    floating = tensor.is_floating_point() or tensor.is_complex()
    if not floating and not _may_pick(kind, tensor):
        frozen = _whole(name)
    if tensor.layout is not torch.strided:
        frozen = f"{name} is sparse"
    return Site(
        name, kind, tuple(Axis(n, frozen) if n != 1 else ONE for n in tensor.shape), floating, tensor.element_size()
    )


def _may_pick(kind: str, tensor: torch.Tensor) -> bool:
    """Return whether a tensor may list the units to pick: a one-dimensional integer buffer."""
    return kind == "buffer" and tensor.dim() == 1 and tensor.dtype in (torch.int32, torch.int64)


def _whole(name: str) -> str:
    return f"{name} holds integers"


def tag(holder: Holder, stage: StandIns) -> None:
    """Replace the integers of a module, or of an object in it, by Nums."""
    ours = type(holder.owner).__module__.startswith("torch.nn")
    for name, value in list(values(holder.owner).items()):
        if not may_count(name) or (ours and name not in _TORCH_SIZES):
            continue
        of = Attribute(holder.module, holder.name(name))
        if type(value) is int:
            assign(holder.owner, name, _tagged(value, of, stage.attributes))
        elif type(value) in _SEQUENCES and value and all(type(v) is int for v in value):
            numbers = [_tagged(v, of._replace(at=i), stage.attributes) for i, v in enumerate(value)]
            assign(holder.owner, name, _SEQUENCES[type(value)](numbers))


def _tagged(value: int, attribute: Attribute, attributes: dict[Attribute, int]) -> Num:
    attributes[attribute] = value
    return Num(value, attribute)


def layer_equations(model: nn.Module) -> Iterator[SizeEquation]:
    """Yield what torch's layers state about the sizes of their parameters; the stand-ins must be in place."""
    for path, module in model.named_modules():
        for name, size in _sizes_of(path, module):
            value = module.__dict__.get(name)
            elsewhere = isinstance(size, Dim) and isinstance(value, int) and size.term.n != int.__index__(value)
            if isinstance(value, int) and not elsewhere:
                yield SizeEquation(Attribute(path, name), size, f"{type(module).__name__}.{name}")


def _terms(module: nn.Module, leaf: str) -> list[Term]:
    if isinstance(module, torch.jit.ScriptModule):
        return []
    tensor = module._parameters.get(leaf)
    tensor = module._buffers.get(leaf) if tensor is None else tensor
    tensor = _stored_form(module, leaf) if tensor is None else tensor
    typed = get(tensor) if tensor is not None else None
    return typed.found() if typed is not None else []


def _stored_form(module: nn.Module, leaf: str) -> torch.Tensor | None:
    """Return the largest parameter that a weight is computed from, which in torch always has the weight's shape."""
    lists = module._modules.get("parametrizations")
    held = lists._modules.get(leaf) if lists is not None else None
    if held is not None:
        found = [tensor for tensor in held._parameters.values() if tensor is not None]
    else:
        found = [t for suffix in ("_v", "_orig") if (t := module._parameters.get(leaf + suffix)) is not None]
    return max(found, key=torch.Tensor.numel, default=None)


def _sizes_of(path: str, module: nn.Module) -> Iterator[tuple[str, Expr]]:
    weight = _terms(module, "weight")
    if isinstance(module, nn.modules.conv._ConvNd) and weight:
        yield from _conv_sizes(module, weight)
    elif isinstance(module, nn.Linear) and len(weight) == 2:
        yield from (("out_features", Dim(weight[0])), ("in_features", Dim(weight[1])))
    elif isinstance(module, (nn.modules.batchnorm._NormBase, nn.GroupNorm)):
        channels = weight or _terms(module, "running_mean")
        yield from ((name, Dim(channels[0])) for name in ("num_features", "num_channels") if channels)
    elif isinstance(module, nn.Embedding) and weight:
        yield "embedding_dim", Dim(weight[1])
    elif isinstance(module, nn.PReLU) and weight:
        yield "num_parameters", Dim(weight[0])
    elif isinstance(module, nn.modules.rnn.RNNBase):
        yield from _recurrent_sizes(module, GATES.get(module.mode, 1))
    elif isinstance(module, nn.modules.rnn.RNNCellBase):
        rows = _terms(module, "weight_hh")
        yield from (("hidden_size", Dim(rows[1])), ("input_size", Dim(_terms(module, "weight_ih")[1])))
    elif isinstance(module, nn.MultiheadAttention):
        width, heads = Attribute(path, "embed_dim"), Attribute(path, "num_heads")
        yield "head_dim", Arithmetic("//", width, heads)
        for name in ("kdim", "vdim"):
            yield name, width if module._qkv_same_embed_dim else Dim(_terms(module, f"{name[0]}_proj_weight")[1])


GATES = {"LSTM": 4, "GRU": 3}


def _recurrent_sizes(module: nn.modules.rnn.RNNBase, gates: int) -> Iterator[tuple[str, Expr]]:
    """Yield the sizes of a recurrent layer: one hidden size for all layers; a weight has that many rows per gate."""
    for name in module._flat_weights_names:
        terms = _terms(module, name)
        if terms and name.startswith("weight_hh"):
            yield "hidden_size", Arithmetic("//", Dim(terms[0]), gates)
        elif terms and name.startswith("weight_hr"):
            yield "proj_size", Dim(terms[0])
    if inputs := _terms(module, "weight_ih_l0"):
        yield "input_size", Dim(inputs[1])


def _conv_sizes(module: nn.modules.conv._ConvNd, weight: list[Term]) -> Iterator[tuple[str, Expr]]:
    held = module._parameters.get("weight")
    held = module.__dict__.get("weight") if held is None else held  # as a hook left it; do not run a parametrization
    typed = get(held) if held is not None else None
    groups = typed.groups if typed is not None and typed.groups is not None else ONE
    stored_once = Dim(product([groups, weight[1]]))
    first, second = ("in_channels", "out_channels") if module.transposed else ("out_channels", "in_channels")
    yield from ((first, Dim(weight[0])), (second, stored_once))
