"""Torch-Pruning 1.6.1, used as its README and its own examples recommend.

The other side of `speed.py`. Every hint that its users have to give is given here: the classifier is ignored, the heads
of attention layers are declared, the attribute that torchvision's ViT reads in `forward` is repaired after the cut. Run
on its own, this file measures the incumbent alone:

    python benchmarks/incumbent.py [--models resnet50,swin_t] [--limit 60]
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import nn

RATIO = 0.3
"""Share of channels that is *removed*, in the incumbent's convention; ours keeps `1 - RATIO`."""

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
    """A torchvision model with seeded random weights in evaluation mode, and its 224 x 224 example input."""
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    return model, torch.randn(1, 3, 224, 224)


def classifiers(model: nn.Module) -> list[nn.Module]:
    """The layers that give the 1,000 logits, found as the README finds them."""
    return [m for m in model.modules() if isinstance(m, nn.Linear) and m.out_features == 1000]


def attention_hints(model: nn.Module) -> dict[str, dict[nn.Module, int]]:
    """The head counts that the incumbent has to be told, in the argument that its own examples use.

    `nn.MultiheadAttention` goes to the channel groups, as in its torchvision example (declared as `num_heads` it would
    leave the whole residual stream at full width: 80 % of the parameters of vit_b_16 instead of 48 %); Swin's fused qkv
    goes to `num_heads`, as in its Swin and timm examples.
    """
    from torchvision.models.swin_transformer import ShiftedWindowAttention

    groups = {m: m.num_heads for m in model.modules() if isinstance(m, nn.MultiheadAttention)}
    heads: dict[nn.Module, int] = {m.qkv: m.num_heads for m in model.modules() if isinstance(m, ShiftedWindowAttention)}
    return {"out_channel_groups": dict(groups), "num_heads": heads}


def prune(model: nn.Module, x: torch.Tensor, ratio: float = RATIO) -> None:
    """Build the dependency graph and remove `ratio` of the channels of every layer, in place. This is what is timed."""
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
    """What its torchvision example does by hand after the cut: `VisionTransformer.forward` reads `hidden_dim`."""
    from torchvision.models import VisionTransformer

    if isinstance(model, VisionTransformer):
        model.hidden_dim = model.conv_proj.out_channels


def main() -> None:
    """Measure the incumbent alone, model by model."""
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
