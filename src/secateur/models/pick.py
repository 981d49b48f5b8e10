"""An index layer: the layers after it read their own selection of channels from a shared stream.

Liu et al., "Learning Efficient Convolutional Networks through Network Slimming", ICCV 2017, section 3.4, put one after
the first norm of each block of a pre-activation network. Without it such a stream is one axis, and a channel is cut
everywhere or nowhere; with it the stream stays whole, and each reader cuts its own list. Ours precedes the norm, which
then scales only the selected channels.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from secateur.errors import InputError, nearest


class ChannelPick(nn.Module):
    """x: (n, c, ...) -> (n, k, ...), the channels that `index: (k,)` lists; initially all of them, in order.

    >>> pick = ChannelPick(3)
    >>> pick.index = torch.tensor([2, 0])
    >>> pick(torch.tensor([[10, 11, 12]]))
    tensor([[12, 10]])
    """

    index: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("index", torch.arange(channels))

    def forward(self, x: Tensor) -> Tensor:
        return x.index_select(1, self.index)

    def extra_repr(self) -> str:
        return f"{len(self.index)}"


def with_picks(model: nn.Module, *norms: str) -> nn.Module:
    """Return a copy that computes the same, with a `ChannelPick` before each batch norm that matches one of the globs.

    The norm `bn1` becomes a sequence of both, so its parameters are named `bn1.1.weight` and so on. Raises `InputError`
    for a glob that matches no module, and for a module that is not a batch norm.

    >>> net = with_picks(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), "1")
    >>> net[1][0]
    ChannelPick(4)
    """
    found = dict.fromkeys(name for glob in norms for name in _matching(model, glob))
    copied = copy.deepcopy(model)
    for name in found:
        norm = copied.get_submodule(name)
        if not isinstance(norm, nn.modules.batchnorm._BatchNorm):
            raise InputError(f"{name!r} is a {type(norm).__name__}; a pick stands before a batch norm")
        parent, _, leaf = name.rpartition(".")
        pick = ChannelPick(norm.num_features)
        for tensor in itertools.islice(itertools.chain(norm.parameters(), norm.buffers()), 1):
            pick.to(tensor.device)
        setattr(copied.get_submodule(parent), leaf, nn.Sequential(pick, norm).train(norm.training))
    return copied


def _matching(model: nn.Module, glob: str) -> Iterator[str]:
    names = [name for name, _ in model.named_modules() if name]
    matches = [name for name in names if fnmatchcase(name, glob)]
    if not matches:
        raise InputError(f"no module is named {glob!r}{nearest(glob, names)}")
    yield from matches


__all__ = ["ChannelPick", "with_picks"]
