"""secateur, doing what the functions of the same name in `theirs` do. The model that is given stays as it is.

Shares are of what remains: `channels=0.5`. Nothing is said of the model: outputs, heads and the attributes that follow
the widths are found in the trace. `scope="axis"` takes the same share of each axis, as Torch-Pruning does unless it is
told otherwise; without it, the units of the whole network compete.
"""

# ruff: noqa: T201  (the printed plan is part of the lesson)

from __future__ import annotations

from typing import Any

from torch import nn

import secateur
from secateur import Pruned, Select

IMPORTANCE = {"random": "random", "l1": "group_l1", "l2": "group_l2"}


def by_hand(model: nn.Module, example_inputs: Any) -> Pruned:
    pruned = secateur.prune(model, example_inputs, drop={"conv1": [2, 6, 9]})
    print(pruned)
    return pruned


def classifier(model: nn.Module, example_inputs: Any, importance: str) -> Pruned:
    select = Select(align=16)
    pruned = secateur.prune(model, example_inputs, "channels=0.5", importance=importance, scope="axis", select=select)
    print(pruned)
    return pruned


def segmentation(model: nn.Module, example_inputs: Any, importance: str) -> Pruned:
    select = Select(align=16)
    pruned = secateur.prune(model, example_inputs, "channels=0.5", importance=importance, scope="axis", select=select)
    print(pruned)
    return pruned


def vision_transformer(model: nn.Module, example_inputs: Any, importance: str) -> Pruned:
    pruned = secateur.prune(model, example_inputs, "channels=0.5", importance=importance, scope="axis")
    print(pruned)
    return pruned


def bert(model: nn.Module, example_inputs: Any, importance: str) -> Pruned:
    pruned = secateur.prune(
        model,
        example_inputs,
        "channels=0.5",
        importance=importance,
        scope="axis",
        select="*.attention.*: prune=heads",
        outputs=lambda out: out.pooler_output,
    )
    print(pruned)
    return pruned
