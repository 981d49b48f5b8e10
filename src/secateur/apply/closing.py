"""A model with renumbered blocks under its original names, to compare it with the original."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from secateur.anatomy.bypass import bypass
from secateur.anatomy.calls import Call
from secateur.anatomy.keeping import kept, set_modes
from secateur.anatomy.lists import reopened
from secateur.base.nested import tensors_in
from secateur.base.text import listed
from secateur.errors import PruningError
from secateur.plan.plan import Plan

SHOWN = 3


@contextmanager
def opened(model: nn.Module, plan: Plan) -> Iterator[nn.Module]:
    """Restore the original names of a cut model within this context, with bypasses in place of removed blocks."""
    gaps = {name: bypass(gives, model.training) for name, gives in plan.removed.items() if plan.names.removes(name)}
    with reopened(model, plan.renumbered, gaps, plan.names):
        yield model


def check_closed(
    model: nn.Module, plan: Plan, calls: Sequence[Call], outputs: Callable[[Any], Any] | None = None
) -> None:
    """Raise `PruningError` if renumbering blocks changed what a model computes, as when layers use their index."""
    if plan.renumbered is None:
        return
    with opened(model, plan):
        before = _outputs(model, calls, outputs)
    after = _outputs(model, calls, outputs)
    if len(before) != len(after) or not all(map(_same, before, after)):
        raise PruningError(
            f"without {listed(plan.removed, SHOWN)} the layers behind them get other numbers, and compute with them\n"
            "drop the last blocks, or leave uniform out and save with secateur.save(model, 'small.safetensors')"
        )


def _same(one: torch.Tensor, two: torch.Tensor) -> bool:
    return one.shape == two.shape and torch.allclose(one, two, equal_nan=True)


def _outputs(model: nn.Module, calls: Sequence[Call], outputs: Callable[[Any], Any] | None) -> list[torch.Tensor]:
    found: list[torch.Tensor] = []
    with torch.no_grad(), torch.random.fork_rng(), kept(model):
        for call in calls:
            torch.manual_seed(0)
            set_modes(model, training=False)
            result = call.run(model)
            found += tensors_in(outputs(result) if outputs is not None else result)
    return found
