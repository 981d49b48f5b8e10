"""Traces the constructor of a model: the sizes that it computes from the config, as equations.

The class of a Hugging Face model is called once more on the meta device, with a copy of the config whose integers are
`Num`s. Every dimension of its parameters and every integer of its modules is then an expression over the config, and a
number that is used otherwise (`head_dim ** -0.5`) escapes as it would in `forward`. If a plan satisfies these
equations, the class can build the pruned model from a config with other integers alone: layers that share a number in
the config keep equal widths.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from secateur.anatomy.building import config_of, is_pretrained, made_from, read, refusing, saved
from secateur.anatomy.holders import assign, below, holders, values
from secateur.anatomy.slots import slots
from secateur.base.names import plain_of
from secateur.errors import InputError
from secateur.graph.sizes import Attribute, Dim, Expr, SizeEquation
from secateur.terms import Term
from secateur.trace.names import Quotient, followed, whole
from secateur.trace.size_demands import shape_args
from secateur.trace.tracked_ints import Ledger, Num, escape, expression, open_ledger, plain
from secateur.trace.typed import get

UNWRITTEN = frozenset(("_attn_implementation_internal", "_experts_implementation_internal"))  # not stored in files
FACTORIES = frozenset(("zeros", "ones", "empty", "rand", "randn", "full"))


def construct(model: nn.Module, ledger: Ledger, unreached: Sequence[str]) -> None:
    """Add the equations of the constructor to the ledger; the stand-ins of a trace must be in place."""
    if not is_pretrained(model):
        raise InputError(
            "uniform=True needs a model that its class can build again from a config; "
            f"{type(model).__name__} is neither a transformers.PreTrainedModel nor a diffusers.ModelMixin\n"
            "leave uniform out, save with secateur.save"
        )
    built = Built.of(model, copy.deepcopy(config_of(model)))  # its integers are Nums already
    ledger.escapes += built.said.escapes
    ledger.guards += built.said.guards
    ledger.equations += _of_tensors(model, built, unreached)
    ledger.equations += _of_integers(model, built)


@dataclass(frozen=True)
class Built:
    """A model built again on the meta device from a config of Nums: the ledger of its constructor, and its sizes."""

    model: nn.Module
    said: Ledger
    sizes: ConstructorSizes

    @staticmethod
    def of(model: nn.Module, config: Any) -> Built:
        """Build the model again from `config`. Raises `InputError` if its class cannot."""
        said, sizes = Ledger(whole=whole), ConstructorSizes()
        with followed(model, map(type, below(config))), open_ledger(said), sizes:
            built = rebuilt(model, _with_factors(config))
            _let_quotients_escape(built)
        return Built(built, said, sizes)

    def sizes_of(self, model: nn.Module) -> Iterator[tuple[str, Term, Expr]]:
        """Yield each dimension of a model's tensors: the tensor's name, the term, and the constructor's expression."""
        theirs = {slot.name: slot.tensor for slot in slots(self.model)}
        for slot in slots(model):
            name = plain_of(slot.name)  # the constructor knows nothing of masks
            typed, other = get(slot.tensor), theirs.get(name)
            if typed is not None and other is not None and other.shape == slot.tensor.shape:
                for term, size in zip(typed.found(), self.sizes.of(other), strict=False):
                    if term.n > 1:
                        yield name, term, size

    def integers_of(self, model: nn.Module) -> Iterator[tuple[str, Expr, Expr]]:
        """Yield each tracked integer of a model: its name, its expression, and the constructor's expression."""
        theirs = {(holder.module, holder.path): values(holder.owner) for holder in holders(self.model)}
        for holder in holders(model):
            other = theirs.get((holder.module, holder.path), {})
            for name, value in values(holder.owner).items():
                for mine, its in _pairs(value, other.get(name)):
                    if isinstance(mine, Num):
                        yield holder.name(name), mine.expr, expression(its)

    def facts(self, model: nn.Module) -> Iterator[tuple[str, Dim | Attribute, Expr]]:
        """Yield both, with the module that holds them."""
        for name, term, size in self.sizes_of(model):
            yield name.rpartition(".")[0], Dim(term), size
        for _, mine, its in self.integers_of(model):
            if isinstance(mine, Attribute) and mine != its:
                yield mine.module, mine, its


def offer_head_dims(config: Any) -> dict[Attribute, int]:
    """Set `head_dim` in configs that leave it open; many classes read it anyway, or else divide a width by the heads.

    Returns what was set, as attributes of a model that holds the config.
    """
    held: Any = nn.Module()
    held.config = config
    made: dict[Attribute, int] = {}
    for holder in holders(held):
        size = _open_head_dim(holder.owner) if holder.path else None
        if size is not None:
            attribute = Attribute("", holder.name("head_dim"))
            made[attribute] = size
            assign(holder.owner, "head_dim", Num(made[attribute], attribute))
    return made


