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

from secateur.graph.consumers import Consumer
from secateur.graph.graph import Graph
from secateur.statistics.patches import Window
from secateur.trace.interceptor import Functions, Interceptor, uncompiled

Arguments: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True, slots=True)
class Read:
    """One call that sums what it reads over channels.

    x: what is read, its channels along dimension `channel`; number: how often this weight has read before in this run;
    window: the places of a convolution, or None where each row of channels is read by itself; spreads: it is a
    transposed convolution, whose results overlap.
    """

    reader: Consumer
    number: int
    x: Tensor
    channel: int
    weight: nn.Parameter
    bias: Tensor | None
    window: Window | None
    spreads: bool = False

    @property
    def groups(self) -> int:
        """The groups of a grouped convolution, else 1."""
        return self.x.shape[self.channel] // self.weight.shape[self.reader.dim]


def _linear(a: Arguments) -> tuple[int, Window | None]:
    return a["x"].dim() - 1, None


def _product(a: Arguments) -> tuple[int, Window | None]:
    return max(a["x"].dim() - (1 if a["right"] else 2), 0), None


def _convolution(a: Arguments) -> tuple[int, Window | None]:
    spatial = a["w"].dim() - 2
    return a["x"].dim() - spatial - 1, Window.of(a["w"].shape[2:], a.get("stride"), a.get("padding"), a.get("dilation"))


def _transposed(a: Arguments) -> tuple[int, Window | None]:
    return a["x"].dim() - a["w"].dim() + 1, None


# What sums over channels: the names of its arguments, and where the channels lie in what is read.
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
    """Runs a model as it is; `hear` gets every read, and gives what takes the place of what is read, or None.

    parts: some rows of a weight that sum over all channels are heard too, such as the queries' of a fused projection.
    """

    def __init__(
        self,
        model: nn.Module,
        readers: Mapping[str, Consumer],
        hear: Callable[[Read], Tensor | None],
        *,
        parts: bool = False,
    ):
        super().__init__({}, None)
        self._parts = parts
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
        named = {**dict(zip(names, range(len(args)), strict=False)), **{_NAMES.get(key, key): key for key in kwargs}}
        with self.silence():
            read = self._read(
                where, {name: args[at] if isinstance(at, int) else kwargs[at] for name, at in named.items()}
            )
            if read is None:
                return func(*args, **kwargs)
            new = self._hear(read)
            at = next(at for at in named.values() if (args[at] if isinstance(at, int) else kwargs[at]) is read.x)
            if new is not None and isinstance(at, int):
                args = (*args[:at], new, *args[at + 1 :])
            elif new is not None and isinstance(at, str):
                kwargs = {**kwargs, at: new}
            return self.made(read, func(*args, **kwargs))

    def on_opaque(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return func(*args, **kwargs)

    def made(self, read: Read, out: Tensor) -> Tensor:
        """What a weight made of what it read; what it gives is passed on instead."""
        return out

    def _read(self, where: Callable[[Arguments], tuple[int, Window | None]], arguments: Arguments) -> Read | None:
        """What a call reads, if it is a weight that reads."""
        at = self._reader_of(where, arguments)
        if at is None:
            return None
        reader, weight, x, w = at
        data: Tensor = arguments[x]
        channel, window = where({**arguments, "x": data, "w": arguments[w], "right": w == "w"})
        number = self._numbers[reader.weight]
        self._numbers[reader.weight] += 1
        return Read(reader, number, data, channel, weight, arguments.get("bias"), window, where is _transposed)

    def _reader_of(self, where: Any, arguments: Arguments) -> tuple[Consumer, nn.Parameter, str, str] | None:
        """Which weight reads, and the arguments that what is read and the weight (or a view of it) are."""
        for x, w in (("x", "w"), ("w", "x")):
            weight = arguments.get(w)
            if isinstance(weight, Tensor) and isinstance(arguments.get(x), Tensor):
                base = weight if isinstance(weight, nn.Parameter) else weight._base
                reader = self._readers.get(id(base))
                if (
                    reader is not None
                    and isinstance(base, nn.Parameter)
                    and (self._parts or weight.numel() == base.numel())
                    and _sums_over(weight, _summed(where, w, weight), base, reader.dim)
                ):
                    return reader, base, x, w
        return None


def _summed(where: Any, argument: str, weight: Tensor) -> int:
    """The dimension of a weight that is summed over."""
    if where is _product:
        return max(weight.dim() - 2, 0) if argument == "w" else weight.dim() - 1
    return 0 if where is _transposed else 1


def _sums_over(view: Tensor, dim: int, base: Tensor, wanted: int) -> bool:
    """Whether a dimension of a view is all of that dimension of its base: a tied weight is read along both of its."""
    return dim < view.dim() and (view.shape[dim], view.stride(dim)) == (base.shape[wanted], base.stride(wanted))


def listener(graph: Graph, hear: Callable[[Read], Tensor | None], model: nn.Module | None = None) -> Listener:
    """Hear the readers of a graph in its model, or in one that was cut from it."""
    return Listener(graph.model if model is None else model, graph.readers, hear)


__all__ = ["FORMS", "Listener", "Read", "listener"]
