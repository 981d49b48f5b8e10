"""The default loss, cross entropy, with errors that name targets which do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from secateur.errors import InputError

IGNORED = -100
"""The label of targets that cross entropy ignores."""


def scores_in(output: Any, remedy: str, who: str = "model") -> Tensor:
    """Return the scores in a model's output: the tensor itself, or the `logits` of an output of transformers.

    Raises `InputError` for anything else.

    >>> import torch
    >>> scores_in({"logits": torch.zeros(1, 2)}, "")
    tensor([[0., 0.]])
    """
    found = output.get("logits") if isinstance(output, Mapping) else output
    if not isinstance(found, Tensor):
        raise InputError(f"the {who} returned {type(output).__name__}, not a tensor of scores\n{remedy}")
    return found


def cross_entropy(output: Any, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """Return the mean cross entropy of scores.

    Args:
        output: Scores of shape (n, classes, ...), or a mapping with such `logits`.
        targets: Labels of shape (n, ...) (-100: ignored), or shares of each class, of the shape of the scores.
        label_smoothing: The share of the uniform distribution that is mixed into the targets. Default: 0.0.

    Returns:
        A tensor of shape ().

    Raises:
        InputError: `output` contains no scores, a label is out of range, or targets have another shape.

    Example:
        >>> import torch
        >>> cross_entropy(torch.zeros(1, 2), torch.tensor([0])).exp()
        tensor(2.)
    """
    output = scores_in(output, "give your own loss")
    if targets.is_floating_point():
        _check_shares(output, targets)
    else:
        targets = targets.long()  # from any integer dtype
        _check_labels(output, targets)
    return F.cross_entropy(output, targets, label_smoothing=label_smoothing)


def _check_shares(output: Tensor, targets: Tensor) -> None:
    if targets.shape != output.shape:
        kind = str(targets.dtype).removeprefix("torch.")
        raise InputError(
            f"targets {tuple(targets.shape)} {kind} are neither labels nor shares of the scores {tuple(output.shape)}\n"
            "give labels as integers, targets.long(), or your own loss"
        )


def _check_labels(output: Tensor, targets: Tensor) -> None:
    """Raise `InputError` for a label out of range, which on a GPU would break the CUDA context without naming it."""
    if not targets.numel() or output.dim() < 2:
        return
    classes = output.shape[1]
    least, most = (int(bound) for bound in targets.aminmax())
    if most < classes and least >= 0:
        return
    wrong = targets[((targets < 0) & (targets != IGNORED)) | (targets >= classes)]
    if wrong.numel():
        raise InputError(
            f"label {int(wrong[0])} is out of range: the model scores {classes} classes, 0 to {classes - 1}\n"
            "count labels from 0, and give the model as many classes as the data have"
        )
