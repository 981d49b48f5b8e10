"""Records the inputs of the weights of a model, while the model runs unchanged.

A `TorchFunctionMode` sees linear layers, convolutions and matrix products, both in modules and as functional calls;
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
    """One call in which a weight sums its input over channels.

    x: the input, with its channels along dimension `channel`; number: the number of earlier reads of this weight in the
    run; window: the window of a convolution, or None if each position is read separately; spreads: whether it is a
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
        """The number of groups of a grouped convolution, else 1."""
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


# The functions that sum over channels: their argument names, and the channel dimension and window of the input.
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
    """Runs a model unchanged and passes every read to `hear`, which returns a replacement for the input, or None.

    parts: also record reads by some rows of a weight over all channels, such as the queries of a fused projection.
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
        """Record the reads of one run."""
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
        """Process the output of a weight for a read; the returned tensor replaces the output."""
        return out

    def _read(self, where: Callable[[Arguments], tuple[int, Window | None]], arguments: Arguments) -> Read | None:
        """Return the read of a call, or None if no weight of the model reads."""
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
        """Return the consumer, its weight, and the names of the arguments that are the input and the weight."""
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
    """Return the dimension of a weight that is summed over."""
    if where is _product:
        return max(weight.dim() - 2, 0) if argument == "w" else weight.dim() - 1
    return 0 if where is _transposed else 1


def _sums_over(view: Tensor, dim: int, base: Tensor, wanted: int) -> bool:
    """Return whether a dimension of a view is a whole dimension of its base, as for a tied, transposed weight."""
    return dim < view.dim() and (view.shape[dim], view.stride(dim)) == (base.shape[wanted], base.stride(wanted))


def listener(graph: Graph, hear: Callable[[Read], Tensor | None], model: nn.Module | None = None) -> Listener:
    """Return a listener for the consumers of a graph in its model, or in a model that was pruned from it."""
    return Listener(graph.model if model is None else model, graph.readers, hear)


__all__ = ["FORMS", "Listener", "Read", "listener"]
