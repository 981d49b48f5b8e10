"""Images that a small network learns at once: stripes that lie, stand or lean, in noise. For tests of recipes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from secateur.data import DATASETS, Batches, Data
from secateur.data.batches import Request

DIRECTIONS = ((1.0, 0.0), (0.0, 1.0), (0.7, 0.7))


def stripes(request: Request) -> Data:
    """x: (n, 3, 16, 16), y: (n,), which of three ways the stripes run."""
    train, test = (_batches(n, request.batch_size, seed) for n, seed in ((96, request.seed), (60, None)))
    return Data(train, test, len(DIRECTIONS))


def _batches(count: int, batch_size: int, seed: int | None) -> Batches:
    rng = np.random.default_rng(count)
    targets = np.arange(count) % len(DIRECTIONS)
    across, down = np.meshgrid(np.arange(16), np.arange(16))
    phases = np.stack([DIRECTIONS[t][0] * across + DIRECTIONS[t][1] * down for t in targets])
    waves = np.sin(phases * 1.2 + rng.uniform(0, 6, (count, 1, 1)))[:, None] + rng.normal(0, 0.3, (count, 3, 16, 16))
    images = torch.from_numpy(waves.astype(np.float32))

    def load(indices: NDArray[np.int64]) -> Tensor:
        return images[indices]

    return Batches(load, torch.from_numpy(targets), batch_size, seed)


def given(patch: pytest.MonkeyPatch) -> None:
    """Under the name "stripes", as if built in."""
    patch.setitem(DATASETS, "stripes", stripes)
