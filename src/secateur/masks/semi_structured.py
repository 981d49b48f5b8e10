"""2:4 weights as PyTorch's semi-structured tensors, for which NVIDIA GPUs have matrix units of their own.

Half of the values and two bits for each of them are stored, and a linear layer reads only these. PyTorch has such
tensors for matrices on CUDA devices of compute capability 8.0 (Ampere) and above; convolutions stay dense.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.sparse import to_sparse_semi_structured

from secateur.anatomy.masked import worn
from secateur.errors import InputError
from secateur.masks.handle import masks_of

CAPABILITY = (8, 0)


@dataclass(frozen=True)
class SemiStructured:
    """A model whose 2:4 linear layers hold semi-structured tensors. left_out: those that PyTorch has none for, and
    why."""

    model: nn.Module
    converted: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)


def to_semi_structured(model: nn.Module) -> SemiStructured:
    """A copy of a 2:4 model for inference, its masks hardened; the model itself is left as it is.

    Raises `InputError` where no linear layer is 2:4, and on a device that has no such tensors.

    >>> from secateur.masks import mask
    >>> net = nn.Linear(64, 64)
    >>> _ = mask(net, pattern="2:4")
    >>> to_semi_structured(net)
    Traceback (most recent call last):
        ...
    secateur.errors.InputError: the model is on cpu, which has no semi-structured tensors
    move it to an NVIDIA GPU of compute capability 8.0 (Ampere) or above, in float16 or bfloat16: model.half().cuda()
    """
    found = _two_of_four(model)
    if not found:
        raise InputError(
            "no linear layer has two zeros in every four inputs of a row\n"
            "make it so with secateur.mask(model, pattern='2:4'), and train it on"
        )
    _check_device(model)
    copied = copy.deepcopy(model)
    if worn(copied):
        masks_of(copied).harden()
    left_out = {name: why for name in found if (why := _convert(copied, name)) is not None}
    return SemiStructured(copied, tuple(name for name in found if name not in left_out), left_out)


def is_two_of_four(weight: Tensor) -> bool:
    """Whether of every four consecutive values of a row, (o, i), at least two are zero.

    >>> is_two_of_four(torch.tensor([[1.0, 0, 2, 0]])), is_two_of_four(torch.tensor([[1.0, 0, 2, 3]]))
    (True, False)
    """
    if weight.dim() != 2 or weight.shape[1] % 4:
        return False
    return bool(((weight != 0).unflatten(1, (-1, 4)).sum(2) <= 2).all())


def _two_of_four(model: nn.Module) -> list[str]:
    """The linear layers, by their names, whose weights are 2:4 as they work."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return [name for name, layer in layers if is_two_of_four(layer.weight.detach())]


def _check_device(model: nn.Module) -> None:
    device = next(model.parameters()).device
    mend = (
        "move it to an NVIDIA GPU of compute capability 8.0 (Ampere) or above, in float16 or bfloat16: "
        "model.half().cuda()"
    )
    if device.type != "cuda" or torch.version.hip is not None:
        raise InputError(f"the model is on {device}, which has no semi-structured tensors\n{mend}")
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        have = ".".join(map(str, capability))
        name = torch.cuda.get_device_name(device)
        raise InputError(f"{name} ({device}) has compute capability {have} and no semi-structured tensors\n{mend}")


def _convert(model: nn.Module, name: str) -> str | None:
    """Give a layer a semi-structured weight; or say why PyTorch has none of its size or type."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    try:
        sparse = to_sparse_semi_structured(layer.weight.detach())
    except (RuntimeError, ValueError, NotImplementedError) as error:
        return str(error).partition("\n")[0]
    layer.weight = nn.Parameter(sparse, requires_grad=False)
    return None


__all__ = ["SemiStructured", "is_two_of_four", "to_semi_structured"]
