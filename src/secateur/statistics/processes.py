"""Adds up sums over several processes, each with its own data (`torch.distributed`).

A sum may exist in some processes only, such as that of an expert's inputs, so the processes first exchange which sums
they have. They also exchange whether one of them has failed, so that the others do not wait for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, distributed

from secateur.errors import PruningError

T = TypeVar("T")
Key = tuple[str, str]


def several() -> bool:
    """Return whether there is more than one process."""
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def first() -> bool:
    """Return whether this process is the one that writes files."""
    return not several() or distributed.get_rank() == 0


def together(work: Callable[[], T]) -> T:
    """Return the result of `work` if no process has failed. Raises `PruningError` if another one has."""
    if not several():
        return work()
    try:
        result = work()
    except BaseException:
        _flags(1)
        raise
    failed = [rank for rank, flag in enumerate(_flags(0)) if flag]
    if failed:
        raise PruningError(
            f"calibration failed in process {failed[0]} of {distributed.get_world_size()}\nsee the error there"
        )
    return result


def everywhere(flag: bool) -> bool:
    """Return whether a flag is true in every process."""
    return all(_flags(int(flag))) if several() else flag


def gathered(text: str) -> list[str]:
    """Return the string of each process, in their order."""
    if not several():
        return [text]
    data = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8) if text else torch.zeros(0, dtype=torch.uint8)
    sizes = _flags(len(data))
    padded = torch.zeros(max(sizes), dtype=torch.uint8)
    padded[: len(data)] = data
    return [bytes(found[:n].tolist()).decode() for found, n in zip(_gather(padded), sizes, strict=True)]


def summed(counts: Iterable[int], sums: Mapping[Key, Tensor]) -> tuple[list[int], dict[Key, Tensor]]:
    """Return numbers and tensors summed over all processes; some processes may lack some of the tensors."""
    if not several():
        return list(counts), dict(sums)
    mine = [[*key, list(tensor.shape)] for key, tensor in sums.items()]
    shapes = {(name, what): shape for text in gathered(json.dumps(mine)) for name, what, shape in json.loads(text)}
    total = torch.tensor(list(counts))
    _all_reduce(total)
    found: dict[Key, Tensor] = {}
    for key in sorted(shapes):
        held = sums.get(key)
        found[key] = torch.zeros(shapes[key], dtype=torch.float64) if held is None else held.clone()
        _all_reduce(found[key])
    return total.tolist(), found


def _flags(mine: int) -> list[int]:
    return [int(flag) for flag in _gather(torch.tensor([mine]))]


def _here(tensor: Tensor) -> Tensor:
    """Move a tensor to the GPU if NCCL needs it there."""
    return tensor.cuda() if distributed.get_backend() == "nccl" else tensor


def _gather(tensor: Tensor) -> list[Tensor]:
    here = _here(tensor)
    found = [torch.zeros_like(here) for _ in range(distributed.get_world_size())]
    distributed.all_gather(found, here)
    return [each.cpu() for each in found]


def _all_reduce(tensor: Tensor) -> None:
    """Sum a tensor over all processes, in place."""
    here = _here(tensor)
    distributed.all_reduce(here)
    if here is not tensor:
        tensor.copy_(here)


__all__ = ["everywhere", "first", "gathered", "several", "summed", "together"]
