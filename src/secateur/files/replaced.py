"""Layers that were replaced after a cut, such as a head for other classes: whether the plans still fit the model.

A dimension that no plan can cut, such as the classes of a head, may be of any size. All other sizes are those that the
plans leave, or `load` could not make the model again.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from secateur.anatomy.slots import Slot
from secateur.base.names import inside
from secateur.base.text import listed
from secateur.errors import InputError
from secateur.plan.parts import Code
from secateur.plan.plan import Plan

SHOWN = 4
Shape = tuple[int, ...]


def is_whole(code: Code) -> bool:
    """Return whether a dimension of this term has no axis, so that no plan can cut it."""
    return isinstance(code, int)


def fits(have: Sequence[int], want: Sequence[int], codes: Sequence[Code]) -> bool:
    """Return whether a tensor of shape `have` can be the one of shape `want` that a plan knows.

    >>> fits((5, 512), (2, 512), (2, "layer4")), fits((2, 500), (2, 512), (2, "layer4"))
    (True, False)
    """
    if len(have) != len(want):
        return False
    return all(h == w or is_whole(code) for h, w, code in zip(have, want, codes, strict=True))


def check_reloads(kind: str, held: Iterable[Slot], plans: Iterable[Plan]) -> None:
    """Raise `InputError` if a model is no longer what its plans leave: `load` could not make it from the original.

    Args:
        kind: The class of the model, for the message.
        held: The tensors of the model, by the names that they have without masks.
        plans: The plans that cut it, oldest first.
    """
    shapes = {slot.name: tuple(slot.tensor.shape) for slot in held}
    wrong = []
    for name, (want, codes) in _left(plans).items():
        have = shapes.get(name)
        if have is None:
            wrong.append(f"{name} is gone")
        elif not fits(have, want, codes):
            wrong.append(f"{name} is {have}, the cut left {want}")
    if wrong:
        raise InputError(
            f"layers of this {kind} were replaced after the cut, and load could not make it from the original: "
            f"{listed(wrong, SHOWN)}\n"
            "fix:   replace a layer by one with the same parameter names, and the sizes that the cut left\n"
            "or:    save the weights alone, torch.save(model.state_dict(), 'weights.pt'); to load them, cut the "
            "original with secateur.cut(build(), plan), replace the layers as before, and call model.load_state_dict"
        )


def _left(plans: Iterable[Plan]) -> dict[str, tuple[Shape, tuple[Code, ...]]]:
    """Return the shape that the last plan leaves of each tensor that plans cut, with its terms."""
    found: dict[str, tuple[Shape, tuple[Code, ...]]] = {}
    for plan in plans:
        found |= {name: (plan.shape(name), codes) for name, codes in plan.sites.items()}
        found = {plan.names.after(n): left for n, left in found.items() if not inside(n, plan.removed)}
    return found
