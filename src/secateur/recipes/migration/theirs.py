"""Torch-Pruning 1.6.1 as its README and its examples use it. Every function cuts the model that it is given, in place.

Shares are of what goes: `pruning_ratio=0.5`. What its users have to know of a model is all here: the layers that give
the outputs, how a dictionary of outputs becomes one tensor, the heads of attention, attributes to repair afterwards.
"""

# ruff: noqa: T201  (the printed plan is part of the lesson)
# pyright: reportOptionalIterable=false, reportMissingImports=false
# In a checkout that is not the installed one, pyright takes our recipe of the same name for the package.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

from typing import Any

import torch_pruning as tp
from torch import nn

IMPORTANCE = {
    "random": tp.importance.RandomImportance(),
    "l1": tp.importance.GroupMagnitudeImportance(p=1),
    "l2": tp.importance.GroupMagnitudeImportance(p=2),
}


def by_hand(model: Any, example_inputs: Any) -> None:
    graph = tp.DependencyGraph().build_dependency(model, example_inputs=example_inputs)
    group = graph.get_pruning_group(model.conv1, tp.prune_conv_out_channels, idxs=[2, 6, 9])
    print(group.details())
    if graph.check_pruning_group(group):
        group.prune()


def classifier(model: Any, example_inputs: Any, importance: Any) -> None:
    pruner = tp.pruner.BasePruner(
        model,
        example_inputs,
        importance=importance,
        pruning_ratio=0.5,
        ignored_layers=[m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1000],
        round_to=16,
    )
    for group in pruner.step(interactive=True):
        print(group)
        group.prune()


def segmentation(model: Any, example_inputs: Any, importance: Any) -> None:
    pruner = tp.pruner.BasePruner(
        model,
        example_inputs,
        importance=importance,
        pruning_ratio=0.5,
        ignored_layers=[model.classifier[-1]],
        round_to=16,
        output_transform=lambda out: out["out"],
    )
    for group in pruner.step(interactive=True):
        print(group)
        group.prune()


def vision_transformer(model: Any, example_inputs: Any, importance: Any) -> None:
    pruner = tp.pruner.BasePruner(
        model,
        example_inputs,
        importance=importance,
        pruning_ratio=0.5,
        ignored_layers=[m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1000],
        out_channel_groups={m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)},
    )
    for group in pruner.step(interactive=True):
        print(group)
        group.prune()
    model.hidden_dim = model.conv_proj.out_channels


def bert(model: Any, example_inputs: Any, importance: Any) -> None:
    attentions = [m for m in model.modules() if type(m).__name__ == "BertSelfAttention"]
    pruner = tp.pruner.BasePruner(
        model,
        example_inputs,
        importance=importance,
        pruning_ratio=0.5,
        ignored_layers=[model.pooler],
        num_heads={layer: m.num_attention_heads for m in attentions for layer in (m.query, m.key, m.value)},
        prune_head_dims=False,
        prune_num_heads=True,
        head_pruning_ratio=0.5,
        output_transform=lambda out: out.pooler_output.sum(),
    )
    for group in pruner.step(interactive=True):
        print(group)
        group.prune()
    for m in attentions:
        m.num_attention_heads = pruner.num_heads[m.query]
        m.attention_head_size = m.query.out_features // m.num_attention_heads
        m.all_head_size = m.query.out_features
