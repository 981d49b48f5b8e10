"""Slices the state that an optimizer keeps for one parameter, in the same way as the parameter.

The shape of a state decides how its dimensions correspond to those of the parameter. The first rule that fits applies:

1. A value that is not a tensor (a count, a flag, None) stays; containers (lists, dicts, deques, named tuples) are
   handled item by item.
2. A state with the shape of the parameter is sliced as the parameter (momentum, the moments of Adam).
3. A state with one element stays (a step count, a learning rate per parameter).
4. A state with as many dimensions as the parameter, each of size 1 or of the size in the parameter, is sliced in the
   dimensions where the sizes agree (the factored moments of torch's Adafactor).
5. `exp_avg_sq_row` and `exp_avg_sq_col` have the shape of the parameter without its last and without its second to last
   dimension (Adafactor by Shazeer and Stern, 2018, as in transformers).

No other state can follow: for example, the flat history of L-BFGS covers all parameters together. A name must mean the
same for all parameters: a state that is one matrix per dimension for some parameter (Shampoo, Kron) cannot be the
weight-shaped state of another one, even if that is square.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from secateur.apply.tensors import Cutter, in_format

_PLAIN = (bool, int, float, complex, str, bytes, torch.dtype, torch.device, type(None))
WEIGHTS = frozenset({"ax", "z", "lookahead_slow_buff"})
"""States that are copies of weights (averages, slow weights) and are scaled where the plan scales the weight."""

FACTORED: dict[str, Callable[[int], list[int]]] = {
    "exp_avg_sq_row": lambda dims: [*range(dims - 1)],
    "exp_avg_sq_col": lambda dims: [*range(dims - 2), dims - 1],
}
"""By the name of a state: from the number of dimensions of a parameter to the dimensions that the state has."""


BY_SIZE = frozenset({"exp_avg_sq_r", "exp_avg_sq_c"})
"""Moments along the largest dimensions, which may be different ones after a cut (`AdafactorBigVision` of timm)."""


class CannotFollow(Exception):
    """Raised for a state that no rule covers; the message describes it. `key` is its name, if it has one."""

    key: str | None = None


def state_of(state: Mapping[str, Any], name: str, shape: torch.Size, cutter: Cutter) -> dict[str, Any]:
    """Return the state of the parameter `name`, which had `shape`, after the cut. Raises `CannotFollow`."""
    if cutter.kept(name) is None:
        return dict(state)
    made: dict[str, Any] = {}
    for key, value in state.items():
        try:
            made[key] = _value(key, value, name, shape, cutter)
        except CannotFollow as error:
            error.key = key
            raise
    return made


def _value(key: str, value: Any, name: str, shape: torch.Size, cutter: Cutter) -> Any:
    def leaf(path: Sequence[Any], item: Any) -> Any:
        own = [str(step.key) for step in path if isinstance(step, pytree.MappingKey)]
        return _leaf(own[-1] if own else key, item, name, shape, cutter)

    return pytree.tree_map_with_path(leaf, value)


def _leaf(key: str, value: Any, name: str, shape: torch.Size, cutter: Cutter) -> Any:
    if isinstance(value, Tensor):
        return _tensor(key, value, name, shape, cutter)
    if isinstance(value, _PLAIN):
        return value
    raise CannotFollow(f"{key!r} is a {type(value).__name__}")


def _tensor(key: str, value: Tensor, name: str, shape: torch.Size, cutter: Cutter) -> Tensor:
    dims, kept = dims_of(key, value.shape, shape), cutter.kept(name)
    if key in BY_SIZE:
        raise CannotFollow(f"{key!r} is along the largest dimensions, which after a cut may be others")
    if dims is None:
        raise CannotFollow(f"{key!r} has the shape {tuple(value.shape)}, the parameter {tuple(shape)}")
    assert kept is not None, name
    if key in WEIGHTS and value.shape == shape:
        return cutter.weights(name, value)
    try:
        small = cutter.sliced(value, [kept[dim] if dim is not None else None for dim in dims])
    except NotImplementedError as error:  # a tensor subclass with packed numbers
        raise CannotFollow(f"{key!r} is a {type(value).__name__}, which has no slices: {error}") from error
    return in_format(value, small) if value.layout == torch.strided else small


def dims_of(key: str, state: Sequence[int], parameter: Sequence[int]) -> list[int | None] | None:
    """Return, for each dimension of a state, the dimension of the parameter, or None where its size is 1.

    Returns None instead of a list if the state does not correspond to the parameter.

    >>> dims_of("momentum_buffer", (8, 3), (8, 3)), dims_of("row_var", (8, 1), (8, 3)), dims_of("step", (), (8, 3))
    ([0, 1], [0, None], [])
    >>> dims_of("exp_avg_sq_col", (4, 3), (4, 8, 3)), dims_of("d", (100,), (8, 3))
    ([0, 2], None)
    """
    if tuple(state) == tuple(parameter):  # Rule 2
        return [*range(len(parameter))]
    if all(n == 1 for n in state):  # Rule 3
        return [None for _ in state]
    if len(state) == len(parameter) and all(a in (1, b) for a, b in zip(state, parameter, strict=True)):  # Rule 4
        return [dim if n == parameter[dim] else None for dim, n in enumerate(state)]
    found = FACTORED[key](len(parameter)) if key in FACTORED and len(parameter) > 1 else None  # Rule 5
    return [*found] if found is not None and [parameter[dim] for dim in found] == [*state] else None
