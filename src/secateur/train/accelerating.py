"""Use Accelerate for the duration of one training.

Accelerate keeps its state in the process: the precision and device of the first Accelerator are used by all later ones.
Here each training has a separate state, and the previous state (the user's, or that of the Hugging Face Trainer) is
restored afterwards. The model is never passed to Accelerate, so it is neither wrapped nor patched.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch

from secateur.errors import InputError, nearest

if TYPE_CHECKING:
    from accelerate import Accelerator

PRECISIONS = ("no", "bf16", "fp16")


def check_precision(wanted: str | bool | None) -> None:
    """Raise `InputError` for an unknown precision."""
    if isinstance(wanted, str) and wanted not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise InputError(f"no mixed_precision {wanted!r}; known: {known}{nearest(wanted, PRECISIONS)}")


def precision_on(device: torch.device, wanted: str | bool | None) -> str:
    """Return the precision of a training on `device`. Raises `InputError` if the device does not have the wanted one.

    >>> precision_on(torch.device("cpu"), None), precision_on(torch.device("cpu"), "bf16")
    ('no', 'bf16')
    """
    fast = device.type == "cuda" and torch.cuda.is_bf16_supported()
    if wanted is True and not fast:
        raise InputError(f"mixed_precision is True, but device {device} does not have it; leave it out")
    if wanted == "fp16" and device.type == "cpu":
        raise InputError("mixed_precision is 'fp16', which device cpu does not train in; write 'bf16', or leave it out")
    if isinstance(wanted, str):
        return wanted
    return "bf16" if fast and wanted is not False else "no"


@contextlib.contextmanager
def accelerator(device: torch.device, wanted: str | bool | None = None) -> Iterator[Accelerator]:
    """Make an Accelerator for a model that stays on `device`.

    Raises `InputError` if Accelerate is not installed, the device lacks the precision, or several processes run.
    """
    precision = precision_on(device, wanted)
    try:
        from accelerate import Accelerator
    except ImportError as error:
        raise InputError("training needs Accelerate: pip install 'secateur[train]'") from error
    with _own_state():
        made = Accelerator(cpu=device.type == "cpu", device_placement=False, mixed_precision=precision)
        if made.num_processes > 1:
            raise InputError(f"training runs in one process, but {made.num_processes} were started; start one")
        yield made


@contextlib.contextmanager
def _own_state() -> Iterator[None]:
    """Clear the state that Accelerate keeps in the process, and restore it afterwards."""
    from accelerate.state import AcceleratorState, GradientState, PartialState

    shared: list[dict[str, Any]] = [kind._shared_state for kind in (PartialState, AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    for state in shared:
        state.clear()
    try:
        yield
    finally:
        for state, was in zip(shared, before, strict=True):
            state.clear()
            state.update(was)
