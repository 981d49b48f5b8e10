"""Re-estimation of batch-norm statistics on the activations of the cut model.

Reference:
    Li et al., "EagleEye: Fast Sub-net Evaluation for Efficient Neural Network Pruning", ECCV 2020, section 3.3
    (adaptive batch normalization).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from secateur.statistics.batches import CalibrationBatch


def estimate_norms(model: nn.Module, batches: Sequence[CalibrationBatch]) -> int:
    """Replace the running mean and variance of each batch norm by their averages over the batches, in place.

    Every batch counts by the number of its examples.

    Returns:
        The number of norms.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.running_mean is not None]
    with _averaging(norms), torch.no_grad():
        seen = 0
        for batch in batches:
            seen += batch.examples
            for norm in norms:
                norm.momentum = batch.examples / seen
            batch.call.run(model)
    return len(norms)


@contextmanager
def _averaging(norms: Sequence[_BatchNorm]) -> Iterator[None]:
    """Put these norms into training mode within the context; everything else stays in evaluation mode."""
    before = [(norm, norm.training, norm.momentum) for norm in norms]
    try:
        for norm in norms:
            norm.training = True
        yield
    finally:
        for norm, training, momentum in before:
            norm.training, norm.momentum = training, momentum


__all__ = ["estimate_norms"]