def _open_head_dim(owner: Any) -> int | None:
    """Return the `head_dim` that a config implies; None if it sets or computes it, or has no heads or is a dict."""
    if isinstance(owner, dict):  # whose entries are what a constructor takes
        return None
    width, heads = (getattr(owner, name, None) for name in ("hidden_size", "num_attention_heads"))
    computed = isinstance(getattr(type(owner), "head_dim", None), property)
    if computed or getattr(owner, "head_dim", None) is not None:
        return None
    if not isinstance(width, int) or not isinstance(heads, int) or plain(heads) < 1 or plain(width) % plain(heads):
        return None
    return plain(width) // plain(heads)


def rebuilt(model: nn.Module, config: Any) -> Any:
    """Return the model that its class builds from a config that was serialised, read again, and validated."""
    with refusing(model):
        again = reread(model, config)
        built = made_from(model, again)
        check_config(again)
    return built


def check_config(config: Any) -> None:
    """Validate a config and the configs inside it, as on saving. Raises what they raise."""
    for one in below(config):
        getattr(one, "validate", lambda: None)()


def reread(model: nn.Module, config: Any) -> Any:
    """Return a config as it would be read from a file: its class is called with its values, and computes the rest."""
    with open_ledger(Ledger()):
        kept = saved(model, config)
    again = read(model, config, kept)
    for old, new in zip(below(config), below(again), strict=False):
        for name in UNWRITTEN & values(old).keys() if type(old) is type(new) else ():
            assign(new, name, values(old)[name])
    return again


def _with_factors(config: Any) -> Any:
    for holder in below(config):
        for name, value in list(values(holder).items()):
            if type(value) is float:
                assign(holder, name, Factor(value))
    return config


def _let_quotients_escape(built: nn.Module) -> None:
    for holder in holders(built):
        for value in values(holder.owner).values():
            if isinstance(value, Quotient):
                float(value)


class ConstructorSizes(TorchFunctionMode):
    """Records the expressions of the sizes of the tensors that the constructor creates, by storage."""

    def __init__(self) -> None:
        super().__init__()
        self.made: dict[
            int, tuple[torch.UntypedStorage, tuple[Expr, ...]]
        ] = {}  # kept alive, so that its id is not reused

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        out = func(*args, **kwargs)
        if getattr(func, "__name__", "") in FACTORIES:
            shape = kwargs.get("size", args[0] if args else ()) if func is torch.full else shape_args(args, kwargs)
            storage = out.untyped_storage()
            self.made[storage._cdata] = storage, tuple(map(expression, shape))
        else:
            for value in _flat((*args, *kwargs.values())):
                escape(value, f"used in {getattr(func, '__name__', func)}")
        return out

    def of(self, tensor: torch.Tensor) -> Sequence[Expr]:
        """Return the expressions of a tensor's sizes; empty for a tensor that was computed."""
        _, sizes = self.made.get(tensor.untyped_storage()._cdata, (None, ()))
        return sizes if len(sizes) == tensor.dim() else ()


def _flat(arguments: Sequence[Any]) -> Iterator[Any]:
    for value in arguments:
        if isinstance(value, (tuple, list)):
            yield from _flat(value)
        else:
            yield value


def _of_tensors(model: nn.Module, built: Built, unreached: Sequence[str]) -> Iterator[SizeEquation]:
    missed = dict.fromkeys(unreached, ", which no call reached")
    for name, term, size in built.sizes_of(model):
        yield SizeEquation(Dim(term), size, f"the constructor, for {name}{missed.get(name, '')}")


def _of_integers(model: nn.Module, built: Built) -> Iterator[SizeEquation]:
    for name, mine, its in built.integers_of(model):
        if mine != its:
            yield SizeEquation(mine, its, f"the constructor, for {name}")


def _pairs(mine: Any, its: Any) -> Iterator[tuple[Any, int]]:
    if isinstance(mine, int) and isinstance(its, int):
        yield mine, its
    elif isinstance(mine, (tuple, list)) and isinstance(its, (tuple, list)) and len(mine) == len(its):
        for a, b in zip(mine, its, strict=True):
            yield from _pairs(a, b)


class Factor(float):
    """A float of the config, so that `config.mlp_ratio * dim` calls the method of the size."""

    def __mul__(self, other: Any) -> Any:
        return other * float(self) if isinstance(other, Num) else float(self) * other

    __rmul__ = __mul__
