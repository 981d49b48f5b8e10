"""Labels against the head of a model: of one too large PyTorch tells an index at best."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from secateur.errors import InputError

IGNORED = -100
"""The label that PyTorch's cross entropy passes over."""


def check_labels(output: Any, targets: Any) -> None:
    """Raise `InputError` where a label of `targets: (n, ...)` has no score in `output: (n, classes, ...)`.

    Targets that are no whole numbers, as the probabilities of classes, and outputs that are no scores pass.

    >>> import torch
    >>> check_labels(torch.zeros(2, 3), torch.tensor([0, 3]))
    Traceback (most recent call last):
        ...
    secateur.errors.InputError: label 3 is outside of the head: the model gives 3 scores, for the classes 0 to 2
    give the model a head of at least 4 classes, or mend the labels of the data
    """
    if not (isinstance(output, Tensor) and isinstance(targets, Tensor)) or output.ndim < 2:
        return
    if targets.is_floating_point() or targets.is_complex() or not targets.numel():
        return
    classes = output.shape[1]
    wrong = targets[(targets >= classes) | ((targets < 0) & (targets != IGNORED))]
    if wrong.numel():
        raise InputError(_told(int(wrong.flatten()[0]), int(wrong.max()), classes))


def _told(label: int, largest: int, classes: int) -> str:
    mend = f"give the model a head of at least {largest + 1} classes, or mend" if largest >= classes else "mend"
    return (
        f"label {label} is outside of the head: the model gives {classes} scores, for the classes 0 to {classes - 1}\n"
        f"{mend} the labels of the data"
    )


__all__ = ["IGNORED", "check_labels"]
