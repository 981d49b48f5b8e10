"""The default loss, and what it says of targets that do not fit."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from secateur.errors import InputError

IGNORED = -100
"""The label of targets that cross entropy leaves out."""


def scores_in(output: Any, mend: str, who: str = "model") -> Tensor:
    """The scores that a model returned: the tensor itself, or the `logits` of what models of transformers return.

    Raises `InputError` for anything else.

    >>> import torch
    >>> scores_in({"logits": torch.zeros(1, 2)}, "")
    tensor([[0., 0.]])
    """
    found = output.get("logits") if isinstance(output, Mapping) else output
    if not isinstance(found, Tensor):
        raise InputError(f"the {who} returned {type(output).__name__}, not a tensor of scores\n{mend}")
    return found


def cross_entropy(output: Any, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
    """The mean cross entropy of scores `output: (n, classes, ...)`, see `scores_in`.

    Targets are labels, or a share of every class. Raises `InputError` for what are no scores, for a label that has
    none, and for targets that are neither.

    >>> import torch
    >>> cross_entropy(torch.zeros(1, 2), torch.tensor([0])).exp()
    tensor(2.)
    """
    output = scores_in(output, "give a loss of your own")
    if targets.is_floating_point():
        _check_shares(output, targets)
    else:
        targets = targets.long()  # of whatever whole numbers
        _check_labels(output, targets)
    return F.cross_entropy(output, targets, label_smoothing=label_smoothing)


def _check_shares(output: Tensor, targets: Tensor) -> None:
    if targets.shape != output.shape:
        kind = str(targets.dtype).removeprefix("torch.")
        raise InputError(
            f"targets {tuple(targets.shape)} {kind} are neither labels nor shares of the scores {tuple(output.shape)}\n"
            "give labels as whole numbers, targets.long(), or a loss of your own"
        )


def _check_labels(output: Tensor, targets: Tensor) -> None:
    """On a GPU a wrong label would end the process's use of it, with no word of which label it was."""
    if not targets.numel() or output.dim() < 2:
        return
    classes = output.shape[1]
    least, most = (int(bound) for bound in targets.aminmax())
    if most < classes and least >= 0:
        return
    wrong = targets[((targets < 0) & (targets != IGNORED)) | (targets >= classes)]
    if wrong.numel():
        raise InputError(
            f"label {int(wrong[0])} is outside the head: the model scores {classes} classes, 0 to {classes - 1}\n"
            "count labels from 0, and give the model as many classes as the data have"
        )
