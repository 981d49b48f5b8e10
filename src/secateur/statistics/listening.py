"""Hear what every weight of a model reads, while the model runs as it is.

A `TorchFunctionMode` sees linear layers, convolutions and matrix products, be they modules or functional calls;
`nn.MultiheadAttention` runs in its plain form, in which its projections are linear layers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..graph import Graph
from ..readers import Reader
from ..trace.recorder import Functions, Interceptor, uncompiled
from .patches import Window

Arguments: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True, slots=True)
class Read:
    """One call that sums what it reads over channels.

    x: what is read, its channels along dimension `channel`; number: how often this weight has read before in this run;
    window: the places of a convolution, or None where each row of channels is read by itself.
    """

    reader: Reader
    number: int
    x: Tensor
    channel: int
    weight: Tensor
    bias: Tensor | None
    window: Window | None


def _linear(a: Arguments) -> tuple[int, Window | None]:
    return a["x"].dim() - 1, None


def _product(a: Arguments) -> tuple[int, Window | None]:
    return a["x"].dim() - (1 if a["right"] else 2), None


def _convolution(a: Arguments) -> tuple[int, Window | None]:
    spatial = a["w"].dim() - 2
    return a["x"].dim() - spatial - 1, Window.of(a["w"].shape[2:], a.get("stride"), a.get("padding"), a.get("dilation"))


def _transposed(a: Arguments) -> tuple[int, Window | None]:
    return a["x"].dim() - a["w"].dim() + 1, None


# What sums over channels: the names of its arguments, and where the channels lie.
_Form: TypeAlias = "tuple[tuple[str, ...], Callable[[Arguments], tuple[int, Window | None]]]"
_CONV = ("x", "w", "bias", "stride", "padding", "dilation", "groups")
_UPCONV = ("x", "w", "bias", "stride", "padding", "output_padding", "groups", "dilation")
FORMS: dict[Callable[..., Any], _Form] = {
    F.linear: (("x", "w", "bias"), _linear),
    **dict.fromkeys((torch.conv1d, torch.conv2d, torch.conv3d), (_CONV, _convolution)),
    **dict.fromkeys((F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d), (_UPCONV, _transposed)),
    **dict.fromkeys((torch.mm, torch.matmul, torch.Tensor.mm, torch.Tensor.matmul), (("x", "w"), _product)),
    torch.Tensor.__matmul__: (("x", "w"), _product),
    torch.addmm: (("bias", "x", "w"), _product),
    torch.Tensor.addmm: (("bias", "x", "w"), _product),
}
_NAMES = {"input": "x", "self": "x", "mat1": "x", "weight": "w", "other": "w", "mat2": "w"}


class Listener(Interceptor):
    """Runs a model as it is; `hear` gets every read, and gives what takes the place of what is read, or None."""

    def __init__(self, model: nn.Module, readers: Mapping[str, Reader], hear: Callable[[Read], Tensor | None]):
        super().__init__({}, None)
        named = dict(model.named_parameters(remove_duplicate=False))
        self._readers = {id(named[name]): reader for name, reader in readers.items() if name in named}
        self._hear = hear
        self._numbers: Counter[str] = Counter()

    @contextmanager
    def running(self) -> Iterator[None]:
        """One run: within, the model's calls are heard."""
        self._numbers.clear()
        with uncompiled(), Functions(self, FORMS):
            yield

    def on_function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        names, where = FORMS[func]
        arguments: Arguments = dict(zip(names, args, strict=False))
        arguments.update({_NAMES.get(name, name): value for name, value in kwargs.items()})
        with self.silence():
            return func(*self._heard(names, arguments, where, args), **kwargs) if args else func(**kwargs)

    def on_opaque(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)

    def _heard(
        self, names: tuple[str, ...], arguments: Arguments, where: Callable[..., Any], args: tuple[Any, ...]
    ) -> tuple[Any, ...]:
        """The positional arguments, with another tensor in the place of what is read if the listener wants one."""
        at = self._reader_of(arguments)
        if at is None:
            return args
        reader, x, w = at
        data, weight = arguments[x], arguments[w]
        channel, window = where({**arguments, "x": data, "w": weight, "right": w == "w"})
        number = self._numbers[reader.weight]
        self._numbers[reader.weight] += 1
        bias = arguments.get("bias")
        new = self._hear(Read(reader, number, data, channel, weight, bias, window))
        place = names.index(x)
        return args if new is None or place >= len(args) else (*args[:place], new, *args[place + 1 :])

    def _reader_of(self, arguments: Arguments) -> tuple[Reader, str, str] | None:
        """Which weight reads, and the arguments that it and what it reads are."""
        for x, w in (("x", "w"), ("w", "x")):
            weight = arguments.get(w)
            if isinstance(weight, Tensor) and isinstance(arguments.get(x), Tensor):
                base = weight if isinstance(weight, nn.Parameter) else weight._base
                reader = self._readers.get(id(base))
                if reader is not None and weight.numel() == base.numel():  # type: ignore[union-attr]
                    return reader, x, w
        return None


def listener(graph: Graph, hear: Callable[[Read], Tensor | None], model: nn.Module | None = None) -> Listener:
    """Hear the readers of a graph in its model, or in one that was cut from it."""
    return Listener(graph.model if model is None else model, graph.readers, hear)


__all__ = ["FORMS", "Listener", "Read", "listener"]
