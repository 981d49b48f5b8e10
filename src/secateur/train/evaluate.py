"""Evaluate a model on test batches with a metric."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from secateur.anatomy.running import call, device_of, mode, to_device
from secateur.data.batches import pair_of
from secateur.errors import InputError
from secateur.models.functions import load_function
from secateur.train.losses import scores_in

Metric = Callable[[Any, Any], Any]
"""(output, targets) -> the mean over the batch, a float or a tensor of one element."""


def accuracy(output: Any, targets: Tensor) -> float:
    """Return the share of targets whose class has the highest score.

    Args:
        output: Scores of shape (n, classes, ...), or a mapping with such `logits`.
        targets: Labels of shape (n, ...).

    Returns:
        A share from 0 to 1.

    Raises:
        InputError: `output` contains no scores.

    Example:
        >>> accuracy(torch.tensor([[2.0, 1.0], [2.0, 1.0]]), torch.tensor([0, 1]))
        0.5
    """
    scores = scores_in(output, "give your own metric")
    return (scores.argmax(1) == targets).double().mean().item()


def evaluate(model: nn.Module, batches: Iterable[Any], metric: Metric | str = accuracy) -> float:
    """Return the mean of `metric(output, targets)` over all examples, in evaluation mode and without gradients.

    Args:
        model: The model; its modes are restored afterwards.
        batches: An iterable of (inputs, targets). A batch has the weight of its number of targets.
        metric: A function (output, targets) -> the mean over a batch, or `path/file.py:function`. Default: `accuracy`.

    Returns:
        The mean over all targets.

    Raises:
        InputError: There are no batches.

    Example:
        >>> evaluate(nn.Identity(), [(torch.eye(2), torch.tensor([0, 0]))])
        0.5
    """
    measure = load_function(metric) if isinstance(metric, str) else metric
    total, count = 0.0, 0
    with mode(model, training=False), torch.no_grad():
        for inputs, targets in map(pair_of, batches):
            n = _examples(targets)
            total += n * float(measure(call(model, inputs), to_device(targets, device_of(model))))
            count += n
    if not count:
        raise InputError("there is nothing to evaluate on: 0 batches; check the data")
    return total / count


def _examples(targets: Any) -> int:
    return len(targets) if isinstance(targets, Tensor) and targets.ndim else 1
