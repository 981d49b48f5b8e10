"""The random generators that a training draws from, as plain data: of torch, NumPy, Python and the data loader."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch


def random_state(batches: Any = None) -> dict[str, Any]:
    """Where the generators are: tensors, numbers and texts.

    >>> state, first = random_state(), torch.rand(1)
    >>> put_random_state(state)
    >>> bool(torch.rand(1) == first)
    True
    """
    name, keys, *rest = np.random.get_state()
    return {
        "python": random.getstate(),
        "numpy": [name, torch.tensor(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "loader": [generator.get_state() for generator in _own_generators(batches)],
    }


def put_random_state(state: Mapping[str, Any], batches: Any = None) -> None:
    """Put the generators back to where they were."""
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.is_available():
        torch.cuda.set_rng_state_all(state["cuda"])
    for generator, was in zip(_own_generators(batches), state["loader"], strict=False):
        generator.set_state(was)


def _own_generators(batches: Any) -> Iterator[torch.Generator]:
    """A DataLoader draws its order from generators of its own where it was given any."""
    seen: set[int] = set()
    grouped = getattr(batches, "batch_sampler", None)
    for holder in (batches, getattr(batches, "sampler", None), grouped, getattr(grouped, "sampler", None)):
        generator = getattr(holder, "generator", None)
        if isinstance(generator, torch.Generator) and id(generator) not in seen:
            seen.add(id(generator))
            yield generator
