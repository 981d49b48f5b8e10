"""The hints that users of Torch-Pruning pass for a model, found automatically after its README and examples.

`ignored_layers`: the layers whose units are outputs of the model, from our Graph, so that none is missing, plus those
that its torchvision example adds for detectors. Heads: fused qkv, separate query, key and value, and
`nn.MultiheadAttention` are declared as in its timm, transformers, LLM and torchvision examples; the attributes that
those examples repair by hand after the cut are repaired here. `round_to` is None. Key caches, which make it fail, are
off.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

import secateur
import zoo
from secateur.anatomy.calls import Call

PROJECTIONS = (("query", "key", "value"), ("q_proj", "k_proj", "v_proj"), ("q_lin", "k_lin", "v_lin"), ("q", "k", "v"))
FUSED = ("qkv", "qkv_proj", "query_key_value", "c_attn", "in_proj")


@dataclass(frozen=True, slots=True)
class Hints:
    """Arguments of `tp.pruner.BasePruner`."""

    ignored_layers: list[nn.Module] = field(default_factory=list)
    num_heads: dict[nn.Module, int] = field(default_factory=dict)
    out_channel_groups: dict[nn.Module, int] = field(default_factory=dict)
    whole_heads: bool = False

    def arguments(self, ratio: float) -> dict[str, Any]:
        """Return the keyword arguments. Rotary models lose whole heads, as in its LLM example; others head dims."""
        heads = {"prune_num_heads": True, "prune_head_dims": False, "head_pruning_ratio": ratio}
        return {
            "ignored_layers": self.ignored_layers,
            "num_heads": dict(self.num_heads),
            "out_channel_groups": dict(self.out_channel_groups),
            **(heads if self.whole_heads else {}),
        }


@dataclass(frozen=True, slots=True)
class Known:
    """Hints by module path, so that hints found on one copy of a model apply to another."""

    outputs: tuple[str, ...]
    rotary: bool

    def on(self, model: nn.Module) -> Hints:
        """Return the hints for this copy of the model."""
        modules = dict(model.named_modules())
        hints = Hints([modules[path] for path in self.outputs if path in modules], whole_heads=self.rotary)
        for module in model.modules():
            _attention(module, hints)
        return hints


def known(entry: zoo.Entry, model: nn.Module, call: Call) -> Known:
    """Return the hints of a model, found before it is pruned."""
    rotary = any("rotary" in type(m).__name__.lower() for m in model.modules()) and entry.source == "hf"
    return Known(tuple(dict.fromkeys([*_outputs(entry, model, call), *_detector(model)])), rotary)


def _outputs(entry: zoo.Entry, model: nn.Module, call: Call) -> list[str]:
    try:
        graph = secateur.trace(entry.raw(model) if entry.raw else model, call)
    except secateur.PruningError:
        return [path for path, m in model.named_modules() if isinstance(m, nn.Linear) and m.out_features == 1000]
    return [f.name.rpartition(".")[0] for f in graph.frozen if f.reason == "model output" and f.dim == 0]


def _detector(model: nn.Module) -> list[str]:
    """Return the paths that the torchvision example ignores."""
    paths = ["rpn.head.cls_logits", "rpn.head.bbox_pred", "roi_heads.box_predictor", "roi_heads.mask_predictor"]
    paths += ["roi_heads.keypoint_predictor", "head.classification_head.cls_logits", "head.regression_head.bbox_reg"]
    kind = type(model).__name__
    if kind in ("FasterRCNN", "KeypointRCNN"):
        paths += ["backbone.fpn", "roi_heads"] if kind == "FasterRCNN" else ["backbone.fpn.layer_blocks"]
    if kind in ("SSD", "SSDLite"):
        paths.append("head")
    if kind == "RAFT":
        paths += ["corr_block", "update_block", "mask_predictor"]
    return (
        paths if kind == "RAFT" or any(path.startswith(("rpn", "head.")) for path, _ in model.named_modules()) else []
    )


def _heads_of(module: nn.Module) -> int | None:
    for name in ("num_heads", "num_attention_heads", "n_heads"):
        value = getattr(module, name, None)
        if isinstance(value, int):
            return value
    config = getattr(module, "config", None)
    return getattr(config, "num_attention_heads", None)


def _attention(module: nn.Module, hints: Hints) -> None:
    if isinstance(module, nn.MultiheadAttention):
        hints.out_channel_groups[module] = module.num_heads
        return
    if isinstance(getattr(module, "gate_up_proj", None), nn.Linear):
        hints.out_channel_groups[module.gate_up_proj] = 2  # type: ignore[index]
    heads = _heads_of(module)
    if heads is None:
        return
    for name in FUSED:
        if isinstance(getattr(module, name, None), nn.Linear):
            hints.num_heads[getattr(module, name)] = heads
    for names in PROJECTIONS:
        layers = [getattr(module, name, None) for name in names]
        if all(isinstance(layer, nn.Linear) for layer in layers):
            fewer = getattr(getattr(module, "config", None), "num_key_value_heads", None) or heads
            for layer, count in zip(layers, (heads, fewer, fewer), strict=True):
                hints.num_heads[layer] = count  # type: ignore[index]


def prepare(model: nn.Module) -> None:
    """Prepare a model for graph building: every float parameter requires a gradient, and caches are off."""
    for p in model.parameters():
        p.requires_grad_(p.is_floating_point())
    for module in model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "use_cache"):
            config.use_cache = False  # type: ignore[union-attr]


def repair(model: nn.Module, pruner: Any) -> None:
    """Set the attributes that the examples set by hand after the cut."""
    if type(model).__name__ == "VisionTransformer" and hasattr(model, "conv_proj"):
        model.hidden_dim = model.conv_proj.out_channels  # type: ignore[union-attr,assignment]
    for module in model.modules():
        fused = next((getattr(module, n) for n in FUSED if isinstance(getattr(module, n, None), nn.Linear)), None)
        if fused is not None and fused in pruner.num_heads and isinstance(getattr(module, "num_heads", None), int):
            _set(
                module, num_heads=pruner.num_heads[fused], head_dim=fused.out_features // (3 * pruner.num_heads[fused])
            )
            _open_timm(module)
        for names in PROJECTIONS:
            layer = getattr(module, names[0], None)
            if isinstance(layer, nn.Linear) and layer in pruner.num_heads:
                _separate(module, layer, getattr(module, names[1]), pruner.num_heads)


def _separate(module: nn.Module, query: nn.Linear, key: nn.Linear, heads: dict[nn.Module, int]) -> None:
    count, size = heads[query], query.out_features // max(heads[query], 1)
    _set(module, num_heads=count, num_attention_heads=count, n_heads=count)
    _set(module, attention_head_size=size, head_dim=size, all_head_size=query.out_features)
    _set(module, inner_dim=query.out_features, embed_dim=query.out_features, dim=query.out_features)
    _set(module, num_key_value_heads=heads[key], num_key_value_groups=count // max(heads[key], 1))


def _set(module: nn.Module, **values: int) -> None:
    for name, value in values.items():
        if isinstance(getattr(module, name, None), int):
            setattr(module, name, value)


def _open_timm(module: nn.Module) -> None:
    """Set `attn_dim`; the timm example instead replaces `forward` by one whose last reshape infers the width."""
    try:
        from timm.layers.attention import Attention
    except ImportError:
        return
    if type(module) is Attention and hasattr(module, "attn_dim"):
        _set(module, attn_dim=module.qkv.out_features // 3)  # type: ignore[union-attr]
