"""Torch-Pruning 1.6.1, used as its README and its own examples recommend.

The other side of `speed.py`, with every hint that its users have to pass: the classifier is ignored, the heads of
attention layers are declared, and the attribute that torchvision's ViT reads in `forward` is repaired after the cut.
Run as a script, this file measures Torch-Pruning alone:

    python benchmarks/incumbent.py [--models resnet50,swin_t] [--limit 60]
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn

RATIO = 0.3
"""Share of channels that is *removed*, the convention of Torch-Pruning; secateur keeps `1 - RATIO`."""

MODELS = (
    "resnet50",
    "vgg16_bn",
    "densenet201",
    "mobilenet_v3_large",
    "efficientnet_b0",
    "convnext_tiny",
    "vit_b_16",
    "swin_t",
)


def build(name: str) -> tuple[nn.Module, torch.Tensor]:
    """Return a torchvision model with seeded random weights in evaluation mode, and a 224 x 224 example input."""
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    return model, torch.randn(1, 3, 224, 224)


def classifiers(model: nn.Module) -> list[nn.Module]:
    """Return the layers that compute the 1,000 logits, found as in the README of Torch-Pruning."""
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1000]


def attention_hints(model: nn.Module) -> dict[str, dict[nn.Module, int]]:
    """Return the head counts that Torch-Pruning needs, in the arguments that its examples use.

    `nn.MultiheadAttention` is in the channel groups, as in its torchvision example (with `num_heads` the whole residual
    stream would stay at full width: 80 % of the parameters of vit_b_16 instead of 48 %). Swin's fused qkv is in
    `num_heads`, as in its Swin and timm examples.
    """
    from torchvision.models.swin_transformer import ShiftedWindowAttention

    groups = {m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    heads: dict[nn.Module, int] = {m.qkv: m.num_heads for m in model.modules() if isinstance(m, ShiftedWindowAttention)}
    return {"out_channel_groups": dict(groups), "num_heads": heads}


def prune(model: nn.Module, x: torch.Tensor, ratio: float = RATIO) -> None:
    """Build the dependency graph and remove `ratio` of the channels of every layer, in place. This call is timed."""
    import torch_pruning as tp

    pruner = tp.pruner.BasePruner(
        model,
        x,
        importance=tp.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=classifiers(model),
        **attention_hints(model),
    )
    pruner.step()


def repair(model: nn.Module) -> None:
    """Update `hidden_dim`, which `VisionTransformer.forward` reads, as in the torchvision example of Torch-Pruning."""
    from torchvision.models import VisionTransformer

    if isinstance(model, VisionTransformer):
        model.hidden_dim = model.conv_proj.out_channels


def main() -> None:
    """Measure Torch-Pruning alone, model by model."""
    import worker

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default=",".join(MODELS), help="comma-separated torchvision names")
    parser.add_argument("--limit", type=float, default=60.0, help="seconds after which a run is stopped")
    args: Any = parser.parse_args()
    with worker.Worker("incumbent") as child:
        for name in args.models.split(","):
            runs = worker.repeat(child, name, limit=args.limit)
            print(f"{name:20s} {runs.describe()}", flush=True)


if __name__ == "__main__":
    main()
