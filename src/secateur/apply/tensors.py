"""Cuts a single tensor by a Plan: kept positions, scales and norms, and the attributes that the new tensor inherits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from secateur.base.precision import wide
from secateur.plan.parts import Scale
from secateur.plan.plan import Plan

Kept = Sequence["list[int] | None"]  # the positions that stay in each dimension; None if all stay

BLOCK = 2**18
"""The number of elements that are copied at a time."""


class Cutter:
    """Cuts tensors by their names in a plan. Each list of indices becomes a tensor only once."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self._indices: dict[tuple[int, torch.device], Tensor] = {}
        self._scales: dict[str, list[Scale]] = {}
        for scale in plan.scales:
            self._scales.setdefault(scale.name, []).append(scale)

    def kept(self, name: str) -> list[list[int] | None] | None:
        """Return the positions that stay in each dimension; None if the plan does not change the tensor."""
        kept = self.plan.positions(name) if name in self.plan.sites else []
        return kept if any(k is not None for k in kept) else None

    def weights(self, name: str, tensor: Tensor) -> Tensor:
        """Cut a parameter or buffer, and scale it where the plan asks for that."""
        kept = self.kept(name)
        if kept is None:
            return tensor
        made = alike(tensor, self._scaled(name, tensor, self.sliced(tensor.detach(), kept)))
        for key, value in vars(made).items():  # a tensor stored on a parameter, such as a running Hessian
            if isinstance(value, Tensor) and value.shape == tensor.shape:
                setattr(made, key, self.sliced(value.detach(), kept))
        return made

    def exact(self, name: str, tensor: Tensor) -> Tensor:
        """Cut as `weights` does, but detached and in float64, so that scales are not rounded."""
        kept, whole = self.kept(name), tensor.detach()
        return self._scaled(name, tensor, whole if kept is None else self.sliced(whole, kept), lift=True)

    def _scaled(self, name: str, old: Tensor, small: Tensor, *, lift: bool = False) -> Tensor:
        kept = self.kept(name) or [None] * old.dim()
        return scaled(wide(small) if lift else small, old.shape, kept, self._scales.get(name, []))

    def sliced(self, tensor: Tensor, kept: Kept, into: Tensor | None = None) -> Tensor:
        """Return the kept positions of a tensor, written to `into` if it is passed.

        Large tensors are copied a few rows at a time, because newly allocated memory costs more than the copy.
        """
        if into is None and tensor.numel() <= BLOCK:
            return self._taken(tensor, kept)
        rows, rest = kept[0], [None, *kept[1:]]
        shape = [n if positions is None else len(positions) for n, positions in zip(tensor.shape, kept, strict=True)]
        into = tensor.new_empty(shape) if into is None else into
        step = max(1, BLOCK * tensor.shape[0] // max(1, tensor.numel()))
        for start in range(0, shape[0], step):
            stop = min(start + step, shape[0])
            index = None if rows is None else self._index(rows, tensor.device)[start:stop]
            part = tensor[start:stop] if index is None else tensor.index_select(0, index)
            into[start:stop].copy_(self._taken(part, rest))
        return into

    def _taken(self, tensor: Tensor, kept: Kept) -> Tensor:
        """Select the kept positions, starting with the dimension that loses most."""
        shares = [(len(k) / tensor.shape[d], d, k) for d, k in enumerate(kept) if k is not None]
        whole = max((dim for _, dim, _ in shares), default=-1) + 1  # in later dimensions all positions stay
        shape = tensor.shape[whole:]
        flat = len(shape) > 1 and tensor.layout == torch.strided and tensor.is_contiguous()
        if flat:  # selecting from one dimension is three times as fast
            tensor = tensor.flatten(whole)
        for _, dim, positions in sorted(shares, key=lambda item: item[:2]):
            tensor = tensor.index_select(dim, self._index(positions, tensor.device))
        return tensor.unflatten(whole, shape) if flat else tensor

    def _index(self, positions: list[int], device: torch.device) -> Tensor:
        key = id(positions), device  # ids are unique while the plan keeps its lists
        if key not in self._indices:
            self._indices[key] = torch.tensor(positions, device=device)
        return self._indices[key]

    def left(self, name: str, whole: Tensor, small: Tensor, dim: int) -> Tensor:
        """Return the share that is left of the norms of the slices of a weight along `dim`, in the shape of a gain."""
        whole, small = whole.detach(), small.detach()
        others = [d for d in range(whole.dim()) if d != dim]
        before, after = (torch.linalg.vector_norm(t.double(), 2, others, keepdim=True) for t in (whole, small))
        kept = self.plan.positions(name)[dim]
        if kept is not None:
            before = before.index_select(dim, torch.tensor(kept, device=before.device))
        return torch.where(before > 0, after / before, 1.0).to(whole.dtype)


def scaled(tensor: Tensor, old: Sequence[int], kept: Kept, scales: Sequence[Scale]) -> Tensor:
    """Fold scales into a sliced tensor. Their rows are numbered as in its `old` shape."""
    for scale in scales:
        factor = torch.ones(old[scale.dim], dtype=tensor.dtype, device=tensor.device)
        for start, stop in scale.rows:
            factor[start:stop] = scale.factor
        positions = kept[scale.dim]
        factor = factor if positions is None else factor[positions]
        tensor = tensor * factor.view([-1 if d == scale.dim else 1 for d in range(tensor.dim())])
    return tensor


def alike(old: Tensor, new: Tensor) -> Tensor:
    """Return `new` with the memory format, `requires_grad`, hooks, attributes and subclass of `old`."""
    new = in_format(old, new)
    if not isinstance(old, nn.Parameter):
        new.requires_grad_(old.requires_grad)
        return new
    parameter = nn.Parameter(new, old.requires_grad)
    if type(old) is not nn.Parameter:
        parameter.__class__ = type(old)
    vars(parameter).update(vars(old))
    for hooks in hooks_of(old):
        setattr(parameter, hooks, getattr(old, hooks))  # the same dict, so that the handles of hooks still work
    return parameter


def hooks_of(tensor: Tensor) -> list[str]:
    """Return the names of the attributes in which a tensor stores hooks."""
    return [name for name in ("_backward_hooks", "_post_accumulate_grad_hooks") if getattr(tensor, name, None)]


def in_format(old: Tensor, new: Tensor) -> Tensor:
    """Return `new` in the memory format of `old` (channels last or contiguous)."""
    for dim, memory in ((4, torch.channels_last), (5, torch.channels_last_3d)):
        if old.dim() == dim and not old.is_contiguous() and old.is_contiguous(memory_format=memory):
            return new.contiguous(memory_format=memory)
    return new.contiguous()
