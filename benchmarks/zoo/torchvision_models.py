"""Every model of torchvision up to 100 M parameters. Quantised ones are left out: no float weights to cut.

Built as `get_model(name, weights=None)` builds them, but for what makes them slow: detectors resize their images to
128 pixels instead of 800 and look at 20 proposals instead of 1,000.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import torch
import torchvision
from torch import nn
from torchvision.models import get_model, get_model_builder, list_models

from secateur.anatomy.calls import Call

from .detectors import raw_heads
from .entry import Entry, image

LARGE = frozenset(
    "convnext_large efficientnet_v2_l regnet_x_32gf regnet_y_32gf regnet_y_128gf vgg11 vgg11_bn vgg13 vgg13_bn vgg16"
    " vgg16_bn vgg19 vgg19_bn vit_h_14 vit_l_16 vit_l_32 wide_resnet101_2".split()
)
"""Over 100 M parameters."""

SIDES = {"alexnet": 96, "googlenet": 96, "inception_v3": 160, "maxvit_t": 224, "vit_b_16": 224, "vit_b_32": 224}
OPTIONS: dict[str, dict[str, Any]] = {
    "googlenet": {"init_weights": False},  # the default initialisation takes a minute
    "inception_v3": {"init_weights": False},
}
SMALL_DETECTOR = {"min_size": 128, "max_size": 160}
FEW_BOXES = {"rpn_post_nms_top_n_test": 20, "box_detections_per_img": 10}
CLIPS = {"s3d": (14, 224, 224), "mvit_v1_b": (16, 224, 224), "mvit_v2_s": (16, 224, 224)}
CLIP = (4, 64, 64)


def kind_of(name: str) -> str:
    """classification, segmentation, video, optical_flow or detection, after the module that a builder lives in."""
    parts = get_model_builder(name).__module__.split(".")
    return parts[2] if len(parts) > 3 else "classification"


def _maker(name: str, kind: str) -> Callable[[], nn.Module]:
    options = dict(OPTIONS.get(name, {}))
    if "weights_backbone" in inspect.signature(get_model_builder(name)).parameters:
        options["weights_backbone"] = None
    if kind == "detection" and not name.startswith("ssd"):
        options |= SMALL_DETECTOR | (FEW_BOXES if "rcnn" in name else {})
    return lambda: get_model(name, weights=None, **options)


def _inputs(name: str, kind: str) -> Callable[[], Call]:
    if kind == "detection":
        return lambda: Call(([torch.rand(3, 96, 128), torch.rand(3, 128, 96)],))
    if kind == "optical_flow":
        return lambda: Call((torch.rand(1, 3, 128, 128), torch.rand(1, 3, 128, 128)), {"num_flow_updates": 2})
    if kind == "video":
        return image(1, 3, *CLIPS.get(name, CLIP))
    # Auxiliary heads are reached in training mode, where batch norm wants two examples.
    side = SIDES.get(name, 64)
    return image(2 if name in ("googlenet", "inception_v3") else 1, 3, side, side)


def _entry(name: str) -> Entry:
    kind = kind_of(name)
    raw = raw_heads if kind == "detection" else None
    return Entry(f"torchvision:{name}", kind, _maker(name, kind), _inputs(name, kind), raw)


def _names() -> list[str]:
    quantized = set(list_models(module=torchvision.models.quantization))
    return [name for name in list_models() if name not in quantized and name not in LARGE]


ENTRIES = [_entry(name) for name in _names()]
