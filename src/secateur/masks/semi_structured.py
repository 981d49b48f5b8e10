"""2:4 weights as PyTorch's semi-structured tensors, which NVIDIA GPUs multiply in sparse tensor cores.

Such a tensor stores half of the values and two bits of index for each, and a linear layer reads only these. PyTorch has
them for matrices on CUDA devices of compute capability 8.0 (Ampere) and above; convolutions stay dense.
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
    """A model whose 2:4 linear layers hold semi-structured tensors.

    Attributes:
        model: The converted copy.
        converted: The names of the layers that were converted.
        left_out: The 2:4 layers that stay dense, by name, and why PyTorch cannot convert them.
    """

    model: nn.Module
    converted: tuple[str, ...]
    left_out: dict[str, str] = field(default_factory=dict)


def to_semi_structured(model: nn.Module) -> SemiStructured:
    """Return a copy of a 2:4 model for inference, with its masks made permanent; the model itself does not change.

    Args:
        model: A model with 2:4 linear layers, on an NVIDIA GPU, in float16 or bfloat16.

    Returns:
        The copy, the layers that were converted, and those that PyTorch cannot convert.

    Raises:
        InputError: No linear layer is 2:4, or the device has no semi-structured tensors.

    Example:
        >>> from secateur.masks import mask
        >>> net = nn.Linear(64, 64)
        >>> _ = mask(net, pattern="2:4")
        >>> to_semi_structured(net)
        Traceback (most recent call last):
            ...
        secateur.errors.InputError: the model is on cpu, which has no semi-structured tensors
        use an NVIDIA GPU of compute capability 8.0 (Ampere) or above, in float16 or bfloat16: model.half().cuda()
    """
    found = _two_of_four(model)
    if not found:
        raise InputError(
            "no linear layer has two zeros in every four inputs of a row\n"
            "make it so with secateur.mask(model, pattern='2:4'), and train it further"
        )
    _check_device(model)
    copied = copy.deepcopy(model)
    if worn(copied):
        masks_of(copied).harden()
    left_out = {name: why for name in found if (why := _convert(copied, name)) is not None}
    return SemiStructured(copied, tuple(name for name in found if name not in left_out), left_out)


def is_two_of_four(weight: Tensor) -> bool:
    """Return whether at least two of every four consecutive values in each row of a weight (o, i) are zero.

    >>> is_two_of_four(torch.tensor([[1.0, 0, 2, 0]])), is_two_of_four(torch.tensor([[1.0, 0, 2, 3]]))
    (True, False)
    """
    if weight.dim() != 2 or weight.shape[1] % 4:
        return False
    return bool(((weight != 0).unflatten(1, (-1, 4)).sum(2) <= 2).all())


def _two_of_four(model: nn.Module) -> list[str]:
    """Return the names of the linear layers whose effective weights are 2:4."""
    layers = ((name, module) for name, module in model.named_modules() if isinstance(module, nn.Linear))
    return [name for name, layer in layers if is_two_of_four(layer.weight.detach())]


def _check_device(model: nn.Module) -> None:
    device = next(model.parameters()).device
    remedy = (
        "use an NVIDIA GPU of compute capability 8.0 (Ampere) or above, in float16 or bfloat16: model.half().cuda()"
    )
    if device.type != "cuda" or torch.version.hip is not None:
        raise InputError(f"the model is on {device}, which has no semi-structured tensors\n{remedy}")
    capability = torch.cuda.get_device_capability(device)
    if capability < CAPABILITY:
        have = ".".join(map(str, capability))
        name = torch.cuda.get_device_name(device)
        raise InputError(f"{name} ({device}) has compute capability {have} and no semi-structured tensors\n{remedy}")


def _convert(model: nn.Module, name: str) -> str | None:
    """Replace the weight of a layer by a semi-structured one; return why not where PyTorch has none for it."""
    layer = model.get_submodule(name)
    assert isinstance(layer, nn.Linear)
    try:
        sparse = to_sparse_semi_structured(layer.weight.detach())
    except (RuntimeError, ValueError, NotImplementedError) as error:
        return str(error).partition("\n")[0]
    layer.weight = nn.Parameter(sparse, requires_grad=False)
    return None


__all__ = ["SemiStructured", "is_two_of_four", "to_semi_structured"]
